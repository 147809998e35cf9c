//! Cases of the simulation that are worth a name.

use super::*;

#[test]
fn a_day_without_a_gateway_is_quiet_and_ends_soon() {
    let day = 24 * HOUR;
    for mood in [
        Mood::Refusing,
        Mood::Database,
        Mood::BodyCut,
        Mood::Unavailable,
        Mood::Slow { commits: false },
        Mood::Resetting { commits: false },
        Mood::Throttled { events: 0 },
        Mood::BadKey,
        Mood::LoginPage,
        Mood::Firewall,
        Mood::Broken,
    ] {
        let mut happenings: Vec<_> = (0..24).map(|hour| (hour * HOUR, Happening::Stored(100, 500))).collect();
        happenings.push((day + 2 * HOUR, Happening::Tell(Event::Woken)));
        let mut simulation = Simulation::new(World::new(vec![(day, mood)]), happenings, 42);
        simulation.run(day);
        simulation.check();
        let (requests, told) = (
            simulation.world.requests + simulation.world.probes,
            simulation.notices.len(),
        );
        assert_eq!(simulation.memory.disk().done, 0, "{mood:?}");
        assert!(
            (100..4_500).contains(&requests),
            "{mood:?}: {requests} requests in a day"
        );
        assert!(told <= 2, "{mood:?}: told {:?}", simulation.notices);
        let before = simulation.world.requests;
        simulation.run(day + HOUR);
        assert_eq!(simulation.memory.pending(), 0, "{mood:?}");
        assert!(simulation.memory.disk().dead.is_empty(), "{mood:?}");
        assert!(
            simulation.notices.len() <= told + 2,
            "{mood:?}: told {:?}",
            simulation.notices
        );
        println!(
            "{mood:?}: {requests} requests in the day, {} to drain",
            simulation.world.requests - before
        );
    }
}

#[test]
fn one_event_that_the_database_cannot_store_does_not_block_the_rest() {
    let mut world = World::new(Vec::new());
    world.chokes_on = [3, 700].into();
    let mut simulation = Simulation::new(world, vec![(0, Happening::Stored(1_000, 400))], 7);
    simulation.run(6 * HOUR);
    simulation.check();
    assert_eq!(simulation.memory.pending(), 0);
    let dead: Vec<usize> = simulation.memory.disk().dead.keys().copied().collect();
    assert_eq!(dead, [3, 700]);
    let words = simulation.memory.disk().dead.values().next().cloned();
    assert_eq!(words.as_deref(), Some("500 pq: invalid byte sequence"));
}

#[test]
fn whatever_happens_while_an_event_has_its_last_chance_nothing_is_lost() {
    let happenings = [
        Happening::StoreFails,
        Happening::Tell(Event::Rekeyed(Box::new(renewed()))),
    ];
    let (mut seen, mut at) = (0, 250_000);
    while at < 900_000 {
        at += 700;
        for happening in &happenings {
            let mut world = World::new(Vec::new());
            // Slow to refuse, so that things happen while a request is in flight.
            world.moods = vec![(at + 20, Mood::Slow { commits: false })];
            let stored = (0, Happening::Stored(40, 400));
            let mut simulation = Simulation::new(world, vec![stored, (at, happening.clone())], at);
            simulation.run(at);
            let reason = simulation.machine.status().reason.unwrap_or_default();
            seen += usize::from(reason.contains("again and again"));
            simulation.run(6 * HOUR);
            simulation.check();
            assert_eq!(simulation.memory.pending(), 0);
            assert!(
                simulation.memory.disk().dead.is_empty(),
                "{at}: {:?}",
                simulation.memory.disk().dead
            );
        }
    }
    assert!(seen > 10, "{seen} times in the middle of it");
}

#[test]
fn a_new_key_while_the_next_one_is_tried_delivers_nothing_unseen() {
    let run = |happenings: Vec<(u64, Happening)>| {
        let mut world = World::new(Vec::new());
        world.chokes_on = [0].into();
        let mut all = vec![(0, Happening::Stored(2, 400))];
        all.extend(happenings);
        let mut simulation = Simulation::new(world, all, 7);
        simulation.run(6 * HOUR);
        simulation.check();
        assert_eq!(simulation.memory.disk().dead.keys().copied().collect::<Vec<_>>(), [0]);
        simulation
    };
    let next_tried = run(Vec::new()).world.sent_alone[&1].0 as u64;
    let in_flight = next_tried + 10;
    let rekeyed = run(vec![(in_flight, Happening::Tell(Event::Rekeyed(Box::new(renewed()))))]);
    assert!(
        rekeyed.world.sent_alone[&1].0 as u64 > in_flight,
        "it was tried again after that"
    );
}

