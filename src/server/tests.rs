//! The wall over real sockets: each limit with its attack and its answer, TLS with a changing certificate, an end in
//! good order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;

/// Says how long the body was and where it came from; `/slow` takes 300 ms.
#[derive(Clone)]
struct Echo;

impl Handler for Echo {
    type Body = Full<Bytes>;

    async fn handle(&self, request: Request<LimitedBody>, peer: Peer) -> Response<Full<Bytes>> {
        let slow = request.uri().path() == "/slow";
        let text = match request.into_body().collect().await {
            Ok(body) => format!("{} secure={}", body.to_bytes().len(), peer.secure),
            Err(error) => error.to_string(),
        };
        if slow {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Response::new(Full::new(Bytes::from(text)))
    }
}

struct Served {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<super::Served>,
}

async fn served(limits: Limits, tls: Option<Tls>) -> Served {
    let listener = Listener::tcp("hub.listen", SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let address = listener.address().unwrap();
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(serve(listener, tls, Echo, limits, stopped, Duration::from_secs(2)));
    Served { address, stop, task }
}

fn quick() -> Limits {
    Limits {
        head_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(600),
        max_body_bytes: 1000,
        max_connections: 4,
        ..Limits::default()
    }
}

/// All that comes until the end of the connection.
async fn all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    drop(
        tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes))
            .await
            .expect("the connection stays open"),
    );
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn said(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    all(stream).await
}

async fn connect(served: &Served) -> TcpStream {
    TcpStream::connect(served.address).await.unwrap()
}

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn slow_and_large_peers_are_shown_out() {
    let served = served(quick(), None).await;
    let began = std::time::Instant::now();
    // A head in drops: never longer idle than 50 ms, yet over its time.
    let mut drops = connect(&served).await;
    let mut taken = 0;
    for byte in format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(1000)).bytes() {
        if drops.write_all(&[byte]).await.is_err() {
            break;
        }
        taken += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(taken < 40, "{taken} bytes of a slow head were taken");
    // Nothing at all, and nothing after an answer: the idle limit.
    let mut silent = connect(&served).await;
    assert!(!all(&mut silent).await.contains("200"));
    let mut kept = connect(&served).await;
    assert!(
        said(&mut kept, "GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .ends_with("0 secure=false")
    );
    assert!(began.elapsed() > Duration::from_millis(1200));
    // A body that stops, and one that is too large.
    let mut stopped = connect(&served).await;
    let text = said(
        &mut stopped,
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc",
    )
    .await;
    assert!(text.contains("fell silent"), "{text}");
    let mut large = connect(&served).await;
    let text = said(
        &mut large,
        &format!(
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2000\r\nconnection: close\r\n\r\n{}",
            "x".repeat(2000)
        ),
    )
    .await;
    assert!(text.contains("larger than 1000 bytes"), "{text}");
    // A head that is too large, and one with too many headers.
    let mut head = connect(&served).await;
    drop(
        head.write_all(format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(200_000)).as_bytes())
            .await,
    );
    assert!(!all(&mut head).await.contains(" 200 "));
    let mut headers = connect(&served).await;
    let text = said(
        &mut headers,
        &format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(150)),
    )
    .await;
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");
    let mut nonsense = connect(&served).await;
    assert!(
        said(&mut nonsense, "\x16\x03\x01 nonsense\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400")
    );
}

#[tokio::test]
async fn a_body_has_a_least_rate() {
    let limits = Limits {
        min_body_rate: 1000,
        rate_grace: Duration::from_millis(100),
        ..quick()
    };
    let served = served(limits, None).await;
    let mut slow = connect(&served).await;
    slow.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        .await
        .unwrap();
    let mut text = Vec::new();
    for _ in 0..100 {
        slow.write_all(b"a").await.unwrap();
        let mut buffer = [0; 1000];
        if let Ok(Ok(count)) = tokio::time::timeout(Duration::from_millis(20), slow.read(&mut buffer)).await {
            text.extend_from_slice(buffer.get(..count).unwrap());
            break;
        }
    }
    assert!(
        String::from_utf8(text)
            .unwrap()
            .contains("slower than 1000 bytes a second")
    );
}

