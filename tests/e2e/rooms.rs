//! Rooms between the real binaries: who was away misses nothing, and who isn't a member gets nothing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::hostile::{Caller, Ending, Session};
use tests::{Invocation, Lab, Process, User, binaries, make_room, poll_until};

/// SplitMix64: a seed is a fate.
struct Fate(u64);

impl Fate {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit as u64).unwrap()
    }
}

#[track_caller]
fn say(user: &User<'_>, text: &str) {
    user.peer(["chat", "#lab", text]).run().exits(0);
}

/// What a node says of a message.
fn line(from: &str, text: &str) -> String {
    format!("#lab {from}: {text}")
}

/// The id of `#lab`.
fn room_id(session: &mut Session) -> Value {
    session.demand(&json!({ "action": "ROOM_LIST" }))["rooms"][0]["id"].take()
}

/// Asserts that these texts stand in a node's output in this order.
#[track_caller]
fn in_order(node: &Process, lines: &[String]) {
    let said = node.said();
    let places: Vec<_> = lines.iter().map(|line| said.find(line.as_str())).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{said}");
}

#[test]
fn three_people_talk() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    make_room(&[&alice, &bob, &carol]);
    let nodes = [alice.serve(), bob.serve(), carol.serve()];
    for (user, text) in [(&alice, "good morning"), (&bob, "hi @alice"), (&carol, "olá\nsecond line")] {
        say(user, text);
        for node in &nodes {
            node.wait_for(&line(user.name(), text.lines().next().unwrap()));
        }
    }
    bob.peer(["chat", "#LAB"]).stdin("one\n\ntwo\n").run().exits(0);
    for node in &nodes {
        node.wait_for(&line("bob", "two"));
        in_order(node, &[line("alice", "good morning"), line("bob", "hi"), line("carol", "olá"), line("bob", "one")]);
    }
    alice.peer(["chat", "#lab", ""]).run().exits(2).says("the message is empty");
    alice.peer(["chat", "--now", "#lab", "x"]).run().exits(2);
    alice.peer(["chat", "#office", "x"]).run().says("you are not in #office");
}

#[test]
fn who_was_away_gets_everything_from_whoever_has_it() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    make_room(&[&alice, &bob, &carol]);
    let (hers, his) = (alice.serve(), bob.serve());
    let mut lines = Vec::new();
    for number in 0..20 {
        let user = if number % 2 == 0 { &alice } else { &bob };
        say(user, &format!("word {number}."));
        lines.push(line(user.name(), &format!("word {number}.")));
    }
    his.wait_for(&lines[18]);
    hers.wait_for(&lines[19]);
    hers.interrupt();
    hers.finish().exits(130);
    let carols = carol.serve();
    carols.wait_for(&lines[19]);
    in_order(&carols, &lines);
    // Nothing is told twice, to nobody.
    say(&carol, "thanks");
    his.wait_for(&line("carol", "thanks"));
    assert_eq!(carols.said().matches(lines[3].as_str()).count(), 1);
    assert_eq!(his.said().matches(lines[18].as_str()).count(), 1);
}

#[test]
fn messages_flow_while_the_tracker_is_away() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    make_room(&[&alice, &bob]);
    let (hers, his) = (alice.serve(), bob.serve());
    say(&alice, "before");
    his.wait_for(&line("alice", "before"));
    lab.kill_tracker();
    hers.wait_for("trying again");
    say(&bob, "after");
    hers.wait_for(&line("bob", "after"));
}

#[test]
fn a_command_without_a_node_hands_its_message_over_or_keeps_it() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    make_room(&[&alice, &bob]);
    let kept = alice.peer(["chat", "#lab", "is anybody here?"]).run();
    kept.exits(0).says("message kept");
    let his = bob.serve();
    alice.peer(["--json", "chat", "#lab", "now you are"]).run().exits(0).prints(r#""count":1"#);
    his.wait_for(&line("alice", "now you are"));
    in_order(&his, &[line("alice", "is anybody here?"), line("alice", "now you are")]);
    alice.peer(["chat", "#lab"]).stdin("three\nfour").run().exits(0).prints_exactly("");
    his.wait_for(&line("alice", "four"));
}

