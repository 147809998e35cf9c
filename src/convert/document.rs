//! The document's root: which member comes, which rows, and whether it is a whole result. It waits where the bytes end
//! within something until twice as many have come, so that pieces of one byte cost linear time too. What it finds
//! does not depend on where the pieces are cut.

use super::columns::{NoPlan, Plan};
use super::digest::RowsDigest;
use super::event::Template;
use super::refusal::{Refusal, message_text, plainly, query_error, wants};
use super::row::Keys;
use super::scan::{self, Stop, peek};
use super::sink::Sink;
use super::spool::Spool;
use super::text;
use super::window::Window;
use super::{Limits, Refused, RefusedKind, Rows, RunContext, Stopped, Summary};
use crate::config::Events;
use crate::event::{IdColumns, Timestamp};

/// How much is taken into the window at once.
const PIECE: usize = 64 << 10;
/// How much of a body that is no JSON object is looked at for the message.
const SHOWN_BYTES: usize = 240;
const SHOWN_CHARACTERS: usize = 60;
/// How many names of root members are kept for the message where `data` is missing.
const NAMES: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the root object.
    Start,
    /// Behind the root's opening brace.
    Opened,
    /// Behind a comma of the root.
    Member,
    /// Behind a member of the root.
    AfterMember,
    /// Behind the opening bracket of `data`.
    RowsOpened,
    /// Behind a comma of `data`.
    Row,
    /// Behind a row.
    AfterRow,
    /// Behind the root's closing brace.
    Closed,
}

/// A document on its way.
#[derive(Debug)]
pub(super) struct Document {
    window: Window,
    state: State,
    /// Bytes that must wait in the window before it is worth looking at them again.
    wanted: usize,
    limits: Limits,
    settings: Events,
    context: RunContext,
    /// What `fields` made; a refusal is held back until the rows, so that `errors` between them are told first.
    plan: Option<Result<Plan, (NoPlan, u64)>>,
    sink: Sink,
    /// For rows before `fields`.
    no_columns: Keys,
    has_data: bool,
    /// Names of the first members, for a document that lacks `data`.
    names: Vec<String>,
    ran_at: Option<Timestamp>,
    rows: u64,
    digest: RowsDigest,
    /// Rows that came before `fields`.
    spool: Spool,
    refused: Option<Refused>,
}

/// What a step came to.
enum Step {
    /// Something was consumed.
    Done,
    /// Nothing can be done with what has come.
    More,
}

impl Document {
    pub(super) fn new(settings: &Events, user_id_from_email: bool, limits: Limits, context: RunContext) -> Self {
        Self {
            window: Window::default(),
            state: State::Start,
            wanted: 0,
            limits: Limits {
                max_row_bytes: limits.max_row_bytes.min(1 << 30),
                max_depth: limits.max_depth.clamp(8, scan::MAX_DEPTH),
                ..limits
            },
            settings: settings.clone(),
            plan: None,
            sink: Sink::new(Template::new(settings, user_id_from_email, &context)),
            context,
            no_columns: Keys::default(),
            has_data: false,
            names: Vec::new(),
            ran_at: None,
            rows: 0,
            digest: RowsDigest::new(),
            spool: Spool::default(),
            refused: None,
        }
    }

    pub(super) const fn rows_read(&self) -> u64 {
        self.rows
    }

