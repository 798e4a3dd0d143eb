//! The door for people who have nothing but a browser.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::thread;

use serde_json::{Value, json};
use tests::door::{Door, is_online, new_user, password_of};
use tests::files::{self, assert_same};
use tests::page::{self, Page, PageEvents};
use tests::{Invocation, Lab, LabOptions, poll_until};

/// One of the exercise's accounts, without a key.
fn unbound_account(lab: &Lab, user: &str) {
    let line = json!({ "action": "REGISTER", "user": user, "password": password_of(user) }).to_string();
    assert_eq!(exercise(lab, &line)["status"], "ok");
}

/// Says something to the tracker in plaintext.
fn exercise(lab: &Lab, line: &str) -> Value {
    let (host, port) = lab.address().split_once(':').unwrap();
    let script = "import socket,sys;s=socket.create_connection((sys.argv[1],int(sys.argv[2])),20);\
                  s.sendall(sys.argv[3].encode());print(s.recv(65536).decode())";
    let said = Invocation::new("python3", lab.path()).args(["-I", "-c", script, host, port, line]).run();
    serde_json::from_str(&said.exits(0).out()).unwrap()
}

/// Waits until a stranger has written, and accepts that.
fn accept(page: &Page, events: &mut PageEvents, from: &str) {
    events.wait_for("request", |event| event["from"] == from);
    page.post(&format!("/users/{from}/accept"), &json!({}));
}

fn wait_for_message(page: &Page, with: &str, text: &str) {
    poll_until(
        || {
            let messages = page.get(&format!("/conversations/{with}/messages"));
            let all = messages["messages"].as_array().unwrap();
            all.iter().any(|message| message["text"] == text).then_some(())
        },
        || format!("{text:?} never comes"),
    );
}

#[test]
fn whoever_logs_in_is_written_to_and_answers() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let node = bob.serve();
    let door = Door::open(&lab, &[]);
    let ana = door.new_user("ana");
    let session = ana.get("/session");
    assert_eq!((&session["user"], &session["mode"]), (&json!("ana"), &json!("door")));
    assert!(is_online(&bob, "ana"));
    let mut events = ana.events(None);
    bob.peer(["chat", "ana", "hello, browser"]).run().exits(0);
    accept(&ana, &mut events, "bob");
    wait_for_message(&ana, "bob", "hello, browser");
    ana.post("/conversations/bob/messages", &json!({ "text": "hello, terminal" }));
    node.wait_for("ana: hello, terminal");
    // Two browsers in one account see the same.
    let other = door.log_in("ana");
    wait_for_message(&other, "bob", "hello, terminal");
    let mut others = other.events(None);
    bob.peer(["chat", "ana", "to both"]).run().exits(0);
    for events in [&mut events, &mut others] {
        events.wait_for("message", |event| event["text"] == "to both");
    }
    // One logs out, and the other stays.
    assert_eq!(ana.call("DELETE", "/session", None).status, 204);
    ana.call("GET", "/users", None).fails(401);
    other.get("/users");
    assert!(is_online(&bob, "ana"));
    door.close();
    poll_until(|| (!is_online(&bob, "ana")).then_some(()), || "ana stays online".to_owned());
}

