//! `import`: JSON lines become stored runs. Lines as `events` writes them keep their run's id and their rows, and a run that
//! is here already is left out, so the same file can be read again; bare events become one new run a call.
//!
//! A run is stored as a whole or not at all. A bad line ends the import: its run is not stored, those before it are.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde_json::value::RawValue;

use crate::event::{Action, Code, Destination, RunId, Timestamp};
use crate::store::{Closing, NewRun, Origin, RunKind, RunWriter};

use super::json_object::RawObject;
use super::mend::{Demands, derived_message_id, take};
use super::views::Imported;
use super::{Fault, Kind, Service};

/// A run's id may be ahead of this machine's clock by so many milliseconds: clocks differ, and no run comes from the future.
const AHEAD: u64 = 86_400_000;

/// What an import needs to know.
#[derive(Debug, Clone)]
pub struct ImportOrder {
    /// Where the events go.
    pub destination: String,
    /// The file's name, to be shown as the run's title.
    pub file: Option<String>,
    /// Now.
    pub now: Timestamp,
    /// For the ids of new runs.
    pub random: u128,
}

struct Open {
    writer: RunWriter,
    last_row: u64,
}

struct Import<'a> {
    service: &'a Service,
    order: &'a ImportOrder,
    destination: Destination,
    max_bytes: u64,
    /// Bare events, a run a call.
    bare: BTreeMap<Action, Open>,
    /// The run whose lines are being read; none of its own where it was here already.
    named: Option<(RunId, Option<Open>)>,
    imported: Imported,
}

impl Service {
    /// Reads lines to their end.
    pub fn import(&self, order: &ImportOrder, lines: &mut dyn BufRead) -> Result<Imported, Fault> {
        let destination = self.destination(&order.destination)?;
        let mut import = Import {
            service: self,
            order,
            imported: Imported {
                runs: Vec::new(),
                events: 0,
                skipped: Vec::new(),
                destination: destination.id.clone(),
            },
            destination,
            max_bytes: self.max_event_bytes(),
            bare: BTreeMap::new(),
            named: None,
        };
        let result = import.read(lines);
        self.count_again();
        match result {
            Ok(()) => import.finish(),
            Err(fault) => Err(import.give_up(fault)),
        }
    }
}

impl Import<'_> {
    fn read(&mut self, lines: &mut dyn BufRead) -> Result<(), Fault> {
        // An event and what `events` writes around it.
        let limit = self.max_bytes.saturating_add(4_096);
        let mut line = Vec::new();
        let mut number = 0_u64;
        loop {
            line.clear();
            number += 1;
            let read = std::io::Read::take(&mut *lines, limit + 1)
                .read_until(b'\n', &mut line)
                .map_err(|error| {
                    Fault::new(
                        Kind::Failed,
                        Code::RequestMalformed,
                        format!("line {number} could not be read: {error}"),
                    )
                })?;
            if read == 0 {
                return Ok(());
            }
            if read as u64 > limit {
                return Err(Fault::bad_event(format!(
                    "line {number}: it is longer than events.max_event_bytes = {} allows",
                    self.max_bytes
                )));
            }
            if !line.trim_ascii().is_empty() {
                self.line(number, &line)?;
            }
        }
    }

    fn line(&mut self, number: u64, line: &[u8]) -> Result<(), Fault> {
        let place = format!("line {number}");
        let bad = |what: &str| Fault::bad_event(format!("{place}: {what}"));
        let raw: &RawValue = serde_json::from_slice(line).map_err(|error| bad(&format!("no good JSON: {error}")))?;
        let object: RawObject<'_> = serde_json::from_str(raw.get()).map_err(|_| bad("an event is a JSON object"))?;
        let (Some(run), Some(event)) = (object.text("run"), object.member("event")) else {
            return self.bare(&place, raw);
        };
        let run: RunId = run.parse().map_err(|_| bad("its run is no id"))?;
        if run.received_at() > self.order.now.plus(AHEAD) {
            return Err(bad(&format!(
                "the time in the id of run {run} is more than a day ahead of this machine's clock, and it would stand before \
                 all others in each list; import the events alone, as `events --raw` writes them, and they become a run of \
                 today"
            )));
        }
        let row: u64 = object
            .member("row")
            .and_then(|row| row.get().parse().ok())
            .filter(|row| (1..1 << 40).contains(row))
            .ok_or_else(|| bad("its row is no number from 1 on"))?;
        self.named(&place, run, row, event)
    }

    fn bare(&mut self, place: &str, event: &RawValue) -> Result<(), Fault> {
        let demands = Demands {
            place,
            action: None,
            keeps: None,
            // The same text at the same place of the same run has the same id.
            otherwise: &|| derived_message_id(&format!("{place}\u{1f}{}\u{1f}{}", self.order.random, event.get())),
            max_bytes: self.max_bytes,
        };
        let taken = take(event, &demands)?;
        let calls = self.bare.len() as u128;
        if !self.bare.contains_key(&taken.action) {
            // The calls differ early in the ids, so that their beginnings tell them apart.
            let id = RunId::new(self.order.now, self.order.random.wrapping_add(calls << 72));
            let open = self.begin(id, taken.action)?;
            self.bare.insert(taken.action, open);
        }
        if let Some(open) = self.bare.get_mut(&taken.action) {
            open.last_row += 1;
            write(open, &taken)?;
        }
        Ok(())
    }

    fn named(&mut self, place: &str, run: RunId, row: u64, event: &RawValue) -> Result<(), Fault> {
        let bad = |what: String| Fault::bad_event(format!("{place}: {what}"));
        if self.named.as_ref().is_none_or(|(known, _)| *known != run) {
            self.close_named()?;
            if self.imported.runs.contains(&run) || self.imported.skipped.contains(&run) {
                return Err(bad(format!(
                    "run {run} comes a second time after others; sort the lines by run and row"
                )));
            }
            // Of one that failed nothing is here: the file may be better now.
            let known = self.service.store().run(run)?;
            if known.is_some_and(|known| !known.is_failed_import()) {
                self.imported.skipped.push(run);
                self.named = Some((run, None));
            }
        }
        if matches!(&self.named, Some((known, None)) if *known == run) {
            return Ok(());
        }
        let demands = Demands {
            place,
            action: None,
            keeps: None,
            otherwise: &|| derived_message_id(&format!("{run}\u{1f}{row}")),
            max_bytes: self.max_bytes,
        };
        let taken = take(event, &demands)?;
        if self.named.is_none() {
            let open = self.begin(run, taken.action)?;
            self.named = Some((run, Some(open)));
        }
        if let Some((_, Some(open))) = &mut self.named {
            if row <= open.last_row {
                return Err(bad(format!(
                    "row {row} of run {run} comes after row {}; sort the lines by run and row",
                    open.last_row
                )));
            }
            open.last_row = row;
            write(open, &taken)?;
        }
        Ok(())
    }

    fn begin(&self, id: RunId, action: Action) -> Result<Open, Fault> {
        let writer = self.service.store().begin(NewRun {
            id,
            kind: RunKind::Import,
            action,
            destination: self.destination.clone(),
            looker: Origin {
                title: self.order.file.clone(),
                ..Origin::default()
            },
            delivery: None,
            received_at: self.order.now,
            replay_of: Vec::new(),
            replay: None,
        })?;
        Ok(Open { writer, last_row: 0 })
    }

    fn close_named(&mut self) -> Result<(), Fault> {
        if let Some((_, Some(open))) = self.named.take() {
            self.commit(open)?;
        }
        Ok(())
    }

    fn commit(&mut self, open: Open) -> Result<(), Fault> {
        let record = open.writer.commit(Closing::plain(self.order.now, Timestamp::now()))?;
        self.imported.events += record.events;
        self.imported.runs.push(record.id);
        Ok(())
    }

    fn finish(mut self) -> Result<Imported, Fault> {
        self.close_named()?;
        for (_, open) in std::mem::take(&mut self.bare) {
            self.commit(open)?;
        }
        Ok(self.imported)
    }

    /// What is open is not stored; what is stored is told.
    fn give_up(mut self, fault: Fault) -> Fault {
        let named = self.named.take().and_then(|(_, open)| open);
        let open = named.into_iter().chain(std::mem::take(&mut self.bare).into_values());
        for open in open {
            if let Err(error) = open.writer.fail(open.last_row, &fault.message) {
                tracing::warn!(%error, "a failed import could not be listed");
            }
        }
        let stored = match self.imported.runs.len() {
            0 => "nothing was imported".to_owned(),
            1 => "one run before it was imported, and is left out when the file is read again".to_owned(),
            runs => format!("{runs} runs before it were imported, and are left out when the file is read again"),
        };
        Fault {
            message: format!("{}; {stored}", fault.message),
            ..fault
        }
    }
}