#[test]
fn a_stranger_gets_nothing() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    make_room(&[&alice, &bob]);
    let _his = bob.serve();
    let _hers = alice.serve();
    say(&bob, "between us");
    let identity = Caller::register(&lab, "mallory");
    let mut session = Session::open(lab.address(), &identity);
    let id = room_id(&mut session);
    let caller = Caller::dial(bob.node_address(), &identity);
    assert!(matches!(caller.hello("mallory"), Ending::Answer(_)));
    let digest = "00".repeat(16);
    let summary = json!({ "t": "summary", "digest": digest, "epoch": 0 });
    let room = json!({ "t": "room", "id": id });
    let refusal = || {
        // The tracker is asked before anybody is refused.
        let Ending::Answer(answer) = caller.ask_all(&[room.clone(), summary.clone()]) else { panic!("no answer") };
        assert_eq!(answer["t"], "error", "{answer}");
        answer["code"].as_u64().filter(|code| *code != 5)
    };
    assert_eq!(poll_until(refusal, || "the tracker is still asked".to_owned()), 2);
    let author = bob.fingerprint();
    for request in [
        json!({ "t": "records", "after": [] }),
        json!({ "t": "vector" }),
        json!({ "t": "want", "author": author, "locator": [], "above": 0 }),
        json!({ "t": "new", "run": "00" }),
        json!({ "t": "later" }),
    ] {
        let Ending::Answer(answer) = caller.ask_all(&[room.clone(), request.clone()]) else { panic!("{request}") };
        assert_eq!((&answer["t"], &answer["code"]), (&json!("error"), &json!(2)), "{request}: {answer}");
    }
    let unknown = json!({ "t": "room", "id": "ab".repeat(16) });
    let Ending::Answer(answer) = caller.ask_all(&[unknown, summary]) else { panic!("no answer") };
    assert_eq!(answer["code"], 3, "{answer}");
    assert!(caller.is_open());
}

#[test]
fn who_is_kicked_gets_nothing_more_and_is_not_heard() {
    let lab = Lab::start();
    let (alice, bob, dave) = (lab.user("alice"), lab.user("bob"), lab.user("dave"));
    make_room(&[&alice, &bob, &dave]);
    let (hers, his, daves) = (alice.serve(), bob.serve(), dave.serve());
    say(&dave, "hello");
    hers.wait_for(&line("dave", "hello"));
    his.wait_for(&line("dave", "hello"));
    alice.peer(["room", "kick", "lab", "dave"]).run().exits(0);
    hers.wait_for("#lab: dave was sent away by you");
    his.wait_for("#lab: dave was sent away by alice");
    daves.wait_for("#lab: you were sent away by alice: coming back takes an invitation");
    say(&alice, "he is gone");
    his.wait_for(&line("alice", "he is gone"));
    let refused = dave.peer(["chat", "#lab", "can you hear me?"]).run();
    assert!(!refused.is_success(), "{}", refused.err());
    daves.interrupt();
    daves.finish().exits(130);
    assert!(!dave.serve().said().contains("he is gone"));
    say(&bob, "the end");
    hers.wait_for(&line("bob", "the end"));
    assert!(!hers.said().contains("can you hear me?") && !his.said().contains("can you hear me?"));
    // By invitation he comes back, and has all.
    alice.peer(["room", "invite", "lab", "dave"]).run().exits(0);
    dave.peer(["room", "join", "lab"]).run().exits(0);
    let daves = dave.serve();
    daves.wait_for(&line("bob", "the end"));
    in_order(&daves, &[line("alice", "he is gone"), line("bob", "the end")]);
    say(&dave, "back again");
    his.wait_for(&line("dave", "back again"));
}

#[test]
fn a_hook_learns_the_room_and_who_was_called() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    make_room(&[&alice, &bob]);
    let heard = lab.join("heard");
    let script = format!(
        "printf '%s %s %s%s\\n' \"$VIZINHO_ROOM\" \"$VIZINHO_FROM\" \"$VIZINHO_TEXT\" \"$VIZINHO_MENTION\" >> {}",
        heard.display()
    );
    alice.peer(["notify", "--", "bash", "-c", &script]).run().exits(0);
    let (hers, _his) = (alice.serve(), bob.serve());
    say(&alice, "not for my own");
    for text in ["hello.", "@alice, lunch?"] {
        say(&bob, text);
        hers.wait_for(&line("bob", text));
    }
    let read = || std::fs::read_to_string(&heard).unwrap_or_default();
    let lines = poll_until(|| Some(read()).filter(|lines| lines.lines().count() == 2), read);
    assert!(lines.contains("lab bob hello.\n") && lines.contains("lab bob @alice, lunch?1\n"), "{lines}");
}

/// The messages of `#lab` in a user's history, as ids and texts.
fn history(user: &User<'_>) -> Vec<(String, String)> {
    let printed = user.peer(["--json", "history", "#lab"]).run().exits(0).out();
    let messages = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    messages.filter(|line| line["type"] == "message").map(|line| (text(&line["id"]), text(&line["text"]))).collect()
}

