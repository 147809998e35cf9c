//! What one execute asks for, decided from the request alone: refused at once where it can be, else an order for a run
//! with the delivery's identity. Pure.

use sha2::{Digest as _, Sha256};
use url::Url;

use super::answer::Answer;
use super::destination::{self, Chosen};
use super::flights::Digest;
use super::request::{Attachment, Request};
use super::seams::RunTerms;
use super::settings::Settings;
use crate::convert::RunContext;
use crate::event::hex::hex;
use crate::event::{Action, Destination, RunId, Timestamp};
use crate::store::{NewRun, Origin, RunKind};

/// The longest event name that a form may give: it is in each event.
const MAX_EVENT_NAME_BYTES: usize = 1024;

/// The document of a run.
pub(super) enum Wanted {
    Download(Url),
    Attachment { attachment: Attachment, base64: bool },
    Nothing,
}

/// A run to be made.
pub(super) struct Order {
    pub(super) new_run: NewRun,
    pub(super) terms: RunTerms,
    pub(super) wanted: Wanted,
    pub(super) limit: Option<u64>,
}

impl Order {
    pub(super) const fn destination(&self) -> &Destination {
        &self.new_run.destination
    }
}

/// A refusal; the run is listed where it is known where it was to go.
pub(super) struct Refused {
    pub(super) answer: Answer,
    pub(super) run: Option<Box<NewRun>>,
}

/// What came beside the body.
pub(super) struct Arrival {
    pub(super) action: Action,
    pub(super) instance: Option<String>,
    pub(super) webhook_id: Option<String>,
    pub(super) at: Timestamp,
    pub(super) run: RunId,
}

pub(super) fn order(
    settings: &Settings,
    arrival: Arrival,
    request: &Request,
    attachment: Option<Attachment>,
) -> Result<Order, Box<Refused>> {
    let chosen = destination::choose(request, &settings.named, &settings.planes).map_err(|error| {
        let answer = Answer::failure(400, error.to_string());
        Box::new(Refused {
            answer: if error.is_of_field() {
                answer.about(destination::FIELD)
            } else {
                answer
            },
            run: None,
        })
    })?;
    let Chosen {
        destination,
        user_id_from_email,
    } = chosen;
    let download = request.plan("download_url").map(|url| url.trim().to_owned());
    let content = match (&attachment, &download) {
        (Some(attachment), _) => Some(attachment.digest),
        (None, Some(url)) => Some(Sha256::digest(url.as_bytes()).into()),
        (None, None) => None,
    };
    let event_name = request.form_param("event");
    let looker = Origin {
        instance: arrival.instance,
        webhook_id: arrival.webhook_id,
        plan_id: request.plan("scheduled_plan_id").map(short),
        title: request.plan("title").map(short),
        url: request.plan("url").map(short),
    };
    // An attachment that comes again without a webhook id is the same delivery only where it is to do the same.
    let more = match (&looker.webhook_id, &attachment) {
        (None, Some(_)) => format!("{}\u{1f}{}", destination.id, event_name.as_deref().unwrap_or_default()),
        _ => String::new(),
    };
    let new_run = NewRun {
        id: arrival.run,
        kind: RunKind::Looker,
        action: arrival.action,
        delivery: identity(&looker, arrival.action, content, &more),
        destination,
        looker,
        received_at: arrival.at,
        replay_of: Vec::new(),
        replay: None,
    };
    let refused = |answer: Answer| {
        Box::new(Refused {
            answer,
            run: Some(Box::new(new_run.clone())),
        })
    };
    if let Some(kind) = request.kind().filter(|kind| kind != "query") {
        let text = format!(
            "This action takes the rows of a query (a look, an explore, a single tile), and this is a {}: send the look instead.",
            kind.chars().take(40).flat_map(char::escape_debug).collect::<String>()
        );
        return Err(refused(Answer::failure(400, text)));
    }
    if event_name
        .as_ref()
        .is_some_and(|name| name.len() > MAX_EVENT_NAME_BYTES)
    {
        let text = format!(
            "The event's name is longer than {MAX_EVENT_NAME_BYTES} bytes, and would be in each row's event: choose a shorter one."
        );
        return Err(refused(Answer::failure(400, text).about("event")));
    }
    if let Some(text) = request.oversized() {
        return Err(refused(Answer::failure(400, text)));
    }
    let wanted = match (attachment, &download) {
        (Some(attachment), _) => Wanted::Attachment {
            attachment,
            base64: request.attachment_is_base64(),
        },
        (None, Some(url)) => match settings.sources.download(url) {
            Ok(url) => Wanted::Download(url),
            Err(error) => return Err(refused(Answer::failure(403, error.to_string()))),
        },
        (None, None) => Wanted::Nothing,
    };
    let terms = RunTerms {
        run: new_run.id,
        looker: new_run.looker.clone(),
        user_id_from_email: user_id_from_email.unwrap_or(settings.user_id_from_email),
        context: RunContext {
            action: new_run.action,
            event_name,
            hidden_fields: request.hidden_fields(),
            query_timezone: request.query_timezone(),
            accepted_at: new_run.received_at,
            instance: new_run.looker.instance.clone().unwrap_or_default(),
            webhook_id: new_run.looker.webhook_id.clone().unwrap_or_default(),
            delivery_digest: content.map(|digest| hex(&digest)).unwrap_or_default(),
            destination: new_run.destination.id.clone(),
            provenance: None,
        },
    };
    Ok(Order {
        new_run,
        terms,
        wanted,
        limit: request.limit(),
    })
}

/// What is kept of a text that Looker says of a run.
fn short(text: String) -> String {
    const MAX_CHARS: usize = 2000;
    text.chars().take(MAX_CHARS).collect()
}

/// SHA-256 of (instance, action, webhook id, download URL or attachment); none where neither a webhook id nor a
/// document tells one delivery from the next.
fn identity(looker: &Origin, action: Action, content: Option<Digest>, more: &str) -> Option<Digest> {
    if looker.webhook_id.is_none() && content.is_none() {
        return None;
    }
    let mut hash = Sha256::new();
    let content = content.map(|digest| hex(&digest)).unwrap_or_default();
    for part in [
        looker.instance.as_deref().unwrap_or_default(),
        action.as_str(),
        looker.webhook_id.as_deref().unwrap_or_default(),
        &content,
        more,
    ] {
        // Lengths keep parts apart, whatever they hold.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    Some(hash.finalize().into())
}