#[test]
fn files_go_both_ways() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let film = lab.file("film.mkv", 3_000_000);
    bob.share([&film]);
    let _node = bob.serve();
    let door = Door::open(&lab, &[]);
    let ana = door.new_user("ana");
    let mut events = ana.events(None);

    let (drop, notes) = ("00112233445566778899aabbccddeeff", files::noise(7, 400_000));
    assert_eq!(ana.put(&format!("/uploads/{drop}/notes%2Fone.txt"), &notes, None).status, 201);
    ana.post(&format!("/uploads/{drop}/share"), &json!({}));
    let done = events.wait_for("drop", |event| event["state"] != "running").data;
    assert_eq!(done["state"], "done", "{done}");
    let inbox = lab.empty_folder("inbox");
    bob.fetch("ana", ["notes/one.txt"], &inbox).run().exits(0);
    assert!(files::names_in(&inbox).iter().any(|name| name.contains("one.txt") || name == "notes"));

    let number = ana.post("/fetches", &json!({ "from": "bob", "name": "film.mkv" }))["number"].as_u64().unwrap();
    let done = events.wait_for("fetch", |event| event["number"] == number && event["state"] != "running").data;
    assert_eq!((&done["state"], &done["bytes"]), (&json!("done"), &json!(3_000_000)), "{done}");
    assert_same(door.account("ana").join("downloads/film.mkv"), &film);
    let ticket = ana.post("/tickets", &json!({ "fetch": number, "file": "film.mkv" }))["path"].clone();
    let cookie = [("Cookie", ana.cookie.clone())];
    let taken = page::send(door.port, "GET", ticket.as_str().unwrap(), &cookie, None);
    assert!(taken.status == 200 && taken.body == std::fs::read(&film).unwrap());
}

#[test]
fn an_account_of_another_machine_moves_only_when_its_user_says_so() {
    let lab = Lab::start();
    let (ana, bob) = (lab.user("ana"), lab.user("bob"));
    let (hers, his) = (ana.serve(), bob.serve());
    bob.peer(["chat", "ana", "before"]).run().exits(0);
    ana.peer(["inbox", "--accept", "bob"]).run().exits(0);
    let door = Door::open(&lab, &[]);
    let password = password_of("ana");
    for consent in [None, Some("bind")] {
        let refused = door.try_log_in("ana", &password, consent).fails(409);
        assert_eq!(refused["code"], "moved_needed", "{consent:?}: {refused}");
        assert!(refused["message"].as_str().unwrap().contains("is warned that the key has changed"));
    }
    assert!(hers.is_running() && !door.account("ana").exists());
    assert_eq!(door.try_log_in("ana", "wrong", Some("move")).fails(403)["code"], "wrong_password");
    assert!(hers.is_running() && !door.account("ana").exists());

    let page = Door::page(door.port, &door.try_log_in("ana", &password, Some("move")));
    assert_eq!(page.get("/session")["user"], "ana");
    hers.finish().exits(3).says("the account ana lives on another machine since ");
    // As always when a key changes.
    his.wait_for("ana");
    bob.peer(["chat", "--now", "ana", "after"]).run().exits(11).says("peer trust ana --replace");
    // Back to the machine: the door's session ends, and says why by asking again.
    ana.peer(["login", "ana", "--rebind", "--password-file"]).arg(ana.password_file()).run().exits(0);
    poll_until(|| (page.call("GET", "/users", None).status == 401).then_some(()), || "the session stays".to_owned());
    assert_eq!(door.try_log_in("ana", &password, None).fails(409)["code"], "moved_needed");
    // And again to the door: to the profile that is there.
    let before = std::fs::read(door.account("ana").join("identity/identity.pem")).unwrap();
    let page = Door::page(door.port, &door.try_log_in("ana", &password, Some("move")));
    page.get("/users");
    assert_eq!(std::fs::read(door.account("ana").join("identity/identity.pem")).unwrap(), before);
}

