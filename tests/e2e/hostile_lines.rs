//! People who would fill the user's terminal, or write lines there that only the program writes.

use std::thread;

use serde_json::{Value, json};
use tests::hostile::{Caller, Ending, PlainSession};
use tests::{Lab, User};

/// A message of more bytes of output than it has itself, unless it is cut short.
const LONGEST: usize = 16_000;

fn message(number: u32, text: &str) -> Value {
    json!({ "t": "message", "id": format!("{number:032x}"), "ts": 0, "text": text })
}

fn calls(lab: &Lab, bob: &User<'_>, name: &str) -> Caller {
    let caller = Caller::dial(bob.node_address(), &Caller::register(lab, name));
    assert!(matches!(caller.hello(name), Ending::Answer(answer) if answer["t"] == "welcome"));
    caller
}

/// Sends messages until one is refused; returns how many were taken.
fn send_all(caller: &Caller, first: u32, count: u32, text: &str) -> usize {
    let is_taken =
        |number| matches!(caller.say(&message(number, text)), Ending::Answer(answer) if answer["t"] == "ack");
    (first..first + count).take_while(|number| is_taken(*number)).count()
}

#[test]
fn accounts_that_come_and_go_without_end_are_few_lines() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.accept(["alice"]);
    let node = bob.serve();
    let flappers: Vec<_> = (0..3)
        .map(|number| {
            let (user, address) = (format!("syb{number}"), lab.address().to_owned());
            thread::spawn(move || {
                let mut session = PlainSession::open(&address);
                session.demand(&json!({ "action": "REGISTER", "user": user, "password": "secret" }));
                for _ in 0..10 {
                    let login = json!({ "action": "LOGIN", "user": user, "password": "secret", "port": 9000 });
                    session.demand(&login);
                    session.demand(&json!({ "action": "LOGOUT", "user": user }));
                }
            })
        })
        .collect();
    flappers.into_iter().for_each(|flapper| flapper.join().unwrap());
    let hers = alice.serve();
    node.wait_for("alice is online");
    hers.terminate();
    hers.finish();
    node.wait_for("alice went offline");
    let said = node.said();
    let count = |what: &str| said.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count(" syb"), 6, "{said}");
    assert_eq!(count("others come and go as well: `peer list` shows who is online"), 1, "{said}");
}

#[test]
fn a_message_is_shown_in_a_few_rows_whatever_is_in_it() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let node = bob.serve();
    let mallory = calls(&lab, &bob, "mallory");
    let empty = format!("{}the end", "\n".repeat(LONGEST));
    let taken = send_all(&mallory, 0, 100, &empty);
    assert!(taken >= 50, "1 MiB of a stranger is kept: {taken}");
    node.wait_for("people who are not accepted write more: `peer inbox`");
    assert!(node.said().len() < 16 << 10, "{} bytes", node.said().len());

    bob.accept(["mallory"]);
    assert_eq!(send_all(&mallory, 1000, 20, &"\u{ad}".repeat(LONGEST / 2)), 20);
    assert_eq!(send_all(&mallory, 2000, 1, "a short one"), 1);
    node.wait_for("mallory: a short one");
    node.wait_for("(`peer history mallory` shows all of it)");
    assert!(node.said().len() < 64 << 10, "{} bytes", node.said().len());
    let history = bob.peer(["history", "mallory", "--limit", "1000"]).run().exits(0).out();
    assert!(history.contains("the end"), "all of it is kept");
}

#[test]
fn nobody_new_is_called_as_the_lines_of_the_program_begin() {
    let lab = Lab::start();
    let mut session = PlainSession::open(lab.address());
    for name in ["error", "err0r", "Warning", "you", "tracker", "adm1n"] {
        let refusal = session.ask(&json!({ "action": "REGISTER", "user": name, "password": "secret" }));
        assert_eq!((&refusal["status"], &refusal["code"]), (&json!("error"), &json!("invalid_user")), "{refusal}");
        let expected = format!("that name is reserved: use {name}2, for example");
        assert!(refusal["message"].as_str().unwrap().contains(&expected), "{refusal}");
    }
    session.demand(&json!({ "action": "REGISTER", "user": "error2", "password": "secret" }));
}
