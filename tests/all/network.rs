//! The network between pintle and a gateway as networks are: proxies from the environment, HTTP/2 behind a private CA,
//! IPv6, names that come and go, lines that die without a word. What was accepted arrives, once, in order.

use std::fs;
use std::process::Command;
use std::time::Duration;

use hyper::{Method, Version};

use crate::peers::documents::Document;
use crate::peers::eventually;
use crate::peers::gateway::{Gateway, Mood, Settings};
use crate::peers::http::Request;
use crate::peers::looker::{Delivery, Download, Execute, Hub, Looker};
use crate::peers::pintle::{Config, Pintle};
use crate::peers::proxy::{Proxy, basic};
use crate::peers::tls::{Authority, UNKNOWN};
use crate::stage::{SOON, Stage};

const CREDENTIALS: &str = "clerk:pass-word-of-the-proxy";
const KEY: &str = "key-of-the-source";

/// Both ends and pintle, which reaches its gateway at a URL that is not the gateway's own.
struct Line {
    looker: Looker,
    gateway: Gateway,
    pintle: Pintle,
    hub: Hub,
    url: String,
}

impl Line {
    fn new(gateway: Gateway, url: &str, more: impl FnOnce(Config) -> Config) -> Self {
        let Stage {
            looker,
            gateway,
            pintle,
            hub,
        } = Stage::set_before(gateway, more);
        Self {
            looker,
            gateway,
            pintle,
            hub,
            url: url.to_owned(),
        }
    }

    /// A gateway behind TLS with a certificate of a CA that only `rudderstack.ca_file` names.
    fn secure(more: impl FnOnce(Config) -> Config) -> Self {
        let authority = Authority::new();
        let gateway = Gateway::start_on(Settings::default(), "127.0.0.1", Some(&authority.issue("gateway", 30)));
        let ca = format!("{:?}", authority.ca_file().display().to_string());
        let url = gateway.url();
        Self::new(gateway, &url, |config| more(config.set("rudderstack", "ca_file", &ca)))
    }

    fn send(&self, label: &str, rows: u64) {
        self.send_to(&self.url, label, rows);
    }

    fn send_to(&self, url: &str, label: &str, rows: u64) {
        let offered = self.looker.offer(Download::made(&Document::lite(label, rows)));
        let execute = Execute::new("rudder_event", url, KEY, Delivery::Url(offered)).webhook_id(label);
        let answer = self.hub.execute(&execute);
        assert!(answer.success, "{label}: {}", answer.message);
    }

    /// All rows of a run, in order; some may have come again.
    #[track_caller]
    fn arrives(&self, label: &str, rows: u64, limit: Duration) {
        let tally = || {
            self.gateway
                .seen(|seen| seen.tallies.get(label).copied().unwrap_or_default())
        };
        eventually(&format!("{rows} rows of {label} arrive"), limit, || {
            tally().rows >= rows
        });
        assert_eq!((tally().rows, tally().jumps), (rows, 0), "{label}: each one, in order");
    }

    /// The reason that `status` shows, once there is one.
    #[track_caller]
    fn trouble(&self) -> String {
        let mut reason = String::new();
        eventually("the trouble is told", SOON, || {
            let status = self.pintle.json(&["status"]);
            let all = status["destinations"].as_array().unwrap();
            let found = all.iter().find(|one| one["state"] == "backing_off");
            reason = found
                .and_then(|one| one["reason"].as_str())
                .unwrap_or_default()
                .to_owned();
            !reason.is_empty()
        });
        reason
    }

    /// Attempts that came to this, over all destinations.
    fn attempts(&self, outcome: &str) -> u64 {
        let text = Request::new("GET", "/metrics").ask(self.pintle.admin()).unwrap().text();
        let label = format!("outcome=\"{outcome}\"}} ");
        text.lines()
            .filter(|line| line.starts_with("pintle_delivery_attempts_total{"))
            .filter_map(|line| line.split_once(&label))
            .map(|(_, number)| number.parse::<u64>().unwrap())
            .sum()
    }
}

fn keeps_secrets(line: &Line) {
    let told = [
        line.pintle.log(),
        line.pintle.json(&["status"]).to_string(),
        line.pintle
            .json(&["trace", line.pintle.runs()[0]["id"].as_str().unwrap()])
            .to_string(),
    ];
    for text in told {
        for secret in ["pass-word-of-the-proxy", &basic(CREDENTIALS)["Basic ".len()..], KEY] {
            assert!(!text.contains(secret), "{secret} is told");
        }
    }
}