#[test]
fn an_account_without_a_key_gets_one_after_a_question() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    unbound_account(&lab, "olga");
    let door = Door::open(&lab, &[]);
    let password = password_of("olga");
    let refused = door.try_log_in("olga", &password, None).fails(409);
    assert_eq!(refused["code"], "consent_needed");
    assert!(refused["message"].as_str().unwrap().contains("the exercise's clients can't log in to it any more"));
    assert_eq!(door.try_log_in("olga", "wrong", None).fails(403)["code"], "wrong_password");
    // Nothing has changed: the exercise's client logs in, and stays present while the door asks.
    let login = json!({ "action": "LOGIN", "user": "olga", "password": password, "port": 4000 }).to_string();
    assert_eq!(exercise(&lab, &login)["status"], "ok");
    assert_eq!(door.try_log_in("olga", &password, None).fails(409)["code"], "consent_needed");
    assert_eq!(door.try_log_in("olga", "wrong", None).fails(403)["code"], "wrong_password");
    let listed = exercise(&lab, r#"{"action":"LIST_PEERS"}"#);
    assert!(listed["peers"].as_array().unwrap().iter().any(|peer| peer["user"] == "olga" && peer["port"] == 4000));

    let page = Door::page(door.port, &door.try_log_in("olga", &password, Some("bind")));
    page.get("/users");
    assert!(is_online(&bob, "olga"));
    assert_eq!(exercise(&lab, &login)["code"], "tls_required");
    // From now on it lives here.
    door.log_in("olga").get("/users");
}

#[test]
fn a_restart_ends_sessions_and_keeps_accounts() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let _node = bob.serve();
    let operator = lab.stranger("operator");
    let door = Door::open_of(&operator, &[]);
    let ana = door.new_user("ana");
    let mut events = ana.events(None);
    bob.peer(["chat", "ana", "kept"]).run().exits(0);
    accept(&ana, &mut events, "bob");
    wait_for_message(&ana, "bob", "kept");
    // One door a folder.
    let second = operator.peer(["web", "--accounts", "--listen", "127.0.0.1:0"]).run();
    second.exits(2).says("another `peer web --accounts` has its accounts in");
    door.close();
    let again = Door::open_of(&operator, &[]);
    let stale = Page { port: again.port, ..ana };
    stale.call("GET", "/users", None).fails(401);
    wait_for_message(&again.log_in("ana"), "bob", "kept");
}

#[test]
fn twenty_accounts_at_once() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let _node = bob.serve();
    let door = Door::open(&lab, &[]);
    let users: Vec<String> = (0..20).map(|n| format!("student{n}x")).collect();
    let port = door.port;
    let pages: Vec<Page> = thread::scope(|scope| {
        let made: Vec<_> = users.iter().map(|user| scope.spawn(move || new_user(port, user))).collect();
        made.into_iter().map(|page| page.join().unwrap()).collect()
    });
    thread::scope(|scope| {
        for (user, page) in users.iter().zip(&pages) {
            scope.spawn(move || page.post("/conversations/bob/messages", &json!({ "text": format!("from {user}") })));
        }
    });
    for user in &users {
        // A terminal sums up what so many strangers write.
        poll_until(
            || bob.peer(["history", user]).run().out().contains(&format!("from {user}")).then_some(()),
            || format!("nothing comes from {user}"),
        );
        assert!(is_online(&bob, user), "{user}");
    }
    // Among themselves, through nodes of one process.
    let mut events = pages[1].events(None);
    let text = json!({ "text": "to a neighbour" });
    pages[0].post(&format!("/conversations/{}/messages", users[1]), &text);
    accept(&pages[1], &mut events, &users[0]);
    wait_for_message(&pages[1], &users[0], "to a neighbour");
    door.close();
}

#[test]
fn who_left_goes_offline_and_comes_back_with_a_call() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let node = bob.serve();
    let door = Door::open(&lab, &["--stay-online", "1s"]);
    let ana = door.new_user("ana");
    let mut events = ana.events(None);
    bob.peer(["chat", "ana", "hello"]).run().exits(0);
    accept(&ana, &mut events, "bob");
    wait_for_message(&ana, "bob", "hello");
    assert!(is_online(&bob, "ana"));
    drop(events);
    poll_until(|| (!is_online(&bob, "ana")).then_some(()), || "ana stays online".to_owned());
    // What is written meanwhile waits with its sender, and comes when she is back.
    bob.peer(["chat", "ana", "meanwhile"]).run().exits(0).says("ana is offline");
    wait_for_message(&ana, "bob", "meanwhile");
    assert!(is_online(&bob, "ana"));
    ana.post("/conversations/bob/messages", &json!({ "text": "back again" }));
    node.wait_for("ana: back again");
    door.close();
}

