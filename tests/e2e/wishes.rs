//! Wishes: searches that wait until somebody shares what they look for.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tests::files::{self, assert_same};
use tests::{EventProgram, Lab, User, poll_until};

/// The wishes as `peer wishes` lists them.
fn wishes(user: &User<'_>) -> Vec<Value> {
    user.peer(["--json", "wishes"]).run().exits(0).json()
}

fn state_of(user: &User<'_>, number: i64) -> String {
    let all = wishes(user);
    let wish = all.iter().find(|wish| wish["number"] == number).expect("it is listed");
    wish["state"].as_str().expect("a state").to_owned()
}

#[test]
fn a_wish_tells_once_when_somebody_shares_it() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    alice.share([lab.file("other.iso", 10)]);
    let hers = alice.serve();
    let his = bob.serve();
    let mut events = EventProgram::start(&bob);
    bob.peer(["wish", "Debian*.iso"]).run().exits(0).says("waiting for Debian*.iso; `peer wishes end 1` ends it");
    alice.share([lab.file("my debian-13.iso", 600_000)]);
    alice.share([lab.file("debian-13.iso.torrent", 10)]);
    hers.wait_for("files are shared now");
    assert_eq!(state_of(&bob, 1), "waiting", "no name matches");
    alice.share([lab.file("isos/debian-13.iso", 600_000)]);
    let line = "alice shares debian-13.iso (600 kB): `peer fetch alice debian-13.iso`";
    his.wait_for(line);
    let told = std::iter::from_fn(|| events.next_event()).find(|event| event["type"] == "wish").expect("it is told");
    assert_eq!((&told["number"], &told["file"]["name"]), (&1.into(), &"debian-13.iso".into()));
    let wish = &wishes(&bob)[0];
    assert_eq!((&wish["state"], &wish["found"]["by"]), (&"fulfilled".into(), &"alice".into()));
    bob.peer(["wishes"]).run().exits(0).prints("Debian*.iso  fulfilled: debian-13.iso of alice");

    // Resumed, it waits for another one.
    bob.peer(["wishes", "resume", "1"]).run().exits(0).says("waiting for Debian*.iso again");
    alice.share([lab.file("debian-14.iso", 1000)]);
    his.wait_for("alice shares debian-14.iso (1.00 kB): ");
    assert_eq!(his.said().matches("shares debian-13.iso").count(), 1, "{}", his.said());
    bob.peer(["wishes", "pause", "1"]).run().exits(1).says("is fulfilled");
    bob.peer(["wishes", "end", "Debian*.iso"]).run().exits(0).says("ended: Debian*.iso");
    bob.peer(["wishes"]).run().exits(0).prints_exactly("").says("you wait for nothing");
}

#[test]
fn what_is_there_already_is_shown_and_nothing_waits() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    alice.share([lab.file("Annual report.pdf", 1000)]);
    let _hers = alice.serve();
    let found = bob.peer(["wish", "annual", "rep"]).run();
    found.exits(0).prints("alice  Annual report.pdf").says("`peer fetch alice 'Annual report.pdf'`");
    assert!(wishes(&bob).is_empty());
    bob.peer(["wish", "annual", "--from", "carol"]).run().exits(0).says("waiting for annual");
    bob.peer(["wish", "*nual*"]).run().exits(2).says("fixes the beginning of no word");
    bob.peer(["wish", "annual", "-o", "x"]).run().exits(2);
    bob.peer(["block", "alice"]).run().exits(0);
    bob.peer(["wish", "annual rep*"]).run().exits(0).says("`peer serve` runs, which doesn't");
    let told = bob.peer(["--json", "wish", "slides", "--fetch", "-o"]).arg(lab.join("in")).run();
    let wish = told.exits(0).object("wish");
    assert_eq!(
        (&wish["number"], &wish["state"], &wish["max"]),
        (&3.into(), &"waiting".into(), &10_000_000_000_u64.into())
    );
    assert_eq!(wishes(&bob).len(), 3);
    // They are bounded.
    for _ in 3..50 {
        bob.peer(["wish", "nothing"]).run().exits(0);
    }
    bob.peer(["wish", "nothing"]).run().exits(2).says("50 wishes wait: `peer wishes` lists them");
}

