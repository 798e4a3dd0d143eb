//! The conversation in a terminal, as a person uses it.

use tests::files::assert_same;
use tests::{Lab, Process, Screen, Terminal, User};

const UP: &str = "\u{1b}[A";
const LEFT: &str = "\u{1b}[D";
const ALT_B: &str = "\u{1b}b";
const ALT_F: &str = "\u{1b}f";
const CTRL_A: &str = "\u{1}";
const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const CTRL_E: &str = "\u{5}";
const CTRL_K: &str = "\u{b}";
const CTRL_U: &str = "\u{15}";
const CTRL_W: &str = "\u{17}";
const CTRL_Z: &str = "\u{1a}";
/// Bracketed paste, as the terminal marks it.
const PASTE: &str = "\u{1b}[200~";
const PASTED: &str = "\u{1b}[201~";

/// Somebody's view of a conversation, with an empty line to write on.
fn view(user: &User<'_>, with: &str, columns: u16, rows: u16) -> Terminal {
    let view = user.peer(["chat", with]).in_terminal(columns, rows);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    view
}

fn waits_for_line(view: &Terminal, line: &str) -> Screen {
    view.wait_for_screen(&format!("{line:?} being written"), |screen| screen.cursor_line() == line)
}

fn leaves(mut view: Terminal) -> Screen {
    view.press(CTRL_D);
    let (outcome, screen) = view.finish();
    outcome.exits(0);
    screen
}

fn online_pair(lab: &Lab) -> (User<'_>, User<'_>, Process) {
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.serve();
    (alice, bob, node)
}

#[test]
fn the_line_is_edited_as_in_a_shell() {
    let lab = Lab::start();
    let (alice, _bob, node) = online_pair(&lab);
    let mut view = view(&alice, "bob", 60, 12);
    let mut write = |keys: &str, line: &str| {
        view.press(keys);
        waits_for_line(&view, line);
    };
    write("one two three", "> one two three");
    write(CTRL_W, "> one two");
    write(&format!("{ALT_B}{CTRL_K}"), "> one");
    write("four five", "> one four five");
    write(&format!("{CTRL_A}zero "), "> zero one four five");
    write(&format!("{ALT_F}{CTRL_U}"), ">  four five");
    write(&format!("{CTRL_E}{LEFT}{LEFT}\u{7f}"), ">  four fve");
    write(&format!("{CTRL_U}{CTRL_K}"), ">");
    view.press("日本語e\u{301}");
    let screen = waits_for_line(&view, "> 日本語e\u{301}");
    assert_eq!(screen.cursor_column(), 2 + 6 + 1);
    view.press(&format!("{LEFT}{LEFT}x\r"));
    node.wait_for("alice: 日本x語e\u{301}");
    waits_for_line(&view, ">");
    view.press(UP);
    waits_for_line(&view, "> 日本x語e\u{301}");
    view.press(CTRL_U);
    leaves(view);
}

#[test]
fn a_message_has_a_mark_that_changes_where_it_stands() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.serve();
    node.interrupt();
    node.finish().exits(130);
    let mut view = view(&alice, "bob", 60, 12);
    view.press("are you there?\r");
    let waiting =
        |screen: &Screen| screen.lines().iter().any(|line| line.starts_with('…') && line.ends_with("are you there?"));
    view.wait_for_screen("a message that waits", waiting);
    view.wait_for("bob offline · 1 queued");
    let node = bob.serve();
    node.wait_for("alice: are you there?");
    let screen = view.wait_for_screen("the same message, stored", |screen| {
        screen.lines().iter().any(|line| line.starts_with('✓') && line.ends_with("are you there?"))
    });
    assert_eq!(screen.text().matches("are you there?").count(), 1, "{}", screen.text());
    view.wait_for_screen("nothing waiting", |screen| !screen.text().contains("queued"));
    leaves(view);
}

