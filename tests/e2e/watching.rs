//! Shared folders that follow the disk while a node runs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use shared::ContentHash;
use tests::files::{assert_same, names_in, noise, write};
use tests::{Invocation, Lab, OddMount, Process, User, poll_for, poll_until};

/// What a user shares with everybody, by what the node answers: names and hashes.
fn listed(by: &User<'_>, of: &str) -> BTreeMap<String, String> {
    let files = by.peer(["--json", "files", of]).run();
    let files = files.exits(0).json().into_iter().filter(|file| file["type"] == "file");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    files.map(|file| (text(&file["name"]), text(&file["hash"]))).collect()
}

/// Waits until exactly these names are listed.
#[track_caller]
fn wait_for_names(by: &User<'_>, of: &str, wanted: &[&str]) {
    let names = || listed(by, of).into_keys().collect::<Vec<_>>();
    poll_until(|| (names() == wanted).then_some(()), || format!("{:?} instead of {wanted:?}", names()));
}

/// Waits until this file is listed with this content.
#[track_caller]
fn wait_for_content(by: &User<'_>, of: &str, name: &str, content: &[u8]) {
    let hash = ContentHash::of(content).to_string();
    let now = || listed(by, of).remove(name);
    poll_until(|| (now().as_ref() == Some(&hash)).then_some(()), || format!("{name} is {:?}", now()));
}

/// The tracker's list of a user's files of this name.
fn found(by: &User<'_>, name: &str) -> usize {
    let found = by.peer(["--json", "find", name]).run();
    found.json().iter().filter(|file| file["type"] == "file" || file["name"].is_string()).count()
}

/// Bytes that a process has read.
fn bytes_read(process: &Process) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", process.pid())).unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
    line.parse().unwrap()
}

#[test]
fn what_is_put_into_a_folder_changed_renamed_and_removed_is_followed() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let docs = lab.empty_folder("docs");
    bob.share([&docs]).says("no file is there yet");
    let node = bob.serve();
    let begun = Instant::now();
    write(docs.join("a.txt"), "a");
    wait_for_names(&alice, "bob", &["docs/a.txt"]);
    println!("listed after {:?}", begun.elapsed());
    poll_until(|| (found(&alice, "docs/a.txt") == 1).then_some(()), || "the tracker never lists it".to_owned());
    // Folders in folders, faster than anybody can watch them.
    for name in ["sub/deep/deeper/b.txt", "sub/deep/c.txt", "sub/.hidden", ".git/config"] {
        write(docs.join(name), name);
    }
    std::os::unix::fs::symlink("/etc", docs.join("sub/etc")).unwrap();
    wait_for_names(&alice, "bob", &["docs/a.txt", "docs/sub/deep/c.txt", "docs/sub/deep/deeper/b.txt"]);
    write(docs.join("sub/deep/c.txt"), "changed");
    wait_for_content(&alice, "bob", "docs/sub/deep/c.txt", b"changed");
    // As editors do it.
    write(docs.join("sub/deep/.c.txt.swp"), "an editor's");
    write(docs.join("sub/deep/c.txt~"), "saved");
    fs::rename(docs.join("sub/deep/c.txt~"), docs.join("sub/deep/c.txt")).unwrap();
    wait_for_content(&alice, "bob", "docs/sub/deep/c.txt", b"saved");
    fs::rename(docs.join("sub/deep"), docs.join("moved")).unwrap();
    wait_for_names(&alice, "bob", &["docs/a.txt", "docs/moved/c.txt", "docs/moved/deeper/b.txt"]);
    // What was renamed is watched under its new name.
    write(docs.join("moved/deeper/d.txt"), "d");
    fs::remove_file(docs.join("moved/deeper/b.txt")).unwrap();
    wait_for_names(&alice, "bob", &["docs/a.txt", "docs/moved/c.txt", "docs/moved/deeper/d.txt"]);
    fs::remove_dir_all(docs.join("moved")).unwrap();
    wait_for_names(&alice, "bob", &["docs/a.txt"]);
    lab.wait_until_remembered("bob", 1);
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["docs/"], &here).run().exits(0);
    assert_same(here.join("docs/a.txt"), docs.join("a.txt"));
    assert!(!node.said().contains("looked through"), "{}", node.said());
}

