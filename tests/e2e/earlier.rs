//! An earlier version beside this one: whoever hasn't upgraded yet loses nothing, and neither does who has.
//!
//! What was recorded from the earlier version stands in `tests/fixtures`: conversations, with [`Transcript`], and the
//! files of a tracker and two peers. Its binaries run under `VIZINHO_LONG=1`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::{Value, json};
use shared::frame::FrameDecoder;
use tests::files::{self, assert_same};
use tests::hostile::{Caller, Session};
use tests::transcript::{Transcript, without};
use tests::{Lab, LabOptions, PATIENCE, User, earlier};

/// Fields of the tracker's replies that no two runs have in common.
const TRACKER_FIELDS: [&str; 4] = ["token", "fingerprint", "seq", "retry_after_ms"];

fn lines(requests: &[Value]) -> Vec<String> {
    requests.iter().map(Value::to_string).collect()
}

#[test]
fn plaintext_requests_are_answered_as_before() {
    let lab = Lab::start();
    let requests = lines(&[
        json!({ "action": "REGISTER", "user": "ana", "password": "12345", "id": 7 }),
        json!({ "action": "REGISTER", "user": "ana", "password": "12345" }),
        json!({ "action": "LOGIN", "user": "ana", "password": "wrong" }),
        json!({ "action": "LOGIN", "user": "nobody", "password": "12345" }),
        json!({ "action": "LIST_PEERS" }),
        json!({ "action": "LOGIN", "user": "ana", "password": "12345", "port": 5001, "id": "x" }),
        json!({ "action": "REGISTER_FILES", "user": "ana", "files": [
            { "name": "a.txt", "size": 12, "hash": "abc" }, { "name": "b/c.txt", "size": 0, "hash": "def" }] }),
        json!({ "action": "REGISTER_FILES", "user": "ana", "mode": "add",
            "files": [{ "name": "d.txt", "size": 9_007_199_254_740_991_u64, "hash": "ghi" }] }),
        json!({ "action": "REGISTER_FILES", "user": "ana", "mode": "remove",
            "files": [{ "name": "d.txt", "size": 0, "hash": "" }] }),
        json!({ "action": "LIST_PEERS" }),
        json!({ "action": "LIST_PEERS", "user": "ana" }),
        json!({ "action": "LIST_PEERS", "user": "nobody" }),
        json!({ "action": "LIST_PEERS", "hash": "def" }),
        json!({ "action": "LIST_PEERS", "with_files": false, "limit": 1 }),
        json!({ "action": "HEARTBEAT" }),
        json!({ "action": "HEARTBEAT", "user": "ana" }),
        json!({ "action": "WHOIS", "user": "ana" }),
        json!({ "action": "FIND", "name": "a" }),
        json!({ "action": "SUBSCRIBE" }),
        json!({ "action": "RESUME", "port": 1 }),
        json!({ "action": "REGISTER_FILES", "user": "bob", "files": [] }),
        json!({ "action": "LOGOUT", "user": "bob" }),
        json!({ "action": "PASSWD", "user": "ana", "password": "12345", "new_password": "54321" }),
        json!({ "action": "LOGOUT", "user": "ana" }),
        json!({ "action": "LOGOUT", "user": "ana" }),
        json!({ "action": "FLY" }),
        json!({ "user": "ana" }),
        json!({ "action": "LOGIN", "user": "a b", "password": "x" }),
        json!({ "action": "LOGIN", "user": "ana", "password": "" }),
    ]);
    let stream = TcpStream::connect(lab.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = BufReader::new(stream);
    Transcript::open("plaintext.txt").replay(&requests, |request| {
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        without(&TRACKER_FIELDS, serde_json::from_str(&line).unwrap())
    });
}

#[test]
fn requests_of_earlier_peers_are_answered_as_before() {
    let lab = Lab::start();
    let other = Caller::register(&lab, "zoe");
    let mut other = Session::open(lab.address(), &other);
    let hash = "ab".repeat(32);
    let requests = lines(&[
        json!({ "action": "RESUME" }),
        json!({ "action": "REGISTER", "user": "bob", "password": "secret" }),
        json!({ "action": "LOGIN", "user": "bob", "password": "wrong", "port": 4000, "addresses": [] }),
        json!({ "action": "LOGIN", "user": "bob", "password": "secret", "port": 4000, "addresses": ["127.0.0.1:4000"] }),
        json!({ "action": "RESUME" }),
        json!({ "action": "RESUME", "port": 4001, "addresses": [] }),
        json!({ "action": "REGISTER_FILES", "user": "bob", "mode": "replace", "files": [
            { "name": "Annual report.pdf", "size": 5, "hash": hash }, { "name": "photos/1.jpg", "size": 6, "hash": "x" }] }),
        json!({ "action": "LIST_PEERS" }),
        json!({ "action": "LIST_PEERS", "user": "bob", "with_files": true }),
        json!({ "action": "LIST_PEERS", "hash": hash, "limit": 10 }),
        json!({ "action": "LIST_PEERS", "with_files": false, "limit": 500 }),
        json!({ "action": "FIND", "name": "annual rep", "limit": 10 }),
        json!({ "action": "FIND", "hash": hash }),
        json!({ "action": "FIND", "name": "nothing" }),
        json!({ "action": "WHOIS", "user": "zoe" }),
        json!({ "action": "WHOIS", "user": "nobody" }),
        json!({ "action": "WHOIS", "fingerprint": "00".repeat(32) }),
        json!({ "action": "HEARTBEAT" }),
        json!({ "action": "PASSWD", "user": "bob", "password": "secret", "new_password": "terces" }),
        json!({ "action": "LOGOUT", "user": "zoe" }),
        json!({ "action": "LOGOUT", "user": "bob" }),
        json!({ "action": "REGISTER_FILES", "user": "bob", "files": [] }),
        json!({ "action": "LOGIN", "user": "bob", "password": "terces", "port": 4000 }),
    ]);
    other.demand(&json!({ "action": "LOGIN", "user": "zoe", "password": "whatever", "port": 4999 }));
    let mut session = Session::open(lab.address(), &certs::Identity::generate().unwrap());
    Transcript::open("tls.txt")
        .replay(&requests, |request| without(&TRACKER_FIELDS, session.ask(&serde_json::from_str(request).unwrap())));
}

#[test]
fn events_are_told_as_before() {
    let lab = Lab::start();
    let (listener, speaker) = (Caller::register(&lab, "ear"), Caller::register(&lab, "mouth"));
    let mut speaker = Session::open(lab.address(), &speaker);
    let mut listener = Session::open(lab.address(), &listener);
    listener.demand(&json!({ "action": "SUBSCRIBE" }));
    let requests = lines(&[
        json!({ "action": "LOGIN", "user": "mouth", "password": "whatever", "port": 4000 }),
        json!({ "action": "REGISTER_FILES", "user": "mouth", "files": [{ "name": "a", "size": 1, "hash": "x" }] }),
        json!({ "action": "LOGOUT", "user": "mouth" }),
    ]);
    Transcript::open("events.txt").replay(&requests, |request| {
        speaker.demand(&serde_json::from_str(request).unwrap());
        without(&TRACKER_FIELDS, listener.read())
    });
}

/// The answer's JSON, and the raw bytes behind it as text.
fn parts(bytes: &[u8]) -> Value {
    let mut decoder = FrameDecoder::default();
    decoder.extend(bytes);
    let header: Value = decoder.next_frame().unwrap().expect("an answer");
    let length = 4 + usize::try_from(u32::from_be_bytes(bytes[..4].try_into().unwrap())).unwrap();
    let raw: String = bytes[length..].iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "header": header, "raw": raw })
}

