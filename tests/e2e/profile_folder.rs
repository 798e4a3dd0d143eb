//! A profile's folder that is not as it should be: lost keys, empty databases, file systems that can do less.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::{Invocation, Lab, OddMount, User, binaries, files};

fn key_of(home: &Path) -> std::path::PathBuf {
    home.join("identity/identity.pem")
}

#[test]
fn a_lost_key_is_told_and_not_made_anew() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let old = bob.fingerprint();
    let key = key_of(bob.home());
    std::fs::rename(&key, lab.join("away.pem")).unwrap();
    for args in [&["whoami"][..], &["serve"], &["list"], &["chat", "alice", "hi"], &["share", "away.pem"]] {
        let told = bob.peer(args).run();
        if args[0] != "share" {
            told.exits(9).says(&key.to_string_lossy()).says("is missing").says("put back a copy").is_plain();
            told.says("peer login bob --rebind");
        }
        assert!(!key.exists(), "{told}");
    }
    files::write(&key, "");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    bob.peer(["whoami"]).run().exits(9).says("is empty");
    std::fs::rename(lab.join("away.pem"), &key).unwrap();
    assert_eq!(bob.fingerprint(), old);
    // The way out that is named is one.
    std::fs::remove_file(&key).unwrap();
    let login = |args: &[&str]| bob.peer(["login", "bob", "--password-file"]).arg(bob.password_file()).args(args).run();
    login(&[]).exits(9).says("is missing");
    login(&["--rebind"]).exits(0);
    assert_ne!(bob.fingerprint(), old);
}

#[test]
fn a_damaged_key_is_put_aside_and_a_new_one_counts_once_the_account_has_it() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let (old, key) = (bob.fingerprint(), key_of(bob.home()));
    let whole = std::fs::read(&key).unwrap();
    let rebind = |password: &str| {
        bob.peer(["login", "bob", "--rebind", "--password-file", "-"]).stdin(format!("{password}\n")).run()
    };
    let password = std::fs::read_to_string(bob.password_file()).unwrap();
    let is_lost = || {
        bob.peer(["whoami"]).run().exits(9).says("`peer login bob --rebind`");
        let names = std::fs::read_dir(key.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(!names.into_iter().any(|name| name.to_string_lossy().ends_with(".new")));
    };
    let mut before = old;
    for (number, bytes) in [&b""[..], &[0; 119], &whole[..whole.len() / 2]].into_iter().enumerate() {
        files::write(&key, bytes);
        is_lost();
        rebind("wrong").exits(3);
        is_lost();
        let nowhere = bob.peer(["--tracker", "127.0.0.1:1", "login", "bob", "--rebind", "--password-file"]);
        nowhere.arg(bob.password_file()).run().exits(7);
        is_lost();
        let aside = format!("{}.damaged-{}", key.canonicalize().unwrap().display(), number + 1);
        rebind(password.trim_end()).exits(0).says(&format!("the damaged key is kept as {aside}")).is_plain();
        assert_eq!(std::fs::read(aside).unwrap(), bytes);
        let now = bob.fingerprint();
        assert_ne!(now, before);
        before = now;
    }
    std::fs::remove_file(&key).unwrap();
    rebind("wrong").exits(3);
    is_lost();
    rebind(password.trim_end()).exits(0);
    let _node = bob.serve();
}

#[test]
fn an_empty_database_beside_a_key_is_told() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let database = bob.home().join("profile.db");
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(bob.home().join(format!("profile.db{end}")));
    }
    files::write(&database, "");
    for args in [&["whoami"][..], &["shares"], &["serve"]] {
        bob.peer(args).run().exits(9).says(&database.to_string_lossy()).says("is empty").says("put back a copy");
    }
    assert_eq!(std::fs::metadata(&database).unwrap().len(), 0);
}

#[test]
fn a_missing_database_beside_a_key_is_told_and_a_login_goes_on_with_the_key() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let (old, database) = (bob.fingerprint(), bob.home().join("profile.db"));
    remove_database(&database);
    let file = lab.file("a.txt", 1);
    for args in [&["whoami"][..], &["shares"], &["serve"], &["chat", "alice", "hi"], &["share", file.to_str().unwrap()]]
    {
        let told = bob.peer(args).run();
        told.exits(9).says(&database.to_string_lossy()).says("is missing, but its key").says("peer login").is_plain();
        assert!(!database.exists(), "{told}");
    }
    let login = bob.peer(["login", "bob", "--password-file"]).arg(bob.password_file()).run();
    login.exits(0).says("database was missing").is_plain();
    assert_eq!(bob.fingerprint(), old);
}

