//! What Looker is told of the actions: names, labels and params are the stock hub's, so that schedules survive the
//! change of the hub's URL. Static: no disk, no network. URLs come from the configured public URL alone.

use std::collections::BTreeMap;

use base64::Engine;
use serde_json::{Value, json};

use crate::event::Action;

/// What the list depends on.
#[derive(Debug, Clone, Default)]
pub(super) struct ListSettings {
    /// The hub's label.
    pub(super) label: String,
    /// What Looker calls, no trailing slash.
    pub(super) public_url: String,
    /// Param name to user attribute.
    pub(super) user_attributes: BTreeMap<String, String>,
    /// With named destinations no param is required.
    pub(super) named_destinations: bool,
}

/// The params of all actions, never renamed.
pub(super) const WRITE_KEY: &str = "rudder_write_key";
/// The other one.
pub(super) const SERVER_URL: &str = "rudder_server_url";

const ICON: &str = concat!(
    r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="6" fill="#143f5b"/>"##,
    r##"<circle cx="16" cy="16" r="8" fill="none" stroke="#fff" stroke-width="3"/><path d="M16 3v26" stroke="#fff" stroke-width="3"/></svg>"##
);

/// `{"label", "integrations"}`
pub(super) fn list(settings: &ListSettings, user_agent: Option<&str>) -> Value {
    let actions: Vec<Value> = Action::ALL
        .into_iter()
        .map(|action| definition(settings, action, user_agent))
        .collect();
    json!({"label": settings.label, "integrations": actions})
}

/// One action's definition.
pub(super) fn definition(settings: &ListSettings, action: Action, user_agent: Option<&str>) -> Value {
    let name = action.looker_name();
    let base = format!("{}/actions/{name}", settings.public_url);
    let icon = base64::engine::general_purpose::STANDARD.encode(ICON);
    let format = if is_before_6_2(user_agent) {
        "json_detail"
    } else {
        "json_detail_lite_stream"
    };
    json!({
        "name": name,
        "label": label(action),
        "description": description(action),
        "url": format!("{base}/execute"),
        "form_url": format!("{base}/form"),
        "params": [
            param(settings, WRITE_KEY, "Rudder Write Key", "A write key for Rudder.", true),
            param(settings, SERVER_URL, "Rudder Server URL", "Rudder server endpoint URL for Rudder.", false),
        ],
        "required_fields": required_fields(action),
        "supported_action_types": ["query"],
        "supported_formats": [format],
        "supported_formattings": ["unformatted"],
        "supported_visualization_formattings": ["noapply"],
        "supported_download_settings": ["url"],
        "uses_oauth": false,
        "delegate_oauth": false,
        "icon_data_uri": format!("data:image/svg+xml;base64,{icon}"),
    })
}

const fn label(action: Action) -> &'static str {
    match action {
        Action::Identify => "Rudder Identify",
        Action::Group => "Rudder Group",
        Action::Track => "Rudder Track",
    }
}

const fn description(action: Action) -> &'static str {
    match action {
        Action::Identify => "Add traits via identify to your Rudder users.",
        Action::Group => "Add traits and / or users to your Rudder groups.",
        Action::Track => "Add traits via track to your Rudder users.",
    }
}

fn param(settings: &ListSettings, name: &str, label: &str, description: &str, sensitive: bool) -> Value {
    let mut param = json!({
        "name": name,
        "label": label,
        "description": description,
        "required": !settings.named_destinations,
        "sensitive": sensitive,
    });
    if let (Some(attribute), Some(param)) = (settings.user_attributes.get(name), param.as_object_mut()) {
        param.insert("user_attribute_name".to_owned(), attribute.as_str().into());
    }
    param
}

fn required_fields(action: Action) -> Value {
    let identity = json!({"any_tag": ["email", "user_id", "rudder_anonymous_id"]});
    match action {
        Action::Group => json!([{"tag": "rudder_group_id"}, identity]),
        Action::Identify | Action::Track => json!([identity]),
    }
}

