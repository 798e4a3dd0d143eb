//! One stream of everything that happens, and programs that listen to it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use tests::{Invocation, Lab, Process, User};

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
    events.write("{\"ref\":5,\"type\":\"dance\"}\n");
    assert_eq!(next(&events, "error", 7)["ref"], 5);

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

#[test]
fn a_program_s_names_are_taken_as_those_of_commands() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("newbie"));
    let his = bob.serve();
    let mut program = alice.peer(["events"]).open_stdin().start();
    program.write("{\"type\":\"send\",\"to\":\"NEWBIE\",\"text\":\"one\",\"ref\":1}\n");
    program.write("{\"type\":\"send\",\"to\":\"newbie\",\"text\":\"two\",\"ref\":2}\n");
    program.write("{\"type\":\"read\",\"from\":\"NewBie\",\"ref\":3}\n");
    program.write("{\"type\":\"typing\",\"to\":\"NewBie\",\"ref\":4}\n");
    program.write("{\"type\":\"send\",\"to\":\"ALICE\",\"text\":\"me\",\"ref\":5}\n");
    let error = next(&program, "error", 1);
    assert_eq!((&error["ref"], &error["message"]), (&json!(5), &json!("you can't message yourself")));
    assert_eq!(next(&program, "message", 1)["peer"], "newbie");
    assert_eq!(next(&program, "message", 2)["text"], "two");
    let done: BTreeSet<u64> = (1..=4).filter_map(|nth| next(&program, "done", nth)["ref"].as_u64()).collect();
    assert_eq!(done, BTreeSet::from([1, 2, 3, 4]));
    his.wait_for("alice: one");
    his.wait_for("alice: two");
}

#[test]
fn a_program_outlives_the_node_and_says_everything_once() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let his = bob.serve();
    let hers = alice.serve();
    let mut events = listening(&alice);
    let id = "0123456789abcdef".repeat(2);
    let send = |number: u32, id: &str, text: &str| {
        format!("{}\n", json!({ "type": "send", "to": "bob", "text": text, "id": id, "ref": number }))
    };
    events.write(send(2, &id, "once"));
    his.wait_for("alice: once");
    hers.kill();
    hers.finish().exits(137);
    // Nobody knows whether the node had it; in between, one is said and one comes.
    events.write(send(3, &id, "once"));
    events.write(send(4, &"f".repeat(32), "after it"));
    bob.peer(["chat", "alice", "are you there?"]).run().exits(0);
    let again = next(&events, "done", 3);
    assert_eq!((&again["ref"], &again["id"]), (&json!(3), &json!(id)));
    his.wait_for("alice: after it");
    let received = events.wait_until("what came meanwhile", |said| {
        said.lines().find(|line| line.contains("are you there?")).map(str::to_owned)
    });
    assert!(received.contains("\"state\":\"received\""), "{received}");
    events.write(send(5, &id, "another text"));
    assert_eq!(next(&events, "error", 1)["ref"], 5);
    // With a node of its own, which gives way to nobody; a last word ends both.
    alice.peer(["logout"]).run().exits(0);
    let said = String::from_utf8(events.finish().stdout).unwrap();
    let told = |text: &str| said.lines().filter(|line| line.contains(text) && line.contains("\"message\"")).count();
    assert_eq!((told("\"once\""), told("after it"), told("are you there?")), (1, 1, 1), "{said}");
    assert_eq!(his.said().matches("alice: once").count(), 1);
}

#[test]
fn a_node_that_is_started_again_is_listened_to_again() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _his = bob.serve();
    let hers = alice.serve();
    let mut events = listening(&alice);
    hers.interrupt();
    hers.finish().exits(130);
    // What listens does not take its place at once.
    let _again = alice.serve();
    events.write("{\"type\":\"send\",\"to\":\"bob\",\"text\":\"olá\",\"ref\":2}\n");
    next(&events, "ack", 1);
    assert_eq!(next(&events, "done", 2)["ref"], 2);
}

