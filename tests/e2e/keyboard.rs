//! Keys as terminals send them: bytes that are no text, floods, words that are copied again.

use std::time::{Duration, Instant};

use tests::{Lab, Terminal, User};

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const CTRL_Y: &str = "\u{19}";
const ENTER: &str = "\r";
const LINK: &str =
    "https://example.org/a/rather/long/path/that/goes/on/and/on?with=a&query=that&is=longer&than=any-row";

/// Both views of a conversation with bob, with an empty line to write on.
fn views(user: &User<'_>, columns: u16) -> [(&'static str, Terminal); 2] {
    let line = user.peer(["chat", "bob"]).in_terminal(columns, 16);
    line.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    let mut full = user.peer(["ui"]).in_terminal(columns, 16);
    full.wait_for("● bob");
    full.press(ENTER);
    full.wait_for("[bob online]");
    [("chat", line), ("ui", full)]
}

#[test]
fn bytes_that_are_no_text_cost_no_key() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (his, _hers) = (bob.serve(), alice.serve());
    for (name, mut view) in views(&alice, 100) {
        let said = his.said().lines().count();
        for keys in [&b"abc\xc3\rxyz\r"[..], b"ol\xe1 mundo\r", b"\xe9t\xe9\r"] {
            view.press(keys);
        }
        let last = his.wait_until("four messages", |all| {
            let lines: Vec<&str> = all
                .lines()
                .skip(said)
                .filter(|line| line.contains(" alice: ") && !line.contains("first contact"))
                .collect();
            (lines.len() == 4).then(|| lines.join("\n"))
        });
        for text in ["alice: abc\u{fffd}", "alice: xyz", "alice: ol\u{fffd} mundo", "alice: \u{fffd}t\u{fffd}"] {
            assert!(last.contains(text), "{name}: {last}");
        }
        let screen = view.wait_for("what was typed is not UTF-8");
        let told = screen.text().matches("what was typed is not UTF-8").count();
        // In the full view the last row says so as well, until the next key.
        assert!(told == 1 || name == "ui" && told == 2, "{name}: {}", screen.text());
        view.press(CTRL_D);
        view.finish().0.exits(0);
    }
    let mut latin = alice.peer(["chat", "bob"]).env("LC_ALL", "pt_BR.ISO-8859-1").in_terminal(80, 16);
    latin.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    latin.press(&b"ol\xe1, S\xe3o Paulo\r"[..]);
    his.wait_for("alice: olá, São Paulo");
}

#[test]
fn a_password_that_is_no_text_is_refused_at_its_end() {
    let lab = Lab::start();
    for keys in [&b"caf\xe9\r"[..], b"\xe9t\r"] {
        let mut terminal = lab.stranger("alice").peer(["register", "alice"]).in_terminal(90, 10);
        terminal.wait_for("Password:");
        terminal.wait_until_secret();
        terminal.press(keys);
        let (outcome, screen) = terminal.finish();
        outcome.exits(2);
        assert!(screen.text().contains("set the terminal's encoding to UTF-8"), "{}", screen.text());
    }
}

#[test]
fn ctrl_c_clears_the_line_before_it_leaves() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (his, _hers) = (bob.serve(), alice.serve());
    for (name, mut view) in views(&alice, 100) {
        let has_line = |view: &Terminal, line: &'static str| {
            view.wait_for_screen(line, |screen| screen.cursor_line().trim_start().contains(line));
        };
        view.press("half a thought");
        has_line(&view, "> half a thought");
        view.press(CTRL_C);
        view.wait_for_screen("an empty line", |screen| !screen.text().contains("half a thought"));
        view.press(CTRL_Y);
        has_line(&view, "> half a thought");
        view.press(&format!("{CTRL_C}still here\r"));
        his.wait_for_nth("alice: still here", if name == "chat" { 1 } else { 2 });
        view.press(CTRL_C);
        view.finish().0.exits(130);
    }
}

#[test]
fn a_long_word_is_copied_and_opened_whole() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_his, _hers) = (bob.serve(), alice.serve());
    let views = views(&alice, 60);
    bob.peer(["chat", "alice", &format!("see {LINK} now")]).run().exits(0);
    for (name, mut view) in views {
        let screen = view.wait_for("now");
        if name == "chat" {
            assert!(screen.copied().contains(LINK), "{}", screen.copied());
            assert!(screen.lines().iter().all(|line| line.chars().count() <= 60));
        } else {
            let target = format!(";{LINK}\u{1b}\\");
            view.process().wait_until("the link", |said| said.contains(&target).then_some(()));
        }
        view.press(CTRL_D);
        view.finish().0.exits(0);
    }
    // What is older than the view, too.
    let mut view = alice.peer(["chat", "bob"]).in_terminal(33, 16);
    let screen = view.wait_for("talking to bob");
    assert!(screen.copied().contains(LINK), "{}", screen.copied());
    view.press(CTRL_D);
    view.finish().0.exits(0);
}

#[test]
fn a_flood_of_letters_is_taken_in_time() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_his, _hers) = (bob.serve(), alice.serve());
    for (name, mut view) in views(&alice, 100) {
        let begun = Instant::now();
        view.press(&"x".repeat(2_000_000));
        view.press("the end");
        view.wait_for_screen("its end", |screen| screen.cursor_line().contains("xxthe end"));
        let taken = begun.elapsed();
        println!("{name}: {taken:?}");
        assert!(taken < Duration::from_secs(8), "{name}: {taken:?}");
        view.press(ENTER);
        view.wait_for("a message has at most 16384 bytes");
        view.press(CTRL_C);
        view.press(CTRL_D);
        view.finish().0.exits(0);
    }
}

#[test]
fn a_terminal_without_a_size_is_an_ordinary_one() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let his = bob.serve();
    for words in [&["chat", "bob"][..], &["ui"]] {
        let sizeless = r#"stty rows 0 cols 0; exec "$@""#;
        let mut view = alice.peer(words).through_shell(sizeless).in_terminal(80, 24);
        if words == ["ui"] {
            view.wait_for("● bob");
            view.press(ENTER);
            view.wait_for("[bob online]");
        } else {
            view.wait_for("talking to bob; /help shows what there is, Ctrl-D leaves");
        }
        view.press("a whole line of text\r");
        his.wait_for_nth("alice: a whole line of text", if words == ["ui"] { 2 } else { 1 });
        view.wait_for("you: a whole line of text");
        view.resize(60, 14);
        view.press("and now?");
        view.wait_for_screen("the line", |screen| screen.cursor_line().contains("> and now?"));
        view.press(CTRL_C);
        view.press(CTRL_D);
        view.finish().0.exits(0);
    }
}
