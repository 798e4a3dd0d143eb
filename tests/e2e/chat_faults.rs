//! Conversations whose sides are killed, whose disks are full or damaged, and whose other side is hostile.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tests::hostile::{Caller, Ending};
use tests::{Lab, Process, User};

/// Messages of the conversation that is interrupted.
const MESSAGES: usize = 1000;

fn texts(user: &User<'_>, with: &str) -> Vec<String> {
    let history = user.peer(["--json", "history", with]).run();
    history.exits(0).json().iter().map(|line| line["text"].as_str().expect("a text").to_owned()).collect()
}

/// Waits until nothing waits any more; no event tells that to a process that is elsewhere.
pub(crate) fn until_delivered(user: &User<'_>) {
    let outbox = || user.peer(["outbox"]).run();
    let is_empty = || outbox().exits(0).out().is_empty().then_some(());
    tests::poll_for(Duration::from_secs(120), is_empty, || format!("something waits for ever: {}", outbox()));
}

/// kill -9 of either side's node at random moments of a conversation of 1,000 messages, while both write. `VIZINHO_KILLS` and
/// `VIZINHO_SEED` set how often, and which moments.
#[test]
fn kill_9_at_any_moment_loses_nothing_and_doubles_nothing() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let kills = number("VIZINHO_KILLS").unwrap_or(100);
    let seed = number("VIZINHO_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("VIZINHO_SEED={seed} VIZINHO_KILLS={kills}");
    let mut random = StdRng::seed_from_u64(seed);
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let sides = [(&alice, "bob"), (&bob, "alice")];
    let mut nodes: [Option<Process>; 2] = [Some(alice.serve()), Some(bob.serve())];
    let mut writers = sides.map(|(user, _)| user.peer(["events"]).open_stdin().start());
    for writer in &mut writers {
        // One that has not found the node yet would be one itself once that is killed.
        writer.write("{\"type\":\"read\",\"from\":\"nobody\",\"ref\":0}\n");
        writer.wait_for("\"type\":\"done\"");
    }
    let rounds = usize::try_from(kills).unwrap();
    let per_round = (MESSAGES / rounds / 2).max(1);
    let mut said: [Vec<String>; 2] = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        // They read on when there is a node, so the kills come while lines are on their way through it.
        for (side, (user, with)) in sides.into_iter().enumerate() {
            for line in 0..per_round {
                let text = format!("{} {round}/{line}", user.name());
                writers[side].write(format!("{}\n", json!({ "type": "send", "to": with, "text": text, "ref": text })));
                said[side].push(text);
            }
        }
        // Not awaited, on purpose: any moment will do.
        std::thread::sleep(Duration::from_micros(random.random_range(0..60_000)));
        let victim = random.random_range(0..2_usize);
        let node = nodes[victim].take().expect("it runs");
        node.kill();
        node.finish().exits(137);
        nodes[victim] = Some(sides[victim].0.serve());
    }
    for (writer, said) in writers.iter().zip(&said) {
        writer.wait_for_nth("\"type\":\"done\"", said.len() + 1);
    }
    until_delivered(&alice);
    until_delivered(&bob);
    let of = |all: Vec<String>, author: &str| -> Vec<String> {
        all.into_iter().filter(|text| text.starts_with(author)).collect()
    };
    for (side, author) in ["alice", "bob"].into_iter().enumerate() {
        assert_eq!(of(texts(&alice, "bob"), author), said[side], "at alice's");
        assert_eq!(of(texts(&bob, "alice"), author), said[side], "at bob's");
    }
    // What listened all the time heard each once, too.
    for (writer, (user, _)) in writers.iter().zip(sides) {
        let all = said[0].len() + said[1].len();
        writer.wait_for_nth("\"type\":\"message\"", all);
        let told = writer.said();
        let told = told.lines().filter(|line| line.contains("\"type\":\"message\"")).count();
        assert_eq!(told, all, "{} was told", user.name());
    }
}

#[test]
fn messages_of_any_size_and_any_text() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.accept(["alice"]);
    let (_hers, his) = (alice.serve(), bob.serve());
    let longest = "x".repeat(16 * 1024);
    alice.peer(["chat", "bob"]).stdin(format!("{longest}\n")).run().exits(0);
    his.wait_for(&longest[..1000]);
    let with_a_huge_one = format!("before\n{}\nbehind\n", "y".repeat(1 << 20));
    alice.peer(["chat", "bob"]).stdin(with_a_huge_one).run().exits(2).says("share it as a file");
    his.wait_for("alice: behind");
    alice.peer(["chat", "bob", ""]).run().exits(2).says("the message is empty");
    let tricks = "\u{1b}]52;c;cm0=\u{7}\u{1b}[2J\rbob: yes\u{202e}\u{200b}\u{9b}31m\u{2066}x\u{2069}\u{ad}";
    alice.peer(["chat", "bob", "--", tricks]).run().exits(0);
    alice.peer(["chat", "bob", "after it"]).run().exits(0);
    his.wait_for("after it");
    bob.peer(["inbox"]).run().exits(0).is_plain().prints("<U+202E>");
    bob.peer(["history"]).run().exits(0).is_plain();
    assert!(texts(&bob, "alice").iter().any(|text| text == tricks), "it is kept as it came");
    assert!(alice.peer(["outbox"]).run().out().is_empty());
}

