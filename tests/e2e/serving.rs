//! What a peer that serves finds of what it shares, and what it says of those who fetch it.

use std::fs;

use tests::Lab;
use tests::files::{assert_same, names_in, write};

/// More than are looked at together.
const COPIES: usize = 150;

#[test]
fn copies_that_are_gone_hide_none_that_is_there() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    for number in 0..COPIES {
        write(lab.join(format!("lic/p{number}/LICENSE")), "MIT licence text");
    }
    bob.share([lab.join("lic")]);
    fs::rename(lab.join("lic"), lab.join("licences")).unwrap();
    bob.share([lab.join("licences")]);
    let his = bob.serve();
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["licences/"], &here).run().exits(0);
    assert_eq!(names_in(here.join("licences")).len(), COPIES);
    assert_same(here.join("licences/p1/LICENSE"), lab.join("licences/p1/LICENSE"));
    assert_eq!(his.said().matches("alice fetched licences/p7/LICENSE").count(), 1, "{}", his.said());

    // Whoever has the same under another name is asked for the content alone.
    let other = write(lab.join("other/COPYING"), "MIT licence text");
    carol.share([&other]);
    let _hers = carol.serve();
    fs::remove_file(&other).unwrap();
    for kept in [COPIES - 1, 0] {
        for number in (0..COPIES).filter(|number| *number != kept) {
            let _ = fs::remove_file(lab.join(format!("licences/p{number}/LICENSE")));
        }
        let there = lab.empty_folder(format!("there{kept}"));
        let name = format!("licences/p{kept}/LICENSE");
        let fetched = alice.fetch("bob", [name.as_str()], &there).run();
        if kept == 0 {
            fetched.exits(5)
        } else {
            fetched.exits(0)
        };
    }
}

#[test]
fn a_file_is_told_by_the_name_it_was_asked_for() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let names = ["zz-public.txt", "bb-public.txt", "aa-offered.txt", "zz-empty", "aa-empty"];
    for name in names {
        write(lab.join(name), if name.ends_with("empty") { "" } else { "same\n" });
    }
    bob.share([lab.join("zz-public.txt"), lab.join("bb-public.txt"), lab.join("zz-empty"), lab.join("aa-empty")]);
    let his = bob.serve();
    let events = bob.peer(["events"]).start();
    events.wait_for("\"type\":\"status\"");
    bob.peer(["offer", "alice"]).arg(lab.join("aa-offered.txt")).run().exits(0);
    for name in names {
        alice.fetch("bob", [name], &lab.empty_folder(format!("of {name}"))).run().exits(0);
        his.wait_for(&format!("alice fetched {name} ("));
        events.wait_until("the upload is told", |said| {
            let of_it = |line: &&str| line.contains("\"up\"") && line.contains(&format!("\"{name}\""));
            said.lines().find(of_it).map(|_| ())
        });
    }
    assert_eq!(his.said().matches("alice fetched").count(), names.len(), "{}", his.said());
}
