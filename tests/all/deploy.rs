//! What deploy/ holds is true to the program: settings, metrics, units.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::pintle::Place;
use crate::peers::documents::Document;
use crate::peers::gateway::{Gateway, Settings};
use crate::peers::http::Request;
use crate::peers::looker::{Delivery, Download, Execute, Looker};
use crate::peers::pintle::{Config, Pintle};
use crate::peers::tls::Authority;
use crate::peers::{eventually, runtime};
use crate::stage::SOON;

/// The metrics that users' dashboards rely on.
const METRICS: &[&str] = &[
    "pintle_runs_total",
    "pintle_rows_total",
    "pintle_runs_maybe_truncated_total",
    "pintle_events_stored_total",
    "pintle_events_delivered_total",
    "pintle_backlog_events",
    "pintle_backlog_bytes",
    "pintle_backlog_oldest_seconds",
    "pintle_delivery_attempts_total",
    "pintle_delivery_seconds",
    "pintle_dead_letters_total",
    "pintle_destination_up",
    "pintle_store_bytes",
    "pintle_store_free_bytes",
    "pintle_run_seconds",
    "pintle_dead_letters",
];

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).unwrap()
}

/// The words that begin with `pintle_`, without a histogram's endings.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("pintle_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
        .collect()
}

#[test]
fn alerts_and_dashboard_name_only_metrics_that_there_are() {
    let known: BTreeSet<&str> = METRICS.iter().copied().collect();
    let (alerts, dashboard) = (text("prometheus-alerts.yml"), text("grafana-dashboard.json"));
    serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
    let (of_alerts, of_dashboard) = (metrics_in(&alerts), metrics_in(&dashboard));
    // What a server with a certificate of its own says after a run.
    let authority = Authority::new();
    let looker = Looker::start();
    let gateway = Gateway::start(Settings::default());
    let pair = authority.issue("metrics", 30);
    let pintle = Pintle::start(
        Config::for_looker(&looker)
            .set("hub", "tls_cert_file", &format!("{:?}", pair.cert))
            .set("hub", "tls_key_file", &format!("{:?}", pair.key)),
    );
    let (_, hub) = pintle.url_and_hub();
    let execute = Execute::new(
        "rudder_event",
        &gateway.url(),
        "key",
        Delivery::Url(looker.offer(Download::made(&Document::lite("metrics", 10)))),
    );
    let answer = runtime().block_on(async {
        let url = format!("https://127.0.0.1:{}/actions/rudder_event/execute", hub.address.port());
        let call = authority
            .client(0)
            .post(url)
            .header("Authorization", format!("Token token=\"{}\"", hub.token));
        call.body(execute.body().to_string())
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    });
    assert!(answer.contains("\"success\":true"), "{answer}");
    eventually("it is delivered", SOON, || gateway.accepted() == 10);
    let text = Request::new("GET", "/metrics").ask(pintle.admin()).unwrap().text();
    let there: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert!(
        known.is_subset(&there),
        "the server lacks {:?}",
        known.difference(&there)
    );
    assert!(of_alerts.is_subset(&there), "{:?}", of_alerts.difference(&there));
    assert!(
        known.is_subset(&of_dashboard),
        "the dashboard lacks {:?}",
        known.difference(&of_dashboard)
    );
    assert!(of_dashboard.is_subset(&there), "{:?}", of_dashboard.difference(&there));
    match Command::new("promtool")
        .args(["check", "rules"])
        .arg(deploy("prometheus-alerts.yml"))
        .output()
    {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => eprintln!("SKIPPED in part: promtool is not installed (Debian: apt-get install prometheus)"),
    }
}

#[test]
fn the_packaged_configuration_is_good() {
    let place = Place::new();
    place.file("pintle.toml", &text("pintle.toml"));
    let ran = place.run(&["check"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(ran.data, "store.path = \"/var/lib/pintle\"\n", "all else is a default");
    // With what is commented out, too.
    let whole: String = text("pintle.toml")
        .lines()
        .skip(3)
        .map(|line| line.strip_prefix("# ").unwrap_or(line).to_owned() + "\n")
        .filter(|line| !line.contains("tls_") && !line.contains("ca_file"))
        .collect();
    place.file("marketing.key", "key");
    place.file(
        "pintle.toml",
        &whole.replace("/etc/pintle/marketing.key", "marketing.key"),
    );
    let ran = place.run(&["check"]);
    assert!(ran.code == 0 && ran.data.contains("marketing"), "{}", ran.all());
}

#[test]
fn the_container_sets_only_what_is_a_setting() {
    let containerfile = text("Containerfile");
    let mut place = Place::new();
    let mut variables = 0;
    for word in containerfile
        .split_whitespace()
        .filter(|word| word.starts_with("PINTLE_"))
    {
        if let Some((name, value)) = word.split_once('=') {
            place.variable(name, value.trim_matches('\''));
            variables += 1;
        }
    }
    assert!(variables >= 5, "{variables}");
    let ran = place.run(&["check", "--json"]);
    // The comment's own example gives the public URL that the wildcard needs.
    assert_eq!(ran.code, 0, "{}", ran.all());
    let json = ran.json();
    assert_eq!(json["warnings"], serde_json::json!([]), "{json}");
    assert_eq!(json["settings"]["store"]["path"], "/var/lib/pintle");
}

#[test]
fn systemd_takes_the_units() {
    let folder = tempfile::tempdir().unwrap();
    // The binary is not installed here.
    let unit = text("pintle.service").replace("/usr/bin/pintle", env!("CARGO_BIN_EXE_pintle"));
    std::fs::write(folder.path().join("pintle.service"), unit).unwrap();
    std::fs::copy(deploy("pintle.socket"), folder.path().join("pintle.socket")).unwrap();
    let analyze = |arguments: &[&str]| {
        Command::new("systemd-analyze")
            .args(arguments)
            .current_dir(folder.path())
            .output()
    };
    let Ok(verified) = analyze(&["verify", "./pintle.service", "./pintle.socket"]) else {
        eprintln!("SKIPPED: systemd-analyze is not installed (Debian: apt-get install systemd)");
        return;
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    let ours: Vec<_> = said.lines().filter(|line| line.contains("pintle")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{said}");
    let security = analyze(&["security", "--offline=true", "--threshold=20", "./pintle.service"]).unwrap();
    assert!(
        security.status.success(),
        "an exposure of more than 2.0: {}",
        String::from_utf8_lossy(&security.stdout)
    );
}
