//! A row's cells to one event. Everything that is the same for all rows of a run is formatted once; the rest is
//! copied from the row as it stands, but for what RudderStack would round, refuse or choke on. What cannot become an
//! event says why, and the caller keeps the row.

use std::borrow::Cow;

use sha1::{Digest, Sha1};

use super::cell::{Cell, Leaf};
use super::columns::{Plan, Slot};
use super::identity::{anonymous_id_of, id, text_of};
use super::text;
use super::time::Zone;
use super::{Provenance, RunContext};
use crate::config::{AnonymousId, Events, NullValue};
use crate::event::json::one_line;
use crate::event::uuid::{MESSAGES, namespace, uuid, uuid_text};
use crate::event::{Action, Timestamp};

/// What all events of a run have in common.
#[derive(Debug)]
pub(super) struct Template {
    action: Action,
    /// `{"type":"…","userId":`
    head: Vec<u8>,
    /// `,"event":"…"` of the form, where it has one.
    form_event: Option<Vec<u8>>,
    /// `,"context":{…` up to the copy of the traits, or to its brace.
    context: Vec<u8>,
    /// `,"originalTimestamp":"…","messageId":"`
    tail: Vec<u8>,
    /// Namespace and name of the message ids, but for the row's number.
    messages: Sha1,
    emails: Sha1,
    per_row: Option<Sha1>,
    user_id_from_email: bool,
    null: Option<&'static [u8]>,
    max_event_bytes: usize,
    zone: Zone,
}

/// Who the event that was written is about, as it is sent.
#[derive(Debug)]
pub(super) struct Emitted<'a> {
    pub(super) own_timestamp: bool,
    pub(super) user_id: Option<Cow<'a, str>>,
    pub(super) anonymous_id: Option<Cow<'a, str>>,
    pub(super) email: Option<Cow<'a, str>>,
}

/// A row that was scanned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scanned<'a> {
    pub(super) text: &'a str,
    pub(super) cells: &'a [Cell],
    pub(super) leaves: &'a [Leaf],
}

impl Scanned<'_> {
    fn cell(&self, slot: Slot) -> Cell {
        self.cells.get(slot).copied().unwrap_or(Cell::Missing)
    }
}

const CLOSING: &[u8] = b"},\"channel\":\"server\"";

impl Template {
    /// Formats what the run's events share.
    pub(super) fn new(settings: &Events, user_id_from_email: bool, context: &RunContext) -> Self {
        let mut messages = namespace(MESSAGES);
        for part in [
            context.instance.as_str(),
            context.action.looker_name(),
            &context.webhook_id,
            &context.delivery_digest,
            context.destination.as_str(),
        ] {
            messages.update(part.as_bytes());
            messages.update([0x1f]);
        }
        let zone = context.query_timezone.as_deref().filter(|zone| !zone.trim().is_empty());
        Self {
            action: context.action,
            head: format!("{{\"type\":\"{}\",\"userId\":", context.action.as_str()).into_bytes(),
            form_event: context.form_event().map(|event| {
                let mut member = b",\"event\":".to_vec();
                text::write(event, &mut member);
                member
            }),
            context: context_member(context.action, context.provenance.as_ref()),
            tail: format!(",\"originalTimestamp\":\"{}\",\"messageId\":\"", context.accepted_at).into_bytes(),
            messages,
            emails: namespace("urn:pintle:email"),
            per_row: (settings.anonymous_id == AnonymousId::PerRow).then(|| namespace("urn:pintle:anonymous")),
            user_id_from_email,
            null: match settings.null_value {
                NullValue::EmptyList => Some(b"[]"),
                NullValue::Null => Some(b"null"),
                NullValue::Omit => None,
            },
            max_event_bytes: usize::try_from(settings.max_event_bytes).unwrap_or(usize::MAX),
            zone: Zone::new(zone.unwrap_or(&settings.timezone)),
        }
    }

