//! A client that only compresses and posts, one body after the other: the same bodies that pintle has sent, to the same
//! gateway.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::peers::{Bodies, free, gateway};

/// Sends them again; gives how long compressing and posting took.
pub(crate) fn send(bodies: &Bodies) -> Duration {
    let again = Bodies::with_room_for(bodies.room());
    let address = free();
    drop(gateway(address, Some(again.clone())));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let took = runtime.block_on(async {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(no_tls())
            .no_proxy()
            .build()
            .unwrap();
        let (mut took, mut body) = (Duration::ZERO, Vec::new());
        for sent in bodies.each() {
            // What it knows before the clock runs.
            body.clear();
            flate2::read::GzDecoder::new(sent).read_to_end(&mut body).unwrap();
            let begin = Instant::now();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
            encoder.write_all(&body).unwrap();
            let answer = client
                .post(format!("http://{address}/v1/batch"))
                .header("content-encoding", "gzip")
                .body(encoder.finish().unwrap())
                .send()
                .await
                .unwrap();
            assert!(answer.status().is_success());
            answer.bytes().await.unwrap();
            took += begin.elapsed();
        }
        took
    });
    let again = again.lock().unwrap();
    assert!(bodies.each().map(end).eq(again.each().map(end)), "other bodies arrived");
    took
}

/// A gzip file ends with the checksum and the length of what it holds.
fn end(body: &[u8]) -> &[u8] {
    &body[body.len() - 8..]
}

/// The client wants a TLS setting; none is used here.
fn no_tls() -> rustls::ClientConfig {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}
