//! The body of execute and form: read bounded, with the attachment on its way into a spool; then only what we need of
//! it, leniently. Nothing here is ever logged: `data` holds the write key in clear.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::envelope::{Envelope, EnvelopeError};
use super::spool::{self, Spool};

/// Attachment bytes are handed to the disk in pieces of this size.
const SPOOL_PIECE: usize = 256 * 1024;

/// Columns that a look can hide, and the bytes of a column's name: what a result may have.
const MAX_HIDDEN_FIELDS: usize = 4096;
const MAX_NAME_BYTES: usize = 4096;

/// What a request may take.
#[derive(Debug, Clone)]
pub(super) struct ReadLimits {
    pub(super) max_request_bytes: usize,
    pub(super) max_attachment_bytes: u64,
    pub(super) attachment_memory: usize,
    pub(super) spool_folder: PathBuf,
    pub(super) min_free: u64,
    /// Attachments that are in files at once.
    pub(super) spools: Arc<Semaphore>,
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
    #[error("the request broke off after {read} bytes: {why}")]
    Broken { read: u64, why: String },
}

/// An attachment that has come in whole.
pub(super) struct Attachment {
    pub(super) spool: Spool,
    /// SHA-256 of its bytes as they came (base64 not decoded).
    pub(super) digest: [u8; 32],
    /// One of the places for attachments in files.
    pub(super) place: Option<OwnedSemaphorePermit>,
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
    place: Option<OwnedSemaphorePermit>,
}

impl Keep {
    /// Moves what is pending into the spool, on a blocking thread where it may touch the disk.
    async fn flush(mut self, limits: &ReadLimits) -> Result<Self, ReadError> {
        self.bytes += self.pending.len() as u64;
        if self.bytes > limits.max_attachment_bytes {
            return Err(ReadError::AttachmentTooLarge {
                max: limits.max_attachment_bytes,
            });
        }
        if !self.spool.fits_memory(self.pending.len(), limits.attachment_memory) && self.place.is_none() {
            // The semaphore is never closed; without a place the attachment would still be kept.
            self.place = Arc::clone(&limits.spools).acquire_owned().await.ok();
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
            if keep.pending.len() >= SPOOL_PIECE {
                keep = keep.flush(limits).await?;
            }
        }
    }
    let (rest, diverted) = envelope.finish()?;
    let root = parse(&rest)?;
    let mut attachment = None;
    if let Some(small) = scalar_attachment(&root).filter(|_| !diverted) {
        keep.pending = small;
    }
    if diverted || !keep.pending.is_empty() {
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
    match serde_json::from_slice(rest).map_err(ReadError::NotJson)? {
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
        self.at(&["scheduled_plan", "query", "vis_config", "hidden_fields"])
            .and_then(Value::as_array)
            .map(|names| {
                let names = names.iter().filter_map(Value::as_str);
                // No result has more columns, none a longer name.
                names
                    .filter(|name| name.len() <= MAX_NAME_BYTES)
                    .take(MAX_HIDDEN_FIELDS)
                    .map(str::to_owned)
                    .collect()
            })
            .unwrap_or_default()
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
mod tests {
    use super::*;
    use http_body_util::Full;

    fn limits() -> ReadLimits {
        ReadLimits {
            max_request_bytes: 10_000,
            max_attachment_bytes: 1_000_000,
            attachment_memory: 1000,
            spool_folder: std::env::temp_dir(),
            min_free: 0,
            spools: Arc::new(Semaphore::new(2)),
        }
    }

    async fn of(body: impl Into<Bytes>) -> Result<Received, String> {
        read(Full::new(body.into()), &limits())
            .await
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_request_in_all_its_forms() {
        let received = of(
            r#"{"type":"query","scheduled_plan":{"scheduled_plan_id":42,"title":"t","query":{"limit":"500",
            "vis_config":{"hidden_fields":["a",1]},"query_timezone":"UTC"},"download_url":"u"},"attachment":null,
            "data":{"rudder_write_key":" k "},"form_params":{"event":" "}}"#,
        )
        .await
        .unwrap();
        let request = received.request;
        assert_eq!(request.plan("scheduled_plan_id").as_deref(), Some("42"));
        assert_eq!(request.setting("rudder_write_key").as_deref(), Some("k"));
        assert_eq!((request.form_param("event"), request.limit()), (None, Some(500)));
        assert_eq!(request.hidden_fields(), ["a"]);
        assert!(received.attachment.is_none() && request.has_settings());

        for (text, limit) in [("-1", None), ("\"x\"", None), ("null", None), ("7", Some(7))] {
            let body = format!(r#"{{"data":7,"scheduled_plan":{{"query":{{"limit":{text}}}}},"form_params":[]}}"#);
            assert_eq!(of(body).await.unwrap().request.limit(), limit);
        }
        for empty in [
            "",
            "  \n",
            "null",
            "{}",
            r#"{"scheduled_plan":null,"attachment":{"data":null}}"#,
        ] {
            let received = of(empty).await.unwrap();
            assert!(received.attachment.is_none() && received.request.limit().is_none());
        }
    }

    #[tokio::test]
    async fn a_number_as_attachment_and_what_is_refused() {
        assert!(of(r#"{"attachment":{"data":17}}"#).await.unwrap().attachment.is_some());
        assert!(of(r#"{"attachment":{"data":""}}"#).await.unwrap().attachment.is_some());
        for (body, text) in [
            ("[]".to_owned(), "not a JSON object"),
            ("{\"a\":".to_owned(), "not JSON"),
            ("<html>".to_owned(), "not JSON"),
            (format!("{{\"a\":\"{}\"}}", "x".repeat(20_000)), "more than 10000 bytes"),
            (
                format!("{{\"attachment\":{{\"data\":\"{}\"}}}}", "x".repeat(1_000_001)),
                "larger than 1000000 bytes",
            ),
        ] {
            let error = of(body).await.err().unwrap();
            assert!(error.contains(text), "{error}");
        }
    }
}
