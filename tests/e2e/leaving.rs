//! What a view says when it is left in the middle of something, and what can be stopped without leaving it.

use tests::{Lab, Process, Terminal, User};

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";

/// Somebody who gives a film away, slowly.
fn slow_node(lab: &Lab, bob: &User<'_>) -> Process {
    bob.share([lab.file("a film.mkv", 60_000_000)]);
    let node = bob.peer(["serve", "--limit", "4M"]).start();
    node.wait_for("online as bob");
    node
}

fn fetching(lab: &Lab, alice: &User<'_>, folder: &str) -> Terminal {
    let mut view = alice.peer(["chat", "bob"]).folder(lab.empty_folder(folder)).in_terminal(100, 14);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    view.press("/get a film.mkv\r");
    view.wait_for_screen("some of it", |screen| {
        let percent = |line: &str| line.split('%').next()?.rsplit(' ').next()?.parse::<u32>().ok();
        let bar = screen.lines().into_iter().find(|line| line.contains("a film.mkv from bob"));
        bar.is_some_and(|bar| percent(&bar).is_some_and(|percent| percent > 0))
    });
    view
}

#[test]
fn leaving_says_what_is_kept_of_a_fetch() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _node = slow_node(&lab, &bob);
    let ways =
        [("/quit\r", 0, "quit", None), (CTRL_D, 0, "left", Some("Ctrl-D")), (CTRL_C, 130, "off", Some("Ctrl-C"))];
    for (keys, code, folder, key) in ways {
        let mut view = fetching(&lab, &alice, folder);
        view.press(keys);
        if let Some(key) = key {
            view.wait_for(&format!("{key} again stops and leaves"));
            view.press(keys);
        }
        let (outcome, screen) = view.finish();
        outcome.exits(code);
        let text = screen.text();
        assert!(text.contains("% kept; `peer fetch bob 'a film.mkv'` resumes it"), "{text}");
        let parts = tests::files::names_in(lab.join(folder));
        assert!(parts.iter().any(|name| name.starts_with(".a film.mkv.")), "{parts:?}");
    }
}

#[test]
fn a_fetch_is_stopped_without_leaving() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _node = slow_node(&lab, &bob);
    let mut view = fetching(&lab, &alice, "here");
    view.press("/stop film\r");
    view.wait_for("film is not being downloaded here");
    view.press("/stop\r");
    view.wait_for("% kept; /get a film.mkv resumes it");
    view.wait_for_screen("no bar", |screen| !screen.visible().contains("a film.mkv from bob"));
    view.press("/stop\r");
    view.wait_for("nothing is being downloaded from bob here");
    view.press("/get a film.mkv\r");
    view.wait_for("a film.mkv from bob");
    view.press("/quit\r");
    view.finish().0.exits(0);
}

#[test]
fn a_name_that_nobody_has_is_told_at_once() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.serve();
    let mut view = alice.peer(["chat", "bbo"]).in_terminal(80, 12);
    view.wait_for("there is no user \"bbo\"; did you mean bob?");
    view.wait_for("unknown user");
    view.press(CTRL_D);
    view.finish().0.exits(0);
    node.interrupt();
    node.finish().exits(130);
    // Never met, and away: not the same.
    let mut view = alice.peer(["chat", "bob"]).in_terminal(80, 12);
    let screen = view.wait_for("bob offline");
    assert!(!screen.text().contains("there is no user"), "{}", screen.text());
    view.press(CTRL_D);
    view.finish().0.exits(0);
}

#[test]
fn what_waits_from_before_is_told_again() {
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), lab.user("bob"));
    alice.peer(["chat", "bob", "one"]).run().exits(0);
    let mut view = alice.peer(["chat", "bob"]).in_terminal(100, 12);
    view.wait_for("1 queued");
    view.press(CTRL_D);
    let (outcome, screen) = view.finish();
    outcome.exits(0);
    assert!(screen.text().contains("1 message for bob is queued: it is sent while `peer serve`"), "{}", screen.text());
}

