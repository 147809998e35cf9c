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

use super::validity::{self, Expiry, Validity};
use crate::event::{Code, Timestamp};

/// How often an expiry is spoken of.
const REMIND: Duration = Duration::from_secs(24 * 3600);

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
        f.debug_tuple("Tls").field(&self.certificate.files()).finish()
    }
}

#[derive(Debug, Clone)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

/// What two files looked like: time, length.
type Stamp = [Option<(SystemTime, u64)>; 2];

#[derive(Debug)]
struct Certificate {
    files: Mutex<Files>,
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

    fn files(&self) -> Files {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stamp_now(&self) -> Stamp {
        let files = self.files();
        [&files.cert, &files.key].map(|path| {
            let data = std::fs::metadata(path).ok()?;
            Some((data.modified().ok()?, data.len()))
        })
    }
}

impl Tls {
    /// Reads certificate chain and key, both PEM.
    pub fn load(cert_file: &Path, key_file: &Path) -> Result<Self, TlsError> {
        let certificate = Arc::new(Certificate {
            files: Mutex::new(Files {
                cert: cert_file.to_owned(),
                key: key_file.to_owned(),
            }),
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
        let files = self.certificate.files();
        let read = read(&files.cert, &files.key)?;
        *self.certificate.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
        Ok(())
    }

    /// Reads other files from now on. An error changes nothing.
    pub fn reload_from(&self, cert_file: &Path, key_file: &Path) -> Result<(), TlsError> {
        read(cert_file, key_file)?;
        *self.certificate.files.lock().unwrap_or_else(PoisonError::into_inner) = Files {
            cert: cert_file.to_owned(),
            key: key_file.to_owned(),
        };
        self.reload()
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

    /// When the certificate in use is good.
    pub fn validity(&self) -> Option<Validity> {
        validity::validity(self.certificate.current().cert.first()?)
    }

    /// Until when the certificate in use is good.
    pub fn expires_at(&self) -> Option<Timestamp> {
        Some(self.validity()?.until)
    }

    /// The chain in use, the server's own certificate first.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.certificate.current().cert.clone()
    }

    /// Says in the log, once a day and at once, where the certificate in use is to be renewed.
    pub async fn remind(self) {
        loop {
            match self
                .validity()
                .map(|validity| (validity.at(Timestamp::now()), validity))
            {
                Some((Expiry::Soon { days }, validity)) => tracing::warn!(
                    event = "certificate_expires", code = %Code::CertificateExpiring, days, until = %validity.until.to_rfc3339(),
                    "the certificate is to be renewed: Looker calls no hub whose certificate has expired"
                ),
                Some((Expiry::Over, validity)) => tracing::error!(
                    event = "certificate_expired", code = %Code::CertificateExpiring, until = %validity.until.to_rfc3339(),
                    "the certificate has expired: Looker does not call; renew the file, it is taken without a restart"
                ),
                Some((Expiry::NotYet, validity)) => tracing::error!(
                    event = "certificate_not_valid_yet", code = %Code::CertificateExpiring, from = %validity.from.to_rfc3339(),
                    "the certificate is not valid yet: is this machine's clock right?"
                ),
                Some((Expiry::Good { .. }, _)) | None => {}
            }
            tokio::time::sleep(REMIND).await;
        }
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
