//! Offering files, and what becomes of the offer when the file doesn't stay what it was.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;
use shared::content::{GroupLayout, Manifest};
use tests::files::{assert_content, assert_same, names_in, write};
use tests::{Lab, User};

fn shared_names(user: &User<'_>) -> Vec<String> {
    let shares = user.peer(["--json", "shares"]).run();
    let shares = shares.exits(0).json().into_iter().filter(|share| share["type"] == "share");
    shares.map(|share| share["name"].as_str().unwrap().to_owned()).collect()
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

    bob.peer(["unshare", "docs/sub/"]).run().exits(0);
    assert_eq!(shared_names(&bob), [".named", "docs/a.txt"]);
    bob.peer(["unshare", "no-such-thing"]).run().exits(2);
    // A name comes before a path that is spelled alike.
    lab.file("here/same.txt", 10);
    lab.file("there/same.txt", 10);
    bob.peer(["share", "--as", "other.txt"]).arg(lab.join("here/same.txt")).run().exits(0);
    bob.peer(["share"]).arg(lab.join("there/same.txt")).run().exits(0);
    let unshared = bob.peer(["unshare", "same.txt"]).folder(lab.join("here")).run();
    unshared.exits(0).says("stopped sharing 1 file: same.txt");
    bob.peer(["unshare", "same.txt"]).folder(lab.join("here")).run().exits(0).says("1 file: other.txt");
}

#[test]
fn what_is_left_out_of_a_folder_is_counted_and_told() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    for name in ["docs/a.txt", "docs/.hidden", "docs/.git/config", "only/.env"] {
        lab.file(name, 100);
    }
    symlink("/etc/passwd", lab.join("docs/link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(lab.join("docs/socket")).unwrap();
    let shared = bob.share([lab.join("docs")]);
    shared.says("1 file shared, 100 B").says("left out: 2 hidden (docs/.git/, docs/.hidden), 1 link (docs/link), ");
    shared.says("1 that is no file (docs/socket)");
    let json = bob.peer(["--json", "share"]).arg(lab.join("docs")).run();
    let summary = json.exits(0).object("summary");
    assert_eq!(summary["left_out"], json!({ "hidden": 2, "link": 1, "special": 1 }));
    assert_eq!((&summary["shared"], &summary["failed"], &summary["code"]), (&json!(1), &json!(0), &json!(null)));

    // Where nothing is shared, that is no success.
    let nothing = bob.peer(["share"]).arg(lab.join("only")).run();
    nothing.exits(12).says("left out: 1 hidden (only/.env)").says("only if they are named");
    let nothing = bob.peer(["--json", "share"]).arg(lab.join("only")).run();
    assert_eq!(nothing.exits(12).object("summary")["left_out"], json!({ "hidden": 1 }));
    bob.peer(["share"]).arg(lab.empty_folder("empty")).run().exits(0).says("no file is there yet");

    // One that is asked for is named in one line; of very many, the first.
    let alone = bob.peer(["share"]).arg(lab.join("no such file")).run();
    assert_eq!(alone.exits(12).err().lines().count(), 1, "{alone}");
    alone.says("error: not shared: ").says("no such file: no such file or directory");
    let missing: Vec<_> = (0..50).map(|number| lab.join(format!("missing {number}"))).collect();
    let many = bob.peer(["share"]).args(&missing).run();
    assert_eq!(many.exits(12).err().lines().count(), 51, "{many}");
    many.says("missing 49: no such file").says("50 of 50 couldn't be shared");
    // As they were typed, whatever they are.
    let key = bob.home().join("identity/identity.pem");
    symlink(&key, lab.empty_folder("here").join("key")).unwrap();
    let typed = ["docs/../docs/socket", "./here/key", "docs/../nothing", "docs/./socket", "here/../here/key"];
    let mixed = bob.peer(["share", "docs"]).args(typed).folder(lab.path()).run();
    for path in typed {
        mixed.exits(12).says(&format!("not shared: {path}: "));
    }
    mixed.says("left out: 2 hidden");
    // Of what lies in folders, the first.
    for number in 0..5 {
        symlink("x", lab.join("docs").join(format!("link{number}"))).unwrap();
        lab.file(format!("docs/\u{202e}{number}"), 1);
    }
    let inside = bob.peer(["share"]).arg(lab.join("docs")).run();
    inside.exits(12).says("it contains U+202E").says("not shared as well: 2 whose names can't be shared").is_plain();
}

#[test]
fn a_link_that_is_named_is_followed_and_keeps_its_name() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    lab.file("data/real/a.txt", 10);
    symlink(lab.join("data/real"), lab.join("Documents")).unwrap();
    symlink(lab.join("data/real/a.txt"), lab.join("letter.txt")).unwrap();
    bob.share([lab.join("Documents")]);
    bob.share([format!("{}/", lab.join("Documents").display())]).says("already hashed");
    bob.peer(["share", "."]).folder(lab.join("Documents")).env("PWD", lab.join("Documents")).run().exits(0);
    bob.share([lab.join("letter.txt")]);
    assert_eq!(shared_names(&bob), ["Documents/a.txt", "letter.txt"]);
    symlink(lab.join("nowhere"), lab.join("broken")).unwrap();
    bob.peer(["share"]).arg(lab.join("broken")).run().exits(12).says("it is a link to ").says("which is not there");
}

