//! Destinations on file systems that are not like the usual ones: those that fold case, sticks, shares, drop boxes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tests::files::{assert_content, assert_same, names_in, write};
use tests::{Lab, OddMount, Outcome, Process, Tmpfs, User};

/// Names of which an exFAT holds none, and names that it takes for one another.
const NAMES: [&str; 9] =
    ["a:b.txt", "what?.txt", "pipe|<x>.txt", "README", "Readme", "readme", "plain.txt", "con.txt", "sub/d\"e.txt"];

/// Bob shares a folder with these names, each with its name in it, and is online.
fn bob_shares<'a>(lab: &'a Lab, names: &[&str]) -> (User<'a>, Process) {
    let bob = lab.user("bob");
    for name in names {
        write(lab.join("odd").join(name), name);
    }
    bob.share([lab.join("odd")]);
    let node = bob.serve();
    (bob, node)
}

/// Every content arrived, under whatever name, and nothing else is there.
#[track_caller]
fn all_arrived(folder: &Path, names: &[&str]) {
    let mut wanted: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut found = Vec::new();
    for folder in [folder.to_owned(), folder.join("sub")] {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            found.push(fs::read_to_string(entry).unwrap());
        }
    }
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
}

fn fetch_all(alice: &User<'_>, here: &Path, how: &str) -> Outcome {
    alice.peer(["--json", "fetch", "bob", "odd/", "--if-exists", how, "-o"]).arg(here).run()
}

/// Fetches in every way to a file system that folds case: nothing that was fetched is lost, and nothing is fetched twice.
fn nothing_is_lost_on(alice: &User<'_>, here: &Path, names: &[&str]) {
    let skipped = vec!["skipped".to_owned(); names.len()];
    for how in ["overwrite", "skip", "rename", "fail"] {
        let here = here.join(how);
        fs::create_dir(&here).unwrap();
        fetch_all(alice, &here, how).exits(0);
        all_arrived(&here.join("odd"), names);
        let there = names_in(here.join("odd"));
        // Whatever was renamed or spelled otherwise is known again.
        assert_eq!(fetch_all(alice, &here, "skip").file_statuses(), skipped, "after {how}");
        alice.fetch("bob", ["odd/"], &here).run().exits(0).says(&format!("{} files there already", names.len()));
        fetch_all(alice, &here, "overwrite").exits(0);
        all_arrived(&here.join("odd"), names);
        assert_eq!(names_in(here.join("odd")), there, "after {how}");
    }
}

#[test]
fn a_stick_with_exfat_takes_every_file() {
    let lab = Lab::start();
    let stick = lab.empty_folder("stick");
    let Some(_mount) = OddMount::exfat(&stick) else { return };
    let (alice, bob) = (lab.user("alice"), bob_shares(&lab, &NAMES));
    nothing_is_lost_on(&alice, &stick, &NAMES);
    // Large ones go on where they were.
    let film = lab.file("film.mkv", 5_000_000);
    bob.0.share([&film]);
    alice.fetch("bob", ["film.mkv"], &stick).run().exits(0);
    assert_same(stick.join("film.mkv"), &film);
    // All files there have one owner, whoever makes them.
    let theirs = stick.join("somebody else's");
    alice.fetch("bob", ["film.mkv"], &theirs).unprivileged().run().exits(0);
    assert_same(theirs, &film);
    write(lab.join("odd/README"), "new");
    bob.0.share([lab.join("odd")]);
    alice.peer(["fetch", "bob", "odd/README", "--if-exists", "overwrite", "-o"]).arg(&stick).run().exits(0);
    assert_content(stick.join("README"), b"new");
    assert!(names_in(&stick).iter().all(|name| !name.ends_with(".part")), "{:?}", names_in(&stick));
}