#[test]
fn questions_of_earlier_peers_are_answered_as_before() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let folder = lab.empty_folder("docs");
    files::write(folder.join("hello.txt"), "hello\n");
    files::write(folder.join("sub/olá.txt"), "olá\n");
    lab.empty_folder("docs/empty");
    let hour = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    for path in ["hello.txt", "sub/olá.txt", "sub", "empty", "."] {
        std::fs::File::open(folder.join(path)).unwrap().set_modified(hour).unwrap();
    }
    bob.share([&folder]);
    let node = bob.serve();
    let caller = Caller::dial(bob.node_address(), &Caller::register(&lab, "alice"));
    let hash = shared::ContentHash::of(b"hello\n").to_string();
    let id = "0123456789abcdef0123456789abcdef";
    let requests = lines(&[
        json!({ "t": "hello", "user": "alice", "agent": "vizinho/0.1.0", "capabilities": [] }),
        json!({ "t": "files" }),
        json!({ "t": "files", "prefix": "docs/sub/" }),
        json!({ "t": "folders" }),
        json!({ "t": "folder_times", "prefix": "docs" }),
        json!({ "t": "stat", "name": "docs/hello.txt" }),
        json!({ "t": "stat", "name": "docs/nothing" }),
        json!({ "t": "manifest", "hash": hash }),
        json!({ "t": "manifest", "hash": "00".repeat(32) }),
        json!({ "t": "have", "hash": hash }),
        json!({ "t": "get", "hash": hash, "ranges": [[0, 1]] }),
        json!({ "t": "get", "hash": hash, "ranges": [[1, 2]] }),
        json!({ "t": "dance", "steps": 3 }),
    ]);
    Transcript::open("frames.txt").replay(&requests, |request| {
        let answer = caller.exchange(&serde_json::from_str(request).unwrap());
        without(&["agent"], answer.map_or(Value::Null, |bytes| parts(&bytes)))
    });
    let said = caller.say(&json!({ "t": "message", "id": id, "ts": 1_700_000_000_000_u64, "text": "olá" }));
    assert_eq!(said, tests::hostile::Ending::Answer(json!({ "t": "ack", "id": id })));
    node.wait_for("olá");
}

