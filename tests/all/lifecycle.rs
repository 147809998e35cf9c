//! Stops, reloads, restarts, and several pintles at once: what is under way ends in good order, and nothing that was
//! answered is lost.

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::peers::documents::Document;
use crate::peers::eventually;
use crate::peers::gateway::{Gateway, Mood, Settings};
use crate::peers::http::Request;
use crate::peers::looker::{Delivery, Download, Execute, Looker, told};
use crate::peers::pintle::{Config, Pintle};
use crate::stage::{SOON, Stage};

fn paused(label: &str, rows: u64, pause: Duration) -> Download {
    Download {
        pause,
        ..Download::made(&Document::lite(label, rows))
    }
}

fn asked(stage: &Stage, execute: &Execute) -> bool {
    matches!(&execute.delivery, Delivery::Url(url) if stage.looker.asked(url) == 1)
}

#[test]
fn a_stop_lets_the_run_in_hand_end_and_refuses_others() {
    let mut stage = Stage::set();
    let execute = stage.download(paused("drained", 300, Duration::from_secs(3)));
    let exchange = stage.hub.send(&execute).unwrap();
    eventually("its download began", SOON, || asked(&stage, &execute));
    stage.pintle.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(300));
    let ready = Request::new("GET", "/ready").ask(stage.hub.address).unwrap();
    assert_eq!(ready.status, 503, "a load balancer looks elsewhere");
    let refused = stage
        .hub
        .execute(&stage.download(Download::made(&Document::lite("late", 10))));
    assert!(
        !refused.success && refused.message.contains("send it again"),
        "{}",
        refused.message
    );
    let answer = told(&exchange.answer().unwrap());
    assert!(answer.success && answer.message.contains("300"), "{}", answer.message);
    let status = stage.pintle.ended(Duration::from_secs(30));
    assert_eq!(status.code(), Some(0));
    let log = stage.pintle.log();
    assert!(log.contains("drained: nothing was in hand any more"), "{log}");
    // What could not be delivered any more before the end goes on after it.
    stage.pintle.serve();
    stage.arrives("drained", 300);
    assert_eq!(stage.rows("late"), 0);
}

#[test]
fn a_stop_gives_up_after_its_grace_and_says_what_it_left() {
    let looker = Looker::start();
    let gateway = Gateway::start(Settings::default());
    let mut pintle = Pintle::start(Config::for_looker(&looker).set("hub", "shutdown_grace", "\"1s\""));
    let url = looker.offer(paused("left", 300, Duration::from_secs(60)));
    let execute = Execute::new("rudder_event", &gateway.url(), "key", Delivery::Url(url.clone()));
    let exchange = pintle.hub().send(&execute).unwrap();
    eventually("its download began", SOON, || looker.asked(&url) == 1);
    let began = Instant::now();
    let status = pintle.terminate(Duration::from_secs(30));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(status.code(), Some(0));
    assert!(!told(&exchange.answer().unwrap()).success, "Looker is told");
    let log = pintle.log();
    assert!(log.contains("stopped with something left: 1 run was stopped"), "{log}");
}

#[test]
fn a_second_signal_ends_at_once_and_loses_nothing() {
    let mut stage = Stage::set();
    stage.gateway.set(Mood::Refuse);
    assert!(
        stage
            .hub
            .execute(&stage.download(Download::made(&Document::lite("kept", 2_000))))
            .success
    );
    let execute = stage.download(paused("cut", 300, Duration::from_secs(60)));
    let exchange = stage.hub.send(&execute).unwrap();
    eventually("its download began", SOON, || asked(&stage, &execute));
    stage.pintle.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    stage.pintle.signal(Signal::TERM);
    let status = stage.pintle.ended(Duration::from_secs(10));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(status.code(), Some(0));
    let log = stage.pintle.log();
    assert!(log.contains("stopped at once, at a second signal"), "{log}");
    // No success was said of it: Looker sends it again.
    if let Ok(answer) = exchange.answer() {
        assert!(
            !answer.whole || !answer.text().contains("\"success\":true"),
            "{}",
            answer.text()
        );
    }
    stage.gateway.set(Mood::Up);
    stage.pintle.serve();
    stage.arrives("kept", 2_000);
    assert_eq!(stage.rows("cut"), 0);
}

