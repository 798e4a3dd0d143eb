//! Several sources, and sources that come and go.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::files::{assert_content, assert_same, names_in, noise, write};
use tests::progress::wait_for_bytes;
use tests::{Lab, Outcome, Process, User};

const SIZE: usize = 12_000_000;

/// Online, and slow enough that nobody is done before the others have come.
fn serve_slowly(user: &User<'_>) -> Process {
    serve_at("4M", user)
}

fn serve_at(limit: &str, user: &User<'_>) -> Process {
    let node = user.peer(["serve", "--limit", limit]).start();
    node.wait_for("online as");
    node
}

/// What each source sent of the only file.
fn sources(outcome: &Outcome) -> Vec<(String, u64)> {
    let file = outcome.object("file");
    let one = |source: &Value| (source["user"].as_str().unwrap().to_owned(), source["bytes"].as_u64().unwrap());
    file["sources"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn whoever_has_the_same_is_asked_without_being_named() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    let film = lab.file("film.mkv", SIZE);
    bob.share([&film]);
    carol.peer(["share", "--as", "another name.mkv"]).arg(&film).run().exits(0);
    let _nodes = [serve_slowly(&bob), serve_slowly(&carol)];
    let here = lab.empty_folder("here");
    let both = alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(here.join("both.mkv")).run();
    let mut from = sources(both.exits(0));
    from.sort();
    assert_eq!(from.iter().map(|(user, _)| user.as_str()).collect::<Vec<_>>(), ["bob", "carol"]);
    assert!(from.iter().all(|(_, bytes)| *bytes >= 1 << 20), "{from:?}");
    assert_eq!(from.iter().map(|(_, bytes)| *bytes).sum::<u64>(), SIZE as u64);
    assert_same(here.join("both.mkv"), &film);

    let only = alice.peer(["--json", "fetch", "--only", "bob", "film.mkv", "-o"]).arg(here.join("one.mkv")).run();
    assert_eq!(sources(only.exits(0)), [("bob".to_owned(), SIZE as u64)]);
}

#[test]
fn what_a_killed_source_had_begun_comes_from_another() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    let film = lab.file("film.mkv", SIZE);
    bob.share([&film]);
    carol.share([&film]);
    let (bobs, _carols) = (serve_slowly(&bob), serve_slowly(&carol));
    let here = lab.empty_folder("here");
    let fetching = alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(&here).start();
    wait_for_bytes(&fetching, 1);
    bobs.kill();
    fetching.finish().exits(0);
    assert_same(here.join("film.mkv"), &film);
    assert_eq!(names_in(&here), ["film.mkv"]);
}

#[test]
fn whoever_is_still_fetching_is_a_source_of_what_they_have() {
    let lab = Lab::start();
    let (bob, carol, dave) = (lab.user("bob"), lab.user("carol"), lab.user("dave"));
    let film = lab.file("film.mkv", SIZE);
    bob.share([&film]);
    let _bobs = serve_at("1M", &bob);
    let _carols = carol.serve();
    let (hers, his) = (lab.empty_folder("hers"), lab.empty_folder("his"));
    let carols = carol.peer(["--json", "fetch", "bob", "film.mkv", "--share", "-o"]).arg(&hers).start();
    wait_for_bytes(&carols, SIZE as u64 / 3);
    assert!(carol.peer(["shares"]).run().exits(0).out().contains("film.mkv"));
    let daves = dave.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(&his).start();
    let from = sources(daves.finish().exits(0));
    let carols_part = from.iter().find(|(user, _)| user == "carol").map_or(0, |(_, bytes)| *bytes);
    assert!(carols_part >= SIZE as u64 / 4, "{from:?}");
    assert_same(his.join("film.mkv"), &film);
    carols.finish().exits(0);
    assert_same(hers.join("film.mkv"), &film);
    let shares = carol.peer(["--json", "shares"]).run().exits(0).json();
    let [share] = shares.as_slice() else { panic!("whole by now, and offered once: {shares:?}") };
    assert_eq!(share["partial"], Value::Null);
}

#[test]
fn what_an_interrupted_fetch_left_can_be_had_and_a_part_that_was_spoilt_accuses_nobody() {
    let lab = Lab::start();
    let (bob, carol, dave) = (lab.user("bob"), lab.user("carol"), lab.user("dave"));
    let film = lab.file("film.mkv", SIZE);
    bob.share([&film]);
    let _bobs = serve_slowly(&bob);
    let _carols = carol.serve();
    let (hers, his) = (lab.empty_folder("hers"), lab.empty_folder("his"));
    let carols = carol.peer(["--json", "fetch", "bob", "film.mkv", "--share", "-o"]).arg(&hers).start();
    wait_for_bytes(&carols, SIZE as u64 / 2);
    carols.kill();
    carols.finish();
    let part = names_in(&hers).into_iter().find(|name| name.ends_with(".part")).unwrap();
    let spoilt = std::fs::OpenOptions::new().write(true).open(hers.join(part)).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&spoilt, b"rot", 5).unwrap();
    let daves = dave.peer(["--json", "fetch", "carol", "film.mkv", "-o"]).arg(&his).start();
    let done = daves.finish();
    let from = sources(done.exits(0));
    assert_same(his.join("film.mkv"), &film);
    assert!(from.iter().any(|(user, bytes)| user == "bob" && *bytes > 0), "{from:?}");
    assert!(
        done.object("file")["sources"].as_array().unwrap().iter().all(|source| source["banned"] != Value::Bool(true))
    );
}

