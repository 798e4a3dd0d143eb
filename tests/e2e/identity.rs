//! Who is on the other side: first meetings, changes, and being sure.

use std::time::{Duration, Instant};

use tests::{Lab, Outcome, Process, User};

/// Bob's account gets another key, as after a stolen password or a new machine.
fn rebind<'a>(lab: &'a Lab, bob: &User<'_>) -> User<'a> {
    let other = lab.stranger("new-machine");
    other.peer(["login", "bob", "--rebind", "--password-file"]).arg(bob.password_file()).run().exits(0);
    other
}

fn demands_trust(outcome: &Outcome, old: &str, new: &str) {
    outcome.exits(11).says("the identity of bob changed").says(old).says(new).is_plain();
    outcome.says(&format!("peer trust bob --replace {new}\n"));
}

#[test]
fn a_first_meeting_is_told_and_remembered() {
    let lab = Lab::start();
    let alice = lab.stranger("alice");
    let register = alice.peer(["register", "alice", "--password-file"]).arg(alice.password_file()).run();
    register.exits(0).says("first contact with the tracker").says("your key is");
    let bob = lab.user("bob");
    let _node = bob.serve();
    let first = alice.peer(["files", "bob"]).run();
    first.exits(0).says("first contact with bob").says(&bob.fingerprint());
    let second = alice.peer(["files", "bob"]).run();
    assert!(!second.exits(0).err().contains("first contact"), "{second}");
    alice.peer(["trust", "bob"]).run().exits(0).prints(&bob.fingerprint()).prints("not verified");
    alice.peer(["trust", "--the-tracker"]).run().exits(0).prints(lab.address());
}

#[test]
fn a_changed_key_stops_everything_until_it_is_trusted() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let old = bob.fingerprint();
    {
        let _node = bob.serve();
        alice.peer(["files", "bob"]).run().exits(0);
    }
    let new_bob = rebind(&lab, &bob);
    let new = new_bob.fingerprint();
    let node = new_bob.peer(["serve"]).start();
    node.wait_for("online as bob at ");
    for args in [&["files", "bob"][..], &["fetch", "bob", "x"], &["chat", "bob", "hi"]] {
        demands_trust(&alice.peer(args).run(), &old, &new);
    }
    assert!(!node.said().contains("alice: hi"));

    alice.peer(["trust", "bob", "--replace", &new]).run().exits(2).says("--yes");
    alice.peer(["trust", "bob", "--replace", &new, "--yes"]).run().exits(0).says(&new);
    alice.peer(["chat", "bob", "hi"]).run().exits(0);
    node.wait_for("alice: hi");
}

#[test]
fn a_caller_with_a_changed_key_is_refused() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = alice.serve();
    bob.peer(["chat", "alice", "it is me"]).run().exits(0);
    node.wait_for("bob: it is me");
    let new_bob = rebind(&lab, &bob);
    new_bob.peer(["chat", "--now", "alice", "at once"]).run().exits(6).says("your key is not the one").is_plain();
    let waits = new_bob.peer(["chat", "alice", "me again"]).run();
    waits.exits(0).says("your key is not the one").says("message queued").is_plain();
    assert!(!node.said().contains("me again"));
    // It goes when she trusts the new key, and not before.
    alice.peer(["trust", "bob", "--replace", &new_bob.fingerprint(), "--yes"]).run().exits(0);
    let _his = new_bob.peer(["serve"]).start();
    node.wait_for("bob: me again");
    assert!(!node.said().contains("at once"));
}

#[test]
fn a_link_to_the_old_key_ends_with_the_key() {
    let lab = Lab::start();
    let paul = lab.user("paul");
    let node = paul.serve();
    // Whoever has olga's old key stays on the line, whatever the tracker says.
    let old = tests::hostile::Caller::dial(paul.node_address(), &tests::hostile::Caller::register(&lab, "olga"));
    old.hello("olga");
    let said = serde_json::json!({ "t": "message", "id": "1".repeat(32), "ts": 0, "text": "it is me" });
    old.say(&said);
    node.wait_for("olga: it is me");
    let new = lab.stranger("olga");
    tests::files::write(new.password_file(), "whatever\n");
    new.peer(["login", "olga", "--rebind", "--password-file"]).arg(new.password_file()).run().exits(0);
    assert_eq!(old.ending(), tests::hostile::Ending::Closed(10));
    node.wait_for("messages for olga are held back: the identity of olga changed");
    let new_node = new.serve();
    demands_no_delivery(&paul, &new_node);
    paul.peer(["trust", "olga", "--replace", &new.fingerprint(), "--yes"]).run().exits(0);
    paul.peer(["chat", "olga", "so it is you"]).run().exits(0);
    new_node.wait_for("paul: so it is you");
}

fn demands_no_delivery(paul: &User<'_>, new_node: &Process) {
    paul.peer(["chat", "olga", "a secret"]).run().exits(11).says("the identity of olga changed");
    assert!(!new_node.said().contains("a secret"));
}

/// Bob is gone without a word, and somebody else has his port. The tracker still lists him for ten seconds.
fn taken_port(lab: &Lab, bob: &User<'_>, somebody: &User<'_>) -> (Process, Instant) {
    let node = bob.serve();
    let port = bob.node_address().port().to_string();
    lab.user("friend").peer(["files", "bob"]).run().exits(0);
    node.kill();
    let gone = Instant::now();
    node.finish().exits(137);
    let theirs = somebody.peer(["serve", "--port", &port]).start();
    theirs.wait_for(&format!("online as {} at ", somebody.name()));
    (theirs, gone)
}

/// Whether the tracker noticed meanwhile that he is gone: then he is offline, which is as good.
fn is_noticed(gone: Instant) -> bool {
    gone.elapsed() > Duration::from_secs(9)
}