#[test]
fn a_file_system_that_folds_case_loses_nothing() {
    let names = ["README", "Readme", "readme", "caf\u{e9}", "cafe\u{301}", "sub/x", "sub/X"];
    let lab = Lab::start();
    let here = lab.empty_folder("here");
    let Some(_mount) = OddMount::odd(&here, &lab.empty_folder("behind"), &["fold"]) else { return };
    let (alice, _bob) = (lab.user("alice"), bob_shares(&lab, &names));
    nothing_is_lost_on(&alice, &here, &names);
    // The user's own file is replaced when that is said, once.
    let mine = here.join("mine/odd");
    fs::create_dir_all(&mine).unwrap();
    write(mine.join("reaDME"), "mine");
    fetch_all(&alice, &here.join("mine"), "overwrite").exits(0);
    all_arrived(&mine, &names);
}

#[test]
fn one_content_under_two_names_that_are_one() {
    let lab = Lab::start();
    let here = lab.empty_folder("here");
    let Some(_mount) = OddMount::odd(&here, &lab.empty_folder("behind"), &["fold", "no-links"]) else { return };
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("twins/film", 3_000_000);
    fs::copy(&film, lab.join("twins/Film")).unwrap();
    bob.share([lab.join("twins")]);
    let _node = bob.serve();
    alice.fetch("bob", ["twins/"], &here).run().exits(0);
    let names = names_in(here.join("twins"));
    assert_eq!(names.len(), 2, "{names:?}");
    names.iter().for_each(|name| assert_same(here.join("twins").join(name), &film));
}

#[test]
fn a_drop_box_that_cannot_be_read_takes_files() {
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), bob_shares(&lab, &["a", "sub/b"]));
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let boxes = lab.empty_folder("boxes");
    mode(&boxes, 0o777);
    for (name, asked) in [("one", "odd/a"), ("all", "odd/")] {
        let drop_box = lab.empty_folder(format!("boxes/{name}"));
        mode(&drop_box, 0o333);
        alice.fetch("bob", [asked], &drop_box).unprivileged().run().exits(0).is_plain();
        mode(&drop_box, 0o755);
        let names = names_in(&drop_box);
        assert_eq!(names, [if name == "one" { "a" } else { "odd" }], "and nothing else is left");
        mode(&drop_box, 0o333);
    }
    let drop_box = boxes.join("one");
    alice.fetch("bob", ["odd/a"], &drop_box.join("under another name")).unprivileged().run().exits(0);
    mode(&drop_box, 0o755);
    assert_content(drop_box.join("under another name"), b"a");
}

#[test]
fn a_folder_that_takes_nothing_is_named_once_and_before_anything_is_fetched() {
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), bob_shares(&lab, &["a", "b", "c"]));
    let closed = lab.empty_folder("closed");
    fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap();
    for asked in ["odd/a", "odd/"] {
        let outcome = alice.fetch("bob", [asked], &closed).unprivileged().run();
        outcome.exits(9).says("permission denied").says("give another folder with -o").is_plain();
        assert_eq!(outcome.err().matches("closed").count(), 1, "{outcome}");
    }
    let here = alice.peer(["fetch", "bob", "odd/a"]).folder(&closed).unprivileged().run();
    here.exits(9).says(&closed.to_string_lossy());
    // What is there already needs no place.
    fs::set_permissions(&closed, Permissions::from_mode(0o755)).unwrap();
    alice.fetch("bob", ["odd/"], &closed).run().exits(0);
    fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap();
    alice.fetch("bob", ["odd/"], &closed).unprivileged().run().exits(0).says("3 files there already");
}

#[test]
fn a_folder_that_was_removed_is_said_once() {
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), bob_shares(&lab, &["a", "b", "c"]));
    for asked in [&["odd/a"][..], &["odd/"], &["odd/a", "-o", "new/"], &["odd/a", "-o", "new"]] {
        let gone = lab.empty_folder("gone");
        let fetch = alice.peer(["fetch", "bob"]).args(asked).folder(&gone);
        let outcome = fetch.through_shell(r#"rmdir "$PWD" && exec "$@""#).run();
        outcome.exits(9).says("the folder was removed").is_plain();
        let told = outcome.err().lines().filter(|line| !line.starts_with("first contact")).count();
        assert_eq!(told, 1, "{outcome}");
    }
}