#[test]
fn many_pasted_lines_are_not_sent_without_a_word() {
    let lab = Lab::start();
    let (alice, bob, node) = online_pair(&lab);
    bob.accept(["alice"]);
    let mut view = view(&alice, "bob", 70, 14);
    view.press(&format!("{PASTE}rm -rf x\rsudo reboot\r{PASTED}"));
    view.wait_for("2 lines pasted");
    view.press("\u{1b}");
    view.wait_for_screen("no question", |screen| !screen.text().contains("pasted"));
    view.press(&format!("{PASTE}first\rsecond\r{PASTED}"));
    view.wait_for("2 lines pasted");
    view.press("\r");
    node.wait_for("alice: first");
    node.wait_for("    second");
    assert!(!node.said().contains("reboot"), "{}", node.said());
    view.press(&format!("{PASTE}just one{PASTED}"));
    waits_for_line(&view, "> just one");
    view.press("\r");
    node.wait_for("alice: just one");
    leaves(view);
}

#[test]
fn another_size_in_the_middle() {
    let lab = Lab::start();
    let (alice, bob, node) = online_pair(&lab);
    let mut view = view(&alice, "bob", 80, 24);
    for number in 0..5 {
        bob.peer(["chat", "alice", &format!("line {number}")]).run().exits(0);
    }
    view.wait_for("bob: line 4");
    view.press("a line of some length that goes on");
    for (columns, rows) in [(40, 10), (20, 6), (120, 30), (20, 3), (33, 7)] {
        // Together with a key: neither may be lost.
        view.press("x\u{7f}");
        view.resize(columns, rows);
        let end = "goes on";
        view.wait_for_screen("the end of the line", |screen| {
            let line = screen.cursor_line();
            line.starts_with('>') && line.ends_with(end) && screen.cursor_column() < usize::from(columns)
        });
        let word = format!("at {columns}x{rows}");
        bob.peer(["chat", "alice", &word]).run().exits(0);
        let joined = |screen: &Screen| screen.text().split_whitespace().collect::<Vec<_>>().join(" ");
        let screen = view.wait_for_screen(&word, |screen| joined(screen).contains(&word));
        assert!(screen.cursor_line().ends_with(end), "{}", screen.visible());
        assert_eq!(screen.visible().matches("goes on").count(), 1, "drawn once: {}", screen.visible());
    }
    view.press("\r");
    node.wait_for("alice: a line of some length that goes on");
    leaves(view);
}

#[test]
fn twenty_columns_are_enough() {
    let lab = Lab::start();
    let (alice, bob, node) = online_pair(&lab);
    let mut view = view(&alice, "bob", 20, 10);
    view.press("a message that is longer than the terminal is wide\r");
    node.wait_for("alice: a message that is longer");
    bob.peer(["chat", "alice", "and an answer that has to be wrapped as well, 日本語日本語日本語日本語"])
        .run()
        .exits(0);
    view.wait_for("well,");
    view.press("/help\r");
    view.wait_for("/quit");
    let screen = view.wait_for("● bob");
    assert!(screen.lines().iter().all(|line| line.chars().count() <= 20), "{}", screen.text());
    leaves(view);
}

#[test]
fn what_was_said_is_the_terminals_own() {
    let lab = Lab::start();
    let (alice, bob, _node) = online_pair(&lab);
    let view = view(&alice, "bob", 60, 8);
    let lines: String = (0..40).map(|number| format!("line {number:02}.\n")).collect();
    bob.peer(["chat", "alice"]).stdin(&lines).run().exits(0);
    let screen = view.wait_for("bob: line 39.");
    let said: Vec<String> = screen.lines().into_iter().filter(|line| line.contains("bob: line")).collect();
    let numbers: Vec<&str> = said.iter().filter_map(|line| line.split("line ").nth(1)).collect();
    let wanted: Vec<String> = (0..40).map(|number| format!("{number:02}.")).collect();
    assert_eq!(numbers, wanted, "each once and in order, in the scrollback too: {}", screen.text());
    assert!(!screen.is_alternate());
    let screen = leaves(view);
    assert!(screen.text().contains("bob: line 00."), "it stays: {}", screen.text());
    assert!(!screen.text().contains("bob online"), "the status goes: {}", screen.visible());
}