#[test]
fn what_is_hashed_is_seen_and_an_offer_is_not_dropped_without_a_word() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _node = bob.serve();
    // Nothing but a hole: it takes no room, and time to be hashed.
    std::fs::File::create(lab.join("huge.img")).unwrap().set_len(1 << 37).unwrap();
    let mut view = alice.peer(["chat", "bob"]).folder(lab.path()).in_terminal(100, 12);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    view.press("/offer huge.img\r");
    view.wait_for("hashing huge.img for bob");
    view.press(CTRL_D);
    view.wait_for("a file is being hashed to be offered: Ctrl-D again");
    view.press(CTRL_D);
    let (outcome, screen) = view.finish();
    outcome.exits(0);
    assert!(screen.text().contains("not offered, it was still being hashed: huge.img"), "{}", screen.text());
    assert!(alice.peer(["offer"]).run().exits(0).out().is_empty());
}

#[test]
fn a_folder_is_not_offered_and_it_is_said_why() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _node = bob.serve();
    lab.file("docs/a.pdf", 10);
    let mut view = alice.peer(["chat", "bob"]).folder(lab.path()).in_terminal(100, 12);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    view.press("/offer docs\r");
    view.wait_for("folders can't be offered yet");
    view.press("/files\r/get 1\r");
    view.wait_for("bob shares nothing");
    view.wait_for("bob doesn't share 1");
    view.press(CTRL_D);
    view.finish().0.exits(0);
}

#[test]
fn plain_lines_ask_before_a_fetch_is_given_up() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("big.bin", 48_000_000)]);
    let node = bob.peer(["serve", "--limit", "4M"]).start();
    node.wait_for("online as bob");
    let here = lab.empty_folder("here");
    let mut talk = alice.peer(["--plain", "chat", "bob"]).folder(&here).in_terminal(100, 30);
    talk.wait_for("talking to bob");
    talk.press("/get big.bin\n");
    talk.wait_for("25 % of ");
    talk.press(CTRL_C);
    talk.wait_for("a download is running: Ctrl-C again stops and leaves");
    talk.press("still here\n");
    node.wait_for("alice: still here");
    talk.press(CTRL_C);
    talk.wait_for_screen("the question again", |screen| screen.text().matches("Ctrl-C again stops").count() == 2);
    talk.press(CTRL_C);
    let (outcome, screen) = talk.finish();
    outcome.exits(130);
    assert!(screen.text().contains("`peer fetch bob big.bin` resumes it"), "{}", screen.text());
    // With nothing under way there is nothing to ask.
    let mut talk = alice.peer(["--plain", "chat", "bob"]).in_terminal(100, 30);
    talk.wait_for("talking to bob");
    talk.press(CTRL_C);
    talk.finish().0.exits(130);
}

#[test]
fn the_end_of_plain_lines_waits_for_messages_and_is_no_interrupt() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.serve();
    let mut talk = alice.peer(["--plain", "chat", "bob"]).in_terminal(100, 30);
    talk.wait_for("talking to bob");
    talk.press("first\n");
    node.wait_for("alice: first");
    // Nobody acknowledges the second one, so that the view waits for it before it leaves.
    node.freeze();
    talk.press("second\n");
    talk.press(CTRL_D);
    let (outcome, screen) = talk.finish();
    node.thaw();
    outcome.exits(0);
    // The first one's acknowledgement may be frozen as well.
    let said = screen.text();
    assert!(said.contains("for bob is queued: ") || said.contains("for bob are queued: "), "{said}");
}

#[test]
fn who_fetches_from_a_view_is_named_before_that_is_left() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    alice.share([lab.file("big.bin", 60_000_000)]);
    for (arguments, keys, name) in [(&["chat", "bob"][..], CTRL_D, "Ctrl-D"), (&["ui"], CTRL_C, "Ctrl-C")] {
        let mut view = alice.peer(arguments).in_terminal(120, 16);
        view.wait_for(if arguments == ["ui"] { "People" } else { "talking to bob" });
        let fetch = bob
            .peer(["--json", "fetch", "alice", "big.bin", "--limit", "4M", "-o"])
            .arg(lab.empty_folder(name))
            .start();
        tests::progress::wait_for_bytes(&fetch, 1);
        view.wait_for_screen("the upload", |screen| screen.text().contains("big.bin"));
        view.press(keys);
        view.wait_for(&format!("bob is fetching big.bin from you: {name} again stops and leaves"));
        view.press(keys);
        view.finish().0.exits(if keys == CTRL_D { 0 } else { 130 });
        fetch.interrupt();
        fetch.finish();
    }
}
