//! The files that a configuration names: whether they can be read and hold what they should.

use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::problem::Problem;
use super::reading::Reading;

impl Reading {
    /// Reads certificates, key and CA files, and says what is wrong with them. Secrets' files were read already.
    pub fn check_files(&self) -> Vec<Problem> {
        let config = &self.config;
        let mut problems = Vec::new();
        let mut note = |key: &str, message: String| {
            problems.push(Problem {
                place: self.place(key),
                key: key.to_owned(),
                message,
            });
        };
        for (key, file) in [
            ("looker.ca_file", &config.looker.ca_file),
            ("rudderstack.ca_file", &config.rudderstack.ca_file),
        ] {
            if let Some(Err(message)) = file.as_deref().map(certificates) {
                note(key, message);
            }
        }
        if let (Some(cert_file), Some(key_file)) = (&config.hub.tls_cert_file, &config.hub.tls_key_file) {
            let chain = certificates(cert_file).map_err(|message| note("hub.tls_cert_file", message));
            let key = private_key(key_file).map_err(|message| note("hub.tls_key_file", message));
            if let (Ok(chain), Ok(key)) = (chain, key)
                && let Err(message) = matching(chain, &key, cert_file, key_file)
            {
                note("hub.tls_key_file", message);
            }
        }
        problems
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let pem = std::fs::read(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(format!(
            "{shown} holds no certificate; it must be PEM, with -----BEGIN CERTIFICATE-----"
        )),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("{shown} is not valid PEM: {error}")),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let shown = path.display();
    let pem = std::fs::read(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        format!("{shown} holds no private key; it must be PEM, with -----BEGIN PRIVATE KEY-----, without a passphrase")
    })
}

fn matching(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
    cert_file: &Path,
    key_file: &Path,
) -> Result<(), String> {
    let key_file = key_file.display();
    let signing = rustls::crypto::ring::sign::any_supported_type(key).map_err(|_| {
        format!("the key in {key_file} is of a kind that TLS does not use; make one of RSA, ECDSA or Ed25519")
    })?;
    CertifiedKey::new(chain, signing).keys_match().map_err(|error| {
        format!(
            "the key in {key_file} does not belong to the first certificate in {}: {error}",
            cert_file.display()
        )
    })
}