    /// Writes the stored event of row `number` to `out`, or says why there is none; `out` is then of no use.
    pub(super) fn write<'a>(
        &self,
        plan: &Plan,
        row: Scanned<'a>,
        number: u64,
        out: &mut Vec<u8>,
    ) -> Result<Emitted<'a>, String> {
        let message_id = uuid_text(self.message_id(number));
        let mut emitted = self.identify(plan, row, &message_id)?;
        let group_id = id_of(plan, plan.group_id, row)?;
        if group_id.is_none() && self.action == Action::Group {
            return Err("row has no groupId".to_owned());
        }
        let timestamp = self.timestamp(plan, row)?;

        out.clear();
        out.extend_from_slice(&self.head);
        write_or_null(emitted.user_id.as_deref(), out);
        out.extend_from_slice(b",\"anonymousId\":");
        write_or_null(emitted.anonymous_id.as_deref(), out);
        if let Some(group_id) = group_id {
            out.extend_from_slice(b",\"groupId\":");
            text::write(&group_id, out);
        }
        if self.action == Action::Track {
            self.write_event_name(plan, row, out)?;
            out.extend_from_slice(b",\"properties\":");
        } else {
            out.extend_from_slice(b",\"traits\":");
        }
        let traits = out.len();
        self.write_traits(plan, row, out);
        let traits = traits..out.len();
        out.extend_from_slice(&self.context);
        if self.action == Action::Identify {
            out.extend_from_within(traits);
        }
        out.extend_from_slice(CLOSING);
        if let Some(timestamp) = timestamp {
            emitted.own_timestamp = true;
            out.extend_from_slice(b",\"timestamp\":\"");
            out.extend_from_slice(timestamp.to_rfc3339().as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(&self.tail);
        out.extend_from_slice(&message_id);
        out.push(b'"');
        if out.len() > self.max_event_bytes {
            return Err(format!(
                "event has {} bytes, more than events.max_event_bytes ({})",
                out.len(),
                self.max_event_bytes
            ));
        }
        Ok(emitted)
    }

    fn message_id(&self, row: u64) -> [u8; 16] {
        let mut digits = [0; 20];
        let mut first = digits.len();
        let mut rest = row;
        for (at, place) in digits.iter_mut().enumerate().rev() {
            *place = b'0' + (rest % 10) as u8;
            first = at;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let mut state = self.messages.clone();
        state.update(digits.get(first..).unwrap_or_default());
        uuid(state)
    }

    fn identify<'a>(&self, plan: &Plan, row: Scanned<'a>, message_id: &[u8]) -> Result<Emitted<'a>, String> {
        let mut user_id = id_of(plan, plan.user_id, row)?;
        let mut anonymous_id = id_of(plan, plan.anonymous_id, row)?;
        let email = plan.email.and_then(|slot| text_of(row.cell(slot), row.text));
        if self.user_id_from_email && user_id.is_none() {
            user_id.clone_from(&email);
        }
        if user_id.is_none() && anonymous_id.is_none() {
            let Some(email) = &email else {
                return Err("row has neither userId, anonymousId nor email".to_owned());
            };
            anonymous_id = Some(Cow::Owned(match &self.per_row {
                None => anonymous_id_of(email, &self.emails),
                Some(namespace) => {
                    let mut state = namespace.clone();
                    state.update(message_id);
                    uuid_text(uuid(state)).map(char::from).iter().collect()
                }
            }));
        }
        Ok(Emitted {
            own_timestamp: false,
            user_id,
            anonymous_id,
            email,
        })
    }

    fn timestamp(&self, plan: &Plan, row: Scanned<'_>) -> Result<Option<Timestamp>, String> {
        let Some(slot) = plan.timestamp else { return Ok(None) };
        let name = plan.name(slot);
        match row.cell(slot) {
            Cell::Missing | Cell::Empty => Ok(None),
            cell @ Cell::Text(_) => match text_of(cell, row.text) {
                Some(text) => match self.zone.moment(&text) {
                    Ok(moment) => Ok(Some(moment)),
                    Err(why) => Err(format!("column {name} {why}")),
                },
                None => Ok(None),
            },
            _ => Err(format!("column {name} {}", super::time::NoMoment::NoTime)),
        }
    }

    fn write_event_name(&self, plan: &Plan, row: Scanned<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        match (
            plan.event_name.and_then(|slot| text_of(row.cell(slot), row.text)),
            &self.form_event,
        ) {
            (Some(event), _) => {
                out.extend_from_slice(b",\"event\":");
                text::write(&event, out);
                Ok(())
            }
            (None, Some(member)) => {
                out.extend_from_slice(member);
                Ok(())
            }
            (None, None) => Err("row has no event name".to_owned()),
        }
    }

    fn write_traits(&self, plan: &Plan, row: Scanned<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        for member in &plan.traits {
            let cell = row.cell(member.slot);
            let null = if member.email { Some(&b"null"[..]) } else { self.null };
            let value = match cell {
                Cell::Missing if member.optional => continue,
                Cell::Missing | Cell::Empty => match null {
                    Some(null) => null,
                    None => continue,
                },
                Cell::Text(span) | Cell::Number(span) | Cell::Boolean(span) if !span.odd => {
                    span.of(row.text).as_bytes()
                }
                _ => {
                    out.extend_from_slice(&member.key);
                    write_cell(cell, row, out);
                    continue;
                }
            };
            out.extend_from_slice(&member.key);
            out.extend_from_slice(value);
        }
        // Every key brought a comma before it; the first one's place is the brace's.
        match out.get_mut(start) {
            Some(comma) => *comma = b'{',
            None => out.push(b'{'),
        }
        out.push(b'}');
    }
}