#[test]
fn files_of_an_earlier_tracker_and_of_earlier_peers_go_on() {
    let mut lab = Lab::without_tracker();
    if std::env::var_os("VIZINHO_RECORD").is_some() {
        return record_files(&Lab::start());
    }
    for (recorded, target) in [("tracker", "tracker"), ("alice", "alice"), ("bob", "bob")] {
        earlier::copy(recorded, &lab.join(target));
    }
    lab.start_tracker();
    let (alice, bob) = (lab.stranger("alice"), lab.stranger("bob"));
    // The paths on record were those of another machine.
    let shared = lab.file("notes.bin", 300_000);
    lab.sqlite(bob.home(), &format!("UPDATE share SET path = CAST('{}' AS BLOB)", shared.display()));

    alice.peer(["whoami"]).run().exits(0).prints("alice");
    alice.peer(["history", "bob"]).run().exits(0).prints("first words").prints("an answer");
    alice.peer(["history", "--search", "answer"]).run().exits(0).prints("an answer");
    alice.peer(["outbox"]).run().exits(0).prints("for later");
    alice.peer(["block"]).run().exits(0).prints("mallory");
    alice.peer(["trust", "bob"]).run().exits(0).prints(&bob.fingerprint());
    bob.peer(["shares"]).run().exits(0).prints("notes.bin");
    bob.peer(["inbox"]).run().exits(0).prints("nothing offered is lost");
    let bobs = bob.serve();
    let alices = alice.serve();
    bobs.wait_for("for later");
    alice.fetch("bob", ["notes.bin"], &lab.empty_folder("here")).run().exits(0);
    assert_same(lab.join("here/notes.bin"), &shared);
    drop(alices);
    // The account of a client of the exercise, with its password.
    let mut ana = TcpStream::connect(lab.address()).unwrap();
    ana.write_all(br#"{"action":"LOGIN","user":"ana","password":"12345"}"#).unwrap();
    let mut line = String::new();
    BufReader::new(ana).read_line(&mut line).unwrap();
    assert!(line.contains(r#""status":"ok""#), "{line}");
}

/// Makes what [`files_of_an_earlier_tracker_and_of_earlier_peers_go_on`] begins with.
fn record_files(lab: &Lab) {
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("notes.bin", 300_000)]);
    let node = bob.serve();
    alice.peer(["chat", "bob", "first words"]).run().exits(0);
    bob.peer(["chat", "alice", "an answer"]).run().exits(0);
    let alices = alice.serve();
    bob.peer(["inbox"]).run().exits(0);
    alices.wait_for("an answer");
    alice.peer(["inbox"]).run().exits(0);
    alice.peer(["chat", "bob", "nothing offered is lost"]).run().exits(0);
    alice.peer(["block", "mallory"]).run().exits(0);
    alice.peer(["offer", "bob"]).arg(lab.file("plan.bin", 1000)).run().exits(0);
    for node in [node, alices] {
        node.terminate();
        node.finish().exits(143);
    }
    alice.peer(["chat", "bob", "for later"]).run().exits(0);
    let mut ana = TcpStream::connect(lab.address()).unwrap();
    ana.write_all(br#"{"action":"REGISTER","user":"ana","password":"12345"}"#).unwrap();
    let mut line = String::new();
    BufReader::new(ana).read_line(&mut line).unwrap();
    let tracker = lab.take_tracker();
    tracker.terminate();
    tracker.finish().exits(0);
    for (folder, name) in [(lab.join("tracker"), "tracker"), (alice.home().into(), "alice"), (bob.home().into(), "bob")]
    {
        record_folder(&folder, &earlier::fixtures().join(name));
    }
}

fn record_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            record_folder(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            files::write(target, std::fs::read(entry.path()).unwrap());
        }
    }
}

