//! TLS on a listener: rustls with ring, HTTP/1.1 by ALPN, a certificate that is exchanged while connections go on.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::validity;
use crate::event::Timestamp;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{key}: {path}: {error}")]
    File {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// A file holds something else.
    #[error("{key}: {path}: {why}")]
    Content {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key are not a pair.
    #[error("hub.tls_cert_file {cert} and hub.tls_key_file {key} do not belong together: {why}")]
    NotAPair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// rustls' words.
        why: String,
    },
    /// rustls refuses.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// A listener's TLS. Clones are the same.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.certificate.cert_file).finish()
    }
}

/// What two files looked like: time, length.
type Stamp = [Option<(SystemTime, u64)>; 2];

#[derive(Debug)]
struct Certificate {
    cert_file: PathBuf,
    key_file: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
    /// Of the last attempt, also of one that failed.
    stamp: Mutex<Stamp>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl Certificate {
    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn stamp_now(&self) -> Stamp {
        [&self.cert_file, &self.key_file].map(|path| {
            let data = std::fs::metadata(path).ok()?;
            Some((data.modified().ok()?, data.len()))
        })
    }
}

impl Tls {
    /// Reads certificate chain and key, both PEM.
    pub fn load(cert_file: &Path, key_file: &Path) -> Result<Self, TlsError> {
        let certificate = Arc::new(Certificate {
            cert_file: cert_file.to_owned(),
            key_file: key_file.to_owned(),
            current: RwLock::new(Arc::new(read(cert_file, key_file)?)),
            stamp: Mutex::new([None, None]),
        });
        *certificate.stamp.lock().unwrap_or_else(PoisonError::into_inner) = certificate.stamp_now();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificate,
        })
    }

    /// Reads the files again. New connections get the new certificate; an error changes nothing. Blocks on the files.
    pub fn reload(&self) -> Result<(), TlsError> {
        let stamp = self.certificate.stamp_now();
        *self.certificate.stamp.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
        let read = read(&self.certificate.cert_file, &self.certificate.key_file)?;
        *self.certificate.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
        Ok(())
    }

    /// Looks whether the files have changed since they were read last, and reloads them then. True: they had.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let seen = *self.certificate.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if self.certificate.stamp_now() == seen {
            return Ok(false);
        }
        self.reload().map(|()| true)
    }

    /// Looks at the files for ever, each `interval`. A pair that is half written is refused and tried again when it
    /// has changed once more.
    pub async fn watch(self, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            let tls = self.clone();
            match tokio::task::spawn_blocking(move || tls.reload_if_changed()).await {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => {
                    let until = self.expires_at().map(|at| at.to_rfc3339()).unwrap_or_default();
                    tracing::info!(%until, "the certificate has changed and is in use");
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "the certificate has changed, but is no good; the old one stays in use")
                }
                Err(error) => tracing::error!(%error, "looking at the certificate failed"),
            }
        }
    }

    /// Until when the certificate in use is good.
    pub fn expires_at(&self) -> Option<Timestamp> {
        let current = self.certificate.current();
        validity::not_after(current.cert.first()?)
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }
}

fn read(cert_file: &Path, key_file: &Path) -> Result<CertifiedKey, TlsError> {
    const CERT: &str = "hub.tls_cert_file";
    const KEY: &str = "hub.tls_key_file";
    let file = |key: &'static str, path: &Path| {
        std::fs::read(path).map_err(|error| TlsError::File {
            key,
            path: path.to_owned(),
            error,
        })
    };
    let content = |key: &'static str, path: &Path, why: String| TlsError::Content {
        key,
        path: path.to_owned(),
        why,
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&file(CERT, cert_file)?)
        .collect::<Result<_, _>>()
        .map_err(|error| content(CERT, cert_file, error.to_string()))?;
    if chain.is_empty() {
        let why = "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".to_owned();
        return Err(content(CERT, cert_file, why));
    }
    let key = PrivateKeyDer::from_pem_slice(&file(KEY, key_file)?).map_err(|_| {
        let why = "holds no private key in PEM form (-----BEGIN PRIVATE KEY-----), or one with a passphrase".to_owned();
        content(KEY, key_file, why)
    })?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).map_err(|error| TlsError::NotAPair {
        cert: cert_file.to_owned(),
        key: key_file.to_owned(),
        why: error.to_string(),
    })
}
