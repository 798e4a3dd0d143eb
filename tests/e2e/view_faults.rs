//! Views when something fails: the node, the tracker, the terminal, the view itself, or somebody who writes too much.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::files::{assert_content, names_in, noise};
use tests::hostile::{Caller, HostilePeer, Offer, Trick};
use tests::{Lab, Terminal};

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const CTRL_U: &str = "\u{15}";

/// Types letter after letter and tells how long the slowest took to be seen.
/// Presses the keys one by one; returns the time within which three of four of them were seen. Other tests run beside this
/// one, which make one or the other late.
fn usual_echo(view: &mut Terminal, letters: &str) -> Duration {
    let mut line = String::from("> ");
    let mut times: Vec<Duration> = letters
        .chars()
        .map(|letter| {
            let begun = Instant::now();
            line.push(letter);
            view.press(&letter.to_string());
            // In the full view other panes stand in the same row.
            view.wait_for_screen(&format!("{line:?}"), |screen| screen.cursor_line().contains(line.trim_end()));
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() * 3 / 4]
}

/// How a view ends: its name, and how that is done.
type Way = (&'static str, fn(Terminal));

#[test]
fn what_a_view_fetches_is_put_away_however_it_ends() {
    let lab = Lab::start();
    let content = noise(5, 20_000_000);
    let alice = lab.user("alice");
    let ways: [Way; 4] = [
        ("SIGHUP", |view| drop(view.hang_up())),
        ("SIGTERM", |view| {
            view.process().terminate();
            view.finish().0.exits(143);
        }),
        ("Ctrl-C", |mut view| {
            view.press(CTRL_C);
            view.wait_for("Ctrl-C again stops and leaves");
            view.press(CTRL_C);
            view.finish().0.exits(130);
        }),
        ("/quit", |mut view| {
            view.press("/quit\r");
            view.finish().0.exits(0);
        }),
    ];
    for (round, (name, end)) in ways.into_iter().enumerate() {
        let here = lab.empty_folder(format!("here{round}"));
        let user = format!("mallory{round}");
        let source = HostilePeer::join(&lab, &user, vec![Offer::new("film.mkv", content.clone())], Trick::Gate);
        let mut view = alice.peer(["chat", &user]).folder(&here).in_terminal(70, 12);
        view.wait_for("talking to mallory");
        view.press("/get film.mkv\r");
        source.wait_until_stalled(1);
        // All but the last group is here, and seen.
        view.wait_for("99%");
        let begun = Instant::now();
        end(view);
        assert!(begun.elapsed() < Duration::from_secs(6), "{name}: {:?}", begun.elapsed());
        assert!(!here.join("film.mkv").exists());
        source.open_gate();
        let again = alice.peer(["--json", "fetch", &user, "film.mkv", "-o"]).arg(&here).run();
        let resumed = again.exits(0).object("summary")["bytes_resumed"].as_u64().unwrap();
        assert_eq!(resumed, 19 << 20, "{name}");
        assert_content(here.join("film.mkv"), &content);
        assert_eq!(names_in(&here), ["film.mkv"]);
    }
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    // A tracker that hangs: a node of our own can't say goodbye.
    let mut view = alice.peer(["chat", "alice2"]).in_terminal(70, 12);
    view.wait_for("talking to alice2");
    let tracker = lab.take_tracker();
    tracker.freeze();
    view.press("something that waits\r");
    view.wait_for("you: something that waits");
    let begun = Instant::now();
    view.press(CTRL_C);
    view.press(CTRL_C);
    view.wait_until_cooked();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    view.finish().0.exits(130);
    tracker.thaw();
}

#[test]
fn a_view_that_panics_gives_the_terminal_back() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _his = bob.serve();
    for arguments in [&["chat", "bob"][..], &["ui"]] {
        let mut view = alice.peer(arguments).env("VIZINHO_TEST_PANIC", "boom").in_terminal(90, 14);
        let is_full = arguments == ["ui"];
        if is_full {
            view.wait_for("● bob");
            view.press("\r");
            view.wait_for("[bob online]");
        } else {
            view.wait_for("talking to bob");
        }
        assert!(!view.is_cooked() && view.screen().has_mode("2004") && view.screen().is_alternate() == is_full);
        view.press("boom\r");
        view.wait_for("this was asked for");
        view.wait_until_cooked();
        let (outcome, screen) = view.finish();
        outcome.exits(101);
        assert!(!screen.is_alternate() && !screen.has_mode("2004"), "{arguments:?}: {}", screen.text());
        // Where a terminal leaves its other screen twice, the cursor goes back over what was printed.
        let left = outcome.out().matches("\u{1b}[?1049l").count();
        assert_eq!(left, usize::from(is_full), "{arguments:?}");
        let shown = outcome.out().rfind("\u{1b}[?25h");
        assert!(shown > outcome.out().rfind("\u{1b}[?25l"), "{arguments:?}: the cursor can be seen");
    }
}

#[test]
fn no_key_is_late_and_nothing_lost_while_the_node_is_gone() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (hers, his) = (alice.serve(), bob.serve());
    let mut line = alice.peer(["chat", "bob"]).in_terminal(80, 16);
    line.wait_for("talking to bob");
    let mut full = alice.peer(["ui"]).in_terminal(90, 16);
    full.wait_for("● bob");
    full.press("\r");
    full.wait_for("[bob online]");
    line.press("before\r");
    his.wait_for("alice: before");
    // The tracker hangs as well, so that no other node can begin so soon.
    let tracker = lab.take_tracker();
    tracker.freeze();
    hers.kill();
    hers.finish().exits(137);
    for view in [&line, &full] {
        view.wait_for("the app that kept you online has ended");
    }
    for view in [&mut line, &mut full] {
        let usual = usual_echo(view, "while there is none");
        assert!(usual < Duration::from_millis(500), "{usual:?}");
    }
    line.press("\r");
    line.press("and another");
    line.wait_for_screen("an empty line", |screen| screen.cursor_line() == "> and another");
    full.press(CTRL_U);
    let asking = bob.peer(["chat", "alice", "are you there?"]).start();
    tracker.thaw();
    for view in [&line, &full] {
        view.wait_for("reconnected:");
        view.wait_for("bob: are you there?");
    }
    asking.finish();
    his.wait_for("alice: while there is none");
    bob.peer(["chat", "alice", "at last"]).run().exits(0);
    for view in [&line, &full] {
        let screen = view.wait_for("bob: at last");
        for text in ["you: before", "bob: are you there?", "you: while there is none", "bob: at last"] {
            assert_eq!(screen.text().matches(text).count(), 1, "{text}: {}", screen.text());
        }
    }
    line.press("\r");
    his.wait_for("alice: and another");
    assert_eq!(his.said().matches("while there is none").count(), 1);
    full.press(CTRL_D);
    full.finish().0.exits(0);
    line.press(CTRL_D);
    line.finish().0.exits(0);
}