#[test]
fn the_terminal_is_given_back() {
    let lab = Lab::start();
    let (alice, _bob, _node) = online_pair(&lab);
    for (keys, code) in [(CTRL_C, 130), (CTRL_D, 0), ("/quit\r", 0)] {
        let mut view = view(&alice, "bob", 60, 8);
        assert!(!view.is_cooked() && view.screen().has_mode("2004"));
        view.press(keys);
        view.wait_until_cooked();
        view.wait_for_screen("no bracketed paste", |screen| !screen.has_mode("2004"));
        let (outcome, _) = view.finish();
        outcome.exits(code);
    }
    let view = view(&alice, "bob", 60, 8);
    view.process().terminate();
    view.wait_until_cooked();
    view.finish().0.exits(143);
}

#[test]
fn ctrl_z_goes_to_the_shell_and_fg_comes_back() {
    let lab = Lab::start();
    let (alice, bob, node) = online_pair(&lab);
    let _hers = alice.serve();
    // A shell with job control, that says what it sees.
    let script = r#"set -m; "$@"; echo "stopped, $(stty -a | grep -o ' icanon')"; read -r word; echo "read $word"; fg"#;
    let mut view = alice.peer(["chat", "bob"]).through_shell(script).in_terminal(60, 16);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    view.press("half a thou");
    waits_for_line(&view, "> half a thou");
    view.press(CTRL_Z);
    view.wait_for("stopped,  icanon");
    let away = bob.peer(["chat", "alice", "while you were away"]).start();
    view.press("something\r");
    view.wait_for("read something");
    waits_for_line(&view, "> half a thou");
    view.wait_for("bob: while you were away");
    away.finish().exits(0);
    view.press("ght\r");
    node.wait_for("alice: half a thought");
    leaves(view);
}

#[test]
fn commands_do_what_they_say() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("report.pdf", 30_000), lab.file("film one.mkv", 3_000_000)]);
    let node = bob.serve();
    let here = lab.empty_folder("here");
    let mut view = alice.peer(["chat", "bob"]).folder(&here).in_terminal(78, 24);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    view.press("/files\r");
    view.wait_for("film one.mkv");
    view.press("/get 2\r/get film one.mkv\r");
    view.wait_for("./film one.mkv");
    view.wait_for("./report.pdf");
    for name in ["report.pdf", "film one.mkv"] {
        assert_same(here.join(name), lab.join(name));
    }
    view.press("/get nothing.zip\r");
    view.wait_for("bob doesn't share nothing.zip");
    view.press("/who\r");
    view.wait_for("● bob online");
    view.press("/nosuch thing\r");
    view.wait_for("there is no /nosuch");
    view.press("//etc/hosts is a path\r");
    node.wait_for("alice: /etc/hosts is a path");
    assert!(!node.said().contains("nosuch"));
    view.press("/search HOSTS\r");
    view.wait_for("found: HOSTS");
    leaves(view);
}

#[test]
fn a_file_is_offered_in_the_talk_and_fetched_there() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    let file = lab.file("the menu.pdf", 200_000);
    let (alices, bobs) = (lab.empty_folder("of alice"), lab.empty_folder("of bob"));
    let mut hers = alice.peer(["chat", "bob"]).folder(&alices).in_terminal(78, 16);
    let mut his = bob.peer(["chat", "alice"]).folder(&bobs).in_terminal(78, 16);
    for view in [&hers, &his] {
        view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    }
    hers.press("/offer ../the\\ menu.pdf\r");
    hers.wait_for_screen("the offer, stored", |screen| {
        screen.lines().iter().any(|line| line.starts_with('✓') && line.contains("the menu.pdf"))
    });
    his.wait_for("/get 1 fetches the menu.pdf");
    his.press("/get\r");
    his.wait_for("./the menu.pdf");
    assert_same(bobs.join("the menu.pdf"), &file);
    carol.fetch("alice", ["the menu.pdf"], &lab.empty_folder("of carol")).run().exits(5);
    hers.press("/offer nothing.pdf\r");
    hers.wait_for("nothing.pdf: no such file");
    leaves(hers);
    leaves(his);
}