#[test]
fn what_is_gone_from_the_disk_is_forgotten_by_the_command_that_is_shown() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    lab.file("old name/a.txt", 10);
    lab.file("old name/b.txt", 10);
    bob.share([lab.join("old name")]);
    std::fs::rename(lab.join("old name"), lab.join("new name")).unwrap();
    bob.share([lab.join("new name")]);
    let shares = bob.peer(["shares"]).run();
    shares.exits(0).prints("old name/a.txt  (not there)");
    shares.says("2 shared files are gone: `peer unshare 'old name/'` stops sharing them");
    bob.peer(["unshare", "old name/"]).run().exits(0).says("stopped sharing 2 files");
    assert_eq!(shared_names(&bob), ["new name/a.txt", "new name/b.txt"]);
}

/// Puts a row into a catalogue as it may come from a version that knew no private files.
fn catalogue(lab: &Lab, bob: &User<'_>, name: &str, path: &std::path::Path) {
    use std::os::unix::fs::MetadataExt;
    let (content, of) = (std::fs::read(path).unwrap(), std::fs::metadata(path).unwrap());
    let layout = GroupLayout::of(content.len() as u64).unwrap();
    let manifest = Manifest::new(vec![layout.chaining_value(0, &content)]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let ns = |seconds: i64, rest: i64| seconds * 1_000_000_000 + rest;
    lab.sqlite(
        bob.home(),
        &format!(
            "INSERT INTO share (audience, name, path, size, mtime_ns, inode, executable, hash, manifest, ctime_ns)
             VALUES ('', '{name}', X'{}', {}, {}, {}, 0, X'{}', X'{}', {})",
            hex(path.as_os_str().as_encoded_bytes()),
            of.size(),
            ns(of.mtime(), of.mtime_nsec()),
            of.ino(),
            hex(shared::ContentHash::of(&content).as_bytes()),
            hex(manifest.as_bytes()),
            ns(of.ctime(), of.ctime_nsec()),
        ),
    );
}

#[test]
fn keys_and_profiles_are_never_given_to_anybody() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let carol = lab.user("carol");
    lab.file("doc.txt", 100);
    let key = bob.home().canonicalize().unwrap().join("identity/identity.pem");
    std::fs::hard_link(&key, lab.join("hard")).unwrap();
    symlink(&key, lab.join("soft")).unwrap();
    write(lab.join("copy"), std::fs::read(&key).unwrap());
    write(lab.join("archive"), [vec![7; 3_000_000], std::fs::read(&key).unwrap(), vec![7; 100]].concat());
    // Everything: the profiles of three people and the tracker's folder lie in it.
    let shared = bob.peer(["share", "--as", "all"]).arg(lab.path()).run();
    shared.exits(0).says("with secret keys or messages of Vizinho (all/alice/, all/bob/, all/carol/, …)");
    let names = shared_names(&bob);
    assert!(names.contains(&"all/doc.txt".to_owned()), "{names:?}");
    let is_private = |name: &&String| {
        ["all/bob/", "all/alice/", "all/carol/", "all/tracker/", "all/hard", "all/copy", "all/soft", "all/archive"]
            .iter()
            .any(|private| name.starts_with(private))
    };
    assert_eq!(names.iter().find(is_private), None);
    for path in [&key, &lab.join("hard"), &lab.join("soft"), &lab.join("copy"), &carol.home().join("profile.db")] {
        for command in [&["share", "--as", "x"][..], &["offer", "alice", "--as", "x"]] {
            let refused = bob.peer(command).arg(path).run();
            assert!(matches!(refused.code, 2 | 12), "{refused}");
            assert!(refused.err().contains("secret key"), "{refused}");
        }
    }

    // A catalogue from before these rules lists some of them all the same.
    let tracker_key = lab.join("tracker/identity/identity.pem").canonicalize().unwrap();
    let private = [
        ("old/key", key),
        ("old/hard", lab.join("hard").canonicalize().unwrap()),
        ("old/copy", lab.join("copy").canonicalize().unwrap()),
        ("old/carol", carol.home().canonicalize().unwrap().join("identity/identity.pem")),
        ("old/tracker", tracker_key),
    ];
    for (name, path) in &private {
        catalogue(&lab, &bob, name, path);
    }
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    for (name, _) in &private {
        let fetched = alice.fetch("bob", [*name], &here).run();
        assert_ne!(fetched.code, 0, "{fetched}");
    }
    let hash = shared::ContentHash::of(&std::fs::read(&private[0].1).unwrap()).to_string();
    alice.peer(["list", "--hash", &hash]).run().exits(5);
    alice.fetch("bob", ["old/"], &here).run();
    assert!(names_in(&here).iter().all(|name| name != "old" || names_in(here.join("old")).is_empty()));
    alice.fetch("bob", ["all/doc.txt"], &here).run().exits(0);
    bob.peer(["shares"]).run().exits(0).prints("old/key  (never given to anybody");
}

