//! Many callers and many links: whoever they are, a node keeps its memory and goes on serving everybody else.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use certs::Identity;
use serde_json::{Value, json};
use tests::files::{assert_same, names_in, write};
use tests::hostile::{Caller, Crowd, Ending};
use tests::{Lab, LabOptions, OddMount, Process, User, poll_until};

const UNAUTHORISED: u64 = 2;
const BUSY: u64 = 5;
/// Links that one user may have.
const OF_A_USER: usize = 16;
/// Callers of one address that are not identified yet.
const OF_AN_ADDRESS: usize = 96;
/// Mebibytes that an attack may cost.
const ATTACK_MIB: u64 = 64;
/// Mebibytes that 240 stalled links may cost.
const CROWD_MIB: u64 = 160;
/// Mebibytes that may stay of it.
const KEPT_MIB: u64 = 32;

fn bob_is_there(lab: &Lab) -> (User<'_>, Process) {
    let bob = lab.user("bob");
    bob.share([lab.file("a.bin", 2_000_000)]);
    let node = bob.serve();
    (bob, node)
}

/// Where any number of accounts may be made.
fn open_lab() -> Lab {
    let tracker_args = ["--rate-limit-registrations", "0"].map(str::to_owned).into();
    Lab::with(LabOptions { tracker_args, ..LabOptions::default() })
}

/// Whatever goes on at bob's node, alice is served: a file and a message.
#[track_caller]
fn serves_alice(lab: &Lab, alice: &User<'_>, text: &str) {
    let here = lab.empty_folder(text);
    alice.fetch("bob", ["a.bin"], &here).run().exits(0);
    assert_same(here.join("a.bin"), lab.join("a.bin"));
    reaches_bob(alice, text);
}

/// A message arrives at once, over a link of its own.
#[track_caller]
fn reaches_bob(from: &User<'_>, text: &str) {
    from.peer(["chat", "--now", "bob", text]).run().exits(0);
}

/// How often something is done: more where there is time.
fn rounds(few: usize, many: usize) -> usize {
    if std::env::var_os("VIZINHO_LONG").is_some() { many } else { few }
}

fn answers(endings: &[Ending], kind: &str) -> usize {
    endings.iter().filter(|ending| matches!(ending, Ending::Answer(answer) if answer["t"] == kind)).count()
}

/// Whether they were refused with this code, in a frame or by the end of the link.
fn refused(ending: &Ending, code: u64) -> bool {
    match ending {
        Ending::Answer(answer) => answer["t"] == "error" && answer["code"] == code,
        Ending::Closed(closed) => *closed == code,
        _ => false,
    }
}

/// Attack: one account, 150 links, on each as many streams as are allowed, in each a frame that never ends.
/// Beside it: a fetch and a message. Bound: 16 links, 64 MiB, the streams end by themselves and the memory comes back.
#[test]
fn frames_that_never_end_on_the_links_of_one_user_take_little() {
    let lab = Lab::start();
    let (bob, node) = bob_is_there(&lab);
    let alice = lab.user("alice");
    serves_alice(&lab, &alice, "before");
    let before = node.resident_mib();
    let mallory = Crowd::register(&lab, ["mallory".to_owned()]).remove(0);
    let mut crowd = Crowd::new();
    for _ in 0..3 {
        let endings = crowd.call(bob.node_address(), &mallory, 50);
        let busy = endings.iter().filter(|ending| refused(ending, BUSY)).count();
        assert_eq!(busy + answers(&endings, "welcome"), 50, "{endings:?}");
    }
    assert!((1..=OF_A_USER).contains(&crowd.open_links()), "{} links", crowd.open_links());
    let streams = crowd.begin_frames(100, 65_000);
    assert!((OF_A_USER..=OF_A_USER * 32).contains(&streams), "{streams} streams");
    serves_alice(&lab, &alice, "meanwhile");
    let during = node.resident_mib();
    assert!(during < before + ATTACK_MIB, "{before} and then {during} MiB");
    // Long frames wait for each other, but a new stream is served all the same.
    let caller = Caller::dial(bob.node_address(), &mallory.1);
    assert!(refused(&caller.hello("mallory"), BUSY), "all places are taken by links with streams");
    drop(crowd);
    serves_alice(&lab, &alice, "afterwards");
    let after = node.resident_mib();
    assert!(after < before + ATTACK_MIB / 2, "{before} and afterwards {after} MiB");
}