#[test]
fn what_happened_while_no_node_ran_is_made_up_for() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for name in ["docs/a", "docs/b", "docs/c", "docs/old/d"] {
        lab.file(name, 1000);
    }
    bob.share([lab.join("docs")]);
    fs::remove_file(lab.join("docs/a")).unwrap();
    write(lab.join("docs/b"), "changed");
    fs::rename(lab.join("docs/old"), lab.join("docs/renamed")).unwrap();
    write(lab.join("docs/new"), "new");
    let _node = bob.serve();
    wait_for_names(&alice, "bob", &["docs/b", "docs/c", "docs/new", "docs/renamed/d"]);
    wait_for_content(&alice, "bob", "docs/b", b"changed");
}

#[test]
fn a_large_file_that_is_renamed_is_not_read_again() {
    const SIZE: usize = 96 << 20;
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    lab.file("docs/film.mkv", SIZE);
    bob.share([lab.join("docs")]);
    let node = bob.serve();
    let before = listed(&alice, "bob").remove("docs/film.mkv").unwrap();
    let read = bytes_read(&node);
    fs::rename(lab.join("docs/film.mkv"), lab.join("docs/holiday.mkv")).unwrap();
    wait_for_names(&alice, "bob", &["docs/holiday.mkv"]);
    fs::create_dir(lab.join("docs/films")).unwrap();
    fs::rename(lab.join("docs/holiday.mkv"), lab.join("docs/films/holiday.mkv")).unwrap();
    wait_for_names(&alice, "bob", &["docs/films/holiday.mkv"]);
    fs::rename(lab.join("docs/films"), lab.join("docs/movies")).unwrap();
    wait_for_names(&alice, "bob", &["docs/movies/holiday.mkv"]);
    assert_eq!(listed(&alice, "bob")["docs/movies/holiday.mkv"], before);
    let read = bytes_read(&node) - read;
    assert!(read < SIZE as u64 / 4, "{read} bytes were read for three renames");
}

#[test]
fn a_single_file_that_an_editor_replaces_is_followed() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let file = lab.file("notes/todo.txt", 100);
    lab.file("notes/private.txt", 100);
    bob.share([&file]);
    let _node = bob.serve();
    for round in 0..3 {
        let text = format!("round {round}");
        let new = write(lab.join("notes/.todo.txt.new"), &text);
        fs::rename(new, &file).unwrap();
        wait_for_content(&alice, "bob", "todo.txt", text.as_bytes());
    }
    fs::rename(&file, lab.join("notes/away")).unwrap();
    wait_for_names(&alice, "bob", &[]);
    poll_until(|| (found(&alice, "todo.txt") == 0).then_some(()), || "the tracker lists it for ever".to_owned());
    fs::rename(lab.join("notes/away"), &file).unwrap();
    poll_until(|| (found(&alice, "todo.txt") == 1).then_some(()), || "the tracker never lists it again".to_owned());
    wait_for_names(&alice, "bob", &["todo.txt"]);
}

#[test]
fn what_is_taken_out_of_a_folder_stays_out() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for name in ["docs/a", "docs/diary", "docs/private/b"] {
        lab.file(name, 100);
    }
    bob.share([lab.join("docs")]);
    let _node = bob.serve();
    bob.peer(["unshare", "docs/diary", "docs/private/"]).run().exits(0);
    write(lab.join("docs/diary"), "Dear diary");
    write(lab.join("docs/private/c"), "c");
    write(lab.join("docs/z"), "the last one");
    wait_for_names(&alice, "bob", &["docs/a", "docs/z"]);
    bob.peer(["shares"]).run().exits(0).says("left out: 3 that you stopped sharing (docs/diary, docs/private/b, ");
    bob.peer(["unshare", "docs/"]).run().exits(0);
    write(lab.join("docs/later"), "later");
    bob.share([lab.file("witness", 10)]);
    wait_for_names(&alice, "bob", &["witness"]);
    bob.share([lab.join("docs")]);
    wait_for_names(
        &alice,
        "bob",
        &["docs/a", "docs/diary", "docs/later", "docs/private/b", "docs/private/c", "docs/z", "witness"],
    );
}