#[test]
fn a_source_that_comes_back_is_taken_up_again() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", SIZE);
    bob.share([&film]);
    let node = serve_slowly(&bob);
    let here = lab.empty_folder("here");
    let fetching = alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(&here).start();
    wait_for_bytes(&fetching, 1);
    node.kill();
    node.finish();
    let _again = serve_slowly(&bob);
    let outcome = fetching.finish();
    assert_eq!(outcome.exits(0).object("summary")["bytes_fetched"], SIZE);
    assert_same(here.join("film.mkv"), &film);
}

#[test]
fn what_failed_is_fetched_by_retry() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("one.txt", 100)]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    alice.peer(["fetch", "--retry"]).run().exits(2).says("nothing to retry");
    let first = alice.peer(["--json", "fetch", "bob", "one.txt", "two.txt", "-o"]).arg(&here).run();
    let summary = first.exits(12).object("summary");
    assert_eq!((&summary["done"], &summary["failed"]), (&1.into(), &1.into()));
    bob.share([lab.file("two.txt", 200)]);
    alice.peer(["fetch", "--retry"]).folder(lab.path()).run().exits(0);
    assert_eq!(names_in(&here), ["one.txt", "two.txt"]);
    alice.peer(["fetch", "--retry"]).run().exits(2);
}

#[test]
fn two_files_of_the_same_last_name_both_arrive() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    write(lab.join("a/report.pdf"), b"one");
    write(lab.join("b/report.pdf"), b"two");
    bob.share([lab.join("a"), lab.join("b")]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["a/report.pdf", "b/report.pdf"], &here).run().exits(0);
    assert_content(here.join("report.pdf"), b"one");
    assert_content(here.join("report (1).pdf"), b"two");
    alice.fetch("bob", ["a/report.pdf", "b/report.pdf"], &here).run().exits(0);
    assert_eq!(names_in(&here), ["report (1).pdf", "report.pdf"], "the second time nothing new comes");
}

#[test]
fn trees_keep_what_makes_them_trees() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let script = write(lab.join("tools/bin/run.sh"), b"#!/bin/sh\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o4755)).unwrap();
    std::fs::create_dir_all(lab.join("tools/empty/deep")).unwrap();
    write(lab.join("tools/readme"), b"hello");
    bob.share([lab.join("tools")]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["tools/"], &here).run().exits(0);
    let mode = |path: &str| std::fs::metadata(here.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("tools/bin/run.sh") & 0o4100, 0o100, "executable, and never setuid");
    assert_eq!(mode("tools/readme") & 0o111, 0);
    assert!(here.join("tools/empty/deep").is_dir());
}

#[test]
fn a_pattern_does_not_bring_hidden_files() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([write(lab.join(".bash_login"), b"rm -rf ~"), write(lab.join("notes"), b"x")]);
    let empty = lab.empty_folder("settings/.config/autostart");
    bob.share([empty.parent().unwrap()]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["*"], &here).run().exits(0);
    alice.fetch("bob", ["."], &here).run().exits(0);
    assert_eq!(names_in(&here), ["notes"]);
    alice.fetch("bob", [".bash_login"], &here).run().exits(0);
    assert_eq!(names_in(&here), [".bash_login", "notes"]);
}

#[test]
fn what_was_fetched_can_be_offered() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    bob.share([write(lab.join("notes.txt"), noise(3, 1000))]);
    let bobs = bob.serve();
    let alices = alice.serve();
    let here = lab.empty_folder("here");
    alice.peer(["fetch", "--share", "bob", "notes.txt", "-o"]).arg(&here).run().exits(0);
    alices.wait_for("1 file is shared now");
    bobs.terminate();
    bobs.finish();
    let there = lab.empty_folder("there");
    carol.fetch("alice", ["notes.txt"], &there).run().exits(0);
    assert_content(there.join("notes.txt"), &noise(3, 1000));
}

#[test]
fn a_limit_is_kept() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", 3_000_000);
    bob.share([&film]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    let begun = Instant::now();
    alice.peer(["fetch", "--limit", "1M", "bob", "film.mkv", "-o"]).arg(&here).run().exits(0);
    // Never sooner: how much later is the machine's business.
    assert!(begun.elapsed() >= Duration::from_millis(2_500), "{:?}", begun.elapsed());
    assert_same(here.join("film.mkv"), &film);
}