#[test]
fn what_is_taken_out_is_told() {
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), lab.user("bob"));
    let _hers = alice.serve();
    let mut events = listening(&alice);
    events.write("{\"type\":\"send\",\"to\":\"bob\",\"text\":\"a mistake\"}\n");
    let said = next(&events, "message", 1);
    alice.peer(["outbox", "drop", ""]).run().exits(2).says("which one?");
    alice.peer(["outbox", "drop", said["id"].as_str().unwrap()]).run().exits(0);
    let ack = next(&events, "ack", 1);
    assert_eq!((&ack["id"], &ack["peer"], &ack["state"]), (&said["id"], &json!("bob"), &json!("dropped")));
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
    // Those that went without an answer are no burden.
    for _ in 0..100 {
        let mut gone = UnixStream::connect(bob.home().join("node.sock")).unwrap();
        gone.write_all(b"{\"id\":1,\"do\":\"heed\",\"talking\":false}\n").unwrap();
    }
    // Nobody talks: answered at once, and the opposite only when somebody does.
    assert_eq!(heed(true), json!({ "id": 1, "ok": false }));
    std::thread::scope(|scope| {
        let heard = scope.spawn(|| heed(false));
        bob.peer(["chat", "alice", "olá"]).run().exits(0);
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
    // What the shell began ends with the node; the shell alone would leave it behind.
    bob.peer(["logout"]).run().exits(0);
    bots.finish();
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
    let expected = format!("alice|$(touch pwned) `x` ␛[2J|{text}\n");
    let told = || std::fs::read_to_string(&heard).unwrap_or_default();
    tests::poll_until(|| (told() == expected).then_some(()), || format!("{:?}", told()));
    assert!(!lab.join("pwned").exists());
    bob.peer(["notify", "--no-hook", "--bell", "off"]).run().exits(0).prints("hook     none").prints("bell     off");
}

#[test]
fn a_terminal_rings_unless_it_is_told_not_to() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.accept(["alice"]);
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

/// The transfers that a program heard of: name, bytes, state.
fn transfers(said: &str) -> Vec<(String, u64, String)> {
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let transfers = lines.filter(|line| line["type"] == "transfer" && line["direction"] == "down");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    transfers.map(|line| (text(&line["name"]), line["bytes"].as_u64().unwrap(), text(&line["state"]))).collect()
}

/// A program that hears everything from here on.
fn listening(user: &User<'_>) -> Process {
    let mut events = user.peer(["events"]).open_stdin().start();
    events.write("{\"type\":\"read\",\"from\":\"nobody\",\"ref\":1}\n");
    events.wait_for("\"type\":\"done\"");
    events
}

fn ended(process: &Process, name: &str, state: &str) {
    process.wait_until(&format!("{name} {state}"), |said| {
        transfers(said).iter().any(|(told, _, is)| told == name && is == state).then_some(())
    });
}

#[test]
fn what_another_process_of_the_profile_fetches_is_told_as_well() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("film.mkv", 12_000_000), lab.file("small.txt", 1000)]);
    let his = bob.peer(["serve", "--limit", "4M"]).start();
    his.wait_for("online as bob at ");
    let _hers = alice.serve();
    let events = listening(&alice);
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["film.mkv"], &here).run().exits(0);
    ended(&events, "film.mkv", "done");
    let told = transfers(&events.said());
    let running: Vec<u64> = told.iter().filter(|told| told.2 == "running").map(|told| told.1).collect();
    assert!(running.len() >= 2 && running.is_sorted(), "it moves: {told:?}");
    assert_eq!(told.iter().filter(|told| told.2 == "done").count(), 1, "{told:?}");
    alice.fetch("bob", ["small.txt"], &here).run().exits(0);
    ended(&events, "small.txt", "done");

    // One that is killed has an end, too; and so has one that a view fetches, told once.
    let fetch = alice.fetch("bob", ["film.mkv"], &lab.empty_folder("there")).start();
    events.wait_until("the second fetch", |said| (transfers(said).last()?.2 == "running").then_some(()));
    fetch.kill();
    ended(&events, "film.mkv", "failed");
    let done = |said: &str| transfers(said).iter().filter(|told| told.0 == "film.mkv" && told.2 == "done").count();
    let elsewhere = lab.empty_folder("elsewhere");
    let mut view = alice.peer(["chat", "bob"]).folder(&elsewhere).in_terminal(70, 12);
    view.wait_for("talking to bob");
    view.press("/get film.mkv\r");
    let screen = view.wait_for_screen("a bar", |screen| screen.text().contains("film.mkv from bob"));
    assert_eq!(screen.visible().matches("film.mkv from bob").count(), 1, "{}", screen.visible());
    events.wait_until("the end", |said| (done(said) == 2).then_some(()));
    view.press("\u{4}");
    view.finish().0.exits(0);
    assert_eq!(done(&events.said()), 2);
}

#[test]
fn thousands_of_small_files_are_not_thousands_of_lines() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for number in 0..3000 {
        tests::files::write(lab.join(format!("many/{number}")), number.to_string());
    }
    bob.share([lab.join("many")]);
    let (_his, _hers) = (bob.serve(), alice.serve());
    let events = listening(&alice);
    alice.fetch("bob", ["many/"], &lab.empty_folder("here")).run().exits(0);
    // What comes behind it on the same socket is there when all of it is.
    alice.peer(["chat", "bob", "done"]).run().exits(0);
    next(&events, "ack", 1);
    let told = transfers(&events.said());
    assert!((1..1500).contains(&told.len()), "{} lines", told.len());
    for (name, _, _) in &told {
        let last = told.iter().rfind(|told| told.0 == *name).unwrap();
        assert_eq!(last.2, "done", "{name}");
    }
}

#[test]
fn a_node_that_hangs_holds_up_no_fetch() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("film.mkv", 3_000_000)]);
    let (_his, hers) = (bob.serve(), alice.serve());
    freeze_between_writes(&alice, &hers);
    for round in 0..2 {
        alice.fetch("bob", ["film.mkv"], &lab.empty_folder(format!("{round}"))).run().exits(0);
    }
    hers.thaw();
    hers.kill();
    alice.fetch("bob", ["film.mkv"], &lab.empty_folder("after")).run().exits(0);
}

/// One that stands still in the middle of a write keeps the database from everybody; this is about one that doesn't.
fn freeze_between_writes(user: &User<'_>, node: &Process) {
    let database = rusqlite::Connection::open(user.home().join("profile.db")).unwrap();
    database.busy_timeout(std::time::Duration::ZERO).unwrap();
    loop {
        node.freeze();
        if database.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() {
            return;
        }
        node.thaw();
    }
}

#[test]
fn any_number_of_fetches_leaves_the_node_free_for_others() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("small.txt", 10)]);
    let (_his, _hers) = (bob.serve(), alice.serve());
    // More than a node has places for clients.
    for round in 0..70 {
        alice.fetch("bob", ["small.txt"], &lab.empty_folder(format!("here/{round}"))).run().exits(0);
    }
    alice.peer(["chat", "--now", "bob", "still there?"]).run().exits(0);
}
