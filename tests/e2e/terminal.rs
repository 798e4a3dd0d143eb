//! What a person sees in a terminal, and what is left of it in a pipe.

use tests::files::{assert_content, names_in, noise};
use tests::hostile::{HostilePeer, Offer, Trick};
use tests::{Lab, Screen, Terminal};

const NAMES: [&str; 2] = ["film.mkv", "a long name of a song that is long.flac"];

/// A fetch of two files that is held before its end.
fn held_fetch(lab: &Lab, columns: u16) -> (Terminal, HostilePeer) {
    let offers = NAMES.map(|name| Offer::new(name, noise(name.len() as u64, 20_000_000)));
    let source = HostilePeer::join(lab, "mallory", offers.to_vec(), Trick::Gate);
    let alice = lab.user("alice");
    let here = lab.empty_folder("here");
    let fetch = alice.fetch("mallory", NAMES, &here);
    let terminal = fetch.in_terminal(columns, 24);
    source.wait_until_stalled(1);
    (terminal, source)
}

fn is_bar(line: &str) -> bool {
    ["film.mkv ", "a long n", "total, "].iter().any(|prefix| line.starts_with(prefix)) && line.contains('%')
}

/// One file is here, of the other one the last group is missing.
fn is_held(screen: &Screen) -> bool {
    let bars: Vec<String> = screen.lines().into_iter().filter(|line| is_bar(line)).collect();
    bars.len() == 2 && bars.iter().all(|bar| bar.contains("9%"))
}

#[test]
fn there_is_a_bar_for_each_file_that_comes_and_a_total() {
    let lab = Lab::start();
    let (terminal, source) = held_fetch(&lab, 80);
    let screen = terminal.wait_for_screen("two bars", is_held);
    for text in ["film.mkv (20.0 MB)", "a long name of a", "long.flac ", "total, 1 of 2 files"] {
        assert!(screen.text().contains(text), "{text}: {}", screen.text());
    }
    source.open_gate();
    let (outcome, screen) = terminal.finish();
    outcome.exits(0);
    assert!(screen.text().contains("2 files fetched and verified, 40.0 MB"), "{}", screen.text());
    assert_eq!(names_in(lab.join("here")).len(), 2);
}

#[test]
fn bars_survive_a_terminal_of_twenty_columns() {
    for columns in [20, 21, 40, 60, 90, 200] {
        let lab = Lab::start();
        let (terminal, source) = held_fetch(&lab, columns);
        let screen = terminal.wait_for_screen("two bars", is_held);
        let widest = screen.lines().iter().filter(|line| is_bar(line)).map(|line| line.chars().count()).max();
        assert!(widest.is_some_and(|widest| widest <= usize::from(columns)), "{columns}: {}", screen.text());
        source.open_gate();
        let (outcome, _) = terminal.finish();
        outcome.exits(0);
    }
}

#[test]
fn bars_follow_the_terminals_width() {
    let lab = Lab::start();
    let offers = NAMES.map(|name| Offer::new(name, noise(name.len() as u64, 20_000_000)));
    let source = HostilePeer::join(&lab, "mallory", offers.to_vec(), Trick::Gate);
    let (alice, here) = (lab.user("alice"), lab.empty_folder("here"));
    // The screen here cuts rows off, as xterm does.
    let terminal = alice.fetch("mallory", NAMES, &here).env("XTERM_VERSION", "XTerm(390)").in_terminal(100, 24);
    source.wait_until_stalled(1);
    terminal.wait_for_screen("two bars", is_held);
    for columns in [40, 90, 25, 60] {
        // What was drawn for the width before is to be on the screen before that is another: nothing tells when it is.
        terminal.process().freeze();
        std::thread::sleep(std::time::Duration::from_millis(100));
        terminal.resize(columns, 24);
        terminal.process().thaw();
        terminal.wait_for_screen("two bars of that width", |screen| {
            let widths: Vec<usize> =
                screen.lines().iter().filter(|line| is_bar(line)).map(|line| line.chars().count()).collect();
            let bounds = usize::from(columns) * 2 / 3..=usize::from(columns);
            is_held(screen) && widths.iter().all(|width| bounds.contains(width))
        });
        let screen = terminal.screen();
        assert!(screen.text().contains("first contact with mall"), "what was told stays: {}", screen.text());
    }
    source.open_gate();
    let (outcome, screen) = terminal.finish();
    outcome.exits(0);
    assert!(!screen.lines().iter().any(|line| is_bar(line)), "{}", screen.text());
}