#[test]
fn a_reload_takes_a_good_file_and_leaves_all_as_it_was_at_a_bad_one() {
    let mut stage = Stage::set();
    let other = Looker::start();
    let from_other = |stage: &Stage, label: &str| {
        let url = other.offer(Download::made(&Document::lite(label, 20)));
        stage.hub.execute(&stage.identify(Delivery::Url(url)))
    };
    let refused = from_other(&stage, "before");
    assert!(
        !refused.success && refused.message.contains("allowed_origins"),
        "{}",
        refused.message
    );

    let good = std::fs::read_to_string(stage.pintle.config_file()).unwrap();
    let bad = good.replace("allowed_origins", "alowed_origins");
    assert_ne!(good, bad);
    std::fs::write(stage.pintle.config_file(), bad).unwrap();
    stage.pintle.signal(Signal::HUP);
    eventually("the log says that nothing changed", SOON, || {
        let log = stage.pintle.log();
        log.contains("the configuration was not changed") && log.contains("alowed_origins")
    });
    assert!(
        stage
            .hub
            .execute(&stage.download(Download::made(&Document::lite("still", 20))))
            .success,
        "the old origin is still allowed"
    );

    let origins = format!("[\"{}\", \"{}\"]", stage.looker.origin(), other.origin());
    let config = Config::for_looker(&stage.looker)
        .set("looker", "allowed_origins", &origins)
        .set("hub", "label", "\"Another\"")
        .set("log", "level", "\"debug\"");
    stage.pintle.configure(config);
    stage.pintle.signal(Signal::HUP);
    eventually("the log says what changed", SOON, || {
        stage.pintle.log().contains("the configuration was read again")
    });
    let log = stage.pintle.log();
    let line = log
        .lines()
        .find(|line| line.contains("the configuration was read again"));
    let line = line.unwrap();
    for (key, what) in [
        ("looker.allowed_origins", "changed"),
        ("log.level", "changed"),
        ("hub.label", "needs_restart"),
    ] {
        let (_, list) = line.split_once(&format!("{what}=[")).unwrap();
        let (list, _) = list.split_once(']').unwrap();
        assert!(list.contains(key), "{key} is not in {what}: {line}");
    }
    let taken = from_other(&stage, "after");
    assert!(taken.success, "{}", taken.message);
    stage.arrives("after", 20);
    stage.arrives("still", 20);
}

#[test]
fn a_reload_reaches_the_store_and_the_deliveries() {
    let mut stage = Stage::set();
    let reload = |stage: &mut Stage, config: Config, times: usize| {
        stage.pintle.configure(config);
        stage.pintle.signal(Signal::HUP);
        eventually("it was read again", SOON, || {
            stage.pintle.log().matches("the configuration was read again").count() == times
        });
    };
    let config = || Config::for_looker(&stage.looker);
    let (full, elsewhere, usual) = (
        config().set("store", "min_free", "\"900TB\""),
        config().set("rudderstack", "allowed_origins", "[\"https://elsewhere.example\"]"),
        config(),
    );
    reload(&mut stage, full, 1);
    let refused = stage
        .hub
        .execute(&stage.download(Download::made(&Document::lite("full", 10))));
    assert!(
        !refused.success && refused.message.contains("store.min_free"),
        "{}",
        refused.message
    );
    reload(&mut stage, usual.clone(), 2);
    stage.gateway.set(Mood::Refuse);
    let taken = stage
        .hub
        .execute(&stage.download(Download::made(&Document::lite("room", 10))));
    assert!(taken.success, "{}", taken.message);
    // The backlog's data plane is not allowed any more, and then it is again.
    reload(&mut stage, elsewhere, 3);
    stage.gateway.set(Mood::Up);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(stage.gateway.accepted(), 0);
    reload(&mut stage, usual, 4);
    eventually("what waited goes at once", Duration::from_secs(10), || {
        stage.rows("room") == 10
    });
}

