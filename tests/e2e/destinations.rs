//! Where fetched files go, and what is there already.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use tests::files::{assert_content, assert_same, names_in, write};
use tests::{Invocation, Lab, Process, Tmpfs, User};

/// Bob shares `a.txt` ("from bob") and a folder, and is online.
fn bob_is_there(lab: &Lab) -> (User<'_>, Process) {
    let bob = lab.user("bob");
    bob.share([write(lab.join("of bob/a.txt"), "from bob")]);
    for (name, text) in
        [("docs/one.pdf", "1"), ("docs/two.pdf", "2"), ("docs/sub/three.pdf", "3"), ("docs/four.txt", "4")]
    {
        write(lab.join("of bob").join(name), text);
    }
    bob.share([lab.join("of bob/docs")]);
    let node = bob.serve();
    (bob, node)
}

fn fetch(alice: &User<'_>, names: &[&str], output: impl AsRef<Path>) -> Invocation {
    alice.peer(["fetch", "bob", "-o"]).arg(output.as_ref()).args(names)
}

#[test]
fn a_folder_a_new_name_or_standard_output() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _bob = bob_is_there(&lab);
    let here = lab.empty_folder("here");
    fetch(&alice, &["a.txt"], "-").run().exits(0).prints_exactly("from bob");
    fetch(&alice, &["a.txt", "docs/one.pdf"], "-").run().exits(0).prints_exactly("from bob1");
    fetch(&alice, &["a.txt"], here.join("new.txt")).run().exits(0);
    fetch(&alice, &["a.txt"], here.join("new folder/")).run().exits(0);
    fetch(&alice, &["a.txt"], here.join("deep/deeper/new.txt")).run().exits(0);
    fetch(&alice, &["a.txt"], &here).run().exits(0);
    for name in ["new.txt", "new folder/a.txt", "deep/deeper/new.txt", "a.txt"] {
        assert_content(here.join(name), b"from bob");
    }
    fetch(&alice, &["a.txt", "docs/one.pdf"], here.join("both")).run().exits(0);
    assert_eq!(names_in(here.join("both")), ["a.txt", "one.pdf"], "several can only go into a folder");
    let several = fetch(&alice, &["a.txt", "docs/one.pdf"], here.join("a.txt")).run();
    assert!(matches!(several.code, 2 | 9 | 10), "a file can't hold two: {several}");
    assert_content(here.join("a.txt"), b"from bob");
}

#[test]
fn folders_and_patterns() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _bob = bob_is_there(&lab);
    let fetched = |folder: &str, names: &[&str]| {
        let here = lab.empty_folder(folder);
        fetch(&alice, names, &here).run().exits(0);
        here
    };
    let whole = fetched("1", &["docs/"]);
    assert_eq!(names_in(whole.join("docs")), ["four.txt", "one.pdf", "sub", "two.pdf"]);
    assert_content(whole.join("docs/sub/three.pdf"), b"3");
    assert_eq!(names_in(fetched("2", &["docs"]).join("docs")), ["four.txt", "one.pdf", "sub", "two.pdf"]);
    let some = fetched("3", &["docs/*.pdf"]);
    assert_eq!(names_in(&some), ["one.pdf", "two.pdf"]);
    let sub = fetched("4", &["docs/sub/"]);
    assert_content(sub.join("sub/three.pdf"), b"3");
    let all = fetched("5", &["**/*.pdf"]);
    assert_content(all.join("docs/sub/three.pdf"), b"3");
    assert_content(all.join("docs/one.pdf"), b"1");
    let one = fetched("6", &["docs/sub/three.pdf"]);
    assert_eq!(names_in(&one), ["three.pdf"]);
    let twice = fetched("7", &["a.txt", "a.txt", "*.txt"]);
    assert_eq!(names_in(&twice), ["a.txt"], "named three times, fetched once");
}