#[test]
fn of_many_files_those_that_come_have_bars_and_those_that_are_here_lines() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let names: Vec<String> = (1..=14).map(|number| format!("number {number:02}.bin")).collect();
    bob.share(names.iter().map(|name| lab.file(name, 1_000_000)));
    let node = bob.peer(["serve", "--limit", "5M"]).start();
    node.wait_for("online as bob");
    let here = lab.empty_folder("here");
    let fetch = alice.fetch("bob", names.iter().map(String::as_str), &here).in_terminal(80, 24);
    let is_line = |line: &String| line.contains("number") && line.ends_with("(1.00 MB)");
    let is_bar = |line: &String| line.contains("number") && line.contains('%');
    fetch.wait_for_screen("a bar of the last one, and lines above it", |screen| {
        let lines = screen.lines();
        lines.iter().any(|line| is_bar(line) && line.contains("number 14")) && lines.iter().any(is_line)
    });
    let screen = fetch.screen();
    assert!(screen.lines().iter().filter(|line| is_bar(line)).count() <= 8, "{}", screen.text());
    let (outcome, screen) = fetch.finish();
    outcome.exits(0);
    let lines = screen.lines();
    assert_eq!(lines.iter().filter(|line| is_line(line)).count(), 14, "{}", screen.text());
    assert!(!lines.iter().any(is_bar), "{}", screen.text());
    assert!(screen.text().contains("14 files fetched and verified, 14.0 MB"), "{}", screen.text());
}

#[test]
fn plain_lines_tell_progress_in_steps_and_everything_once() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("film.mkv", 8_000_000)]);
    let node = bob.peer(["serve", "--limit", "4M"]).start();
    node.wait_for("online as bob");
    for (number, (name, value)) in [("TERM", "dumb"), ("ACCESSIBLE", "1"), ("COLUMNS", "80")].into_iter().enumerate() {
        let here = lab.empty_folder(format!("here{number}"));
        let plain: &[&str] = if name == "COLUMNS" { &["--plain"] } else { &[] };
        let fetch = alice.peer(plain).args(["fetch", "bob", "film.mkv", "-o"]).arg(&here).env(name, value);
        let (outcome, screen) = fetch.in_terminal(80, 24).finish();
        // Colour is no picture that is drawn again.
        assert!(!outcome.exits(0).out().replace("\u{1b}[", "").contains('\u{1b}'), "{outcome}");
        let count = |line: &str| screen.text().matches(line).count();
        for line in ["film.mkv (8.00 MB)", "1 file fetched and verified"] {
            assert_eq!(count(line), 1, "{name} {line}: {}", screen.text());
        }
        // Of steps that were passed at once, the last one is told.
        let steps = ["25 %: ", "50 %: ", "75 %: "].map(count);
        assert!(steps.iter().all(|told| *told <= 1) && steps.contains(&1), "{name} {steps:?}: {}", screen.text());
    }
    let mut talk = alice.peer(["--plain", "chat", "bob"]).in_terminal(80, 24);
    talk.wait_for("talking to bob; /help shows what there is");
    talk.press("said plainly\r");
    node.wait_for("alice: said plainly");
    bob.peer(["chat", "alice", "heard plainly"]).run().exits(0);
    talk.wait_for("heard plainly");
    talk.press("\u{4}");
    let (outcome, screen) = talk.finish();
    assert!(!outcome.exits(0).out().contains('\u{1b}'), "{outcome}");
    assert_eq!(screen.text().matches("said plainly").count(), 1, "{}", screen.text());
    let (outcome, screen) = alice.peer(["ui"]).env("ACCESSIBLE", "1").in_terminal(80, 24).finish();
    assert!(!outcome.exits(2).out().contains('\u{1b}'), "{outcome}");
    let text = screen.text().replace('\n', " ");
    assert!(text.contains("ACCESSIBLE=1") && text.contains("`peer chat USER`"), "{text}");
}

