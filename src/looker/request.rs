//! The body of execute and form: read bounded in bytes and time, with the attachment on its way into a spool; then only
//! what we need of it, leniently. Nothing here is ever logged: `data` holds the write key in clear.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::answer::duration;
use super::destination;
use super::envelope::{Envelope, EnvelopeError};
use super::list;
use super::places::{Crowded, Place, Places, Who};
use super::spool::{self, Spool};
use super::unread::{NoRoom, Unread};
use super::wanted::{self, MAX_TEXTS, Want};

/// Attachment bytes are handed to the disk in pieces of this size.
const SPOOL_PIECE: usize = 256 * 1024;

/// What runs that wait may keep of their requests, which are many: columns that a look hides, and all their names; a
/// time zone's name; the URL of a download.
const MAX_HIDDEN_FIELDS: usize = MAX_TEXTS - 1;
const MAX_HIDDEN_BYTES: usize = 64 * 1024;
const MAX_TIME_ZONE_BYTES: usize = 256;
const MAX_DOWNLOAD_URL_BYTES: usize = 8 * 1024;

/// All that is ever asked of a request.
const WANTED: Want = Want::Members(&[
    ("type", Want::Scalar),
    (
        "scheduled_plan",
        Want::Members(&[
            ("scheduled_plan_id", Want::Scalar),
            ("title", Want::Scalar),
            ("url", Want::Scalar),
            ("download_url", Want::Scalar),
            (
                "query",
                Want::Members(&[
                    ("limit", Want::Scalar),
                    ("query_timezone", Want::Scalar),
                    ("vis_config", Want::Members(&[("hidden_fields", Want::Texts)])),
                ]),
            ),
        ]),
    ),
    (
        "attachment",
        Want::Members(&[("data", Want::Scalar), ("mimetype", Want::Scalar)]),
    ),
    (
        "data",
        Want::Members(&[(list::WRITE_KEY, Want::Scalar), (list::SERVER_URL, Want::Scalar)]),
    ),
    (
        "form_params",
        Want::Members(&[("event", Want::Scalar), (destination::FIELD, Want::Scalar)]),
    ),
]);

/// What a request may take.
#[derive(Debug, Clone)]
pub(super) struct ReadLimits {
    pub(super) max_request_bytes: usize,
    pub(super) max_attachment_bytes: u64,
    pub(super) attachment_memory: usize,
    pub(super) spool_folder: PathBuf,
    pub(super) min_free: u64,
    /// Whose request it is.
    pub(super) who: Who,
    /// Attachments that are in files at once, and how many wait to be.
    pub(super) spools: Arc<Places>,
    pub(super) max_waiting: usize,
    /// What requests hold while they come in.
    pub(super) unread: Arc<Unread>,
    /// Until all of it has come.
    pub(super) timeout: Duration,
    /// Whether there is any use for an attachment.
    pub(super) attachments: bool,
}

/// Why a request could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error("the request's body is not JSON: {0}")]
    NotJson(serde_json::Error),
    #[error("the request's body is not a JSON object")]
    NotAnObject,
    #[error(
        "the attachment is larger than {max} bytes (hub.max_attachment_bytes); let Looker send a download URL instead (supported_download_settings), or send fewer rows"
    )]
    AttachmentTooLarge { max: u64 },
    #[error("the attachment could not be kept while it came in: {0}; see the free space of the store's folder")]
    Spool(io::Error),
    #[error(
        "too many attachments come in at once, and as many wait as may; send it again later, or let Looker send a download URL (supported_download_settings)"
    )]
    Crowded,
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error(
        "the request did not come in whole within {}, or its attachment found no place among those that come in at once; send it again",
        duration(*.0)
    )]
    Slow(Duration),
    #[error("the request broke off after {read} bytes: {why}")]
    Broken { read: u64, why: String },
}

impl ReadError {
    /// Of the answer's `error` object.
    pub(super) const fn http_code(&self) -> u16 {
        match self {
            Self::Crowded | Self::NoRoom(_) | Self::Spool(_) => 503,
            Self::Slow(_) => 504,
            _ => 400,
        }
    }
}