/// `LookerOutgoingWebhook/7.3.00004561`: parts may be padded with zeros. What is not understood is taken for the newest.
fn is_before_6_2(user_agent: Option<&str>) -> bool {
    let version = user_agent.and_then(|agent| agent.trim().strip_prefix("LookerOutgoingWebhook/"));
    let mut parts = version.unwrap_or_default().split(['.', '-', ' ']);
    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
    match (number(), number()) {
        (Some(major), Some(minor)) => (major, minor) < (6, 2),
        (Some(major), None) => major < 6,
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ListSettings {
        ListSettings {
            label: "RudderStack".to_owned(),
            public_url: "https://hub.example/pintle".to_owned(),
            ..ListSettings::default()
        }
    }

    #[test]
    fn the_list_is_the_contracts() {
        let list = list(&settings(), Some("LookerOutgoingWebhook/24.0.1"));
        assert_eq!(list["label"], "RudderStack");
        let identity = json!({"any_tag": ["email", "user_id", "rudder_anonymous_id"]});
        let expected = [
            ("rudder_event", "Rudder Identify", json!([identity])),
            (
                "rudder_group",
                "Rudder Group",
                json!([{"tag": "rudder_group_id"}, identity]),
            ),
            ("rudder_track", "Rudder Track", json!([identity])),
        ];
        assert_eq!(list["integrations"].as_array().unwrap().len(), 3);
        for (action, (name, label, required)) in list["integrations"].as_array().unwrap().iter().zip(expected) {
            let mut action = action.clone();
            let object = action.as_object_mut().unwrap();
            let icon = object.remove("icon_data_uri").unwrap();
            assert!(icon.as_str().unwrap().starts_with("data:image/"));
            assert!(!object.remove("description").unwrap().as_str().unwrap().is_empty());
            for param in object["params"].as_array_mut().unwrap() {
                assert!(param.as_object_mut().unwrap().remove("description").is_some());
            }
            assert_eq!(
                action,
                json!({
                    "name": name, "label": label,
                    "url": format!("https://hub.example/pintle/actions/{name}/execute"),
                    "form_url": format!("https://hub.example/pintle/actions/{name}/form"),
                    "params": [
                        {"name": "rudder_write_key", "label": "Rudder Write Key", "required": true, "sensitive": true},
                        {"name": "rudder_server_url", "label": "Rudder Server URL", "required": true, "sensitive": false},
                    ],
                    "required_fields": required,
                    "supported_action_types": ["query"],
                    "supported_formats": ["json_detail_lite_stream"],
                    "supported_formattings": ["unformatted"],
                    "supported_visualization_formattings": ["noapply"],
                    "supported_download_settings": ["url"],
                    "uses_oauth": false, "delegate_oauth": false,
                })
            );
        }
    }

    #[test]
    fn attributes_and_named_destinations_change_the_params() {
        let settings = ListSettings {
            user_attributes: [(WRITE_KEY.to_owned(), "their_key".to_owned())].into(),
            named_destinations: true,
            ..settings()
        };
        let params = definition(&settings, Action::Track, None)["params"].clone();
        assert_eq!(params[0]["user_attribute_name"], "their_key");
        assert!(params[1].get("user_attribute_name").is_none());
        assert_eq!(
            (&params[0]["required"], &params[1]["required"]),
            (&json!(false), &json!(false))
        );
    }

    #[test]
    fn only_an_old_looker_gets_json_detail() {
        for (agent, old) in [
            (Some("LookerOutgoingWebhook/6.1.7"), true),
            (Some("LookerOutgoingWebhook/5.24"), true),
            (Some("LookerOutgoingWebhook/6.02.0001"), false),
            (Some("LookerOutgoingWebhook/7.3.00004561"), false),
            (Some("LookerOutgoingWebhook/24.18"), false),
            (Some("LookerOutgoingWebhook/"), false),
            (Some("LookerOutgoingWebhook/dev"), false),
            (Some("curl/5.0"), false),
            (None, false),
        ] {
            assert_eq!(is_before_6_2(agent), old, "{agent:?}");
        }
    }
}