/// Everything two people do with each other, whatever runs at either's side.
fn live_together(lab: &Lab, alice: &User<'_>, bob: &User<'_>) {
    let folder = lab.empty_folder("photos");
    files::write(folder.join("a.bin"), files::noise(1, 3_000_000));
    files::write(folder.join("sub/b.txt"), "small\n");
    lab.empty_folder("photos/empty");
    for user in [alice, bob] {
        user.share([lab.join("photos")]);
    }
    let (alices, bobs) = (alice.serve(), bob.serve());
    for (me, you, theirs) in [(alice, bob, &bobs), (bob, alice, &alices)] {
        me.peer(["list"]).run().exits(0).prints(you.name());
        me.peer(["find", "small", "--json"]).run();
        me.peer(["find", "a"]).run().exits(0).prints("photos/a.bin");
        me.peer(["files", you.name()]).run().exits(0).prints("photos/a.bin").prints("photos/sub/b.txt");
        let here = lab.empty_folder(format!("from-{}", you.name()));
        me.fetch(you.name(), ["photos/"], &here).run().exits(0);
        assert_same(here.join("photos/a.bin"), folder.join("a.bin"));
        assert_same(here.join("photos/sub/b.txt"), folder.join("sub/b.txt"));
        assert!(here.join("photos/empty").is_dir());
        let words = format!("words of {}", me.name());
        me.peer(["chat", you.name(), &words]).run().exits(0);
        theirs.wait_for(&words);
        me.peer(["offer", you.name()]).arg(lab.file(format!("{}.plan", me.name()), 1000)).run().exits(0);
        theirs.wait_for(".plan");
        let plan = format!("{}.plan", me.name());
        you.fetch(me.name(), [plan.as_str()], &lab.empty_folder("plans")).run().exits(0);
        let verified = |user: &User<'_>, other: &str| user.peer(["verify", other]).run().exits(0).out();
        let digits = |text: String| text.chars().filter(char::is_ascii_digit).collect::<String>();
        assert_eq!(digits(verified(me, you.name())), digits(verified(you, me.name())));
    }
    // Who comes back is found again, and what was said meanwhile arrives.
    drop(bobs);
    alice.peer(["chat", "bob", "for later"]).run().exits(0);
    bob.serve().wait_for("for later");
}