/// Four members for some seconds, or with `VIZINHO_LONG=1` twelve for two minutes.
#[test]
fn a_new_key_of_the_tracker_stops_no_room() {
    let mut lab = Lab::with_restarts();
    let names = ["alice", "bob", "carol"];
    {
        let users = names.map(|name| lab.user(name));
        make_room(&[&users[0], &users[1]]);
        let (hers, his) = (users[0].serve(), users[1].serve());
        say(&users[0], "under the old key");
        his.wait_for(&line("alice", "under the old key"));
        for node in [hers, his] {
            node.interrupt();
            node.finish().exits(130);
        }
    }
    lab.kill_tracker();
    std::fs::remove_dir_all(lab.join("tracker/identity")).unwrap();
    let new = Invocation::new(binaries::binary("tracker"), lab.path());
    new.args(["new", "key", "--data-dir"]).arg(lab.join("tracker")).run().exits(0);
    lab.start_tracker();
    let key = lab.tracker_key();
    let [alice, bob, carol] = names.map(|name| lab.stranger(name));
    // Nobody believes another key without a word of the user's.
    alice.peer(["rooms"]).run().exits(11).says(&format!("peer trust --the-tracker --replace {key}"));
    for user in [&alice, &bob, &carol] {
        user.peer(["trust", "--the-tracker", "--yes", "--replace", &key]).run().exits(0);
    }
    let (hers, his) = (alice.serve(), bob.serve());
    say(&alice, "under the new key");
    his.wait_for(&line("alice", "under the new key"));
    // Who comes now has all records by the new key, and who was there before has the next one.
    carol.peer(["room", "join", "lab"]).run().exits(0);
    let theirs = carol.serve();
    for node in [&hers, &his] {
        node.wait_for("#lab: carol joined");
    }
    theirs.wait_for(&line("alice", "under the new key"));
    in_order(&theirs, &[line("alice", "under the old key"), line("alice", "under the new key")]);
    say(&carol, "hello");
    his.wait_for(&line("carol", "hello"));
    alice.peer(["room", "kick", "lab", "carol"]).run().exits(0);
    his.wait_for("#lab: carol was sent away by alice");
}

#[test]
fn members_miss_nothing_however_often_they_are_killed() {
    let (count, seconds) = if std::env::var_os("VIZINHO_LONG").is_some() { (12, 120) } else { (4, 8) };
    let seed = std::env::var("VIZINHO_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut fate = Fate(seed);
    let lab = Lab::start();
    let users: Vec<User<'_>> = (0..count).map(|number| lab.user(&format!("user{number}"))).collect();
    make_room(&users.iter().collect::<Vec<_>>());
    let mut nodes: Vec<Option<Process>> = users.iter().map(|user| Some(user.serve())).collect();
    let (mut written, mut kills) = (Vec::new(), 0);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let who = fate.below(users.len());
        match (fate.below(5), nodes[who].take()) {
            (0, Some(node)) => {
                node.kill();
                node.finish().exits(137);
                kills += 1;
            }
            (_, None) => nodes[who] = Some(users[who].serve()),
            (_, running) => {
                nodes[who] = running;
                let text = format!("{} says {}.", users[who].name(), written.len());
                let chat = users[who].peer(["chat", "#lab", &text]);
                // What was stored counts, even if the node dies before it answers.
                if fate.below(4) > 0 {
                    if chat.run().is_success() {
                        written.push(text);
                    }
                } else if let Some(node) = nodes[who].take() {
                    // In the middle of it.
                    let writing = chat.start();
                    node.kill();
                    node.finish().exits(137);
                    kills += 1;
                    if writing.finish().is_success() {
                        written.push(text);
                    }
                }
            }
        }
    }
    for (user, node) in users.iter().zip(&mut nodes) {
        node.get_or_insert_with(|| user.serve());
    }
    println!("seed {seed}: {kills} kills, {} messages", written.len());
    let is_whole = |history: &[(String, String)]| {
        let times = |wanted: &String| history.iter().filter(|(_, text)| text == wanted).count();
        written.iter().all(|text| times(text) == 1)
    };
    let read = || users.iter().map(history).collect::<Vec<_>>();
    let agree = |all: &[Vec<(String, String)>]| all.iter().all(|history| *history == all[0] && is_whole(history));
    poll_until(
        || agree(&read()).then_some(()),
        || {
            let all = read();
            let lengths: Vec<(usize, bool, bool)> =
                all.iter().map(|history| (history.len(), *history == all[0], is_whole(history))).collect();
            format!(
                "seed {seed}: of {} messages the members have (how many, as the first, whole): {lengths:?}",
                written.len()
            )
        },
    );
}
