//! A tracker that takes connections and says nothing: stopped, or overloaded.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use tests::Lab;
use tests::files::assert_same;

const SILENT: &str = "it takes connections but doesn't answer within";

/// How long somebody who was met before may stay out of reach.
const AT_MOST: Duration = Duration::from_secs(12);

#[test]
fn who_was_met_before_is_reached_without_it() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", 300_000);
    bob.share([&film]);
    let his = bob.serve();
    alice.peer(["chat", "bob", "we meet"]).run().exits(0);
    his.wait_for("alice: we meet");
    let tracker = lab.take_tracker();
    tracker.freeze();
    let began = Instant::now();
    alice.peer(["chat", "bob", "without it", "--now"]).run().exits(0).says(SILENT);
    his.wait_for("alice: without it");
    println!("a message after {:?}", began.elapsed());
    assert!(began.elapsed() < AT_MOST, "{:?}", began.elapsed());
    let here = lab.empty_folder("here");
    let fetched = alice.fetch("bob", ["film.mkv"], &here).run();
    fetched.exits(0).says(SILENT);
    assert!(!String::from_utf8_lossy(&fetched.stderr).contains("waiting for the tracker"), "{fetched}");
    assert_same(here.join("film.mkv"), &film);
    tracker.thaw();
}

#[test]
fn a_running_node_reaches_those_it_met_without_it() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let his = bob.serve();
    alice.peer(["chat", "bob", "we meet"]).run().exits(0);
    let _hers = alice.serve();
    let tracker = lab.take_tracker();
    tracker.freeze();
    let began = Instant::now();
    alice.peer(["chat", "bob", "without it", "--now"]).run().exits(0);
    his.wait_for("alice: without it");
    println!("a message after {:?}", began.elapsed());
    assert!(began.elapsed() < AT_MOST, "{:?}", began.elapsed());
    tracker.thaw();
}

#[test]
fn it_is_no_other_program() {
    let lab = Lab::without_tracker();
    // The system takes connections for it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let alice = lab.stranger("alice");
    let register = alice.peer(["--tracker", &address, "register", "alice", "--password-file"]);
    let outcome = register.arg(alice.password_file()).run();
    outcome.exits(7).says(&format!("waiting for the tracker {address} to answer"));
    outcome.says("can't be reached").says(SILENT).says("stopped or overloaded?");
    assert!(!outcome.err().contains("not a Vizinho tracker"), "{outcome}");
}