#[test]
fn a_key_that_is_no_file_is_told_as_that() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let key = key_of(bob.home());
    let is_told = |kind: &str| {
        let told = bob.peer(["whoami"]).run();
        told.exits(9).says(&format!("{} is {kind} and not a file", key.to_string_lossy())).says("put back a copy");
        assert!(!told.err().contains("chmod"), "{told}");
    };
    std::fs::remove_file(&key).unwrap();
    std::fs::create_dir(&key).unwrap();
    is_told("a folder");
    std::fs::remove_dir(&key).unwrap();
    std::os::unix::fs::symlink(lab.join("nowhere"), &key).unwrap();
    is_told("a link to something that is not there");
    std::fs::remove_file(&key).unwrap();
    assert!(Command::new("mkfifo").arg(&key).status().unwrap().success());
    is_told("a FIFO");
}

/// Removes a database with all that SQLite keeps beside it.
fn remove_database(path: &Path) {
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
}

#[test]
fn a_database_of_one_byte_is_none_and_no_beginning() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let database = bob.home().join("profile.db");
    std::fs::remove_dir_all(bob.home().join("identity")).unwrap();
    remove_database(&database);
    files::write(&database, "\n");
    let told = bob.peer(["whoami"]).run();
    told.exits(9).says(&database.to_string_lossy()).says("is empty: put back a copy").says("begin anew").is_plain();
    assert!(!told.err().contains("same key"), "{told}");
    bob.peer(["login", "bob", "--password-file"]).arg(bob.password_file()).run().exits(9);
    assert_eq!(std::fs::read(&database).unwrap(), b"\n");
    std::fs::remove_file(&database).unwrap();
    bob.peer(["whoami"]).run().exits(3);
}

#[test]
fn a_node_takes_nothing_for_a_database_that_was_removed_and_ends() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.serve();
    alice.peer(["chat", "bob", "before"]).run().exits(0);
    node.wait_for("alice: before");
    remove_database(&bob.home().join("profile.db"));
    let said = alice.peer(["chat", "bob", "after"]).run();
    said.exits(0).says("queued");
    node.finish().exits(9).says("profile.db was removed or replaced").is_plain();
    alice.peer(["outbox"]).run().exits(0).prints("after");
    assert!(!bob.home().join("profile.db").exists(), "nothing was made in its place");
}

#[test]
fn a_key_of_somebody_else_is_named() {
    let lab = Lab::start();
    let (bob, carol) = (lab.user("bob"), lab.user("carol"));
    std::fs::copy(key_of(bob.home()), key_of(carol.home())).unwrap();
    let words = format!("{} belongs to bob, not carol", key_of(&carol.home().canonicalize().unwrap()).display());
    carol.peer(["serve"]).run().exits(11).says(&words).says("`peer login carol --rebind`").is_plain();
    let login = carol.peer(["login", "carol", "--password-file"]).arg(carol.password_file()).run();
    login.exits(11).says(&words);
    // What is said of a key that is lost is not that it stays.
    std::fs::remove_file(key_of(carol.home())).unwrap();
    carol.peer(["logout"]).run().exits(0).says("its key is lost").says("`peer login carol --rebind`");
    bob.peer(["logout"]).run().exits(0).says("their key and shares stay");
}

#[test]
fn who_only_asks_makes_no_profile() {
    let lab = Lab::start();
    let nobody = lab.stranger("nobody");
    for args in [&["whoami"][..], &["list"], &["history"], &["chat", "bob", "hi"], &["logout"], &["offer"]] {
        nobody.peer(args).run().exits(3).says("not logged in");
        assert!(!nobody.home().exists(), "{args:?}");
    }
    let without = |home: &str| {
        let mut run = Invocation::new(binaries::binary("peer"), lab.path()).arg("whoami").env("HOME", home);
        run = run.env("XDG_DATA_HOME", "relative");
        run.run()
    };
    without("relative").exits(2).says("relative").says("--home DIR");
    without("/nonexistent/vizinho").exits(2).says("/nonexistent/vizinho").says("--home DIR");
    assert!(!lab.join("relative").exists() && !Path::new("/nonexistent").exists());
}

/// A mount that goes with the test.
struct Mount(std::path::PathBuf);

