//! What goes wrong between people who mean well: passwords, absence, broken lines.

use std::net::TcpListener;

use tests::files::{assert_same, names_in};
use tests::hostile::{HostilePeer, Offer, Stage, Trick};
use tests::progress::wait_for_bytes;
use tests::{Lab, files};

#[test]
fn a_wrong_password_is_exit_3() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let login = |user: &str| alice.peer(["login", user, "--password-file", "-"]).stdin("wrong\n").run();
    let wrong = login("alice");
    wrong.exits(3).prints_exactly("").is_plain();
    let unknown = login("nobody");
    unknown.exits(3);
    assert_eq!(wrong.err(), unknown.err(), "whether an account exists is not told");
    alice.peer(["whoami"]).run().exits(0).prints("user     alice\n");
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let lab = Lab::start();
    lab.user("alice");
    let other = lab.stranger("other");
    let taken = other.peer(["register", "alice", "--password-file"]).arg(other.password_file()).run();
    taken.exits(6).says("taken").is_plain();
    other.peer(["whoami"]).run().exits(3);
}

#[test]
fn somebody_unknown_and_somebody_offline_are_exit_4() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    lab.user("bob");
    for args in [&["fetch", "zoe", "x"][..], &["files", "zoe"], &["chat", "zoe", "hi"]] {
        alice.peer(args).run().exits(4).says("no user \"zoe\"");
    }
    for args in [&["fetch", "bob", "x"][..], &["files", "bob"], &["chat", "--now", "bob", "hi"]] {
        alice.peer(args).run().exits(4).says("bob is offline");
    }
}

#[test]
fn oneself_is_nobody_to_talk_to_or_fetch_from() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    alice.peer(["chat", "alice", "hi"]).run().exits(2).says("you can't message yourself");
    alice.peer(["fetch", "alice", "x"]).run().exits(2).says("alice is you");
}

#[test]
fn a_tracker_that_is_not_there_is_exit_7() {
    let lab = Lab::without_tracker();
    let alice = lab.stranger("alice");
    // A port that was free a moment ago, where nobody listens.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let register = alice.peer(["--tracker", &free, "register", "alice", "--password-file"]).arg(alice.password_file());
    register.run().exits(7).says(&free).says("can't be reached").is_plain();
    let nowhere = alice.peer(["--tracker", "no-such-host.invalid", "register", "alice", "--password-file"]);
    nowhere.arg(alice.password_file()).run().exits(7).says("no-such-host.invalid");
}

#[test]
fn commands_without_their_tracker_say_so() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    lab.kill_tracker();
    for args in [&["list"][..], &["files", "bob"], &["fetch", "bob", "x"], &["chat", "bob", "hi"]] {
        alice.peer(args).run().exits(7).says("can't be reached");
    }
    alice.peer(["shares"]).run().exits(0);
    alice.peer(["whoami"]).run().exits(0);
    // A node begins all the same: friends reach it, and it goes online by itself.
    let node = alice.peer(["serve"]).start();
    node.wait_for("can't be reached");
    node.interrupt();
    node.finish().exits(130);
}

#[test]
fn a_file_that_is_not_shared_is_exit_5() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("there.txt", 10)]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["missing.txt"], &here).run().exits(5).says("missing.txt").says("peer files bob");
    alice.fetch("bob", ["nothing/"], &here).run().exits(5);
    alice.fetch("bob", ["*.pdf"], &here).run().exits(5);
    alice.fetch("bob", ["missing.txt", "there.txt", "gone.txt"], &here).run().exits(12).says("2 of 3 failed");
    assert_eq!(names_in(&here), ["there.txt"], "what could be had was fetched");
}

#[test]
fn names_that_lead_out_of_a_share_are_not_shared() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("pub/there.txt", 10).parent().unwrap()]);
    files::write(lab.join("secret.txt"), "secret");
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    let absolute = lab.join("secret.txt").to_string_lossy().into_owned();
    for name in
        ["../secret.txt", "pub/../../secret.txt", "/etc/passwd", &absolute, "pub//../../secret.txt", "./x", "\n"]
    {
        alice.fetch("bob", [name], &here).run().exits(5).is_plain();
    }
    assert!(names_in(&here).is_empty());
}

