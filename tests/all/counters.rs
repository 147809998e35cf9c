//! The counters of the metrics, and `status`, over a stop and a start.

use std::time::Duration;

use crate::peers::documents::Document;
use crate::peers::eventually;
use crate::peers::http::Request;
use crate::peers::looker::Download;
use crate::peers::pintle::Pintle;
use crate::stage::{SOON, Stage};

/// What is told may be a moment old.
fn comes_to(pintle: &Pintle, series: &str, value: u64) {
    eventually(&format!("{series} is {value}"), SOON, || {
        metric(pintle, series) == Some(value)
    });
}

fn metric(pintle: &Pintle, series: &str) -> Option<u64> {
    let text = Request::new("GET", "/metrics").ask(pintle.admin()).unwrap().text();
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn what_was_counted_goes_on_after_a_restart() {
    let named = "[[destinations]]\nname = \"quiet\"\nurl = \"http://127.0.0.1:9\"\nwrite_key = \"key-of-the-quiet\"\n";
    let mut stage = Stage::set_with(|config| config.more(named));
    stage.gateway.change(|settings| {
        settings.poison = Some(std::sync::Arc::new(|text| text.contains("\"cut-9\"")));
    });
    comes_to(&stage.pintle, "pintle_runs_maybe_truncated_total", 0);
    let run = |label: &str, rows| Download::made(&Document::lite(label, rows).bad_row(7));
    for (label, rows) in [("cut", 5_000), ("whole", 20)] {
        let execute = stage.download(run(label, rows)).webhook_id(label);
        assert!(stage.hub.execute(&execute).success);
    }
    eventually("both are delivered", SOON, || {
        ["cut", "whole"]
            .iter()
            .all(|label| stage.pintle.run_of(label)["state"] == "delivered")
    });
    comes_to(&stage.pintle, "pintle_runs_maybe_truncated_total", 1);
    let id = stage.pintle.run_of("cut")["destination"].as_str().unwrap().to_owned();
    let total = |name: &str| format!("pintle_dead_letters_total{{destination=\"{name}\"}}");
    // A row of each run that became no event, and an event that was refused.
    comes_to(&stage.pintle, &total(&id), 3);
    comes_to(&stage.pintle, &total("quiet"), 0);

    assert!(stage.pintle.terminate(Duration::from_secs(40)).success());
    let history = |pintle: &Pintle| pintle.json(&["status"])["store"]["history_bytes"].as_u64();
    let offline = history(&stage.pintle);
    assert!(offline.is_some_and(|bytes| bytes > 0), "{offline:?}");
    stage.pintle.serve();
    assert_eq!(history(&stage.pintle), offline);
    assert_eq!(metric(&stage.pintle, &total(&id)), Some(3), "from the start on");
    assert_eq!(metric(&stage.pintle, &total("quiet")), Some(0));
}