#[test]
fn a_disk_without_inodes_or_quota_says_so() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), bob_shares(&lab, &["a", "b", "c", "d", "e"]));
    let here = lab.empty_folder("here");
    if let Some(_mounted) = Tmpfs::mount(&here, "nr_inodes=5") {
        let full = alice.fetch("bob", ["odd/"], &here).run();
        full.exits(9).says("need 5 new files").says("inodes").is_plain();
        assert!(names_in(&here).is_empty());
    }
    bob.0.share([lab.file("film.mkv", 3_000_000)]);
    let quota = lab.empty_folder("quota");
    let Some(_mount) = OddMount::odd(&quota, &lab.empty_folder("behind"), &["quota"]) else { return };
    alice.fetch("bob", ["film.mkv"], &quota).run().exits(9).says("film.mkv").says("quota is used up").is_plain();
}

#[test]
fn nothing_waits_for_a_file_system_that_is_slow_at_making_files_longer() {
    let lab = Lab::start();
    let here = lab.empty_folder("here");
    let behind = lab.empty_folder("behind");
    let Some(_mount) = OddMount::odd(&here, &behind, &["truncates"]) else { return };
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", 6_000_000);
    bob.share([&film]);
    let _node = bob.serve();
    alice.fetch("bob", ["film.mkv"], &here).run().exits(0);
    assert_same(here.join("film.mkv"), &film);
    assert!(!lab.join("behind.truncates").exists(), "it grew by being written");
}

#[test]
fn what_is_too_large_for_a_file_system_is_said_before_it_comes() {
    let lab = Lab::start();
    let here = lab.empty_folder("here");
    let Some(_mount) = OddMount::odd(&here, &lab.empty_folder("behind"), &["small-files"]) else { return };
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("film.mkv", 6_000_000)]);
    let _node = bob.serve();
    let outcome = alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(&here).run();
    outcome.exits(9).says("film.mkv").says("larger than the limit").is_plain();
    assert_eq!(outcome.object("summary")["bytes_fetched"], 0, "{outcome}");
    assert!(names_in(&here).is_empty(), "{:?}", names_in(&here));
}

#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::{FileExt, MetadataExt};

    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let image = lab.join("disk.img");
    let file = fs::File::create(&image).unwrap();
    file.set_len(300 << 20).unwrap();
    for at in [0, 100 << 20, 299 << 20] {
        file.write_all_at(b"some data", at).unwrap();
    }
    bob.share([&image]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["disk.img"], &here).run().exits(0);
    assert_same(here.join("disk.img"), &image);
    assert!(fs::metadata(here.join("disk.img")).unwrap().blocks() * 512 < 20 << 20);
}

#[test]
fn room_for_holes_is_needed_where_there_are_none() {
    let lab = Lab::start();
    let stick = lab.empty_folder("stick");
    let Some(_mount) = OddMount::exfat(&stick) else { return };
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let image = lab.file("disk.img", 2_000_000);
    fs::File::options().write(true).open(&image).and_then(|file| file.set_len(400 << 20)).unwrap();
    bob.share([&image]);
    let _node = bob.serve();
    alice.fetch("bob", ["disk.img"], &stick).run().exits(9).says("need 419 MB").is_plain();
    assert!(names_in(&stick).is_empty(), "{:?}", names_in(&stick));
}

#[test]
fn a_folder_whose_name_cannot_be_is_named() {
    let lab = Lab::start();
    let stick = lab.empty_folder("stick");
    let Some(_mount) = OddMount::exfat(&stick) else { return };
    let (alice, _bob) = (lab.user("alice"), bob_shares(&lab, &["a"]));
    for into in ["di:r/", "di:r/deeper/", "good/di:r/"] {
        let refused = alice.fetch("bob", ["odd/a"], &stick.join(into)).run();
        refused.exits(9).says("can't hold the name di:r").says("-o").is_plain();
    }
}