#[tokio::test]
async fn connections_over_the_limit_are_told_so() {
    let served = served(quick(), None).await;
    let mut guests = Vec::new();
    for _ in 0..4 {
        let mut guest = connect(&served).await;
        guest
            .write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        guests.push(guest);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut fifth = connect(&served).await;
    let text = all(&mut fifth).await;
    assert!(
        text.starts_with("HTTP/1.1 503") && text.ends_with("\"too many connections at once\"}"),
        "{text}"
    );
    for guest in &mut guests {
        assert!(
            all(guest).await.contains("200 OK"),
            "who has a request in hand is served"
        );
    }
    let mut again = connect(&served).await;
    assert!(said(&mut again, GET).await.contains("200 OK"));
}

#[tokio::test]
async fn those_that_say_nothing_keep_nobody_out() {
    let slow = Limits {
        head_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(30),
        ..quick()
    };
    let served = served(slow, None).await;
    let mut silent = Vec::new();
    for number in 0..40 {
        let mut guest = connect(&served).await;
        if number % 2 == 0 {
            guest.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        }
        silent.push(guest);
    }
    for _ in 0..3 {
        let mut good = connect(&served).await;
        assert!(said(&mut good, GET).await.contains("200 OK"));
    }
    // The first of them have been closed long ago, without a word.
    assert_eq!(all(&mut silent[0]).await, "");
}

#[tokio::test]
async fn a_stop_lets_the_request_in_hand_end() {
    let served = served(quick(), None).await;
    let mut idle = connect(&served).await;
    let mut late = connect(&served).await;
    let mut slow = connect(&served).await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.stop.send_replace(true);
    // It was let in before; its request comes a moment after.
    assert!(said(&mut late, GET).await.contains("200 OK"));
    assert!(all(&mut slow).await.contains("200 OK"));
    assert_eq!(all(&mut idle).await, "");
    assert_eq!(served.task.await.unwrap(), super::Served { cut: 0 });
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn a_unix_socket_serves_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let listener = Listener::unix(&path).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(serve(listener, None, Echo, quick(), stopped, Duration::from_secs(1)));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    assert!(said(&mut stream, GET).await.ends_with("0 secure=false"));
    drop(stop);
    task.await.unwrap();
    assert!(!path.exists());
}

/// Puts one of the two certificates of `fixtures` (for localhost, signed by themselves) where the server reads them.
fn certificate(folder: &Path, name: &str) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/fixtures");
    for kind in ["cert.pem", "key.pem"] {
        std::fs::copy(fixtures.join(format!("{name}.{kind}")), folder.join(kind)).unwrap();
    }
}

async fn secure(folder: &Path, served: &Served) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap())
        .unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector
        .connect(ServerName::try_from("localhost").unwrap(), connect(served).await)
        .await
}

#[tokio::test]
async fn a_certificate_is_exchanged_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let load = || Tls::load(&path.join("cert.pem"), &path.join("key.pem"));
    assert!(load().unwrap_err().to_string().contains("hub.tls_cert_file"));
    certificate(path, "one");
    let tls = load().unwrap();
    let until = |tls: &Tls| tls.expires_at().unwrap().to_rfc3339();
    assert_eq!(until(&tls), "2046-11-19T23:28:31.000Z");
    let served = served(Limits::default(), Some(tls.clone())).await;
    let mut old = secure(path, &served).await.unwrap();
    assert_eq!(old.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));

    assert!(!tls.reload_if_changed().unwrap());
    let key = std::fs::read(path.join("key.pem")).unwrap();
    tokio::spawn(tls.clone().watch(Duration::from_millis(20)));
    certificate(path, "two");
    for _ in 0..200 {
        if until(&tls) == "2126-10-31T23:28:31.000Z" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(until(&tls), "2126-10-31T23:28:31.000Z");
    // The old connection goes on, a new one sees the new certificate, a wrong pair changes nothing.
    assert!(said(&mut old, GET).await.ends_with("0 secure=true"));
    std::fs::write(path.join("key.pem"), key).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::NotAPair { .. })));
    let mut new = secure(path, &served).await.unwrap();
    assert!(said(&mut new, GET).await.ends_with("0 secure=true"));
    std::fs::write(path.join("cert.pem"), "nothing").unwrap();
    assert!(
        tls.reload()
            .unwrap_err()
            .to_string()
            .contains("no certificate in PEM form")
    );
    // Plain HTTP at a TLS port.
    let mut plain = connect(&served).await;
    assert!(!said(&mut plain, GET).await.contains("200"));
}

#[tokio::test]
async fn many_requests_on_one_connection() {
    let served = served(quick(), None).await;
    let stream = hyper_util::rt::TokioIo::new(connect(&served).await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for length in [0usize, 10, 1000] {
        let body = Full::<Bytes>::new(Bytes::from(vec![b'x'; length])).map_err(|never: Infallible| never);
        let request = Request::post("/slow").header("host", "x").body(body).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let text = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, format!("{length} secure=false"));
    }
}

#[test]
fn sockets_of_systemd_are_taken_over() {
    // A process of its own, since its environment is changed. Its standard input is the socket: systemd's would be
    // descriptor 3, which only unsafe code could hand over here.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "server::tests::a_socket_of_systemds_here", "--ignored"])
        .envs([
            ("LISTEN_FDS", "1"),
            ("LISTEN_FDS_FIRST_FD", "0"),
            ("LISTEN_FDNAMES", "hub"),
            ("PORT", &port),
        ])
        .stdin(std::os::fd::OwnedFd::from(listener))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
#[ignore = "run by the test above, in a process of its own"]
async fn a_socket_of_systemds_here() {
    let mut sockets = activated().unwrap();
    assert_eq!(sockets.len(), 1);
    let socket = sockets.pop().unwrap();
    assert_eq!(socket.name.as_deref(), Some("hub"));
    let address = socket.listener.address().unwrap();
    assert_eq!(address.port().to_string(), std::env::var("PORT").unwrap());
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(serve(
        socket.listener,
        None,
        Echo,
        quick(),
        stopped,
        Duration::from_secs(1),
    ));
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert!(said(&mut stream, GET).await.contains("200 OK"));
    assert!(activated().unwrap().is_empty());
}