#[test]
fn a_slow_line_never_loops_on_the_same_batch() {
    for line in [1, 5, 20, 200] {
        let mut world = World::new(Vec::new());
        world.line = Some(line);
        let mut simulation = Simulation::new(world, vec![(0, Happening::Stored(5_000, 1_000))], 7);
        simulation.run(24 * HOUR);
        simulation.check();
        assert_eq!(simulation.memory.pending(), 0, "{line} bytes a millisecond");
        let twice = simulation.world.committed.len() - 5_000;
        assert!(
            twice < 2_500,
            "{twice} of 5000 were sent twice at {line} bytes a millisecond"
        );
        let needed = 5_000_000 / line;
        assert!(
            (simulation.now.0 as u64) < 2 * needed + 60_000,
            "{} ms, {needed} needed",
            simulation.now.0
        );
    }
}

#[test]
fn poison_is_found_in_order_with_few_requests() {
    let mut world = World::new(Vec::new());
    world.hates = [0, 500, 501, 999].into();
    let mut simulation = Simulation::new(world, vec![(0, Happening::Stored(1_000, 400))], 7);
    simulation.run(HOUR);
    assert_eq!(
        simulation.memory.disk().dead.keys().copied().collect::<Vec<_>>(),
        [0, 500, 501, 999]
    );
    assert_eq!(simulation.world.committed.len(), 996, "nothing is sent twice");
    assert!(simulation.world.requests < 60, "{} requests", simulation.world.requests);
    assert!(
        simulation.now.0 < 5_000,
        "the last one is settled after {} ms",
        simulation.now.0
    );
}

#[test]
fn ten_refused_in_a_row_hold_until_an_operator_buries_them() {
    let mut world = World::new(Vec::new());
    world.hates = (10..60).collect();
    let mut simulation = Simulation::new(world, vec![(0, Happening::Stored(100, 400))], 7);
    simulation.run(HOUR);
    assert_eq!(
        (simulation.memory.pending(), simulation.memory.disk().dead.len()),
        (90, 0)
    );
    assert_eq!(simulation.machine.status().state, State::Held);
    assert!(
        simulation.world.requests < 60 + 25 + 12 * 12,
        "{} requests",
        simulation.world.requests
    );
    simulation
        .happenings
        .insert((HOUR, 0), Happening::Tell(Event::Resume { bury: true }));
    simulation.run(2 * HOUR);
    assert_eq!(
        (simulation.memory.pending(), simulation.memory.disk().dead.len()),
        (0, 50)
    );
    let held = simulation
        .notices
        .iter()
        .filter(|notice| matches!(notice, Notice::Held { .. }))
        .count();
    assert_eq!((held, simulation.notices.contains(&Notice::Free)), (1, true));
}

#[test]
fn a_lone_refused_event_is_a_dead_letter_after_three_confirmations() {
    let mut world = World::new(Vec::new());
    world.hates = [0].into();
    let mut simulation = Simulation::new(world, vec![(0, Happening::Stored(1, 400))], 7);
    simulation.run(HOUR);
    assert_eq!(
        (simulation.memory.pending(), simulation.memory.disk().dead.len()),
        (0, 1)
    );
    assert_eq!((simulation.world.requests, simulation.world.probes), (4, 3));
    assert!(simulation.now.0 < 30_000, "{}", simulation.now.0);
}