impl Mount {
    /// Runs the command that mounts; `None`, and a word about it, where that doesn't work here.
    fn by(program: &str, args: &[&str], at: &Path) -> Option<Self> {
        let done = Command::new(program).args(args).output();
        match done {
            Ok(done) if done.status.success() => Some(Self(at.to_owned())),
            other => {
                println!("skipped: {program} doesn't mount here ({other:?})");
                None
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_profile_that_can_only_be_read_is_looked_at() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _his = bob.serve();
    alice.share([lab.file("a.txt", 10)]);
    alice.peer(["chat", "bob", "before"]).run().exits(0);
    let home = alice.home().to_string_lossy().into_owned();
    let Some(_mount) = Mount::by("mount", &["--bind", &home, &home], alice.home()) else { return };
    let remounted = Command::new("mount").args(["-o", "remount,bind,ro", &home]).status().unwrap();
    assert!(remounted.success());
    alice.peer(["whoami"]).run().exits(0).prints("user     alice");
    alice.peer(["list"]).run().exits(0).prints("bob");
    alice.peer(["history"]).run().exits(0).prints("to bob: before");
    alice.peer(["shares"]).run().exits(0).prints("a.txt");
    alice.peer(["outbox"]).run().exits(0);
    alice.peer(["share"]).arg(lab.file("b.txt", 10)).run().exits(9).says("profile.db");
    alice.peer(["serve"]).run().exits(9).says("node.lock");
}

/// Commands that only show something, and a part of what they print: alice shares a.txt, and bob, who is online, wrote to her.
const LOOKS: [(&[&str], &str); 9] = [
    (&["whoami"], "user     alice"),
    (&["list"], "bob"),
    (&["history"], "bob: hello"),
    (&["inbox"], "bob: hello"),
    (&["outbox"], "to carol: later"),
    (&["shares"], "a.txt"),
    (&["files", "bob"], "b.txt"),
    (&["trust", "bob"], "bob "),
    (&["notify"], "bell"),
];

/// Makes a copy of a profile in `home`, in which all of [`LOOKS`] find something.
fn lived_in<'a>(lab: &'a Lab, home: &Path) -> (User<'a>, User<'a>, tests::Process) {
    let (alice, bob, _carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    bob.share([lab.file("b.txt", 10)]);
    let his = bob.serve();
    alice.share([lab.file("a.txt", 10)]);
    alice.peer(["chat", "bob", "I am here"]).run().exits(0);
    let hers = alice.serve();
    bob.peer(["chat", "alice", "hello"]).run().exits(0);
    hers.terminate();
    hers.finish();
    alice.peer(["chat", "carol", "later"]).run().exits(0);
    assert!(Command::new("cp").arg("-a").arg(alice.home()).arg(home).status().unwrap().success());
    (alice, bob, his)
}

#[test]
fn what_is_there_is_shown_on_a_full_disk() {
    let lab = Lab::start();
    let small = lab.empty_folder("small");
    let Some(_mounted) = tests::Tmpfs::mount(&small, "size=2m") else {
        println!("skipped: nothing can be mounted here");
        return;
    };
    let home = small.join("alice");
    let (alice, _bob, _his) = lived_in(&lab, &home);
    let peer = |args: &[&str]| alice.peer(args).env("VIZINHO_HOME", &home).run();
    let rest = std::fs::File::create(small.join("rest")).unwrap();
    while std::io::Write::write(&mut &rest, &[0; 4096]).is_ok() {}
    for (command, shown) in LOOKS {
        peer(command).exits(0).prints(shown);
    }
    peer(&["inbox"]).exits(0).says("the messages stay unread").says("the disk is full");
    peer(&["chat", "bob", "no room"]).exits(9).says("the disk is full: free some space").is_plain();
    std::fs::remove_file(small.join("rest")).unwrap();
    drop(rest);
    peer(&["inbox"]).exits(0).prints("bob: hello");
    peer(&["inbox"]).exits(0).says("no unread messages");
}

#[test]
fn what_is_there_is_shown_when_the_quota_is_used_up() {
    let lab = Lab::start();
    let (behind, at) = (lab.empty_folder("behind"), lab.empty_folder("at"));
    let Some(_mounted) = OddMount::odd(&at, &behind, &["quota-later"]) else { return };
    let home = at.join("alice");
    let (alice, _bob, _his) = lived_in(&lab, &home);
    let peer = |args: &[&str]| alice.peer(args).env("VIZINHO_HOME", &home).run();
    files::write(lab.join("behind.quota"), "");
    for (command, shown) in LOOKS {
        peer(command).exits(0).prints(shown);
    }
    peer(&["chat", "bob", "no room"]).exits(9).says("your disk quota is used up").is_plain();
    std::fs::remove_file(lab.join("behind.quota")).unwrap();
    peer(&["chat", "bob", "room"]).exits(0);
}

/// A stick with a file system that knows neither sockets, links nor permissions; `None` where there can be none.
fn stick(lab: &Lab, options: &str) -> Option<(Mount, std::path::PathBuf)> {
    let (image, at) = (lab.join("stick.img"), lab.empty_folder("stick"));
    std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let made = Command::new("mkfs.exfat").arg(&image).output();
    if !made.is_ok_and(|made| made.status.success()) {
        println!("skipped: no mkfs.exfat here");
        return None;
    }
    let (image, place) = (image.to_string_lossy().into_owned(), at.to_string_lossy().into_owned());
    Some((Mount::by("mount.exfat-fuse", &["-o", options, &image, &place], &at)?, at))
}

#[test]
fn a_file_system_that_shows_all_to_everybody_holds_no_tracker() {
    let lab = Lab::without_tracker();
    let Some((_mount, at)) = stick(&lab, "umask=000") else { return };
    for folder in [at.clone(), at.join("deep/tracker")] {
        let tracker = Invocation::new(binaries::binary("tracker"), lab.path());
        let refused = tracker.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(folder).run();
        refused.exits(1).says("keeps no permissions").says("--data-dir");
        assert_eq!(std::fs::read_dir(&at).unwrap().count(), 0, "nothing is left there");
    }
}

#[test]
fn a_file_system_that_shows_all_to_everybody_holds_no_profile() {
    let lab = Lab::start();
    let Some((_mount, at)) = stick(&lab, "umask=000") else { return };
    let eve = lab.stranger("eve");
    let home = at.join("deep/profile");
    let register = eve.peer(["register", "eve", "--password-file"]).arg(eve.password_file());
    register.env("VIZINHO_HOME", &home).run().exits(9).says("keeps no permissions").says("--home");
    assert_eq!(files::names_in(&at), Vec::<String>::new());
}

#[test]
fn a_stick_that_is_ours_alone_holds_a_profile() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let Some((_mount, at)) = stick(&lab, "umask=077") else { return };
    works_at(&lab, &bob, &at.join("profile"));
}

/// Does with a profile there what one does with profiles.
fn works_at(lab: &Lab, bob: &User<'_>, home: &Path) {
    let carol = |args: &[&str]| bob.peer(args).env("VIZINHO_HOME", home);
    carol(&["register", "carol", "--password-file"]).arg(bob.password_file()).run().exits(0);
    let node = carol(&["serve"]).start();
    node.wait_for("online as carol at ");
    carol(&["whoami"]).run().exits(0).prints("yes, at");
    carol(&["share"]).arg(lab.file("a.txt", 1000)).run().exits(0);
    carol(&["serve"]).run().exits(1).says("already running");
    bob.peer(["chat", "carol", "over there?"]).run().exits(0);
    node.wait_for("bob: over there?");
    let here = lab.empty_folder("here");
    bob.fetch("carol", ["a.txt"], &here).run().exits(0);
    carol(&["logout"]).run().exits(0);
    node.finish().exits(0);
}

#[test]
fn a_profile_on_a_network_file_system_works() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let (far, at) = (lab.empty_folder("far"), lab.empty_folder("near"));
    let server = ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"];
    let Some(server) = server.into_iter().find(|path| Path::new(path).exists()) else {
        println!("skipped: no sftp-server here");
        return;
    };
    // In place of ssh: the server itself, on this machine.
    let ssh = files::write(lab.join("ssh"), format!("#!/bin/sh\nexec {server}\n"));
    std::fs::set_permissions(&ssh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let from = format!("x:{}", far.display());
    let (option, at_text) = (format!("ssh_command={}", ssh.display()), at.to_string_lossy().into_owned());
    let Some(_mount) = Mount::by("sshfs", &[&from, &at_text, "-o", &option], &at) else { return };
    works_at(&lab, &bob, &at.join("profile"));
}

#[test]
fn whoever_only_looks_leaves_no_profile_behind() {
    let lab = Lab::start();
    let stranger = lab.stranger("nobody");
    for (command, code) in [
        (&["shares"][..], 0),
        (&["unshare", "x"], 2),
        (&["notify"], 3),
        (&["history"], 3),
        (&["list"], 3),
        (&["inbox"], 3),
    ] {
        stranger.peer(command).run().exits(code);
        assert!(!stranger.home().exists(), "{command:?}");
    }
}

/// Somebody else's program that holds a profile's database in the middle of a write, until it is dropped.
struct DatabaseHolder(std::process::Child);

impl DatabaseHolder {
    const SCRIPT: &str = "import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute('BEGIN IMMEDIATE')
print('held', flush=True)
time.sleep(600)";

    /// `None`, and a word about it, where there is no python3.
    fn of(home: &Path) -> Option<Self> {
        let database = home.join("profile.db");
        let child = Command::new("python3").args(["-c", Self::SCRIPT]).arg(database).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = child else {
            println!("skipped: no python3 here");
            return None;
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Some(Self(child))
    }

    fn stop(&self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), rustix::process::Signal::STOP)
            .unwrap();
    }
}

impl Drop for DatabaseHolder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stopped_process_that_holds_the_database_is_named_at_once() {
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), lab.user("bob"));
    alice.share([lab.file("x", 10)]);
    let Some(holder) = DatabaseHolder::of(alice.home()) else { return };
    holder.stop();
    let named = format!("process {} (python3 -c import sqlite3", holder.0.id());
    for args in [&["unshare", "x"][..], &["chat", "bob", "hi"], &["serve"]] {
        let began = Instant::now();
        let held = alice.peer(args).run();
        held.exits(7).says(&named).says("is stopped").says(&format!("`kill -CONT {}`", holder.0.id()));
        println!("{args:?} after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(6), "{args:?}: {:?}", began.elapsed());
    }
}

