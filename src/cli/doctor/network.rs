//! What is on the other side of the network: Looker's origins (a `HEAD`, no download), each configured destination (the
//! empty batch, which stores nothing), where alerts go, the public URL while pintle runs, and their clocks.

use std::time::Duration;

use futures_util::future::join_all;
use url::Url;

use super::Check;
use crate::config::{Config, NamedDestination};
use crate::event::{Code, Timestamp};
use crate::looker::{Reach, public_url};
use crate::rudderstack::{Client, Hold, Probe, http_date};
use crate::server::destination_of;

/// Nobody waits for one check any longer.
const PATIENCE: Duration = Duration::from_secs(8);
/// Clocks may differ by this much.
const MOST_SKEW: i64 = 60_000;

/// What a look at another machine gave: the check, and its clock less ours in milliseconds.
struct Seen {
    check: Check,
    skew: Option<i64>,
}

impl From<Check> for Seen {
    fn from(check: Check) -> Self {
        Self { check, skew: None }
    }
}

pub(super) async fn checks(config: &Config, running: bool) -> Vec<Check> {
    let (origins, destinations, others) = tokio::join!(lookers(config), destinations(config), others(config, running),);
    let mut checks = Vec::new();
    let mut skews = Vec::new();
    for Seen { check, skew } in origins.into_iter().chain(destinations).chain(others) {
        skews.extend(skew.map(|skew| (check.check.clone(), skew)));
        checks.push(check);
    }
    checks.extend(clocks(&skews));
    checks
}

async fn lookers(config: &Config) -> Vec<Seen> {
    if config.looker.allowed_origins.is_empty() {
        return vec![
            Check::warning(
                "looker",
                "looker.allowed_origins is empty: every download is refused",
                "add the origin that Looker's download URLs have, such as \"https://looker.corp.example:9999\"",
            )
            .into(),
        ];
    }
    let reach = match Reach::new(&config.looker) {
        Ok(reach) => reach,
        Err(error) => {
            return vec![Check::error("looker", error.to_string(), "mend looker.ca_file").into()];
        }
    };
    join_all(
        config
            .looker
            .allowed_origins
            .iter()
            .map(|origin| looker(&reach, origin)),
    )
    .await
}

async fn looker(reach: &Reach, origin: &str) -> Seen {
    let name = format!("looker {origin}");
    match reach.ask(&format!("{origin}/"), PATIENCE).await {
        Ok(reached) => Seen {
            check: Check::ok(name, format!("it answers ({})", reached.status)),
            skew: reached.date.as_deref().and_then(skew),
        },
        Err(why) => {
            let hint = if why.contains("certificate") {
                "downloads would fail: where a private CA signed it, set looker.ca_file to that CA's certificate"
            } else {
                "downloads would fail: is the origin right, is Looker up, does a firewall or proxy stand between?"
            };
            Check::error(name, why, hint).into()
        }
    }
}

async fn destinations(config: &Config) -> Vec<Seen> {
    if config.destinations.is_empty() {
        return vec![
            Check::ok(
                "destinations",
                "none is configured: each action's settings in Looker hold URL and write key, and its form tests them",
            )
            .into(),
        ];
    }
    // Reads the CA file and the system's roots.
    let client = match Client::new(&config.rudderstack) {
        Ok(client) => client,
        Err(error) => {
            return vec![Check::error("destinations", error.to_string(), "mend [rudderstack]").into()];
        }
    };
    join_all(config.destinations.iter().map(|named| destination(&client, named))).await
}

async fn destination(client: &Client, named: &NamedDestination) -> Seen {
    let name = format!("destination {}", named.name);
    let connection = client.connection(&destination_of(named));
    let probe = connection.probe(PATIENCE).await;
    Seen {
        check: judged(name, &named.url, probe),
        skew: connection.clock_skew(),
    }
}

fn judged(name: String, url: &str, probe: Probe) -> Check {
    match probe {
        Probe::Good => Check::ok(name, format!("{url} takes its write key")),
        Probe::Refused { hold, words } => {
            let (code, hint) = match hold {
                Hold::WriteKey => (
                    Code::HeldForKey,
                    "the write key is wrong: copy it from the source's Setup page in RudderStack",
                ),
                Hold::SourceDisabled => (Code::HeldForKey, "the source is disabled: enable it in RudderStack"),
                _ => (
                    Code::HeldForAddress,
                    "the data plane's URL is wrong, or something else answers there",
                ),
            };
            Check::error(
                name,
                format!("{url} refuses: {words}"),
                format!("{hint} (`pintle explain {code}`)"),
            )
        }
        Probe::Failed { words, .. } => Check::warning(
            name,
            format!("{url} cannot be asked: {words}"),
            "events wait until it can: is the URL right, does the gateway run, does a firewall stand between?",
        ),
    }
}