/// An attachment that has come in whole.
pub(super) struct Attachment {
    pub(super) spool: Spool,
    /// SHA-256 of its bytes as they came (base64 not decoded).
    pub(super) digest: [u8; 32],
    /// One of the places for attachments in files.
    pub(super) place: Option<Place>,
}

/// A request: the object without its attachment, and the attachment.
pub(super) struct Received {
    pub(super) request: Request,
    pub(super) attachment: Option<Attachment>,
}

struct Keep {
    spool: Spool,
    hash: Sha256,
    bytes: u64,
    pending: Vec<u8>,
    place: Option<Place>,
}

impl Keep {
    /// Bytes in memory.
    fn held(&self) -> usize {
        self.pending.capacity() + self.spool.in_memory()
    }

    /// Moves what is pending into the spool, on a blocking thread where it may touch the disk.
    async fn flush(mut self, limits: &ReadLimits) -> Result<Self, ReadError> {
        self.bytes += self.pending.len() as u64;
        if self.bytes > limits.max_attachment_bytes {
            return Err(ReadError::AttachmentTooLarge {
                max: limits.max_attachment_bytes,
            });
        }
        if !self.spool.fits_memory(self.pending.len(), limits.attachment_memory) && self.place.is_none() {
            let crowded = |Crowded| ReadError::Crowded;
            let mut ticket = limits.spools.queue(&limits.who, limits.max_waiting).map_err(crowded)?;
            self.place = Some(ticket.place().await.map_err(crowded)?);
        }
        let memory = limits.attachment_memory;
        let (folder, min_free) = (limits.spool_folder.clone(), limits.min_free);
        let work = move || {
            self.hash.update(&self.pending);
            if !self.spool.fits_memory(self.pending.len(), memory) {
                spool::check_room(&folder, min_free)?;
            }
            self.spool.write(&self.pending, memory, &folder)?;
            self.pending.clear();
            Ok(self)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| ReadError::Spool(io::Error::other(error)))?
            .map_err(ReadError::Spool)
    }
}

/// Reads a body to its end. An empty one is an empty request.
pub(super) async fn read<B>(body: B, limits: &ReadLimits) -> Result<Received, ReadError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    // Boxed, since it is large and most of what waits for it is not.
    let read = Box::pin(all(body, limits));
    let read = tokio::time::timeout(limits.timeout, read).await;
    read.unwrap_or(Err(ReadError::Slow(limits.timeout)))
}

async fn all<B>(body: B, limits: &ReadLimits) -> Result<Received, ReadError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let mut claim = limits.unread.claim(limits.who.token);
    let mut body = std::pin::pin!(body);
    let mut envelope = Envelope::new(limits.max_request_bytes);
    let mut read = 0u64;
    let mut keep = Keep {
        spool: Spool::new(),
        hash: Sha256::new(),
        bytes: 0,
        pending: Vec::new(),
        place: None,
    };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ReadError::Broken {
            read,
            why: describe(error.into().as_ref()),
        })?;
        let Ok(data) = frame.into_data() else { continue };
        read += data.len() as u64;
        for piece in data.chunks(SPOOL_PIECE) {
            envelope.feed(piece, &mut keep.pending)?;
            if !limits.attachments {
                keep.pending.clear();
            }
            claim.hold(envelope.held() + keep.held()).await?;
            if keep.pending.len() >= SPOOL_PIECE {
                keep = keep.flush(limits).await?;
            }
        }
    }
    let (rest, diverted) = envelope.finish()?;
    let root = parse(&rest)?;
    drop(rest);
    let mut attachment = None;
    if let Some(small) = scalar_attachment(&root).filter(|_| !diverted && limits.attachments) {
        keep.pending = small;
    }
    if (diverted && limits.attachments) || !keep.pending.is_empty() {
        let keep = keep.flush(limits).await?;
        attachment = Some(Attachment {
            spool: keep.spool,
            digest: keep.hash.finalize().into(),
            place: keep.place,
        });
    }
    Ok(Received {
        request: Request(root),
        attachment,
    })
}

fn parse(rest: &[u8]) -> Result<Map<String, Value>, ReadError> {
    let rest = rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rest);
    if rest.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match wanted::read(rest, WANTED).map_err(ReadError::NotJson)? {
        Value::Object(root) => Ok(root),
        Value::Null => Ok(Map::new()),
        _ => Err(ReadError::NotAnObject),
    }
}

