//! What lasts until somebody ends it: it is listed, paused, resumed and ended by the same words.

use std::path::Path;

use tests::files::{self, assert_same};
use tests::{Lab, User, poll_for};

use crate::sends::meet;

fn accept(user: &User<'_>, from: &str, into: &Path) {
    user.peer(["accept", from, "--into"]).arg(into).run().exits(0);
}

#[test]
fn nobody_gets_a_send_that_is_paused() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, his) = meet(&alice, &bob);
    let photos = lab.empty_folder("photos");
    files::write(photos.join("a"), "1");
    files::write(photos.join("sub/b"), "22");
    let send = alice.peer(["send", "bob"]).arg(&photos).start();
    his.wait_for("wants to send you photos/");
    let paused = alice.peer(["--json", "sends", "pause", "photos"]).run().exits(0).object("send");
    assert_eq!((&paused["paused"], &paused["state"]), (&true.into(), &"waiting".into()));
    alice.peer(["sends", "pause", "photos"]).run().exits(0).says("paused already");
    alice.peer(["sends"]).run().exits(0).prints("photos/ (2 files, 3 B)  paused");
    let here = lab.empty_folder("here");
    bob.fetch("alice", ["photos/"], &here).run().exits(5);
    assert!(files::names_in(&here).is_empty());
    alice.peer(["sends", "resume", "1"]).run().exits(0).says("resumed: photos");
    bob.fetch("alice", ["photos/"], &here).run().exits(0);
    send.finish().exits(0).says("bob has photos/");
    assert_same(here.join("photos/sub/b"), photos.join("sub/b"));
    alice.peer(["sends", "end", "photos"]).run().exits(2).says("`peer sends` lists them");
    alice.peer(["sends", "pause"]).run().exits(2);

    // A paused one that is ended leaves nothing, and neither does one that takes its place.
    alice.peer(["send", "bob", "--detach"]).arg(lab.file("one", 10)).run().exits(0);
    alice.peer(["send", "bob", "--detach"]).arg(lab.file("two", 10)).run().exits(0);
    alice.peer(["sends", "pause", "one", "two"]).run().exits(0);
    alice.peer(["sends", "end", "one", "none"]).run().exits(2).says("none has the number or name none");
    alice.peer(["sends", "end", "one", "two"]).run().exits(0).says("ended: one").says("ended: two");
    alice.peer(["offer"]).run().exits(0).prints_exactly("");
}

/// `VIZINHO_LONG=1`: the receiver tries again after two minutes.
#[test]
fn who_accepts_gets_a_paused_send_after_it_is_resumed() {
    if std::env::var_os("VIZINHO_LONG").is_none() {
        println!("skipped: only under VIZINHO_LONG=1");
        return;
    }
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, his) = meet(&alice, &bob);
    let into = lab.empty_folder("from-alice");
    accept(&bob, "alice", &into);
    his.interrupt();
    his.finish();
    alice.peer(["send", "bob", "--detach"]).arg(lab.file("plan", 1000)).run().exits(0);
    alice.peer(["sends", "pause", "plan"]).run().exits(0);
    let his = bob.serve();
    his.wait_for("plan (1.00 kB) of alice waits for you: ");
    assert!(files::names_in(&into).is_empty());
    alice.peer(["sends", "resume", "plan"]).run().exits(0);
    let patience = std::time::Duration::from_secs(200);
    poll_for(patience, || into.join("plan").exists().then_some(()), || "it never comes".to_owned());
    assert_same(into.join("plan"), lab.join("plan"));
}

#[test]
fn what_comes_while_somebody_is_paused_waits() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, his) = meet(&alice, &bob);
    let into = lab.empty_folder("from-alice");
    accept(&bob, "alice", &into);
    let paused = bob.peer(["--json", "accepts", "pause", "alice"]).run().exits(0).object("accept");
    assert_eq!(paused["paused"], true);
    bob.peer(["accepts"]).run().exits(0).prints("a day  (paused)");
    let send = alice.peer(["send", "bob"]).arg(lab.file("plan", 1000)).start();
    his.wait_for("wants to send you plan");
    bob.peer(["accepts"]).run().exits(0).prints("alice sends plan");
    assert!(files::names_in(&into).is_empty());
    bob.peer(["accepts", "resume", "alice"]).run().exits(0).says("is taken again").says("plan (1.00 kB) is in ");
    send.finish().exits(0).says("bob has plan");
    assert_same(into.join("plan"), lab.join("plan"));
    bob.peer(["accepts", "end", "alice"]).run().exits(0).says("waits for you again");
    bob.peer(["accepts"]).run().exits(0).prints_exactly("").says("nobody is accepted");
}
