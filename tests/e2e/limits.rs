//! Limits are kept, and what is small or urgent doesn't wait for what is large.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tests::emulator::{Bottleneck, Passed, Relay, Weather};
use tests::files::{assert_same, write};
use tests::progress::{verified_bytes, wait_for_bytes};
use tests::{Lab, Process, User, poll_until};

const LIMIT: u64 = 3_000_000;
const WINDOW: Duration = Duration::from_secs(5);

/// How often to look whether the limit is also reached: a machine that is busy with other tests may not get to it.
const ROUNDS: usize = 3;

/// Over any five seconds from the first to the last byte: never more than five percent above the limit. Says whether in
/// some five seconds it was no more than that below it.
#[track_caller]
fn is_kept(passed: &[Passed]) -> bool {
    let end = passed.last().expect("something came").at;
    assert!(end - passed[0].at > WINDOW + Duration::from_secs(1), "too short to tell");
    // A machine that stands still for a moment delivers later, all at once, what was sent at the limit.
    let pause = passed.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default();
    let most = 1.05 + pause.as_secs_f64() / WINDOW.as_secs_f64();
    let mut reached = false;
    for (first, from) in passed.iter().enumerate().step_by(5) {
        if from.at + WINDOW > end {
            break;
        }
        let within = passed[first..].iter().take_while(|piece| piece.at < from.at + WINDOW);
        let bytes: usize = within.map(|piece| piece.bytes).sum();
        let share = bytes as f64 / (LIMIT as f64 * WINDOW.as_secs_f64());
        let begins = from.at - passed[0].at;
        assert!(share <= most, "{share:.3} and not {most:.3} of the limit in the five seconds from {begins:?} on");
        // A machine with much else to do lets it be reached at times only.
        reached |= share >= 0.95;
    }
    reached
}

fn fetching(user: &User<'_>, from: &str, args: &[&str], here: &Path) -> Process {
    user.peer(["--json", "fetch", "--only", from, "film.mkv"]).args(args).arg("-o").arg(here.join(user.name())).start()
}

#[test]
fn within_five_percent_over_any_five_seconds() {
    assert!((0..ROUNDS).any(|_| limits_are_reached()), "a limit was never reached");
}

/// Five fetches under three kinds of limits, none of which may be exceeded. Says whether all were reached.
fn limits_are_reached() -> bool {
    let lab = Lab::start();
    let film = lab.file("film.mkv", 21_000_000);
    let sources = ["bob", "carol", "dave"].map(|name| lab.user(name));
    let served = [&[][..], &["--limit", "3M"], &["--limit-per-peer", "3M"]];
    let nodes = sources.iter().zip(served).map(|(source, limit)| {
        source.share([&film]);
        let relay = Relay::open(&Weather::default(), 1);
        let node = source.serve_behind(&relay, limit);
        (relay, node)
    });
    let nodes: Vec<(Relay, Process)> = nodes.collect();
    let here = lab.empty_folder("here");
    let users = ["u1", "u2", "u3", "u4", "u5"].map(|name| lab.user(name));
    let all = [
        fetching(&users[0], "bob", &["--limit", "3M"], &here),
        fetching(&users[1], "carol", &[], &here),
        fetching(&users[2], "carol", &[], &here),
        fetching(&users[3], "dave", &[], &here),
        fetching(&users[4], "dave", &[], &here),
    ];
    for fetch in all {
        fetch.finish().exits(0);
    }
    // What fetches at a limit, and what sends at one to all together.
    let mut reached = is_kept(&nodes[0].0.delivered());
    reached &= is_kept(&nodes[1].0.delivered());
    // To each by itself.
    let mut by_caller: HashMap<SocketAddr, Vec<Passed>> = HashMap::new();
    for piece in nodes[2].0.delivered() {
        by_caller.entry(piece.to).or_default().push(piece);
    }
    assert_eq!(by_caller.len(), 2);
    for passed in by_caller.values() {
        reached &= is_kept(passed);
    }
    for user in users {
        assert_same(here.join(user.name()), &film);
    }
    reached
}

/// Large enough that it doesn't matter when the second source joins.
const SHARED_BY_TWO: usize = 12_000_000;

#[test]
fn two_sources_are_nearly_twice_as_fast_as_one() {
    let lab = Lab::start();
    let film = lab.file("film.mkv", SHARED_BY_TWO);
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    let serve = |user: &User<'_>| {
        user.share([&film]);
        let node = user.peer(["serve", "--limit", "2M"]).start();
        node.wait_for("online as");
        node
    };
    let _nodes = [serve(&bob), serve(&carol)];
    let here = lab.empty_folder("here");
    let fetched = alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(here.join("film")).run();
    let file = fetched.exits(0).object("file");
    assert_same(here.join("film"), &film);
    // Both send at their limit from the first to the last byte, so their parts are the time: a half each.
    let parts = file["sources"].as_array().unwrap().iter().map(|source| source["bytes"].as_u64().unwrap());
    let parts: Vec<u64> = parts.collect();
    println!("the parts: {parts:?}");
    let share = SHARED_BY_TWO as u64 * 3 / 10;
    assert!(parts.len() == 2 && parts.iter().all(|bytes| *bytes >= share), "{file}");
}

