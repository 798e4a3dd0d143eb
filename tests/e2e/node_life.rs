//! The one node of a profile: who has it, what becomes of it, and what others of the profile are told of that.

use std::time::{Duration, Instant};

use tests::{Lab, Process, Tmpfs};

/// Nothing is waited for longer when the node is stopped; beside it, a loaded machine takes its time.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn a_node_that_ends_while_it_writes_puts_its_log_away() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.stranger("bob"));
    std::fs::create_dir_all(bob.home()).unwrap();
    // An end that lasts leaves the log to the next start: the disk is to be no reason for it.
    let Some(_disk) = Tmpfs::mount(bob.home(), "mode=700") else {
        println!("skipped: nothing can be mounted here");
        return;
    };
    let bob = bob.registered();
    let hers = alice.serve();
    // What strangers write is shown in part.
    bob.peer(["chat", "alice", "write to me"]).run().exits(0);
    hers.wait_for("bob: write to me");
    let mut flood = alice.peer(["events"]).open_stdin().start();
    let mut round = 0;
    for end in [Process::terminate, Process::interrupt, Process::terminate, Process::interrupt] {
        let his = bob.serve();
        round += 1;
        for number in 0..300 {
            flood.write(format!("{{\"type\":\"send\",\"to\":\"bob\",\"text\":\"{round} {number}\"}}\n"));
        }
        // Most are still to come, and are stored one after another.
        his.wait_for(&format!("alice: {round} 20"));
        end(&his);
        his.finish();
        for ending in ["-wal", "-shm"] {
            let beside = bob.home().join(format!("profile.db{ending}"));
            assert!(!beside.exists(), "{} is left in round {round}", beside.display());
        }
    }
}

#[test]
fn a_removed_socket_comes_back_and_a_removed_lock_lets_nobody_in() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, his) = (alice.serve(), bob.serve());
    std::fs::remove_file(bob.home().join("node.sock")).unwrap();
    std::fs::remove_file(bob.home().join("node.lock")).unwrap();
    // At once, and nothing is said behind the node's back.
    let second = bob.peer(["serve"]).start();
    bob.peer(["chat", "alice", "still through the node", "--now"]).run().exits(0);
    second.finish().exits(1).says("already running").says(&his.pid().to_string());
    bob.peer(["whoami"]).run().exits(0).prints("yes, at");
    assert!(bob.home().join("node.sock").exists() && bob.home().join("node.lock").exists());

    std::fs::remove_file(bob.home().join("node.sock")).unwrap();
    bob.peer(["logout"]).run().exits(0).says("logged out bob");
    his.finish().exits(0);
    alice.peer(["list"]).run().exits(0).prints("alice");
}

#[test]
fn whoever_waits_for_a_stopped_node_is_told() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.serve();
    node.freeze();
    let pid = node.pid().to_string();
    let file = lab.file("late.txt", 10);
    let share = ["share", file.to_str().unwrap()];
    for args in [&["whoami"][..], &["chat", "alice", "hi"], &share, &["logout"], &["serve"]] {
        let begun = Instant::now();
        let told = bob.peer(args).run();
        assert!(begun.elapsed() < TOLD_WITHIN, "{:?} {told}", begun.elapsed());
        told.exits(7).says(&pid).says("is stopped").says("fg").says("kill -CONT");
    }
    bob.peer(["list"]).run().exits(0);
    bob.peer(["shares"]).run().exits(0).says("nothing is shared");
    // Neither socket nor process says a word.
    std::fs::remove_file(bob.home().join("node.sock")).unwrap();
    bob.peer(["logout"]).run().exits(7).says(&pid).says("is stopped");
    node.thaw();
    bob.peer(["whoami"]).run().exits(0).prints("user     bob");
    drop(alice);
}

