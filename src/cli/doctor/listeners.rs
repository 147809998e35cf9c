//! Whether the ports can be had, and whether what Looker calls leads to them.

use std::net::SocketAddr;

use tokio::net::TcpSocket;
use url::{Host, Url};

use super::Check;
use crate::config::{Config, Hub};
use crate::looker::public_url;

/// Inside a runtime: sockets are made, and never listen.
pub(super) fn checks(config: &Config, running: bool) -> Vec<Check> {
    let mut checks = vec![port("hub.listen", config.hub.listen, running)];
    match config.admin.listen {
        Some(address) => {
            checks.push(port("admin.listen", address, running));
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

fn port(key: &str, address: SocketAddr, running: bool) -> Check {
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
        (true, false) => Check::error(
            key,
            format!("{address} is taken by another program"),
            format!(
                "`ss -ltnp 'sport = :{}'` names it; stop it, or set {key} (where it is systemd with pintle.socket, all is well)",
                address.port()
            ),
        ),
        (false, _) => Check::error(
            key,
            format!("{address} cannot be bound: {error}"),
            "it must be an address of this machine (`ip address`), and a port below 1024 needs CAP_NET_BIND_SERVICE or pintle.socket",
        ),
    }
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
    async fn a_port_is_free_taken_or_impossible() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(port("hub.listen", address, false).status, Status::Error);
        assert_eq!(port("hub.listen", address, true).status, Status::Ok);
        drop(listener);
        assert_eq!(port("hub.listen", address, false).status, Status::Ok);
        assert_eq!(
            port("hub.listen", "203.0.113.1:1".parse().unwrap(), false).status,
            Status::Error
        );
    }
}
