//! Rooms as conversations: history, inbox, search, blocks, outbox and removal, with real nodes.

use serde_json::Value;
use tests::{Lab, Outcome, Process, User, make_room, poll_until};

#[track_caller]
fn say(user: &User<'_>, text: &str, heard_by: &[&Process]) {
    user.peer(["chat", "#lab", text]).run().exits(0);
    for node in heard_by {
        node.wait_for(&format!("#lab {}: {text}", user.name()));
    }
}

#[track_caller]
fn end(node: Process) {
    node.interrupt();
    node.finish();
}

fn field(lines: &[Value], name: &str) -> Vec<String> {
    lines.iter().map(|line| line[name].as_str().unwrap_or_default().to_owned()).collect()
}

fn history(user: &User<'_>, words: &[&str]) -> Outcome {
    user.peer(["--json", "history"]).args(words).run()
}

#[test]
fn a_room_is_a_conversation() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    make_room(&[&alice, &bob, &carol]);
    let (hers, his, theirs) = (alice.serve(), bob.serve(), carol.serve());
    say(&alice, "O orçamento está pronto", &[&his, &theirs]);
    say(&bob, "obrigado", &[&hers, &theirs]);

    let told = carol.peer(["inbox"]).run();
    told.exits(0).is_plain().prints("#lab alice: O orçamento está pronto").prints("#lab bob: obrigado");
    carol.peer(["inbox"]).run().exits(0).says("no unread messages");
    let shown = alice.peer(["history", "#LAB"]).run();
    shown.exits(0).is_plain().prints("to #lab: O orçamento").prints("#lab bob: obrigado");
    // All members know a message by the same id, and see the same order.
    let [mine, others] = [&alice, &carol].map(|user| history(user, &["#lab"]).json());
    assert_eq!(field(&mine, "id"), field(&others, "id"));
    assert_eq!((field(&mine, "from"), field(&mine, "room")), (field(&others, "from"), vec!["lab".to_owned(); 2]));
    assert!(mine[0]["peer"] == "#lab" && mine[0]["id"].as_str().unwrap().len() == 64, "{mine:?}");
    let both_have_it = || {
        let first = &history(&alice, &["#lab"]).json()[0];
        (first["state"] == "stored" && first["count"] == 2 && first["of"] == 2).then_some(())
    };
    poll_until(both_have_it, || "both members don't have it".to_owned());
    assert_eq!(field(&history(&carol, &["--search", "orcamento"]).json(), "room"), ["lab"]);
    assert_eq!(field(&history(&carol, &["#lab", "--limit", "1"]).json(), "text"), ["obrigado"]);
    carol.peer(["history", "bob"]).run().exits(0).says("no messages with bob found");
    carol.peer(["history", "#office"]).run().exits(4).says("you never were in a room #office: `peer rooms`");
    carol.peer(["history", "#of fice"]).run().exits(2);

    carol.peer(["block", "bob"]).run().exits(0);
    assert_eq!(field(&history(&carol, &["#lab"]).json(), "from"), ["alice"]);
    carol.peer(["unblock", "bob"]).run().exits(0);
    assert_eq!(field(&history(&carol, &["#lab"]).json(), "from"), ["alice", "bob"]);
}

#[test]
fn what_is_forgotten_is_not_received_again() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    make_room(&[&alice, &bob]);
    let (hers, his) = (alice.serve(), bob.serve());
    for text in ["one", "two"] {
        say(&alice, text, &[&his]);
    }
    end(his);
    bob.peer(["history", "#lab", "--forget"]).run().exits(2).says("`peer history --forget --yes '#lab'`");
    bob.peer(["history", "#lab", "--forget", "--yes"]).run().exits(0).says("forgot 2 messages in #lab");
    bob.peer(["history", "#lab"]).run().exits(0).says("no messages in #lab found");
    let his = bob.serve();
    say(&alice, "three", &[&his]);
    say(&bob, "four", &[&hers]);
    assert_eq!(field(&history(&bob, &["#lab"]).json(), "text"), ["three", "four"]);
    end(his);
    bob.peer(["room", "leave", "lab"]).run().exits(0);
    assert_eq!(field(&history(&bob, &["#lab"]).json(), "text"), ["three", "four"], "what was said stays");
    bob.peer(["history", "#lab", "--forget", "--yes"]).run().exits(0).says("forgot 2 messages in #lab");
    bob.peer(["history", "#lab"]).run().exits(4).says("you never were in a room #lab");
}

#[test]
fn a_running_node_learns_at_once_what_is_forgotten() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    make_room(&[&alice, &bob]);
    let (hers, his) = (alice.serve(), bob.serve());
    for text in ["one", "two"] {
        say(&alice, text, &[&his]);
    }
    bob.peer(["history", "#lab", "--forget", "--yes"]).run().exits(0).says("forgot 2 messages in #lab");
    end(hers);
    carol.peer(["room", "join", "lab"]).run().exits(0);
    let theirs = carol.serve();
    his.wait_for("#lab: carol joined");
    // He has nothing of it to pass on, and goes on from there.
    say(&bob, "three", &[&theirs]);
    assert_eq!(field(&history(&carol, &["#lab"]).json(), "text"), ["three"]);
    let hers = alice.serve();
    for text in ["one", "two"] {
        theirs.wait_for(&format!("#lab alice: {text}"));
    }
    say(&alice, "four", &[&his, &theirs]);
    assert_eq!(field(&history(&bob, &["#lab"]).json(), "text"), ["three", "four"], "nothing comes back");
    drop(hers);
}

#[test]
fn a_message_that_nobody_has_yet_is_in_the_outbox() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    make_room(&[&alice, &bob]);
    alice.peer(["chat", "#lab", "for later"]).run().exits(0);
    let waiting = alice.peer(["--json", "outbox"]).run().exits(0).json();
    assert_eq!((field(&waiting, "room"), field(&waiting, "state")), (vec!["lab".into()], vec!["waiting".into()]));
    let line = alice.peer(["outbox"]).run();
    line.exits(0).prints("to #lab: for later");
    let id = line.out().split_whitespace().next().unwrap().to_owned();
    alice.peer(["outbox", "drop", &id]).run().exits(2).says("a message to #lab is signed and stays");
    let (_hers, his) = (alice.serve(), bob.serve());
    his.wait_for("#lab alice: for later");
    let is_empty = || alice.peer(["outbox"]).run().err().contains("the outbox is empty").then_some(());
    poll_until(is_empty, || "it wasn't passed on".to_owned());
}
