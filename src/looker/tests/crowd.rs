//! What one sender may take of memory and places, over real HTTP.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::bench::*;
use crate::event::Secret;
use crate::looker::answer::Answer;

/// A body of which only so much comes, on a connection that stays open.
async fn stalled(bench: &Bench, route: &str, token: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    let head = format!(
        "POST {PREFIX}/actions/rudder_event/{route} HTTP/1.1\r\nhost: x\r\nauthorization: Token token=\"{token}\"\r\ncontent-length: 900000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn bodies_that_never_end_take_neither_the_memory_nor_the_places_of_others() {
    let bench = bench(|_, limits| {
        limits.attachment_memory = 1000;
        limits.max_spools = 4;
        limits.max_unread_bytes = 2_000_000;
        limits.unread_patience = Duration::from_millis(100);
    })
    .await;
    let tokens = crate::looker::Tokens::new(&crate::event::Secret::new("the hub's secret"), &[]).unwrap();
    let greedy = tokens.mint([1; 32]);
    let mut open = Vec::new();
    for route in ["execute", "form", "execute", "form"] {
        open.push(stalled(&bench, route, &greedy, &format!("{{\"x\":\"{}", "y".repeat(300_000))).await);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let large = {
        let mut large = body(text("a\nend\n"));
        large["more"] = "z".repeat(400_000).into();
        large
    };
    // Its own large requests are refused, its small ones and all of another's are taken.
    let call = async |body: &Value| {
        let authorization = format!("Token token=\"{greedy}\"");
        let body = pieces(std::iter::once(Bytes::from(body.to_string())));
        let path = format!("{PREFIX}/actions/rudder_event/execute");
        bench.call("POST", &path, ("authorization", &authorization), body).await
    };
    let said = call(&large).await;
    assert!(
        !said.success() && said.message().contains("send it again"),
        "{}",
        said.text
    );
    assert_eq!(said.json()["looker"]["error"]["http_code"], 503);
    assert!(call(&body(text("b\nend\n"))).await.success());
    assert!(bench.execute("1", &large).await.success());
    drop(open);

    // The same with attachments that come in drops: half of the places are left.
    let mut open = Vec::new();
    for _ in 0..6 {
        let drops = format!("{{\"attachment\":{{\"data\":\"{}", "y".repeat(270_000));
        open.push(stalled(&bench, "execute", &greedy, &drops).await);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let long = format!("{}end\n", "row\n".repeat(1000));
    let said = bench.execute("2", &body(text(&long))).await;
    assert!(said.success(), "{}", said.text);
}

#[tokio::test]
async fn what_a_run_would_keep_while_it_waits_is_bounded() {
    let bench = bench(|_, _| {}).await;
    let mut request = body(text("a\nend\n"));
    request["scheduled_plan"]["query"] = json!({"vis_config": {"hidden_fields": vec!["h".repeat(235); 400]}});
    let said = bench.execute("1", &request).await;
    assert!(
        !said.success() && said.message().contains("hides more than"),
        "{}",
        said.text
    );
    assert_eq!(bench.memory.state.lock().unwrap().failed.len(), 1, "it is listed");
}

/// The one that has the most waiting is sent away before its task had a turn.
#[tokio::test]
async fn a_run_that_is_sent_away_before_it_has_asked_is_told_that_it_is_crowded() {
    const NOWHERE: &str = "http://127.0.0.1:1";
    let bench = bench(|config, limits| {
        config.hub.max_runs = 1;
        config.hub.max_runs_per_token = 0;
        config.looker.allowed_origins = vec![NOWHERE.into()];
        limits.max_waiting = 2;
    })
    .await;
    bench.memory.close_gate();
    let other = crate::looker::Tokens::new(&Secret::new("the hub's secret"), &[])
        .unwrap()
        .mint([1; 32]);
    let call = |token: &str, webhook_id: &str| {
        let mut envelope = body(json!(null));
        envelope["scheduled_plan"]["download_url"] = format!("{NOWHERE}/x").into();
        let request = hyper::Request::builder()
            .method("POST")
            .uri(format!("{PREFIX}/actions/rudder_event/execute"))
            .header("authorization", format!("Token token=\"{token}\""))
            .header("x-looker-webhook-id", webhook_id)
            .body(pieces(std::iter::once(Bytes::from(envelope.to_string()))))
            .unwrap();
        let hub = bench.hub.clone();
        async move {
            let response = hub.handle(request, None).await;
            String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
        }
    };
    let opener = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        bench.memory.open_gate();
    };
    // On one thread all four are there before the first run's task begins.
    let calls = [
        call(&bench.token, "1"),
        call(&bench.token, "2"),
        call(&bench.token, "3"),
        call(&other, "4"),
    ];
    let (said, ()) = tokio::join!(futures_util::future::join_all(calls), opener);
    let crowded = Answer::crowded().message;
    let sent_away: Vec<bool> = said.iter().map(|said| said.contains(&crowded)).collect();
    assert_eq!(sent_away, [false, false, true, false], "{said:?}");
    let listed = bench.memory.state.lock().unwrap();
    assert!(listed.failed.iter().any(|(_, text)| *text == crowded));
}