#[test]
fn a_small_file_does_not_wait_for_a_large_one() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    bob.share([lab.file("film.mkv", LARGE), write(lab.join("note.txt"), b"here I am")]);
    let node = bob.peer(["serve", "--limit", "4M"]).start();
    node.wait_for("online as");
    let here = lab.empty_folder("here");
    let bulk = fetching(&alice, "bob", &["-j", "32"], &here);
    wait_for_bytes(&bulk, 1);
    // Somebody else's, and one more of the same person's.
    for user in [&carol, &alice] {
        user.peer(["fetch", "bob", "note.txt", "-o"]).arg(here.join(format!("{}/", user.name()))).run().exits(0);
    }
    has_most_to_go(bulk);
}

/// The size of a fetch that is under way: whoever waits for it waits for at least ten seconds.
const LARGE: usize = 40_000_000;

/// Ends a fetch of [`LARGE`], of which most was still to come.
#[track_caller]
fn has_most_to_go(bulk: Process) {
    assert!(bulk.is_running(), "the large one is still under way");
    let come = verified_bytes(&bulk.said());
    println!("{come} of {LARGE} had come");
    assert!(come < LARGE as u64 / 2, "{come} of {LARGE} had come");
    bulk.interrupt();
    bulk.finish().exits(130);
}

#[test]
fn streams_that_wait_for_their_turn_are_not_taken_for_dead() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("film.mkv", 12_000_000)]);
    let node = bob.peer(["serve", "--limit", "600k"]).start();
    node.wait_for("online as");
    let here = ["one", "two"].map(|name| lab.empty_folder(name));
    let many = fetching(&alice, "bob", &["-j", "9", "--patience", "0"], &here[0]);
    let few = fetching(&alice, "bob", &["--patience", "0"], &here[1]);
    // Each stream's first megabyte takes longer than any silence is borne.
    for fetching in [&many, &few] {
        wait_for_bytes(fetching, 1);
    }
    let least = bob.peer(["serve", "--limit", "999"]).run();
    least.exits(2).says("from 1k to 1000G bytes a second");
}

#[test]
fn a_message_does_not_wait_for_a_file_before_a_bottleneck() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("film.mkv", LARGE)]);
    let bottleneck = Some(Bottleneck { rate: 2_000_000, queue: 200_000 });
    let relay = Relay::open(&Weather { bottleneck, ..Weather::delayed(Duration::from_millis(5)) }, 1);
    let node = bob.serve_behind(&relay, &[]);
    let bulk = fetching(&alice, "bob", &[], &lab.empty_folder("here"));
    wait_for_bytes(&bulk, 1);
    for text in ["one", "two", "three"] {
        alice.peer(["chat", "bob", text]).run().exits(0);
    }
    node.wait_for("alice: three");
    has_most_to_go(bulk);
}

#[test]
fn a_conversation_does_not_queue_behind_a_file() {
    const RATE: u64 = 2_000_000;
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("film.mkv", LARGE)]);
    // A second of data can wait before it, and without room for others a second does.
    let bottleneck = Some(Bottleneck { rate: RATE, queue: usize::try_from(RATE).unwrap() });
    let relay = Relay::open(&Weather { bottleneck, ..Weather::delayed(Duration::from_millis(5)) }, 1);
    let (_hers, his) = (alice.serve(), bob.serve_behind(&relay, &[]));
    let bulk = fetching(&alice, "bob", &[], &lab.empty_folder("here"));
    wait_for_bytes(&bulk, 5_000_000);
    let said: Vec<Duration> = (0..8)
        .map(|nth| {
            let asked = Instant::now();
            alice.peer(["chat", "bob", &format!("message {nth}")]).run().exits(0);
            asked.elapsed()
        })
        .collect();
    his.wait_for("alice: message 7");
    println!("the messages took {said:?}");
    has_most_to_go(bulk);
    // In a queue that is full each would take a second; on a busy machine one or the other may.
    assert!(said[4..].iter().any(|time| *time < Duration::from_millis(800)), "{said:?}");
}

#[test]
fn a_fetch_leaves_the_processor_to_a_chat() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([&lab.file("film.mkv", 24_000_000)]);
    let bobs = bob.peer(["serve", "--limit", "2M"]).start();
    bobs.wait_for("online as bob");
    let alices = alice.serve();
    let here = lab.empty_folder("here");
    let fetching = alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(&here).start();
    wait_for_bytes(&fetching, 1);
    let before = alices.niceness()[0];
    assert!(fetching.niceness().iter().all(|nice| *nice == before), "nobody talks yet: {:?}", fetching.niceness());
    alice.peer(["chat", "bob", "lunch?"]).run().exits(0);
    poll_until(
        || fetching.niceness().iter().all(|nice| *nice == before.max(10)).then_some(()),
        || format!("{:?}", fetching.niceness()),
    );
    assert!(alices.niceness().iter().all(|nice| *nice == before), "messages have the usual priority");
    fetching.kill();
    fetching.finish().exits(137);
}
