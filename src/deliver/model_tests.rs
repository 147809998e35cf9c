//! The machine against random gateways, clocks, operators and crashes, on simulated time.
//!
//! Always: what is acknowledged was committed by the gateway or is a dead letter; first deliveries are in order; one
//! request at a time; no busy loop. And when the gateway heals, everything is delivered or dead, and only what it
//! hates is dead.

mod cases;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use self::world::{Mood, World, says};
use super::desk::{Desk, Done, Foreseen, Prepared, Then, Work};
use super::lane::Sources;
use super::machine::{Event, Limits, Machine, Next, Step};
use super::memory::Memory;
use super::notice::Notice;
use super::size::Learned;
use super::status::State;
use crate::event::Timestamp;
use crate::rudderstack::Body;

const HOUR: u64 = 3_600_000;

#[derive(Debug, Clone)]
enum Happening {
    Stored(usize, usize),
    Crash,
    /// The next step at the store fails, and does nothing.
    StoreFails,
    Tell(Event),
}

/// One lane on simulated time.
struct Simulation {
    memory: Memory,
    desk: Desk<Memory>,
    machine: Machine,
    world: World,
    now: Timestamp,
    random: u64,
    notices: Vec<Notice>,
    /// What the last run ended before.
    event: Option<Event>,
    store_fails: bool,
    /// The next body, made before its turn, and how many of those were sent.
    foreseen: Option<(Foreseen<usize>, Body)>,
    foreseen_sent: u64,
    /// What happens when; later ones last.
    happenings: BTreeMap<(u64, usize), Happening>,
    /// Attempts since something was settled, and when that was.
    without_progress: (u64, Timestamp),
    busiest_hour: u64,
}

const LIMITS: Limits = Limits {
    max_bytes: 4_000_000,
    retry_max_interval: Duration::from_secs(60),
    gzip: false,
};