#[test]
fn an_earlier_peer_and_a_new_one_at_a_new_tracker() {
    let Some(earlier) = earlier::binaries() else { return };
    let lab = Lab::start();
    let bob = lab.stranger("bob").with_binaries(earlier).registered();
    live_together(&lab, &lab.user("alice"), &bob);
}

#[test]
fn an_earlier_peer_and_a_new_one_at_an_earlier_tracker() {
    let Some(earlier) = earlier::binaries() else { return };
    let lab = Lab::with(LabOptions { binaries: Some(earlier.to_owned()), ..LabOptions::default() });
    let bob = lab.stranger("bob").with_binaries(earlier).registered();
    live_together(&lab, &lab.user("alice"), &bob);
}

#[test]
fn what_is_sent_to_an_earlier_peer_is_fetched_by_hand() {
    let Some(earlier) = earlier::binaries() else { return };
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.stranger("bob").with_binaries(earlier).registered());
    files::write(lab.join("photos/a"), "a");
    files::write(lab.join("photos/b"), "b");
    files::write(lab.join("photos/empty"), "");
    let (_hers, his) = (alice.serve(), bob.serve());
    // He sends no receipts: all of it was fetched is all that she can be told.
    let send = alice.peer(["send", "bob"]).arg(lab.join("photos")).start();
    his.wait_for("sends photos/ (3 files, 2 B): peer fetch alice photos/");
    send.wait_for("an older peer");
    let here = lab.empty_folder("here");
    bob.fetch("alice", ["photos/"], &here).run().exits(0);
    send.finish().exits(0);
    assert_same(here.join("photos/b"), lab.join("photos/b"));
}

#[test]
fn two_new_peers_at_an_earlier_tracker() {
    let Some(earlier) = earlier::binaries() else { return };
    let lab = Lab::with(LabOptions { binaries: Some(earlier.to_owned()), ..LabOptions::default() });
    live_together(&lab, &lab.user("alice"), &lab.user("bob"));
}

#[test]
fn two_earlier_peers_at_a_new_tracker() {
    let Some(earlier) = earlier::binaries() else { return };
    let lab = Lab::start();
    let [alice, bob] = ["alice", "bob"].map(|name| lab.stranger(name).with_binaries(earlier).registered());
    live_together(&lab, &alice, &bob);
}

#[test]
fn names_that_cannot_travel_are_stand_ins_to_an_earlier_peer_whose_own_are_taken_as_they_are() {
    let Some(earlier) = earlier::binaries() else { return };
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.stranger("bob").with_binaries(earlier).registered());
    for name in ["line\nbreak", "\u{5e9}\u{200f}.pdf", "plain"] {
        files::write(lab.join("hers").join(name), name);
    }
    files::write(lab.join("his/a␛0A␛b"), "his");
    alice.share([lab.join("hers")]);
    bob.share([lab.join("his")]);
    let (_hers, _his) = (alice.serve(), bob.serve());
    let here = lab.empty_folder("here");
    bob.fetch("alice", ["hers/"], &here).run().exits(0);
    assert_eq!(files::names_in(here.join("hers")), ["line␛0A␛break", "plain", "\u{5e9}␛E2808F␛.pdf"]);
    bob.peer(["find", "line"]).run().exits(0).prints("line␛0A␛break");
    alice.fetch("bob", ["his/"], &here).run().exits(0);
    assert_eq!(files::names_in(here.join("his")), ["a␛0A␛b"]);
}
