//! The story of the demo, step by step: the look is sent while RudderStack is down, the backlog waits on the disk,
//! RudderStack returns, everything arrives in order, the bad row is a dead letter, a part is replayed; then the counts.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Runtime;

use super::data::{HIGH, Look};
use super::looker::Looker;
use super::narrator::{Narrator, grouped};
use super::process::{Folder, Pintle};
use super::rudderstack::RudderStack;
use super::{Counted, DemoArguments, Error};

/// How often something is looked at while it changes.
const LOOK: Duration = Duration::from_millis(150);

/// A step that takes longer has failed. More rows get more time.
const STEP: Duration = Duration::from_secs(25);

/// How long the backlog is looked at while it waits.
const PATIENCE: Duration = Duration::from_secs(4);

/// All who take part.
struct Stage<'a> {
    look: Look,
    runtime: &'a Runtime,
    interrupted: &'a dyn Fn() -> bool,
    narrator: Narrator,
    looker: Looker,
    rudderstack: RudderStack,
    pintle: Pintle,
    began: Instant,
}

/// Plays it to the end.
pub(crate) fn show(
    arguments: DemoArguments,
    json: bool,
    quiet: bool,
    runtime: &Runtime,
    interrupted: &dyn Fn() -> bool,
) -> Result<Counted, Error> {
    let began = Instant::now();
    let look = Look { rows: arguments.rows };
    let mut narrator = Narrator::new(json, quiet, 6);
    narrator
        .title("pintle demo: a look's way to RudderStack, on this machine, over real HTTP, in a temporary store")?;

    narrator.step("Three programs start")?;
    let folder = Folder::new()?;
    let looker = runtime.block_on(Looker::start(look)).map_err(|source| Error::Listen {
        what: "the stand-in Looker",
        source,
    })?;
    let rudderstack = {
        let _entered = runtime.enter();
        RudderStack::down().map_err(|source| Error::Listen {
            what: "the stand-in RudderStack",
            source,
        })?
    };
    let pintle = Pintle::start(&folder, looker.address, interrupted)?;
    narrator.say(&format!(
        "Looker       http://{}  a stand-in with a look of {} rows",
        looker.address,
        grouped(look.rows)
    ))?;
    narrator.say(&format!(
        "pintle       http://{}  the real one, process {}",
        pintle.hub,
        pintle.id()
    ))?;
    narrator.say(&format!(
        "RudderStack  http://{}  a stand-in; it is down and refuses connections",
        rudderstack.address
    ))?;
    narrator.say(&format!("store        {}", folder.path().join("store").display()))?;

    // Locals go in reverse order: the server ends before its folder is removed, also on an error.
    let mut stage = Stage {
        look,
        runtime,
        interrupted,
        narrator,
        looker,
        rudderstack,
        pintle,
        began,
    };
    let run = stage.send_the_look()?;
    let backlog = stage.backlog_waits()?;
    stage.rudderstack_returns()?;
    stage.bad_row(&run)?;
    let replayed = stage.replay(&run)?;
    let counted = stage.count(&run, backlog, replayed)?;
    if arguments.keep {
        stage.keep()?;
    }
    Ok(counted)
}

