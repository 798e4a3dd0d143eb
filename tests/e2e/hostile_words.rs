//! Words of others that would be more than words: on a terminal, in a log, in JSON. Each is shown, and none leaves its line.

use serde_json::{Value, json};
use tests::hostile::{Caller, HostilePeer, HostileTracker, Trick};
use tests::{Lab, Outcome, Process, User};

/// A refusal that looks like what this program says itself, with all that moves a cursor.
const FORGED: &str =
    "no\nerror: the identity of carol changed\r\n  peer trust carol --replace 00\n\u{1b}[2K\u{9b}1A\u{202e}";

/// No line of what was said is the other side's.
#[track_caller]
fn has_no_forged_line(outcome: &Outcome) {
    outcome.is_plain();
    let said = outcome.err() + &outcome.out();
    let is_forged =
        |line: &&str| line.trim_start().starts_with("error: the identity") || line.contains("--replace 00\n");
    assert_eq!(said.lines().find(is_forged), None, "{outcome}");
    assert!(!said.lines().any(|line| line.trim_start().starts_with("peer trust carol")), "{outcome}");
}

/// `peer events`, which hears everything from here on.
fn listening(user: &User<'_>) -> Process {
    let mut events = user.peer(["events"]).open_stdin().start();
    events.write("{\"type\":\"read\",\"from\":\"nobody\",\"ref\":0}\n");
    events.wait_for("\"type\":\"done\"");
    events
}

#[test]
fn a_refusal_is_words_within_a_line() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _mallory = HostilePeer::join(&lab, "mallory", Vec::new(), Trick::RefuseMessages(FORGED.to_owned()));
    // Over a link of its own, as JSON, and through a node.
    let refused = |args: &[&str]| {
        let outcome = alice.peer(args).run();
        outcome.exits(6).says("mallory refused it: no␊error: the identity of carol changed␍␊");
        has_no_forged_line(&outcome);
    };
    refused(&["chat", "mallory", "hi"]);
    refused(&["--json", "chat", "mallory", "hi"]);
    let node = alice.serve();
    let events = listening(&alice);
    refused(&["chat", "mallory", "hi again"]);
    events.wait_for("mallory refused it");
    let told = events.said();
    assert!(told.is_ascii() || !told.contains(['\u{9b}', '\u{202e}']), "{told:?}");
    node.wait_for("a message to mallory was not delivered");
    node.terminate();
    has_no_forged_line(&node.finish());
}

#[test]
fn a_refusal_of_sixty_kilobytes_is_a_sentence() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _mallory = HostilePeer::join(&lab, "mallory", Vec::new(), Trick::RefuseMessages("no ".repeat(20_000)));
    let outcome = alice.peer(["chat", "mallory", "hi"]).run();
    outcome.exits(6).says("mallory refused it: no no no");
    assert!(outcome.err().len() < 1000, "{} bytes of it are shown", outcome.err().len());
}

#[test]
fn json_has_nothing_raw_that_a_terminal_could_take_for_more() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let hidden = "\u{9b}2J \u{7f} \u{85} \u{202e}txt.exe \u{2028} \u{200b} \u{e0041} olá 👩‍👩‍👧";
    let node = bob.serve();
    let events = listening(&bob);
    let serving = bob.peer(["--json", "inbox"]);
    alice.peer(["chat", "bob", "--", hidden]).run().exits(0);
    events.wait_for("\"type\":\"message\"");
    let raw = ['\u{9b}', '\u{7f}', '\u{85}', '\u{202e}', '\u{2028}', '\u{200b}', '\u{e0041}'];
    let of = |line: &str| serde_json::from_str::<Value>(line).unwrap()["text"].clone();
    for printed in [events.said(), serving.run().exits(0).out(), bob.peer(["--json", "history"]).run().exits(0).out()] {
        assert!(!printed.contains(raw), "{printed:?}");
        let line = printed.lines().find(|line| line.contains("\"message\"")).unwrap();
        assert_eq!(of(line), hidden, "it means the same");
        assert!(line.contains("olá"), "what people write is written: {line}");
    }
    drop(node);
}

#[test]
fn a_tracker_writes_no_lines_of_its_own_either() {
    for code in ["user_exists", "rate_limited", "bad_request", "a_code_of_tomorrow"] {
        let tracker = HostileTracker::with_tls(move |_| {
            let refusal = json!({ "status": "error", "code": code, "message": FORGED });
            format!("{refusal}\n").into_bytes()
        });
        let lab = Lab::without_tracker();
        let alice = lab.stranger("alice");
        let register = alice.peer(["--tracker", &tracker.address(), "register", "alice", "--password-file"]);
        let outcome = register.arg(alice.password_file()).run();
        assert_ne!(outcome.code, 0, "{outcome}");
        has_no_forged_line(&outcome);
    }
    // What isn't a reply is quoted by whoever reads it.
    let tracker = HostileTracker::with_tls(|_| {
        let reply = json!({ "status": "ok\nerror: the identity of carol changed\u{1b}[2K", "code": "ok" });
        format!("{reply}\n").into_bytes()
    });
    let lab = Lab::without_tracker();
    let alice = lab.stranger("alice");
    let register = alice.peer(["-vv", "--tracker", &tracker.address(), "register", "alice", "--password-file"]);
    let outcome = register.arg(alice.password_file()).run();
    has_no_forged_line(outcome.exits(7));
}

#[test]
fn the_log_has_no_line_of_a_caller() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let node = bob.peer(["-vv", "serve"]).start();
    node.wait_for("online as bob at ");
    let mallory = Caller::register(&lab, "mallory");
    let caller = Caller::dial(bob.node_address(), &mallory);
    caller.hello("mallory");
    caller.ask(&json!({ "t": "get\nERROR forged\u{1b}[2K", "hash": FORGED, "ranges": FORGED }));
    caller.ask(&json!({ "t": "stat", "name": FORGED }));
    caller.ending();
    node.wait_until("the end of the link", |said| said.contains("mallory").then_some(()));
    node.terminate();
    has_no_forged_line(&node.finish());
}
