//! Whether the ports can be had, and whether what Looker calls leads to them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use url::{Host, Url};

use super::Check;
use crate::config::{Config, Hub};
use crate::looker::public_url;

/// Inside a runtime: sockets are made, and never listen.
pub(super) async fn checks(config: &Config, running: bool) -> Vec<Check> {
    let mut checks = vec![port("hub.listen", config.hub.listen, running).await];
    match config.admin.listen {
        Some(address) => {
            checks.push(port("admin.listen", address, running).await);
            if !address.ip().is_loopback() {
                checks.push(Check::warning(
                    "admin_exposed",
                    format!("admin.listen is {address}, which other machines can reach without TLS"),
                    "bind it to 127.0.0.1 and go there by a proxy with TLS or an SSH tunnel",
                ));
            }
        }
        None => checks.push(Check::ok("admin.listen", "turned off: no console, no metrics")),
    }
    checks.push(called(&config.hub));
    checks
}

/// Whoever has a port answers within this time, or is not known.
const ANSWER: Duration = Duration::from_secs(2);
/// No answer of a pintle's that says what it is is larger.
const ANSWER_BYTES: u64 = 16 << 10;

async fn port(key: &str, address: SocketAddr, running: bool) -> Check {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let bound = socket.and_then(|socket| {
        // As the server binds: what the last connections left behind does not hinder.
        socket.set_reuseaddr(true)?;
        socket.bind(address)
    });
    let Err(error) = bound else {
        return Check::ok(key, format!("{address} is free"));
    };
    let taken = error.kind() == std::io::ErrorKind::AddrInUse;
    match (taken, running) {
        (true, true) => Check::ok(key, format!("{address} is in use, and this store's pintle runs")),
        (true, false) => {
            let holder = holder(address).await;
            Check::error(
                key,
                format!("{address} is taken by {holder}"),
                format!(
                    "`ss -ltnp 'sport = :{}'` names the process; stop it, or set {key} (where it is systemd with pintle.socket, all is well)",
                    address.port()
                ),
            )
        }
        (false, _) => Check::error(
            key,
            format!("{address} cannot be bound: {error}"),
            "it must be an address of this machine (`ip address`), and a port below 1024 needs CAP_NET_BIND_SERVICE or pintle.socket",
        ),
    }
}

/// Who has a port: a pintle says so, on the hub's listener with its version, on the admin listener by its metrics. Behind
/// TLS nobody can be told from another.
async fn holder(address: SocketAddr) -> String {
    let status = said(address, "/status").await;
    let status: Option<serde_json::Value> = status.and_then(|body| serde_json::from_str(&body).ok());
    if let Some(status) = status.filter(|status| status.get("name").is_some_and(|name| name == "pintle")) {
        let version = status.get("version").and_then(serde_json::Value::as_str).unwrap_or("");
        return format!("the hub of another pintle {version}, which serves from another store");
    }
    match said(address, "/metrics").await {
        Some(metrics) if metrics.contains("\npintle_") || metrics.contains(" pintle_") => {
            "the console of another pintle, which serves from another store".to_owned()
        }
        _ => "another program".to_owned(),
    }
}