#[test]
fn what_is_left_out_is_told_by_shares_in_the_words_of_share() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    for name in ["docs/a.txt", "docs/.hidden", "docs/\u{202e}fdp", "docs/closed"] {
        lab.file(name, 10);
    }
    std::os::unix::fs::symlink("/etc/passwd", lab.join("docs/link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(lab.join("docs/socket")).unwrap();
    fs::set_permissions(lab.join("docs/closed"), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let shared = bob.peer(["share", "docs"]).folder(lab.path()).unprivileged().run();
    let shares = bob.peer(["shares"]).unprivileged().run();
    for text in [
        "left out: 1 hidden (docs/.hidden), 1 link (docs/link), 1 that is no file (docs/socket)",
        "not shared: docs/closed: permission denied",
        "it contains U+202E",
    ] {
        shared.exits(12).says(text);
        shares.exits(0).says(text);
    }
    let json = bob.peer(["--json", "shares"]).unprivileged().run();
    let counts = &json.exits(0).object("left_out")["left_out"];
    assert_eq!(*counts, serde_json::json!({"hidden": 1, "link": 1, "special": 1, "name": 1, "unreadable": 1}));
    fs::set_permissions(lab.join("docs/closed"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    bob.peer(["shares"]).unprivileged().run().exits(0).says("1 not hashed yet (docs/closed)");
}

#[test]
fn a_file_that_is_written_slowly_is_offered_whole_in_the_end() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let docs = lab.empty_folder("docs");
    bob.share([&docs]);
    let node = bob.serve();
    let mut file = File::create(docs.join("copy")).unwrap();
    let content = noise(1, 3 << 20);
    for piece in content.chunks(64 << 10) {
        std::io::Write::write_all(&mut file, piece).unwrap();
        // Something else happens in the folder meanwhile.
        write(docs.join("clock"), format!("{:?}", Instant::now()));
        alice.peer(["files", "bob"]).run().exits(0);
    }
    drop(file);
    wait_for_content(&alice, "bob", "docs/copy", &content);
    assert!(!node.said().contains("copy changed"), "it only grew: {}", node.said());
}

/// The files below a folder with their hashes, by the names of their shares.
fn on_disk(folder: &Path, name: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            on_disk(&entry.path(), &name, found);
        } else {
            found.insert(name, ContentHash::of(&fs::read(entry.path()).unwrap()).to_string());
        }
    }
}

/// A source of chance that can be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Creates, changes, renames and removes files and folders at random, and returns how often something was done.
fn storm(docs: &Path, files: usize, chance: &mut Chance) -> usize {
    let mut paths: Vec<PathBuf> = Vec::new();
    let (mut made, mut done) = (0, 0);
    while made < files {
        done += 1;
        let folder = docs.join(format!("f{}/g{}", chance.below(7), chance.below(5)));
        match chance.below(20) {
            0..=12 => {
                made += 1;
                paths.push(write(folder.join(format!("{made}.txt")), noise(made as u64, chance.below(3000))));
            }
            13..=15 if !paths.is_empty() => {
                let from = paths.swap_remove(chance.below(paths.len()));
                fs::create_dir_all(&folder).unwrap();
                let to = folder.join(format!("renamed {done}"));
                if fs::rename(&from, &to).is_ok() {
                    paths.push(to);
                }
            }
            16..=17 if !paths.is_empty() => drop(fs::remove_file(paths.swap_remove(chance.below(paths.len())))),
            18 if !paths.is_empty() => {
                let path = &paths[chance.below(paths.len())];
                if path.exists() {
                    write(path, noise(done as u64, 500));
                }
            }
            _ if chance.below(40) == 0 => {
                // A whole tree goes elsewhere, or away.
                let top = docs.join(format!("f{}", chance.below(7)));
                let _ = match chance.below(2) {
                    0 => fs::rename(&top, docs.join(format!("moved {done}"))),
                    _ => fs::remove_dir_all(&top),
                };
            }
            _ => {}
        }
    }
    done
}

#[test]
fn thousands_of_files_that_come_and_go_end_as_they_are_on_the_disk() {
    let is_long = std::env::var_os("VIZINHO_LONG").is_some();
    let files = if is_long { 10_000 } else { 1500 };
    let seed = std::env::var("VIZINHO_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let docs = lab.empty_folder("docs");
    bob.share([&docs]);
    let node = bob.serve();
    let begun = Instant::now();
    let done = storm(&docs, files, &mut Chance(seed));
    println!("{done} changes in {:?}", begun.elapsed());
    let mut wanted = BTreeMap::new();
    on_disk(&docs, "docs", &mut wanted);
    let difference = || {
        let listed = listed(&alice, "bob");
        let missing: Vec<_> = wanted.iter().filter(|(name, hash)| listed.get(*name) != Some(hash)).take(5).collect();
        let surplus: Vec<_> = listed.keys().filter(|name| !wanted.contains_key(*name)).take(5).cloned().collect();
        (!missing.is_empty() || !surplus.is_empty()).then(|| format!("missing {missing:?}, too many {surplus:?}"))
    };
    let patience = Duration::from_secs(if is_long { 180 } else { 60 });
    poll_for(patience, || difference().is_none().then_some(()), || difference().unwrap_or_default());
    println!("in step {:?} after the beginning, {} files, seed {seed}", begun.elapsed(), wanted.len());
    lab.wait_until_remembered("bob", wanted.len() as u64);
    // A node that begins anew finds nothing to do.
    node.interrupt();
    node.finish();
    let _node = bob.serve();
    poll_until(|| difference().is_none().then_some(()), || difference().unwrap_or_default());
    fs::remove_dir_all(&docs).unwrap();
    fs::create_dir(&docs).unwrap();
    write(docs.join("last"), "one");
    wait_for_names(&alice, "bob", &["docs/last"]);
    lab.wait_until_remembered("bob", 1);
}

/// Runs `mount` or `umount`; false, and a word about it, where that isn't allowed.
pub(crate) fn mount(program: &str, args: &[&OsStr]) -> bool {
    let ran = Invocation::new(program, Path::new("/")).args(args).run();
    if ran.code != 0 {
        println!("skipped: no mounts here ({})", ran.err().trim());
    }
    ran.code == 0
}

#[test]
fn a_disk_that_is_away_keeps_its_shares() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    lab.file("docs/a", 100);
    let film = lab.file("disk/film", 40 << 20);
    let (disk, usb) = (lab.join("disk"), lab.empty_folder("docs/usb"));
    let bind = [OsStr::new("--bind"), disk.as_os_str(), usb.as_os_str()];
    let unmount = [OsStr::new("-l"), usb.as_os_str()];
    if !mount("mount", &bind) {
        return;
    }
    bob.share([lab.join("docs")]);
    let node = bob.serve();
    wait_for_names(&alice, "bob", &["docs/a", "docs/usb/film"]);
    let read = bytes_read(&node);
    assert!(mount("umount", &unmount));
    poll_until(|| (found(&alice, "docs/usb/film") == 0).then_some(()), || "it is listed for ever".to_owned());
    bob.peer(["shares"]).run().exits(0).prints("docs/usb/film  (not there)");
    // Its folder is looked at as any other meanwhile.
    write(lab.join("docs/b"), "b");
    wait_for_names(&alice, "bob", &["docs/a", "docs/b"]);
    bob.peer(["shares"]).run().exits(0).prints("docs/usb/film  (not there)");
    assert!(mount("mount", &bind));
    poll_until(|| (found(&alice, "docs/usb/film") == 1).then_some(()), || "it never comes back".to_owned());
    wait_for_names(&alice, "bob", &["docs/a", "docs/b", "docs/usb/film"]);
    let read = bytes_read(&node) - read;
    assert!(read < 10 << 20, "{read} bytes were read for what was known");
    // The whole folder goes, and comes back.
    assert!(mount("umount", &unmount));
    fs::rename(lab.join("docs"), lab.join("away")).unwrap();
    poll_until(|| (found(&alice, "docs/a") == 0).then_some(()), || "it is listed for ever".to_owned());
    bob.peer(["shares"]).run().exits(0).prints("docs/a  (not there)");
    fs::rename(lab.join("away"), lab.join("docs")).unwrap();
    write(lab.join("docs/c"), "c");
    wait_for_names(&alice, "bob", &["docs/a", "docs/b", "docs/c"]);
    assert!(film.exists() && names_in(lab.join("docs/usb")).is_empty());
}

#[test]
fn a_folder_that_reports_nothing_is_looked_through_and_that_is_said_once() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (behind, mounted) = (lab.empty_folder("behind"), lab.empty_folder("mounted"));
    let Some(_mount) = OddMount::odd(&mounted, &behind, &[]) else { return };
    write(behind.join("one/a"), "a");
    write(behind.join("two/b"), "b");
    bob.share([mounted.join("one"), mounted.join("two")]);
    let node = bob.serve();
    node.wait_for("is looked through every few seconds or minutes: not all changes on network and FUSE file systems");
    // Through the mount, which this system reports.
    write(mounted.join("one/c"), "c");
    wait_for_names(&alice, "bob", &["one/a", "one/c", "two/b"]);
    // Behind it.
    write(behind.join("one/d"), "d");
    write(behind.join("two/e"), "e");
    fs::remove_file(behind.join("one/a")).unwrap();
    wait_for_names(&alice, "bob", &["one/c", "one/d", "two/b", "two/e"]);
    assert_eq!(node.said().matches("looked through").count(), 1, "{}", node.said());
}