#[test]
fn whoever_waits_for_the_database_says_so_and_can_be_ended() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    alice.share([lab.file("x", 10)]);
    let Some(holder) = DatabaseHolder::of(alice.home()) else { return };
    let named = format!("waiting for process {} (python3", holder.0.id());
    for (signal, code) in [(rustix::process::Signal::TERM, 143), (rustix::process::Signal::INT, 130)] {
        let waiting = alice.peer(["unshare", "x"]).start();
        waiting.wait_for(&named);
        let began = Instant::now();
        waiting.send(signal);
        waiting.finish().exits(code);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    let waiting = alice.peer(["unshare", "x"]).start();
    waiting.wait_for(&named);
    drop(holder);
    waiting.finish().exits(0);
    alice.peer(["shares"]).run().exits(0).prints_exactly("");
}

#[test]
fn a_file_system_without_locks_holds_neither_a_profile_nor_a_tracker() {
    let lab = Lab::start();
    let (behind, at) = (lab.empty_folder("behind"), lab.empty_folder("at"));
    let Some(_mount) = OddMount::odd(&at, &behind, &["no-locks"]) else { return };
    let eve = lab.stranger("eve");
    let began = Instant::now();
    let register = eve.peer(["register", "eve", "--password-file"]).arg(eve.password_file());
    let refused = register.env("VIZINHO_HOME", at.join("profile")).run();
    refused.exits(9).says("has no locks").says("use --home with a folder on a local disk");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let tracker = Invocation::new(binaries::binary("tracker"), lab.path());
    let tracker = tracker.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(at.join("tracker")).run();
    tracker.exits(1).says("without locks").says("--data-dir");
}

