//! Posts alerts, one after the other. The URL may hold a secret, so it is in no log line.

use std::time::Duration;

use reqwest::StatusCode;
use tokio::sync::mpsc;

use super::Alert;
use crate::event::Code;
use crate::rudderstack::{ClientError, tls_settings};

/// Waiting before each attempt: after the last one the alert is only in the log.
const WAITS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
];
/// One attempt.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn client() -> Result<reqwest::Client, ClientError> {
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls_settings(None)?)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .user_agent(concat!("pintle/", env!("CARGO_PKG_VERSION")))
        .build()?)
}

/// Until the last sender is gone.
pub(super) async fn post_each(client: reqwest::Client, url: String, mut waiting: mpsc::Receiver<Alert>) {
    while let Some(alert) = waiting.recv().await {
        if let Err(problem) = post(&client, &url, &alert, &WAITS).await {
            tracing::error!(
                event = "alert_failed",
                code = Code::AlertFailed.as_str(),
                what = alert.what,
                destination = alert.destination.as_ref().map(tracing::field::display),
                run = alert.run.map(tracing::field::display),
                %problem,
                "alerts.url did not accept an alert"
            );
        }
    }
}

async fn post(client: &reqwest::Client, url: &str, alert: &Alert, waits: &[Duration]) -> Result<(), String> {
    let body = serde_json::to_vec(alert).map_err(|error| error.to_string())?;
    let mut problem = String::new();
    for wait in waits {
        tokio::time::sleep(*wait).await;
        let request = client
            .post(url)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body.clone());
        match request.send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => {
                problem = format!("status {}", answer.status());
                if is_final(answer.status()) {
                    break;
                }
            }
            Err(error) => problem = error.without_url().to_string(),
        }
    }
    Err(problem)
}

/// Asking again gives the same answer.
fn is_final(status: StatusCode) -> bool {
    !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS && status != StatusCode::REQUEST_TIMEOUT
}

#[cfg(test)]
mod tests {
    use super::super::changes::Changes;
    use super::*;
    use crate::deliver::Notice;
    use crate::event::{DestinationId, Timestamp};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Answers each request with the next status; gives the bodies.
    async fn server(statuses: Vec<u16>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let mut bodies = Vec::new();
            for status in statuses {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = Vec::new();
                while !bytes.ends_with(b"}") {
                    assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
                }
                let text = String::from_utf8(bytes).unwrap();
                bodies.push(text.split_once("\r\n\r\n").unwrap().1.to_owned());
                let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            bodies
        });
        (url, task)
    }

    fn alert() -> Alert {
        Changes::default()
            .notice(&DestinationId("m".into()), &Notice::Free, Timestamp(0))
            .unwrap()
    }

    #[tokio::test]
    async fn it_is_tried_again_and_not_for_ever() {
        let client = client().unwrap();
        let (url, seen) = server(vec![500, 429, 200]).await;
        assert_eq!(post(&client, &url, &alert(), &[Duration::ZERO; 5]).await, Ok(()));
        let bodies = seen.await.unwrap();
        assert!(bodies.iter().all(|body| *body == bodies[0]));
        let body: serde_json::Value = serde_json::from_str(&bodies[0]).unwrap();
        assert_eq!(body["text"], "Deliveries to m go on.");

        let (url, seen) = server(vec![503, 503]).await;
        assert!(post(&client, &url, &alert(), &[Duration::ZERO; 2]).await.is_err());
        assert_eq!(seen.await.unwrap().len(), 2);
        let (url, seen) = server(vec![404]).await;
        let problem = post(&client, &url, &alert(), &[Duration::ZERO; 5]).await.unwrap_err();
        assert_eq!(seen.await.unwrap().len(), 1, "a revoked hook is not asked again");
        assert!(!problem.contains("/hook"), "{problem}");
    }
}
