//! A password changed by whoever has it: on the terminal, from a file, and beside a running node.

use serde_json::Value;
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
    change(format!("{invitation}\nmine\n")).exits(0).says("the password of bob is changed");
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
        [("Present password:", "password of bob\n"), ("New password:", "mine\n"), ("The same again:", "another\n")]
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
