//! Debian's nginx with the snippet of deploy/nginx.conf: TLS by the proxy, a path prefix, newlines that pass at once and
//! keep the line beyond the proxy's limit, large bodies, and the next pintle where one is gone.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::peers::documents::Document;
use crate::peers::gateway::{Gateway, Settings};
use crate::peers::looker::{Delivery, Download, Execute, Looker};
use crate::peers::pintle::{Config, Pintle};
use crate::peers::tls::{Authority, NAME};
use crate::peers::{eventually, free_port, runtime};
use crate::stage::SOON;

/// A running nginx. It is ended when this is dropped.
struct Nginx {
    folder: tempfile::TempDir,
    child: Child,
    address: SocketAddr,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its workers at SIGTERM.
        let sent = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        );
        if sent.is_err() {
            self.child.kill().ok();
        }
        self.child.wait().ok();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("error.log"));
            eprintln!("--- nginx's log\n{}", log.unwrap_or_default());
        }
    }
}

impl Nginx {
    /// None, and said loudly, where nginx is not installed.
    fn start(authority: &Authority, address: SocketAddr, upstreams: &[SocketAddr]) -> Option<Self> {
        if Command::new("nginx").arg("-v").output().is_err() {
            eprintln!(
                "SKIPPED: nginx is not installed (Debian: apt-get install nginx-light); deploy/nginx.conf is NOT tested"
            );
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let pair = authority.issue("nginx", 30);
        let servers: Vec<_> = upstreams.iter().map(|address| format!("server {address};")).collect();
        let snippet = include_str!("../../deploy/nginx.conf");
        // What belongs to this machine; and the limit, so that the test need not wait for a minute.
        let mut site = snippet.to_owned();
        for (from, to) in [
            ("server 127.0.0.1:8480;", servers.join(" ")),
            ("listen 443 ssl;", format!("listen {address} ssl;")),
            ("server_name hub.corp.example;", format!("server_name {NAME};")),
            ("/etc/nginx/tls/fullchain.pem", pair.cert.display().to_string()),
            ("/etc/nginx/tls/privkey.pem", pair.key.display().to_string()),
            ("proxy_read_timeout 60s;", "proxy_read_timeout 17s;".to_owned()),
        ] {
            assert!(site.contains(from), "deploy/nginx.conf has no {from}");
            site = site.replace(from, &to);
        }
        let user = if rustix::process::geteuid().is_root() {
            "user root;"
        } else {
            ""
        };
        let conf = format!(
            "{user} worker_processes 1; pid {path}/pid; error_log {path}/error.log info;\nevents {{}}\nhttp {{ access_log off;\n\
             client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; fastcgi_temp_path {path}/fastcgi;\n\
             uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n{site}\n}}\n"
        );
        fs::write(folder.path().join("nginx.conf"), conf).unwrap();
        let child = Command::new("nginx")
            .args(["-e", &format!("{path}/error.log"), "-g", "daemon off;", "-c"])
            .arg(folder.path().join("nginx.conf"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self { folder, child, address };
        eventually("nginx listens", SOON, || std::net::TcpStream::connect(address).is_ok());
        Some(nginx)
    }

    fn url(&self, path: &str) -> String {
        format!("https://{NAME}:{}/pintle{path}", self.address.port())
    }
}

/// How an answer came: its text, and when the first byte of its body and the last one were there.
struct Came {
    status: u16,
    text: String,
    first: Duration,
    last: Duration,
}

fn post(client: &reqwest::Client, url: &str, token: &str, body: impl Into<reqwest::Body>) -> Came {
    runtime().block_on(async {
        let began = Instant::now();
        let mut response = client
            .post(url)
            .header("Authorization", format!("Token token=\"{token}\""))
            .header("X-Looker-Instance", "test")
            .body(body)
            .send()
            .await
            .expect("nginx answers");
        let status = response.status().as_u16();
        let (mut text, mut first) = (Vec::new(), None);
        while let Some(piece) = response.chunk().await.expect("the answer is whole") {
            first.get_or_insert_with(|| began.elapsed());
            text.extend_from_slice(&piece);
        }
        let last = began.elapsed();
        Came {
            status,
            text: String::from_utf8(text).expect("text"),
            first: first.unwrap_or(last),
            last,
        }
    })
}

#[test]
fn a_run_goes_through_nginx() {
    let authority = Authority::new();
    let looker = Looker::start();
    let gateway = Gateway::start(Settings::default());
    let address = free_port();
    let config = || {
        Config::for_looker(&looker)
            .set("hub", "secret", "\"one secret for both of them, long enough\"")
            .set(
                "hub",
                "public_url",
                &format!("\"https://{NAME}:{}/pintle\"", address.port()),
            )
    };
    let mut pintles = [Pintle::start(config()), Pintle::start(config())];
    let hubs = [pintles[0].url_and_hub().1, pintles[1].url_and_hub().1];
    let Some(nginx) = Nginx::start(&authority, address, &[hubs[0].address, hubs[1].address]) else {
        return;
    };
    let token = &hubs[0].token;
    let client = authority.client(2);

    // The list, with and without the prefix's slash; its URLs are those that Looker will call.
    let list = post(&client, &nginx.url("/"), token, "");
    assert_eq!(list.status, 200, "{}", list.text);
    let json: serde_json::Value = serde_json::from_str(&list.text).unwrap();
    let execute = json["integrations"][0]["url"].as_str().unwrap().to_owned();
    assert_eq!(execute, nginx.url("/actions/rudder_event/execute"));

    // A large body, chunked, as Looker sends rows in the request: larger than nginx's own limit of 1 MB.
    let large = Document::lite("large", 30_000);
    let attached = Delivery::Attachment {
        mimetype: "application/json".to_owned(),
        data: large.text().into(),
    };
    let body = Execute::new("rudder_event", &gateway.url(), "key", attached)
        .body()
        .to_string();
    assert!(body.len() > 5_000_000, "{}", body.len());
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
        body.as_bytes().chunks(60_000).map(|piece| Ok(piece.to_vec())).collect();
    let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let came = post(&client, &execute, token, chunked);
    assert!(
        came.status == 200 && came.text.contains("\"success\":true"),
        "{} {}",
        came.status,
        came.text
    );

    // A query of 35 s, through a limit of 17 s between two bytes.
    let slow = Download {
        delay: Duration::from_secs(35),
        ..Download::made(&Document::lite("slow", 50))
    };
    let body = Execute::new("rudder_event", &gateway.url(), "key", Delivery::Url(looker.offer(slow))).body();
    let came = post(&client, &execute, token, body.to_string());
    assert!(
        came.status == 200 && came.text.contains("\"success\":true"),
        "{} {}",
        came.status,
        came.text
    );
    let newlines = came.text.bytes().take_while(|byte| *byte == b'\n').count();
    assert!(newlines >= 2, "{:?}", came.text);
    assert!(
        came.first < Duration::from_secs(18) && came.last > Duration::from_secs(34),
        "the first newline passes when it is sent: {:?}, {:?}",
        came.first,
        came.last
    );
    eventually("all rows arrive", Duration::from_secs(60), || {
        gateway.accepted() == 30_050
    });

    // One of the two is gone: who asks meets the other one.
    pintles[0].kill();
    for number in 0..6 {
        let url = looker.offer(Download::made(&Document::lite(&format!("one{number}"), 10)));
        let body = Execute::new("rudder_event", &gateway.url(), "key", Delivery::Url(url)).body();
        let came = post(&client, &execute, token, body.to_string());
        assert!(
            came.status == 200 && came.text.contains("\"success\":true"),
            "{} {}",
            came.status,
            came.text
        );
    }
    eventually("their rows arrive", SOON, || gateway.accepted() == 30_110);
}
