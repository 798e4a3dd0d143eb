//! Who is there, who shares what, and how soon that is known.

use std::time::{Duration, Instant};

use tests::Lab;
use tests::files::write;

#[test]
fn files_are_found_by_words_and_by_hash_wherever_they_are() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    for (owner, name, content) in [
        (&bob, "Annual Report 2024.pdf", "a report"),
        (&bob, "notes.txt", "notes"),
        (&carol, "old-report.pdf", "a report"),
    ] {
        owner.share([write(lab.join(format!("files of {}", owner.name())).join(name), content)]);
    }
    let _nodes = (bob.serve(), carol.serve());

    let found = alice.peer(["find", "REPORT", "pdf"]).run();
    found
        .exits(0)
        .prints_exactly("      8 B  bob  Annual Report 2024.pdf\n      8 B  carol  old-report.pdf\n")
        .is_plain();
    alice.peer(["find", "2024 rep"]).run().exits(0).prints_exactly("      8 B  bob  Annual Report 2024.pdf\n");
    let objects = alice.peer(["--json", "find", "report"]).run().exits(0).json();
    let (first, second) = (&objects[0], &objects[1]);
    assert_eq!((&first["type"], &first["user"], &first["size"]), (&"file".into(), &"bob".into(), &8.into()));
    assert_eq!(first["hash"], second["hash"]);
    let hash = first["hash"].as_str().unwrap();
    alice.peer(["find", hash]).run().exits(0).prints("bob").prints("carol");
    alice.peer(["find", "report", "--limit", "1"]).run().exits(0).prints("bob").says("there are more");

    alice.peer(["find", "eport"]).run().exits(5).says("nobody who is online shares eport");
    alice.peer(["find", &hash.replace(|c| c != 'a', "a")]).run().exits(5);
    alice.peer(["find", "..."]).run().exits(2).says("words of letters and digits");
    lab.stranger("eve").peer(["find", "report"]).run().exits(3);
}

#[test]
fn more_than_a_page_is_found_and_counted_without_its_catalogue() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for number in 0..1203 {
        write(lab.join(format!("many/song {number:04}.ogg")), number.to_string());
    }
    bob.share([lab.join("many")]);
    let _node = bob.serve();
    let found = alice.peer(["find", "song", "--limit", "5000"]).run();
    let lines: Vec<String> = found.exits(0).out().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 1203);
    assert!(lines.is_sorted_by_key(|line| line.split_once("bob").unwrap().1.to_owned()));
    alice.peer(["find", "song"]).run().exits(0).says("there are more");
    alice.peer(["list"]).run().exits(0).prints("1203 files");
}

#[test]
fn the_list_can_be_narrowed() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    bob.share([lab.file("a.txt", 10), lab.file("b.txt", 20)]);
    carol.share([lab.file("b.txt", 20)]);
    let _nodes = (bob.serve(), carol.serve());
    let who = |args: &[&str]| {
        let listed = alice.peer(["--json", "list"]).args(args).run();
        let peers = listed.exits(0).json();
        peers.iter().map(|peer| format!("{} {}", peer["user"].as_str().unwrap(), peer["files"])).collect::<Vec<_>>()
    };
    assert_eq!(who(&[]), ["bob 2", "carol 1"]);
    assert_eq!(who(&["carol"]), ["carol 1"]);
    assert_eq!(who(&["--sharing", "a.txt"]), ["bob 1"]);
    assert_eq!(who(&["--limit", "1"]), ["bob 2"]);
    alice.peer(["list", "--limit", "1"]).run().exits(0).says("and 1 more");
    let found = alice.peer(["--json", "find", "b.txt"]).run();
    let hash = found.exits(0).json()[0]["hash"].as_str().unwrap().to_owned();
    assert_eq!(who(&["--hash", &hash]), ["bob 1", "carol 1"]);
    alice.peer(["list", "alice"]).run().exits(4).says("alice is offline");
    alice.peer(["list", "nobody"]).run().exits(4).says("no user \"nobody\"");
}

/// How long a tracker's word may take, with all that a busy machine adds: what isn't pushed comes with the next look at
/// the list, half a minute later.
const AT_ONCE: Duration = Duration::from_secs(5);

#[test]
fn a_friend_s_coming_and_going_is_known_at_once() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let hers = alice.serve();
    for round in 1..=3 {
        let his = bob.serve();
        let online = Instant::now();
        hers.wait_for_nth("bob is online", round);
        assert!(online.elapsed() < AT_ONCE, "{:?}", online.elapsed());
        his.interrupt();
        his.finish().exits(130);
        let offline = Instant::now();
        hers.wait_for_nth("bob went offline", round);
        assert!(offline.elapsed() < AT_ONCE, "{:?}", offline.elapsed());
    }
}

#[test]
fn a_key_that_is_no_longer_somebody_s_is_turned_away_at_once() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = alice.serve();
    bob.peer(["chat", "alice", "it is me"]).run().exits(0);
    node.wait_for("bob: it is me");
    let thief = lab.stranger("thief");
    thief.peer(["login", "bob", "--rebind", "--password-file"]).arg(bob.password_file()).run().exits(0);
    // The node had the tracker's word that this key is bob's, a moment ago.
    bob.peer(["chat", "alice", "me again"]).run().exits(3).says("the account bob lives on another machine since");
    assert!(!node.said().contains("me again"));
}