#[test]
fn somebody_known_at_his_address_is_a_wrong_address() {
    let lab = Lab::start();
    let (alice, bob, eve) = (lab.user("alice"), lab.user("bob"), lab.user("eve"));
    let bobs = bob.fingerprint();
    let (theirs, gone) = taken_port(&lab, &bob, &eve);
    let files = alice.peer(["files", "bob"]).run();
    let said = alice.peer(["chat", "bob", "a secret"]).run();
    said.exits(0).says("bob is offline");
    for outcome in [&files, &said] {
        assert!(!outcome.err().contains("identity") && !outcome.err().contains("--replace"), "{outcome}");
        assert!(matches!(outcome.code, 0 | 4 | 7), "{outcome}");
    }
    if !is_noticed(gone) {
        files.exits(7).says("eve has 127.0.0.1");
    }
    alice.peer(["outbox"]).run().exits(0).prints("a secret");
    // The line that nobody printed is refused as well.
    let eves = eve.fingerprint();
    let replaced = alice.peer(["trust", "bob", "--replace", &eves, "--yes"]).run();
    replaced.exits(11).says(&format!("the key {eves} is eve's, so it can't be bob's"));
    alice.peer(["trust", "bob"]).run().exits(0).prints(&bobs);
    let own = alice.peer(["trust", "bob", "--replace", &alice.fingerprint(), "--yes"]).run();
    own.exits(11).says("is alice's");
    assert!(!theirs.said().contains("a secret"));
    let node = bob.serve();
    let _alices = alice.serve();
    node.wait_for("alice: a secret");
}

#[test]
fn a_stranger_at_his_address_is_exit_11_and_nothing_to_paste() {
    // Whoever is registered at another tracker is nobody here.
    let (lab, elsewhere) = (Lab::start(), Lab::start());
    let (alice, bob, mallory) = (lab.user("alice"), lab.user("bob"), elsewhere.user("mallory"));
    let (theirs, gone) = taken_port(&lab, &bob, &mallory);
    let files = alice.peer(["files", "bob"]).run();
    let said = alice.peer(["chat", "bob", "a secret"]).run();
    if !is_noticed(gone) {
        for outcome in [&files, &said] {
            outcome.exits(11).says("somebody else answers at 127.0.0.1").says(&bob.fingerprint()).is_plain();
            outcome.says(&mallory.fingerprint());
        }
        said.says("The message is queued");
    }
    assert!(!files.err().contains("--replace") && !said.err().contains("--replace"), "{files} {said}");
    alice.peer(["outbox"]).run().exits(0).prints("a secret");
    assert!(!theirs.said().contains("a secret"));
    drop(theirs);
    let node = bob.serve();
    let _alices = alice.serve();
    node.wait_for("alice: a secret");
}

#[test]
fn at_a_terminal_trust_is_asked_for() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let bob = lab.user("bob");
    {
        let _node = bob.serve();
        alice.peer(["files", "bob"]).run().exits(0);
    }
    let new = rebind(&lab, &bob).fingerprint();
    for (answer, kept) in [("n\r", bob.fingerprint()), ("y\r", new.clone())] {
        let mut terminal = alice.peer(["trust", "bob", "--replace", &new]).in_terminal(160, 24);
        terminal.wait_for("from now on? [y/N]");
        terminal.press(answer);
        terminal.finish().0.exits(0);
        alice.peer(["trust", "bob"]).run().exits(0).prints(&kept);
    }
}

#[test]
fn alice_whom_bobs_tracker_does_not_know_is_refused() {
    // Two trackers: alice is registered at hers, bob at his; she knows where he is and his key.
    let (his, hers) = (Lab::start(), Lab::start());
    let bob = his.user("bob");
    let node = bob.serve();
    let alice = hers.user("alice");
    let student = tests::hostile::Caller::dial(bob.node_address(), &certs::Identity::generate().unwrap());
    student.hello("alice");
    node.wait_for("the tracker doesn't know its key");
    // With the product's own command: her tracker lists a bob at that address with that key.
    let address = bob.node_address();
    let key = bob.fingerprint();
    let reply = serde_json::json!({ "status": "ok", "code": "ok", "message": "", "total": 1, "peers": [
        { "user": "bob", "ip": "127.0.0.1", "port": address.port(), "addresses": [], "fingerprint": key, "files": [] }] });
    let tracker = tests::hostile::HostileTracker::with_tls(move |_| format!("{reply}\n").into_bytes());
    let refused = alice.peer(["--tracker", &tracker.address(), "files", "bob"]).run();
    refused.exits(6).says("doesn't know your key").is_plain();
}

#[test]
fn both_see_the_same_number() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    alice.peer(["verify", "bob"]).run().exits(2).says("you haven't connected to bob yet");
    let (_a, _b) = (alice.serve(), bob.serve());
    alice.peer(["files", "bob"]).run().exits(0);
    bob.peer(["files", "alice"]).run().exits(0);
    let number = |user: &User<'_>, other: &str| user.peer(["verify", other]).run().exits(0).out();
    let hers = number(&alice, "bob");
    assert_eq!(hers, number(&bob, "alice"));
    assert_eq!(hers.chars().filter(char::is_ascii_digit).count(), 60, "{hers}");
    // Off a terminal nobody is asked, and nothing is verified.
    alice.peer(["trust", "bob"]).run().exits(0).prints("not verified");
    alice.peer(["verify", "bob", "--yes"]).run().exits(0);
    let trusted = alice.peer(["trust", "bob"]).run();
    assert!(!trusted.exits(0).out().contains("not verified"), "{trusted}");
}
