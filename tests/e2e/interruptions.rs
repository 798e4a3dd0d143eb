//! Messages whose sending is interrupted: by the end of the node, of the view, or by Ctrl-C. Each is kept and told, or taken
//! back and told.

use tests::{Lab, Process, Terminal, User};

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";

/// How a view is left in which something was said just now, and the exit code of that.
type Way = (&'static str, fn(&mut Terminal, &str), i32);

const WAYS: [Way; 3] = [
    ("Ctrl-D", |view, text| view.press(&format!("{text}\r{CTRL_D}")), 0),
    ("Ctrl-C", |view, text| view.press(&format!("{text}\r{CTRL_C}")), 130),
    (
        "SIGTERM",
        |view, text| {
            view.press(&format!("{text}\r"));
            view.wait_for(&format!("you: {text}"));
            view.process().terminate();
        },
        143,
    ),
];

fn ends(node: Process) {
    node.terminate();
    node.finish().exits(143);
}

fn waits(user: &User<'_>) -> String {
    user.peer(["outbox"]).run().exits(0).out()
}

/// Waits until a message is in the outbox; no event tells that to a process that is elsewhere.
fn until_queued(user: &User<'_>, text: &str) {
    tests::poll_until(|| waits(user).contains(text).then_some(()), || format!("{text} is never queued"));
}

#[test]
fn what_is_said_without_a_node_is_kept_however_the_view_is_left() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let his = bob.serve();
    alice.peer(["chat", "bob", "hi"]).run().exits(0);
    for arguments in [&["chat", "bob"][..], &["ui"]] {
        for (name, leave, code) in WAYS {
            let hers = alice.serve();
            let mut view = alice.peer(arguments).in_terminal(100, 16);
            if arguments == ["ui"] {
                view.wait_for("● bob");
                view.press("\r");
                view.wait_for("[bob online]");
            } else {
                view.wait_for("talking to bob");
            }
            ends(hers);
            view.wait_for("the app that kept you online has ended");
            // Another one each time: what was said before is on the screen as well.
            let text = format!("LOST by {name} in {}", arguments[0]);
            leave(&mut view, &text);
            let (outcome, screen) = view.finish();
            outcome.exits(code);
            assert!(waits(&alice).contains(&text), "{arguments:?}, {name}: {}", screen.text());
            assert!(screen.text().contains("1 message is queued"), "{arguments:?}, {name}: {}", screen.text());
            let hers = alice.serve();
            his.wait_for(&format!("alice: {text}"));
            ends(hers);
        }
    }
}

#[test]
fn what_is_said_without_a_node_is_seen_at_once_and_goes_once_and_in_order() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (hers, his) = (alice.serve(), bob.serve());
    let mut view = alice.peer(["chat", "bob"]).in_terminal(80, 16);
    view.wait_for("talking to bob");
    view.press("zero\r");
    his.wait_for("alice: zero");
    ends(hers);
    view.wait_for("the app that kept you online has ended");
    view.press("one\rtwo\r");
    let screen = view.wait_for_screen("both, waiting", |screen| {
        ["you: one", "you: two"]
            .iter()
            .all(|text| screen.lines().iter().any(|line| line.starts_with('…') && line.ends_with(text)))
    });
    assert!(!screen.text().contains("reconnected:"), "{}", screen.text());
    view.press("three\r");
    view.wait_for("reconnected:");
    view.press("four\r");
    his.wait_for("alice: four");
    view.wait_for_screen("all of them stored", |screen| {
        screen.lines().iter().filter(|line| line.starts_with('✓') && line.contains("you: ")).count() == 5
    });
    let said = his.said();
    let order: Vec<&str> = said.lines().filter_map(|line| line.get(8..)?.strip_prefix(" alice: ")).collect();
    assert_eq!(order, ["zero", "one", "two", "three", "four"], "{said}");
    view.press(CTRL_D);
    let screen = view.finish().1;
    for text in order {
        assert_eq!(screen.text().matches(&format!("you: {text}")).count(), 1, "{}", screen.text());
    }
}

#[test]
fn a_stopped_node_loses_nothing_that_was_told_to_it() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (hers, his) = (alice.serve(), bob.serve());
    let mut view = alice.peer(["chat", "bob"]).in_terminal(80, 16);
    view.wait_for("talking to bob");
    hers.freeze();
    view.press(&format!("while it is stopped\r{CTRL_D}"));
    view.finish().0.exits(0);
    hers.kill();
    hers.finish().exits(137);
    assert!(waits(&alice).contains("while it is stopped"), "{}", waits(&alice));
    let _hers = alice.serve();
    his.wait_for("alice: while it is stopped");
}

