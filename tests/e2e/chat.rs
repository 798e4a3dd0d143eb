//! Conversations, without a terminal.

use tests::Lab;

#[test]
fn a_message_is_sent_when_it_is_stored() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.serve();
    alice.peer(["chat", "bob", "one"]).run().exits(0).prints_exactly("");
    alice.peer(["help", "chat"]).run().exits(0).prints("lines with nothing but blanks are left out");
    alice.peer(["chat", "bob"]).stdin("two\n\n \nthree\r\nfour without an end").run().exits(0);
    let last = node.wait_for("alice: four without an end");
    let is_time = |text: &str| text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    assert!(last.split(' ').next().is_some_and(is_time), "{last}");
    let said = node.said();
    let order: Vec<_> = ["one", "two", "three", "four"].map(|word| said.find(&format!("alice: {word}"))).into();
    assert!(order.is_sorted() && order.iter().all(Option::is_some), "{said}");
}

#[test]
fn a_message_can_have_any_text() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.accept(["alice"]);
    let node = bob.serve();
    for text in ["Grüße aus Köln 👋🏽", "日本語", "  spaces  ", "\"quoted\" \\ and {\"json\":1}", "--help"] {
        alice.peer(["chat", "bob", "--", text]).run().exits(0);
        node.wait_for(&format!("alice: {text}"));
    }
    alice.peer(["chat", "bob", "first\nsecond"]).run().exits(0);
    node.wait_for("second");
    assert!(!node.said().contains("\nsecond"), "a second line is never at the start of one: {}", node.said());
    let longest = "x".repeat(16 * 1024);
    alice.peer(["chat", "bob", &longest]).run().exits(0);
    node.wait_for(&longest[..1000]);
    bob.peer(["history"]).run().exits(0).prints(&longest);
    alice.peer(["chat", "bob", &format!("{longest}x")]).run().exits(2).says("share it as a file");
    for empty in ["", "  \n "] {
        alice.peer(["chat", "bob", empty]).run().exits(2).says("the message is empty");
    }
}

#[test]
fn a_running_node_of_the_profile_carries_the_messages() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (hers, his) = (alice.serve(), bob.serve());
    alice.peer(["chat", "bob", "over my node"]).run().exits(0);
    his.wait_for("alice: over my node");
    hers.wait_for("to bob: over my node");
    // The same link the other way round.
    bob.peer(["chat", "alice", "and back"]).run().exits(0);
    hers.wait_for("bob: and back");
    alice.peer(["chat", "zoe", "x"]).run().exits(4).says("no user \"zoe\"");
    his.interrupt();
    his.finish().exits(130);
    alice.peer(["chat", "--now", "bob", "too late"]).run().exits(4).says("bob is offline");
    alice.peer(["chat", "bob", "for later"]).run().exits(0).says("bob is offline").says("message queued");
}

#[test]
fn a_line_that_is_no_text_costs_no_other_line() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.serve();
    let mut input = b"before\nol\xe1, latin\n".to_vec();
    input.extend_from_slice(&b"long ".repeat(5_000));
    input.extend_from_slice(b"\nbehind\n");
    let sent = alice.peer(["chat", "bob"]).stdin(&input).run();
    sent.exits(2).says("a line was not sent (\"ol\u{fffd}, latin\"): it is not UTF-8").says("(\"long long ");
    node.wait_for("alice: behind");
    assert!(node.said().contains("alice: before") && !node.said().contains("latin"), "{}", node.said());
    let in_western_letters = alice.peer(["chat", "bob"]).env("LC_ALL", "pt_BR.ISO-8859-1");
    in_western_letters.stdin(b"ol\xe1, latin\n").run().exits(0);
    node.wait_for("alice: olá, latin");
}

#[test]
fn many_messages_at_once_arrive_once_each() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, his) = (alice.serve(), bob.serve());
    bob.accept(["alice"]);
    let lines: String = (0..200).map(|number| format!("message {number:03}.\n")).collect();
    let both = [(); 2].map(|()| alice.peer(["chat", "bob"]).stdin(&lines).start());
    for chat in both {
        chat.finish().exits(0);
    }
    his.wait_for_nth("alice: message 199.", 2);
    let said = his.said();
    for number in 0..200 {
        assert_eq!(said.matches(&format!("alice: message {number:03}.")).count(), 2);
    }
}

#[test]
fn somebody_who_vanished_is_offline_and_heard_again_when_back() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, his) = (alice.serve(), bob.serve());
    alice.peer(["chat", "bob", "first"]).run().exits(0);
    his.wait_for("alice: first");
    his.kill();
    his.finish().exits(137);
    let lost = alice.peer(["chat", "--now", "bob", "into the void"]).run();
    assert!(matches!(lost.code, 4 | 7), "{lost}");
    alice.peer(["chat", "bob", "second"]).run().exits(0).says("message queued");
    let his = bob.serve();
    alice.peer(["chat", "bob", "third"]).run().exits(0);
    his.wait_for("alice: third");
    let said = his.said();
    let at = |word: &str| said.find(&format!("alice: {word}"));
    assert!(at("second").is_some() && at("second") < at("third") && !said.contains("void"), "{said}");
    assert_eq!(said.matches("second").count(), 1);
}

#[test]
fn a_conversation_in_a_pipe_ends_with_its_input() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.serve();
    let mut chat = alice.peer(["chat", "bob"]).open_stdin().start();
    chat.write("now\n");
    node.wait_for("alice: now");
    chat.write("and then\n");
    node.wait_for("alice: and then");
    assert!(chat.is_running());
    chat.close_stdin();
    chat.finish().exits(0);

    let mut interrupted = alice.peer(["chat", "bob"]).open_stdin().start();
    interrupted.write("again\n");
    node.wait_for("alice: again");
    interrupted.interrupt();
    interrupted.finish().exits(130);
}

/// More than what can be on its way to the node and back at once.
#[test]
fn long_lines_in_a_pipe_do_not_hold_each_other_up() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, his) = (alice.serve(), bob.serve());
    bob.accept(["alice"]);
    let text = "z".repeat(16 * 1000);
    let lines: String = (0..300).map(|number| format!("{number} {text}\n")).collect();
    alice.peer(["chat", "bob"]).stdin(lines).run().exits(0);
    his.wait_for("alice: 299 zzz");
}
