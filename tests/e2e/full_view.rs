//! Everybody, conversations, files and transfers in one view, as a person uses it.

use tests::files::assert_same;
use tests::{Lab, Screen, Terminal, User};

const ENTER: &str = "\r";
const TAB: &str = "\t";
const ESCAPE: &str = "\u{1b}";
const DOWN: &str = "\u{1b}[B";
const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const CTRL_Z: &str = "\u{1a}";

fn open(user: &User<'_>, columns: u16, rows: u16) -> Terminal {
    let view = user.peer(["ui"]).in_terminal(columns, rows);
    view.wait_for_screen("the people", |screen| screen.is_alternate() && screen.visible().contains("[People, you:"));
    view
}

/// Waits until a line of the screen has both texts.
fn waits_for_row(view: &Terminal, one: &str, other: &str) -> Screen {
    view.wait_for_screen(&format!("{one:?} and {other:?} in one row"), |screen| {
        screen.visible().lines().any(|line| line.contains(one) && line.contains(other))
    })
}

#[test]
fn people_messages_files_and_transfers_are_there() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    bob.share([lab.file("report.pdf", 30_000), lab.file("film.mkv", 3_000_000)]);
    let (his, hers) = (bob.serve(), carol.serve());
    let here = lab.empty_folder("here");
    let mut view = alice.peer(["ui"]).folder(&here).in_terminal(120, 20);
    view.wait_for("● bob");
    view.wait_for("● carol");
    view.wait_for("film.mkv");
    carol.peer(["chat", "alice", "psst"]).run().exits(0);
    view.wait_for("(1) carol");
    view.press(DOWN);
    view.wait_for("carol: psst");
    view.press(ENTER);
    view.wait_for_screen("nothing unread", |screen| !screen.visible().contains("(1)"));
    view.press("what is it?\r");
    hers.wait_for("alice: what is it?");
    waits_for_row(&view, "✓", "you: what is it?");
    // Back to bob, and to his files.
    view.press(ESCAPE);
    view.wait_for("[People, you: alice]");
    view.press("\u{1b}[A");
    view.wait_for("bob online");
    view.press(TAB);
    view.wait_for("[bob online]");
    view.press(TAB);
    view.wait_for("[bob's files]");
    view.press(ENTER);
    view.wait_for("film.mkv: 3.00 MB fetched and verified");
    assert_same(here.join("film.mkv"), lab.join("film.mkv"));
    hers.interrupt();
    hers.finish().exits(130);
    view.wait_for("○ carol");
    view.press(CTRL_D);
    let (outcome, screen) = view.finish();
    outcome.exits(0);
    let rest = screen.text();
    let is_bare = rest.trim() == "alice is offline now: `peer serve` stays online";
    assert!(!screen.is_alternate() && is_bare, "nothing of it stays: {rest}");
    his.wait_for("alice went offline");
}

#[test]
fn peer_alone_is_the_view_in_a_terminal_and_help_without() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let mut view = alice.peer([""; 0]).in_terminal(80, 12);
    view.wait_for("[People, you: alice]");
    view.press("?");
    view.wait_for("the next pane");
    view.press("x");
    view.wait_for("[People, you: alice]");
    view.press(CTRL_D);
    view.finish().0.exits(0);
    alice.peer([""; 0]).run().exits(2).says("Usage: peer");
    alice.peer(["ui"]).run().exits(2).says("needs a terminal");
    alice.peer(["ui"]).env("TERM", "dumb").in_terminal(80, 12).finish().0.exits(2);
    let nobody = lab.stranger("nobody").peer([""; 0]).in_terminal(80, 12);
    let (outcome, screen) = nobody.finish();
    outcome.exits(3);
    assert!(screen.text().contains("not logged in"), "{}", screen.text());
}

#[test]
fn it_fits_any_size_and_comes_back_from_the_shell() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.serve();
    bob.peer(["chat", "alice", "hi"]).run().exits(0);
    let _hers = alice.serve();
    let script = r#"set -m; "$@"; echo "stopped, $(stty -a | grep -o ' icanon')"; read -r word; fg"#;
    let mut view = alice.peer(["ui"]).through_shell(script).in_terminal(100, 16);
    // Before his message came, or with it.
    view.wait_for_screen("bob", |screen| screen.text().contains("● bob") || screen.text().contains("● (1) bob"));
    view.press(ENTER);
    view.wait_for("[bob online]");
    view.press("half a thought");
    for (columns, rows) in [(20, 8), (40, 3), (60, 30), (20, 5), (130, 12)] {
        view.resize(columns, rows);
        let last_column = usize::from(columns) - 1;
        view.wait_for_screen("the end of the line", |screen| {
            screen.cursor_line().contains("thought") && screen.cursor_column() <= last_column
        });
    }
    view.press(CTRL_Z);
    view.wait_for_screen("the shell", |screen| !screen.is_alternate() && screen.text().contains("stopped,  icanon"));
    view.press("on\r");
    view.wait_for_screen("the view again", |screen| {
        screen.is_alternate() && screen.visible().contains("> half a thought")
    });
    view.press(ENTER);
    node.wait_for("alice: half a thought");
    view.press(CTRL_C);
    let (_, screen) = view.finish();
    assert!(!screen.is_alternate() && !screen.has_mode("2004"));
}

#[test]
fn both_views_at_once_show_the_same() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let his = bob.serve();
    let _hers = alice.serve();
    let mut line = alice.peer(["chat", "bob"]).in_terminal(70, 12);
    line.wait_for("talking to bob");
    let mut full = open(&alice, 90, 14);
    full.wait_for("● bob");
    full.press(ENTER);
    full.wait_for("[bob online]");
    line.press("from the line\r");
    waits_for_row(&full, "✓", "you: from the line");
    full.press("from the full\r");
    his.wait_for("alice: from the full");
    waits_for_row(&line, "✓", "you: from the full");
    bob.peer(["chat", "alice", "to both"]).run().exits(0);
    for view in [&line, &full] {
        let screen = view.wait_for("bob: to both");
        assert_eq!(screen.text().matches("you: from the").count(), 2, "{}", screen.text());
    }
    full.press(CTRL_D);
    full.finish().0.exits(0);
    line.press(CTRL_D);
    line.finish().0.exits(0);
}
