//! What an answer of the gateway means: the whole table of RudderStack's contract as one pure function.
//!
//! The gateway's words go to the attempt log, to dead letters and to what an operator asks for, never to the log:
//! a database error may quote a row's values.

use std::time::Duration;

use crate::event::Timestamp;

/// The most of an answer's text that is kept.
const WORDS: usize = 200;
/// `Retry-After` is honoured up to here: a rate limit's window is an hour.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What a gateway answered, as far as it matters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// `Content-Type`
    pub content_type: Option<&'a str>,
    /// `Retry-After`
    pub retry_after: Option<&'a str>,
    /// `Date`: what a date in `Retry-After` is counted from, whatever our clock says.
    pub date: Option<&'a str>,
    /// The beginning of the body.
    pub body: &'a [u8],
    /// The body ended before its end.
    pub cut: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// No connection: refused, no route, no such name, no TLS. Nothing was sent.
    Connect,
    /// The connection ended before an answer.
    Reset,
    /// No answer in time.
    Timeout,
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Its meaning.
    pub verdict: Verdict,
    /// How long the gateway asked to wait, bounded.
    pub retry_after: Option<Duration>,
    /// Status and text of the answer, or the error's text: one line, bounded.
    pub words: String,
}

/// The meaning of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Committed.
    Accepted,
    /// Some event of the batch is refused for good; which one is not said.
    Poison,
    /// The batch is larger than the gateway takes.
    TooLarge,
    /// Configuration: nothing of this destination can go until somebody acts.
    Held(Hold),
    /// The rate limit.
    Throttled,
    /// Passes by itself; the batch may have been stored.
    Failed(Failure),
}

/// What is wrong with a destination's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// 401
    WriteKey,
    /// 404 `source is disabled`
    SourceDisabled,
    /// 404, any other
    NotFound,
    /// 405
    Method,
    /// 431
    Headers,
    /// 3xx
    Redirect(u16),
    /// 2xx of type HTML: a proxy's or a login page's.
    Page,
    /// 2xx, but not `ok`: nothing says that the events are stored.
    NotOk(u16),
    /// Any other 4xx.
    Refusal(u16),
    /// The data plane's URL cannot be posted to, or may not be.
    Address,
}

/// What passes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// 500: the gateway's database refused the transaction, which holds others' events too.
    Database,
    /// 500 `failed to read body from request`: the upload was cut.
    BodyCut,
    /// 425, 451, 5xx: the gateway or a proxy is not able.
    Unavailable(u16),
    /// No connection.
    Connect,
    /// The connection ended before the answer did.
    Reset,
    /// No answer in time, 408 and 504 among them.
    Timeout,
}

impl Judged {
    /// The verdict on an answer. `now` counts a dated `Retry-After` where the answer has no `Date`.
    pub fn of(answer: &Answer<'_>, now: Timestamp) -> Self {
        Self {
            verdict: Verdict::of(answer),
            retry_after: answer
                .retry_after
                .and_then(|text| retry_after(text, answer.date.and_then(http_date).unwrap_or(now))),
            words: words(Some(answer.status), answer.body),
        }
    }

    /// The verdict where there was no answer; `error` says what happened.
    pub fn without_answer(transport: Transport, error: &str) -> Self {
        let failure = match transport {
            Transport::Connect => Failure::Connect,
            Transport::Reset => Failure::Reset,
            Transport::Timeout => Failure::Timeout,
        };
        Self {
            verdict: Verdict::Failed(failure),
            retry_after: None,
            words: words(None, error.as_bytes()),
        }
    }
}

impl Verdict {
    /// The table.
    pub fn of(answer: &Answer<'_>) -> Self {
        let text = String::from_utf8_lossy(answer.body).to_ascii_lowercase();
        let text = text.trim();
        let says = |words: &str| text.contains(words);
        match answer.status {
            200..=299 if text == "ok" => Self::Accepted,
            200..=299 if answer.cut => Self::Failed(Failure::Reset),
            200..=299 if is_html(answer.content_type, text) => Self::Held(Hold::Page),
            status @ 200..=299 => Self::Held(Hold::NotOk(status)),
            status @ 300..=399 => Self::Held(Hold::Redirect(status)),
            400 if says("request neither has") || says("event is not a valid") || says("invalid json") => Self::Poison,
            401 => Self::Held(Hold::WriteKey),
            404 if says("source is disabled") => Self::Held(Hold::SourceDisabled),
            404 => Self::Held(Hold::NotFound),
            405 => Self::Held(Hold::Method),
            413 => Self::TooLarge,
            429 => Self::Throttled,
            431 => Self::Held(Hold::Headers),
            408 | 504 => Self::Failed(Failure::Timeout),
            status @ (425 | 451) => Self::Failed(Failure::Unavailable(status)),
            status @ 400..=499 => Self::Held(Hold::Refusal(status)),
            500 if says("failed to read body") => Self::Failed(Failure::BodyCut),
            500 => Self::Failed(Failure::Database),
            status => Self::Failed(Failure::Unavailable(status)),
        }
    }
}