#[test]
fn tab_completes_commands_names_and_paths() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("report.pdf", 300), lab.file("readme.txt", 300)]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    tests::files::write(here.join("my notes.txt"), "x");
    tests::files::write(here.join("folder/inner"), "x");
    let mut view = alice.peer(["chat", "bob"]).folder(&here).in_terminal(70, 14);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    view.press("/g\t");
    waits_for_line(&view, "> /get");
    view.press("re\t");
    view.wait_for("readme.txt  report.pdf");
    view.press("p\t");
    waits_for_line(&view, "> /get report.pdf");
    view.press(&format!("{CTRL_U}/offer m\t"));
    waits_for_line(&view, "> /offer my\\ notes.txt");
    view.press("fo\t");
    waits_for_line(&view, "> /offer my\\ notes.txt folder/");
    view.press(CTRL_U);
    leaves(view);
}

#[test]
fn no_key_is_late_while_a_file_comes() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("film.mkv", 60_000_000)]);
    let node = bob.peer(["serve", "--limit", "10M"]).start();
    node.wait_for("online as bob");
    let here = lab.empty_folder("here");
    let mut view = alice.peer(["chat", "bob"]).folder(&here).in_terminal(78, 14);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    view.press("/get film.mkv\r");
    view.wait_for_screen("a bar", |screen| screen.text().contains("film.mkv from bob"));
    let mut times = Vec::new();
    let mut line = String::from(">");
    for word in ["while", "it", "comes", "we", "talk"] {
        line.push(' ');
        line.push_str(word);
        let begun = std::time::Instant::now();
        view.press(&format!("{}{word}", if line.len() > 2 + word.len() { " " } else { "" }));
        waits_for_line(&view, &line);
        times.push(begun.elapsed());
    }
    assert!(view.screen().text().contains("film.mkv from bob"), "it still comes: {}", view.screen().text());
    // Other tests run beside this one: half of the words may be late by that.
    times.sort();
    assert!(times[times.len() / 2] < std::time::Duration::from_millis(500), "{times:?}");
    view.press("\r");
    node.wait_for("alice: while it comes we talk");
    view.wait_for("./film.mkv");
    assert_same(here.join("film.mkv"), lab.join("film.mkv"));
    leaves(view);
}

#[test]
fn two_views_of_one_conversation_show_the_same() {
    let lab = Lab::start();
    let (alice, bob, his) = online_pair(&lab);
    let _hers = alice.serve();
    let (mut one, other) = (view(&alice, "bob", 60, 12), view(&alice, "bob", 60, 12));
    one.press("from the first\r");
    his.wait_for("alice: from the first");
    bob.peer(["chat", "alice", "to both"]).run().exits(0);
    for view in [&one, &other] {
        let screen = view.wait_for_screen("both messages, stored", |screen| {
            screen.text().contains("bob: to both") && screen.lines().iter().any(|line| line.starts_with('✓'))
        });
        assert_eq!(screen.text().matches("you: from the first").count(), 1, "{}", screen.text());
        assert_eq!(screen.text().matches("bob: to both").count(), 1, "{}", screen.text());
    }
    leaves(one);
    leaves(other);
}

