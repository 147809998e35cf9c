//! The pintle that serves from this store, where one does: whether it answers, and what it says of the destinations that
//! only it knows, since Looker's settings brought them. No store is opened.

use super::Check;
use crate::admin::views::{DestinationStatus, Probed};
use crate::cli::Expected;
use crate::cli::client::{self, Client};
use crate::config::Config;

/// No more destinations than these are asked after.
const MOST: usize = 50;

/// Whether one runs, and the checks.
pub(super) fn checks(config: &Config) -> (bool, Vec<Check>) {
    const NAME: &str = "server";
    let client = match Client::of_server(config) {
        Ok(Some(client)) => client,
        Ok(None) => return (false, vec![Check::ok(NAME, "no pintle serves from this store now")]),
        Err(error) => {
            return (
                true,
                vec![Check::error(NAME, error.to_string(), "its log says what it waits for")],
            );
        }
    };
    let mut checks = vec![Check::ok(NAME, "a pintle serves from this store")];
    match unnamed(&client, config) {
        Ok(found) => checks.extend(found),
        Err(error) => checks.push(Check::warning(
            "destinations",
            format!("the server does not say which it knows: {error}"),
            "`pintle destinations list`",
        )),
    }
    (true, checks)
}

/// Those that stand in no configuration; the others are asked by this process.
fn unnamed(client: &Client, config: &Config) -> Result<Vec<Check>, Expected> {
    let all: Vec<DestinationStatus> = client.get(&client::plain(&["destinations"]))?;
    let configured = |one: &DestinationStatus| config.destinations.iter().any(|named| named.name == one.id.as_str());
    let mut checks = Vec::new();
    for one in all.iter().filter(|one| !configured(one)).take(MOST) {
        let path = client::plain(&["destinations", one.id.as_str(), "probe"]);
        let probed: Probed = client.post(&path, &serde_json::Map::new())?;
        let (name, detail) = (
            format!("destination {}", one.id),
            format!("{}: {}", one.url, probed.detail),
        );
        checks.push(if probed.ok {
            Check::ok(name, detail)
        } else {
            Check::warning(
                name,
                detail,
                format!(
                    "look at `pintle destinations list`, and at the action's settings in Looker; {}",
                    crate::cli::format::waiting(one.backlog.events)
                ),
            )
        });
    }
    Ok(checks)
}