    pub(super) fn push<R: Rows>(&mut self, bytes: &[u8], rows: &mut R) -> Result<(), Stopped<R::Error>> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone().into());
        }
        let taken = self.take(bytes, rows);
        if let Err(Stopped::Refused(refused)) = &taken {
            self.refused = Some(refused.clone());
        }
        taken
    }

    fn take<R: Rows>(&mut self, bytes: &[u8], rows: &mut R) -> Result<(), Stopped<R::Error>> {
        let room = self.limits.max_document_bytes.saturating_sub(self.window.received());
        let (within, beyond) = bytes.split_at(usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len()));
        for piece in within.chunks(PIECE) {
            self.window.append(piece);
            self.process(false, rows)?;
        }
        if beyond.is_empty() {
            return Ok(());
        }
        // What is wrong before the limit is told before it.
        self.process(true, rows)?;
        let most = self.limits.max_document_bytes;
        let too_large = Refusal::new(
            RefusedKind::TooLarge,
            most,
            format!("the result has more than {most} bytes"),
        );
        let hint = "looker.max_document_bytes is the limit; make the look smaller, or raise it";
        Err(too_large.hint(hint).after(self.rows).into())
    }

    pub(super) fn finish<R: Rows>(mut self, rows: &mut R) -> Result<Summary, Stopped<R::Error>> {
        if let Some(refused) = self.refused {
            return Err(refused.into());
        }
        self.process(true, rows)?;
        let received = self.window.received();
        let refusal = |kind, what: &str| Refusal::new(kind, received, what);
        match self.state {
            State::Closed => {}
            State::Start => {
                let empty = refusal(RefusedKind::NotAResult, "the body is empty: there is no result");
                return Err(plainly(empty).into());
            }
            _ => {
                let cut = refusal(RefusedKind::Truncated, "the result is cut off");
                return Err(cut
                    .hint("nothing of it was kept, send it again")
                    .after(self.rows)
                    .into());
            }
        }
        if !self.has_data {
            let names = if self.names.is_empty() {
                "none".to_owned()
            } else {
                self.names.join(", ")
            };
            let what = format!("the body is no result of Looker's: it has no `data`, its keys are {names}");
            return Err(plainly(refusal(RefusedKind::NotAResult, &what)).into());
        }
        self.check_plan(received)?;
        if let Some(Ok(plan)) = &self.plan {
            let depth = self.limits.max_depth;
            self.spool
                .convert(&mut self.sink, plan, (self.rows, received), depth, rows)?;
        }
        Ok(Summary {
            rows: self.rows,
            events: self.sink.events,
            dead_rows: self.sink.dead_rows,
            first_dead_rows: self.sink.first_dead_rows,
            ran_at: self.ran_at,
            rows_digest: self.digest.value(),
            id_columns: match &self.plan {
                Some(Ok(plan)) => plan.id_columns(),
                _ => IdColumns::default(),
            },
            bytes: received,
        })
    }

    /// Whether the columns are such that rows can become events.
    fn check_plan(&self, at: u64) -> Result<(), Refused> {
        match &self.plan {
            Some(Err((why, at))) => Err(Refused {
                kind: why.kind(),
                row: self.rows,
                at: *at,
                message: why.to_string(),
            }),
            None if self.state == State::Closed && self.rows > 0 => {
                let what = "the body is no result of Looker's: it has rows but no `fields`";
                Err(Refusal::new(RefusedKind::NotAResult, at, what).after(self.rows))
            }
            _ => Ok(()),
        }
    }

    /// Does what can be done with what has come; `last`: nothing more will.
    fn process<R: Rows>(&mut self, last: bool, rows: &mut R) -> Result<(), Stopped<R::Error>> {
        if !last && self.window.rest().len() < self.wanted {
            return Ok(());
        }
        self.wanted = 0;
        loop {
            let step = match self.state {
                State::Row | State::RowsOpened => self.row(rows)?,
                State::Start => self.start(last)?,
                State::Opened | State::Member => self.member()?,
                State::AfterMember | State::AfterRow | State::Closed => self.between()?,
            };
            if matches!(step, Step::More) {
                return Ok(());
            }
        }
    }

    /// Skips white space; the next byte, if there is one.
    fn next_byte(&mut self) -> Option<u8> {
        let rest = self.window.rest();
        match peek(rest, 0) {
            Ok((at, byte)) => {
                if at > 0 {
                    self.window.consume(at);
                }
                Some(byte)
            }
            Err(_) => {
                let length = rest.len();
                self.window.consume(length);
                None
            }
        }
    }

    fn to(&mut self, state: State) -> Step {
        self.window.consume(1);
        self.state = state;
        Step::Done
    }

    fn start(&mut self, last: bool) -> Result<Step, Refused> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        if self.window.offset() == 0 && self.window.rest().starts_with(MARK) {
            self.window.consume(MARK.len());
        }
        match self.next_byte() {
            None => Ok(Step::More),
            Some(b'{') => Ok(self.to(State::Opened)),
            Some(_) => {
                // Half a mark may be here as well.
                let rest = self.window.rest();
                if !last && rest.len() < SHOWN_BYTES {
                    return Ok(Step::More);
                }
                let beginning = rest.get(..SHOWN_BYTES).unwrap_or(rest);
                let shown = text::shown(&String::from_utf8_lossy(beginning), SHOWN_CHARACTERS);
                let what =
                    format!("the body is no result of Looker's, which is a JSON object; it begins with: {shown}");
                Err(plainly(Refusal::new(
                    RefusedKind::NotAResult,
                    self.window.offset(),
                    what,
                )))
            }
        }
    }

    fn between(&mut self) -> Result<Step, Refused> {
        let Some(byte) = self.next_byte() else {
            return Ok(Step::More);
        };
        match (self.state, byte) {
            (State::AfterMember, b',') => Ok(self.to(State::Member)),
            (State::AfterMember, b'}') => Ok(self.to(State::Closed)),
            (State::AfterRow, b',') => Ok(self.to(State::Row)),
            (State::AfterRow, b']') => Ok(self.to(State::AfterMember)),
            (State::Closed, _) => Err(self.malformed(0, "the result goes on after its end")),
            (State::AfterRow, _) => Err(self.malformed(0, &wants("`,` or `]`"))),
            _ => Err(self.malformed(0, &wants("`,` or `}`"))),
        }
    }

    /// A refusal of the byte at `at` of what waits.
    fn malformed(&self, at: usize, what: &str) -> Refused {
        Refusal::new(RefusedKind::Malformed, self.window.offset() + at as u64, what).after(self.rows)
    }

    /// What waits, but no more of it than shows whether a row or member exceeds its limit.
    fn limited(&self) -> &[u8] {
        let most = usize::try_from(self.limits.max_row_bytes)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        let rest = self.window.rest();
        rest.get(..most).unwrap_or(rest)
    }

    /// Refuses what is longer than a row or member may be.
    fn check_length(&self, length: usize, what: impl std::fmt::Display) -> Result<(), Refused> {
        let most = self.limits.max_row_bytes;
        if length as u64 <= most {
            return Ok(());
        }
        let what = format!("{what} has more than {most} bytes");
        let too_large = Refusal::new(RefusedKind::TooLarge, self.window.offset(), what);
        Err(too_large.hint("looker.max_row_bytes is the limit").after(self.rows))
    }

    /// What to do where a scan of [`Document::limited`] stopped: wait, or refuse.
    fn stopped(&mut self, stop: Stop, what: &str) -> Result<Step, Refused> {
        let most = self.limits.max_row_bytes;
        match stop {
            Stop::More => {
                let seen = self.limited().len();
                self.check_length(seen, what)?;
                self.wanted = seen
                    .saturating_mul(2)
                    .min(usize::try_from(most).unwrap_or(usize::MAX).saturating_add(1));
                Ok(Step::More)
            }
            Stop::Bad { at, fault } => {
                let at = self.window.offset() + at as u64;
                Err(Refusal::of(fault, at, self.limits.max_depth).after(self.rows))
            }
        }
    }

    /// The span as text, or the refusal of its first byte that is no UTF-8.
    fn utf8(&self, from: usize, to: usize) -> Result<&str, Refused> {
        std::str::from_utf8(self.window.rest().get(from..to).unwrap_or_default())
            .map_err(|error| self.malformed(from + error.valid_up_to(), "the result is malformed: no UTF-8"))
    }

    fn member(&mut self) -> Result<Step, Refused> {
        match self.next_byte() {
            None => return Ok(Step::More),
            Some(b'}') if self.state == State::Opened => return Ok(self.to(State::Closed)),
            Some(_) => {}
        }
        let bytes = self.limited();
        let head = scan::key(bytes, 0).and_then(|key| Ok((key, peek(bytes, key.next)?)));
        let (key, (start, first)) = match head {
            Ok(head) => head,
            Err(stop) => return self.stopped(stop, "a member of the result"),
        };
        let name = text::unescape(self.utf8(key.start, key.end)?).into_owned();
        if name == "data" {
            if self.has_data {
                return Err(self.malformed(0, "the result has `data` twice"));
            }
            if first != b'[' {
                let what = "the body is no result of Looker's: its `data` is no list";
                return Err(Refusal::new(RefusedKind::NotAResult, self.window.offset() + start as u64, what).after(0));
            }
            self.check_plan(self.window.offset())?;
            self.has_data = true;
            self.window.consume(start + 1);
            self.state = State::RowsOpened;
            return Ok(Step::Done);
        }
        let end = match scan::value(self.limited(), start, self.limits.max_depth - 1) {
            Ok(value) => value.end,
            Err(stop) => return self.stopped(stop, "a member of the result"),
        };
        self.check_length(end, "a member of the result")?;
        let at = self.window.offset() + start as u64;
        let json = self.utf8(start, end)?;
        match name.as_str() {
            "fields" => {
                if self.plan.is_some() {
                    return Err(self.malformed(0, "the result has `fields` twice"));
                }
                let plan = Plan::new(json, &self.settings, &self.context, &self.limits);
                if let Ok(plan) = &plan {
                    self.sink.columns(&plan.keys);
                }
                self.plan = Some(plan.map_err(|why| (why, at)));
            }
            "errors" => {
                if let Some(said) = query_error(json) {
                    let failed = Refusal::new(RefusedKind::QueryFailed, at, "the query failed in Looker");
                    return Err(failed.detail(said).after(self.rows));
                }
            }
            "ran_at" => {
                self.ran_at = serde_json::from_str::<String>(json)
                    .ok()
                    .and_then(|text| Timestamp::parse_rfc3339(&text));
            }
            _ => {}
        }
        if self.names.len() < NAMES {
            self.names.push(text::shown(&name, 40));
        }
        self.window.consume(end);
        self.state = State::AfterMember;
        Ok(Step::Done)
    }

    fn row<R: Rows>(&mut self, rows: &mut R) -> Result<Step, Stopped<R::Error>> {
        let Some(first) = self.next_byte() else {
            return Ok(Step::More);
        };
        if first == b']' && self.state == State::RowsOpened {
            return Ok(self.to(State::AfterMember));
        }
        let plan = self.plan.as_ref().and_then(|plan| plan.as_ref().ok());
        let depth = self.limits.max_depth;
        let most = usize::try_from(self.limits.max_row_bytes)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        let rest = self.window.rest();
        let bytes = rest.get(..most).unwrap_or(rest);
        let scanned = self
            .sink
            .scan(bytes, first, plan.map_or(&self.no_columns, |plan| &plan.keys), depth);
        let (end, looker_error) = match scanned {
            Ok(scanned) => scanned,
            Err(stop) => {
                let what = format!("row {}", self.rows + 1);
                return Ok(self.stopped(stop, &what)?);
            }
        };
        self.check_length(end, format_args!("row {}", self.rows + 1))?;
        let span = bytes.get(..end).unwrap_or_default();
        let text = match std::str::from_utf8(span) {
            Ok(text) => text,
            Err(error) => {
                return Err(self
                    .malformed(error.valid_up_to(), "the result is malformed: no UTF-8")
                    .into());
            }
        };
        if let Some(range) = looker_error {
            let said = message_text(text.get(range).unwrap_or_default());
            let failed = Refusal::new(
                RefusedKind::QueryFailed,
                self.window.offset(),
                "the query failed in Looker",
            );
            return Err(failed.detail(said).after(self.rows).into());
        }
        self.digest.row(span);
        let number = self.rows + 1;
        match plan {
            Some(plan) => self.sink.row(plan, text, first, number, rows)?,
            None if self.spool.bytes() + span.len() as u64 + 1 > self.limits.max_spool_bytes => {
                let most = self.limits.max_spool_bytes;
                let what = format!("more than {most} bytes of rows came before the names of their columns (`fields`)");
                let too_large = Refusal::new(RefusedKind::TooLarge, self.window.offset(), what);
                return Err(too_large
                    .hint("looker.max_spool_bytes is the limit")
                    .after(self.rows)
                    .into());
            }
            None => self.spool.add(span, rows)?,
        }
        self.rows = number;
        self.window.consume(end);
        self.state = State::AfterRow;
        Ok(Step::Done)
    }
}
