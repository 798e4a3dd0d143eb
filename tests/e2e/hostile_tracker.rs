//! A tracker that isn't one, or not the one it was.

use std::io::Write;

use serde_json::{Value, json};
use tests::hostile::{HostileTracker, say_and_stay};
use tests::{Lab, Outcome};

fn register_at(address: &str) -> Outcome {
    let lab = Lab::without_tracker();
    let alice = lab.stranger("alice");
    let register = alice.peer(["--tracker", address, "register", "alice", "--password-file"]);
    let outcome = register.arg(alice.password_file()).run();
    outcome.is_plain();
    assert!(outcome.code == 0 || alice.peer(["whoami"]).run().code == 3, "a failed one makes no account");
    outcome
}

fn ok(fields: &Value) -> Vec<u8> {
    let mut reply = json!({ "status": "ok", "code": "ok", "message": "fine" });
    reply.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    format!("{reply}\n").into_bytes()
}

#[test]
fn another_program_on_its_port_is_exit_7() {
    for banner in
        ["SSH-2.0-OpenSSH_9.6p1\r\n", "220 mail.example ESMTP\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "\u{16}\u{3}"]
    {
        let other = HostileTracker::plain(move |connection| say_and_stay(connection, banner));
        // The beginning of a record of TLS may be that of an answer.
        let told = if banner.starts_with('\u{16}') { "doesn't answer within 5 s" } else { "is not a Vizinho tracker" };
        register_at(&other.address()).exits(7).says(told);
    }
}

#[test]
fn a_program_that_hangs_up_is_exit_7() {
    let other = HostileTracker::plain(drop);
    register_at(&other.address()).exits(7).says(&other.address());
}

#[test]
fn a_program_that_says_nothing_is_exit_7() {
    let other = HostileTracker::plain(|connection| say_and_stay(connection, ""));
    register_at(&other.address()).exits(7).says(&other.address());
}

#[test]
fn rubbish_for_a_reply_is_exit_7() {
    let replies: [&[u8]; 7] = [
        b"\xff\xfe\xfd\n",
        b"not json at all\n",
        b"[]\n",
        b"{}\n",
        b"{\"status\":\"perhaps\"}\n",
        b"\n",
        b"{\"event\":\"online\"}\n{\"event\":\"\x1b[2J\"}\n\xff\n",
    ];
    for reply in replies {
        let tracker = HostileTracker::with_tls(move |_| reply.to_vec());
        register_at(&tracker.address()).exits(7);
    }
}

#[test]
fn errors_of_a_tracker_are_shown_harmlessly() {
    let tracker = HostileTracker::with_tls(|_| {
        let message = "\u{1b}]52;c;cm0gLXJm\u{7}\r\u{1b}[2Jno\n\u{202e}";
        format!("{}\n", json!({ "status": "error", "code": "user_exists", "message": message })).into_bytes()
    });
    register_at(&tracker.address()).exits(6);
}

#[test]
fn a_reply_without_end_is_exit_7() {
    let tracker = HostileTracker::with_tls(|_| vec![b'x'; 64 << 20]);
    let lab = Lab::without_tracker();
    let alice = lab.stranger("alice");
    // 64 MiB of one line, then nothing: it isn't read to its end, nor waited for.
    let register = alice.peer(["--tracker", &tracker.address(), "register", "alice", "--password-file"]);
    register.arg(alice.password_file()).run().exits(7).says("a line without end").is_plain();
}

#[test]
fn another_certificate_than_before_is_exit_11() {
    let lab = Lab::with_restarts();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.serve();
    lab.kill_tracker();
    let impostor = HostileTracker::with_tls_at(lab.address(), |_| ok(&json!({ "peers": [], "total": 0 })));
    let shown = |outcome: &Outcome| {
        outcome.exits(11).says("identity of the tracker").says("peer trust --the-tracker --replace ").is_plain();
    };
    for args in [&["list"][..], &["fetch", "bob", "x"], &["chat", "bob", "x"], &["serve"]] {
        shown(&alice.peer(args).run());
    }
    // A node that was online doesn't go on under another tracker either.
    shown(&node.finish());

    let refused = alice.peer(["list"]).run().err();
    let advice = refused.lines().find(|line| line.contains("peer trust")).expect("advice").trim().to_owned();
    let words: Vec<&str> = advice.split(' ').skip(1).collect();
    alice.peer(words).arg("--yes").run().exits(0);
    alice.peer(["list"]).run().exits(0);
    drop(impostor);
}

#[test]
fn a_list_that_lies_is_not_believed() {
    // It says that bob is somewhere with a key of its own making: the record says otherwise.
    let lab = Lab::with_restarts();
    let alice = lab.user("alice");
    let entry = |fingerprint: &str| {
        json!({ "peers": [{ "user": "bob", "ip": "127.0.0.1", "port": 9, "addresses": [],
                            "fingerprint": fingerprint, "files": [] }], "total": 1 })
    };
    let (first, second) = ("11".repeat(32), "22".repeat(32));
    let tracker = HostileTracker::with_tls(move |_| ok(&entry(&first)));
    let home = lab.join("alice");
    let files = |address: &str| alice.peer(["--tracker", address, "files", "bob"]).env("VIZINHO_HOME", &home).run();
    files(&tracker.address()).exits(7);
    let other = HostileTracker::with_tls(move |_| ok(&entry(&second)));
    let changed = files(&other.address());
    changed.exits(11).says(&"11".repeat(32)).says(&format!("peer trust bob --replace {}", "22".repeat(32)));
}

#[test]
fn a_list_of_nonsense_is_exit_7() {
    let lists = [
        json!({ "peers": "none", "total": 0 }),
        json!({ "peers": [{ "user": "a b", "ip": "127.0.0.1", "port": 1, "fingerprint": null }], "total": 1 }),
        json!({ "peers": [{ "user": "bob", "ip": "here", "port": 1, "fingerprint": null }], "total": 1 }),
        json!({ "peers": [{ "user": "bob", "ip": "127.0.0.1", "port": 70_000, "fingerprint": null }], "total": 1 }),
        json!({ "peers": [{ "user": "bob", "ip": "127.0.0.1", "port": 1, "fingerprint": null,
                            "files": [{ "name": "../../x", "size": 1, "hash": "x" }] }], "total": 1 }),
        json!({ "total": 0 }),
    ];
    let lab = Lab::start();
    let alice = lab.user("alice");
    for list in lists {
        let reply = ok(&list);
        let tracker = HostileTracker::with_tls(move |_| reply.clone());
        let outcome = alice.peer(["--tracker", &tracker.address(), "list"]).run();
        outcome.exits(7).prints_exactly("").is_plain();
    }
}

#[test]
fn pages_without_end_are_exit_7() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let tracker = HostileTracker::with_tls(|request| {
        // The next name after the cursor, with a place for more behind it.
        let cursor = request["cursor"].as_str().unwrap_or("bob/a");
        match request["action"].as_str() {
            Some("FIND") => ok(&json!({ "files": [], "next": format!("{cursor}a") })),
            _ => ok(&json!({ "peers": [], "total": 1, "next": format!("{}a", cursor.replace('/', "")) })),
        }
    });
    for command in [&["list"][..], &["find", "film"]] {
        let outcome = alice.peer(["--tracker", &tracker.address()]).args(command).run();
        outcome.exits(7).says("a page is empty, and is not the last").is_plain();
    }
}

#[test]
fn a_connection_that_breaks_in_the_middle_of_a_reply_is_exit_7() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let tracker = HostileTracker::with_tls(|request| {
        // Half a line, and no more: the client hears nothing else, or the end.
        assert!(request["action"].is_string());
        b"{\"status\":\"ok\",\"co".to_vec()
    });
    let listing = alice.peer(["--tracker", &tracker.address(), "list"]).start();
    listing.wait_for("first contact with the tracker");
    drop(tracker);
    listing.interrupt();
    listing.finish().exits(130);
    let hangs_up = HostileTracker::plain(|mut connection| {
        let _ = connection.write_all(b"\x16\x03\x03");
    });
    alice.peer(["--tracker", &hangs_up.address(), "list"]).run().exits(7);
}