#[test]
fn a_database_that_is_locked_damaged_or_newer_is_named_and_kept() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    lab.user("bob");
    let path = alice.home().join("profile.db");
    let locked = rusqlite::Connection::open(&path).unwrap();
    let version: i64 = locked.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    locked.execute_batch("BEGIN EXCLUSIVE").unwrap();
    alice
        .peer(["chat", "bob", "hi"])
        .run()
        .exits(9)
        .says("holds the account's database")
        .says(&std::process::id().to_string());
    locked.execute_batch("ROLLBACK; PRAGMA user_version = 99").unwrap();
    drop(locked);
    alice.peer(["chat", "bob", "hi"]).run().exits(9).says("made by a newer version").says("use that version");
    lab.sqlite(alice.home(), &format!("PRAGMA user_version = {version}; PRAGMA wal_checkpoint(TRUNCATE)"));
    alice.peer(["history"]).run().exits(0);

    let mut bytes = std::fs::read(&path).unwrap();
    for aside in ["profile.db-wal", "profile.db-shm"] {
        let _ = std::fs::remove_file(alice.home().join(aside));
    }
    bytes[..100].fill(0x55);
    tests::files::write(&path, &bytes);
    alice.peer(["chat", "bob", "hi"]).run().exits(9).says("it is damaged").says("put back a copy");
    alice.peer(["serve"]).run().exits(9).says("it is damaged");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "the old file is kept");
}

#[test]
fn a_node_whose_database_is_held_serves_those_it_knows() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    bob.share([lab.file("a.txt", 10)]);
    let his = bob.serve();
    alice.peer(["files", "bob"]).run().exits(0);
    let holder = rusqlite::Connection::open(bob.home().join("profile.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    // A first meeting has to be written down, and waits.
    let hers = carol.peer(["files", "bob"]).start();
    for _ in 0..3 {
        alice.peer(["files", "bob"]).run().exits(0).prints("a.txt");
        bob.peer(["history"]).run().exits(0);
    }
    assert!(hers.is_running(), "it was not held");
    holder.execute_batch("ROLLBACK").unwrap();
    hers.finish().exits(0).prints("a.txt");
    alice.peer(["chat", "--now", "bob", "still there"]).run().exits(0);
    his.wait_for("alice: still there");
}

#[test]
fn a_flood_ends_at_the_inbox_and_slows_nobody() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, his) = (alice.serve(), bob.serve());
    let mallory = Caller::dial(bob.node_address(), &Caller::register(&lab, "mallory"));
    mallory.hello("mallory");
    bob.accept(["mallory"]);
    let message =
        |number: u32| json!({ "t": "message", "id": format!("{number:032x}"), "ts": 0, "text": "spam ".repeat(40) });
    let flood = mallory.flood(100_000, message);
    // Meanwhile, and between the two of them, nothing is late.
    for round in 0..5 {
        let begin = Instant::now();
        alice.peer(["chat", "--now", "bob", &format!("round {round}")]).run().exits(0);
        his.wait_for(&format!("alice: round {round}"));
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }
    let acked = flood.join().unwrap();
    assert!(acked <= 10_000, "{acked} were taken");
    let size = std::fs::metadata(bob.home().join("profile.db")).unwrap().len();
    assert!(size < 40 << 20, "the disk is being filled: {size}");
    // With the inbox full, nothing more of hers is taken; of others it is.
    lab.sqlite(bob.home(), "UPDATE conversation SET unread = 10000 WHERE peer = 'mallory'");
    let Ending::Answer(refused) = mallory.say(&message(200_000)) else { panic!("an answer was due") };
    assert_eq!((&refused["t"], &refused["code"]), (&json!("refused"), &json!(5)));
    alice.peer(["chat", "--now", "bob", "still here"]).run().exits(0);
    bob.peer(["inbox"]).run().exits(0);
    assert!(matches!(mallory.say(&message(200_001)), Ending::Answer(answer) if answer["t"] == "ack"));
}