#[test]
fn a_peer_that_goes_in_the_middle_is_exit_4_or_7_and_nothing_is_lost() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", 150_000_000);
    bob.share([&film]);
    let node = bob.serve();
    let here = lab.empty_folder("here");
    let fetching = alice.peer(["--json", "fetch", "--patience", "1", "bob", "film.mkv", "-o"]).arg(&here).start();
    wait_for_bytes(&fetching, 1);
    node.kill();
    let broken = fetching.finish();
    // Not there any more as the network sees it, or as the tracker does: whichever noticed first.
    assert!(matches!(broken.code, 4 | 7), "{broken}");
    assert!(!broken.is_plain().err().is_empty());
    assert!(!here.join("film.mkv").exists(), "what isn't whole has no name");

    let _node = bob.serve();
    let again = alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(&here).run();
    let summary = again.exits(0).object("summary");
    assert!(summary["bytes_resumed"].as_u64().unwrap() > 0, "{again}");
    assert_same(here.join("film.mkv"), &film);
    assert_eq!(names_in(&here), ["film.mkv"]);
}

#[test]
fn a_peer_that_comes_back_in_time_is_gone_on_with() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", 150_000_000);
    bob.share([&film]);
    let node = bob.serve();
    let here = lab.empty_folder("here");
    let fetching = alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(&here).start();
    wait_for_bytes(&fetching, 1);
    node.kill();
    node.finish().exits(137);
    let _again = bob.serve();
    fetching.finish().exits(0);
    assert_same(here.join("film.mkv"), &film);
    assert_eq!(names_in(&here), ["film.mkv"]);
}

#[test]
fn an_empty_name_is_not_everything() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("there.txt", 10)]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    // As `peer fetch bob "$WHAT"` with nothing in WHAT.
    let nothing = alice.fetch("bob", [""], &here).run();
    assert!(matches!(nothing.code, 2 | 5), "{nothing}");
    assert!(names_in(&here).is_empty());
}

#[test]
fn a_peer_that_says_goodbye_in_the_middle_is_exit_7() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let offer = Offer::new("film.mkv", files::noise(1, 5_000_000));
    let _leaver = HostilePeer::join(&lab, "mallory", vec![offer], Trick::Close(Stage::Data));
    let here = lab.empty_folder("here");
    let fetch = alice.peer(["fetch", "--patience", "0", "mallory", "film.mkv", "-o"]).arg(&here);
    fetch.run().exits(7).says("mallory").is_plain();
    assert!(!here.join("film.mkv").exists());
}

#[test]
fn two_nodes_of_one_profile_cannot_run() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.serve();
    let second = alice.peer(["serve"]).run();
    second.exits(1).says("already running");
    let register = alice.peer(["register", "other", "--password-file"]).arg(alice.password_file()).run();
    register.exits(2).says("peer stop");
    assert!(node.is_running());
    node.kill();
    node.finish().exits(137);
    // What a killed node left behind is in nobody's way.
    let _third = alice.serve();
}

#[test]
fn a_port_that_is_taken_is_said() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _node = alice.serve();
    let port = alice.node_address().port().to_string();
    let taken = bob.peer(["serve", "--port", &port]).run();
    assert_ne!(taken.code, 0, "{taken}");
    taken.says(&port);
}

#[test]
fn closed_standard_input_is_nobodys_trouble() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("a.txt", 1000)]);
    let node = bob.peer(["serve"]).through_shell(r#"exec "$@" <&-"#).start();
    node.wait_for("online as bob");
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["a.txt"], &here).through_shell(r#""$@" <&-"#).run().exits(0);
    assert_same(here.join("a.txt"), lab.join("a.txt"));
    alice.peer(["chat", "bob"]).through_shell(r#""$@" <&-"#).run().exits(2).says("the message is empty");
    alice.peer(["register", "x", "--password-file", "-"]).through_shell(r#""$@" <&-"#).run().exits(2);
}

#[test]
fn a_tracker_on_a_taken_port_says_so_and_the_first_one_stays() {
    let lab = Lab::start();
    let second = lab.tracker_invocation(lab.address()).run();
    assert_ne!(second.code, 0, "{second}");
    second.says("tracker:");
    lab.user("alice").peer(["list"]).run().exits(0);
}

#[test]
fn a_fetch_with_few_descriptors_brings_every_file() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for number in 0..60 {
        files::write(lab.join(format!("many/{number}.bin")), files::noise(number, 3000));
    }
    for number in 0..6 {
        files::write(lab.join(format!("many/large{number}.bin")), files::noise(100 + number, 3 << 20));
    }
    bob.share([lab.join("many")]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    let fetch = alice.peer(["fetch", "bob", "many/", "-j", "8", "-o"]).arg(&here);
    fetch.through_shell("ulimit -n 40; exec \"$@\"").run().exits(0);
    assert_eq!(names_in(here.join("many")).len(), 66);
    assert_same(here.join("many/large5.bin"), lab.join("many/large5.bin"));
}