/// Where alerts go, and whether the public URL leads here.
async fn others(config: &Config, running: bool) -> Vec<Seen> {
    // As a stranger would: with the system's roots alone.
    let stranger = Reach::new(&crate::config::Looker {
        ca_file: None,
        ..config.looker.clone()
    });
    let Ok(stranger) = stranger else {
        return Vec::new();
    };
    let mut seen = Vec::new();
    // A webhook's URL is a credential, all but its origin.
    if let Ok(url) = Url::parse(config.alerts.url.expose()) {
        let origin = url.origin().ascii_serialization();
        let check = match stranger.ask(&format!("{origin}/"), PATIENCE).await {
            Ok(_) => Check::ok("alerts", format!("{origin} answers; nothing was posted")),
            Err(why) => Check::warning(
                "alerts",
                format!("{origin}: {why}"),
                "alerts would not arrive: see alerts.url and the way there",
            ),
        };
        seen.push(check.into());
    }
    if let Ok(url) = public_url(&config.hub)
        && running
    {
        let check = match stranger.ask(&format!("{url}/health"), PATIENCE).await {
            Ok(reached) if reached.status == 200 => Check::ok("public_url_leads_here", format!("{url}/health answers")),
            Ok(reached) => Check::warning(
                "public_url_leads_here",
                format!("{url}/health answers {}", reached.status),
                "does the proxy pass this path on to hub.listen?",
            ),
            Err(why) => Check::warning(
                "public_url_leads_here",
                format!("{url}: {why}"),
                "from here it cannot be called, perhaps from Looker: try `curl` there",
            ),
        };
        seen.push(check.into());
    }
    seen
}

fn skew(date: &str) -> Option<i64> {
    Some(http_date(date)?.0 - Timestamp::now().0)
}

/// One check for all clocks: the farthest one is named.
fn clocks(skews: &[(String, i64)]) -> Option<Check> {
    const NAME: &str = "clock_skew";
    let (whose, skew) = skews.iter().max_by_key(|(_, skew)| skew.unsigned_abs())?;
    let seconds = skew.abs() / 1000;
    if skew.abs() <= MOST_SKEW {
        return Some(Check::ok(
            NAME,
            format!(
                "at most {} s against {}",
                seconds.max(1),
                crate::cli::format::counted(skews.len() as u64, "other clock")
            ),
        ));
    }
    let ahead = if *skew > 0 { "behind" } else { "ahead of" };
    Some(Check::warning(
        NAME,
        format!("this machine's clock is {seconds} s {ahead} that of {whose}"),
        "RudderStack corrects times by it, and certificates depend on it: let the system keep its clock by NTP (`timedatectl`)",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::rudderstack::Failure;

    #[test]
    fn clocks_are_compared_with_the_farthest() {
        let skews =
            |list: &[i64]| -> Vec<(String, i64)> { list.iter().map(|skew| (format!("at {skew}"), *skew)).collect() };
        assert_eq!(clocks(&[]), None);
        assert_eq!(clocks(&skews(&[-900, 59_999])).unwrap().status, Status::Ok);
        let behind = clocks(&skews(&[0, 61_000, -100])).unwrap();
        assert_eq!(behind.status, Status::Warning);
        assert!(
            behind.detail.contains("61 s behind that of at 61000"),
            "{}",
            behind.detail
        );
        assert!(clocks(&skews(&[-90_000])).unwrap().detail.contains("90 s ahead of"));
        let now = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        assert!(skew(&now).unwrap().abs() < 5_000, "{now}");
    }

    #[test]
    fn a_gateway_that_is_away_is_no_error_and_a_wrong_key_is() {
        let judged = |probe| judged("d".to_owned(), "https://r.example", probe);
        assert_eq!(judged(Probe::Good).status, Status::Ok);
        let wrong = judged(Probe::Refused {
            hold: Hold::WriteKey,
            words: "401: invalid write key".to_owned(),
        });
        assert!(wrong.status == Status::Error && wrong.hint.unwrap().contains("P0001"));
        let away = judged(Probe::Failed {
            failure: Failure::Connect,
            words: "refused".to_owned(),
        });
        assert_eq!(away.status, Status::Warning);
    }
}