impl Hold {
    /// What is wrong and what to do, without the gateway's words.
    pub fn reason(self) -> String {
        match self {
            Self::WriteKey => {
                "the gateway does not know the write key (401): compare it with the source's, then `pintle destinations rekey`"
                    .to_owned()
            }
            Self::SourceDisabled => "the source is disabled in RudderStack (404): enable it there".to_owned(),
            Self::NotFound => {
                "nothing answers at /v1/batch of this URL (404): compare the data plane URL with RudderStack's".to_owned()
            }
            Self::Method => "the URL does not take a POST (405): compare the data plane URL with RudderStack's".to_owned(),
            Self::Headers => "a proxy finds the request's headers too large (431): look at the write key and the proxy".to_owned(),
            Self::Redirect(status) => {
                format!("the URL redirects ({status}), which is not followed: give the address that it redirects to")
            }
            Self::Page => "a web page answers instead of the gateway: a proxy or a login page stands before the URL".to_owned(),
            Self::NotOk(status) => {
                format!("the answer is a {status}, but not RudderStack's `ok`: something else answers at the URL")
            }
            Self::Refusal(status) => {
                format!("the URL refuses with {status}, which RudderStack's gateway does not: look at what stands before it")
            }
            Self::Address => {
                "the data plane URL cannot be posted to: compare it with rudderstack.allowed_origins and RudderStack's settings"
                    .to_owned()
            }
        }
    }
}

impl Failure {
    /// What happened, without the gateway's words.
    pub fn reason(self) -> String {
        match self {
            Self::Database => "the gateway could not store the batch (500)".to_owned(),
            Self::BodyCut => "the gateway could not read the batch (500)".to_owned(),
            Self::Unavailable(status) => format!("the gateway is not available ({status})"),
            Self::Connect => "no connection to the gateway".to_owned(),
            Self::Reset => "the connection ended before an answer".to_owned(),
            Self::Timeout => "no answer in time".to_owned(),
        }
    }
}

/// An answer's status and text, or an error's text, on one line of at most 200 characters.
pub fn words(status: Option<u16>, text: &[u8]) -> String {
    let mut line = status.map(|status| status.to_string()).unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    // Some servers begin their text with the status: "404 page not found".
    let repeated = text.split_whitespace().next() == Some(line.as_str());
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .skip(usize::from(repeated))
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > 8 * WORDS {
            break;
        }
    }
    match line.char_indices().nth(WORDS) {
        Some((end, _)) => {
            line.truncate(end);
            line.push('…');
            line
        }
        None => line,
    }
}

fn is_html(content_type: Option<&str>, text: &str) -> bool {
    content_type.is_some_and(|kind| kind.to_ascii_lowercase().contains("html")) || text.starts_with('<')
}

