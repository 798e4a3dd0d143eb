//! Processes that don't have the terminal: started behind a script, or stopped there.

use rustix::process::Signal;
use tests::{Invocation, Lab};

/// Runs the command in a group of its own behind a script, as `timeout` does; then tells its exit code.
const BEHIND: &str = r#"timeout 20 "$@"; echo "ended with $?""#;

/// Runs it in the background of a shell with job control, waits until it is stopped, and ends it. The shell itself has to know:
/// it lets only a job go on to its end that it takes for stopped, and learns that after the last thread has stopped.
const STOPPED: &str = r#"set -m; stty tostop; "$@" & pid=$!
until [ -n "$(jobs -sp)" ]; do sleep 0.02; done
kill %1; while [ -d /proc/$pid ]; do sleep 0.02; done; wait $pid; echo "ended with $?""#;

/// Runs it in front, lets another process stop it, sends it to the background, and ends it there. The shell tells of a job's
/// end behind a command in front, and only if it learned of it before `wait`.
const SENT_BACK: &str = r#"set -m
(pid=; until pid=$(pgrep -P $$ -x peer) && [ -e "$READY" ]; do sleep 0.02; done; kill -STOP $pid) &
"$@"; bg %2 >/dev/null; pid=$(pgrep -P $$ -x peer)
until grep -q '^State:.S' /proc/$pid/status; do sleep 0.02; done
kill -TERM $pid
while [ -d /proc/$pid ]; do
    grep -q '^State:.T' /proc/$pid/status 2>/dev/null && { echo "it is stopped"; kill -KILL $pid; }
    sleep 0.02
done
sleep 0.02; wait"#;

fn ends(run: Invocation, code: i32) -> String {
    let (_, screen) = run.in_terminal(100, 16).finish();
    assert!(screen.text().contains(&format!("ended with {code}")), "{}", screen.text());
    screen.text()
}

#[test]
fn what_wants_the_terminal_says_so_and_ends() {
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), lab.user("bob"));
    for words in [&["ui"][..], &["chat", "bob"]] {
        let text = ends(alice.peer(words).through_shell(BEHIND), 2);
        assert!(text.contains("started in the background"), "{text}");
    }
    let text = ends(lab.stranger("carol").peer(["register", "carol"]).through_shell(BEHIND), 2);
    assert!(text.contains("--password-file FILE"), "{text}");
    let key = "ab".repeat(32);
    let text = ends(alice.peer(["trust", "--the-tracker", "--replace", &key]).through_shell(BEHIND), 2);
    assert!(text.contains("nobody can be asked here"), "{text}");
    // What needs no keys needs no terminal.
    ends(alice.peer(["chat", "bob", "hi"]).through_shell(BEHIND), 0);
    assert!(!alice.peer(["whoami"]).run().exits(0).out().contains("online   yes"), "no node was left");
}

#[test]
fn what_is_stopped_for_writing_can_be_ended() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    ends(bob.peer(["serve"]).through_shell(STOPPED), 143);
}

#[test]
fn a_view_in_the_background_ends_when_it_is_told_to() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _his = bob.serve();
    for words in [&["ui"][..], &["chat", "bob"]] {
        let ready = lab.join(format!("ready-{}", words[0]));
        let view = alice.peer(words).env("READY", &ready).through_shell(SENT_BACK).in_terminal(90, 14);
        view.wait_for_screen("a view", |screen| screen.has_mode("2004") && screen.text().contains("bob"));
        drop(std::fs::File::create(&ready).unwrap());
        let (outcome, _) = view.finish();
        // Not on the screen: the terminal is still raw after the stop, and the words may be parted by its edge.
        assert!(outcome.out().contains("Exit 143"), "{words:?}: {outcome}");
    }
}

#[test]
fn what_whoever_starts_us_ignores_is_ignored() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.peer(["serve"]).through_shell(r#"trap '' HUP; exec "$@""#).start();
    node.wait_for("online as bob");
    node.send(Signal::HUP);
    alice.peer(["chat", "bob", "still there?"]).run().exits(0);
    node.wait_for("alice: still there?");
    node.terminate();
    node.finish().exits(143);
}

#[test]
fn signals_leave_the_terminal_as_it_was() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _his = bob.serve();
    for (signal, code) in [(Signal::HUP, 129), (Signal::QUIT, 131), (Signal::USR1, 138), (Signal::ALARM, 142)] {
        for words in [&["ui"][..], &["chat", "bob"]] {
            let view = alice.peer(words).in_terminal(90, 14);
            view.wait_for_screen("a view", |screen| screen.has_mode("2004") && screen.text().contains("bob"));
            view.process().send(signal);
            view.wait_until_cooked();
            let (outcome, screen) = view.finish();
            outcome.exits(code);
            assert!(!screen.is_alternate() && !screen.has_mode("2004"), "{signal:?} {words:?}: {}", screen.text());
        }
    }
    let prompt = lab.stranger("carol").peer(["register", "carol"]).in_terminal(80, 8);
    prompt.wait_for("Password:");
    prompt.wait_until_secret();
    prompt.process().send(Signal::TERM);
    prompt.wait_until_cooked();
    prompt.finish().0.exits(143);
}