#[test]
fn a_wished_file_is_fetched_by_the_node() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let into = lab.join("in");
    // Begun before a node runs, and in the middle of its absence.
    bob.peer(["wish", "debian*.iso", "--fetch", "--max", "1M", "-o"]).arg(&into).run().exits(0);
    let large = lab.file("debian-12.iso", 2_000_000);
    alice.share([&large]);
    let _hers = alice.serve();
    let his = bob.serve();
    his.wait_for(
        "alice shares debian-12.iso (2.00 MB), which isn't fetched: the wish takes files of at most 1.00 MB; \
         `peer fetch alice debian-12.iso` fetches it",
    );
    assert_eq!(state_of(&bob, 1), "waiting");
    let small = files::write(lab.join("share/debian-13.iso"), files::noise(3, 700_000));
    std::fs::set_permissions(&small, PermissionsExt::from_mode(0o755)).unwrap();
    alice.share([&small]);
    his.wait_for("alice shares debian-13.iso (700 kB), and it is being fetched (wish 1)");
    his.wait_for(&format!("debian-13.iso of alice is in {}", into.display()));
    assert_same(into.join("debian-13.iso"), &small);
    assert_eq!(std::fs::metadata(into.join("debian-13.iso")).unwrap().permissions().mode() & 0o111, 0);
    poll_until(|| (state_of(&bob, 1) == "fulfilled").then_some(()), || "it isn't fulfilled".to_owned());
    assert_eq!(files::names_in(&into), ["debian-13.iso"]);
    assert_eq!(his.said().matches("shares debian-12.iso").count(), 1, "{}", his.said());
}

#[test]
fn nothing_hidden_is_fetched_and_nothing_goes_into_the_home_folder() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let home = lab.empty_folder("home");
    let refused = bob.peer(["wish", "bashrc*", "--fetch"]).folder(&home).env("HOME", &home).run();
    refused.exits(2).says("your home folder");
    bob.peer(["wish", "bashrc*", "--fetch", "-o"]).arg(bob.home().join("x")).run().exits(2);
    bob.peer(["wish", "bashrc", "--fetch", "-o"]).arg(lab.join("in")).run().exits(0);
    let his = bob.serve();
    files::write(lab.join("share/x/.bashrc"), "evil");
    alice.share([lab.join("share/x/.bashrc")]);
    let _hers = alice.serve();
    his.wait_for("which isn't fetched: its name begins with a dot");
    assert!(files::names_in(lab.join("in")).is_empty());
}

#[test]
fn who_is_blocked_or_not_meant_fulfils_nothing() {
    let lab = Lab::start();
    let [alice, bob, carol, mallory] = ["alice", "bob", "carol", "mallory"].map(|name| lab.user(name));
    let his = bob.serve();
    bob.peer(["block", "mallory"]).run().exits(0);
    bob.peer(["wish", "film"]).run().exits(0);
    bob.peer(["wish", "film*", "--from", "carol"]).run().exits(0);
    mallory.share([lab.file("m/film.mkv", 10)]);
    let _nodes = [mallory.serve(), carol.serve()];
    alice.share([lab.file("a/film.mkv", 10)]);
    let _hers = alice.serve();
    his.wait_for("alice shares film.mkv");
    assert_eq!((state_of(&bob, 1), state_of(&bob, 2)), ("fulfilled".to_owned(), "waiting".to_owned()));
    bob.peer(["wishes", "pause", "2"]).run().exits(0).says("`peer wishes resume 2` goes on");
    carol.share([lab.file("c/film.mkv", 10)]);
    bob.peer(["wishes", "resume", "film*"]).run().exits(0);
    his.wait_for("carol shares film.mkv");
    assert!(!his.said().contains("mallory shares"), "{}", his.said());
}

#[test]
fn a_wish_that_is_ended_is_fetched_no_further() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let into = lab.empty_folder("in");
    let his = bob.peer(["--json", "serve"]).start();
    his.wait_for(r#""event":"online""#);
    bob.peer(["wish", "film*", "--fetch", "-o"]).arg(&into).run().exits(0);
    alice.share([lab.file("film.mkv", 30_000_000)]);
    let _hers = alice.peer(["serve", "--limit", "2M"]).start();
    his.wait_for(r#""event":"wish_found""#);
    his.wait_for(r#""state":"running""#);
    bob.peer(["wishes", "end", "1"]).run().exits(0);
    his.wait_for(r#""state":"failed""#);
    assert!(!into.join("film.mkv").exists() && wishes(&bob).is_empty());
}