#[test]
fn http_goes_through_the_proxy_of_the_environment_and_its_credentials_stay_secret() {
    let proxy = Proxy::start();
    proxy.ask_for(CREDENTIALS);
    let gateway = Gateway::start(Settings::default());
    proxy.name("gateway.test:80", gateway.address());
    let (direct, address) = (gateway.url(), gateway.address());
    let line = Line::new(gateway, "http://gateway.test", |config| {
        config
            .environment("HTTP_PROXY", &proxy.url(Some(CREDENTIALS)))
            .environment("NO_PROXY", "127.0.0.1,other.test")
            .set("log", "level", "\"trace\"")
    });
    line.send("by-proxy", 500);
    line.arrives("by-proxy", 500, SOON);
    // By then the proxy has answered, too.
    eventually("nothing waits", SOON, || line.pintle.backlog() == 0);
    let seen = proxy.seen();
    assert!(!seen.is_empty());
    for one in &seen {
        assert_eq!(
            (&one.method, one.target.as_str(), one.status),
            (&Method::POST, "http://gateway.test/v1/batch", 200)
        );
    }
    // What NO_PROXY names goes straight, and Looker's downloads went so all the time.
    line.send_to(&direct, "straight", 100);
    line.arrives("straight", 100, SOON);
    assert_eq!(proxy.seen().len(), seen.len(), "the proxy was not asked");

    // The proxy knows no such place, for a while: its 502 is no word of the gateway's.
    proxy.name("gateway.test:80", "127.0.0.1:9".parse().unwrap());
    line.send("later", 100);
    assert!(line.trouble().contains("not available (503)"), "{}", line.trouble());
    proxy.name("gateway.test:80", address);
    line.arrives("later", 100, SOON);
    keeps_secrets(&line);
}

#[test]
fn https_goes_through_a_tunnel_of_the_proxy() {
    let proxy = Proxy::start();
    proxy.ask_for("somebody:else");
    let line = Line::secure(|config| {
        config
            .environment("HTTPS_PROXY", &proxy.url(Some(CREDENTIALS)))
            .set("log", "level", "\"trace\"")
    });
    proxy.name(&format!("{UNKNOWN}:443"), line.gateway.address());
    let url = format!("https://{UNKNOWN}/v1/batch");
    line.send_to(&url, "tunnel", 500);
    let told = line.trouble();
    assert!(
        told.contains("no connection to the gateway") && told.contains("proxy"),
        "{told}"
    );
    proxy.ask_for(CREDENTIALS);
    line.arrives("tunnel", 500, SOON);
    for one in proxy.seen() {
        assert_eq!((one.method, one.target), (Method::CONNECT, format!("{UNKNOWN}:443")));
    }
    let versions: Vec<Version> = line
        .gateway
        .seen(|seen| seen.requests.iter().map(|asked| asked.version).collect());
    assert!(
        versions.iter().all(|version| *version == Version::HTTP_2),
        "{versions:?}"
    );
    keeps_secrets(&line);
}

#[test]
fn a_gateway_behind_http_2_may_reset_streams_and_go_away() {
    let line = Line::secure(|config| config);
    line.send("calm", 500);
    line.arrives("calm", 500, SOON);
    // A request is listed when its answer is on the way, after its events.
    eventually("the request is listed", SOON, || {
        line.gateway.seen(|seen| !seen.requests.is_empty())
    });
    assert_eq!(
        line.gateway.seen(|seen| seen.requests.last().unwrap().version),
        Version::HTTP_2
    );

    // A balancer that is exchanged lets each connection end in peace: nothing fails.
    line.gateway.set(Mood::GoAway);
    for number in 0..5 {
        let label = format!("leaving{number}");
        line.send(&label, 200);
        line.arrives(&label, 200, SOON);
    }
    assert_eq!(line.attempts("retry"), 0, "an end that was announced is no failure");
    assert_eq!(line.gateway.seen(seen_duplicates), 0);

    line.gateway.set(Mood::StreamReset);
    line.send("reset", 1_000);
    let told = line.trouble();
    assert!(told.contains("the connection ended before an answer"), "{told}");
    line.gateway.set(Mood::Up);
    line.arrives("reset", 1_000, SOON);
    assert!(
        line.gateway.seen(seen_duplicates) > 0,
        "what was stored without an answer came again"
    );

    line.gateway.set(Mood::Refuse);
    line.gateway.set(Mood::GoAwayUnseen);
    line.send("unseen", 200);
    assert!(!line.trouble().is_empty());
    line.gateway.set(Mood::Up);
    line.arrives("unseen", 200, SOON);
    let most = line.gateway.seen(|seen| seen.most_in_flight[KEY]);
    assert_eq!(most, 1, "one request at a time on a connection that could have many");
}