#[test]
fn requests_wait_in_systemds_socket_while_pintle_restarts() {
    let looker = Looker::start();
    let gateway = Gateway::start(Settings::default());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut pintle = Pintle::start_on(Config::for_looker(&looker), Some(socket));
    let hub = pintle.hub();
    let execute = |download: Download| {
        Execute::new(
            "rudder_event",
            &gateway.url(),
            "key-of-the-source",
            Delivery::Url(looker.offer(download)),
        )
    };
    let under_way = execute(paused("before", 200, Duration::from_secs(2)));
    let exchange = hub.send(&under_way).unwrap();
    let Delivery::Url(url) = &under_way.delivery else {
        panic!("a download")
    };
    eventually("its download began", SOON, || looker.asked(url) == 1);
    pintle.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(500));
    // It comes while the old process drains and before the new one begins: not refused, not told to come again.
    let waiting = execute(Download::made(&Document::lite("meanwhile", 100)));
    let waiting = hub.send(&waiting).unwrap();
    assert!(told(&exchange.answer().unwrap()).success);
    assert_eq!(pintle.ended(Duration::from_secs(30)).code(), Some(0));
    pintle.serve();
    let answer = told(&waiting.answer().unwrap());
    assert!(answer.success, "{}", answer.message);
    for (label, rows) in [("before", 200), ("meanwhile", 100)] {
        eventually(label, SOON, || {
            gateway.seen(|seen| seen.tallies.get(label).is_some_and(|tally| tally.rows == rows))
        });
    }
    assert!(pintle.log().contains("listening on the socket that systemd opened"));
}