#[test]
fn what_one_view_sends_the_other_shows_whoever_has_the_node() {
    let lab = Lab::start();
    let (alice, _bob, his) = online_pair(&lab);
    // The first has a node of its own, which the second uses.
    let mut one = view(&alice, "bob", 60, 12);
    let mut other = view(&alice, "bob", 60, 12);
    one.press("said in the first\r");
    other.wait_for("you: said in the first");
    other.press("said in the second\r");
    for text in ["said in the first", "said in the second"] {
        his.wait_for(&format!("alice: {text}"));
        for view in [&one, &other] {
            let screen = view.wait_for_screen(text, |screen| {
                screen.lines().iter().any(|line| line.starts_with('✓') && line.ends_with(text))
            });
            assert_eq!(screen.text().matches(text).count(), 1, "{}", screen.text());
        }
    }
    leaves(other);
    leaves(one);
}

#[test]
fn a_terminal_that_vanishes_ends_the_view_and_its_node() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let his = bob.serve();
    let mut view = view(&alice, "bob", 60, 12);
    view.press("before the end\r");
    his.wait_for("alice: before the end");
    view.press("half a line");
    waits_for_line(&view, "> half a line");
    // An own node says goodbye: bob hears it at once, not when it is missed.
    let gone = his.said().matches("alice went offline").count();
    let outcome = view.hang_up();
    // Ended by itself, whether it heard of it or failed to write; neither the signal's end nor a panic.
    assert!([1, 129, 130].contains(&outcome.code), "{outcome}");
    his.wait_for_nth("alice went offline", gone + 1);
    // Nothing is left that has the profile, and nothing is lost.
    let hers = alice.serve();
    bob.peer(["chat", "alice", "are you back?"]).run().exits(0);
    hers.wait_for("bob: are you back?");
    let said = alice.peer(["history", "bob"]).run();
    said.exits(0).prints("before the end").prints("are you back?");
    assert!(alice.peer(["outbox"]).run().exits(0).out().is_empty());
}

#[test]
fn somebody_is_ignored_and_heard_again() {
    let lab = Lab::start();
    let (alice, bob, _node) = online_pair(&lab);
    let mut view = view(&alice, "bob", 78, 16);
    view.press("/ignore\r");
    view.wait_for("/unignore undoes it");
    view.wait_for("bob online · ignored");
    let refused = bob.peer(["chat", "alice", "can you hear me?"]).run();
    assert_ne!(refused.code, 0, "{refused}");
    refused.says("refused");
    view.press("/unignore\r");
    view.wait_for("bob is no longer ignored");
    bob.peer(["chat", "alice", "and now?"]).run().exits(0);
    let screen = view.wait_for("bob: and now?");
    assert!(!screen.text().contains("can you hear me?"), "{}", screen.text());
    leaves(view);
}

#[test]
fn it_works_without_colour_and_without_unicode() {
    let lab = Lab::start();
    let (alice, _bob, node) = online_pair(&lab);
    let mut view = alice.peer(["chat", "bob"]).env("NO_COLOR", "1").env("LANG", "C").in_terminal(60, 12);
    view.wait_for("* bob online");
    view.press("plain\r");
    node.wait_for("alice: plain");
    view.wait_for_screen("a mark in ASCII", |screen| {
        screen.lines().iter().any(|line| line.starts_with('+') && line.ends_with("you: plain"))
    });
    let said = view.process().said();
    for color in ["\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[38;5;", "\u{1b}[1m", "\u{1b}[2m", "\u{1b}[7m"] {
        assert!(!said.contains(color), "{color:?}");
    }
    assert!(view.screen().text().is_ascii(), "{}", view.screen().text());
    leaves(view);
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let lab = Lab::start();
    let (alice, bob, node) = online_pair(&lab);
    let mut chat = alice.peer(["chat", "bob"]).env("TERM", "dumb").in_terminal(60, 12);
    chat.press("plain words\n");
    node.wait_for("alice: plain words");
    bob.peer(["chat", "alice", "an answer"]).run().exits(0);
    chat.wait_for("an answer");
    chat.press(CTRL_D);
    let (outcome, _) = chat.finish();
    assert!(!outcome.exits(0).out().contains('\u{1b}'), "{outcome}");
}