#[test]
fn plain_lines_know_the_commands() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("big.bin", 3_000_000), lab.file("small.txt", 10)]);
    let node = bob.serve();
    let here = lab.empty_folder("here");
    let mut talk = alice.peer(["chat", "bob"]).folder(&here).env("ACCESSIBLE", "1").in_terminal(100, 40);
    talk.wait_for("talking to bob");
    talk.press("/help\n");
    talk.wait_for("/stop");
    talk.press("/files\n");
    talk.wait_for("small.txt");
    talk.press("/get big.bin\n");
    talk.wait_for("./big.bin");
    tests::files::assert_same(here.join("big.bin"), lab.join("big.bin"));
    talk.press("/nosuch\n");
    talk.wait_for("there is no /nosuch");
    talk.press("//etc is a path\n");
    node.wait_for("alice: /etc is a path");
    talk.press("/search path\n");
    talk.wait_for("found: path");
    talk.press(b"ol\xe1, latin\n");
    node.wait_for("alice: ol\u{fffd}, latin");
    talk.wait_for("what was typed is not UTF-8");
    talk.press("/offer big.bin\n");
    node.wait_for("alice: offers big.bin");
    talk.press("/ignore\n");
    talk.wait_for("bob is ignored");
    talk.press("/offer big.bin\n");
    talk.wait_for("you block bob, who can't fetch what you offer");
    talk.press("/quit\n");
    let (outcome, screen) = talk.finish();
    assert!(!outcome.exits(0).out().contains('\u{1b}'), "{outcome}");
    assert!(!node.said().contains("nosuch") && !node.said().contains("help"), "{}", node.said());
    // The echo of the keys and what was found; the message itself isn't said again.
    assert_eq!(screen.text().matches("/etc is a path").count(), 2, "{}", screen.text());
    // Into a pipe, lines are lines.
    alice.peer(["chat", "bob"]).stdin("/help\n").run().exits(0);
    node.wait_for("alice: /help");
}

#[test]
fn plain_lines_tell_what_waits_and_when_it_goes() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.serve();
    alice.peer(["chat", "bob", "hi"]).run().exits(0);
    node.terminate();
    node.finish().exits(143);
    let mut talk = alice.peer(["--plain", "chat", "bob"]).in_terminal(80, 24);
    talk.wait_for("talking to bob");
    talk.press("one\ntwo\n");
    talk.wait_for("message queued");
    let node = bob.serve();
    node.wait_for("alice: two");
    talk.wait_for("delivered: what was queued for bob");
    talk.press("\u{4}");
    let (outcome, screen) = talk.finish();
    outcome.exits(0);
    assert_eq!(screen.text().matches("message queued").count(), 1, "{}", screen.text());
}

#[test]
fn bars_vanish_off_a_terminal() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("a.bin", 3_000_000), lab.file("b.bin", 10)]);
    let _node = bob.serve();
    let fetched = alice.fetch("bob", ["a.bin", "b.bin"], &lab.empty_folder("here")).run();
    fetched.exits(0).prints_exactly("").is_plain();
    let lines: Vec<String> = fetched.err().lines().map(str::to_owned).collect();
    for name in ["a.bin", "b.bin"] {
        assert_eq!(lines.iter().filter(|line| line.contains(name)).count(), 1, "one line a file: {fetched}");
    }
    fetched.says("2 files fetched and verified");
}

#[test]
fn no_colour_where_it_is_not_wanted() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let failing = |terminal: tests::Invocation| {
        let (outcome, screen) = terminal.in_terminal(80, 24).finish();
        assert!(screen.text().contains("error: "), "{}", screen.text());
        outcome.exits(4).out().contains("\u{1b}[")
    };
    let chat = || alice.peer(["chat", "zoe", "hi"]);
    assert!(failing(chat()), "a terminal gets colour");
    assert!(!failing(chat().env("NO_COLOR", "1")));
    assert!(!failing(chat().env("TERM", "dumb")));
    assert!(!failing(chat().args(["--color", "never"])));
    assert!(failing(chat().env("NO_COLOR", "1").args(["--color", "always"])));
    let piped = chat().args(["--color", "always"]).run();
    assert!(piped.exits(4).err().contains("\u{1b}["), "asked for, even in a pipe");
    chat().run().exits(4).is_plain();
}

