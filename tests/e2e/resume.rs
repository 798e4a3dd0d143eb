//! A fetch that was broken off goes on where it was, whatever broke it.

use serde_json::Value;
use tests::files::{assert_content, assert_same, names_in, noise};
use tests::hostile::{HostilePeer, Offer, Trick};
use tests::{Lab, Outcome, Process};

/// How far a fetch with `--json` has come.
fn verified_bytes(said: &str) -> u64 {
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["type"] == "progress").filter_map(|line| line["bytes"].as_u64()).max().unwrap_or(0)
}

/// Waits until a fetch with `--json` has something that a later one can go on with.
#[track_caller]
pub(crate) fn wait_for_verified_bytes(fetching: &Process) {
    fetching.wait_until("verified bytes", |said| (verified_bytes(said) > 0).then_some(()));
}

fn resumed(outcome: &Outcome) -> u64 {
    outcome.exits(0).object("summary")["bytes_resumed"].as_u64().unwrap()
}

#[test]
fn a_killed_fetch_resumes() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    const SIZE: usize = 200_000_000;
    let film = lab.file("film.mkv", SIZE);
    bob.share([&film]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    let fetch = || alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(&here);
    // Killed at points that nobody chose: whenever a report comes that is further than the last time.
    let mut reached = 0;
    for _ in 0..3 {
        let fetching = fetch().start();
        let got_there = fetching.wait_until("progress, or the end of it", |said| {
            let bytes = verified_bytes(said);
            if bytes > reached { Some(bytes) } else { said.contains(r#""type":"summary""#).then_some(0) }
        });
        fetching.kill();
        let killed = fetching.finish();
        if got_there == 0 || killed.code == 0 {
            break;
        }
        killed.exits(137);
        assert!(!here.join("film.mkv").exists(), "what isn't whole has no name");
        reached = got_there;
    }
    assert!(reached > 0, "it was killed at least once");
    if !here.join("film.mkv").exists() {
        let last = fetch().run();
        assert!(resumed(&last) > 0, "{last}");
    }
    assert_same(here.join("film.mkv"), &film);
    assert_eq!(names_in(&here), ["film.mkv"]);
}

#[test]
fn what_was_kept_is_fetched_only_once() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let offer = Offer::new("film.mkv", noise(3, 40_000_000));
    let content = offer.content().to_vec();
    let source = HostilePeer::join(&lab, "mallory", vec![offer], Trick::Gate);
    let here = lab.empty_folder("here");
    let fetch = || alice.peer(["--json", "fetch", "mallory", "film.mkv", "-j", "1", "-o"]).arg(&here);
    let fetching = fetch().start();
    source.wait_until_stalled(1);
    wait_for_verified_bytes(&fetching);
    fetching.kill();
    fetching.finish().exits(137);
    source.open_gate();
    let again = fetch().run();
    let kept = resumed(&again);
    assert!(kept >= 1 << 20, "{again}");
    assert_content(here.join("film.mkv"), &content);
    let sent = u64::try_from(source.bytes_sent_to_the_last()).unwrap();
    assert_eq!(sent + kept, 40_000_000, "what was there was not sent again");
}

#[test]
fn damage_to_what_was_kept_is_found() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let offer = Offer::new("film.mkv", noise(4, 20_000_000));
    let content = offer.content().to_vec();
    let source = HostilePeer::join(&lab, "mallory", vec![offer], Trick::Gate);
    let here = lab.empty_folder("here");
    let fetch = || alice.peer(["--json", "fetch", "mallory", "film.mkv", "-j", "1", "-o"]).arg(&here);
    let fetching = fetch().start();
    source.wait_until_stalled(1);
    wait_for_verified_bytes(&fetching);
    fetching.kill();
    fetching.finish().exits(137);
    let part = names_in(&here).into_iter().find(|name| name.ends_with(".part")).expect("a part is kept");
    let mut damaged = std::fs::read(here.join(&part)).unwrap();
    damaged.iter_mut().step_by(1000).for_each(|byte| *byte ^= 1);
    tests::files::write(here.join(&part), damaged);
    source.open_gate();
    let again = fetch().run();
    assert_eq!(resumed(&again), 0, "nothing of it was right any more: {again}");
    assert_content(here.join("film.mkv"), &content);
    assert_eq!(names_in(&here), ["film.mkv"]);
}

#[test]
fn two_fetches_of_the_same_file_do_not_mix() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let offer = Offer::new("film.mkv", noise(5, 20_000_000));
    let content = offer.content().to_vec();
    let source = HostilePeer::join(&lab, "mallory", vec![offer], Trick::Gate);
    let here = lab.empty_folder("here");
    let first = alice.fetch("mallory", ["film.mkv"], &here).start();
    source.wait_until_stalled(1);
    alice.fetch("mallory", ["film.mkv"], &here).run().exits(10).says("by another process");
    source.open_gate();
    first.finish().exits(0);
    assert_content(here.join("film.mkv"), &content);
    assert_eq!(names_in(&here), ["film.mkv"]);
}

#[test]
fn two_fetches_started_together_end_well() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", 9_000_000);
    bob.share([&film]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    let both = [(); 2].map(|()| alice.fetch("bob", ["film.mkv"], &here).start());
    let codes = both.map(|fetch| fetch.finish().code);
    assert!(codes.contains(&0) && codes.iter().all(|code| matches!(code, 0 | 10)), "{codes:?}");
    for name in names_in(&here) {
        assert_same(here.join(name), &film);
    }
}

#[test]
fn an_interrupted_fetch_says_how_to_go_on() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let offer = Offer::new("film.mkv", noise(6, 20_000_000));
    let content = offer.content().to_vec();
    let source = HostilePeer::join(&lab, "mallory", vec![offer], Trick::Gate);
    let here = lab.empty_folder("here");
    let fetch = || alice.fetch("mallory", ["film.mkv"], &here);
    let fetching = alice.peer(["--json", "fetch", "mallory", "film.mkv", "-o"]).arg(&here).start();
    source.wait_until_stalled(1);
    wait_for_verified_bytes(&fetching);
    fetching.interrupt();
    fetching.finish().exits(130).says("run the same command again to go on");
    assert!(!here.join("film.mkv").exists());
    let stalled = source.stalled();
    let terminated = fetch().start();
    source.wait_until_stalled(stalled + 1);
    terminated.terminate();
    terminated.finish().exits(143);
    source.open_gate();
    fetch().run().exits(0).says("resuming at");
    assert_content(here.join("film.mkv"), &content);
    assert_eq!(names_in(&here), ["film.mkv"]);
}
