//! Names that are hard on shells, terminals and file systems.

use tests::Lab;
use tests::files::{assert_same, names_in, write};

#[test]
fn unusual_names_go_through_unchanged() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let long = "ä".repeat(125) + ".tar5";
    assert_eq!(long.len(), 255);
    let names = [
        "with space.txt",
        " leading and trailing ",
        "-o",
        "--json",
        "größe.pdf",
        "日本語.txt",
        "a*b?[c]{d}.txt",
        "quote'\"$(x)`y`.txt",
        "100%.txt",
        ".hidden",
        &long,
    ];
    let paths: Vec<_> = names.iter().map(|name| write(lab.join("of bob").join(name), *name)).collect();
    bob.share(&paths);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    alice.fetch("bob", names, &here).run().exits(0).is_plain();
    for (name, path) in names.iter().zip(&paths) {
        assert_same(here.join(name), path);
    }
    assert_eq!(names_in(&here).len(), names.len(), "nothing else is left there");
    // And one at a time, as an argument of its own.
    let there = lab.empty_folder("there");
    for name in names {
        alice.fetch("bob", [name], &there).run().exits(0);
    }
    assert_eq!(names_in(&there), names_in(&here));
}

#[test]
fn a_name_in_other_letters_is_the_person_whom_it_can_only_mean() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let file = write(lab.join("a.txt"), "text");
    bob.share([&file]);
    let _node = bob.serve();
    let note = "nobody is called BOB: this is for bob";
    alice.peer(["files", "BOB"]).run().exits(0).says(note).prints("a.txt");
    let here = lab.empty_folder("here");
    alice.fetch("BOB", ["a.txt"], &here).run().exits(0).says(note);
    alice.peer(["chat", "BOB", "hello", "--now"]).run().exits(0).says(note);
    alice.peer(["list", "Bob"]).run().exits(0).prints("bob");
    // Who is known needs no tracker.
    alice.peer(["history", "bOB"]).run().exits(0).says("this is for bob").prints("hello");
    alice.peer(["trust", "BoB"]).run().exits(0).prints("bob ");
    alice.peer(["block", "BOB"]).run().exits(0).says("bob is blocked");
    alice.peer(["unblock", "BOB"]).run().exits(0).says("bob is not blocked");
    alice.peer(["offer", "BOB"]).arg(&file).run().exits(0).says(note);
    alice.peer(["chat", "b0b", "hello"]).run().exits(4).says("no user b0b");
    alice.peer(["chat", "ALICE", "hello"]).run().exits(2).says("you");
    alice.peer(["--json", "files", "BOB"]).run().exits(0).prints(r#""notice":"other_letters""#);
}

#[test]
fn a_name_that_can_be_taken_for_another_is_not_to_be_had() {
    let lab = Lab::start();
    lab.user("bob");
    let eve = lab.stranger("eve");
    for (name, said) in [
        ("BOB", "can be taken for bob"),
        ("b0b", "can be taken for bob"),
        ("b.o.b", "can be taken for bob"),
        ("bob", "the name bob is taken"),
    ] {
        eve.peer(["register", name, "--password-file"]).arg(eve.password_file()).run().exits(6).says(said);
    }
    for (name, offered) in [
        ("João", "use Joao"),
        ("Maria Silva", "a name can't contain a space: use Maria.Silva"),
        ("ana@ufx.br", "use ana"),
        ("a..b", "use a.b"),
        (".hidden", "use hidden"),
        ("aaaaaaaaaabbbbbbbbbbccccccccccddd", "use aaaaaaaaaabbbbbbbbbbccccccccccdd"),
    ] {
        eve.peer(["register", name, "--password-file"]).arg(eve.password_file()).run().exits(2).says(offered);
    }
    eve.peer(["register", "Joao", "--password-file"]).arg(eve.password_file()).run().exits(0);
}

#[test]
fn names_that_could_do_harm_are_not_shared_and_shown_harmlessly() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let harmful =
        ["line\nbreak", "\u{1b}[2Jclear", "back\\slash", "\u{202e}gpj.exe", "bell\u{7}", "cr\rx", "del\u{7f}"];
    for name in harmful {
        let path = write(lab.join("of bob").join(name), "x");
        let refused = bob.peer(["share"]).arg(path).run();
        refused.exits(12).says("not shared:").says("can't be shared").is_plain();
    }
    write(lab.join("of bob/good.txt"), "x");
    bob.peer(["share"]).arg(lab.join("of bob")).run().exits(12).says("1 file shared").is_plain();
    bob.peer(["shares"]).run().exits(0).prints_exactly("      1 B  of bob/good.txt\n");
}

