//! A password changed by whoever has it: on the terminal, from a file, and beside a running node.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::{Value, json};
use tests::files::write;
use tests::{Invocation, Lab, LabOptions, binaries};

fn tracker(lab: &Lab, words: &[&str]) -> Invocation {
    Invocation::new(binaries::binary("tracker"), lab.path()).args(words).arg("--data-dir").arg(lab.join("tracker"))
}

/// From the administrator's invitation to a password that the administrator doesn't know.
#[test]
fn an_invitation_becomes_a_password_of_ones_own() {
    let closed = ["--registration".to_owned(), "closed".to_owned()];
    let lab = Lab::with(LabOptions { tracker_args: closed.into(), ..LabOptions::default() });
    let invited = tracker(&lab, &["user", "add", "bob"]).run();
    let invitation = invited.exits(0).out().trim_end().to_owned();
    let bob = lab.stranger("bob");
    bob.peer(["register", "bob", "--password-file", "-"])
        .stdin("s3nha\n")
        .run()
        .exits(6)
        .says("registration is closed");
    bob.peer(["passwd", "--password-file", "-"]).stdin("a\nb\n").run().exits(3);
    bob.peer(["login", "bob", "--password-file", "-"]).stdin(&invitation).run().exits(0);
    let change = |input: String| bob.peer(["passwd", "--password-file", "-"]).stdin(input).run();
    change(format!("{invitation}\n")).exits(2).says("second line");
    change("wrong\nmine\n".to_owned()).exits(3);
    change(format!("{invitation}\nmine\n")).exits(0).says("changed the password of bob");
    change(format!("{invitation}\nother\n")).exits(3);
    let elsewhere = lab.stranger("elsewhere");
    let login =
        |password: &str| elsewhere.peer(["login", "bob", "--rebind", "--password-file", "-"]).stdin(password).run();
    login(&invitation).exits(3);
    login("mine").exits(0);
}

#[test]
fn on_a_terminal_it_is_asked_for_and_not_shown() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let mut terminal = bob.peer(["passwd"]).in_terminal(80, 24);
    for (label, answer) in
        [("Current password:", "password of bob\n"), ("New password:", "mine\n"), ("Repeat the password:", "another\n")]
    {
        terminal.wait_for(label);
        terminal.wait_until_secret();
        terminal.press(answer);
    }
    let (outcome, screen) = terminal.finish();
    outcome.exits(2);
    let text = screen.text();
    assert!(text.contains("nothing was done") && !text.contains("mine") && !text.contains("another"), "{text}");
}

#[test]
fn beside_a_running_node_the_node_stays_and_other_sessions_end() {
    let lab = Lab::start();
    let (bob, alice) = (lab.user("bob"), lab.user("alice"));
    let (node, watching) = (bob.serve(), alice.serve());
    let change = "password of bob\nmine\n";
    let changed = bob.peer(["--json", "passwd", "--password-file", "-"]).stdin(change).run();
    let line: Value = serde_json::from_str(changed.exits(0).out().trim_end()).unwrap();
    assert_eq!((&line["type"], &line["user"]), (&"password_changed".into(), &"bob".into()));
    // The node's own session asked: nobody noticed anything.
    bob.peer(["list"]).run().exits(0).prints("alice");
    alice.peer(["list"]).run().exits(0).prints("bob");
    node.terminate();
    node.finish().exits(143);
    watching.wait_for("bob went offline");
    watching.terminate();
    let seen = watching.finish();
    assert_eq!(seen.exits(143).out().matches("bob").count(), 1, "{seen}");
}

