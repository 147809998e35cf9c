//! The hub's certificate: the pair, how long it is good, for which name, and whether somebody who trusts this machine's
//! roots would accept the chain.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use url::Url;

use super::Check;
use crate::config::Hub;
use crate::event::Timestamp;
use crate::looker::public_url;
use crate::server::{Expiry, RENEW_DAYS, Tls, Validity};

const RENEW: &str = "renew the file; a running pintle takes it without a restart";

pub(super) fn checks(hub: &Hub) -> Vec<Check> {
    let (Some(cert_file), Some(key_file)) = (&hub.tls_cert_file, &hub.tls_key_file) else {
        return Vec::new();
    };
    let tls = match Tls::load(cert_file, key_file) {
        Ok(tls) => tls,
        Err(error) => {
            return vec![Check::error(
                "certificate",
                error.to_string(),
                "give the certificate with its chain and the key that belongs to it, both PEM",
            )];
        }
    };
    let mut checks = vec![expiry(cert_file, tls.validity(), Timestamp::now())];
    let host = public_url(hub).ok().and_then(|text| Url::parse(&text).ok());
    let host = host.and_then(|url| url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned()));
    if let Some(host) = host {
        let native = rustls_native_certs::load_native_certs();
        checks.push(accepted(&tls.chain(), &host, native.certs));
    }
    checks
}

fn expiry(cert_file: &Path, validity: Option<Validity>, now: Timestamp) -> Check {
    const NAME: &str = "certificate_expiry";
    let shown = cert_file.display();
    let Some(validity) = validity else {
        return Check::warning(
            NAME,
            format!("{shown}: from when until when it is good cannot be read"),
            "look at it with `openssl x509 -noout -dates`",
        );
    };
    let until = validity.until.to_rfc3339();
    match validity.at(now) {
        Expiry::Good { days } => Check::ok(
            NAME,
            format!("{shown} and its key belong together; good for {days} days, until {until}"),
        ),
        Expiry::Soon { days } => Check::warning(
            NAME,
            format!("{shown} is good for {days} days, fewer than {RENEW_DAYS}, until {until}"),
            RENEW,
        ),
        Expiry::Over => Check::error(
            NAME,
            format!("{shown} has expired, on {until}; Looker does not call"),
            RENEW,
        ),
        Expiry::NotYet => Check::error(
            NAME,
            format!("{shown} is not valid before {}", validity.from.to_rfc3339()),
            "is this machine's clock right?",
        ),
    }
}

/// Whether a client with these roots would accept the chain for `host`. Its dates are another check's matter.
fn accepted(chain: &[CertificateDer<'static>], host: &str, roots: Vec<CertificateDer<'static>>) -> Check {
    const NAME: &str = "certificate_chain";
    let unreadable = |why: String| Check::error(NAME, why, "give a certificate that TLS can use");
    let Some((own, others)) = chain.split_first() else {
        return unreadable("there is no certificate".to_owned());
    };
    let Ok(name) = ServerName::try_from(host.to_owned()) else {
        return unreadable(format!("{host} is no name that a certificate can have"));
    };
    let parsed = match ParsedCertificate::try_from(own) {
        Ok(parsed) => parsed,
        Err(error) => return unreadable(error.to_string()),
    };
    if rustls::client::verify_server_name(&parsed, &name).is_err() {
        return Check::error(
            NAME,
            format!("the certificate is not for {host}, which Looker calls"),
            "have one made with that name among its subject alternative names, or mend hub.public_url",
        );
    }
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build() else {
        return Check::warning(
            NAME,
            format!("the certificate is for {host}; this machine has no roots to check its chain with"),
            "install ca-certificates",
        );
    };
    match verifier.verify_server_cert(own, others, &name, &[], UnixTime::now()) {
        Ok(_) => Check::ok(NAME, format!("for {host}, accepted by this machine's roots")),
        Err(rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => Check::ok(
            NAME,
            format!("for {host}; a certificate of the chain is out of its time"),
        ),
        Err(error) => Check::warning(
            NAME,
            format!("for {host}, but this machine's roots do not accept it: {error}"),
            "is the whole chain in the file, the server's own first? With a private CA: put it into Java's trust store on each Looker node",
        ),
    }
}