#[test]
fn the_tracker_counts_each_of_them_alone() {
    let folder = tempfile::tempdir().unwrap();
    let key = certs::Identity::load_or_create(&folder.path().join("identity")).unwrap().fingerprint().to_string();
    let few = ["--max-connections-per-ip", "6", "--trusted-door", &key].map(str::to_owned).to_vec();
    let lab = Lab::with(LabOptions { tracker_args: few, ..LabOptions::default() });
    let operator = lab.stranger("operator");
    DirBuilder::new().recursive(true).mode(0o700).create(operator.home().join("door")).unwrap();
    std::fs::rename(folder.path().join("identity"), operator.home().join("door/~identity")).unwrap();
    let door = Door::open_of(&operator, &[]);
    assert_eq!((&door.told["door_key"], &door.told["trusted"]), (&json!(key), &json!(true)));
    let pages: Vec<Page> = (0..12).map(|n| door.new_user(&format!("student{n}x"))).collect();
    let mut last = pages[11].events(None);
    pages[0].post("/conversations/student11x/messages", &json!({ "text": "all of us" }));
    accept(&pages[11], &mut last, "student0x");
    wait_for_message(&pages[11], "student0x", "all of us");
    door.close();
    // Another door is nobody that the tracker trusts, and works within the bounds of one machine.
    let stranger = Door::open_of(&lab.stranger("other"), &[]);
    assert_eq!(stranger.told["trusted"], false);
    stranger.new_user("zoe").get("/users");
    stranger.close();
}

#[test]
fn it_is_encrypted_unless_told_and_says_what_it_is() {
    let lab = Lab::start();
    let operator = lab.stranger("operator");
    let said = operator.peer(["web", "--accounts", "--listen", "127.0.0.1:0"]).start();
    let url = said.wait_for("https://127.0.0.1:");
    said.wait_for("this machine holds the keys and messages of everybody who comes in here");
    let line = said.wait_for("the certificate's SHA-256, to compare with the browser's: ");
    said.wait_for("--trusted-door ");
    let shown = line.rsplit(": ").next().unwrap().trim().to_owned();
    let url = url.trim();
    let curl =
        |args: &[&str]| Invocation::new("curl", lab.path()).args(["-sS", "-k", "--max-time", "30"]).args(args).run();
    let probe = "import ssl,hashlib,sys;p=int(sys.argv[1]);\
                 d=ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(('127.0.0.1',p)));\
                 print(':'.join('%02X'%b for b in hashlib.sha256(d).digest()))";
    let port = url.trim_end_matches('/').rsplit(':').next().unwrap();
    let served = Invocation::new("python3", lab.path()).args(["-I", "-c", probe, port]).run();
    assert_eq!(served.exits(0).out().trim(), shown);
    let json = "Content-Type: application/json";
    let body = json!({ "user": "ana", "password": password_of("ana") }).to_string();
    curl(&["-f", "-H", json, "-d", &body, &format!("{url}api/v1/accounts")]).exits(0);
    let opened = curl(&["-f", "-i", "-H", json, "-d", &body, &format!("{url}api/v1/session")]);
    let opened = opened.exits(0).out().to_lowercase();
    assert!(
        opened.contains("; secure") && opened.contains("httponly") && opened.contains("samesite=strict"),
        "{opened}"
    );
    assert!(!curl(&["-f", &format!("http://127.0.0.1:{port}/")]).is_success());
    said.interrupt();
    said.finish().exits(130);
    let plain = operator.peer(["web", "--accounts", "--listen", "127.0.0.1:0", "--plain-http"]).start();
    plain.wait_for("http://127.0.0.1:");
    plain.wait_for("nothing is encrypted between browsers and this machine");
    plain.interrupt();
    plain.finish().exits(130);
}