#[test]
fn names_that_are_not_text_are_left_out_with_a_message() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let lab = Lab::start();
    let bob = lab.user("bob");
    let path = write(lab.join(OsStr::from_bytes(b"bad-\xff.txt")), "x");
    bob.peer(["share"]).arg(&path).run().exits(12).says("UTF-8");
    bob.peer(["share", "--as", "good.txt"]).arg(&path).run().exits(0);
    bob.peer(["shares"]).run().exits(0).prints("good.txt");
}

#[test]
fn empty_files_are_files() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("empty", 0), lab.file("also", 0), lab.file("full", 10)]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["empty", "also", "full"], &here).run().exits(0);
    for name in ["empty", "also", "full"] {
        assert_same(here.join(name), lab.join(name));
    }
    alice.fetch("bob", ["empty"], &here).run().exits(0).says("there already");
    alice.peer(["fetch", "bob", "empty", "-o", "-"]).run().exits(0).prints_exactly("");
}

#[test]
fn a_folder_of_many_small_files_arrives_whole() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for number in 0..700 {
        write(lab.join(format!("many/{}/{number}.txt", number % 7)), format!("file {number}"));
    }
    bob.share([lab.join("many")]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["many/"], &here).run().exits(0).says("700 files fetched");
    for number in 0..700 {
        let path = here.join(format!("many/{}/{number}.txt", number % 7));
        assert_eq!(std::fs::read_to_string(path).unwrap(), format!("file {number}"));
    }
    alice.peer(["list"]).run().exits(0).prints("700 files");
}

#[test]
fn what_is_wrong_with_a_name_or_an_output_is_said() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share(["docs/a.txt", "docs/b.txt"].map(|name| write(lab.join(name), name)));
    bob.share([lab.file("film.mkv", 3_000_000)]);
    let _node = bob.serve();
    write(lab.join("mine/b.txt"), "mine");
    let renamed = alice.peer(["fetch", "bob", "a.txt", "-o"]).arg(lab.join("mine/b.txt")).run();
    renamed.exits(0).says("b (1).txt").says("the name b.txt was taken");
    alice.peer(["list", "--sharing", "nothing.txt"]).run().exits(5).says("nobody who is online shares nothing.txt");
    alice.peer(["list", "--sharing", "a.txt"]).run().exits(0).prints("bob");
    alice.peer(["files", "bob", "nothing/"]).run().exits(5).says("bob doesn't share nothing/");
    for more in [["--share", "-j1"], ["--if-exists", "skip"]] {
        alice.peer(["fetch", "bob", "a.txt", "-o", "-"]).args(more).run().exits(2).prints_exactly("");
    }
    alice.peer(["fetch", "bob"]).run().exits(2).says("peer files bob").says("`peer fetch bob /` gets all");
    let nowhere =
        tests::Invocation::new(tests::binaries::binary("peer"), lab.path()).arg("whoami").env("HOME", "relative");
    nowhere.run().exits(2).says("--home DIR");
    assert!(!lab.join("relative").exists(), "it would be another profile in every folder");
    let full = r#"exec "$@" > /dev/full"#;
    for args in [
        &["--help"][..],
        &["--version"],
        &["fetch", "--help"],
        &["list"],
        &["files", "bob"],
        &["whoami"],
        &["--json", "list"],
    ] {
        alice.peer(args).through_shell(full).run().exits(9).says("standard output: the disk is full");
    }
    alice.peer(["fetch", "bob", "a.txt", "-o", "-"]).through_shell(full).run().exits(9).says("standard output");
    let head = r#"set -o pipefail; "$@" | head -c 10 >/dev/null"#;
    let enough = alice.peer(["fetch", "bob", "film.mkv", "a.txt", "b.txt", "-o", "-"]).through_shell(head).run();
    assert!(!String::from_utf8_lossy(&enough.exits(0).stderr).contains("fail"));
}