#[test]
fn a_system_without_watches_left_is_no_end_and_that_is_said_once() {
    // The limit of a user namespace, which nobody else has a part in.
    const FEW: &str =
        r#"exec unshare -Ur bash -c 'echo 3 > /proc/sys/user/max_inotify_watches || exit 99; exec "$@"' bash "$@""#;
    const NONE: &str =
        r#"exec unshare -Ur bash -c 'echo 0 > /proc/sys/user/max_inotify_instances || exit 99; exec "$@"' bash "$@""#;
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    if bob.peer(["shares"]).through_shell(FEW).run().code != 0 {
        println!("skipped: no user namespaces here");
        return;
    }
    for number in 0..6 {
        lab.file(format!("docs/{number}/file"), 10);
        lab.file(format!("more/{number}/file"), 10);
    }
    bob.share([lab.join("docs"), lab.join("more")]);
    for (limit, words) in [(FEW, "fs.inotify.max_user_watches="), (NONE, "fs.inotify.max_user_instances=")] {
        let node = bob.peer(["serve"]).through_shell(limit).start();
        node.wait_for("online as bob at ");
        node.wait_for(words);
        let new = write(lab.join("docs/4/new"), "new");
        poll_until(|| listed(&alice, "bob").contains_key("docs/4/new").then_some(()), || node.said());
        fs::remove_file(new).unwrap();
        poll_until(|| (!listed(&alice, "bob").contains_key("docs/4/new")).then_some(()), || node.said());
        assert_eq!(node.said().matches("looked through").count(), 1, "{}", node.said());
        node.interrupt();
        node.finish();
    }
}
