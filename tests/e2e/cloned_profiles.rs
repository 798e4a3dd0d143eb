//! A profile that was copied and runs twice, and an account that was moved.

use tests::{Lab, User};

/// A copy of a profile, as of a machine that was cloned.
fn copy_of<'a>(lab: &'a Lab, of: &User<'_>, name: &str) -> User<'a> {
    let copy = lab.stranger(name);
    let copied = std::process::Command::new("cp").arg("-a").arg(of.home()).arg(copy.home()).status();
    assert!(copied.unwrap().success());
    copy
}

#[test]
fn of_two_copies_the_later_one_is_online_until_the_other_is_told_to_be() {
    let mut lab = Lab::with_restarts();
    for name in ["alice", "bob"] {
        lab.user(name);
    }
    let names = ["alice", "bob", "bob2"];
    let hers;
    let mut first;
    let second;
    {
        let [alice, bob, _] = names.map(|name| lab.stranger(name));
        let copy = copy_of(&lab, &bob, "bob2");
        hers = alice.serve();
        first = bob.serve();
        second = copy.peer(["serve"]).start();
        second.wait_for("online as bob at ");
        first.wait_for("not online here: this account is online with the same key at 127.0.0.1 since ");
        let who = bob.peer(["whoami"]).run();
        who.exits(0).prints("online   no: this account is online with the same key at 127.0.0.1 since ");
        let who = bob.peer(["--json", "whoami"]).run().exits(0).object("account");
        assert_eq!((&who["online"], &who["elsewhere"]["ip"]), (&false.into(), &"127.0.0.1".into()));
        // It still does what its own user asks of it, and takes nothing of what comes.
        bob.peer(["chat", "alice", "from the first"]).run().exits(0);
        hers.wait_for("bob: from the first");
        alice.peer(["chat", "bob", "to whom?"]).run().exits(0);
        second.wait_for("alice: to whom?");
    }
    // A connection that is lost is no reason to take it back.
    lab.kill_tracker();
    first.wait_for("trying again");
    second.wait_for("trying again");
    lab.start_tracker();
    second.wait_for_nth("online as bob at ", 2);
    first.wait_for_nth("not online here: ", 2);
    let [alice, bob, copy] = names.map(|name| lab.stranger(name));
    bob.peer(["serve"]).run().exits(0).says("bob goes online again");
    first.wait_for_nth("online as bob at ", 2);
    second.wait_for("not online here: ");
    // Nor is the end of the one that is not online the end of the other's being so.
    second.interrupt();
    second.finish().exits(130);
    bob.peer(["whoami"]).run().exits(0).prints("yes, at");
    alice.peer(["list"]).run().exits(0).prints("bob");
    // The same process anew, killed or not, is no copy.
    first.kill();
    first.finish().exits(137);
    first = bob.serve();
    assert!(!first.said().contains("not online here"));
    drop((hers, copy));
}

/// Whatever the old machine does, it says that the account is elsewhere, since when, and what that may mean.
#[track_caller]
fn says_since_when(bob: &User<'_>) {
    const MOVED: &str = "the account bob lives on another machine since 20";
    for args in [&["serve"][..], &["files", "alice"], &["chat", "alice", "hi", "--now"], &["fetch", "alice", "x"]] {
        bob.peer(args).run().exits(3).says(MOVED).says("wasn't you").says("`peer login bob --rebind`");
    }
    let who = bob.peer(["whoami"]).run();
    who.exits(0).prints("user     bob").prints(MOVED).prints("wasn't you");
    let who = bob.peer(["--json", "whoami"]).run().exits(0).object("account");
    assert!(who["signed_out"].as_str().is_some_and(|text| text.starts_with(MOVED)), "{who}");
    bob.peer(["events"]).run().exits(3).says(MOVED);
}

#[test]
fn an_account_that_moved_while_its_machine_was_off_says_so_after_a_restart_of_the_tracker() {
    let mut lab = Lab::with_restarts();
    {
        let bob = lab.user("bob");
        let new = lab.stranger("new-machine");
        let login = new.peer(["login", "bob", "--rebind", "--password-file"]).arg(bob.password_file());
        login.run().exits(0);
        says_since_when(&bob);
    }
    lab.kill_tracker();
    lab.start_tracker();
    let bob = lab.stranger("bob");
    says_since_when(&bob);
    // And back again.
    bob.peer(["login", "bob", "--rebind", "--password-file"]).arg(bob.password_file()).run().exits(0);
    bob.serve();
    lab.stranger("new-machine").peer(["serve"]).run().exits(3).says("lives on another machine since 20");
}

#[test]
fn a_node_of_the_account_that_moved_away_says_so() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let his = bob.serve();
    let mut heard = bob.peer(["events"]).open_stdin().start();
    heard.write("{\"type\":\"read\",\"from\":\"alice\",\"ref\":1}\n");
    heard.wait_for("\"done\"");
    let new = lab.stranger("new-machine");
    let login = |args: &[&str]| new.peer(["login", "bob", "--password-file"]).arg(bob.password_file()).args(args).run();
    login(&[]).exits(11).says("tied to another machine").says("`peer login bob --rebind`").is_plain();
    login(&["--rebind"]).exits(0);
    heard.wait_for("account_moved");
    heard.finish().exits(3).says("lives on another machine since ");
    let told = his.finish();
    told.exits(3).says("the account bob lives on another machine since ").says("wasn't you");
    assert!(!told.err().contains("can't be reached") && !told.out().contains("can't be reached"), "{told}");
    says_since_when(&bob);
    // Those who are dialled know only that the key is nobody's.
    let alice = lab.user("alice");
    let _hers = alice.serve();
    says_since_when(&bob);
    // A profile has one account.
    let alices = lab.stranger("alice");
    new.peer(["login", "alice", "--password-file"])
        .arg(alices.password_file())
        .run()
        .exits(11)
        .says("account is bob already");
}