#[test]
fn a_message_that_was_to_go_now_is_taken_back_at_ctrl_c() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let his = bob.serve();
    alice.peer(["chat", "bob", "hi"]).run().exits(0);
    his.freeze();
    for has_node in [false, true] {
        let hers = has_node.then(|| alice.serve());
        for (ends, code) in [(Process::interrupt as fn(&Process), 130), (Process::terminate, 143)] {
            let sending = alice.peer(["chat", "bob", "now or never", "--now"]).start();
            until_queued(&alice, "now or never");
            ends(&sending);
            sending.finish().exits(code).says("interrupted: the message was dropped");
            assert_eq!(waits(&alice), "");
        }
        let sending = alice.peer(["chat", "bob", "whenever"]).start();
        until_queued(&alice, "whenever");
        sending.interrupt();
        sending.finish().exits(130).says("the message stays queued (`peer outbox drop ");
        let queued = waits(&alice);
        assert_eq!(queued.lines().count(), 1, "{queued}");
        let id = queued.split_whitespace().next().unwrap().to_owned();
        alice.peer(["outbox", "drop", &id]).run().exits(0);
        if let Some(hers) = hers {
            is_killed(hers);
        }
    }
    his.thaw();
    alice.peer(["chat", "bob", "afterwards"]).run().exits(0);
    his.wait_for("alice: afterwards");
    alice.peer(["history", "bob"]).run().exits(0).prints("now or never  (dropped)");
}

fn is_killed(node: Process) {
    node.kill();
    node.finish().exits(137);
}

#[test]
fn a_filter_goes_on_when_its_node_ends() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (hers, his) = (alice.serve(), bob.serve());
    let mut filter = alice.peer(["chat", "bob"]).open_stdin().start();
    filter.write("one\n");
    his.wait_for("alice: one");
    ends(hers);
    filter.write("two\nthree\n");
    filter.wait_for("the app that kept you online has ended");
    his.wait_for("alice: three");
    filter.write("four\n");
    filter.close_stdin();
    filter.finish().exits(0);
    let said = his.said();
    let order: Vec<&str> = said.lines().filter_map(|line| line.get(8..)?.strip_prefix(" alice: ")).collect();
    assert_eq!(order, ["one", "two", "three", "four"], "{said}");
    assert_eq!(waits(&alice), "");
}

#[test]
fn a_filter_without_any_node_queues_its_lines_and_says_so() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let his = bob.serve();
    for (name, now, words) in
        [("alice", false, "2 messages are queued (`peer outbox`)"), ("carol", true, "not sent: \"two\"")]
    {
        let user = lab.user(name);
        let hers = user.serve();
        let mut filter = user.peer(["chat", "bob"]).args(now.then_some("--now")).open_stdin().start();
        filter.write("one\n");
        his.wait_for(&format!(" {name}: one"));
        crate::chat_faults::until_delivered(&user);
        // Who isn't logged in any more has no other node.
        lab.sqlite(user.home(), "DELETE FROM setting WHERE key = 'user'");
        hers.freeze();
        filter.write("two\nthree\n");
        filter.close_stdin();
        is_killed(hers);
        filter.finish().exits(3).says("not logged in").says(words);
    }
}

#[test]
fn an_interrupted_share_says_how_far_it_went() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    // Sparse in nothing: the second takes a while, however fast the disk is.
    lab.file("folder/1 small.bin", 3_000_000);
    let large = lab.join("folder/2 large.bin");
    let noise = tests::files::noise(7, 4 << 20);
    let mut file = std::fs::File::create(&large).unwrap();
    (0..300).for_each(|_| std::io::Write::write_all(&mut file, &noise).unwrap());
    lab.file("folder/3 last.bin", 3_000_000);
    let sharing = alice.peer(["share"]).arg(lab.join("folder")).in_terminal(100, 10);
    sharing.wait_for("2 large.bin");
    sharing.process().interrupt();
    let (outcome, screen) = sharing.finish();
    outcome.exits(130);
    let text = screen.text();
    assert!(text.contains("interrupted: 1 of 3 files shared; run it again to resume"), "{text}");
    assert!(!screen.visible().contains('%'), "the bar is gone: {text}");
    let shares = alice.peer(["shares"]).run();
    shares.exits(0).prints("1 small.bin");
    assert_eq!(shares.out().lines().count(), 1, "{shares}");

    let sharing = alice.peer(["--json", "share"]).arg(lab.join("folder")).start();
    // The next file is hashed for a while.
    sharing.wait_for("1 small.bin");
    sharing.terminate();
    let outcome = sharing.finish();
    let summary = outcome.exits(143).object("summary");
    assert_eq!((summary["shared"].as_u64(), summary["code"].as_str()), (Some(1), Some("interrupted")), "{outcome}");
}
