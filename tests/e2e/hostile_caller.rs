//! Somebody who calls a node and doesn't behave: the node goes on serving everybody else.

use certs::Identity;
use serde_json::json;
use tests::files::assert_same;
use tests::hostile::{Caller, Ending};
use tests::{Lab, Process, User};

const PROTOCOL: u64 = 1;
const UNAUTHORISED: u64 = 2;
const LIMIT: u64 = 8;

fn bob_is_there(lab: &Lab) -> (User<'_>, Process) {
    let bob = lab.user("bob");
    bob.share([lab.file("a.bin", 2_000_000)]);
    let node = bob.serve();
    (bob, node)
}

/// Whatever was done to bob's node, alice is served.
fn is_unharmed(lab: &Lab, alice: &User<'_>, node: &Process) {
    assert!(node.is_running());
    let here = lab.empty_folder("proof");
    alice.fetch("bob", ["a.bin"], &here).run().exits(0);
    assert_same(here.join("a.bin"), lab.join("a.bin"));
    alice.peer(["chat", "bob", "still there?"]).run().exits(0);
}

#[test]
fn a_key_that_nobody_knows_is_turned_away_in_words() {
    let lab = Lab::start();
    let (bob, node) = bob_is_there(&lab);
    let stranger = Caller::dial(bob.node_address(), &Identity::generate().unwrap());
    let Ending::Answer(answer) = stranger.hello("alice") else { panic!("an answer was due") };
    assert_eq!((&answer["t"], &answer["code"]), (&json!("error"), &json!(UNAUTHORISED)));
    node.wait_for("turned away");
}

#[test]
fn a_registered_key_with_somebody_elses_name_is_turned_away() {
    let lab = Lab::start();
    let (bob, node) = bob_is_there(&lab);
    let alice = lab.user("alice");
    let mallory = Caller::register(&lab, "mallory");
    let caller = Caller::dial(bob.node_address(), &mallory);
    let Ending::Answer(answer) = caller.hello("alice") else { panic!("an answer was due") };
    assert_eq!((&answer["t"], &answer["code"]), (&json!("error"), &json!(UNAUTHORISED)));
    node.wait_for("turned away");
    is_unharmed(&lab, &alice, &node);
}

#[test]
fn nothing_is_served_before_hello() {
    let lab = Lab::start();
    let (bob, node) = bob_is_there(&lab);
    let alice = lab.user("alice");
    let mallory = Caller::register(&lab, "mallory");
    for request in [json!({ "t": "files" }), json!({ "t": "stat", "name": "a.bin" }), json!({ "t": "chat" })] {
        let caller = Caller::dial(bob.node_address(), &mallory);
        assert_eq!(caller.ask(&request), Ending::Closed(PROTOCOL), "{request}");
    }
    let silent = Caller::dial(bob.node_address(), &mallory);
    assert_eq!(silent.ending(), Ending::Closed(PROTOCOL), "nobody waits for ever");
    is_unharmed(&lab, &alice, &node);
}

#[test]
fn rubbish_ends_the_link_and_nothing_else() {
    let lab = Lab::start();
    let (bob, node) = bob_is_there(&lab);
    let alice = lab.user("alice");
    let mallory = Caller::register(&lab, "mallory");
    let in_place_of_hello = Caller::dial(bob.node_address(), &mallory);
    assert_eq!(in_place_of_hello.send_rubbish(), Ending::Closed(PROTOCOL));
    let huge_hello = Caller::dial(bob.node_address(), &mallory);
    assert_eq!(huge_hello.send_huge_frame(), Ending::Closed(PROTOCOL));
    for attack in [Caller::send_rubbish, Caller::send_huge_frame] {
        let caller = Caller::dial(bob.node_address(), &mallory);
        assert!(matches!(caller.hello("mallory"), Ending::Answer(answer) if answer["t"] == "welcome"));
        attack(&caller);
        assert_eq!(caller.ending(), Ending::Closed(PROTOCOL));
    }
    is_unharmed(&lab, &alice, &node);
}