#[test]
fn a_dumb_terminal_gets_no_animation() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("a.bin", 3_000_000)]);
    let _node = bob.serve();
    let fetch = alice.fetch("bob", ["a.bin"], &lab.empty_folder("here")).env("TERM", "dumb");
    let (outcome, screen) = fetch.in_terminal(80, 24).finish();
    assert!(!outcome.exits(0).out().contains('\u{1b}'), "{outcome}");
    assert!(screen.text().contains("1 file fetched and verified"), "{}", screen.text());
}

#[test]
fn a_closed_pipe_is_no_error() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for number in 0..3000 {
        tests::files::write(lab.join(format!("many/{number}")), "x");
    }
    bob.share([lab.join("many")]);
    bob.share([lab.file("film.mkv", 20_000_000)]);
    let _node = bob.serve();
    let head = r#"set -o pipefail; "$@" | head -1 >/dev/null"#;
    let closed = r#"set -o pipefail; "$@" | head -c 0"#;
    for script in [head, closed] {
        alice.peer(["files", "bob"]).through_shell(script).run().exits(0).is_plain();
        alice.peer(["--json", "files", "bob"]).through_shell(script).run().exits(0);
        bob.peer(["shares"]).through_shell(script).run().exits(0);
        alice.peer(["fetch", "bob", "film.mkv", "-o", "-"]).through_shell(script).run().exits(0);
        alice.peer(["--help"]).through_shell(script).run().exits(0);
    }
    let json = alice.peer(["--json", "fetch", "bob", "many/", "-o"]).arg(lab.join("here")).through_shell(head).run();
    json.exits(0);
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_no_node() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for number in 0..2500 {
        tests::files::write(lab.join(format!("many/{number}")), "x");
    }
    bob.share([lab.join("many")]);
    // After its first line there is no reader, and the pipe stays.
    let unread = r#"exec "$@" > >(head -n 1 >&2; exec sleep 20)"#;
    let node = bob.peer(["serve"]).through_shell(unread).start();
    node.wait_for("online as bob");
    alice.fetch("bob", ["many/"], &lab.empty_folder("here")).run().exits(0).says("2500 files fetched");
    bob.peer(["whoami"]).run().exits(0).prints("yes, at");
    alice.peer(["chat", "--now", "bob", "are you there?"]).run().exits(0);
    node.terminate();
    node.finish().exits(143);
}

#[test]
fn ctrl_c_in_the_middle_is_exit_130_and_the_same_command_goes_on() {
    let lab = Lab::start();
    let (mut terminal, source) = held_fetch(&lab, 80);
    terminal.wait_for_screen("two bars", is_held);
    terminal.press("\u{3}");
    let (outcome, screen) = terminal.finish();
    outcome.exits(130);
    assert!(screen.text().contains("run it again to resume"), "{}", screen.text());
    source.open_gate();
    let again = lab.stranger("alice").fetch("mallory", [NAMES[0], NAMES[1]], &lab.join("here")).run();
    again.exits(0).says("resuming at");
    for name in NAMES {
        assert_content(lab.join("here").join(name), &noise(name.len() as u64, 20_000_000));
    }
}