impl Stage<'_> {
    /// Looker sends the look and is told that all is safe, although RudderStack is down. The run's id.
    fn send_the_look(&mut self) -> Result<String, Error> {
        self.narrator.step("Looker sends the look while RudderStack is down")?;
        let token = self.pintle.json(&["token"])?;
        let (Some(url), Some(token)) = (text(&token, "/url"), text(&token, "/token")) else {
            return Err(unexpected("token", "no url and token"));
        };
        let began = Instant::now();
        let shown = self
            .runtime
            .block_on(self.looker.send(url, token, self.rudderstack.address))
            .map_err(|error| Error::Looker {
                reason: error.to_string(),
            })?;
        if !shown.success {
            return Err(Error::Refused { message: shown.message });
        }
        self.narrator.say(&format!(
            "After {:.2} s Looker shows a success. pintle's words:",
            began.elapsed().as_secs_f64()
        ))?;
        self.narrator.say(&format!("\"{}\"", shown.message.trim()))?;
        self.narrator
            .say("It was said after the rows were safe on the disk; nobody waited for RudderStack.")?;
        let runs = self.pintle.json(&["runs"])?;
        let run = runs.get(0).and_then(|run| text(run, "/id"));
        run.map(str::to_owned).ok_or_else(|| unexpected("runs", "no run"))
    }

    /// All events wait, and the lane says why. How many.
    fn backlog_waits(&mut self) -> Result<u64, Error> {
        self.narrator.step("The backlog grows")?;
        let mut most = 0;
        let mut all_since = None;
        self.until("all events wait", |stage| {
            let status = stage.pintle.json(&["status"])?;
            most = most.max(number(&status, "/backlog/events"));
            let attempts = number(&status, "/destinations/0/attempts");
            stage.narrator.progress(&format!(
                "{} events wait, attempt {attempts} at RudderStack",
                grouped(most)
            ))?;
            if most < stage.look.events() {
                return Ok(false);
            }
            // Long enough to see that it is tried again.
            let since = *all_since.get_or_insert_with(Instant::now);
            Ok(attempts >= 2 || since.elapsed() > PATIENCE)
        })?;
        self.shows(&["status"])?;
        Ok(most)
    }

    /// Everything that waits arrives.
    fn rudderstack_returns(&mut self) -> Result<(), Error> {
        self.narrator.step("RudderStack returns, the backlog drains")?;
        {
            let _entered = self.runtime.enter();
            self.rudderstack.up().map_err(|source| Error::Listen {
                what: "the stand-in RudderStack",
                source,
            })?;
        }
        let began = Instant::now();
        let expected = self.look.events();
        self.until("all events are at RudderStack", |stage| {
            let arrived = stage.rudderstack.counts().different();
            stage
                .narrator
                .progress(&format!("{} of {} events arrived", grouped(arrived), grouped(expected)))?;
            Ok(arrived >= expected)
        })?;
        let seconds = began.elapsed().as_secs_f64();
        let requests = self.rudderstack.counts().requests;
        self.narrator.say(&format!(
            "All {} events arrived within {seconds:.1} s of its return, in {requests} batches, in the look's order.",
            grouped(expected)
        ))?;
        self.nothing_waits()
    }

    /// A command that the reader could type, and what it prints.
    fn shows(&mut self, arguments: &[&str]) -> Result<(), Error> {
        self.narrator.command(arguments)?;
        for line in self.pintle.printed(arguments)?.lines() {
            self.narrator.say(line)?;
        }
        Ok(())
    }

    fn nothing_waits(&mut self) -> Result<(), Error> {
        self.until("nothing waits any more", |stage| {
            Ok(number(&stage.pintle.json(&["status"])?, "/backlog/events") == 0)
        })
    }

    /// The row that could not become an event is kept, with its reason.
    fn bad_row(&mut self, run: &str) -> Result<(), Error> {
        self.narrator
            .step("One row was bad; it stopped no other, and it is kept")?;
        self.shows(&["dead", "list", "--run", run])
    }

    /// Sends a part of the events again. How many came.
    fn replay(&mut self, run: &str) -> Result<u64, Error> {
        self.narrator.step("A replay with a filter")?;
        let plan = self
            .pintle
            .json(&["replay", "--run", run, "--event", HIGH, "--dry-run"])?;
        let events = number(&plan, "/events");
        let (all_before, high_before) = {
            let counts = self.rudderstack.counts();
            (counts.events, counts.high)
        };
        // Its plan comes first.
        self.shows(&["replay", "--run", run, "--event", HIGH, "--yes"])?;
        self.until("the replayed events are at RudderStack", |stage| {
            let again = stage.rudderstack.counts().events - all_before;
            stage
                .narrator
                .progress(&format!("{} of {} events came again", grouped(again), grouped(events)))?;
            Ok(again >= events)
        })?;
        self.nothing_waits()?;
        let (all, high) = {
            let counts = self.rudderstack.counts();
            (counts.events - all_before, counts.high - high_before)
        };
        self.narrator.say(&format!(
            "{} events came again, {} of them \"{HIGH}\", with the messageIds they had: RudderStack can drop what it has.",
            grouped(all),
            grouped(high)
        ))?;
        Ok(all)
    }

    /// The numbers of both ends beside what they must be.
    fn count(&mut self, run: &str, backlog: u64, replayed: u64) -> Result<Counted, Error> {
        let status = self.pintle.json(&["status"])?;
        let dead = self.pintle.json(&["dead", "list", "--run", run])?;
        let runs = self.pintle.json(&["runs"])?;
        let runs = runs.as_array().map(Vec::as_slice).unwrap_or_default();
        let record = runs
            .iter()
            .find(|one| text(one, "/id") == Some(run))
            .ok_or_else(|| unexpected("runs", "the run is gone"))?;
        let look = self.look;
        let dead_rows: Vec<u64> = dead
            .as_array()
            .into_iter()
            .flatten()
            .map(|letter| number(letter, "/row"))
            .collect();
        let (events, delivered, out_of_order) = {
            let counts = self.rudderstack.counts();
            (counts.events, counts.different(), counts.out_of_order)
        };
        let pending = number(&status, "/backlog/events");
        let table = [
            ("rows read by pintle", number(record, "/rows"), look.rows),
            ("most events that waited", backlog, look.events()),
            ("different events at RudderStack", delivered, look.events()),
            ("of them before an earlier row's", out_of_order, 0),
            (
                "delivered, as pintle counts",
                number(record, "/delivered"),
                look.events(),
            ),
            ("dead letters", dead_rows.len() as u64, 1),
            (
                "the dead letter's row",
                dead_rows.first().copied().unwrap_or(0),
                look.bad_row(),
            ),
            ("events sent again by the replay", replayed, look.high()),
            ("events at RudderStack, all in all", events, look.events() + look.high()),
            ("events that still wait", pending, 0),
        ];
        self.narrator.title("\nThe counts of both ends")?;
        for (what, counted, right) in table {
            self.narrator.counted(what, counted, right)?;
        }
        let ok = table.iter().all(|(_, counted, right)| counted == right);
        let seconds = self.began.elapsed().as_secs_f64();
        let verdict = if ok {
            "Everything arrived or says why not"
        } else {
            "The counts are wrong"
        };
        self.narrator.title(&format!("\n{verdict}; {seconds:.1} s in all."))?;
        Ok(Counted {
            ok,
            rows: look.rows,
            events,
            delivered,
            out_of_order,
            backlog,
            pending,
            dead_letters: dead_rows.len() as u64,
            replayed,
            seconds: (seconds * 1e3).round() / 1e3,
        })
    }

    /// Leaves everything running until it is interrupted.
    fn keep(&mut self) -> Result<(), Error> {
        let admin = self.pintle.json(&["token", "--admin"])?;
        let configuration = self.pintle.configuration();
        self.narrator
            .title("\nIt goes on running. Ctrl-C ends it and removes its store.")?;
        self.narrator
            .say(&format!("console  {}", text(&admin, "/url").unwrap_or("not known")))?;
        self.narrator
            .say(&format!("token    {}", text(&admin, "/token").unwrap_or("not known")))?;
        self.narrator
            .say(&format!("verbs    pintle --config {} status", configuration.display()))?;
        while !(self.interrupted)() {
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Looks again and again until it is so.
    fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> Result<bool, Error>) -> Result<(), Error> {
        let began = Instant::now();
        // A very large look may take longer than a step of the usual one.
        let limit = STEP + Duration::from_millis(self.look.rows / 10);
        loop {
            if (self.interrupted)() {
                return Err(Error::Interrupted);
            }
            if so(self)? {
                return Ok(());
            }
            if began.elapsed() > limit {
                return Err(Error::Late {
                    what: what.to_owned(),
                    seconds: limit.as_secs(),
                });
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// A number within, by its JSON pointer.
fn number(value: &Value, at: &str) -> u64 {
    value.pointer(at).and_then(Value::as_u64).unwrap_or(0)
}

/// A text within, by its JSON pointer.
fn text<'a>(value: &'a Value, at: &str) -> Option<&'a str> {
    value.pointer(at).and_then(Value::as_str)
}

fn unexpected(verb: &str, what: &str) -> Error {
    Error::Unexpected {
        verb: verb.to_owned(),
        what: what.to_owned(),
    }
}