/// What is typed on one keyboard is what a file of another editor holds.
#[test]
fn a_password_is_what_people_see_of_it() {
    let lab = Lab::start();
    let alice = lab.stranger("alice");
    let file = write(lab.join("secret.txt"), "\u{feff}se\u{301}nha\u{a0}boa\r\nsecond line\r\n");
    let registered = alice.peer(["register", "alice", "--password-file"]).arg(&file).run();
    registered.exits(0).says("secret.txt can be read by others").says("chmod 600");
    let mut typed = alice.peer(["login", "alice"]).in_terminal(80, 8);
    typed.wait_for("Password:");
    typed.wait_until_secret();
    typed.press("s\u{e9}nha boa\r");
    typed.finish().0.exits(0);
    let old_mac = |text: &str| alice.peer(["login", "alice", "--password-file", "-"]).stdin(text).run();
    old_mac("s\u{e9}nha boa\rsecond line\r").exits(0);
    old_mac("se\u{301}nha boa").exits(0);
    old_mac("senha boa").exits(3);
    for (content, why) in [(&b"caf\xe9\n"[..], "is not UTF-8"), (b"\xff\xfes\0\n\0", "UTF-16"), (b"\n", "is empty")] {
        let file = write(lab.join("bad.txt"), content);
        let refused = alice.peer(["login", "alice", "--password-file"]).arg(&file).run();
        refused.exits(2).says("bad.txt").says(why);
    }
    let folder = alice.peer(["login", "alice", "--password-file"]).arg(lab.empty_folder("a folder")).run();
    folder.exits(2).says("a folder is a folder");
    alice.peer(["login", "alice", "--password-file", "missing.txt"]).run().exits(9).says("missing.txt");
}

/// Passwords were once kept as they came.
#[test]
fn an_account_of_before_is_entered_as_before() {
    let lab = Lab::start();
    let registered = |user: &str, password: &str| {
        let mut tracker = TcpStream::connect(lab.address()).unwrap();
        let request = json!({ "action": "REGISTER", "user": user, "password": password });
        tracker.write_all(request.to_string().as_bytes()).unwrap();
        tracker.shutdown(Shutdown::Write).unwrap();
        let mut reply = String::new();
        tracker.read_to_string(&mut reply).unwrap();
        assert!(reply.contains("\"ok\""), "{reply}");
    };
    for (user, kept, given) in [
        ("decomposed", "cafe\u{301}", "caf\u{e9}\n"),
        ("marked", "\u{feff}old", "\u{feff}old\r\n"),
        ("carriage", "a\rb", "a\rb\n"),
    ] {
        registered(user, kept);
        let stranger = lab.stranger(user);
        stranger.peer(["login", user, "--password-file", "-"]).stdin(given).run().exits(0);
        let change = format!("{}\nmine\n", given.trim_end());
        if user != "carriage" {
            stranger.peer(["passwd", "--password-file", "-"]).stdin(change).run().exits(0);
            stranger.peer(["login", user, "--password-file", "-"]).stdin("mine").run().exits(0);
        }
    }
}

#[test]
fn a_wrong_password_is_known_before_a_new_one_is_asked_for() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    for node in [None, Some(bob.serve())] {
        let mut terminal = bob.peer(["passwd"]).in_terminal(80, 10);
        terminal.wait_for("Current password:");
        terminal.wait_until_secret();
        terminal.press("not mine\n");
        let (outcome, screen) = terminal.finish();
        outcome.exits(3);
        assert!(!screen.text().contains("New password:"), "{}", screen.text());
        drop(node);
    }
}

#[test]
fn what_was_typed_before_the_prompt_is_no_password() {
    let lab = Lab::start();
    let stranger = lab.stranger("bob");
    // A shell waits until something was typed that nobody asked for.
    let script = r#"echo ready; while ! read -r -t 0; do sleep 0.02; done; exec "$@""#;
    let mut terminal = stranger.peer(["register", "bob"]).through_shell(script).in_terminal(80, 12);
    terminal.wait_for("ready");
    terminal.press("typed too early\n");
    terminal.wait_for("Password:");
    terminal.wait_until_secret();
    terminal.press("s3cret word\n");
    terminal.wait_for("Repeat the password:");
    terminal.press("s3cret word\n");
    terminal.finish().0.exits(0);
    stranger.peer(["login", "bob", "--password-file", "-"]).stdin("s3cret word").run().exits(0);
}