fn write(open: &mut Open, taken: &super::mend::Taken) -> Result<(), Fault> {
    let ids: Vec<&str> = [&taken.user_id, &taken.anonymous_id, &taken.email]
        .into_iter()
        .filter_map(Option::as_deref)
        .collect();
    open.writer
        .event(open.last_row, taken.own_timestamp, &taken.stored, &ids)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::admin::tests::{NOW, import, service};
    use crate::store::RunState;

    #[test]
    fn a_failed_import_can_be_repeated_with_a_better_file() {
        let folder = tempfile::tempdir().unwrap();
        let (service, store) = service(folder.path());
        let id = crate::event::RunId::new(NOW, 7);
        let line = |row: u64, event: &str| format!("{{\"run\":\"{id}\",\"row\":{row},\"event\":{event}}}\n");
        let good = |row: u64| line(row, r#"{"type":"track","userId":"u","event":"e"}"#);
        let bad = good(1) + &good(2) + &line(3, "17");
        let fault = import(&service, &bad).unwrap_err();
        assert!(fault.message.contains("nothing was imported"), "{}", fault.message);
        assert_eq!(store.run(id).unwrap().unwrap().state, RunState::Failed);
        let better = good(1) + &good(2) + &good(3);
        let imported = import(&service, &better).unwrap();
        assert_eq!(
            (imported.runs, imported.events, imported.skipped),
            (vec![id], 3, vec![])
        );
        assert_eq!(store.run(id).unwrap().unwrap().state, RunState::Stored);
        // Now it is here.
        let again = import(&service, &better).unwrap();
        assert_eq!((again.events, again.skipped), (0, vec![id]));
    }

    #[test]
    fn a_run_of_another_time_than_its_own_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (service, store) = service(folder.path());
        let line = |id: &str| {
            format!(
                "{{\"run\":\"{id}\",\"row\":1,\"event\":{{\"type\":\"track\",\"userId\":\"u\",\"event\":\"e\"}}}}\n"
            )
        };
        let ahead = |milliseconds: u64| crate::event::RunId::new(NOW.plus(milliseconds), 7).to_string();
        for (id, word) in [
            ("7zzzzzzzzzzzzzzzzzzzzzzzzz", "more than a day"),
            ("8zzzzzzzzzzzzzzzzzzzzzzzzz", "no id"),
            (&ahead(super::AHEAD + 1), "more than a day"),
        ] {
            let fault = import(&service, &line(id)).unwrap_err();
            assert!(fault.message.contains(word), "{}", fault.message);
        }
        assert_eq!(store.runs(None, 10).unwrap(), []);
        assert_eq!(import(&service, &line(&ahead(super::AHEAD))).unwrap().events, 1);
    }
}
