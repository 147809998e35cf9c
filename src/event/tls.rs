//! TLS with the servers that pintle calls: whom it trusts. One answer for downloads, deliveries and alerts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The private CA's file.
    #[error("{}: {problem}; it must hold certificates in PEM", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// TLS itself.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl TrustError {
    /// The text, with the key that names the file.
    pub fn of_key(&self, key: &str) -> String {
        match self {
            Self::CaFile { .. } => format!("{key} {self}"),
            Self::Tls(_) => self.to_string(),
        }
    }
}

/// What speaks TLS with a server: the roots of the system, and those of a private CA.
pub fn client_settings(ca_file: Option<&Path>) -> Result<rustls::ClientConfig, TrustError> {
    let mut roots = rustls::RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::debug!(%error, "a root certificate of the system was left out");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = ca_file {
        let wrong = |problem: String| TrustError::CaFile {
            path: path.to_owned(),
            problem,
        };
        let mut found = false;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            found = true;
        }
        if !found {
            return Err(wrong("it holds no certificate".to_owned()));
        }
    }
    // A machine without roots can still call http://, and is told here why https:// will be refused.
    if roots.is_empty() {
        tracing::warn!(
            event = "no_root_certificates",
            problem = native.errors.first().map(tracing::field::display),
            "no root certificate was found on this machine: install ca-certificates, or set looker.ca_file and rudderstack.ca_file"
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_no_ca() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let error = client_settings(Some(&file)).unwrap_err().to_string();
        let expected = "README.md: it holds no certificate; it must hold certificates in PEM";
        assert!(error.ends_with(expected), "{error}");
        assert!(matches!(
            client_settings(Some(Path::new("/nowhere"))),
            Err(TrustError::CaFile { .. })
        ));
        client_settings(None).unwrap();
    }
}
