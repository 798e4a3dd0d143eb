//! Files that are sent: until the receiver has them, in every way in which that can end.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use shared::peer::{FileSend, SendKind, folder_hash};
use shared::{ContentHash, FileName};
use tests::files::{self, assert_content, assert_same};
use tests::{Lab, Process, User, make_room, poll_until};

/// Lets two users know each other's keys; returns their nodes.
pub(crate) fn meet(alice: &User<'_>, bob: &User<'_>) -> (Process, Process) {
    let (hers, his) = (alice.serve(), bob.serve());
    alice.peer(["chat", "bob", "hello"]).run().exits(0);
    bob.peer(["chat", "alice", "hello"]).run().exits(0);
    (hers, his)
}

fn accept(user: &User<'_>, from: &str, into: &Path) {
    user.peer(["accept", from, "--into"]).arg(into).run().exits(0).says("`peer accepts end alice` ends it");
}

fn wait_for_file(path: PathBuf) -> PathBuf {
    poll_until(|| path.exists().then_some(()), || format!("{} never comes", path.display()));
    path
}

fn stop(node: Process) {
    node.terminate();
    node.finish().exits(143);
}

/// What `peer send` lists of a name.
fn state_of(user: &User<'_>, name: &str) -> String {
    let listed = user.peer(["--json", "send"]).run().exits(0).json();
    let send = listed.iter().rev().find(|send| send["name"] == name).expect("it is listed");
    send["state"].as_str().expect("a state").to_owned()
}

#[test]
fn a_send_ends_when_the_receiver_has_it_and_leaves_nothing_shared() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let his = bob.serve();
    let report = lab.file("my report.pdf", 3_000_000);
    // No node runs at her side: the command is online itself.
    let send = alice.peer(["send", "bob"]).arg(&report).start();
    his.wait_for("alice wants to send you my report.pdf (3.00 MB): `peer accept alice`");
    let line = bob.peer(["--json", "history", "alice"]).run().object("message");
    assert_eq!((&line["send"]["kind"], &line["send"]["files"]), (&json!("file"), &json!(1)));
    let here = lab.empty_folder("here");
    bob.fetch("alice", ["my report.pdf"], &here).run().exits(0);
    send.finish().exits(0).says("bob has my report.pdf (3.00 MB)");
    assert_same(here.join("my report.pdf"), &report);
    assert_eq!(state_of(&alice, "my report.pdf"), "done");
    alice.peer(["offer"]).run().exits(0).prints_exactly("");
    bob.peer(["accept"]).run().exits(0).says("nothing waits");
}