/// The events in a body, by their message ids.
fn ids_in(wire: &[u8]) -> Vec<usize> {
    let text = std::str::from_utf8(wire).unwrap();
    let parts = text.split(r#""messageId":"m-"#).skip(1);
    parts
        .map(|part| part.split('"').next().unwrap().parse().unwrap())
        .collect()
}

impl Simulation {
    fn new(world: World, happenings: Vec<(u64, Happening)>, seed: u64) -> Self {
        let memory = Memory::default();
        Self {
            desk: desk(memory.clone()),
            memory,
            machine: Machine::new(LIMITS, Learned::default(), false, Timestamp(0)),
            world,
            now: Timestamp(0),
            random: seed | 1,
            notices: Vec::new(),
            event: None,
            store_fails: false,
            foreseen: None,
            foreseen_sent: 0,
            happenings: happenings
                .into_iter()
                .enumerate()
                .map(|(index, (at, happening))| ((at, index), happening))
                .collect(),
            without_progress: (0, Timestamp(0)),
            busiest_hour: 0,
        }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn on(&mut self, event: Event) -> Step {
        let random = self.random();
        let step = self.machine.on(event, self.now, random);
        self.notices.extend(step.notices.iter().cloned());
        step
    }

    fn perform(&mut self, step: Step, then: Then) -> Done {
        if step.settle.is_some() {
            self.without_progress = (0, self.now);
        }
        let work = Work {
            note: None,
            settle: step.settle,
            sync: false,
            rewind: step.rewind,
            then,
            now: self.now,
        };
        self.desk.work(work).unwrap()
    }

    /// Goes on until `end`, or until nothing waits and nothing more happens.
    fn run(&mut self, end: u64) {
        let mut event = self.event.take().unwrap_or(Event::Woken);
        let mut steps = (self.now, 0);
        while (self.now.0 as u64) < end {
            steps = if steps.0 == self.now {
                (self.now, steps.1 + 1)
            } else {
                (self.now, 0)
            };
            assert!(steps.1 < 1_000, "time stands still at {event:?}: {:?}", self.machine);
            let step = self.on(event);
            let next = step.next;
            if self.store_fails {
                self.store_fails = false;
                event = Event::StoreFailed("the disk is slow".to_owned());
                continue;
            }
            let foreseen = self.foreseen.take().filter(|(of, _)| self.desk.is_next(of, &step));
            let done = match (foreseen, next) {
                (
                    Some((_, body)),
                    Next::Send {
                        first, count, ahead, ..
                    },
                ) => {
                    self.foreseen_sent += 1;
                    self.perform(step, Then::Nothing);
                    Done::Prepared(Prepared {
                        body,
                        first,
                        count,
                        ahead,
                    })
                }
                _ => self.perform(step, Then::of(next)),
            };
            event = match (done, next) {
                (Done::Read { sizes, again_at }, _) => Event::Read { sizes, again_at },
                (Done::Prepared(prepared), Next::Send { first, count, .. }) => {
                    let ids: Vec<usize> = self.desk.leased(first, count).collect();
                    assert_eq!(ids.len(), count);
                    assert_eq!(ids_in(&prepared.body.wire), ids);
                    assert!(
                        ids.iter().all(|id| *id >= self.memory.disk().done),
                        "sent again: {ids:?}"
                    );
                    if let Some((events, bytes)) = prepared.ahead {
                        let sizes = self.desk.read_ahead(events, bytes).unwrap();
                        if !sizes.is_empty() {
                            let step = self.on(Event::Read { sizes, again_at: None });
                            assert_eq!(step.next, Next::Await);
                        }
                    }
                    self.foreseen = self.machine.foreseen().and_then(|(first, count, gzip)| {
                        let (of, batch) = self.desk.foresee(first, count, gzip)?;
                        Some((of, batch.body(self.now, gzip).unwrap()))
                    });
                    let random = self.random();
                    let (judged, took) = self.world.post(&ids, prepared.body.length, self.now, random);
                    self.count_attempt();
                    match self.fly(took) {
                        Some(event) => event,
                        None => Event::Answered {
                            judged,
                            took: Duration::from_millis(took),
                        },
                    }
                }
                (Done::Nothing, Next::Probe) => {
                    let random = self.random();
                    let probe = self.world.probe(self.now, random);
                    self.count_attempt();
                    self.fly(10).unwrap_or(Event::Probed(probe))
                }
                (Done::Nothing, Next::Wait { until }) => {
                    let happens = self.happenings.first_key_value().map(|((at, _), _)| *at);
                    let due = until.map(|at| at.0 as u64);
                    match (due, happens) {
                        (None, None) => return,
                        (Some(due), happens) if happens.is_none_or(|at| due < at) => {
                            self.now = self.now.max(Timestamp(due as i64));
                            Event::Due
                        }
                        (_, Some(at)) => {
                            self.now = self.now.max(Timestamp(at as i64));
                            self.happen().unwrap_or(Event::Woken)
                        }
                        (Some(_), None) => unreachable!("covered by the guard"),
                    }
                }
                (_, next) => panic!("{next:?} was not done"),
            };
        }
        self.event = Some(event);
    }

    /// Time passes while a request is in flight; a crash ends it.
    fn fly(&mut self, took: u64) -> Option<Event> {
        let end = self.now.plus(took);
        while let Some(((at, _), _)) = self.happenings.first_key_value() {
            if *at > end.0 as u64 {
                break;
            }
            self.now = self.now.max(Timestamp(*at as i64));
            let crash = matches!(self.happenings.first_key_value(), Some((_, Happening::Crash)));
            let event = self.happen();
            if crash {
                return Some(Event::Woken);
            }
            if let Some(event) = event {
                let step = self.on(event);
                assert_eq!(step.next, Next::Await, "a second request while one is in flight");
                assert_eq!((step.settle, step.rewind), (None, false));
            }
        }
        self.now = end;
        None
    }

    fn happen(&mut self) -> Option<Event> {
        let (_, happening) = self.happenings.pop_first()?;
        match happening {
            Happening::Stored(count, size) => {
                self.memory.store(count, size);
                Some(Event::Woken)
            }
            Happening::Crash => {
                let learned = self.machine.status().learned;
                self.memory = self.memory.crashed();
                self.desk = desk(self.memory.clone());
                self.foreseen = None;
                self.machine = Machine::new(LIMITS, learned, false, self.now);
                None
            }
            Happening::StoreFails => {
                self.store_fails = true;
                None
            }
            Happening::Tell(event) => Some(event),
        }
    }

    fn count_attempt(&mut self) {
        if self.now.since(self.without_progress.1) > HOUR {
            self.without_progress = (0, self.now);
        }
        self.without_progress.0 += 1;
        self.busiest_hour = self.busiest_hour.max(self.without_progress.0);
    }

    /// What must hold at every moment.
    fn check(&self) {
        let disk = self.memory.disk();
        for id in 0..disk.done {
            let dead = disk.dead.contains_key(&id);
            assert!(
                dead || self.world.first.contains(&id),
                "{id} is acknowledged and was never committed"
            );
        }
        assert!(
            self.busiest_hour < 500,
            "{} attempts in an hour without progress",
            self.busiest_hour
        );
    }
}

fn desk(memory: Memory) -> Desk<Memory> {
    Desk::new(Sources {
        live: memory,
        replay: None,
    })
}

fn renewed() -> crate::event::Destination {
    crate::event::Destination {
        id: crate::event::DestinationId("x".into()),
        name: None,
        url: "http://h".to_owned(),
        write_key: crate::event::WriteKey::new("new"),
    }
}

fn moods() -> impl Strategy<Value = Mood> {
    prop_oneof![
        2 => Just(Mood::Fine),
        1 => Just(Mood::Refusing),
        1 => Just(Mood::Database),
        1 => Just(Mood::BodyCut),
        1 => Just(Mood::Unavailable),
        2 => any::<bool>().prop_map(|commits| Mood::Slow { commits }),
        2 => any::<bool>().prop_map(|commits| Mood::Resetting { commits }),
        1 => (1_usize..200).prop_map(|events| Mood::Throttled { events }),
        1 => Just(Mood::BadKey),
        1 => Just(Mood::LoginPage),
        1 => Just(Mood::Firewall),
        2 => Just(Mood::Flaky),
    ]
}

fn happenings() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (1_usize..400, 200_usize..3_000).prop_map(|(count, size)| Happening::Stored(count, size)),
        2 => Just(Happening::Crash),
        1 => Just(Happening::StoreFails),
        1 => Just(Happening::Tell(Event::Pause)),
        1 => Just(Happening::Tell(Event::Rekeyed(Box::new(renewed())))),
        1 => Just(Happening::Tell(Event::Retry)),
        2 => Just(Happening::Tell(Event::NeighbourRecovered)),
        1 => Just(Happening::Tell(Event::Resume { bury: false })),
        1 => Just(Happening::Tell(Event::Woken)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_reordered_or_stuck(
        moods in proptest::collection::vec((1_000_u64..2 * HOUR, moods()), 0..8),
        happenings in proptest::collection::vec((0_u64..8 * HOUR, happenings()), 1..12),
        hates in proptest::collection::btree_set(0_usize..1_500, 0..12),
        max_bytes in prop_oneof![Just(usize::MAX), 4_000_usize..1_000_000],
        seed in any::<u64>(),
    ) {
        let mut world = World::new(moods);
        world.hates = hates;
        world.max_bytes = max_bytes;
        let healed: u64 = world.moods.iter().map(|(lasts, _)| lasts).sum();
        let mut simulation = Simulation::new(world, happenings, seed);
        simulation.run(healed.max(8 * HOUR));
        simulation.check();
        // Healed; an operator who finds ten hated events in a row says what to do with them.
        simulation.run(healed.max(8 * HOUR) + 12 * HOUR);
        simulation.check();
        if simulation.machine.status().state == State::Paused {
            simulation.happenings.insert((0, usize::MAX), Happening::Tell(Event::Resume { bury: false }));
            simulation.run(healed.max(8 * HOUR) + 24 * HOUR);
            simulation.check();
        }
        let held = simulation.machine.status().state == State::Held;
        if held {
            simulation.happenings.insert((0, usize::MAX), Happening::Tell(Event::Resume { bury: true }));
            simulation.run(u64::MAX >> 1);
            simulation.check();
        }
        prop_assert_eq!(simulation.memory.pending(), 0);
        prop_assert_eq!(simulation.machine.status().state, State::Idle);
        let disk = simulation.memory.disk();
        // Where it is luck who passes, an event that had none for long enough looks as if it were to blame.
        let luck = simulation.world.moods.iter().any(|(_, mood)| *mood == Mood::Flaky);
        for id in 0..disk.events.len() {
            let hated = simulation.world.hates.contains(&id);
            let dead = disk.dead.get(&id);
            prop_assert!(!hated || dead.is_some(), "{} is hated and not dead", id);
            let unlucky = luck && dead.is_some_and(|words| !words.starts_with('4'));
            prop_assert!(dead.is_none() || hated || unlucky, "{} is dead and nobody hated it: {:?}", id, dead);
        }
    }

    #[test]
    fn a_broken_gateway_makes_few_dead_letters(
        stored in 1_usize..3_000,
        lasts in 1_000_u64..5 * HOUR,
        seed in any::<u64>(),
    ) {
        let world = World::new(vec![(lasts, Mood::Broken)]);
        let mut simulation = Simulation::new(world, vec![(0, Happening::Stored(stored, 300))], seed);
        simulation.run(2 * lasts + HOUR);
        simulation.check();
        prop_assert_eq!(simulation.memory.pending(), 0);
        let dead = simulation.memory.disk().dead.len();
        prop_assert!(dead < 10, "{dead} dead letters");
        // Those that were refused in the instant before it healed look as if they were to blame.
        let instant = lasts - simulation.world.last_before_heal < 200;
        prop_assert!(stored < 10 || instant || dead == 0, "{dead} dead letters of a gateway that was found broken");
    }
}
