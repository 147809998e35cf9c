//! The gateway behind TLS, as a load balancer stands before it: HTTP/2 where the client offers it, HTTP/1.1 else. What
//! only HTTP/2 has are its own moods: a stream that is reset, a connection that says it goes away.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Mood, Shared, answer, lock};
use crate::peers::tls::Pair;

/// A frame of settings without any: what each side must say first.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// GOAWAY, no stream was looked at, no error.
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What speaks TLS with this certificate.
pub(super) fn acceptor(pair: &Pair) -> TlsAcceptor {
    let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
    let chain = CertificateDer::from_pem_file(&pair.cert).expect("a certificate");
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .expect("the key of the certificate");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// One connection, from the handshake on.
pub(super) async fn connection(shared: Arc<Shared>, stream: TcpStream, acceptor: TlsAcceptor) {
    // Who does not trust us goes away here.
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let mood = lock(&shared.mood).clone();
    if two && matches!(mood, Mood::GoAwayUnseen) {
        go_away(stream).await.ok();
        return;
    }
    let mut cut_all = shared.cut.subscribe();
    let (cut, leaving) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let service = {
        let (shared, cut, leaving) = (Arc::clone(&shared), Arc::clone(&cut), Arc::clone(&leaving));
        service_fn(move |request| {
            let (shared, cut, leaving) = (Arc::clone(&shared), Arc::clone(&cut), Arc::clone(&leaving));
            async move {
                let response = answer(&shared, request, &cut).await;
                let mood = lock(&shared.mood).clone();
                match mood {
                    // hyper resets the stream of a service that fails.
                    Mood::StreamReset => return Err(io::Error::other("the stream is reset")),
                    Mood::GoAway => leaving.notify_one(),
                    _ => {}
                }
                Ok(response)
            }
        })
    };
    if two {
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        let mut serving = pin!(serving);
        loop {
            tokio::select! {
                _ended = serving.as_mut() => return,
                () = leaving.notified() => serving.as_mut().graceful_shutdown(),
                () = cut.notified() => return,
                _ = cut_all.changed() => return,
            }
        }
    }
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ended = serving => {}
        () = cut.notified() => {}
        _ = cut_all.changed() => {}
    }
}

/// Says that it goes away without having looked at any stream, when the first bytes of a request are here.
async fn go_away(mut stream: TlsStream<TcpStream>) -> io::Result<()> {
    stream.write_all(&SETTINGS).await?;
    let mut read = [0; 4096];
    let mut all = 0;
    // The preface, settings and a window come first: a request's headers are beyond.
    while all < 100 {
        match stream.read(&mut read).await? {
            0 => return Ok(()),
            some => all += some,
        }
    }
    stream.write_all(&GOAWAY).await?;
    stream.flush().await?;
    while stream.read(&mut read).await? > 0 {}
    Ok(())
}
