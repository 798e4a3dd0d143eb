//! One stream of everything that happens, and programs that listen to it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use tests::{Invocation, Lab, Process};

fn next(process: &Process, kind: &str, nth: usize) -> Value {
    let line = process.wait_for_nth(&format!("\"type\":\"{kind}\""), nth);
    serde_json::from_str(&line).expect("an object")
}

#[test]
fn a_program_hears_everything_and_answers() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let his = bob.serve();
    let mut events = alice.peer(["events"]).open_stdin().start();
    events.write("{\"type\":\"send\",\"to\":\"bob\",\"text\":\"olá\",\"ref\":7}\n");
    his.wait_for("alice: olá");
    let said = next(&events, "message", 1);
    assert_eq!((&said["peer"], &said["from"], &said["state"]), (&json!("bob"), &json!("alice"), &json!("waiting")));
    let ack = next(&events, "ack", 1);
    assert_eq!((&ack["id"], &ack["state"], &ack["v"]), (&said["id"], &json!("stored"), &json!(1)));
    let done = next(&events, "done", 1);
    assert_eq!((&done["id"], &done["ref"]), (&said["id"], &json!(7)));

    // Lines that are no commands are answered, and change nothing.
    for bad in
        ["rubbish", "{\"type\":\"dance\"}", "{\"type\":\"send\",\"to\":\"a b\",\"text\":\"x\"}", "[]", "\u{1b}[2J"]
    {
        events.write(format!("{bad}\n"));
    }
    events.write("{\"type\":\"send\",\"to\":\"bob\",\"text\":\"\",\"ref\":\"empty\"}\n");
    assert_eq!(next(&events, "error", 5)["code"], "usage");
    assert_eq!(next(&events, "error", 6)["ref"], "empty");

    bob.peer(["chat", "alice", "tudo bem?"]).run().exits(0);
    let received = next(&events, "message", 2);
    assert_eq!(
        (&received["from"], &received["text"], &received["state"]),
        (&json!("bob"), &json!("tudo bem?"), &json!("received"))
    );
    his.interrupt();
    his.finish().exits(130);
    events.wait_until("bob is gone", |said| said.lines().find(|line| line.contains("\"online\":false")).map(|_| ()));
    events.interrupt();
    events.finish().exits(130);
}

/// Whoever moves files is told, and makes room.
#[test]
fn a_node_knows_whether_people_talk() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _nodes = [alice.serve(), bob.serve()];
    let heed = |talking: bool| {
        let mut node = UnixStream::connect(bob.home().join("node.sock")).unwrap();
        writeln!(node, "{}", json!({ "id": 1, "do": "heed", "talking": talking })).unwrap();
        let mut reply = String::new();
        BufReader::new(node).read_line(&mut reply).unwrap();
        serde_json::from_str::<Value>(&reply).unwrap()
    };
    // Nobody talks: answered at once, and the opposite only when somebody does.
    assert_eq!(heed(true), json!({ "id": 1, "ok": false }));
    std::thread::scope(|scope| {
        let heard = scope.spawn(|| heed(false));
        alice.peer(["chat", "bob", "olá"]).run().exits(0);
        assert_eq!(heard.join().unwrap(), json!({ "id": 1, "ok": true }));
    });
    assert_eq!(heed(true), json!({ "id": 1, "ok": false }), "they fell silent");
}

/// The bot of the README, line for line.
#[test]
fn the_bot_of_the_readme_answers() {
    let readme = std::fs::read_to_string(tests::binaries::workspace().join("README.md")).unwrap();
    let bot: Vec<&str> = readme.lines().skip_while(|line| !line.contains("coproc peer events")).take(3).collect();
    assert_eq!(bot.len(), 3, "the README has a bot of three lines");
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let peer = tests::binaries::binary("peer");
    let folder = peer.parent().unwrap().to_str().unwrap().to_owned();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let bots = Invocation::new("bash", lab.path())
        .args(["-c", &bot.join("\n")])
        .env("PATH", path)
        .env("VIZINHO_HOME", bob.home())
        .env("VIZINHO_TRACKER", lab.address())
        .start();
    let mut hers = alice.peer(["events"]).open_stdin().start();
    // The bot is there as soon as it is.
    hers.write("{\"type\":\"send\",\"to\":\"bob\",\"text\":\"are you a \\\"bot\\\"?\"}\n");
    let answer = hers.wait_until("an answer", |said| {
        let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find(|line| line["state"] == "received")
    });
    assert_eq!((&answer["from"], &answer["text"]), (&json!("bob"), &json!("you said: are you a \"bot\"?")));
    bots.kill();
}

#[test]
fn a_hook_is_run_for_every_message_without_a_shell() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let heard = lab.join("heard");
    let script =
        format!("printf '%s|%s|' \"$VIZINHO_FROM\" \"$VIZINHO_TEXT\" >> {0}; cat >> {0}; echo >> {0}", heard.display());
    bob.peer(["notify", "--", "bash", "-c", &script]).run().exits(0).prints("bash");
    let his = bob.serve();
    let text = "$(touch pwned) `x` \u{1b}[2J";
    alice.peer(["chat", "bob", text]).run().exits(0);
    his.wait_for("alice: ");
    let deadline = std::time::Instant::now() + tests::PATIENCE;
    let expected = format!("alice|$(touch pwned) `x` ␛[2J|{text}\n");
    while std::fs::read_to_string(&heard).unwrap_or_default() != expected {
        assert!(std::time::Instant::now() < deadline, "{:?}", std::fs::read_to_string(&heard));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(!lab.join("pwned").exists());
    bob.peer(["notify", "--no-hook", "--bell", "off"]).run().exits(0).prints("hook  none").prints("bell  off");
}

#[test]
fn a_terminal_rings_unless_it_is_told_not_to() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let rings = |args: &[&str]| {
        let view = bob.peer(args.iter().copied()).env("TERM", "xterm-kitty").in_terminal(100, 24);
        view.wait_for("online as bob");
        alice.peer(["chat", "bob", "psst"]).run().exits(0);
        view.wait_for("alice: psst");
        alice.peer(["chat", "bob", "the end"]).run().exits(0);
        let said = view.process().wait_until("the end", |said| said.contains("the end").then(|| said.to_owned()));
        (said.contains('\u{7}'), said.contains("\u{1b}]9;alice: psst"))
    };
    assert_eq!(rings(&["serve"]), (true, true));
    bob.peer(["notify", "--bell", "off"]).run().exits(0);
    assert_eq!(rings(&["serve"]), (false, false));
}