#[test]
fn what_exists_is_skipped_renamed_overwritten_or_an_error() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _bob = bob_is_there(&lab);
    let here = lab.empty_folder("here");
    let with = |what: &str| fetch(&alice, &["--if-exists", what, "a.txt"], &here).run();
    let plainly = || fetch(&alice, &["a.txt"], &here).run();
    write(here.join("a.txt"), "mine");

    with("fail").exits(10).says("exists");
    with("skip").exits(0).says("there already");
    assert_content(here.join("a.txt"), b"mine");
    assert_eq!(names_in(&here), ["a.txt"]);

    plainly().exits(0).says("a (1).txt");
    with("rename").exits(0).says("a (2).txt");
    assert_content(here.join("a.txt"), b"mine");
    assert_content(here.join("a (1).txt"), b"from bob");
    assert_content(here.join("a (2).txt"), b"from bob");

    with("overwrite").exits(0);
    assert_content(here.join("a.txt"), b"from bob");
    plainly().exits(0).says("there already");
    assert_eq!(names_in(&here), ["a (1).txt", "a (2).txt", "a.txt"]);
}

#[test]
fn a_folder_in_the_way_is_never_replaced() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _bob = bob_is_there(&lab);
    let here = lab.empty_folder("here");
    write(here.join("a.txt/inside"), "precious");
    for what in ["fail", "overwrite"] {
        fetch(&alice, &["--if-exists", what, "a.txt"], &here).run().exits(10);
    }
    fetch(&alice, &["a.txt"], &here).run().exits(0);
    assert_content(here.join("a.txt/inside"), b"precious");
    assert_content(here.join("a (1).txt"), b"from bob");
    // A file where a folder has to be.
    write(here.join("docs"), "a file");
    fetch(&alice, &["docs/"], &here).run().exits(12);
    fetch(&alice, &["docs/one.pdf"], here.join("docs/")).run().exits(9);
    assert_content(here.join("docs"), b"a file");
}

#[test]
fn links_in_the_destination_lead_nowhere() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _bob = bob_is_there(&lab);
    let here = lab.empty_folder("here");
    let outside = lab.empty_folder("outside");
    symlink(&outside, here.join("docs")).unwrap();
    let target = write(outside.join("target"), "precious");
    symlink(&target, here.join("a.txt")).unwrap();
    fetch(&alice, &["docs/"], &here).run().exits(12);
    assert_eq!(names_in(&outside), ["target"]);
    fetch(&alice, &["--if-exists", "overwrite", "a.txt"], &here).run().exits(10);
    fetch(&alice, &["a.txt"], &here).run().exits(0);
    assert_content(&target, b"precious");
    assert_content(here.join("a (1).txt"), b"from bob");
    // A link that the user names is the user's own word.
    symlink(&here, lab.join("link")).unwrap();
    fetch(&alice, &["docs/one.pdf"], lab.join("link")).run().exits(0);
    assert_content(here.join("one.pdf"), b"1");
}

#[test]
fn a_destination_that_forbids_writing_is_exit_9() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _bob = bob_is_there(&lab);
    let closed = lab.empty_folder("closed");
    fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap();
    for output in [closed.clone(), closed.join("new.txt"), closed.join("new/")] {
        fetch(&alice, &["a.txt"], output).unprivileged().run().exits(9).says("permission denied").is_plain();
    }
    assert!(names_in(&closed).is_empty());
}

#[test]
fn a_read_only_file_system_is_exit_9() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _bob = bob_is_there(&lab);
    let here = lab.empty_folder("here");
    // Where nothing can be mounted, /proc is one that everybody has and nobody can write to.
    let mounted = Tmpfs::mount(&here, "ro");
    let target = if mounted.is_some() { here.clone() } else { "/proc/sys".into() };
    for output in [target.clone(), target.join("new.txt"), target.join("new/")] {
        fetch(&alice, &["a.txt"], output).run().exits(9).is_plain();
    }
    if mounted.is_some() {
        fetch(&alice, &["a.txt"], &here).run().exits(9).says("read-only");
    }
}

#[test]
fn a_destination_that_is_no_folder_is_exit_9_or_10() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _bob = bob_is_there(&lab);
    let file = write(lab.join("file"), "x");
    fetch(&alice, &["a.txt"], file.join("below/")).run().exits(9);
    fetch(&alice, &["a.txt"], file.join("below")).run().exits(9);
    fetch(&alice, &["--if-exists", "fail", "a.txt"], &file).run().exits(10);
    assert_content(&file, b"x");
}