/// Attack: many accounts with few links each do the same. Beside it and bound: as above.
#[test]
fn frames_that_never_end_of_many_accounts_take_little() {
    let accounts = rounds(24, 150);
    let lab = open_lab();
    let (bob, node) = bob_is_there(&lab);
    let alice = lab.user("alice");
    serves_alice(&lab, &alice, "before");
    let before = node.resident_mib();
    let sybils = Crowd::register(&lab, (0..accounts).map(|number| format!("sybil{number}")));
    let mut crowd = Crowd::new();
    for sybil in &sybils {
        crowd.call(bob.node_address(), sybil, 4);
    }
    assert!((accounts..=256).contains(&crowd.open_links()), "{} links", crowd.open_links());
    let streams = crowd.begin_frames(100, 65_000);
    assert!(streams >= accounts * 16, "{streams} streams");
    serves_alice(&lab, &alice, "meanwhile");
    let during = node.resident_mib();
    assert!(during < before + ATTACK_MIB, "{before} and then {during} MiB");
}

/// Attack: a frame is begun and not gone on with, another stream says nothing. Bound: both are given up after ten seconds.
#[test]
fn a_frame_that_has_begun_has_ten_seconds() {
    let lab = Lab::start();
    let (bob, _node) = bob_is_there(&lab);
    let caller = Caller::dial(bob.node_address(), &Caller::register(&lab, "mallory"));
    caller.hello("mallory");
    let begun = Instant::now();
    assert_eq!(caller.begin_frame(), Ending::Nothing, "the stream ends without an answer");
    assert!((8..20).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(caller.is_open());
}

/// Honest: eight fetches at once and a conversation beside them, again and again.
#[test]
fn many_fetches_of_one_user_at_once_are_no_attack() {
    let lab = Lab::start();
    let (_bob, _node) = bob_is_there(&lab);
    let alice = lab.user("alice");
    let _alices = alice.serve();
    for round in 0..2 {
        let fetches: Vec<_> = (0..8)
            .map(|number| {
                let here = lab.empty_folder(format!("here{round}-{number}"));
                (alice.fetch("bob", ["a.bin"], &here).start(), here)
            })
            .collect();
        reaches_bob(&alice, "beside them");
        for (fetch, here) in fetches {
            fetch.finish().exits(0);
            assert_same(here.join("a.bin"), lab.join("a.bin"));
        }
    }
}

/// Attack: from the friend's own address, hundreds of calls that never say hello. Beside it: a friend calls, ten times.
/// Bound: each of these calls is answered, and the silent ones have five seconds at most.
#[test]
fn callers_that_never_say_hello_keep_nobody_out() {
    let lab = Lab::start();
    let (bob, node) = bob_is_there(&lab);
    let alice = lab.user("alice");
    let mallory = Identity::generate().unwrap();
    let mut crowd = Crowd::new();
    for round in 0..rounds(5, 50) {
        crowd.call_silently(bob.node_address(), &mallory, 120);
        for number in 0..2 {
            reaches_bob(&alice, &format!("{round}-{number}"));
        }
        crowd.wait_for_open_links(OF_AN_ADDRESS);
    }
    crowd.wait_for_open_links(0);
    assert!(node.is_running());
}

/// Attack: one call after another with a new key each. Beside it: bob's own questions, and newcomers who call for the first
/// time. Bound: nobody is told that bob can't ask, and bob's terminal stays readable.
#[test]
fn callers_with_unknown_keys_cost_nobody_else_an_answer() {
    let lab = open_lab();
    let (bob, node) = bob_is_there(&lab);
    let mut crowd = Crowd::at(Ipv4Addr::new(127, 0, 0, 9).into());
    for round in 0..rounds(5, 40) {
        let endings = crowd.call_with_unknown_keys(bob.node_address(), 40);
        let unknown = endings.iter().filter(|ending| refused(ending, UNAUTHORISED)).count();
        assert_eq!(unknown, endings.len(), "{endings:?}");
        let newcomer = lab.user(&format!("newcomer{round}"));
        reaches_bob(&newcomer, "hello");
        bob.peer(["chat", newcomer.name(), "welcome"]).run().exits(0).says("is offline");
    }
    node.wait_for("more callers at 127.0.0.9 were turned away");
    let lines = node.said().lines().filter(|line| line.contains("turned away")).count();
    assert!(lines < 20 + rounds(5, 40) * 2, "{lines} lines about so many callers");
}

/// Attack: a hello that claims to be able to do everything, nothing, or the same a thousand times.
#[test]
fn capabilities_of_every_kind_are_taken_for_what_they_are() {
    let lab = Lab::start();
    let (bob, node) = bob_is_there(&lab);
    let alice = lab.user("alice");
    let mallory = Caller::register(&lab, "mallory");
    let many: Vec<Value> = (0..30).map(|number| json!(format!("{}{number}", "x".repeat(20)))).collect();
    for (capabilities, is_welcome) in
        [(json!([]), true), (json!(many), true), (json!(vec!["answers"; 20]), true), (json!(vec!["x"; 10_000]), false)]
    {
        let caller = Caller::dial(bob.node_address(), &mallory);
        let hello = json!({ "t": "hello", "user": "mallory", "agent": "", "capabilities": capabilities });
        let answer = caller.ask(&hello);
        assert_eq!(matches!(&answer, Ending::Answer(answer) if answer["t"] == "welcome"), is_welcome, "{answer:?}");
    }
    assert!(node.is_running());
    serves_alice(&lab, &alice, "still");
}

/// Attack: eight accounts take a large file over as many links and streams as they may, a few bytes a second each; then they
/// take nothing at all. Beside it: a fetch of a large file, and one of small files. Bound: both end, 64 MiB, also where each
/// group is compared before it is sent.
#[test]
fn slow_readers_stop_no_uploads() {
    let lab = open_lab();
    let bob = lab.user("bob");
    let small = lab.empty_folder("small");
    for number in 0..50 {
        write(small.join(format!("{number}.txt")), format!("{number} is small"));
    }
    bob.share([lab.file("a.bin", 2_000_000), lab.file("large.bin", 30_000_000), small]);
    let node = bob.serve();
    let alice = lab.user("alice");
    let accounts = Crowd::register(&lab, (0..8).map(|number| format!("slow{number}")));
    let caller = Caller::dial(bob.node_address(), &accounts[0].1);
    caller.hello("slow0");
    let Ending::Answer(stat) = caller.ask(&json!({ "t": "stat", "name": "large.bin" })) else {
        panic!("a stat was due")
    };
    let all_of_it = json!({ "t": "get", "hash": stat["hash"], "ranges": [[0, 28]] });
    drop(caller);
    serves_alice(&lab, &alice, "before");
    let before = node.resident_mib();
    let mut crowd = Crowd::new();
    for account in &accounts {
        crowd.call(bob.node_address(), account, 13);
    }
    for is_slow in [true, false] {
        // Its metadata are others than were recorded.
        let mode = std::fs::Permissions::from_mode(if is_slow { 0o640 } else { 0o600 });
        std::fs::set_permissions(lab.join("large.bin"), mode).unwrap();
        if is_slow {
            crowd.ask_and_read_slowly(&all_of_it, 4);
        } else {
            crowd.ask_and_read_nothing(&all_of_it, 8);
        }
        let here = lab.empty_folder(format!("here-{is_slow}"));
        alice.fetch("bob", ["large.bin"], &here).run().exits(0);
        assert_same(here.join("large.bin"), lab.join("large.bin"));
        alice.fetch("bob", ["small"], &here).run().exits(0);
        assert_eq!(names_in(here.join("small")).len(), 50);
        reaches_bob(&alice, "beside them");
        let during = node.resident_mib();
        assert!(during < before + ATTACK_MIB, "{before} and then {during} MiB");
    }
    assert!(crowd.open_links() > 0, "they were still there");
}

/// Attack: many accounts fetch from a disk that hangs, when a file is opened and in the middle of one: together they ask for
/// more than there are lookups at once. Beside it: a message, and a fetch from another disk. Bound: both end, and what hung
/// goes on when the disk does.
#[test]
fn a_disk_that_hangs_keeps_no_upload_of_another_waiting() {
    let lab = open_lab();
    let (behind, mountpoint) = (lab.empty_folder("behind"), lab.empty_folder("hanging"));
    for name in ["begun.bin", "other.bin"] {
        std::fs::copy(lab.file(name, 20_000_000), behind.join(name)).unwrap();
    }
    let Some(_mount) = OddMount::odd(&mountpoint, &behind, &["hangs"]) else { return };
    let (bob, _node) = bob_is_there(&lab);
    bob.share([mountpoint.join("begun.bin"), mountpoint.join("other.bin")]);
    let (alice, carol) = (lab.user("alice"), lab.user("carol"));
    let accounts = Crowd::register(&lab, (0..40).map(|number| format!("sybil{number}")));
    let caller = Caller::dial(bob.node_address(), &accounts[0].1);
    caller.hello("sybil0");
    let mut crowd = Crowd::new();
    for account in &accounts {
        crowd.call(bob.node_address(), account, 1);
    }
    // The last group can be read, what is asked for behind it can't.
    let asks = [("begun.bin", json!([[19, 20], [3, 19]])), ("other.bin", json!([[0, 20]]))].map(|(name, ranges)| {
        let Ending::Answer(stat) = caller.ask(&json!({ "t": "stat", "name": name })) else { panic!("a stat was due") };
        json!({ "t": "get", "hash": stat["hash"], "ranges": ranges })
    });
    let hangs = write(lab.join("behind.hangs"), "");
    crowd.ask_and_read_slowly(&asks[0], 6);
    crowd.ask_and_read_nothing(&asks[1], 8);
    let waits = carol.fetch("bob", ["other.bin"], &lab.empty_folder("carols")).start();
    serves_alice(&lab, &alice, "while it hangs");
    std::fs::remove_file(&hangs).unwrap();
    waits.finish().exits(0);
    assert_same(lab.join("carols/other.bin"), lab.join("other.bin"));
}

/// Attack: lists of shares whose disk is gone, over and over on every link that a user may have. Beside it: messages. Bound:
/// they arrive, and whoever asks in either way is told that nothing is there.
#[test]
fn lists_of_what_is_gone_hold_nobody_up() {
    const FILES: usize = 3000;
    let lab = Lab::start();
    let bob = lab.user("bob");
    let disk = lab.empty_folder("disk");
    for number in 0..FILES {
        write(disk.join(format!("{:02}/{number}.txt", number % 50)), format!("{number}"));
    }
    bob.share([disk.clone(), lab.file("z.bin", 1000)]);
    let _node = bob.serve();
    std::fs::rename(&disk, lab.join("unplugged")).unwrap();
    let alice = lab.user("alice");
    let mallory = Crowd::register(&lab, ["mallory".to_owned()]).remove(0);
    let mut crowd = Crowd::new();
    crowd.call(bob.node_address(), &mallory, 15);
    for number in 0..3 {
        crowd.ask_and_read_nothing(&json!({ "t": "files" }), 8);
        reaches_bob(&alice, &format!("{number}"));
    }
    let listed = alice.peer(["files", "bob"]).run();
    listed.exits(0);
    assert!(listed.out().contains("z.bin") && !listed.out().contains(".txt"), "{listed}");
    // One that takes no empty page gets none.
    let caller = Caller::dial(bob.node_address(), &Caller::register(&lab, "earlier"));
    caller.hello("earlier");
    let Ending::Answer(page) = caller.ask(&json!({ "t": "files" })) else { panic!("a page was due") };
    assert_eq!((page["files"].as_array().unwrap().len(), &page["next"]), (1, &Value::Null), "{page}");
}

/// Attack: a tiny file, fetched over and over. Beside it: a message. Bound: lines for a large folder, then few.
#[test]
fn a_file_that_is_fetched_over_and_over_is_told_in_few_lines() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    bob.share([write(lab.join("tiny"), b"tiny")]);
    let node = bob.serve();
    let alice = lab.user("alice");
    let caller = Caller::dial(bob.node_address(), &Caller::register(&lab, "mallory"));
    caller.hello("mallory");
    let Ending::Answer(stat) = caller.ask(&json!({ "t": "stat", "name": "tiny" })) else { panic!("a stat was due") };
    let get = json!({ "t": "get", "hash": stat["hash"], "ranges": [[0, 1]] });
    let fetched = 10_500;
    assert!(caller.exchange_many(&get, fetched).is_some_and(|bytes| bytes > fetched * 4));
    reaches_bob(&alice, "beside them");
    node.wait_for("more files");
    let lines = node.said().lines().filter(|line| line.contains("mallory fetched")).count();
    assert!((10_000..10_400).contains(&lines), "{lines} lines");
}