#[test]
fn who_is_accepted_sends_files_and_folders_without_a_question() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, his) = meet(&alice, &bob);
    let into = lab.join("from-alice");
    accept(&bob, "alice", &into);
    let photos = lab.empty_folder("photos [1]");
    files::write(photos.join("a.bin"), files::noise(1, 2_000_000));
    files::write(photos.join("sub/run.sh"), "#!/bin/sh\n");
    files::write(photos.join(".hidden"), "not sent");
    std::fs::set_permissions(photos.join("sub/run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    let plan = lab.file("plan.pdf", 1000);
    // What is there under that name stays.
    files::write(into.join("plan.pdf"), "mine");
    let sent = alice.peer(["send", "bob"]).arg(&photos).arg(&plan).run();
    sent.exits(0).says("bob has photos [1]/ (2 files, 2.00 MB)").says("bob has plan.pdf").says("left out: 1 hidden");
    assert_same(into.join("photos [1]/a.bin"), photos.join("a.bin"));
    let mode = std::fs::metadata(into.join("photos [1]/sub/run.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0, "nothing that comes unasked runs");
    assert!(!into.join("photos [1]/.hidden").exists());
    assert_content(into.join("plan.pdf"), b"mine");
    assert_eq!(files::names_in(&into).len(), 3, "{:?}", files::names_in(&into));
    his.wait_for("plan.pdf (1.00 kB) of alice is in ");
    bob.peer(["accept"]).run().exits(0).prints("alice  into ").prints("2.00 GB a day");
    bob.peer(["accepts", "end", "ALICE"]).run().exits(0);
    bob.peer(["accepts", "end", "alice"]).run().exits(2).says("`peer accepts` lists them");
    bob.peer(["accept", "alice", "--end"]).run().exits(2).says("isn't accepted");
    alice.peer(["send", "bob", "--detach"]).arg(lab.file("later", 10)).run().exits(0);
    his.wait_for("alice wants to send you later");
    bob.peer(["accept"]).run().exits(0).prints("alice sends later");
}

#[test]
fn a_sender_who_is_killed_in_the_middle_goes_on() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (hers, _his) = meet(&alice, &bob);
    let into = lab.empty_folder("from-alice");
    accept(&bob, "alice", &into);
    stop(hers);
    let slow = || {
        let node = alice.peer(["serve", "--limit", "4M"]).start();
        node.wait_for("online as");
        node
    };
    let hers = slow();
    let film = lab.file("film.mkv", 12_000_000);
    let send = alice.peer(["send", "bob"]).arg(&film).start();
    let is_part = |name: &String| name.ends_with(".part");
    poll_until(|| files::names_in(&into).iter().any(is_part).then_some(()), || "no part comes".to_owned());
    for process in [send, hers] {
        process.kill();
        process.finish().exits(137);
    }
    let _hers = slow();
    alice.peer(["send", "bob"]).arg(&film).run().exits(0).says("(as before)").says("bob has film.mkv");
    assert_same(into.join("film.mkv"), &film);
    assert_eq!(alice.peer(["--json", "send"]).run().json().len(), 1, "it is one send");
}

#[test]
fn what_is_declined_is_told() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let his = bob.serve();
    let send = alice.peer(["send", "bob"]).arg(lab.file("ad.pdf", 1000)).start();
    his.wait_for("wants to send you ad.pdf");
    bob.peer(["accept", "alice", "--decline", "other"]).run().exits(2).says("`peer accepts` lists");
    bob.peer(["accept", "alice", "--decline"]).run().exits(0).says("declined: ad.pdf");
    send.finish().exits(6).says("bob declined ad.pdf");
    assert_eq!(state_of(&alice, "ad.pdf"), "declined");
    bob.fetch("alice", ["ad.pdf"], &lab.empty_folder("here")).run();
    assert!(files::names_in(lab.join("here")).is_empty(), "it is offered no more");

    // One of two arrives.
    let into = lab.empty_folder("from-alice");
    let send = alice.peer(["send", "bob"]).arg(lab.file("one", 10)).arg(lab.file("two", 10)).start();
    his.wait_for("wants to send you two");
    bob.peer(["accept", "alice", "--decline", "one"]).run().exits(0);
    bob.peer(["accept", "alice", "--ask", "--into"]).arg(&into).run().exits(0);
    send.finish().exits(12).says("bob declined one").says("bob has two");
    // Blocked is refused as well.
    bob.peer(["block", "alice"]).run().exits(0);
    alice.peer(["send", "bob"]).arg(lab.file("three", 10)).run().exits(6);
    assert_eq!(state_of(&alice, "three"), "failed");
    alice.peer(["offer"]).run().exits(0).prints_exactly("");
}

#[test]
fn who_is_absent_gets_it_when_they_come() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, his) = meet(&alice, &bob);
    let into = lab.empty_folder("from-alice");
    accept(&bob, "alice", &into);
    stop(his);
    let send = alice.peer(["send", "bob"]).arg(lab.file("one", 1000)).start();
    send.wait_for("bob is told when they can be reached");
    alice.peer(["send", "bob", "--detach"]).arg(lab.file("two", 1000)).run().exits(0);
    alice.peer(["outbox"]).run().exits(0).prints("sends two");
    assert_eq!(state_of(&alice, "two"), "waiting");
    let his = bob.serve();
    send.finish().exits(0).says("bob has one");
    assert_same(wait_for_file(into.join("two")), lab.join("two"));
    poll_until(|| (state_of(&alice, "two") == "done").then_some(()), || "no receipt comes".to_owned());

    // One that is ended is not told.
    stop(his);
    alice.peer(["send", "bob", "--detach"]).arg(lab.file("three", 1000)).run().exits(0);
    alice.peer(["sends", "end", "three"]).run().exits(0).says("ended: three");
    alice.peer(["outbox"]).run().exits(0).prints_exactly("");
    alice.peer(["send", "--end", "three"]).run().exits(2).says("`peer sends` lists them");
}