/// The id in a column, or the dead letter's reason.
fn id_of<'a>(plan: &Plan, slot: Option<Slot>, row: Scanned<'a>) -> Result<Option<Cow<'a, str>>, String> {
    let Some(slot) = slot else { return Ok(None) };
    id(row.cell(slot), row.text).map_err(|why| format!("column {} {why}", plan.name(slot)))
}

fn write_or_null(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => text::write(text, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// A value that is not just copied.
fn write_cell(cell: Cell, row: Scanned<'_>, out: &mut Vec<u8>) {
    match cell {
        Cell::Missing | Cell::Empty => out.extend_from_slice(b"null"),
        Cell::Text(span) => text::mend(span.of(row.text).as_bytes(), out),
        Cell::Number(span) => {
            let number = span.of(row.text);
            write_number(
                number,
                span.odd && (is_beyond_doubles(number) || is_beyond_integers(number)),
                out,
            );
        }
        Cell::Boolean(span) => out.extend_from_slice(span.of(row.text).as_bytes()),
        Cell::Compound(span) => {
            // Listings have one event a line, so that whoever writes the cell must not begin another.
            let json = one_line(span.of(row.text).as_bytes());
            if span.odd {
                mend_compound(&String::from_utf8_lossy(&json), out);
            } else {
                out.extend_from_slice(&json);
            }
        }
        Cell::Pivots { first, last } => {
            let leaves = row.leaves.get(first as usize..last as usize).unwrap_or_default();
            for (position, leaf) in leaves.iter().enumerate() {
                out.extend_from_slice(if position == 0 { b"[{\"" } else { b",{\"" });
                let key = leaf.key.of(row.text).as_bytes();
                if leaf.key.odd {
                    text::mend(key, out);
                } else {
                    out.extend_from_slice(key);
                }
                out.extend_from_slice(b"\":");
                write_cell(leaf.cell, row, out);
                out.push(b'}');
            }
            out.push(b']');
        }
    }
}

fn write_number(number: &str, quoted: bool, out: &mut Vec<u8>) {
    if quoted {
        out.push(b'"');
        out.extend_from_slice(number.as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(number.as_bytes());
    }
}

/// Whether a number is infinite to a double: the gateway refuses the whole batch for one.
fn is_beyond_doubles(number: &str) -> bool {
    number.parse::<f64>().is_ok_and(f64::is_infinite)
}

/// Whether a number is spelled as an integer, and one that the gateway would round.
fn is_beyond_integers(number: &str) -> bool {
    const MAX: u64 = (1 << 53) - 1;
    let digits = number.strip_prefix('-').unwrap_or(number);
    digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u64>().map_or(true, |value| value > MAX)
}

/// A list or object as it is, but for what would break the batch it is in.
fn mend_compound(json: &str, out: &mut Vec<u8>) {
    let mut rest = json;
    while let Some(first) = rest.as_bytes().first() {
        let length = match first {
            b'"' => string_length(rest.as_bytes()),
            b'-' | b'0'..=b'9' => rest
                .find(|character: char| !matches!(character, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'))
                .unwrap_or(rest.len()),
            _ => rest
                .find(|character: char| matches!(character, '"' | '-' | '0'..='9'))
                .unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        match first {
            b'"' => text::mend(token.as_bytes(), out),
            b'-' | b'0'..=b'9' => write_number(token, is_beyond_doubles(token), out),
            _ => out.extend_from_slice(token.as_bytes()),
        }
        rest = after;
    }
}

/// The length of the string that `bytes` begin with, both quotes included.
fn string_length(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `,"context":{…`, without the brace; for identify up to the colon of its copy of the traits.
fn context_member(action: Action, provenance: Option<&Provenance>) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let mut context = format!(
        ",\"context\":{{\"library\":{{\"name\":\"pintle\",\"version\":\"{version}\"}},\
         \"app\":{{\"name\":\"looker/actions\",\"version\":\"{version}\"}}"
    )
    .into_bytes();
    if let Some(provenance) = provenance {
        let run = provenance.run.to_string();
        context.extend_from_slice(b",\"looker\":{");
        let members = [
            ("instance", provenance.instance.as_deref()),
            ("plan_id", provenance.plan_id.as_deref()),
            ("title", provenance.title.as_deref()),
            ("url", provenance.url.as_deref()),
            ("run", Some(run.as_str())),
        ];
        let mut comma = false;
        for (key, value) in members {
            if let Some(value) = value {
                if comma {
                    context.push(b',');
                }
                comma = true;
                text::write(key, &mut context);
                context.push(b':');
                text::write(value, &mut context);
            }
        }
        context.push(b'}');
    }
    if action == Action::Identify {
        context.extend_from_slice(b",\"traits\":");
    }
    context
}
