//! Looking back, and what is unread.

use tests::{Lab, Outcome};

fn texts(outcome: &Outcome) -> Vec<String> {
    outcome.exits(0).json().iter().map(|line| line["text"].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn what_was_said_is_found_again() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, his) = (alice.serve(), bob.serve());
    for text in ["O orçamento está pronto", "segue em anexo", "\u{1b}[2J orcamento\u{202e}?"] {
        alice.peer(["chat", "bob", text]).run().exits(0);
    }
    his.wait_for("orcamento<U+202E>?");
    bob.peer(["chat", "alice", "obrigado"]).run().exits(0);

    let all = bob.peer(["--json", "history", "alice"]).run();
    assert_eq!(texts(&all).len(), 4);
    let first = all.json()[0].clone();
    let mut keys: Vec<_> = first.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    assert_eq!(keys, ["from", "id", "peer", "state", "text", "ts", "type", "v"]);
    assert_eq!(texts(&bob.peer(["--json", "history", "alice", "--limit", "2"]).run())[1], "obrigado");
    assert_eq!(texts(&bob.peer(["--json", "history", "--search", "orcamento"]).run()).len(), 2);
    assert_eq!(texts(&bob.peer(["--json", "history", "alice", "--search", "ORÇAMENTO", "pronto"]).run()).len(), 1);
    assert_eq!(texts(&bob.peer(["--json", "history", "--search", "\"NEAR( OR *"]).run()).len(), 0);
    assert_eq!(texts(&bob.peer(["--json", "history", "--since", "1h"]).run()).len(), 4);
    let carol = lab.user("carol");
    assert_eq!(texts(&bob.peer(["--json", "history", "carol"]).run()).len(), 0);
    bob.peer(["history", "carol"]).run().exits(0).says("no messages with carol found");
    drop(carol);
    bob.peer(["history", "--since", "yesterday"]).run().exits(2).says("is not an age");
    let shown = bob.peer(["history", "alice"]).run();
    shown.exits(0).is_plain().prints("alice: segue em anexo").prints("to alice: obrigado");
}

#[test]
fn a_name_that_nobody_has_is_told() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    drop(lab.user("bob"));
    for args in [
        &["history", "nobody"][..],
        &["history", "nobody", "--search", "word"],
        &["history", "--forget", "nobody"],
        &["offer", "nobody"],
        &["files", "nobody"],
        &["list", "nobody"],
        &["inbox", "--accept", "nobody"],
        &["chat", "nobody", "hi"],
    ] {
        alice.peer(args).run().exits(4).says("no user \"nobody\"").is_plain();
    }
    alice.peer(["unshare", "nothing"]).run().exits(2).says("nothing is shared as");
    alice.peer(["history", "--forget", "bob"]).run().exits(0).says("no messages with bob to forget");
    // Nobody can be asked: there is nothing to show, and that is all that is known.
    let tracker = lab.take_tracker();
    tracker.kill();
    alice.peer(["history", "nobody"]).run().exits(0).says("no messages with nobody found");
}

#[test]
fn a_time_is_that_of_the_place_that_tz_names() {
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), lab.user("bob"));
    alice.peer(["chat", "bob", "hi"]).run().exits(0);
    let hour = |zone: &str| {
        let shown = alice.peer(["history", "bob"]).env("TZ", zone).run();
        let text = shown.exits(0).out();
        let at = text.find(':').unwrap_or_else(|| panic!("{text}"));
        text[at - 2..at].parse::<u32>().unwrap_or_else(|_| panic!("{text}"))
    };
    let there = hour("<-03>3");
    assert_eq!(hour("America/Sao_Paulo"), there);
    assert_eq!(hour(":America/Sao_Paulo"), there);
    assert_ne!(hour("UTC"), there);
    // As in a container without the system's files.
    let bare = alice.peer(["history", "bob"]).env("TZ", "America/Sao_Paulo").env("TZDIR", lab.join("none")).run();
    assert!(bare.exits(0).out().contains(&format!("{there:02}:")), "{bare}");
    for known in ["", "UTC", "posix/America/Sao_Paulo", "<-03>3"] {
        assert_eq!(alice.peer(["history", "bob"]).env("TZ", known).run().exits(0).err(), "", "{known}");
    }
    alice.peer(["chat", "bob", "hi again"]).run().exits(0);
    let unknown = alice.peer(["history", "bob"]).env("TZ", "America/Sao_Paolo").run();
    unknown.exits(0).says("TZ=America/Sao_Paolo names no time zone that is known here: times are in UTC");
    assert_eq!(unknown.err().lines().count(), 1, "{unknown}");
}

#[test]
fn unread_until_it_is_read() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    bob.accept(["alice", "carol"]);
    {
        let his = bob.serve();
        for (from, text) in [(&alice, "one"), (&carol, "two"), (&alice, "three")] {
            from.peer(["chat", "bob", text]).run().exits(0);
        }
        his.wait_for("alice: three");
    }
    // Nobody saw what went nowhere.
    for nowhere in [r#"exec "$@" >&-"#, r#"exec "$@" >/dev/full"#] {
        let code = bob.peer(["inbox"]).through_shell(nowhere).run().code;
        assert!(matches!(code, 0 | 9), "{nowhere}: {code}");
    }
    assert_eq!(texts(&bob.peer(["--json", "inbox"]).run()), ["one", "three", "two"]);
    bob.peer(["inbox"]).run().exits(0).prints_exactly("").says("no unread messages");
    let his = bob.serve();
    let hers = alice.serve();
    alice.peer(["chat", "bob", "four"]).run().exits(0);
    his.wait_for("alice: four");
    bob.peer(["list"]).run().exits(0).prints("1 unread");
    assert_eq!(texts(&bob.peer(["--json", "inbox"]).run()), ["four"]);
    assert!(!bob.peer(["list"]).run().out().contains("unread"));
    drop(hers);
}

#[test]
fn a_filter_lets_lines_through_both_ways() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let his = bob.serve();
    // Without a node of hers: the filter is one for as long as it lives.
    let mut filter = alice.peer(["chat", "bob"]).open_stdin().start();
    filter.write("hello\n");
    his.wait_for("alice: hello");
    bob.peer(["chat", "alice", "hello yourself\nand a second line"]).run().exits(0);
    filter.wait_for("and a second line");
    filter.close_stdin();
    let ended = filter.finish();
    ended.exits(0).prints_exactly("hello yourself\n    and a second line\n");
    // What a filter let through was read.
    alice.peer(["inbox"]).run().exits(0).prints_exactly("");
}