/// A number or a truth in place of a document: it goes where a document goes, and is refused there.
fn scalar_attachment(root: &Map<String, Value>) -> Option<Vec<u8>> {
    let data = root.get("attachment")?.get("data")?;
    (!data.is_null()).then(|| data.to_string().into_bytes())
}

/// An error and its causes, each once. URLs are not among them.
pub(super) fn describe(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text
}

/// What we need of a request. Each object may be null, missing or of another kind; ids may be numbers.
#[derive(Clone, Default)]
pub(super) struct Request(Map<String, Value>);

impl Request {
    fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, more) = path.split_first()?;
        more.iter().try_fold(self.0.get(*first)?, |value, key| value.get(key))
    }

    fn text(&self, path: &[&str]) -> Option<String> {
        let text = match self.at(path)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        (!text.trim().is_empty()).then_some(text)
    }

    /// `type`
    pub(super) fn kind(&self) -> Option<String> {
        self.text(&["type"])
    }

    /// A field of the schedule's form, not blank.
    pub(super) fn form_param(&self, name: &str) -> Option<String> {
        self.text(&["form_params", name])
    }

    /// A setting of the admin's or of the user's attribute, trimmed, not blank.
    pub(super) fn setting(&self, name: &str) -> Option<String> {
        self.text(&["data", name]).map(|text| text.trim().to_owned())
    }

    /// Whether settings were sent at all.
    pub(super) fn has_settings(&self) -> bool {
        self.at(&["data"]).is_some_and(Value::is_object)
    }

    /// A text or number of `scheduled_plan`.
    pub(super) fn plan(&self, name: &str) -> Option<String> {
        self.text(&["scheduled_plan", name])
    }

    /// `query_timezone`
    pub(super) fn query_timezone(&self) -> Option<String> {
        self.text(&["scheduled_plan", "query", "query_timezone"])
    }

    /// The rows that Looker was asked for at most; none where it names none or all.
    pub(super) fn limit(&self) -> Option<u64> {
        let text = self.text(&["scheduled_plan", "query", "limit"])?;
        text.trim().parse().ok().filter(|limit| *limit > 0)
    }

    /// Columns that the look hides.
    pub(super) fn hidden_fields(&self) -> Vec<String> {
        self.hidden().map(str::to_owned).collect()
    }

    fn hidden(&self) -> impl Iterator<Item = &str> {
        let names = self.at(&["scheduled_plan", "query", "vis_config", "hidden_fields"]);
        names
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    }

    /// What is longer than a run may keep: what it is, and what to do.
    pub(super) fn oversized(&self) -> Option<String> {
        if self.hidden().count() > MAX_HIDDEN_FIELDS || self.hidden().map(str::len).sum::<usize>() > MAX_HIDDEN_BYTES {
            return Some(format!(
                "The look hides more than {MAX_HIDDEN_FIELDS} columns, or their names have more than {MAX_HIDDEN_BYTES} bytes: take columns that are not needed out of it."
            ));
        }
        if self
            .query_timezone()
            .is_some_and(|zone| zone.len() > MAX_TIME_ZONE_BYTES)
        {
            return Some(format!(
                "The query's time zone has a name of more than {MAX_TIME_ZONE_BYTES} bytes, which none has: choose another in the look."
            ));
        }
        if self
            .plan("download_url")
            .is_some_and(|url| url.len() > MAX_DOWNLOAD_URL_BYTES)
        {
            return Some(format!(
                "The download URL has more than {MAX_DOWNLOAD_URL_BYTES} bytes, which none of Looker's has: see what stands between Looker and pintle."
            ));
        }
        None
    }

    /// Whether the attachment is base64.
    pub(super) fn attachment_is_base64(&self) -> bool {
        self.text(&["attachment", "mimetype"])
            .is_some_and(|kind| kind.to_ascii_lowercase().replace(' ', "").ends_with(";base64"))
    }
}

#[cfg(test)]
impl From<Value> for Request {
    fn from(value: Value) -> Self {
        Self(value.as_object().cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