#[test]
fn nothing_is_acked_that_a_full_disk_could_not_store() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: a small file system can only be mounted by root");
        return;
    }
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let small = lab.empty_folder("small");
    let mount =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&small).status();
    if !mount.is_ok_and(|status| status.success()) {
        println!("skipped: nothing can be mounted here");
        return;
    }
    let _unmount = Unmount(&small);
    bob.accept(["alice"]);
    std::process::Command::new("cp").arg("-a").arg(bob.home()).arg(&small).status().unwrap();
    let home = small.join("bob");
    let serve = || bob.peer(["serve"]).env("VIZINHO_HOME", &home).start();
    let his = serve();
    his.wait_for("online as bob at ");
    let text = "z".repeat(16 * 1000);
    let lines: String = (0..100).map(|number| format!("{number} {text}\n")).collect();
    alice.peer(["chat", "bob"]).stdin(lines).run().exits(0).says("message queued");
    his.wait_for("could not be stored, and is sent again");
    let stored = |user: &User<'_>| {
        let all = user.peer(["--json", "history", "bob"]).run();
        all.json().iter().filter(|line| line["state"] == "stored").count()
    };
    his.kill();
    his.finish();
    let kept = bob.peer(["--json", "history", "alice"]).env("VIZINHO_HOME", &home).run();
    let (acked, kept) = (stored(&alice), kept.json().len());
    assert!(acked <= kept && kept < 100, "{acked} acked, {kept} kept");

    // With room again, all of it comes.
    let grown = std::process::Command::new("mount").args(["-o", "remount,size=64m"]).arg(&small).status();
    assert!(grown.is_ok_and(|status| status.success()));
    let his = serve();
    his.wait_for("online as bob at ");
    let _hers = alice.serve();
    until_delivered(&alice);
    let kept = bob.peer(["--json", "history", "alice"]).env("VIZINHO_HOME", &home).run();
    assert_eq!(kept.json().len(), 100);
    his.kill();
    his.finish();
}

#[test]
fn what_a_full_disk_could_not_store_was_never_said() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let small = lab.empty_folder("small");
    let Some(_mounted) = tests::Tmpfs::mount(&small, "size=1m") else {
        println!("skipped: nothing can be mounted here");
        return;
    };
    std::process::Command::new("cp").arg("-a").arg(alice.home()).arg(&small).status().unwrap();
    let home = small.join("alice");
    let text = "z".repeat(16 * 1000);
    let lines: String = (0..100).map(|number| format!("{number} {text}\n")).collect();
    let full = alice.peer(["chat", "bob"]).stdin(lines).env("VIZINHO_HOME", &home).run();
    full.exits(9).says("the disk is full: free some space").is_plain();
    // Nothing at all fits any more, not even what SQLite puts beside its file, and that is said in the same words.
    let aside = |to: &std::path::Path, from: &std::path::Path| {
        for name in ["profile.db-wal", "profile.db-shm"] {
            let moved = std::process::Command::new("mv").arg(from.join(name)).arg(to).status();
            assert!(moved.is_ok_and(|status| status.success()), "{name} is moved whole");
        }
    };
    let elsewhere = lab.empty_folder("elsewhere");
    aside(&elsewhere, &home);
    let rest = std::fs::File::create(small.join("rest")).unwrap();
    while std::io::Write::write(&mut &rest, &[0; 4096]).is_ok() {}
    let serve = alice.peer(["serve"]).env("VIZINHO_HOME", &home).run();
    serve.exits(9).says("the disk is full: free some space").is_plain();

    // With room again, what was stored goes, in order, and nothing else.
    drop(rest);
    std::fs::remove_file(small.join("rest")).unwrap();
    let grown = std::process::Command::new("mount").args(["-o", "remount,size=64m"]).arg(&small).status();
    assert!(grown.is_ok_and(|status| status.success()));
    aside(&home, &elsewhere);
    let kept = alice.peer(["--json", "history", "bob"]).env("VIZINHO_HOME", &home).run().exits(0).json().len();
    assert!((1..100).contains(&kept), "{kept}");
    bob.accept(["alice"]);
    let his = bob.serve();
    let hers = alice.peer(["serve"]).env("VIZINHO_HOME", &home).start();
    his.wait_for(&format!("alice: {} {}", kept - 1, &text[..1000]));
    let received: Vec<String> = texts(&bob, "alice");
    let expected: Vec<String> = (0..kept).map(|number| format!("{number} {text}")).collect();
    assert_eq!(received, expected);
    hers.kill();
    hers.finish();
}

/// A file system that goes with the test.
struct Unmount<'a>(&'a std::path::Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_node_whose_account_moved_elsewhere_ends_and_says_why() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let his = bob.serve();
    let new_bob = lab.stranger("bob2");
    new_bob.peer(["login", "bob", "--rebind", "--password-file"]).arg(bob.password_file()).run().exits(0);
    let new = new_bob.peer(["serve"]).start();
    new.wait_for("online as bob at ");
    his.finish().exits(3).says("the account bob lives on another machine since ").says("`peer login bob --rebind`");
    assert!(new.is_running());
}
