//! The tracker with its accounts in PostgreSQL: restarts, copies there and back, and a database that goes away.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use postgres_server::PostgresServer;
use serde_json::{Value, json};
use tests::{Invocation, Lab, LabOptions, Outcome, binaries, poll_until};

/// Starts a tracker on an empty database.
fn lab_on(server: &PostgresServer) -> (Lab, String) {
    let address = server.address(&server.create_database().unwrap());
    (lab_at(&address), address)
}

fn lab_at(address: &str) -> Lab {
    let tracker_args = vec!["--no-mdns".to_owned(), "--store".to_owned(), address.to_owned()];
    Lab::with(LabOptions { tracker_args, restarts: true, ..LabOptions::default() })
}

fn tracker(lab: &Lab, args: &[&str]) -> Outcome {
    Invocation::new(binaries::binary("tracker"), lab.path()).args(args).run()
}

fn tracker_on(lab: &Lab, folder: &Path, args: &[&str]) -> String {
    let outcome = tracker(lab, &[args, &["--data-dir", folder.to_str().unwrap()]].concat());
    outcome.exits(0).out()
}

fn ask(lab: &Lab, request: &Value) -> Value {
    let mut stream = BufReader::new(TcpStream::connect(lab.address()).unwrap());
    stream.get_mut().write_all(request.to_string().as_bytes()).unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

fn register(lab: &Lab, user: &str) -> Value {
    ask(lab, &json!({ "action": "REGISTER", "user": user, "password": "s3nha" }))
}

fn status(lab: &Lab) -> Value {
    serde_json::from_str(&tracker_on(lab, &lab.join("tracker"), &["status", "--json"])).unwrap()
}

fn stop(lab: &Lab) {
    let process = lab.take_tracker();
    process.terminate();
    process.finish().exits(0);
}

/// Returns all that is told of accounts and rooms.
fn lists(lab: &Lab, folder: &Path) -> [String; 3] {
    [&["export", "users"][..], &["user", "list", "--json"], &["room", "list", "--json"]]
        .map(|args| tracker_on(lab, folder, args).replace(r#""online": true"#, r#""online": false"#))
}

#[test]
fn accounts_in_a_database_outlive_kills_and_copies_there_and_back() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let (mut lab, address) = lab_on(server);
    let alice = lab.user("alice");
    alice.peer(["room", "create", "lab"]).run().exits(0);
    for user in ["bob", "carol"] {
        assert_eq!(register(&lab, user)["code"], "ok");
    }
    assert!(status(&lab)["store"].as_str().unwrap().starts_with("PostgreSQL database test_"), "{}", status(&lab));
    // A second tracker, which has a folder of its own.
    let second = ["--listen", "127.0.0.1:0", "--data-dir", "second", "--store", &address];
    tracker(&lab, &second).exits(1).says("everybody who has an account here knows this tracker by it");
    let home = alice.home().to_owned();
    lab.kill_tracker();
    lab.start_tracker();
    let folder = lab.join("tracker");
    let told = lists(&lab, &folder);
    assert!(told[0].contains("carol") && told[2].contains("\"lab\""), "{told:?}");
    assert_eq!(register(&lab, "BOB")["code"], "user_exists");
    stop(&lab);

    // To a folder, to another database, and each time a tracker on it.
    let (first, other) = (lab.join("first"), server.address(&server.create_database().unwrap()));
    tracker(&lab, &["migrate", "--from", &address, "--to", "first"]).exits(0).prints("copied: 3 accounts, 1 room");
    tracker(&lab, &["migrate", "--from", &address, "--to", "first"]).exits(1).says("tracker.db is there");
    std::fs::create_dir_all(first.join("identity")).unwrap();
    std::fs::set_permissions(first.join("identity"), Permissions::from_mode(0o700)).unwrap();
    std::fs::copy(folder.join("identity/identity.pem"), first.join("identity/identity.pem")).unwrap();
    let embedded = ["--listen", "127.0.0.1:0", "--no-mdns", "--data-dir", "first"];
    let process = Invocation::new(binaries::binary("tracker"), lab.path()).args(embedded).start();
    process.wait_for("tracker listening on ");
    assert_eq!(lists(&lab, &first), told);
    tracker(&lab, &["migrate", "--from", "first", "--to", &other]).exits(1).says("a tracker runs on the data folder");
    process.terminate();
    process.finish().exits(0);
    tracker(&lab, &["migrate", "--from", "first", "--to", &other]).exits(0).prints("copied: 3 accounts, 1 room");
    tracker(&lab, &["migrate", "--from", "first", "--to", &other]).exits(1).says("there are accounts or rooms already");
    let in_database = [&embedded[..], &["--store", &other]].concat();
    let process = Invocation::new(binaries::binary("tracker"), lab.path()).args(in_database).start();
    process.wait_for("tracker listening on ");
    assert_eq!(lists(&lab, &first), told);
    process.terminate();
    process.finish().exits(0);
    assert!(home.exists());
}

#[test]
fn a_backup_holds_the_accounts_wherever_they_are() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let (lab, address) = lab_on(server);
    assert_eq!(register(&lab, "bob")["code"], "ok");
    let users = tracker_on(&lab, &lab.join("tracker"), &["export", "users"]);
    tracker_on(&lab, &lab.join("tracker"), &["backup", "b.tar"]);
    tracker(&lab, &["restore", "b.tar", "--data-dir", "x", "--store", &address]).exits(1).says("tracker migrate");
    tracker(&lab, &["restore", "b.tar", "--data-dir", "restored"]).exits(0).prints("restored: 1 account");
    let process = Invocation::new(binaries::binary("tracker"), lab.path())
        .args(["--listen", "127.0.0.1:0", "--no-mdns", "--data-dir", "restored"])
        .start();
    process.wait_for("tracker listening on ");
    assert_eq!(tracker_on(&lab, &lab.join("restored"), &["export", "users"]), users);
}

#[test]
fn a_database_that_goes_away_refuses_changes_and_nothing_else() {
    let Some(mut server) = PostgresServer::start().unwrap() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let (lab, _) = lab_on(&server);
    assert_eq!(register(&lab, "bob")["code"], "ok");
    let login = json!({ "action": "LOGIN", "user": "bob", "password": "s3nha", "port": 4000 });
    assert_eq!(ask(&lab, &login)["code"], "ok");
    let list = json!({ "action": "LIST_PEERS" });
    let refused = |user: &str| {
        let began = Instant::now();
        let reply = register(&lab, user);
        assert_eq!(reply["code"], "busy", "{reply}");
        assert!(reply["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0), "{reply}");
        assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
        assert_eq!(ask(&lab, &list)["total"], 1);
    };
    let accepted = |user: &str| {
        let accepted = || (register(&lab, user)["code"] == "ok").then_some(());
        poll_until(accepted, || format!("{user} is never registered"));
    };
    server.freeze().unwrap();
    refused("carol");
    let away = || status(&lab)["store_outage"].as_str().map(str::to_owned);
    poll_until(away, || "the status never says it".to_owned());
    server.thaw().unwrap();
    accepted("carol");
    server.kill().unwrap();
    refused("dora");
    server.restart().unwrap();
    accepted("dora");
    assert_eq!(status(&lab)["users"], 3);
    assert_eq!(status(&lab)["store_outage"], Value::Null);
}

#[test]
fn an_address_never_shows_its_password() {
    let lab = Lab::without_tracker();
    for args in [
        &["--data-dir", "d", "--store", "postgres://t:s3cret@h/v"][..],
        &["--data-dir", "d", "--store", "postgres://t@h/v?password=s3cret"],
        &["--data-dir", "d", "--store", "postgres://t:s3cret@h/v", "config"],
        &["migrate", "--from", "d", "--to", "postgres://t:s3cret@h/v"],
    ] {
        let outcome = tracker(&lab, args);
        let said = outcome.out() + &outcome.err();
        assert!(!said.contains("s3cret"), "{said}");
        assert!(args.contains(&"config") || said.contains("PGPASSWORD"), "{said}");
    }
    assert!(!lab.join("d").exists(), "nothing was begun");
}
