//! What Looker reads of a run over real HTTP: the words, the newlines before them, in one piece or behind the headers.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::bench::*;
use crate::event::Timestamp;
use crate::looker::Trouble;

#[tokio::test]
async fn what_looker_reads() {
    let bench = bench(|_, _| {}).await;
    let mut limited = body(text("a\nb\nend\n"));
    limited["scheduled_plan"]["query"] = json!({"limit": "2"});
    for (id, request, success, message) in [
        ("1", body(json!(null)), true, "0 rows accepted"),
        ("2", body(text("end\n")), true, "0 rows accepted"),
        (
            "3",
            body(text("a\ndead\nend\n")),
            true,
            "1 of 2 rows accepted; 1 kept as dead letters: row 2: row has no groupId",
        ),
        (
            "4",
            body(text("dead\nend\n")),
            false,
            "0 of 1 rows accepted; 1 kept as dead letters: row 1: row has no groupId",
        ),
        ("5", limited, true, "the query's limit: Looker may have cut the result"),
        ("6", body(text("a\nb\n")), false, "ended early, after 2 rows"),
        ("7", body(text("a\npanic\n")), false, "a defect of its own"),
        (
            "8",
            json!({"type": "dashboard", "data": body(json!(null))["data"]}),
            false,
            "takes the rows of a query",
        ),
        ("9", json!({}), false, "rudder_write_key is empty"),
    ] {
        let said = bench.execute(id, &request).await;
        assert_eq!(said.success(), success, "{id}: {}", said.text);
        assert!(said.message().contains(message), "{id}: {}", said.text);
        assert_eq!(said.json()["looker"]["refresh_query"], false);
        assert_eq!(said.json()["looker"].get("error").is_some(), !success);
    }
    assert!(
        bench
            .memory
            .state
            .lock()
            .unwrap()
            .failed
            .iter()
            .any(|(_, text)| text.contains("a defect of its own"))
    );
    let said = bench.execute("10", &body(text("refuse\n"))).await;
    assert_eq!(
        said.json()["looker"]["validation_errors"],
        json!({"event": "Event is required."})
    );

    bench.memory.state.lock().unwrap().trouble = Some(Trouble {
        what: "held".to_owned(),
        since: Timestamp(0),
        reason: "invalid write key".to_owned(),
    });
    let said = bench.execute("11", &body(text("a\nend\n"))).await;
    assert!(
        said.success()
            && said
                .message()
                .contains("is held since 1970-01-01T00:00:00.000Z: invalid write key")
    );
    bench.memory.state.lock().unwrap().full = Some("the store is full: raise store.max_bytes".to_owned());
    let said = bench.execute("12", &body(text("a\nend\n"))).await;
    assert!(!said.success() && said.message().contains("raise store.max_bytes"));
    assert!(bench.memory.last_failure().contains("raise store.max_bytes"));
    let said = bench
        .call(
            "POST",
            "/actions/rudder_event/execute",
            ("x", ""),
            pieces(std::iter::once(Bytes::from("{\"a\""))),
        )
        .await;
    assert!(!said.success() && said.message().contains("not JSON"));
}

#[tokio::test]
async fn newlines_keep_the_line_and_the_object_ends_it() {
    let bench = bench(|_, limits| limits.keep_alive = Duration::from_millis(20)).await;
    bench.memory.close_gate();
    let memory = bench.memory.clone();
    let opener = async move {
        tokio::time::sleep(Duration::from_millis(150)).await;
        memory.open_gate();
    };
    let request = body(text("a\nend\n"));
    let (said, ()) = tokio::join!(bench.execute("1", &request), opener);
    assert!(said.text.starts_with("\n\n\n"), "{:?}", said.text);
    assert!(said.success());
}

#[tokio::test]
async fn a_quick_answer_comes_in_one_piece_and_a_slow_one_behind_its_headers() {
    let bench = bench(|_, _| {}).await;
    let request = body(text("a\nend\n"));
    let mut whole = 0;
    // A busy machine may take its time over some.
    for number in 0..10 {
        let said = bench.execute(&format!("quick-{number}"), &request).await;
        assert!(said.success());
        whole += usize::from(
            said.headers
                .get("content-length")
                .is_some_and(|length| *length == said.text.len().to_string()),
        );
    }
    assert!(whole > 0, "all came in pieces");
    bench.memory.close_gate();
    let memory = bench.memory.clone();
    let opener = async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        memory.open_gate();
    };
    let (said, ()) = tokio::join!(bench.execute("slow", &request), opener);
    assert!(said.success());
    assert_eq!(said.headers["transfer-encoding"], "chunked");
}
