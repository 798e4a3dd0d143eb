//! Views that call for attention, and what they mark as read.

use tests::{Lab, Terminal, User, poll_until};

const CTRL_D: &str = "\u{4}";
const ESCAPE: &str = "\u{1b}";
const PAGE_UP: &str = "\u{1b}[5~";
const PAGE_DOWN: &str = "\u{1b}[6~";

/// The two views of `user`, the full one on a conversation with carol.
fn views(user: &User<'_>) -> [Terminal; 2] {
    let open = |args: &[&str]| user.peer(args.iter().copied()).env("TERM", "xterm-kitty").in_terminal(100, 24);
    let line = open(&["chat", "carol"]);
    line.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    let full = open(&["ui"]);
    full.wait_for("[People, you:");
    full.wait_for("carol");
    [line, full]
}

fn unread(user: &User<'_>) -> usize {
    let listed = user.peer(["--json", "list"]).run();
    listed.json().iter().filter_map(|line| line["unread"].as_u64()).map(|count| usize::try_from(count).unwrap()).sum()
}

/// Waits until so many are unread: a view has told its node, and the node writes it down.
fn waits_until_unread(user: &User<'_>, count: usize) {
    poll_until(|| (unread(user) == count).then_some(()), || format!("{} unread, not {count}", unread(user)));
}

fn leaves(mut view: Terminal) {
    view.press(CTRL_D);
    view.finish().0.exits(0);
}

#[test]
fn both_views_ring_for_whoever_writes() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    let _hers = alice.serve();
    alice.accept(["bob"]);
    carol.peer(["chat", "alice", "first"]).run().exits(0);
    let rang = |word: &str| {
        let views = views(&alice);
        // The full view looks at carol as well, and bob writes.
        bob.peer(["chat", "alice", word]).run().exits(0);
        views[0].wait_for("bob");
        views[1].wait_for("bob");
        let rang = views.each_ref().map(|view| {
            let said = view.process().said();
            (said.contains('\u{7}'), said.contains(&format!("\u{1b}]9;bob: {word}")))
        });
        views.into_iter().for_each(leaves);
        rang
    };
    assert_eq!(rang("psst"), [(true, true); 2]);
    alice.peer(["notify", "--bell", "off"]).run().exits(0);
    assert_eq!(rang("again"), [(false, false); 2]);
}

#[test]
fn a_quiet_view_does_not_ring() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let view = alice.peer(["-q", "chat", "bob"]).in_terminal(80, 12);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    bob.peer(["chat", "alice", "psst"]).run().exits(0);
    view.wait_for("bob: psst");
    assert!(!view.process().said().contains('\u{7}'));
    leaves(view);
}

#[test]
fn what_was_not_shown_stays_unread() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, _his) = (alice.serve(), bob.serve());
    let lines: String = (1..=80).map(|number| format!("line {number:02}.\n")).collect();
    bob.peer(["chat", "alice"]).stdin(&lines).run().exits(0);
    for number in 0..15 {
        alice.peer(["chat", "bob", &format!("own {number}")]).run().exits(0);
    }
    assert_eq!(unread(&alice), 80);
    let view = alice.peer(["chat", "bob"]).in_terminal(80, 12);
    let screen = view.wait_for("you: own 14");
    let shown = screen.lines().iter().filter(|line| line.contains("bob: line")).count();
    assert!(shown == 80 && screen.text().contains("── 80 new ──"), "{}", screen.text());
    leaves(view);
    waits_until_unread(&alice, 0);
    // More than anybody reads at once: the last ones are shown, and none counts as read before all were.
    let lines: String = (1..=700).map(|number| format!("more {number:03}.\n")).collect();
    bob.peer(["chat", "alice"]).stdin(&lines).run().exits(0);
    let mut view = alice.peer(["chat", "bob"]).in_terminal(100, 12);
    let screen = view.wait_for("700 unread, 200 of them not shown");
    assert!(screen.text().contains("more 201.") && !screen.text().contains("more 200."), "{}", screen.text());
    view.press("/history 190\r");
    view.wait_for("190 messages; /history goes further back");
    assert_eq!(unread(&alice), 700);
    view.press("/history 20\r");
    view.wait_for("more 001.");
    view.wait_for("20 messages; /history goes further back");
    leaves(view);
    waits_until_unread(&alice, 0);
}

#[test]
fn what_comes_while_one_looks_back_is_not_read() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, _his) = (alice.serve(), bob.serve());
    let lines: String = (1..=60).map(|number| format!("line {number:02}.\n")).collect();
    bob.peer(["chat", "alice"]).stdin(&lines).run().exits(0);
    let mut view = alice.peer(["ui"]).in_terminal(90, 14);
    view.wait_for("(60) bob");
    view.press("\r");
    view.wait_for("line 60.");
    view.press(PAGE_UP);
    view.wait_for("looking back");
    waits_until_unread(&alice, 0);
    bob.peer(["chat", "alice", "are you there?"]).run().exits(0);
    view.wait_for("↓ 1 new");
    assert_eq!(unread(&alice), 1);
    view.press(PAGE_DOWN);
    view.press(PAGE_DOWN);
    view.wait_for("bob: are you there?");
    view.wait_for_screen("nothing new", |screen| !screen.text().contains("1 new"));
    view.press(ESCAPE);
    view.wait_for("[People, you:");
    leaves(view);
    waits_until_unread(&alice, 0);
}

#[test]
fn a_hook_runs_once_for_each_message_whoever_has_the_node() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let heard = lab.join("heard");
    // Long enough to be cut off by a view that ends.
    let script = format!("sleep 0.3; printf '%s\\n' \"$VIZINHO_TEXT\" >> {}", heard.display());
    alice.accept(["bob"]);
    alice.peer(["notify", "--", "bash", "-c", &script]).run().exits(0);
    // The first has a node of its own, which the second uses.
    let open = || {
        let view = alice.peer(["chat", "bob"]).in_terminal(80, 12);
        view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
        view
    };
    let (first, second) = (open(), open());
    for text in ["one", "two"] {
        bob.peer(["chat", "alice", text]).run().exits(0);
        second.wait_for(&format!("bob: {text}"));
    }
    // A node that ends waits for hooks, but not for long: one at a time is to be under way then.
    let count = || std::fs::read_to_string(&heard).ok().filter(|lines| lines.lines().count() == 2).map(drop);
    poll_until(count, || "the hook is not run".to_owned());
    leaves(second);
    bob.peer(["chat", "alice", "three"]).run().exits(0);
    first.wait_for("bob: three");
    leaves(first);
    let mut lines: Vec<String> = std::fs::read_to_string(&heard).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["one", "three", "two"]);
}