#[test]
fn too_few_descriptors_are_named_and_cost_nothing() {
    let mut lab = Lab::with_restarts();
    let (alice, _bob) = (lab.user("alice"), lab.user("bob"));
    let limited =
        |limit: u32, invocation: Invocation| invocation.through_shell(&format!("ulimit -n {limit}; exec \"$@\"")).run();
    for limit in (8..24).step_by(3) {
        let run = limited(limit, alice.peer(["chat", "bob", "hi"]));
        assert!(!run.err().contains("permissions") && !run.err().contains("damaged"), "{limit}: {run}");
    }
    alice.peer(["history"]).run().exits(0);
    lab.kill_tracker();
    let data = lab.join("tracker");
    let before = files::names_in(&data);
    for limit in [10, 12, 14, 16] {
        let tracker = Invocation::new(binaries::binary("tracker"), lab.path());
        let tracker = tracker.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
        let script = format!("ulimit -n {limit}; exec timeout 1 \"$@\"");
        let run = tracker.through_shell(&script).run();
        assert!(!run.err().contains("put aside"), "{limit}: {run}");
    }
    let (after, is_database) = (files::names_in(&data), |name: &String| name.ends_with(".db") || name == "identity");
    assert!(before.iter().filter(|name| is_database(name)).all(|name| after.contains(name)), "{before:?} {after:?}");
    assert!(!after.iter().any(|name| name.contains("aside") || name.contains("damaged")), "{after:?}");
    lab.start_tracker();
    lab.stranger("alice").peer(["list"]).run().exits(0);
}
