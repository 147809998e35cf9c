//! Where a run goes: the named destination that the schedule's form chose, else the action's own settings (the admin's
//! params, or the Looker user's attributes in their place). Pure.

use super::list::{SERVER_URL, WRITE_KEY};
use super::origin::{OriginError, Origins};
use super::request::Request;
use crate::config::NamedDestination;
use crate::event::{Destination, DestinationId, WriteKey};

const MAX_URL_BYTES: usize = Destination::MOST_URL_BYTES;

/// The form's field.
pub(super) const FIELD: &str = "destination";

/// Why there is no destination. The text is for whoever set up the action or the schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DestinationError {
    #[error(
        "The destination \"{}\" is not one of this hub's: {known}. Choose another in the schedule, or have it configured again.",
        name.chars().take(100).flat_map(char::escape_debug).collect::<String>()
    )]
    Unknown { name: String, known: String },
    #[error(
        "The destination \"{}\" is not one of this hub's: none is configured here. Save the schedule again without a destination, so that the action's own settings count, or have it configured under [[destinations]].",
        name.chars().take(100).flat_map(char::escape_debug).collect::<String>()
    )]
    NoneNamed { name: String },
    #[error(
        "The action's setting {param} is empty. An admin sets it in Looker under Admin > Actions (or as the Looker user attribute that the hub names)."
    )]
    Missing { param: &'static str },
    #[error("Choose a destination: the action has no {param} of its own. Known: {known}.")]
    NotChosen { param: &'static str, known: String },
    #[error("The action's setting rudder_server_url is not good: {0}.")]
    Url(#[from] OriginError),
    #[error(
        "The action's setting rudder_server_url has a query or fragment. It is the data plane's URL alone, like https://rudder.example.com."
    )]
    NotAPlainUrl,
    #[error(
        "The action's setting rudder_write_key holds characters that no write key has. Copy it again from the source's Setup tab."
    )]
    BadKey,
    #[error(
        "The action's setting rudder_server_url is longer than {MAX_URL_BYTES} bytes. It is the data plane's URL alone, like https://rudder.example.com."
    )]
    LongUrl,
}

impl DestinationError {
    /// Whether the form's field `destination` is at fault.
    pub(super) const fn is_of_field(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. } | Self::NoneNamed { .. } | Self::NotChosen { .. }
        )
    }
}

/// A destination, and what its own settings say of user ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) destination: Destination,
    pub(super) user_id_from_email: Option<bool>,
}

pub(super) fn choose(
    request: &Request,
    named: &[NamedDestination],
    planes: &Origins,
) -> Result<Chosen, DestinationError> {
    let known = || named.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(name) = request.form_param(FIELD).map(|name| name.trim().to_owned()) {
        let found = named.iter().find(|one| one.name == name);
        let one = found.ok_or_else(|| match named {
            [] => DestinationError::NoneNamed { name },
            _ => DestinationError::Unknown { name, known: known() },
        })?;
        return Ok(Chosen {
            destination: Destination {
                id: DestinationId(one.name.as_str().into()),
                name: Some(one.name.clone()),
                url: one.url.clone(),
                write_key: one.write_key.clone(),
            },
            user_id_from_email: one.user_id_from_email,
        });
    }
    let setting = |param: &'static str| {
        request.setting(param).ok_or_else(|| {
            if named.is_empty() {
                DestinationError::Missing { param }
            } else {
                DestinationError::NotChosen { param, known: known() }
            }
        })
    };
    let key = setting(WRITE_KEY)?;
    let url = setting(SERVER_URL)?;
    if key.len() > WriteKey::MOST_BYTES || key.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
        return Err(DestinationError::BadKey);
    }
    if url.len() > MAX_URL_BYTES {
        return Err(DestinationError::LongUrl);
    }
    let parsed = planes.data_plane(&url)?;
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(DestinationError::NotAPlainUrl);
    }
    let url = Destination::base_url(&url).to_owned();
    let write_key = WriteKey::new(key);
    Ok(Chosen {
        destination: Destination {
            id: DestinationId::of(&url, &write_key),
            name: None,
            url,
            write_key,
        },
        user_id_from_email: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::looker::request;
    use serde_json::json;

    fn request(data: serde_json::Value, form: serde_json::Value) -> Request {
        request::Request::from(json!({"data": data, "form_params": form}))
    }

    fn named() -> Vec<NamedDestination> {
        vec![NamedDestination {
            name: "marketing".to_owned(),
            url: "https://m.example".to_owned(),
            write_key: WriteKey::new("mk"),
            user_id_from_email: Some(true),
        }]
    }

    #[test]
    fn the_form_comes_before_the_settings() {
        let own = json!({"rudder_write_key": " key ", "rudder_server_url": "https://r.example//v1/batch/"});
        let any = Origins::default();
        let chosen = choose(&request(own.clone(), json!({})), &named(), &any)
            .unwrap()
            .destination;
        assert_eq!((chosen.url.as_str(), chosen.name), ("https://r.example", None));
        assert_eq!(chosen.id, DestinationId::of("https://r.example", &WriteKey::new("key")));
        let chosen = choose(
            &request(own.clone(), json!({"destination": "marketing"})),
            &named(),
            &any,
        )
        .unwrap();
        assert_eq!(
            (chosen.destination.id.as_str(), chosen.user_id_from_email),
            ("marketing", Some(true))
        );
        assert_eq!(chosen.destination.url, "https://m.example");
        let sales = request(own, json!({"destination": "sales"}));
        let unknown = choose(&sales, &named(), &any).unwrap_err();
        assert!(unknown.is_of_field() && unknown.to_string().contains("marketing"));
        let none = choose(&sales, &[], &any).unwrap_err();
        assert!(none.is_of_field());
        assert_eq!(
            none.to_string(),
            "The destination \"sales\" is not one of this hub's: none is configured here. Save the schedule again without a destination, so that the action's own settings count, or have it configured under [[destinations]]."
        );
    }

    #[test]
    fn settings_that_are_no_good() {
        let url = "https://r.example";
        let planes = Origins::new("k", &[url.to_owned()]).unwrap();
        let long = format!("{url}/{}", "x".repeat(MAX_URL_BYTES));
        for (data, named, expected) in [
            (
                json!({"rudder_write_key": "k", "rudder_server_url": long}),
                vec![],
                "longer than 2048 bytes",
            ),
            (json!(null), vec![], "rudder_write_key is empty"),
            (json!({"rudder_write_key": "k"}), vec![], "rudder_server_url is empty"),
            (json!({"rudder_write_key": ""}), named(), "Choose a destination"),
            (
                json!({"rudder_write_key": "k k", "rudder_server_url": url}),
                vec![],
                "characters that no write key",
            ),
            (
                json!({"rudder_write_key": "k", "rudder_server_url": "rudder"}),
                vec![],
                "not a URL",
            ),
            (
                json!({"rudder_write_key": "k", "rudder_server_url": "https://a:b@r.example"}),
                vec![],
                "user name",
            ),
            (
                json!({"rudder_write_key": "k", "rudder_server_url": "https://other.example"}),
                vec![],
                "[rudderstack] allowed_origins",
            ),
            (
                json!({"rudder_write_key": "k", "rudder_server_url": "https://r.example?x=1"}),
                vec![],
                "query or fragment",
            ),
        ] {
            let error = choose(&request(data, json!(null)), &named, &planes)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