#[test]
fn a_flood_makes_no_key_late() {
    let views = [(&["chat", "mallory"][..], "spam"), (&["ui"], "spam"), (&["chat", "bob"], "unread")];
    for (arguments, seen) in views {
        let lab = Lab::start();
        let (alice, bob) = (lab.user("alice"), lab.user("bob"));
        let (_his, hers) = (bob.serve(), alice.serve());
        let mut view = alice.peer(arguments).in_terminal(100, 20);
        view.wait_for(if arguments == ["ui"] { "● bob" } else { "talking to " });
        let mallory = Caller::dial(alice.node_address(), &Caller::register(&lab, "mallory"));
        mallory.hello("mallory");
        alice.accept(["mallory"]);
        let flood = mallory.flood(100_000, |number| {
            let text = format!("spam {number} {}", "x".repeat(150));
            json!({ "t": "message", "id": format!("{number:032x}"), "ts": 0, "text": text })
        });
        hers.wait_for("mallory: spam 1000 ");
        if arguments == ["ui"] {
            view.wait_for(") mallory");
            view.press("\u{1b}[B\r");
        }
        view.wait_for_screen(seen, |screen| screen.visible().contains(seen));
        let usual = usual_echo(&mut view, "no key is late here");
        println!("{arguments:?}: a key took {usual:?}");
        // Where nobody reads it, it ends at the inbox.
        assert!(arguments == ["chat", "bob"] || !flood.is_finished(), "the flood goes on");
        assert!(usual < Duration::from_millis(500), "{arguments:?}: {usual:?}");
        // The first one clears the line.
        view.press(CTRL_C);
        view.wait_for_screen("an empty line", |screen| !screen.cursor_line().contains("no key"));
        view.press(CTRL_C);
        view.finish().0.exits(130);
        hers.kill();
        flood.join().unwrap();
    }
}