#[test]
fn a_key_that_is_mended_is_noticed_and_a_new_one_goes_at_once() {
    let world = World::new(vec![(HOUR, Mood::BadKey)]);
    let mut simulation = Simulation::new(world, vec![(0, Happening::Stored(10, 400))], 7);
    simulation.run(HOUR + 61_000);
    assert_eq!(simulation.memory.pending(), 0);
    assert_eq!(simulation.world.requests, 2);
    assert!(
        (58..68).contains(&simulation.world.probes),
        "{}",
        simulation.world.probes
    );

    // Under the old key's hold, an operator pauses, rekeys and resumes.
    let world = World::new(vec![(60_000, Mood::BadKey)]);
    let tell = |event| Happening::Tell(event);
    let happenings = vec![
        (0, Happening::Stored(10, 400)),
        (50, tell(Event::Pause)),
        (61_000, tell(Event::Rekeyed(Box::new(renewed())))),
        (62_000, Happening::Stored(10, 400)),
        (70_000, tell(Event::Resume { bury: false })),
    ];
    let mut simulation = Simulation::new(world, happenings, 7);
    simulation.run(69_000);
    assert_eq!(
        (simulation.memory.pending(), simulation.machine.status().state),
        (20, State::Paused)
    );
    simulation.run(70_100);
    assert_eq!(
        (simulation.memory.pending(), simulation.machine.status().state),
        (0, State::Idle)
    );
    assert_eq!(
        simulation
            .notices
            .iter()
            .map(std::mem::discriminant)
            .collect::<Vec<_>>()
            .len(),
        5,
        "{:?}",
        simulation.notices
    );
}

#[test]
fn gzip_is_left_out_as_a_last_resort() {
    let limits = Limits { gzip: true, ..LIMITS };
    let mut machine = Machine::new(limits, Learned::default(), false, Timestamp(0));
    let mut now = Timestamp(0);
    let mut event = Event::Woken;
    let (mut passed, mut attempts) = (0, 0);
    let mut learned = None;
    while passed < 3_000 && attempts < 200 {
        let step = machine.on(event, now, 7);
        learned = learned.or_else(|| {
            step.notices.iter().find_map(|notice| match notice {
                Notice::Learned(learned) => Some(*learned),
                _ => None,
            })
        });
        event = match step.next {
            Next::Read { .. } => Event::Read {
                sizes: vec![500; 1_000],
                again_at: None,
            },
            Next::Send { count, gzip, .. } => {
                attempts += 1;
                passed += if gzip { 0 } else { count };
                let judged = if gzip {
                    says(500, "failed to read body from request")
                } else {
                    says(200, "ok")
                };
                Event::Answered {
                    judged,
                    took: Duration::from_millis(5),
                }
            }
            Next::Wait { until } => {
                now = until.unwrap();
                Event::Due
            }
            next => panic!("{next:?}"),
        };
    }
    assert!(passed >= 3_000);
    assert_eq!(
        learned,
        Some(Learned {
            too_large: 0,
            plain: true
        })
    );
    assert!(attempts < 30, "{attempts}");
}

#[test]
fn a_backlog_is_drained_with_bodies_that_were_made_before_their_turn() {
    let happenings = vec![(0, Happening::Stored(60_000, 500))];
    let mut simulation = Simulation::new(World::new(Vec::new()), happenings, 3);
    simulation.run(HOUR);
    simulation.check();
    assert_eq!(simulation.memory.pending(), 0);
    let (sent, of_them) = (simulation.world.requests, simulation.foreseen_sent);
    assert!(sent < 40 && of_them + 3 >= sent, "{of_them} of {sent}");
}

#[test]
fn a_neighbours_recovery_is_followed_soon_and_not_again_and_again() {
    let outage = || World::new(vec![(HOUR, Mood::Refusing)]);
    let stored = (0, Happening::Stored(100, 500));
    // Somebody else's batch passes just after the outage.
    let told = (HOUR + 10, Happening::Tell(Event::NeighbourRecovered));
    let mut simulation = Simulation::new(outage(), vec![stored.clone(), told], 5);
    simulation.run(HOUR + 2_100);
    simulation.check();
    assert_eq!(simulation.memory.pending(), 0);

    // A data plane that takes some destinations' batches, and never this one's.
    let requests = |each: Option<u64>| {
        let mut happenings = vec![stored.clone()];
        happenings.extend(each.into_iter().flat_map(|each| {
            (1..HOUR / each).map(move |time| (time * each, Happening::Tell(Event::NeighbourRecovered)))
        }));
        let mut simulation = Simulation::new(outage(), happenings, 5);
        simulation.run(HOUR);
        simulation.world.requests
    };
    let (alone, beside) = (requests(None), requests(Some(1_000)));
    assert!(
        beside <= alone + 60,
        "{beside} requests in an hour, {alone} without neighbours"
    );
}
