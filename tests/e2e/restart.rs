//! The tracker goes and comes back; so do nodes.

use tests::Lab;
use tests::files::assert_same;

#[test]
fn a_node_comes_back_by_itself_with_its_shares() {
    let mut lab = Lab::with_restarts();
    {
        let bob = lab.user("bob");
        lab.user("alice");
        bob.share([lab.file("a.txt", 10), lab.file("b.txt", 20)]);
    }
    let node = lab.stranger("bob").serve();
    lab.kill_tracker();
    node.wait_for("trying again, known peers can still connect");
    lab.start_tracker();
    node.wait_for_nth("online as bob at ", 2);
    let alice = lab.stranger("alice");
    alice.peer(["list"]).run().exits(0).prints("bob").prints("2 files");
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["a.txt"], &here).run().exits(0);
    assert_same(here.join("a.txt"), lab.join("a.txt"));
}

#[test]
fn friends_keep_talking_while_the_tracker_is_away() {
    let mut lab = Lab::with_restarts();
    {
        let bob = lab.user("bob");
        bob.share([lab.file("a.txt", 2_000_000)]);
        lab.user("alice");
        lab.user("carol");
    }
    let (alice, bob, carol) = (lab.stranger("alice"), lab.stranger("bob"), lab.stranger("carol"));
    let (hers, his) = (alice.serve(), bob.serve());
    alice.peer(["chat", "bob", "before"]).run().exits(0);
    carol.peer(["files", "bob"]).run().exits(0);
    lab.kill_tracker();
    his.wait_for("trying again");
    hers.wait_for("trying again");

    alice.peer(["chat", "bob", "over the link that is there"]).run().exits(0);
    his.wait_for("alice: over the link that is there");
    bob.peer(["chat", "alice", "and back"]).run().exits(0);
    hers.wait_for("bob: and back");
    // Somebody without a node, who met bob before, dials him by what is on record.
    let here = lab.empty_folder("here");
    let fetched = carol.fetch("bob", ["a.txt"], &here).run();
    fetched.exits(0).says("using what is on record");
    assert_same(here.join("a.txt"), lab.join("a.txt"));
    carol.peer(["chat", "bob", "me too"]).run().exits(0);
    his.wait_for("carol: me too");

    drop((alice, bob, carol));
    lab.start_tracker();
    his.wait_for_nth("online as bob at ", 2);
    hers.wait_for_nth("online as alice at ", 2);
}

#[test]
fn nodes_begin_without_the_tracker_and_come_back_by_themselves() {
    let mut lab = Lab::with_restarts();
    let (alice, bob) = ("alice", "bob");
    for name in [alice, bob] {
        lab.user(name);
    }
    {
        let (alice, bob) = (lab.stranger(alice), lab.stranger(bob));
        let (hers, his) = (alice.serve(), bob.serve());
        alice.peer(["chat", "bob", "we meet"]).run().exits(0);
        his.wait_for("alice: we meet");
        for node in [hers, his] {
            node.interrupt();
            node.finish().exits(130);
        }
    }
    lab.kill_tracker();
    let (hers, his) = {
        let (alice, bob) = (lab.stranger(alice), lab.stranger(bob));
        let his = bob.peer(["serve"]).start();
        his.wait_for("can't be reached");
        // With a node for as long as there are lines, and with one that stays.
        alice.peer(["chat", "bob"]).stdin("a line\nanother\n").run().exits(0);
        his.wait_for("alice: another");
        let hers = alice.peer(["serve"]).start();
        hers.wait_for("trying again");
        alice.peer(["chat", "--now", "bob", "without it"]).run().exits(0);
        his.wait_for("alice: without it");
        bob.peer(["chat", "--now", "alice", "and back"]).run().exits(0);
        hers.wait_for("bob: and back");
        alice.peer(["whoami"]).run().exits(0).prints("no: waiting for the tracker");
        alice.peer(["chat", "zoe", "who are you?"]).run().exits(7).says("can't be reached");
        assert!(!hers.said().contains("online as"));
        (hers, his)
    };
    lab.start_tracker();
    hers.wait_for("online as alice at ");
    his.wait_for("online as bob at ");
    let list = lab.stranger(alice).peer(["list"]).run();
    list.exits(0).prints("alice").prints("bob");
}

#[test]
fn an_account_survives_the_tracker_being_killed_right_after_the_reply() {
    let mut lab = Lab::with_restarts();
    for round in 0..5 {
        let name = format!("user{round}");
        // Killed as soon as the client has its answer, with nothing in between.
        lab.user(&name);
        lab.kill_tracker();
        lab.start_tracker();
        for known in 0..=round {
            let user = lab.stranger(&format!("user{known}"));
            let login = user.peer(["login", &format!("user{known}"), "--password-file"]).arg(user.password_file());
            login.run().exits(0);
        }
    }
}

#[test]
fn a_tracker_ends_in_good_order_when_it_is_told_to() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let node = bob.serve();
    let tracker = lab.take_tracker();
    for process in [&node, &tracker] {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
        let of_core_files = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(of_core_files.split_whitespace().nth(4), Some("1"), "keys may get into a core dump: {limits}");
    }
    tracker.terminate();
    tracker.finish_within(std::time::Duration::from_secs(10)).exits(0);
    node.wait_for("trying again");
    node.interrupt();
    node.finish().exits(130);

    let other = Lab::start();
    let tracker = other.take_tracker();
    tracker.interrupt();
    tracker.finish_within(std::time::Duration::from_secs(10)).exits(0);
}

#[test]
fn a_node_that_was_killed_is_found_again_where_it_was() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("a.txt", 10)]);
    let node = bob.serve();
    let before = bob.node_address();
    node.kill();
    node.finish().exits(137);
    let _again = bob.serve();
    assert_eq!(bob.node_address(), before);
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["a.txt"], &here).run().exits(0);
    assert_same(here.join("a.txt"), lab.join("a.txt"));
}

#[test]
fn a_frozen_peer_is_given_up_and_its_thaw_is_no_trouble() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("a.txt", 10)]);
    let node = bob.serve();
    alice.peer(["files", "bob"]).run().exits(0);
    node.freeze();
    alice.fetch("bob", ["a.txt"], lab.path()).run().exits(7).says("no answer");
    alice.peer(["chat", "--now", "bob", "hello?"]).run().exits(4).says("bob is offline");
    node.thaw();
    alice.peer(["chat", "bob", "there you are"]).run().exits(0);
    node.wait_for("alice: there you are");
}
