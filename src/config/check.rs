//! What only several keys together can be wrong in.

use url::Url;

use super::problem::{Place, Problem};
use super::reading::Reading;

pub(super) fn together(reading: &mut Reading) {
    tls_is_whole(reading);
    public_url_is_known(reading);
    listeners_differ(reading);
    destinations_are_allowed(reading);
    warn_of_the_open(reading);
}

/// Whether the keys themselves were fine: nothing is said twice.
fn right(reading: &Reading, keys: &[&str]) -> bool {
    keys.iter().all(|key| !reading.wrong.contains(*key))
}

fn tls_is_whole(reading: &mut Reading) {
    const CERT: &str = "hub.tls_cert_file";
    const KEY: &str = "hub.tls_key_file";
    if !right(reading, &[CERT, KEY]) {
        return;
    }
    let hub = &reading.config.hub;
    let (given, missing) = match (&hub.tls_cert_file, &hub.tls_key_file) {
        (Some(_), None) => (CERT, KEY),
        (None, Some(_)) => (KEY, CERT),
        _ => return,
    };
    let place = reading.place(given);
    reading.error(
        place,
        given,
        format!("needs {missing} beside it; give both, or none and a proxy in front"),
    );
}

fn public_url_is_known(reading: &mut Reading) {
    if !right(reading, &["hub.listen", "hub.public_url"]) {
        return;
    }
    let hub = &reading.config.hub;
    if hub.listen.ip().is_unspecified() && hub.public_url.is_empty() {
        let message = format!(
            "{} is a wildcard, which Looker cannot call; give hub.public_url, such as \"https://pintle.corp.example\", or listen on an address",
            hub.listen
        );
        let place = reading.place("hub.listen");
        reading.error(place, "hub.listen", message);
    }
}

fn listeners_differ(reading: &mut Reading) {
    if !right(reading, &["hub.listen", "admin.listen"]) {
        return;
    }
    let hub = reading.config.hub.listen;
    if hub.port() != 0 && reading.config.admin.listen == Some(hub) {
        match reading.place("admin.listen") {
            // What was written is the hub's: that has a line.
            Place::Default => {
                let place = reading.place("hub.listen");
                let message = format!(
                    "{hub} is also admin.listen, which has it where nothing else is set; give one of them a port of its own, or admin.listen \"\" to turn it off"
                );
                reading.error(place, "hub.listen", message);
            }
            place => {
                let message = format!("{hub} is also hub.listen; give it a port of its own, or \"\" to turn it off");
                reading.error(place, "admin.listen", message);
            }
        }
    }
}

fn destinations_are_allowed(reading: &mut Reading) {
    if !right(reading, &["destinations", "rudderstack.allowed_origins"]) {
        return;
    }
    let allowed = &reading.config.rudderstack.allowed_origins;
    if allowed.is_empty() {
        return;
    }
    let mut refused = Vec::new();
    for destination in &reading.config.destinations {
        let Ok(url) = Url::parse(&destination.url) else {
            continue;
        };
        let origin = url.origin().ascii_serialization();
        if !allowed.contains(&origin) {
            refused.push(format!(
                "destination \"{}\" is at {origin}, which is not in the list; add it, or leave the list empty",
                destination.name
            ));
        }
    }
    let place = reading.place("rudderstack.allowed_origins");
    for message in refused {
        reading.error(place.clone(), "rudderstack.allowed_origins", message);
    }
}

fn warn_of_the_open(reading: &mut Reading) {
    if let Some(listen) = reading.config.admin.listen
        && !listen.ip().is_loopback()
    {
        reading.warnings.push(Problem {
            place: reading.place("admin.listen"),
            key: "admin.listen".to_owned(),
            message: format!(
                "{listen} can be reached from other machines, and its token travels in clear; put a proxy with TLS in front"
            ),
        });
    }
    for (key, secret) in [
        ("hub.secret", &reading.config.hub.secret),
        ("admin.token", &reading.config.admin.token),
    ] {
        if !secret.is_empty() && secret.expose().len() < 16 {
            reading.warnings.push(Problem {
                place: reading.place(key),
                key: key.to_owned(),
                message: "is shorter than 16 characters and can be guessed; leave it empty to have one made".to_owned(),
            });
        }
    }
}
