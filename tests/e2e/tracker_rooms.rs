//! Rooms at the tracker's binary: the exercise's own clients beside callers with a key, strangers, floods and restores.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

use certs::Identity;
use serde_json::{Value, json};
use tests::hostile::{Caller, PlainSession, Session};
use tests::{Invocation, Lab, LabOptions, binaries, earlier};

/// Accounts of a machine that floods the tracker with rooms, and what each of them asks for.
const FLOODING_ACCOUNTS: usize = 15;
const FLOODED_ROOMS: usize = 12;
/// Requests that a connection may have refused before it has to wait.
const REFUSALS_AT_ONCE: usize = 10;

fn member(lab: &Lab, user: &str) -> (Identity, Session) {
    let identity = Caller::register(lab, user);
    let session = Session::open(lab.address(), &identity);
    (identity, session)
}

fn on(action: &str, room: &str) -> Value {
    json!({ "action": action, "room": room })
}

fn about(action: &str, room: &str, user: &str) -> Value {
    json!({ "action": action, "room": room, "user": user })
}

fn tracker_command(lab: &Lab, args: &[&str]) -> Invocation {
    let tracker = Invocation::new(binaries::binary("tracker"), lab.path());
    tracker.args(args.iter().copied()).arg("--data-dir").arg(lab.join("tracker"))
}

