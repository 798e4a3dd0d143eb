//! Somebody who writes, and writes, and types: the user's transfers, hook, disk and other conversations are not theirs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

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

/// Attack: somebody with whom one talks says all the time that they are typing. Bound: it is told once a second.
#[test]
fn a_flood_of_typing_is_heard_once_a_second() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let _node = bob.serve();
    let _mallory = HostilePeer::join(&lab, "mallory", Vec::new(), Trick::Typing);
    let mut control = Control::of(&bob);
    control.send(&json!({ "id": 1, "do": "watch", "with": "mallory" }));
    control.until(1);
    let begun = Instant::now();
    control.send(&json!({ "id": 2, "do": "say", "to": "mallory", "text": "hi" }));
    let mut told = std::iter::repeat_with(|| control.next()).filter(|line| line["event"] == "typing");
    told.nth(3);
    assert!(begun.elapsed().as_millis() > 2900, "{:?}", begun.elapsed());
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
    bob.accept(["mallory"]);
    let _flood = mallory.flood(400, |number| message(number, "look at me"));
    let lines = || -> Vec<String> {
        let text = std::fs::read_to_string(&heard).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    let wait = |what: &str, is_there: &dyn Fn(&[String]) -> bool| {
        tests::poll_until(|| is_there(&lines()).then_some(()), || format!("{what}: {:?}", lines()));
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

/// How many messages of a stranger are taken, and in which words the next one is not.
fn taken(caller: &Caller, from: u32, count: u32, bytes: usize) -> (u32, String) {
    for number in from..from + count {
        let Ending::Answer(answer) = caller.say(&message(number, &"x".repeat(bytes))) else {
            panic!("an answer was due")
        };
        if answer["t"] != "ack" {
            return (number - from, answer["message"].as_str().unwrap().to_owned());
        }
    }
    (count, String::new())
}

#[test]
fn a_strangers_first_message_is_a_request_and_bounded_until_it_is_accepted() {
    let lab = Lab::start();
    let (bob, alice) = (lab.user("bob"), lab.user("alice"));
    let node = bob.serve();
    let mut events = bob.peer(["events"]).open_stdin().start();
    events.write("{\"type\":\"read\",\"from\":\"nobody\",\"ref\":0}\n");
    events.wait_for("\"type\":\"done\"");
    let mallory = calls(&lab, &bob, "mallory");
    let (count, words) = taken(&mallory, 0, 150, 10);
    assert_eq!((count, words.contains("not accepted")), (100, true), "{words}");
    node.wait_for("mallory wants to talk: `peer inbox --accept mallory` accepts them, `peer block mallory`");
    events.wait_for("\"type\":\"request\"");
    let inbox = bob.peer(["inbox"]).run();
    inbox.exits(0).says("mallory wants to talk");
    assert_eq!(bob.peer(["--json", "inbox"]).run().exits(0).object("request")["from"], "mallory");
    assert_eq!(taken(&mallory, 200, 1, 10).0, 0, "that it was read makes no room");

    events.write("{\"type\":\"accept\",\"from\":\"mallory\",\"ref\":1}\n");
    events.wait_for_nth("\"type\":\"done\"", 2);
    assert_eq!(taken(&mallory, 300, 20, 10).0, 20);
    assert_eq!(events.said().matches("\"type\":\"request\"").count(), 1, "it is told once");
    // Whoever answers accepts.
    alice.peer(["chat", "bob", "hello"]).run().exits(0);
    node.wait_for("alice wants to talk");
    let _hers = alice.serve();
    bob.peer(["chat", "alice", "hello yourself"]).run();
    let requests = bob.peer(["--json", "inbox"]).run();
    assert!(requests.exits(0).json().iter().all(|line| line["type"] != "request"), "{requests}");
}

#[test]
fn many_accounts_leave_no_more_than_one_bound_and_take_nobody_the_first_word() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _node = bob.serve();
    let callers: Vec<Caller> = ["m1", "m2", "m3"].map(|name| calls(&lab, &bob, name)).into();
    let all: u32 = callers.iter().map(|caller| taken(caller, 0, 100, 16 << 10).0).sum();
    assert_eq!(all, 3 * 60, "1 MiB each");
    // As nine more of them would have it.
    lab.sqlite(bob.home(), "UPDATE conversation SET request_bytes = 4190000");
    assert_eq!(taken(&calls(&lab, &bob, "m4"), 0, 1, 16 << 10).0, 0, "all of them together");
    alice.peer(["chat", "--now", "bob", "it's me"]).run().exits(0);
    let size: u64 = ["db", "db-wal"]
        .map(|end| lab.join(format!("bob/profile.{end}")))
        .iter()
        .map(|path| path.metadata().map_or(0, |file| file.len()))
        .sum();
    assert!(size < 32 << 20, "{size} bytes on the disk");
}

#[test]
fn history_is_forgotten_for_good_and_comes_back_no_more() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _node = bob.serve();
    let mallory = calls(&lab, &bob, "mallory");
    let secret = message(1, &format!("the secret plan {}", "words ".repeat(2000)));
    assert!(matches!(mallory.say(&secret), Ending::Answer(answer) if answer["t"] == "ack"));
    alice.peer(["chat", "bob", "keep this"]).run().exits(0);
    bob.peer(["history", "--forget", "mallory"]).run().exits(2).says("peer history --forget --yes mallory");
    bob.peer(["history", "--forget"]).run().exits(2).says("--older 30d");
    bob.peer(["history", "--forget", "mallory", "--yes"]).run().exits(0).says("forgot 1 message with mallory");
    let everything = || bob.peer(["history"]).run().exits(0).out();
    assert!(everything().contains("keep this") && !everything().contains("secret"), "{}", everything());
    for end in ["db", "db-wal"] {
        let bytes = std::fs::read(lab.join(format!("bob/profile.{end}"))).unwrap_or_default();
        assert!(!bytes.windows(15).any(|found| found == b"the secret plan"), "profile.{end} has it");
    }
    // Delivered again, it is acked and nothing new.
    assert!(matches!(mallory.say(&secret), Ending::Answer(answer) if answer["t"] == "ack"));
    assert!(!everything().contains("secret"));
    bob.peer(["history", "--keep", "30d"]).run().exits(0).says("history is kept for 30 days");
    bob.peer(["history", "--keep", "all"]).run().exits(0).says("for ever");
    let forgotten = bob.peer(["--json", "history", "--forget", "--older", "0s", "--yes"]).run();
    assert_eq!(forgotten.exits(0).object("forgotten")["messages"], 1);
    assert_eq!(everything(), "");
}
