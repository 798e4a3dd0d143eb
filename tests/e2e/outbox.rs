//! Messages that can't be delivered now: they wait, and go.

use tests::Lab;

#[test]
fn what_was_written_to_somebody_absent_arrives_once_and_in_order() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for text in ["one", "two", "three"] {
        alice.peer(["chat", "bob", text]).run().exits(0).says("bob is offline").says("peer serve").prints_exactly("");
    }
    alice.peer(["outbox"]).run().exits(0).prints("to bob: one").prints("14 d left");
    let waiting = alice.peer(["--json", "outbox"]).run();
    let waiting: Vec<_> = waiting.json().iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(waiting, ["one", "two", "three"]);

    // It leaves with her next node, as soon as he is there, and she sees that it did.
    let hers = alice.serve();
    hers.wait_for("messages for bob are queued: bob is offline");
    let his = bob.serve();
    his.wait_for("alice: three");
    let said = his.said();
    let places: Vec<_> = ["one", "two", "three"].map(|text| said.find(&format!("alice: {text}"))).into();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{said}");
    alice.peer(["chat", "bob", "four"]).run().exits(0);
    alice.peer(["outbox"]).run().exits(0).prints_exactly("").says("the outbox is empty");
    let history = alice.peer(["--json", "history", "bob"]).run();
    let states: Vec<_> = history.json().iter().map(|line| line["state"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states, ["stored"; 4]);
    let received = bob.peer(["--json", "history", "alice"]).run();
    let texts: Vec<_> = received.json().iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts, ["one", "two", "three", "four"]);
    assert!(received.json().iter().all(|line| line["state"] == "received" && line["from"] == "alice"));
}

#[test]
fn who_is_absent_is_listed_when_there_is_something_to_do() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    lab.user("carol");
    let _hers = alice.serve();
    bob.peer(["chat", "alice", "one"]).run().exits(0);
    bob.peer(["chat", "alice", "two"]).run().exits(0);
    alice.peer(["chat", "carol", "for later"]).run().exits(0);
    let list = alice.peer(["list"]).run();
    list.exits(0).says("bob is offline: 2 unread (`peer inbox`)").says("carol is offline: 1 queued");
    assert!(!list.out().contains("bob"), "{list}");
    let absent = alice.peer(["--json", "list"]).run();
    let bobs: Vec<_> = absent.json().into_iter().filter(|line| line["user"] == "bob").collect();
    assert_eq!((bobs.len(), &bobs[0]["type"], &bobs[0]["unread"]), (1, &"absent".into(), &2.into()));
    alice.peer(["list", "alice"]).run().exits(0).prints("alice");
}

#[test]
fn a_message_can_be_taken_out_again() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    alice.peer(["chat", "bob", "a mistake"]).run().exits(0);
    alice.peer(["chat", "bob", "no mistake"]).run().exits(0);
    let listed = alice.peer(["outbox"]).run().out();
    let id = listed.lines().next().unwrap().split(' ').next().unwrap().to_owned();
    alice.peer(["outbox", "drop", "zzzz"]).run().exits(2).says("no queued message zzzz");
    alice.peer(["outbox", "drop", &id]).run().exits(0);
    alice.peer(["outbox", "drop", &id]).run().exits(2);
    let (_hers, his) = (alice.serve(), bob.serve());
    his.wait_for("alice: no mistake");
    assert!(!his.said().contains("alice: a mistake"));
    let dropped = alice.peer(["--json", "history", "bob"]).run();
    assert_eq!(dropped.json()[0]["state"], "dropped");
    assert!(dropped.json()[0].get("given_up").is_none(), "{dropped}");
}

#[test]
fn now_or_never_leaves_nothing_behind() {
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), lab.user("bob"));
    alice.peer(["chat", "--now", "bob", "hi"]).run().exits(4).says("bob is offline");
    alice.peer(["outbox"]).run().exits(0).prints_exactly("");
    let _hers = alice.serve();
    alice.peer(["chat", "--now", "bob", "hi"]).run().exits(4).says("bob is offline");
    alice.peer(["chat", "zoe", "hi"]).run().exits(4).says("no user \"zoe\"");
    alice.peer(["outbox"]).run().exits(0).prints_exactly("");
}

#[test]
fn what_waits_survives_kill_9_on_both_sides() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let hers = alice.serve();
    alice.peer(["chat", "bob", "before the end"]).run().exits(0);
    hers.kill();
    hers.finish().exits(137);
    let his = bob.serve();
    let _hers = alice.serve();
    his.wait_for("alice: before the end");
    his.kill();
    his.finish().exits(137);
    let his = bob.serve();
    alice.peer(["chat", "bob", "after it"]).run().exits(0);
    his.wait_for("alice: after it");
    let received = bob.peer(["--json", "history"]).run();
    assert_eq!(received.json().len(), 2);
}