#[test]
fn a_class_of_the_exercise_and_a_peer_share_a_room() {
    let lab = Lab::start();
    let (_, mut carla) = member(&lab, "carla");
    let mut owner = PlainSession::open(lab.address());
    owner.demand(&json!({ "action": "REGISTER", "user": "prof", "password": "x" }));
    owner.demand(&json!({ "action": "LOGIN", "user": "prof", "password": "x", "port": 5000 }));
    let made = owner.ask(&json!({ "cmd": "CREATE_ROOM", "room": "sala", "user": "prof", "senha": null }));
    assert_eq!((&made["status"], &made["members"]), (&json!("OK"), &json!(["prof"])), "{made}");
    carla.demand(&on("ROOM_JOIN", "sala"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/exercise_cmd_client.py");
    let (host, port) = lab.address().split_once(':').unwrap();
    for (number, style) in ["one", "each", "one+nul"].iter().enumerate() {
        let client = Invocation::new("python3", lab.path()).arg("-I").arg(&script);
        let client = client.args([host, port, &format!("aluno{number}"), style]);
        client.run().exits(0).prints_exactly("all of it, twice\n");
    }
    let records = carla.demand(&on("ROOM_MEMBERS", "sala"));
    assert_eq!(records["keyless"], json!(["prof", "aluno0", "aluno1", "aluno2"]));
    // Nobody without a key has a record.
    assert_eq!(records["records"].as_array().unwrap().len(), 2);
    let kick = |member: &str| json!({ "cmd": "KICK_MEMBER", "room": "sala", "admin": "prof", "member": member });
    for member in ["aluno0", "carla"] {
        assert_eq!(owner.ask(&kick(member))["status"], "OK");
    }
    let members = owner.ask(&json!({ "cmd": "GET_ROOM_MEMBERS", "room": "sala" }));
    assert_eq!(members["members"], json!(["prof", "aluno1", "aluno2"]));
    // Who was sent away learns that, gets nothing more, and comes back by invitation only.
    assert_eq!(carla.demand(&on("ROOM_MEMBERS", "sala"))["records"].as_array().unwrap().len(), 3);
    assert_eq!(carla.ask(&on("ROOM_JOIN", "sala"))["code"], "forbidden");
    assert_eq!(carla.ask(&about("ROOM_INVITE", "sala", "carla"))["code"], "forbidden");
}

#[test]
fn a_stranger_gets_nothing_of_a_room_and_names_with_escapes_are_none() {
    let lab = Lab::start();
    let (_, mut alice) = member(&lab, "alice");
    let (_, mut mallory) = member(&lab, "mallory");
    alice.demand(&json!({ "action": "ROOM_CREATE", "room": "lab", "invite_only": true }));
    for action in ["ROOM_MEMBERS", "ROOM_JOIN", "ROOM_LEAVE", "ROOM_DELETE", "ROOM_PASSWD"] {
        let reply = mallory.ask(&on(action, "lab"));
        assert_eq!((&reply["code"], &reply["records"]), (&json!("forbidden"), &Value::Null), "{action}");
    }
    for action in ["ROOM_INVITE", "ROOM_KICK", "ROOM_BAN", "ROOM_UNBAN", "ROOM_OWNER"] {
        assert_eq!(mallory.ask(&about(action, "lab", "alice"))["code"], "forbidden", "{action}");
    }
    let mut student = PlainSession::open(lab.address());
    let members = student.ask(&json!({ "cmd": "GET_ROOM_MEMBERS", "room": "lab" }));
    assert_eq!(members["status"], "ERROR", "{members}");
    for name in ["\u{1b}[31mlab", "lab\n", "a/b", "..", "--help", "", "\u{202e}lab", &"x".repeat(33)] {
        let reply = mallory.ask(&on("ROOM_CREATE", name));
        assert_eq!(reply["code"], "bad_request", "{name:?}: {reply}");
        let text = reply["message"].as_str().unwrap();
        assert!(text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text:?}");
    }
    alice.demand(&json!({ "action": "ROOM_TOPIC", "room": "lab", "topic": "\u{202e}olá \u{200b}" }));
    let listed = tracker_command(&lab, &["room", "list"]).run();
    listed.exits(0).prints("#lab").prints("by invitation").is_plain();
    assert!(!listed.out().contains('\u{202e}'), "{}", listed.out());
    tracker_command(&lab, &["room", "delete", "lab"]).run().exits(0);
    tracker_command(&lab, &["room", "delete", "lab"]).run().exits(1).says("there is no such room");
    assert_eq!(alice.ask(&on("ROOM_TOPIC", "lab"))["code"], "bad_request");
    assert_eq!(alice.ask(&on("ROOM_LEAVE", "lab"))["code"], "not_found");
}

#[test]
fn a_machine_that_makes_accounts_and_rooms_in_a_loop_keeps_nobody_else_out() {
    let tracker_args = ["--rate-limit-registrations".to_owned(), "0".to_owned()].into();
    let lab = Lab::with(LabOptions { tracker_args, ..LabOptions::default() });
    let (mut made, begun) = (0, Instant::now());
    for account in 0..FLOODING_ACCOUNTS {
        let (_, mut mallory) = member(&lab, &format!("mallory{account}"));
        for room in 0..FLOODED_ROOMS {
            let reply = mallory.ask(&on("ROOM_CREATE", &format!("flood-{account}-{room}")));
            match reply["code"].as_str().unwrap() {
                "ok" => made += 1,
                code => assert_eq!(code, "rate_limited", "{reply}"),
            }
        }
    }
    // One more becomes free every 36 s.
    let freed = begun.elapsed().as_secs() / 36 + 1;
    assert!((100..=100 + freed).contains(&made), "{made} an hour from one address");
    let (_, mut alice) = member(&lab, "alice");
    // Another account of that machine gets no more than what became free meanwhile.
    let asked: Vec<Value> = (0..3).map(|room| alice.ask(&on("ROOM_CREATE", &format!("den-{room}")))).collect();
    made += asked.iter().filter(|reply| reply["code"] == "ok").count() as u64;
    assert!(asked.iter().any(|reply| reply["code"] == "rate_limited"), "{asked:?}");
    let mut elsewhere = PlainSession::open_from(Ipv4Addr::new(127, 0, 0, 9), lab.address());
    elsewhere.demand(&json!({ "action": "REGISTER", "user": "ana", "password": "x" }));
    elsewhere.demand(&json!({ "action": "LOGIN", "user": "ana", "password": "x", "port": 5000 }));
    elsewhere.demand(&json!({ "action": "CREATE_ROOM", "user": "ana", "room": "lab" }));
    // What the flood made doesn't keep anybody out of a room.
    alice.demand(&on("ROOM_JOIN", "lab"));
    let names = elsewhere.demand(&json!({ "action": "LIST_ROOMS" }));
    assert_eq!((names["rooms"].as_array().unwrap().len() as u64, &names["total"]), (made + 1, &Value::Null), "{names}");
}

#[test]
fn rooms_made_in_a_loop_are_a_hundred_and_no_burden() {
    let asked = if std::env::var_os("VIZINHO_LONG").is_some() { 10_000 } else { 2_000 };
    let lab = Lab::start();
    let (_, mut alice) = member(&lab, "alice");
    let (identity, _) = member(&lab, "mallory");
    let resident_mib = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", lab.tracker_pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    };
    let (before, begun, mut made) = (resident_mib(), Instant::now(), 0);
    for first in (0..asked).step_by(REFUSALS_AT_ONCE) {
        // A connection is slowed down after so many refusals: a loop that knows that takes a new one.
        let mut mallory = Session::open(lab.address(), &identity);
        for number in first..first + REFUSALS_AT_ONCE {
            let reply = mallory.ask(&on("ROOM_CREATE", &format!("flood-{number}")));
            match reply["code"].as_str().unwrap() {
                "ok" => made += 1,
                code => assert_eq!(code, "rate_limited", "{reply}"),
            }
        }
    }
    let freed = begun.elapsed().as_secs() / 36 + 1;
    assert!((1..=100 + freed).contains(&made), "{made} rooms of one account");
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < 32, "{grown} MiB more");
    let listed = alice.demand(&json!({ "action": "ROOM_LIST" }));
    assert!(listed["rooms"].as_array().unwrap().len() as u64 <= made, "{listed}");
    // She is refused for her own pace alone.
    assert_eq!(alice.demand(&on("ROOM_JOIN", "flood-0"))["status"], "ok");
}

#[test]
fn a_restored_tracker_says_so_in_every_room() {
    let mut lab = Lab::with_restarts();
    let (identity, mut alice) = member(&lab, "alice");
    for room in ["lab", "office"] {
        alice.demand(&on("ROOM_CREATE", room));
    }
    tracker_command(&lab, &["backup", "copy.tar"]).run().exits(0);
    let lost = alice.demand(&json!({ "action": "ROOM_TOPIC", "room": "lab", "topic": "lost" }));
    lab.kill_tracker();
    tracker_command(&lab, &["restore", "copy.tar"]).run().exits(0);
    lab.start_tracker();
    let mut alice = Session::open(lab.address(), &identity);
    for room in ["lab", "office"] {
        let request = json!({ "action": "ROOM_MEMBERS", "room": room, "after": [lost["head"]] });
        let reply = alice.demand(&request);
        assert_eq!(reply["records"].as_array().unwrap().len(), 3, "{reply}");
        assert_eq!(reply["epoch"], 2 + (1 << 20), "{reply}");
    }
    // Restored once, it goes on counting from there.
    lab.kill_tracker();
    lab.start_tracker();
    let mut alice = Session::open(lab.address(), &identity);
    let reply = alice.demand(&json!({ "action": "ROOM_TOPIC", "room": "lab", "topic": "found" }));
    assert_eq!(reply["epoch"], 3 + (1 << 20));
}

#[test]
fn rooms_survive_a_kill_and_old_data_gets_them() {
    let mut lab = Lab::with_restarts();
    lab.kill_tracker();
    std::fs::remove_dir_all(lab.join("tracker")).unwrap();
    earlier::copy("tracker", &lab.join("tracker"));
    lab.start_tracker();
    let (identity, mut zelda) = member(&lab, "zelda");
    zelda.demand(&on("ROOM_CREATE", "lab"));
    let mut head = Value::Null;
    for number in 0..20 {
        head =
            zelda.demand(&json!({ "action": "ROOM_TOPIC", "room": "lab", "topic": number.to_string() }))["head"].take();
    }
    lab.kill_tracker();
    lab.start_tracker();
    let mut zelda = Session::open(lab.address(), &identity);
    assert_eq!(zelda.demand(&on("ROOM_MEMBERS", "lab"))["head"], head);
    let listed = zelda.demand(&json!({ "action": "ROOM_LIST" }));
    assert_eq!(listed["rooms"][0]["topic"], "19");
}
