//! Offering files, and what becomes of the offer when the file doesn't stay what it was.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use tests::files::{assert_content, assert_same, names_in, write};
use tests::{Lab, User};

fn shared_names(user: &User<'_>) -> Vec<String> {
    let shares = user.peer(["--json", "shares"]).run();
    shares.exits(0).json().iter().map(|share| share["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn folders_are_walked_hidden_files_and_links_left_out() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    for name in ["docs/a.txt", "docs/sub/deep/b.txt", "docs/.hidden", "docs/.git/config", ".named"] {
        lab.file(name, 100);
    }
    symlink("/etc/passwd", lab.join("docs/link")).unwrap();
    symlink("/etc", lab.join("docs/linked-folder")).unwrap();
    bob.share([lab.join("docs")]);
    assert_eq!(shared_names(&bob), ["docs/a.txt", "docs/sub/deep/b.txt"]);
    bob.share([lab.join(".named")]);
    assert_eq!(shared_names(&bob), [".named", "docs/a.txt", "docs/sub/deep/b.txt"]);
    bob.peer(["share"]).arg(lab.join("docs/link")).run().exits(12).says("link");

    bob.peer(["unshare", "docs/sub/"]).run().exits(0);
    assert_eq!(shared_names(&bob), [".named", "docs/a.txt"]);
    bob.peer(["unshare", "no-such-thing"]).run().exits(2);
}

#[test]
fn an_unchanged_file_is_not_hashed_again() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let file = lab.file("a.bin", 100_000);
    bob.share([&file]);
    bob.share([&file]).says("1 unchanged since last time");
    write(&file, "something else");
    let again = bob.share([&file]);
    assert!(!again.err().contains("unchanged"), "{again}");
}

#[test]
fn what_cannot_be_shared_is_named_and_the_rest_is_shared() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let good = lab.file("good.txt", 10);
    let missing = bob.peer(["share"]).arg(&good).arg(lab.join("missing.txt")).arg("/dev/null").run();
    missing.exits(12).says("missing.txt").says("/dev/null").says("2 of 3 failed");
    assert_eq!(shared_names(&bob), ["good.txt"]);
    let other = lab.file("elsewhere/good.txt", 10);
    bob.peer(["share"]).arg(&other).run().exits(12).says("--as");
    bob.peer(["share", "--as", "better.txt"]).arg(&other).run().exits(0);
    assert_eq!(shared_names(&bob), ["better.txt", "good.txt"]);
}

#[test]
fn a_running_node_shares_at_once_what_is_added_and_no_more_what_is_removed() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let node = bob.serve();
    bob.share([lab.file("a.txt", 10)]);
    node.wait_for("1 file is shared now");
    alice.peer(["files", "bob"]).run().exits(0).prints("a.txt");
    alice.peer(["list"]).run().exits(0).prints("1 file");
    bob.peer(["unshare", "a.txt"]).run().exits(0);
    node.wait_for("0 files are shared now");
    alice.peer(["files", "bob"]).run().exits(0).prints_exactly("").says("shares nothing");
    alice.fetch("bob", ["a.txt"], lab.path()).run().exits(5);
}

#[test]
fn a_deleted_file_is_exit_5() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("a.txt", 5000), lab.file("b.txt", 10)]);
    let _node = bob.serve();
    std::fs::remove_file(lab.join("a.txt")).unwrap();
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["a.txt"], &here).run().exits(5).says("a.txt");
    alice.fetch("bob", ["a.txt", "b.txt"], &here).run().exits(12);
    assert_eq!(names_in(&here), ["b.txt"]);
}

#[test]
fn a_changed_file_is_served_as_it_is_now_and_never_under_its_old_hash() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let file = lab.file("a.bin", 3_000_000);
    bob.share([&file]);
    let node = bob.serve();
    let hash = |user: &User<'_>| {
        let files = user.peer(["--json", "files", "bob"]).run();
        files.exits(0).object("file")["hash"].as_str().unwrap().to_owned()
    };
    let before = hash(&alice);
    write(&file, b"something else".repeat(200_000));
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["a.bin"], &here).run().exits(0);
    assert_same(here.join("a.bin"), &file);
    node.wait_for("a.bin changed and is being hashed again");
    assert_ne!(hash(&alice), before);
    // Its size is the same this time: only the time of the change tells.
    let content = b"SOMETHING else".repeat(200_000);
    write(&file, &content);
    alice.fetch("bob", ["a.bin"], &here).args(["--if-exists", "overwrite"]).run();
    let fetched = alice.peer(["fetch", "bob", "a.bin", "--if-exists", "overwrite", "-o"]).arg(&here).run();
    fetched.exits(0);
    assert_content(here.join("a.bin"), &content);
}

#[test]
fn a_folder_brings_its_files_as_they_are_now() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for name in ["docs/a.txt", "docs/b.txt", "old/a.txt"] {
        write(lab.join(name), b"as it was");
    }
    bob.share([lab.join("docs"), lab.join("old")]);
    let _node = bob.serve();
    for (nth, wanted) in ["docs/", "docs/*.txt", "."].into_iter().enumerate() {
        let now = format!("as it is {nth}");
        write(lab.join("docs/a.txt"), &now);
        let here = lab.empty_folder(format!("here {nth}"));
        // A file of the old content is still shared.
        let fetched = alice.peer(["--json", "fetch", "bob", wanted, "-o"]).arg(&here).run();
        assert_eq!(fetched.exits(0).object("summary")["failed"], 0);
        let folder = if wanted.contains('*') { here } else { here.join("docs") };
        assert_content(folder.join("a.txt"), now.as_bytes());
        assert_content(folder.join("b.txt"), b"as it was");
    }
    let streamed = alice.peer(["fetch", "bob", "docs/a.txt", "-o", "-"]).run();
    streamed.exits(0).prints_exactly("as it is 2");
}

#[test]
fn an_edit_whose_time_was_set_back_is_no_lie() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let file = lab.file("a.bin", 3_000_000);
    bob.share([&file]);
    let _node = bob.serve();
    let open = std::fs::File::options().write(true).open(&file).unwrap();
    let modified = open.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&open, b"edited", 1_500_000).unwrap();
    open.set_modified(modified).unwrap();
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["a.bin"], &here).run().exits(0);
    assert_same(here.join("a.bin"), &file);
}

#[test]
fn a_file_that_changed_while_no_node_ran_is_hashed_again_at_the_start() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let file = lab.file("a.bin", 10_000);
    bob.share([&file]);
    write(&file, "quite another thing");
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["a.bin"], &here).run().exits(0);
    assert_content(here.join("a.bin"), b"quite another thing");
}

#[test]
fn a_file_that_can_no_longer_be_read_is_exit_5() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let file = lab.file("a.bin", 10_000);
    bob.share([&file]);
    std::fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
    let node = bob.peer(["serve"]).unprivileged().start();
    node.wait_for("online as bob");
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["a.bin"], &here).run().exits(5).says("a.bin");
    assert!(names_in(&here).is_empty());
    node.interrupt();
    node.finish().exits(130);
}

#[test]
fn an_unreadable_file_is_left_out_with_a_message() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let file = lab.file("secret.bin", 10);
    std::fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
    let refused = bob.peer(["share"]).arg(&file).unprivileged().run();
    refused.exits(12).says("secret.bin").says("permission denied");
}
