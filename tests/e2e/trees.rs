//! What comes along with a tree, where its files go, and how they are offered again.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use tests::files::{assert_content, assert_same, names_in, write};
use tests::{Lab, User};

fn shared_names(user: &User<'_>) -> Vec<String> {
    let shares = user.peer(["--json", "shares"]).run();
    let shares = shares.exits(0).json().into_iter().filter(|share| share["type"] == "share");
    shares.map(|share| share["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn empty_folders_times_and_modes_come_along() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for folder in ["tree/empty", "tree/hidden", "tree/links", "tree/deep/er"] {
        lab.empty_folder(folder);
    }
    write(lab.join("tree/hidden/.x"), "x");
    symlink("/etc/passwd", lab.join("tree/links/link")).unwrap();
    let old = SystemTime::UNIX_EPOCH - Duration::new(86_400 * 365, 250_000_001);
    let new = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    for (name, time) in [("tree/old", old), ("tree/new", new)] {
        write(lab.join(name), name);
        File::options().write(true).open(lab.join(name)).unwrap().set_modified(time).unwrap();
    }
    fs::set_permissions(lab.join("tree/new"), fs::Permissions::from_mode(0o755)).unwrap();
    let folders = ["tree/empty", "tree/deep/er", "tree/deep", "tree"];
    for folder in folders {
        File::open(lab.join(folder)).unwrap().set_modified(old).unwrap();
    }
    bob.share([lab.join("tree")]);
    let _node = bob.serve();
    for (number, asked) in ["tree/", "tree/**", "."].into_iter().enumerate() {
        let here = lab.empty_folder(format!("here{number}"));
        // As in a shell, a pattern is about what is below its first part.
        let tree = if asked.contains('*') { here.clone() } else { here.join("tree") };
        alice.fetch("bob", [asked], &here).run().exits(0).says("4 empty folders");
        assert_eq!(names_in(&tree), ["deep", "empty", "hidden", "links", "new", "old"], "{asked}");
        assert!(tree.join("deep/er").is_dir() && names_in(tree.join("hidden")).is_empty());
        for (name, time) in [("old", old), ("new", new)] {
            assert_eq!(fs::metadata(tree.join(name)).unwrap().modified().unwrap(), time, "{name}");
        }
        for folder in folders.iter().filter_map(|folder| folder.strip_prefix("tree/")) {
            assert_eq!(fs::metadata(tree.join(folder)).unwrap().modified().unwrap(), old, "{folder}");
        }
        if !asked.contains('*') {
            assert_eq!(fs::metadata(&tree).unwrap().modified().unwrap(), old);
        }
        assert_eq!(fs::metadata(tree.join("new")).unwrap().mode() & 0o111, 0o111);
        fs::set_permissions(tree.join("new"), fs::Permissions::from_mode(0o644)).unwrap();
        alice.fetch("bob", [asked], &here).run().exits(0).says("there already");
        assert_eq!(fs::metadata(tree.join("new")).unwrap().mode() & 0o111, 0o111, "it is left, and can be run");
    }
    // As for `cp -r`, what a pattern matches may be a folder.
    alice.fetch("bob", ["*"], &lab.empty_folder("all")).run().exits(0).says("4 empty folders");
    assert_eq!(names_in(lab.join("all/tree")).len(), 6);
    let only = alice.fetch("bob", ["tree/empty"], &lab.empty_folder("only")).run();
    only.exits(0).says("1 empty folder");
    assert!(lab.join("only/empty").is_dir());
}

#[test]
fn folders_get_their_times_from_a_retry_as_well() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    write(lab.join("tree/deep/x.txt"), "x");
    lab.file("tree/film.mkv", 8_000_000);
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    for folder in ["tree/deep", "tree"] {
        File::open(lab.join(folder)).unwrap().set_modified(old).unwrap();
    }
    bob.share([lab.join("tree")]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    let begun = alice.peer(["fetch", "bob", "tree/", "--limit", "2M", "-o"]).arg(&here).start();
    while !here.join("tree/deep/x.txt").exists() {
        assert!(begun.is_running());
        std::thread::yield_now();
    }
    begun.interrupt();
    begun.finish().exits(130);
    alice.peer(["fetch", "--retry", "--limit", "1G"]).run().exits(0);
    assert_same(here.join("tree/film.mkv"), lab.join("tree/film.mkv"));
    for folder in ["tree/deep", "tree"] {
        assert_eq!(fs::metadata(here.join(folder)).unwrap().modified().unwrap(), old, "{folder}");
    }
}

#[test]
fn files_that_want_the_same_name_are_told_apart_and_not_fetched_again() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for name in ["a", "b", "c"] {
        write(lab.join(name).join("x.txt"), name);
        bob.share([lab.join(name)]);
    }
    // The same content in both, and one that has the name that the second of them would get.
    write(lab.join("d/x.txt"), "a");
    write(lab.join("e/x (1).txt"), "e");
    bob.share([lab.join("d"), lab.join("e")]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    let fetch = |names: &[&str], policy: &[&str]| {
        let fetch = alice.peer(["--json", "fetch", "bob", "-o"]).arg(&here).args(policy).args(names);
        fetch.run()
    };
    let names = ["a/x.txt", "b/x.txt", "c/x.txt", "d/x.txt", "e/x (1).txt"];
    let first = fetch(&names, &[]);
    assert_eq!(first.file_statuses(), ["done", "done", "renamed", "renamed", "renamed"]);
    assert_eq!(first.object("summary")["renamed"], 3);
    let there = names_in(&here);
    assert_eq!(there.len(), 5, "{there:?}");
    assert_content(here.join("x.txt"), b"a");
    assert_content(here.join("x (1).txt"), b"e");
    let mut turned = names;
    turned.reverse();
    for names in [names, turned] {
        assert_eq!(fetch(&names, &[]).file_statuses(), ["skipped"; 5]);
        assert_eq!(fetch(&names, &["--if-exists", "skip"]).file_statuses(), ["skipped"; 5]);
        fetch(&names, &["--if-exists", "overwrite"]).exits(0);
        assert_eq!(names_in(&here), there);
    }
    // The first one is gone: the others are still known, and one of them has the same content.
    fs::remove_file(here.join("x.txt")).unwrap();
    assert_eq!(fetch(&turned, &[]).file_statuses(), ["skipped"; 5]);
}

#[test]
fn several_names_go_into_a_folder_whatever_is_found() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    write(lab.join("docs/a.txt"), "a");
    bob.share([lab.join("docs")]);
    let _node = bob.serve();
    for (number, names) in
        [&["docs/a.txt", "nothing"] as &[&str], &["docs/*.txt"], &["docs"], &["docs/"]].iter().enumerate()
    {
        let new = lab.join(format!("new{number}"));
        let fetch = || alice.fetch("bob", names.iter().copied(), &new).run();
        fetch();
        assert!(new.is_dir(), "{names:?}");
        fetch().says("there already");
    }
    write(lab.join("file"), "x");
    alice.fetch("bob", ["docs/a.txt", "nothing"], &lab.join("file")).run().exits(9).says("not a folder");
    alice.fetch("bob", ["docs/a.txt"], &lab.join("one")).run().exits(0);
    assert_content(lab.join("one"), b"a");
}

#[test]
fn what_is_shared_again_keeps_its_folders_and_fails_nothing() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for name in ["tree/a.txt", "tree/sub1/a.txt", "tree/sub2/a.txt"] {
        write(lab.join(name), name);
    }
    bob.share([lab.join("tree")]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    write(here.join("tree/a.txt"), "tree/a.txt");
    alice.fetch("bob", ["--share", "tree/"], &here).run();
    let fetched = alice.peer(["fetch", "bob", "tree/", "--share", "-o"]).arg(&here).run();
    fetched.exits(0).says("there already").says("3 files shared");
    assert_eq!(shared_names(&alice), ["tree/a.txt", "tree/sub1/a.txt", "tree/sub2/a.txt"]);
    // The names are taken now: that is told, and the files are here all the same.
    let there = lab.empty_folder("there");
    let again = alice.peer(["fetch", "bob", "tree/", "--share", "-o"]).arg(&there).run();
    again.exits(0).says("not shared").says("3 files fetched");
}