#[test]
fn questions_that_make_no_sense_get_errors() {
    let lab = Lab::start();
    let (bob, node) = bob_is_there(&lab);
    let alice = lab.user("alice");
    let caller = Caller::dial(bob.node_address(), &Caller::register(&lab, "mallory"));
    caller.hello("mallory");
    let Ending::Answer(stat) = caller.ask(&json!({ "t": "stat", "name": "a.bin" })) else { panic!("a stat was due") };
    let hash = stat["hash"].as_str().unwrap();
    let range = |start: u64, end: u64| json!({ "t": "get", "hash": hash, "ranges": [[start, end]] });
    let too_many = json!({ "t": "get", "hash": hash, "ranges": vec![[0, 1]; 257] });
    let unknown = json!({ "t": "manifest", "hash": "00".repeat(32) });
    for question in [range(0, 3), range(1, 1), range(2, 1), range(4_000_000_000, 4_000_000_001), too_many, unknown] {
        let answer = caller.ask(&question);
        assert!(matches!(&answer, Ending::Answer(answer) if answer["t"] == "error"), "{question}: {answer:?}");
    }
    assert!(caller.is_open());
    is_unharmed(&lab, &alice, &node);
}

#[test]
fn ten_thousand_streams_do_no_harm() {
    let lab = Lab::start();
    let (bob, node) = bob_is_there(&lab);
    let alice = lab.user("alice");
    let caller = Caller::dial(bob.node_address(), &Caller::register(&lab, "mallory"));
    caller.hello("mallory");
    let opened = caller.open_streams(10_000);
    assert!(opened > 0);
    is_unharmed(&lab, &alice, &node);
}

#[test]
fn streams_that_are_held_are_few_and_do_no_harm() {
    let lab = Lab::start();
    let (bob, node) = bob_is_there(&lab);
    let alice = lab.user("alice");
    let caller = Caller::dial(bob.node_address(), &Caller::register(&lab, "mallory"));
    caller.hello("mallory");
    let held = caller.hold_streams(10_000);
    assert!((1..=1000).contains(&held), "{held} streams are open");
    is_unharmed(&lab, &alice, &node);
}

#[test]
fn messages_that_are_too_long_are_refused_and_harmful_ones_made_harmless() {
    let lab = Lab::start();
    let (bob, node) = bob_is_there(&lab);
    let alice = lab.user("alice");
    let caller = Caller::dial(bob.node_address(), &Caller::register(&lab, "mallory"));
    caller.hello("mallory");
    let message = |number: u8, text: &str| json!({ "t": "message", "id": format!("{number:032x}"), "ts": i64::MAX, "text": text });
    let longest = "x".repeat(16 * 1024);
    assert!(matches!(caller.say(&message(1, &longest)), Ending::Answer(answer) if answer["t"] == "ack"));
    let Ending::Answer(refused) = caller.say(&message(2, &format!("{longest}x"))) else { panic!("an answer was due") };
    assert_eq!((&refused["t"], &refused["code"]), (&json!("refused"), &json!(LIMIT)));

    let harmful = "\u{1b}]52;c;cm0gLXJm\u{7}\u{1b}[2J\rbob: yes\n12:00:00 bob: I agree\u{202e}\u{9b}31m";
    assert!(matches!(caller.say(&message(3, harmful)), Ending::Answer(answer) if answer["t"] == "ack"));
    assert!(matches!(caller.say(&message(3, harmful)), Ending::Answer(answer) if answer["t"] == "ack"));
    assert!(matches!(caller.say(&message(4, "the end")), Ending::Answer(answer) if answer["t"] == "ack"));
    node.wait_for("mallory: the end");
    let said = node.said();
    assert_eq!(said.matches("cm0gLXJm").count(), 1, "the same message twice is shown once: {said}");
    assert!(!said.contains(['\u{1b}', '\u{7}', '\r', '\u{202e}', '\u{9b}']), "{said:?}");
    assert!(!said.lines().any(|line| line.starts_with("12:00:00 bob")), "no line passes for another's: {said}");
    is_unharmed(&lab, &alice, &node);
}
