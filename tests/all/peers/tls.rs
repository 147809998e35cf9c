//! A certificate authority of the tests' own, made by the openssl program, and a client that trusts it alone.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;

/// The name that its certificates are for, beside 127.0.0.1.
pub(crate) const NAME: &str = "localhost";
/// Another one, that no resolver knows.
pub(crate) const UNKNOWN: &str = "gateway.test";

/// A CA in a folder.
pub(crate) struct Authority {
    folder: tempfile::TempDir,
}

/// A certificate and its key, PEM files.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pair {
    /// Puts it where a server reads it, file by file, as renewing programs do.
    pub(crate) fn put(&self, to: &Self) {
        for (from, to) in [(&self.cert, &to.cert), (&self.key, &to.key)] {
            let draft = to.with_extension("new");
            fs::copy(from, &draft).expect("it is copied");
            fs::rename(&draft, to).expect("it is renamed");
        }
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.cert).expect("a certificate")
    }
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the openssl program is installed (Debian: apt-get install openssl)");
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut arguments = vec!["req", "-x509"];
        arguments.extend(KEY);
        arguments.extend([
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-subj",
            "/CN=Test CA",
            "-days",
            "30",
        ]);
        openssl(folder.path(), &arguments);
        Self { folder }
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A pair of files that nobody has written yet.
    pub(crate) fn place(&self, name: &str) -> Pair {
        Pair {
            cert: self.folder.path().join(format!("{name}.pem")),
            key: self.folder.path().join(format!("{name}.key")),
        }
    }

    /// A certificate that is good for so many days from now on; for less than none, it has expired.
    pub(crate) fn issue(&self, name: &str, days: i32) -> Pair {
        let folder = self.folder.path();
        let pair = self.place(name);
        fs::write(
            folder.join("names"),
            format!("subjectAltName=DNS:{NAME},DNS:{UNKNOWN},IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"),
        )
        .expect("written");
        let (key, cert) = (format!("{name}.key"), format!("{name}.pem"));
        let mut arguments = vec!["req"];
        arguments.extend(KEY);
        arguments.extend(["-keyout", &key, "-out", "request", "-subj", "/CN=pintle"]);
        openssl(folder, &arguments);
        let days = days.to_string();
        openssl(
            folder,
            &[
                "x509",
                "-req",
                "-in",
                "request",
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-extfile",
                "names",
                "-days",
                &days,
                "-out",
                &cert,
            ],
        );
        pair
    }

    fn client_config(&self) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.ca_file()).expect("a certificate");
        roots.add(ca).expect("a root");
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// `kept`: how many connections are kept for the next request.
    pub(crate) fn client(&self, kept: usize) -> reqwest::Client {
        reqwest::Client::builder()
            .tls_backend_preconfigured(self.client_config())
            .no_proxy()
            .pool_max_idle_per_host(kept)
            .build()
            .expect("a client")
    }

    /// The certificate that a server shows now.
    pub(crate) fn shown(&self, address: SocketAddr) -> CertificateDer<'static> {
        super::runtime().block_on(async {
            let connector = tokio_rustls::TlsConnector::from(Arc::new(self.client_config()));
            let stream = TcpStream::connect(address).await.expect("it listens");
            let name = ServerName::try_from(NAME).expect("a name");
            let secure = connector.connect(name, stream).await.expect("a handshake");
            let (_, connection) = secure.get_ref();
            connection.peer_certificates().expect("certificates")[0].clone()
        })
    }
}