/// The body of an answer in plain HTTP, as far as it is of use; none where there is none in time.
async fn said(address: SocketAddr, path: &str) -> Option<String> {
    let asked = async {
        // Where everything is listened on, it is asked on this machine.
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let mut stream = TcpStream::connect((ip, address.port())).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(ANSWER, asked).await.ok()?.ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some(body.to_owned())
}

/// What Looker is told to call, against what is listened on.
fn called(hub: &Hub) -> Check {
    const NAME: &str = "public_url";
    let text = match public_url(hub) {
        Ok(text) => text,
        Err(error) => return Check::error(NAME, error.to_string(), "set hub.public_url"),
    };
    let Ok(url) = Url::parse(&text) else {
        return Check::error(NAME, format!("{text} is no URL"), "set hub.public_url");
    };
    let ours = hub.tls_cert_file.is_some();
    let local = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if local {
        return Check::warning(
            NAME,
            format!("{text} can be called from this machine only"),
            "right for a try; else set hub.public_url to the address that Looker reaches, with TLS here or in a proxy",
        );
    }
    if url.scheme() == "http" && ours {
        return Check::error(
            NAME,
            format!("{text} is http, but hub.tls_cert_file makes the listener speak TLS"),
            "write https:// in hub.public_url, or take the certificate out where a proxy has it",
        );
    }
    if url.scheme() == "http" {
        return Check::warning(
            NAME,
            format!("{text} is http: the token and the rows go over the network in clear"),
            "Looker accepts only https with a valid certificate: give hub.tls_cert_file and hub.tls_key_file, or put a proxy in front",
        );
    }
    let same_port = url.port_or_known_default() == Some(hub.listen.port());
    if ours && hub.listen.ip().is_loopback() {
        return Check::warning(
            NAME,
            format!(
                "{text} is called, but hub.listen is {}, which no other machine reaches",
                hub.listen
            ),
            "listen on the machine's own address, or \"0.0.0.0:…\"",
        );
    }
    if !ours && !hub.listen.ip().is_loopback() {
        return Check::warning(
            NAME,
            format!(
                "{text} leads to a proxy, and {} speaks plain HTTP to the whole network",
                hub.listen
            ),
            "listen on 127.0.0.1 where the proxy is on this machine",
        );
    }
    if ours && !same_port {
        return Check::warning(
            NAME,
            format!("{text} has another port than hub.listen {}", hub.listen),
            "right where something forwards the port; else give the port in hub.public_url",
        );
    }
    Check::ok(
        NAME,
        if ours {
            format!("{text}, TLS by this hub")
        } else {
            format!("{text}, TLS by a proxy in front of {}", hub.listen)
        },
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::Status;
    use super::*;

    #[test]
    fn what_is_called_against_what_is_listened_on() {
        let status = |public_url: &str, listen: &str, tls: bool| {
            called(&Hub {
                public_url: public_url.to_owned(),
                listen: listen.parse().unwrap(),
                tls_cert_file: tls.then(|| PathBuf::from("cert.pem")),
                ..Hub::default()
            })
            .status
        };
        assert_eq!(status("https://p.example", "127.0.0.1:8480", false), Status::Ok);
        assert_eq!(status("https://p.example:8480", "0.0.0.0:8480", true), Status::Ok);
        assert_eq!(status("https://p.example", "0.0.0.0:8480", true), Status::Warning);
        assert_eq!(
            status("https://p.example:8480", "127.0.0.1:8480", true),
            Status::Warning
        );
        assert_eq!(status("https://p.example", "0.0.0.0:8480", false), Status::Warning);
        assert_eq!(status("http://p.example", "127.0.0.1:8480", false), Status::Warning);
        assert_eq!(status("http://p.example", "0.0.0.0:80", true), Status::Error);
        assert_eq!(status("", "127.0.0.1:8480", false), Status::Warning);
        assert_eq!(status("", "0.0.0.0:8480", false), Status::Error);
    }

    #[tokio::test]
    async fn who_has_a_port_is_said() {
        let answering = async |body: &'static str| {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let task = tokio::spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut request = [0; 512];
                    let read = stream.read(&mut request).await.unwrap();
                    assert!(read > 0);
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
            let detail = port("hub.listen", address, false).await.detail;
            task.abort();
            detail.split_once(" is ").unwrap().1.to_owned()
        };
        let hub = answering("{\"name\":\"pintle\",\"version\":\"9.9\"}").await;
        assert_eq!(
            hub,
            "taken by the hub of another pintle 9.9, which serves from another store"
        );
        let console = answering("# HELP pintle_rows_total Rows\n# TYPE pintle_rows_total counter\n").await;
        assert_eq!(
            console,
            "taken by the console of another pintle, which serves from another store"
        );
        assert_eq!(answering("<html>").await, "taken by another program");
    }

    #[tokio::test]
    async fn a_port_is_free_taken_or_impossible() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(port("hub.listen", address, false).await.status, Status::Error);
        assert_eq!(port("hub.listen", address, true).await.status, Status::Ok);
        drop(listener);
        assert_eq!(port("hub.listen", address, false).await.status, Status::Ok);
        assert_eq!(
            port("hub.listen", "203.0.113.1:1".parse().unwrap(), false).await.status,
            Status::Error
        );
    }
}