#[test]
fn a_changed_key_holds_back_what_waits_until_it_is_trusted() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let his = bob.serve();
    alice.peer(["chat", "bob", "we meet"]).run().exits(0);
    his.interrupt();
    his.finish().exits(130);
    alice.peer(["chat", "bob", "a secret for the old bob"]).run().exits(0);
    let hers = alice.serve();
    hers.wait_for("bob is offline");

    // Another machine takes his name: the same account, another key.
    let new_bob = lab.stranger("bob2");
    new_bob.peer(["login", "bob", "--rebind", "--password-file"]).arg(bob.password_file()).run().exits(0);
    let new = new_bob.peer(["serve"]).start();
    new.wait_for("online as bob at ");
    hers.wait_for("messages for bob are held back: the identity of bob changed");
    alice.peer(["outbox"]).run().exits(0).prints("held back: the key of bob changed");
    assert!(!new.said().contains("a secret"));
    let said = || alice.peer(["chat", "bob", "said meanwhile"]).run();
    said().exits(11).says("The message was not sent and is not kept: send it again after that");
    hers.interrupt();
    hers.finish().exits(130);
    said().exits(11).says("The message was not sent and is not kept: send it again after that");
    let _hers = alice.serve();
    let key = new_bob.fingerprint();
    alice.peer(["trust", "bob", "--replace", &key, "--yes"]).run().exits(0);
    new.wait_for("alice: a secret for the old bob");
    assert!(!new.said().contains("said meanwhile"), "{}", new.said());
    // Its ack may still be on the way.
    crate::chat_faults::until_delivered(&alice);
}

#[test]
fn what_waits_for_a_friend_whom_the_tracker_forgot_goes_when_it_knows_them_again() {
    let lab = Lab::start();
    let (alice, frank) = (lab.user("alice"), lab.user("frank"));
    let hers = alice.serve();
    {
        let his = frank.serve();
        alice.peer(["chat", "frank", "we meet"]).run().exits(0);
        his.interrupt();
        his.finish().exits(130);
    }
    let admin = |args: &[&str]| lab.tracker_invocation(lab.address()).args(args.iter().copied()).run();
    admin(&["user", "remove", "frank"]).exits(0);
    alice
        .peer(["chat", "frank", "are you there?"])
        .run()
        .exits(0)
        .says("there is no user \"frank\"")
        .says("message queued");
    hers.wait_for("messages for frank are queued: there is no user \"frank\"");
    // A name that nobody ever met is a slip of the hand.
    alice.peer(["chat", "frnak", "hm?"]).run().exits(4).says("there is no user \"frnak\"");
    frank.peer(["register", "frank", "--password-file"]).arg(frank.password_file()).run().exits(0);
    let his = frank.serve();
    his.wait_for("alice: are you there?");
    crate::chat_faults::until_delivered(&alice);
}

#[test]
fn what_waited_for_two_weeks_is_given_up_aloud() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    alice.peer(["chat", "bob", "too late for this"]).run().exits(0);
    alice.peer(["chat", "bob", "in time"]).run().exits(0);
    let long_ago = "UPDATE outbox SET since = since - 15 * 86400000 WHERE seq = (SELECT min(seq) FROM outbox)";
    lab.sqlite(alice.home(), long_ago);
    let hers = alice.serve();
    hers.wait_for("a message to bob was not delivered: it waited for 14 days: too late for this");
    let his = bob.serve();
    his.wait_for("alice: in time");
    assert!(!his.said().contains("too late"));
}

#[test]
fn an_hour_without_the_tracker_keeps_nothing_from_arriving() {
    let mut lab = Lab::with_restarts();
    lab.user("bob");
    lab.user("alice");
    {
        let (alice, bob) = (lab.stranger("alice"), lab.stranger("bob"));
        let his = bob.serve();
        alice.peer(["chat", "bob", "we meet"]).run().exits(0);
        his.interrupt();
        his.finish().exits(130);
    }
    let (hers, lines) = (lab.stranger("alice").serve(), ["one", "two"]);
    lab.kill_tracker();
    hers.wait_for("trying again");
    for line in lines {
        lab.stranger("alice").peer(["chat", "bob", line]).run().exits(0).says("message queued");
    }
    // All leases ran out long ago: nobody's session is left.
    for memory in ["presence.db", "presence.db-wal", "presence.db-shm"] {
        let _ = std::fs::remove_file(lab.path().join("tracker").join(memory));
    }
    lab.start_tracker();
    hers.wait_for_nth("online as alice at ", 2);
    let his = lab.stranger("bob").serve();
    his.wait_for("alice: two");
    assert!(his.said().find("alice: one") < his.said().find("alice: two"));
}