#[test]
fn a_receipt_finds_a_sender_who_was_away() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (hers, his) = meet(&alice, &bob);
    alice.peer(["send", "bob", "--detach"]).arg(lab.file("ad.pdf", 1000)).run().exits(0);
    his.wait_for("wants to send you ad.pdf");
    stop(hers);
    bob.peer(["accept", "alice", "--decline"]).run().exits(0);
    assert_eq!(state_of(&alice, "ad.pdf"), "waiting");
    let hers = alice.serve();
    hers.wait_for("bob declined ad.pdf");
    assert_eq!(state_of(&alice, "ad.pdf"), "declined");
}

#[test]
fn a_rule_has_its_bounds() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, his) = meet(&alice, &bob);
    let into = lab.empty_folder("from-alice");
    bob.peer(["accept", "alice", "--max", "1M", "--into"]).arg(&into).run().exits(0);
    alice.peer(["send", "bob"]).arg(lab.file("small", 900_000)).run().exits(0);
    let large = alice.peer(["send", "bob"]).arg(lab.file("large", 200_000)).start();
    his.wait_for(
        "large (200 kB) of alice waits for you: the rule takes 1.00 MB in 24 hours, and 100 kB of that are left",
    );
    assert_eq!(files::names_in(&into), ["small"]);
    bob.peer(["accept"]).run().exits(0).prints("alice sends large (200 kB)");
    bob.peer(["accept", "alice", "--ask", "--into"]).arg(&into).run().exits(0);
    large.finish().exits(0);
    assert_same(into.join("large"), lab.join("large"));

    // Never into the home folder itself, what is above it, or a profile.
    let home = lab.empty_folder("home");
    let copies = lab.empty_folder(bob.home().join("sent/x"));
    for (folder, why) in [
        (home.clone(), "your home folder"),
        (bob.home().join("x"), "an account's folder"),
        (copies, "an account's folder"),
    ] {
        let refused = bob.peer(["accept", "alice", "--into"]).arg(&folder).env("HOME", &home).run();
        refused.exits(2).says(why);
        assert!(!bob.home().join("x").exists());
    }
    bob.peer(["accept", "carol", "--into"]).arg(&into).run().exits(4).says("no key of carol is on record");
}

#[test]
fn a_rule_is_for_one_key() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (hers, his) = meet(&alice, &bob);
    let into = lab.empty_folder("from-alice");
    accept(&bob, "alice", &into);
    stop(hers);
    // She has a new key, and he has heard of it by other means.
    std::fs::remove_dir_all(alice.home().join("identity")).unwrap();
    alice.peer(["login", "alice", "--rebind", "--password-file"]).arg(alice.password_file()).run().exits(0);
    bob.peer(["trust", "alice", "--yes", "--replace", &alice.fingerprint()]).run().exits(0);
    bob.peer(["accept"]).run().exits(0).prints("their key changed");
    let _hers = alice.serve();
    alice.peer(["send", "bob", "--detach"]).arg(lab.file("gift", 1000)).run().exits(0);
    his.wait_for("the key of alice changed: what they send waits for you again");
    assert!(files::names_in(&into).is_empty());
    bob.peer(["accept"]).run().exits(0).prints("alice sends gift");
}