#[test]
fn a_password_is_asked_for_without_showing_it() {
    let lab = Lab::start();
    let alice = lab.stranger("alice");
    let mut terminal = alice.peer(["register", "alice"]).in_terminal(80, 24);
    terminal.wait_for("Password:");
    terminal.wait_until_secret();
    terminal.press("hidden secret\n");
    terminal.wait_for("Repeat the password:");
    terminal.wait_until_secret();
    terminal.press("hidden secret\n");
    let (outcome, screen) = terminal.finish();
    outcome.exits(0);
    assert!(!screen.text().contains("hidden"), "{}", screen.text());
    alice.peer(["login", "alice", "--password-file", "-"]).stdin("hidden secret").run().exits(0);

    let mut differing = lab.stranger("bob").peer(["register", "bob"]).in_terminal(80, 24);
    differing.wait_for("Password:");
    differing.wait_until_secret();
    differing.press("one\n");
    differing.wait_for("Repeat the password:");
    differing.wait_until_secret();
    differing.press("two\n");
    let (outcome, screen) = differing.finish();
    outcome.exits(2);
    assert!(screen.text().contains("differ"), "{}", screen.text());

    let mut ended = lab.stranger("carol").peer(["register", "carol"]).in_terminal(80, 24);
    ended.wait_for("Password:");
    ended.wait_until_secret();
    ended.press("\u{4}");
    let (outcome, _) = ended.finish();
    assert!(outcome.code > 0, "the end of input is no password: {outcome}");
}

#[test]
fn the_input_line_is_undisturbed_by_what_arrives() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.serve();
    let mut view = alice.peer(["chat", "bob"]).in_terminal(60, 24);
    view.wait_for("talking to bob");
    view.wait_for_screen("a prompt", |screen| screen.cursor_line() == ">");
    node.wait_for("alice is online");

    view.press("half a thou");
    view.wait_for_screen("what was written", |screen| screen.cursor_line() == "> half a thou");
    bob.peer(["chat", "alice", "an interruption"]).run().exits(0);
    view.wait_for_screen("what came above what is being written", |screen| {
        screen.text().contains("bob: an interruption")
            && (screen.cursor_line().as_str(), screen.cursor_column()) == ("> half a thou", 13)
    });
    view.press("ght\r");
    node.wait_for("alice: half a thought");
    let screen = view.wait_for_screen("the message above an empty line", |screen| {
        screen.text().contains("you: half a thought") && screen.cursor_line() == ">"
    });
    assert_eq!(screen.text().matches("half a thou").count(), 1, "{}", screen.text());

    view.press("Gr\u{fc}\u{df}e\r");
    node.wait_for("alice: Grüße");
    bob.peer(["chat", "alice", "\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}[Hgone?"]).run().exits(0);
    let screen = view.wait_for("gone?");
    assert!(screen.text().contains("an interruption"), "{}", screen.text());
    assert!(!view.process().said().contains("\u{1b}]0;"), "no title is set");

    view.press("\u{4}");
    let (outcome, _) = view.finish();
    outcome.exits(0);
    node.wait_for("alice went offline");
}

#[test]
fn a_conversation_is_left_with_ctrl_c_too_and_begins_with_what_was_said() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.serve();
    alice.peer(["chat", "bob", "said before"]).run().exits(0);
    let mut view = alice.peer(["chat", "bob"]).in_terminal(60, 24);
    view.wait_for("you: said before");
    view.wait_for("talking to bob");
    view.press("\u{3}");
    let (outcome, _) = view.finish();
    outcome.exits(130);
    assert!(node.is_running());
}

#[test]
fn a_conversation_beside_a_running_node_uses_that() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (hers, his) = (alice.serve(), bob.serve());
    let mut view = alice.peer(["chat", "bob"]).in_terminal(60, 24);
    view.wait_for("talking to bob");
    view.press("from the view\r");
    his.wait_for("alice: from the view");
    hers.wait_for("to bob: from the view");
    bob.peer(["chat", "alice", "to both"]).run().exits(0);
    view.wait_for("bob: to both");
    hers.wait_for("bob: to both");
    view.press("/quit\r");
    let (outcome, _) = view.finish();
    outcome.exits(0);
    assert!(hers.is_running(), "the node stays");
    his.interrupt();
    his.finish().exits(130);
    let mut alone = alice.peer(["chat", "bob"]).in_terminal(60, 24);
    alone.wait_for("talking to bob");
    alone.press("hello?\r");
    alone.wait_for("bob offline · 1 queued");
    alone.press("\u{4}");
    alone.finish().0.exits(0);
}
