//! What programs read.

use serde_json::json;
use tests::Lab;
use tests::files::names_in;

#[test]
fn every_command_speaks_ndjson() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let file = lab.file("a.bin", 2_500_000);
    let shared = bob.peer(["--json", "share"]).arg(&file).run();
    let shared = shared.exits(0).object("share");
    assert_eq!((&shared["name"], &shared["size"]), (&json!("a.bin"), &json!(2_500_000)));
    let node = bob.peer(["--json", "serve"]).start();
    node.wait_for(r#""event":"online""#);

    let peer = alice.peer(["--json", "list"]).run().exits(0).object("peer");
    assert_eq!((&peer["user"], &peer["files"], &peer["me"]), (&json!("bob"), &json!(1), &json!(false)));
    let listed = alice.peer(["--json", "files", "bob"]).run().exits(0).object("file");
    assert_eq!((&listed["name"], &listed["hash"]), (&json!("a.bin"), &shared["hash"]));
    alice.peer(["--json", "trust", "bob"]).run().exits(0).object("trust");
    alice.peer(["--json", "verify", "bob", "--yes"]).run().exits(0).object("verify");
    alice.peer(["--json", "chat", "bob", "hello"]).run().exits(0).object("ack");

    let fetched = alice.peer(["--json", "fetch", "bob", "a.bin", "-o"]).arg(lab.empty_folder("here")).run();
    let report = fetched.exits(0).object("file");
    assert_eq!(report["status"], "done");
    assert_eq!(report["bytes_fetched"], 2_500_000);
    let summary = fetched.object("summary");
    let counts = ["done", "skipped", "failed", "bytes_fetched", "bytes_resumed"].map(|key| summary[key].as_u64());
    assert_eq!(counts, [Some(1), Some(0), Some(0), Some(2_500_000), Some(0)]);
    assert!(fetched.err().is_empty(), "nothing for people: {fetched}");

    node.wait_for(r#""event":"fetched""#);
    node.interrupt();
    node.finish().exits(130).json();
}

#[test]
fn failures_are_objects_too() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("a.bin", 10)]);
    let failed = |args: &[&str], code: i32, kind: &str| {
        let outcome = alice.peer(["--json"]).args(args).run();
        assert_eq!(outcome.exits(code).object("error")["code"], kind, "{outcome}");
    };
    failed(&["fetch", "bob", "a.bin"], 4, "unavailable");
    failed(&["chat", "zoe", "x"], 4, "unavailable");
    failed(&["login", "alice"], 2, "usage");
    let _node = bob.serve();
    failed(&["fetch", "bob", "b.bin"], 5, "not_shared");
    failed(&["fetch", "bob", "b.bin", "c.bin"], 12, "partial");
    failed(&["fetch", "bob", "a.bin", "-o", "-"], 2, "usage");
}

#[test]
fn several_streams_and_one_give_the_same() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let names = ["a.bin", "b.bin", "c.bin"];
    bob.share(names.map(|name| lab.file(name, 5_000_000)));
    let _node = bob.serve();
    for jobs in ["1", "2", "8", "32"] {
        let here = lab.empty_folder(format!("here{jobs}"));
        alice.peer(["fetch", "-j", jobs, "bob", "a.bin", "b.bin", "c.bin", "-o"]).arg(&here).run().exits(0);
        for name in names {
            tests::files::assert_same(here.join(name), lab.join(name));
        }
        assert_eq!(names_in(&here), names);
    }
}

#[test]
fn quiet_says_nothing_but_errors() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.peer(["-q", "share"]).arg(lab.file("a.bin", 10)).run().exits(0).prints_exactly("");
    let _node = bob.serve();
    let fetched = alice.peer(["-q", "fetch", "bob", "a.bin", "-o"]).arg(lab.empty_folder("here")).run();
    assert_eq!(fetched.exits(0).err(), "");
    let failed = alice.peer(["-q", "fetch", "bob", "b.bin"]).run();
    failed.exits(5).says("error: ");
}