/// Attack: questions without end on all streams of all links. Beside it: messages and a fetch. Bound: they arrive.
#[test]
fn questions_without_end_hold_nobody_up() {
    let lab = Lab::start();
    let (bob, node) = bob_is_there(&lab);
    let alice = lab.user("alice");
    let mallory = Caller::register(&lab, "mallory");
    let callers: Vec<Caller> = (0..8).map(|_| Caller::dial(bob.node_address(), &mallory)).collect();
    std::thread::scope(|scope| {
        for caller in &callers {
            caller.hello("mallory");
            for question in [json!({ "t": "stat", "name": "a.bin" }), json!({ "t": "have", "hash": "00".repeat(32) })] {
                scope.spawn(move || caller.exchange_many(&question, 1500));
            }
        }
        for number in 0..3 {
            serves_alice(&lab, &alice, &format!("beside{number}"));
        }
    });
    assert!(node.is_running());
}

/// Attack: sixty accounts with four links each ask for a file and a list, read no answers, and begin frames without end. Bound:
/// what that costs comes back when their links have ended.
#[test]
fn links_that_ended_leave_little_behind() {
    let lab = open_lab();
    let bob = lab.user("bob");
    bob.share([lab.file("a.bin", 2_000_000), lab.file("large.bin", 30_000_000)]);
    let node = bob.serve();
    let alice = lab.user("alice");
    let accounts = Crowd::register(&lab, (0..60).map(|number| format!("sybil{number}")));
    let caller = Caller::dial(bob.node_address(), &accounts[0].1);
    caller.hello("sybil0");
    let Ending::Answer(stat) = caller.ask(&json!({ "t": "stat", "name": "large.bin" })) else {
        panic!("a stat was due")
    };
    let get = json!({ "t": "get", "hash": stat["hash"], "ranges": [[0, 28]] });
    drop(caller);
    serves_alice(&lab, &alice, "before");
    let before = node.resident_mib();
    for _ in 0..rounds(1, 5) {
        let mut crowd = Crowd::new();
        for account in &accounts {
            crowd.call(bob.node_address(), account, 4);
        }
        crowd.ask_and_read_nothing(&get, 2);
        crowd.ask_and_read_nothing(&json!({ "t": "files" }), 2);
        crowd.begin_frames(100, 65_000);
        let during = node.resident_mib();
        assert!(during < before + CROWD_MIB, "{before} and then {during} MiB");
        crowd.leave();
    }
    // Uploads that were under way end a moment later, and nothing tells it.
    poll_until(
        || (node.resident_mib() <= before + KEPT_MIB).then_some(()),
        || format!("{before} and afterwards {} MiB", node.resident_mib()),
    );
}