#[test]
fn restarts_under_load_fail_no_request_where_the_socket_is_held() {
    let looker = Looker::start();
    let gateway = Gateway::start(Settings::default());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut pintle = Pintle::start_on(Config::for_looker(&looker), Some(socket));
    let hub = pintle.hub();
    let stop = AtomicBool::new(false);
    let sent: u64 = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..3)
            .map(|caller| {
                let (hub, stop, gateway) = (hub.clone(), &stop, &gateway);
                scope.spawn(move || {
                    let mut sent = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let data = Document::lite(&format!("load{caller}n{sent}"), 1).text().into();
                        let attached = Delivery::Attachment {
                            mimetype: "application/json".to_owned(),
                            data,
                        };
                        let execute = Execute::new("rudder_event", &gateway.url(), "key-of-the-source", attached);
                        let told = hub.execute(&execute);
                        assert!(told.success, "{}", told.message);
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(pintle.terminate(Duration::from_secs(30)).code(), Some(0));
            pintle.serve();
        }
        stop.store(true, Ordering::Relaxed);
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    assert!(sent > 30, "{sent}");
    eventually("each row arrives", SOON, || gateway.accepted() >= sent);
    gateway.seen(|seen| assert_eq!(seen.by_message_id.len() as u64, sent));
    eprintln!("{sent} deliveries over 5 restarts, none failed");
}

#[test]
fn two_pintles_with_one_secret_are_one_hub() {
    let looker = Looker::start();
    let gateway = Gateway::start(Settings::default());
    let config = || Config::for_looker(&looker).set("hub", "secret", "\"one secret for all of them, and long enough\"");
    let mut pintles = [Pintle::start(config()), Pintle::start(config())];
    let [first, second] = [pintles[0].hub(), pintles[1].hub()];
    // One token, whichever of them is asked.
    let hubs = [first.address, second.address].map(|address| crate::peers::looker::Hub {
        address,
        token: first.token.clone(),
    });
    for hub in &hubs {
        assert_eq!(hub.list().status, 200);
    }
    // A balancer gives each request to another one.
    let execute = |label: &str, rows| {
        let url = looker.offer_at(label, Download::made(&Document::lite(label, rows)));
        Execute::new("rudder_event", &gateway.url(), "key-of-the-source", Delivery::Url(url)).webhook_id(label)
    };
    for number in 0..6 {
        let label = format!("balanced{number}");
        let told = hubs[number % 2].execute(&execute(&label, 100));
        assert!(told.success, "{}", told.message);
    }
    eventually("all of them arrive", SOON, || gateway.accepted() == 600);
    gateway.seen(|seen| assert_eq!((seen.by_message_id.len(), seen.duplicates()), (600, 0)));
    // The same delivery at both, as where the first one's answer was lost: twice, but with the same message ids.
    for hub in &hubs {
        assert!(hub.execute(&execute("twice", 50)).success);
    }
    eventually("they arrive", SOON, || gateway.accepted() == 700);
    gateway.seen(|seen| assert_eq!((seen.by_message_id.len(), seen.duplicates()), (650, 50)));
    // One goes, the other one serves on; what the first one has not delivered waits on its disk.
    gateway.set(Mood::Refuse);
    assert!(hubs[0].execute(&execute("behind", 80)).success);
    pintles[0].kill();
    gateway.set(Mood::Up);
    assert!(hubs[1].execute(&execute("alone", 30)).success);
    eventually("what the other one took arrives", SOON, || gateway.accepted() == 730);
    pintles[0].serve();
    eventually("and the first one's when it is back", SOON, || {
        gateway.accepted() >= 810
    });
}

/// What glibc reads as it starts is there, however the service was started, and who set it is not overruled.
#[test]
fn a_service_is_still_itself_with_the_memory_of_a_service() {
    let read = |pintle: &Pintle, name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", pintle.id())).unwrap();
    let looker = Looker::start();
    let plain = Pintle::start(Config::for_looker(&looker));
    assert!(read(&plain, "environ").contains("MALLOC_ARENA_MAX=2\0"));
    assert_eq!(read(&plain, "comm"), "pintle\n", "found by its name");
    assert!(
        read(&plain, "cmdline").ends_with("\0serve\0"),
        "{}",
        read(&plain, "cmdline")
    );
    let said = |name: &str, value: &str| Pintle::start(Config::for_looker(&looker).environment(name, value));
    let said = said("MALLOC_MMAP_THRESHOLD_", "1000000");
    let environment = read(&said, "environ");
    assert!(
        environment.contains("MALLOC_MMAP_THRESHOLD_=1000000\0"),
        "{environment}"
    );
    assert!(!environment.contains("MALLOC_ARENA_MAX"), "{environment}");
}

/// Its program is gone when it would begin once more. It goes on as it is, and whoever hangs up early does not end it.
#[test]
fn a_service_that_cannot_begin_once_more_takes_no_harm() {
    let mut stage = Stage::set();
    stage.pintle.kill();
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("pintle");
    std::fs::copy(env!("CARGO_BIN_EXE_pintle"), &program).unwrap();
    let opened = std::fs::File::open(&program).unwrap();
    std::fs::remove_file(&program).unwrap();
    let gone = format!("/proc/{}/fd/{}", std::process::id(), opened.as_raw_fd());
    let mut command = stage.pintle.command_by(std::process::Command::new(gone));
    let output = || std::process::Stdio::null();
    let mut child = command.arg("serve").stdout(output()).stderr(output()).spawn().unwrap();
    let answers = || Request::new("GET", "/health").ask(stage.hub.address);
    eventually("it answers", SOON, || {
        answers().is_ok_and(|answer| answer.status == 200)
    });
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", child.id())).unwrap();
    assert!(
        !environment.contains("MALLOC_ARENA_MAX"),
        "it was to be hindered: {environment}"
    );
    let socket = stage.pintle.store().join("admin.sock");
    for _ in 0..100 {
        let mut client = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        client
            .write_all(b"GET /api/status HTTP/1.1\r\nhost: here\r\n\r\n")
            .unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    let ended = child.try_wait().unwrap();
    assert_eq!(ended, None, "it ended");
    assert!(answers().is_ok_and(|answer| answer.status == 200));
    child.kill().unwrap();
    child.wait().unwrap();
}
