//! What Vizinho is for, from the first command to the last.

use tests::Lab;
use tests::files::{assert_same, names_in};

#[test]
fn two_people_find_each_other_hand_over_files_and_talk() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let report = lab.file("report.pdf", 3_000_000);
    let photo = lab.file("photo.jpg", 70_000);
    bob.share([&report, &photo]);
    let node = bob.serve();

    let list = alice.peer(["list"]).run();
    list.exits(0).prints("bob").prints("2 files").is_plain();
    let files = alice.peer(["files", "bob"]).run();
    files.exits(0).prints_exactly("  70.0 kB  photo.jpg\n  3.00 MB  report.pdf\n");

    let here = lab.empty_folder("here");
    let fetched = alice.peer(["fetch", "bob", "report.pdf", "photo.jpg"]).folder(&here).run();
    fetched.exits(0).prints_exactly("").is_plain();
    assert_same(here.join("report.pdf"), &report);
    assert_same(here.join("photo.jpg"), &photo);
    assert_eq!(names_in(&here), ["photo.jpg", "report.pdf"], "nothing else is left there");
    node.wait_for("alice fetched report.pdf (3.00 MB)");
    node.wait_for("alice fetched photo.jpg (70.0 kB)");

    alice.peer(["chat", "bob", "is this the last version?"]).run().exits(0).prints_exactly("");
    node.wait_for("alice: is this the last version?");
    let alices = alice.serve();
    node.wait_for("alice is online");
    bob.peer(["chat", "alice", "yes, it is"]).run().exits(0);
    alices.wait_for("bob: yes, it is");

    alices.terminate();
    alices.finish().exits(143);
    node.wait_for("alice went offline");
    node.interrupt();
    node.finish().exits(130);
    alice.peer(["list"]).run().exits(0).prints_exactly("").says("nobody is online");
}

#[test]
fn a_profile_knows_who_it_is() {
    let lab = Lab::start();
    let alice = lab.stranger("alice");
    alice.peer(["whoami"]).run().exits(3).says("peer register");
    let alice = lab.user("alice");
    let who = alice.peer(["whoami"]).run();
    who.exits(0).prints("user     alice\n").prints("online   no\n").prints(lab.address());
    let node = alice.serve();
    assert!(alice.node_address().port() > 0);
    alice.peer(["whoami"]).run().exits(0).prints("online   yes, at 127.0.0.1:");

    alice.peer(["logout"]).run().exits(0).says("logged out alice");
    node.finish().exits(0);
    for command in [&["whoami"][..], &["list"], &["serve"], &["fetch", "bob", "x"], &["chat", "bob", "x"]] {
        alice.peer(command).run().exits(3).says("not logged in");
    }
    alice.peer(["login", "alice", "--password-file"]).arg(alice.password_file()).run().exits(0);
    alice.peer(["whoami"]).run().exits(0).prints("user     alice\n");
}

#[test]
fn a_profile_can_be_used_from_another_machine_after_a_rebind() {
    let lab = Lab::start();
    let old = lab.user("alice");
    let new = lab.stranger("elsewhere");
    let login = || new.peer(["login", "alice", "--password-file"]).arg(old.password_file());
    login().run().exits(11);
    login().arg("--rebind").run().exits(0);
    assert_ne!(old.fingerprint(), new.fingerprint());
    let node = new.peer(["serve"]).start();
    node.wait_for("online as alice at ");
    let outdone = old.peer(["serve"]).run();
    assert!(matches!(outdone.code, 3 | 11), "the old key is no longer alice's: {outdone}");
}

#[test]
fn what_is_left_of_the_password_comes_from_standard_input() {
    let lab = Lab::start();
    let alice = lab.stranger("alice");
    let register = |password: &str| alice.peer(["register", "alice", "--password-file", "-"]).stdin(password);
    register("").run().exits(2).says("is empty");
    register(&"x".repeat(1025)).run().exits(2);
    register(" with spaces \r\nsecond line\n").run().exits(0);
    let login = |password: &str| alice.peer(["login", "alice", "--password-file", "-"]).stdin(password);
    login("with spaces").run().exits(3);
    login(" with spaces ").run().exits(0);
}

#[test]
fn no_password_is_asked_for_off_a_terminal() {
    let lab = Lab::start();
    let asked = lab.stranger("alice").peer(["register", "alice"]).stdin("secret\nsecret\n").run();
    asked.exits(2).says("--password-file");
}

#[test]
fn help_and_version_are_data_and_nonsense_is_not() {
    let lab = Lab::without_tracker();
    let user = lab.stranger("nobody");
    user.peer(["--help"]).run().exits(0).prints("Exit codes:");
    user.peer(["--version"]).run().exits(0).prints("peer ");
    user.peer(["no-such-command"]).run().exits(2).prints_exactly("");
    user.peer(["fetch", "bob"]).run().exits(2);
    user.peer(["register", "white space"]).run().exits(2);
    user.peer(["--tracker", "not a host", "list"]).run().exits(2);
    assert!(!user.home().exists(), "nonsense makes no profile");
}
