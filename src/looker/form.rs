//! The form of an action: its fields, and where wrong settings are first reported.

use std::sync::Arc;

use serde_json::{Value, json};

use super::destination::{self, DestinationError};
use super::places::{Crowded, Places, Who};
use super::request::Request;
use super::seams::Probe;
use super::settings::{Limits, Settings};
use crate::event::{Action, Destination};

/// Forms that wait for their turn to ask.
const MAX_WAITING: usize = 64;

/// The fields: `event` for track, and with named destinations a choice of them.
pub(super) fn fields(action: Action, names: &[&str]) -> Vec<Value> {
    let mut fields = Vec::new();
    if action == Action::Track {
        fields.push(json!({
            "name": "event",
            "label": "Event",
            "description": "The name of the event that each row becomes.",
            "type": "string",
            "required": true,
        }));
    }
    if !names.is_empty() {
        let own = json!({"name": "", "label": "The action's own settings"});
        let named = names.iter().map(|name| json!({"name": name, "label": name}));
        fields.push(json!({
            "name": destination::FIELD,
            "label": "Send to",
            "description": "The RudderStack source that gets the rows.",
            "type": "select",
            "default": "",
            "options": std::iter::once(own).chain(named).collect::<Vec<_>>(),
            "required": false,
        }));
    }
    fields
}

/// Asks data planes for one form. Who finds all places taken does without.
pub(super) struct Asker<'a> {
    pub(super) probe: &'a dyn Probe,
    pub(super) places: &'a Arc<Places>,
    pub(super) who: &'a Who,
}

impl Asker<'_> {
    async fn ask(&self, destination: Destination) -> Result<(), String> {
        let Ok(mut ticket) = self.places.queue(self.who, MAX_WAITING) else {
            return Ok(());
        };
        match ticket.place().await {
            Ok(_place) => self.probe.probe(destination).await,
            Err(Crowded) => Ok(()),
        }
    }
}

/// The whole answer. The settings are checked where there are any: first by looking, then by asking the data plane.
pub(super) async fn form(
    settings: &Settings,
    limits: &Limits,
    asker: Asker<'_>,
    action: Action,
    request: Request,
) -> Value {
    let names: Vec<&str> = settings.named.iter().map(|one| one.name.as_str()).collect();
    let mut form = json!({"fields": fields(action, &names)});
    let wanted = request.has_settings() || request.form_param(destination::FIELD).is_some();
    let chosen = destination::choose(&request, &settings.named, &settings.planes);
    // It may be large as a value, and the probe takes its time.
    drop(request);
    let error = match chosen {
        _ if !wanted => None,
        // The dialog has just been opened: nothing is chosen yet.
        Err(DestinationError::NotChosen { .. }) => None,
        Err(error) => Some(error.to_string()),
        // Who is slow to answer is not wrong: rows would wait for it.
        Ok(chosen) => match tokio::time::timeout(limits.probe_timeout, asker.ask(chosen.destination)).await {
            Ok(Err(wrong)) => Some(wrong),
            Ok(Ok(())) | Err(_) => None,
        },
    };
    if let (Some(error), Some(form)) = (error, form.as_object_mut()) {
        form.insert("error".to_owned(), error.into());
    }
    form
}
