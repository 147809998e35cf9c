//! TLS on the hub's listener, with a CA of the tests' own and real clients: curl, and one that asks without a pause while
//! the certificate is exchanged.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::cli::pintle::Place;
use crate::peers::documents::Document;
use crate::peers::gateway::{Gateway, Settings};
use crate::peers::looker::{Delivery, Download, Execute, Looker};
use crate::peers::pintle::{Config, Pintle};
use crate::peers::tls::{Authority, NAME, Pair};
use crate::peers::{eventually, runtime};
use crate::stage::SOON;

fn with_tls(config: Config, pair: &Pair) -> Config {
    config
        .set(
            "hub",
            "tls_cert_file",
            &format!("{:?}", pair.cert.display().to_string()),
        )
        .set("hub", "tls_key_file", &format!("{:?}", pair.key.display().to_string()))
}

/// Asks for the list again and again, until told to stop.
async fn load(client: reqwest::Client, url: String, token: String, stop: Arc<AtomicBool>, asked: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        let response = client
            .post(&url)
            .header("Authorization", format!("Token token=\"{token}\""))
            .send()
            .await
            .expect("no request fails");
        assert_eq!(response.status(), 200);
        let text = response.text().await.expect("and each answer is whole");
        assert!(text.contains("https://") && text.contains("rudder_event"), "{text}");
        asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn a_certificate_is_exchanged_under_load_without_a_failed_request() {
    let authority = Authority::new();
    let place = authority.place("served");
    let (first, second, third) = (
        authority.issue("first", 30),
        authority.issue("second", 30),
        authority.issue("third", 30),
    );
    first.put(&place);
    let looker = Looker::start();
    let gateway = Gateway::start(Settings::default());
    let pintle = Pintle::start(with_tls(Config::for_looker(&looker), &place));
    let (url, hub) = pintle.url_and_hub();
    assert_eq!(url, format!("https://{}", hub.address));

    let curl = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--cacert"])
        .arg(authority.ca_file())
        .arg("-w")
        .arg(" %{http_code} %{http_version} %{ssl_verify_result}")
        .arg(format!("https://127.0.0.1:{}/health", hub.address.port()))
        .output()
        .expect("curl is installed (Debian: apt-get install curl)");
    let said = String::from_utf8_lossy(&curl.stdout);
    assert!(
        said.ends_with(" 200 1.1 0"),
        "{said}{}",
        String::from_utf8_lossy(&curl.stderr)
    );

    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    // Two that make a connection for each request, and two that keep theirs.
    let callers: Vec<_> = [0, 0, 4, 4]
        .into_iter()
        .map(|kept| {
            let address = format!("https://{NAME}:{}/", hub.address.port());
            runtime().spawn(load(
                authority.client(kept),
                address,
                hub.token.clone(),
                Arc::clone(&stop),
                Arc::clone(&asked),
            ))
        })
        .collect();
    eventually("requests go through", SOON, || asked.load(Ordering::Relaxed) > 20);
    assert_eq!(authority.shown(hub.address), first.der());

    second.put(&place);
    eventually("the changed file is seen without a signal", SOON, || {
        authority.shown(hub.address) == second.der()
    });
    third.put(&place);
    pintle.signal(Signal::HUP);
    eventually("SIGHUP makes it look at once", Duration::from_secs(5), || {
        authority.shown(hub.address) == third.der()
    });
    // A file that is none is refused, and the one in use stays.
    std::fs::write(&place.cert, "nothing").unwrap();
    pintle.signal(Signal::HUP);
    eventually("it says so", SOON, || {
        pintle.log().contains("the configuration was not changed")
    });
    assert_eq!(authority.shown(hub.address), third.der());

    // A run takes the same way.
    let url = looker.offer(Download::made(&Document::lite("tls", 500)));
    let execute = Execute::new("rudder_event", &gateway.url(), "key-of-the-source", Delivery::Url(url));
    let answer = runtime().block_on(async {
        let response = authority
            .client(0)
            .post(format!(
                "https://{NAME}:{}/actions/rudder_event/execute",
                hub.address.port()
            ))
            .header("Authorization", format!("Token token=\"{}\"", hub.token))
            .body(execute.body().to_string())
            .send()
            .await
            .unwrap();
        response.text().await.unwrap()
    });
    assert!(answer.contains("\"success\":true"), "{answer}");
    eventually("its rows arrive", SOON, || gateway.accepted() == 500);

    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        runtime().block_on(caller).expect("no request failed");
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked > 100, "{asked} requests");
    eprintln!("{asked} requests while the certificate was exchanged twice, none failed");
}

#[test]
fn a_pair_that_is_none_is_refused_at_the_start() {
    let authority = Authority::new();
    let (one, two) = (authority.issue("one", 30), authority.issue("two", 30));
    let place = Place::new();
    place.file(
        "pintle.toml",
        &format!(
            "[hub]\nlisten = \"127.0.0.1:0\"\ntls_cert_file = {:?}\ntls_key_file = {:?}\n[admin]\nlisten = \"\"\n",
            one.cert, two.key
        ),
    );
    for verb in ["serve", "check"] {
        let ran = place.run(&[verb]);
        assert_eq!(ran.code, 2, "{verb}: {}", ran.all());
        let lines: Vec<_> = ran.talk.lines().filter(|line| line.starts_with("error:")).collect();
        assert!(
            matches!(lines[..], [line] if line.contains("hub.tls_key_file") && line.contains("does not belong to")),
            "{verb}: {}",
            ran.all()
        );
    }
    assert!(!place.path().join("pintle-data").exists(), "nothing was touched");
    let ran = place.run(&["doctor", "--json"]);
    assert_eq!(ran.code, 1);
    let checks = ran.json();
    let found = checks
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["check"] == "certificate");
    assert_eq!(found.unwrap()["status"], "error");
}

#[test]
fn an_expired_certificate_and_one_that_soon_will_be_are_spoken_of() {
    let authority = Authority::new();
    let looker = Looker::start();
    for (name, days, in_log, in_doctor) in [
        ("expired", -1, "the certificate has expired", "error"),
        ("soon", 10, "the certificate is to be renewed", "warning"),
    ] {
        let pair = authority.issue(name, days);
        let pintle = Pintle::start(with_tls(Config::for_looker(&looker), &pair));
        eventually("the log says it", SOON, || {
            let log = pintle.log();
            log.contains(in_log) && log.contains("P0040")
        });
        let output = pintle.run(&["doctor", "--json"]);
        assert_eq!(output.status.code(), Some(i32::from(in_doctor == "error")));
        let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let status = |name: &str| {
            let check = checks.as_array().unwrap().iter().find(|check| check["check"] == name);
            check.unwrap_or_else(|| panic!("no {name} in {checks}"))["status"].clone()
        };
        assert_eq!(status("certificate_expiry"), in_doctor, "{checks}");
        assert_eq!(
            status("certificate_chain"),
            if days < 0 {
                status("certificate_chain")
            } else {
                "warning".into()
            }
        );
        assert_eq!(status("hub.listen"), "ok", "in use, and ours: {checks}");
    }
    let fresh = authority.issue("fresh", 30);
    let pintle = Pintle::start(with_tls(Config::for_looker(&looker), &fresh));
    assert!(!pintle.log().contains("P0040"));
}