/// Makes the folder that she announced another one, at her side and in what she announces.
fn forge(lab: &Lab, alice: &User<'_>, name: &str, is_announced: bool) {
    let names: [FileName; 2] = ["photos/a", name].map(|name| name.parse().unwrap());
    let hashes = ["a", "b"].map(|content| ContentHash::of(content.as_bytes()));
    let (kind, hash) = (SendKind::Folder, folder_hash(names.iter().zip(&hashes)));
    let send = FileSend { name: "photos".parse().unwrap(), kind, files: 2, size: 2, hash };
    let rename = format!("UPDATE share SET name = '{name}' WHERE name = 'photos/b';");
    let send = serde_json::to_string(&send).unwrap();
    let announce =
        format!("UPDATE outgoing_send SET send = '{send}'; UPDATE message SET send = '{send}' WHERE send NOT NULL;");
    lab.sqlite(alice.home(), &if is_announced { rename + &announce } else { rename });
}

#[test]
fn nothing_hidden_and_nothing_else_than_was_announced_comes_unasked() {
    for (name, is_announced, why) in [
        ("photos/.profile", true, "begins with a dot"),
        ("photos/sub/.ssh", true, "begins with a dot"),
        ("photos/c", false, "isn't what alice announced"),
    ] {
        let lab = Lab::start();
        let (alice, bob) = (lab.user("alice"), lab.user("bob"));
        let (hers, his) = meet(&alice, &bob);
        let into = lab.empty_folder("from-alice");
        accept(&bob, "alice", &into);
        for node in [hers, his] {
            stop(node);
        }
        files::write(lab.join("photos/a"), "a");
        files::write(lab.join("photos/b"), "b");
        alice.peer(["send", "bob", "--detach"]).arg(lab.join("photos")).run().exits(0);
        forge(&lab, &alice, name, is_announced);
        let _hers = alice.serve();
        bob.serve().wait_for(why);
        assert!(files::names_in(&into).is_empty(), "{name}: {:?}", files::names_in(&into));
    }
}

#[test]
fn a_stream_is_sent_under_a_name() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, _his) = meet(&alice, &bob);
    let into = lab.empty_folder("from-alice");
    accept(&bob, "alice", &into);
    alice.peer(["send", "bob", "-"]).stdin("text\n").run().exits(2).says("--name NAME");
    alice
        .peer(["send", "bob", "-", "--name", "notes.txt"])
        .stdin("text\n")
        .run()
        .exits(0)
        .says("bob has notes.txt (5 B)");
    assert_content(into.join("notes.txt"), b"text\n");
    assert!(files::names_in(alice.home().join("sent")).is_empty(), "the copy is gone");
}

#[test]
fn a_room_hears_how_many_have_it() {
    let lab = Lab::start();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| lab.user(name));
    make_room(&[&alice, &bob, &carol]);
    let (_hers, his, carols) = (alice.serve(), bob.serve(), carol.serve());
    let slides = lab.file("slides.pdf", 1_000_000);
    let send = alice.peer(["send", "#lab"]).arg(&slides).start();
    for node in [&his, &carols] {
        node.wait_for("sends slides.pdf (1.00 MB): peer fetch '#lab' slides.pdf");
    }
    bob.fetch("#lab", ["slides.pdf"], &lab.empty_folder("his")).run().exits(0);
    send.wait_for("slides.pdf: 1/2 have it");
    carol.fetch("#lab", ["slides.pdf"], &lab.empty_folder("hers")).run().exits(0);
    send.finish().exits(0).says("everybody in #lab has slides.pdf");
    alice.peer(["send"]).run().exits(0).prints("2 have it");
    alice.peer(["shares"]).run().exits(0).prints_exactly("");
}

#[test]
fn a_view_says_it_in_one_line_and_fetches_it() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (hers, his) = meet(&alice, &bob);
    stop(his);
    let mut view = bob.peer(["chat", "alice"]).folder(lab.empty_folder("here")).in_terminal(100, 24);
    view.wait_for("talking to alice");
    files::write(lab.join("photos/a"), "a");
    files::write(lab.join("photos/b"), "b");
    let send = alice.peer(["send", "bob"]).arg(lab.join("photos")).start();
    view.wait_for("wants to send you photos/ (2 files, 2 B): /get 1 or `peer accept alice`");
    view.press("/get 1\r");
    send.finish().exits(0).says("bob has photos/");
    assert_content(lab.join("here/photos/a"), b"a");
    hers.wait_for("bob has photos/");
}
