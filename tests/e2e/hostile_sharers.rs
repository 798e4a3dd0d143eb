//! People who share more than is good for the others: everybody else is present and found all the same.

use std::net::Ipv4Addr;

use serde_json::json;
use tests::hostile::PlainSession;
use tests::{Lab, LabOptions};

fn lab(catalogue_mib: u32) -> Lab {
    let tracker_args = vec!["--max-catalogue-mib".to_owned(), catalogue_mib.to_string()];
    Lab::with(LabOptions { tracker_args, ..LabOptions::default() })
}

/// A free account that shares as much as the tracker takes; tells how many files that is.
fn fill(lab: &Lab, user: &str, from: Ipv4Addr) -> u64 {
    let mut session = PlainSession::open_from(from, lab.address());
    session.demand(&json!({ "action": "REGISTER", "user": user, "password": "x" }));
    session.demand(&json!({ "action": "LOGIN", "user": user, "password": "x", "port": 4000 }));
    let (mut count, mut at_once) = (0, 512);
    while at_once > 0 {
        let name = |n: u64| format!("{n:06} {}", "x y ".repeat(60));
        let files: Vec<_> =
            (count..count + at_once).map(|n| json!({ "name": name(n), "size": 1, "hash": "0".repeat(64) })).collect();
        let reply = session.ask(&json!({ "action": "REGISTER_FILES", "user": user, "mode": "add", "files": files }));
        match reply["code"].as_str() {
            Some("ok") => count += at_once,
            Some("busy") => at_once /= 2,
            _ => panic!("{reply}"),
        }
    }
    count
}

#[test]
fn three_accounts_that_share_all_they_can_leave_room_for_everybody_else() {
    for from in [[1, 1, 1], [2, 3, 4]] {
        let lab = lab(8);
        let filled: Vec<u64> =
            (0..3).map(|n| fill(&lab, &format!("mallory{n}"), Ipv4Addr::new(127, 0, 0, from[n]))).collect();
        assert!(filled[0] > 500, "{filled:?}");
        let bob = lab.user("bob");
        bob.share([lab.file("honest.bin", 1000)]);
        let node = bob.serve();
        let found = lab.user("alice").peer(["find", "honest"]).run();
        found.exits(0);
        assert!(found.out().contains("bob"), "{}", found.out());
        assert!(!node.said().contains("does not list"), "{}", node.said());
    }
}

#[test]
fn a_refused_list_costs_no_presence_and_is_told_once() {
    let lab = lab(1);
    let bob = lab.user("bob");
    let folder = lab.empty_folder("many");
    for n in 0..1500 {
        tests::files::write(folder.join(format!("{n:04} {}", "x y ".repeat(50))), b"x");
    }
    let wanted = lab.file("wanted.bin", 3000);
    bob.share([&folder, &wanted]);
    let node = bob.serve();
    node.wait_for("the tracker does not list what you share");

    let alice = lab.user("alice");
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["wanted.bin"], &here).run().exits(0);
    alice.peer(["chat", "bob", "are you there?"]).run().exits(0);
    node.wait_for("alice: are you there?");
    alice.peer(["find", "wanted"]).run().exits(5);

    bob.peer(["unshare", "many/"]).run().exits(0);
    node.wait_for("1 file is shared now");
    alice.peer(["find", "wanted"]).run().exits(0);
    assert_eq!(node.said().matches("does not list").count(), 1, "{}", node.said());
    assert_eq!(node.said().matches("online as bob").count(), 1, "{}", node.said());
}
