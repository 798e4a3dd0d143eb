//! The program at home: ending its node, its configuration file, its words about slips.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tests::{Lab, Outcome, User, files};

#[test]
fn stop_ends_the_node_and_keeps_the_account() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    lab.stranger("nobody").peer(["stop"]).run().exits(3);
    let idle = bob.peer(["stop"]).run();
    idle.exits(0).says("nothing to stop: no `peer serve` runs for this account");
    let node = bob.serve();
    bob.peer(["stop"]).run().exits(0).says("bob is offline; `peer serve` goes online again");
    node.finish().exits(0);
    alice.peer(["list"]).run().exits(0).prints_exactly("");
    // The account is still there.
    let node = bob.serve();
    let stopped = bob.peer(["--json", "stop"]).run().exits(0).object("stopped");
    assert_eq!((&stopped["was_running"], &stopped["user"]), (&Value::from(true), &Value::from("bob")));
    node.finish().exits(0);
    let idle = bob.peer(["--json", "stop"]).run().exits(0).object("stopped");
    assert_eq!((&idle["was_running"], &idle["user"]), (&Value::from(false), &Value::Null));
}

#[test]
fn stop_does_not_take_a_window_away() {
    let lab = Lab::start();
    let (_alice, bob) = (lab.user("alice"), lab.user("bob"));
    let mut view = bob.peer(["chat", "alice"]).in_terminal(80, 20);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    bob.peer(["stop"]).run().exits(6).says("keeps bob online for a window, which ends with it: close that");
    bob.peer(["whoami"]).run().exits(0).prints("yes, at");
    view.press("\u{4}");
    view.finish().0.exits(0);
}