fn seen_duplicates(seen: &crate::peers::gateway::seen::Seen) -> u64 {
    seen.duplicates()
}

#[test]
fn a_connection_that_died_without_a_word_is_left() {
    let proxy = Proxy::start();
    let line = Line::secure(|config| config.environment("HTTPS_PROXY", &proxy.url(None)));
    proxy.name(&format!("{UNKNOWN}:443"), line.gateway.address());
    let url = format!("https://{UNKNOWN}");
    line.send_to(&url, "alive", 100);
    line.arrives("alive", 100, SOON);
    let tunnels = proxy.seen().len();
    proxy.freeze();
    line.send_to(&url, "dead", 100);
    // HTTP/2 would put each new attempt into the same connection for ever: it is asked whether it lives.
    line.arrives("dead", 100, Duration::from_secs(60));
    assert!(proxy.seen().len() > tunnels, "by another tunnel");
}

#[test]
fn a_gateway_may_be_an_ipv6_address() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this machine has no IPv6");
        return;
    }
    let gateway = Gateway::start_on(Settings::default(), "::1", None);
    let url = gateway.url();
    assert!(url.starts_with("http://[::1]:"), "{url}");
    let line = Line::new(gateway, &url, |config| {
        config.set("rudderstack", "allowed_origins", &format!("[\"{url}\"]"))
    });
    line.send("six", 300);
    line.arrives("six", 300, SOON);
    line.gateway.set(Mood::Refuse);
    line.send("later", 300);
    assert!(line.trouble().contains("no connection"), "{}", line.trouble());
    line.gateway.set(Mood::Up);
    line.arrives("later", 300, SOON);
}

/// A file system of the process's own, where `/etc/hosts` is ours.
#[test]
fn a_name_that_cannot_be_resolved_is_resolved_again_each_time() {
    let unshare = [vec!["unshare", "-m"], vec!["unshare", "-rm"]]
        .into_iter()
        .find(|words| {
            Command::new(words[0])
                .args(&words[1..])
                .arg("true")
                .status()
                .is_ok_and(|status| status.success())
        });
    let Some(mut words) = unshare else {
        eprintln!("SKIPPED: no mount namespace can be had here (unshare -m)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (hosts, switch) = (folder.path().join("hosts"), folder.path().join("nsswitch.conf"));
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    fs::write(&switch, "hosts: files\n").unwrap();
    let script = "mount --bind \"$1\" /etc/hosts && mount --bind \"$2\" /etc/nsswitch.conf && shift 2 && exec \"$@\"";
    let (hosts_text, switch_text) = (hosts.display().to_string(), switch.display().to_string());
    words.extend(["sh", "-c", script, "sh", &hosts_text, &switch_text]);

    let gateway = Gateway::start(Settings::default());
    let url = format!("http://{UNKNOWN}:{}", gateway.address().port());
    let line = Line::new(gateway, &url, |config| config.started_by(&words));
    line.send("named", 200);
    let told = line.trouble();
    assert!(
        told.contains("no connection") && told.contains("name not found"),
        "{told}"
    );
    assert_eq!(line.pintle.backlog(), 200);

    fs::write(&hosts, format!("127.0.0.2 {UNKNOWN}\n")).unwrap();
    eventually("the wrong machine refuses", SOON, || line.trouble().contains("refused"));
    fs::write(&hosts, format!("127.0.0.1 {UNKNOWN}\n")).unwrap();
    line.arrives("named", 200, SOON);

    // One whose name leads to the machine's own metadata is not called, and tried again like any other trouble.
    line.gateway.set(Mood::Refuse);
    fs::write(&hosts, format!("169.254.169.254 {UNKNOWN}\n")).unwrap();
    line.send("metadata", 100);
    eventually("it is refused by us", SOON, || {
        line.trouble().contains("169.254.169.254")
    });
    fs::write(&hosts, format!("127.0.0.1 {UNKNOWN}\n")).unwrap();
    line.gateway.set(Mood::Up);
    line.arrives("metadata", 100, SOON);
}