#[test]
fn a_share_that_becomes_a_secret_is_one_no_more() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let shared = lab.file("notes/1.txt", 100);
    bob.peer(["share"]).arg(lab.join("notes")).run().exits(0);
    let node = bob.serve();
    std::fs::remove_file(&shared).unwrap();
    std::fs::copy(bob.home().join("identity/identity.pem"), &shared).unwrap();
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["notes/1.txt"], &here).run().exits(5).says("bob doesn't share notes/1.txt");
    node.wait_for("notes/1.txt is not shared any more: it holds a secret key");
    assert_eq!(names_in(&here), [""; 0]);
    alice.peer(["files", "bob"]).run().exits(0).says("bob shares nothing");
}

#[test]
fn the_kernels_files_and_a_profile_behind_a_mount_are_left_out() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    lab.file("stuff/doc.txt", 10);
    for folder in ["stuff/proc", "stuff/mounted", "stuff/key"] {
        lab.empty_folder(folder);
    }
    let mounted = format!(
        r#"exec unshare -m bash -c 'cd "$1" && mount -t proc proc stuff/proc && mount --bind bob stuff/mounted &&
           mount --bind bob/identity stuff/key || exit 99; shift; exec "$@"' bash {} "$@""#,
        lab.path().display()
    );
    let shared = bob.peer(["share"]).arg(lab.join("stuff")).through_shell(&mounted).run();
    if shared.code == 99 || shared.err().contains("unshare failed") {
        println!("skipped: mounts are not allowed here");
        return;
    }
    shared.exits(0).says("1 file system of the kernel (stuff/proc/)").says("2 with secret keys");
    assert_eq!(shared_names(&bob), ["stuff/doc.txt"]);
}

#[test]
fn an_unchanged_file_is_not_hashed_again() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let file = lab.file("a.bin", 100_000);
    bob.share([&file]);
    bob.share([&file]).says("1 file shared, 100 kB (already hashed)");
    write(&file, "something else");
    let again = bob.share([&file]);
    assert!(!again.err().contains("already hashed"), "{again}");
}

#[test]
fn what_cannot_be_shared_is_named_and_the_rest_is_shared() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let good = lab.file("good.txt", 10);
    let missing = bob.peer(["share"]).arg(&good).arg(lab.join("missing.txt")).arg("/dev/null").run();
    missing.exits(12).says("missing.txt").says("/dev/null").says("2 of 3 couldn't be shared");
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
fn a_file_that_can_no_longer_be_read_is_exit_7() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let file = lab.file("a.bin", 10_000);
    bob.share([&file]);
    std::fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
    let node = bob.peer(["serve"]).unprivileged().start();
    node.wait_for("online as bob");
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["a.bin"], &here).run().exits(7).says("a.bin").says("permission denied");
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