#[test]
fn serve_takes_over_from_a_conversation_which_goes_on() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let hers = alice.serve();
    let mut view = bob.peer(["chat", "alice"]).in_terminal(80, 20);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    let node = bob.peer(["serve"]).start();
    node.wait_for("taking over from the window");
    node.wait_for("online as bob at ");
    view.wait_for("reconnected: another `peer` keeps you online now");
    view.press("through the other node\r");
    hers.wait_for("bob: through the other node");
    view.press("\u{4}");
    let (outcome, screen) = view.finish();
    outcome.exits(0);
    assert!(!screen.text().contains("is offline now"), "{}", screen.text());
    bob.peer(["whoami"]).run().exits(0).prints("yes, at");
    drop(node);
}

#[test]
fn of_two_that_take_over_at_once_one_does() {
    let lab = Lab::start();
    let (_alice, bob) = (lab.user("alice"), lab.user("bob"));
    let mut view = bob.peer(["chat", "alice"]).in_terminal(80, 20);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    let mut nodes = [bob.peer(["serve"]).start(), bob.peer(["serve"]).start()];
    // One of the two tells it, and nobody knows which.
    let has_lost = || (!nodes.iter().all(Process::is_running)).then_some(());
    tests::poll_until(has_lost, || format!("{} {}", nodes[0].said(), nodes[1].said()));
    if nodes[1].is_running() {
        nodes.reverse();
    }
    let [winner, loser] = nodes;
    loser.finish().exits(1).says("already running");
    winner.wait_for("online as bob at ");
    view.press("\u{4}");
    view.finish().0.exits(0);
}

#[test]
fn serve_waits_for_a_command_that_needs_its_own_node() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let hers = alice.serve();
    let mut lines = bob.peer(["chat", "alice"]).open_stdin().start();
    lines.write("one\n");
    hers.wait_for("bob: one");
    let node = bob.peer(["serve"]).start();
    node.wait_for("waiting until it ends");
    lines.write("two\n");
    hers.wait_for("bob: two");
    lines.finish().exits(0);
    node.wait_for("online as bob at ");
}

#[test]
fn a_window_that_has_the_node_is_not_suspended_and_says_what_its_end_means() {
    let lab = Lab::start();
    let (_alice, bob) = (lab.user("alice"), lab.user("bob"));
    let script = r#"set -m; "$@"; echo "ended with $?""#;
    let mut view = bob.peer(["chat", "alice"]).through_shell(script).in_terminal(80, 20);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    view.press("\u{1a}");
    view.wait_for("not suspended: this window keeps bob online");
    bob.peer(["whoami"]).run().exits(0).prints("yes, at");
    view.press("\u{4}");
    view.wait_for("bob is offline now: `peer serve` stays online");
    view.wait_for("ended with 0");
    view.finish().0.exits(0);
}

#[test]
fn a_conversation_in_the_background_holds_nobody_up() {
    let lab = Lab::start();
    let (_alice, bob) = (lab.user("alice"), lab.user("bob"));
    let script = r#"set -m; "$@" & wait $!; echo "ended with $?""#;
    for args in [&["chat", "alice"][..], &["ui"]] {
        let view = bob.peer(args).through_shell(script).in_terminal(80, 20);
        view.wait_for("was started in the background");
        view.wait_for("ended with 2");
        view.finish().0.exits(0);
    }
    bob.peer(["whoami"]).run().exits(0).prints("online   no");
}

#[test]
fn a_folder_that_can_hold_no_socket_has_it_elsewhere() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let deep = lab.join("d".repeat(120));
    let run = lab.empty_folder("run");
    let bob = |args: &[&str]| alice.peer(args).env("VIZINHO_HOME", &deep).env("XDG_RUNTIME_DIR", &run);
    bob(&["register", "bob", "--password-file"]).arg(alice.password_file()).run().exits(0);
    let node = bob(&["serve"]).start();
    node.wait_for("online as bob at ");
    // Also for those whose runtime folder is another one.
    alice.peer(["whoami"]).env("VIZINHO_HOME", &deep).run().exits(0).prints("yes, at");
    bob(&["logout"]).run().exits(0);
    node.finish().exits(0);
    assert_eq!(tests::files::names_in(run.join("vizinho")), Vec::<String>::new());
}