#[test]
fn a_full_disk_is_exit_9_and_space_helps() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", 6_000_000);
    bob.share([&film]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    let Some(_mounted) = Tmpfs::mount(&here, "size=8m") else { return fills_up_in_the_middle(&alice, &here, &film) };
    write(here.join("other"), vec![1; 4_000_000]);
    let full = fetch(&alice, &["film.mkv"], &here).run();
    full.exits(9).says("free some space").is_plain();
    assert!(!here.join("film.mkv").exists());
    assert_content(here.join("other"), &vec![1; 4_000_000]);
    fs::remove_file(here.join("other")).unwrap();
    fetch(&alice, &["film.mkv"], &here).run().exits(0);
    assert_same(here.join("film.mkv"), &film);
    assert_eq!(names_in(&here), ["film.mkv"]);
}

#[test]
fn many_small_files_take_more_than_their_bytes() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for number in 0..600 {
        write(lab.join(format!("notes/{number}")), format!("note {number}"));
    }
    bob.share([lab.join("notes")]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    let Some(_mounted) = Tmpfs::mount(&here, "size=1m") else {
        println!("skipped: nothing can be mounted here");
        return;
    };
    let full = fetch(&alice, &["notes/"], &here).run();
    full.exits(9).says("not enough space").says("need 2.46 MB");
    assert_eq!(full.err().matches("space").count(), 2, "one disk, one message: {full}");
}

#[test]
fn a_disk_that_others_fill_up_ends_a_fetch_of_many_files_with_one_error() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for number in 0..500 {
        write(lab.join(format!("notes/{number}")), format!("{number:04}").repeat(1024));
    }
    bob.share([lab.join("notes")]);
    let node = bob.peer(["serve", "--limit", "600K"]).start();
    node.wait_for("online as bob");
    let here = lab.empty_folder("here");
    let Some(_mounted) = Tmpfs::mount(&here, "size=4m") else {
        println!("skipped: nothing can be mounted here");
        return;
    };
    let fetching = fetch(&alice, &["notes/"], &here).start();
    fetching.wait_for_nth("(4.10 kB)", 20);
    let other = here.join("other");
    // To the last byte: the system says when that is.
    let _ = fs::File::create(&other).and_then(|mut file| std::io::copy(&mut std::io::repeat(1), &mut file));
    let full = fetching.finish();
    full.exits(9).is_plain();
    assert_eq!(full.err().matches("the disk is full").count(), 1, "{full}");
    fs::remove_file(&other).unwrap();
    node.interrupt();
    node.finish().exits(130);
    let _node = bob.serve();
    fetch(&alice, &["notes/", "--if-exists", "skip"], &here).run().exits(0);
    assert_same(here.join("notes/499"), lab.join("notes/499"));
}

#[test]
fn a_disk_that_fills_up_in_the_middle_is_exit_9_and_the_rest_comes_later() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", 6_000_000);
    bob.share([&film]);
    let _node = bob.serve();
    fills_up_in_the_middle(&alice, &lab.empty_folder("here"), &film);
}

fn fills_up_in_the_middle(alice: &User<'_>, here: &Path, film: &Path) {
    // The file system would hold it, this process may not: nothing told it beforehand.
    let limited = fetch(alice, &["film.mkv"], here).through_shell(r#"ulimit -f 3000; trap "" XFSZ; exec "$@""#).run();
    limited.exits(9).says("film.mkv").is_plain();
    assert!(!here.join("film.mkv").exists());
    fetch(alice, &["film.mkv"], here).run().exits(0);
    assert_same(here.join("film.mkv"), film);
    assert_eq!(names_in(here), ["film.mkv"]);
}

#[test]
fn a_limit_on_file_sizes_is_exit_9_and_not_a_signal() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("film.mkv", 6_000_000)]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    let limited = fetch(&alice, &["film.mkv"], &here).through_shell(r#"ulimit -f 3000; exec "$@""#).run();
    limited.exits(9).says("film.mkv");
}