/// Seconds, or a date counted from `now`; at most an hour.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Duration::from_millis(http_date(text)?.since(now)),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// The moment of a `Date` header.
pub fn http_date(text: &str) -> Option<Timestamp> {
    let moment = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text.trim())
        .ok()?;
    Some(Timestamp(moment.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, body: &str) -> Verdict {
        Verdict::of(&Answer {
            status,
            body: body.as_bytes(),
            ..Answer::default()
        })
    }

    #[test]
    fn the_table_of_the_contract() {
        use Failure::*;
        use Hold::*;
        use Verdict::*;
        let rows: &[(&str, u16, &str, Verdict)] = &[
            ("committed", 200, "ok", Accepted),
            ("committed, as older servers spell it", 200, "OK\n", Accepted),
            ("a login page", 200, "<!doctype html><title>Sign in", Held(Page)),
            ("something else answers", 200, "{\"status\":\"up\"}", Held(NotOk(200))),
            ("something else answers with nothing", 204, "", Held(NotOk(204))),
            ("moved", 301, "", Held(Redirect(301))),
            ("moved for now", 307, "", Held(Redirect(307))),
            (
                "no identity",
                400,
                "request neither has anonymousId nor userId\n",
                Poison,
            ),
            ("not an event", 400, "event is not a valid rudder event\n", Poison),
            ("not JSON", 400, "Invalid JSON\n", Poison),
            (
                "an empty batch, which we never send",
                400,
                "empty batch payload\n",
                Held(Refusal(400)),
            ),
            (
                "a proxy's 400",
                400,
                "<html>400 The plain HTTP request was sent",
                Held(Refusal(400)),
            ),
            ("unknown key", 401, "invalid write key\n", Held(WriteKey)),
            ("no key", 401, "failed to read writekey from header\n", Held(WriteKey)),
            ("a proxy wants to be paid", 402, "", Held(Refusal(402))),
            ("a firewall", 403, "forbidden", Held(Refusal(403))),
            ("source off", 404, "source is disabled\n", Held(SourceDisabled)),
            ("wrong path", 404, "404 page not found\n", Held(NotFound)),
            ("wrong method", 405, "", Held(Method)),
            ("slow upload", 408, "", Failed(Timeout)),
            ("too large", 413, "request size exceeds max limit\n", TooLarge),
            (
                "too large for nginx",
                413,
                "<html>413 Request Entity Too Large",
                TooLarge,
            ),
            ("teapot", 418, "", Held(Refusal(418))),
            ("too early", 425, "", Failed(Unavailable(425))),
            ("rate limit", 429, "max requests limit reached\n", Throttled),
            ("headers too large", 431, "", Held(Headers)),
            ("legal", 451, "", Failed(Unavailable(451))),
            ("database", 500, "pq: deadlock detected\n", Failed(Database)),
            ("upload cut", 500, "failed to read body from request\n", Failed(BodyCut)),
            ("proxy without a server", 502, "<html>", Failed(Unavailable(502))),
            ("too many at once", 503, "", Failed(Unavailable(503))),
            ("write timeout", 504, "gateway timeout", Failed(Timeout)),
            ("any other", 599, "", Failed(Unavailable(599))),
        ];
        for (name, status, body, expected) in rows {
            assert_eq!(verdict(*status, body), *expected, "{name}");
        }
        let page = Answer {
            status: 200,
            content_type: Some("text/HTML; charset=utf-8"),
            body: b"Welcome",
            ..Answer::default()
        };
        assert_eq!(Verdict::of(&page), Held(Page), "a page by its type");
        let cut = Answer {
            status: 200,
            cut: true,
            ..Answer::default()
        };
        assert_eq!(
            Verdict::of(&cut),
            Failed(Reset),
            "the answer was cut: it may have been `ok`"
        );
        for (transport, expected) in [
            (Transport::Connect, Connect),
            (Transport::Reset, Reset),
            (Transport::Timeout, Timeout),
        ] {
            assert_eq!(Judged::without_answer(transport, "x").verdict, Failed(expected));
        }
    }

    #[test]
    fn retry_after_is_read_and_bounded() {
        let now = Timestamp::parse_rfc3339("2024-05-01T06:00:00Z").unwrap();
        let cases = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("999999", Some(3600)),
            ("Wed, 01 May 2024 06:00:30 GMT", Some(30)),
            ("Wed, 01 May 2024 05:00:30 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        }
        let skewed = Answer {
            status: 503,
            retry_after: Some("Wed, 01 May 2024 08:00:10 GMT"),
            date: Some("Wed, 01 May 2024 08:00:00 GMT"),
            ..Answer::default()
        };
        assert_eq!(Judged::of(&skewed, now).retry_after, Some(Duration::from_secs(10)));
    }

    #[test]
    fn words_are_one_bounded_line() {
        assert_eq!(
            words(Some(400), b" invalid\n\tjson\x00\xff "),
            "400 invalid json \u{fffd}"
        );
        assert_eq!(words(None, b""), "");
        assert_eq!(words(Some(404), b"404 page not found\n"), "404 page not found");
        assert_eq!(words(Some(404), b"4040 x"), "404 4040 x");
        assert_eq!(words(None, b"404 x"), "404 x");
        assert_eq!(words(Some(500), "ä".repeat(5000).as_bytes()).chars().count(), WORDS + 1);
    }

    #[test]
    fn gateway_answers() {
        let words = [
            "200",
            "429",
            "Retry-After: ",
            "text/html",
            "OK",
            "{\"error\":",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "-1",
            "99999999999999999999",
        ];
        crate::fuzz::target("gateway", &words, |bytes, _| {
            // Status, type, Retry-After, Date, body: a line each.
            let mut parts = bytes.splitn(5, |byte| *byte == b'\n');
            let mut text = || parts.next().map(|part| String::from_utf8_lossy(part).into_owned());
            let (status, kind, retry, date) = (text(), text(), text(), text());
            let judged = Judged::of(
                &Answer {
                    status: status.and_then(|text| text.trim().parse().ok()).unwrap_or(200),
                    content_type: kind.as_deref(),
                    retry_after: retry.as_deref(),
                    date: date.as_deref(),
                    body: parts.next().unwrap_or_default(),
                    cut: bytes.len() % 2 == 0,
                },
                Timestamp(1_785_578_400_000),
            );
            assert!(judged.words.chars().count() < 1_000, "{}", judged.words.len());
            assert!(
                !judged.words.contains(|letter: char| letter.is_control()),
                "{:?}",
                judged.words
            );
        });
    }
}
