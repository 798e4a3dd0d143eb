//! Somebody who writes, and writes, and types: the user's transfers, hook, disk and other conversations are not theirs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::hostile::{Caller, Ending, HostilePeer, Trick};
use tests::{Lab, PATIENCE, User};

/// A program that talks to the running node of `user`.
struct Control(BufReader<UnixStream>);

impl Control {
    fn of(user: &User<'_>) -> Self {
        let stream = UnixStream::connect(user.home().join("node.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, command: &Value) {
        writeln!(self.0.get_mut(), "{command}").unwrap();
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Everything that comes until the reply to this.
    fn until(&mut self, id: u64) -> Vec<Value> {
        let mut all = Vec::new();
        while all.last().is_none_or(|last: &Value| last["id"] != id) {
            all.push(self.next());
        }
        all
    }
}

fn message(number: u32, text: &str) -> Value {
    json!({ "t": "message", "id": format!("{number:032x}"), "ts": 0, "text": text })
}

fn calls<'a>(lab: &'a Lab, bob: &User<'_>, name: &'a str) -> Caller {
    let caller = Caller::dial(bob.node_address(), &Caller::register(lab, name));
    assert!(matches!(caller.hello(name), Ending::Answer(answer) if answer["t"] == "welcome"));
    caller
}

#[test]
fn whoever_only_writes_and_types_slows_no_transfer() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let _node = bob.serve();
    let mallory = calls(&lab, &bob, "mallory");
    let mut control = Control::of(&bob);
    control.send(&json!({ "id": 1, "do": "watch" }));
    control.until(1);
    // Answered as soon as somebody talks with whom bob does.
    control.send(&json!({ "id": 2, "do": "heed", "talking": false }));
    for number in 0..20 {
        mallory.type_and_say(&message(number, "psst"));
    }
    control.send(&json!({ "id": 3, "do": "status" }));
    let before = control.until(3);
    assert!(before.iter().all(|line| line["id"] != 2), "nobody talks: {before:?}");
    assert!(before.iter().all(|line| line["event"] != "typing"), "{before:?}");
    assert_eq!(before.iter().filter(|line| line["event"] == "received").count(), 20, "each is told all the same");

    // Open in a view, it is a conversation.
    control.send(&json!({ "id": 4, "do": "watch", "with": "mallory" }));
    control.until(4);
    mallory.type_and_say(&message(20, "psst"));
    let after = control.until(2);
    assert_eq!(after.iter().filter(|line| line["event"] == "typing").count(), 1, "{after:?}");
}

#[test]
fn a_blocked_one_is_not_heard_typing_over_a_link_that_was_dialled() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let _node = bob.serve();
    let mallory = HostilePeer::join(&lab, "mallory", Vec::new(), Trick::Typing);
    let mut control = Control::of(&bob);
    control.send(&json!({ "id": 1, "do": "watch", "with": "mallory" }));
    control.until(1);
    control.send(&json!({ "id": 2, "do": "say", "to": "mallory", "text": "hi" }));
    while control.next()["event"] != "typing" {}
    bob.peer(["block", "mallory"]).run().exits(0);
    control.send(&json!({ "id": 3, "do": "status" }));
    control.until(3);
    // What is said to somebody who is blocked goes to them, and brings nothing back.
    control.send(&json!({ "id": 4, "do": "say", "to": "mallory", "text": "leave me alone" }));
    mallory.wait_until_stalled(2);
    control.send(&json!({ "id": 5, "do": "status" }));
    let since = control.until(5);
    assert!(since.iter().all(|line| line["event"] != "typing"), "{since:?}");
}

#[test]
fn a_flood_of_one_person_leaves_the_hook_to_the_others() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let heard = lab.join("heard");
    let script = format!(
        "sleep 0.02; printf '%s %s %s\n' \"$VIZINHO_EVENT\" \"$VIZINHO_FROM\" \"$VIZINHO_TEXT\" >> {}",
        heard.to_str().unwrap()
    );
    bob.peer(["notify", "--", "bash", "-c", &script]).run().exits(0);
    let _node = bob.serve();
    let mallory = calls(&lab, &bob, "mallory");
    let _flood = mallory.flood(400, |number| message(number, "look at me"));
    let lines = || -> Vec<String> {
        let text = std::fs::read_to_string(&heard).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    let wait = |what: &str, is_there: &dyn Fn(&[String]) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !is_there(&lines()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", lines());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait("the first", &|lines| !lines.is_empty());
    let before = lines().len();
    alice.peer(["chat", "bob", "dinner is ready"]).run().exits(0);
    let is_hers = |line: &String| line == "message alice dinner is ready";
    wait("alice's", &|lines| lines.iter().any(is_hers));
    let place = lines().iter().position(is_hers).unwrap();
    assert!(place < 150, "alice's has its turn behind {} of mallory's", place - before);
    let is_left_out = |line: &String| line.starts_with("left_out mallory ");
    wait("what was left out", &|lines| lines.iter().any(is_left_out));
    assert_eq!(lines().iter().filter(|line| is_hers(line)).count(), 1);
}
