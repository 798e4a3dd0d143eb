//! Names that are hard on shells, terminals and file systems.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tests::Lab;
use tests::files::{assert_content, assert_same, names_in, write};

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
    alice.peer(["block", "BOB"]).run().exits(0).says("blocked bob");
    alice.peer(["unblock", "BOB"]).run().exits(0).says("unblocked bob");
    alice.peer(["offer", "BOB"]).arg(&file).run().exits(0).says(note);
    alice.peer(["chat", "b0b", "hello"]).run().exits(4).says("b0b");
    alice.peer(["chat", "ALICE", "hello"]).run().exits(2).says("you");
    alice.peer(["files", "ALICE"]).run().exits(2).says("these are your own files: `peer shares`");
    alice.peer(["--json", "register", "João"]).run().exits(2).says("use Joao").prints("\"code\":\"usage\"");
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
fn names_that_turn_the_text_around_them_are_not_shared_and_shown_harmlessly() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    for name in ["\u{202e}gpj.exe", "a\u{2066}b", "\u{202a}x"] {
        let path = write(lab.join("of bob").join(name), "x");
        let refused = bob.peer(["share"]).arg(path).run();
        refused.exits(12).says("not shared:").says("can't be shared").is_plain();
    }
    write(lab.join("of bob/good.txt"), "x");
    bob.peer(["share"]).arg(lab.join("of bob")).run().exits(12).says("1 file shared").is_plain();
    bob.peer(["shares"]).run().exits(0).prints_exactly("      1 B  of bob/good.txt\n");
}

/// Names that a file system holds and a line of text doesn't.
fn raw_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        b"Icon\r".as_slice(),
        b"line\nbreak",
        b"\x1b[2Jclear",
        b"bell\x07",
        b"del\x7f",
        br"back\slash",
        br"dev-disk-by\x2duuid.swap",
        b"bad-\xff.txt",
        b"caf\xe9 au lait.txt",
        b"\x83\x65\x83\x58\x83\x67.txt",
        br"bad\dir/inner.txt",
        b"latin-\xe9/inner.txt",
    ]
    .map(<[u8]>::to_vec)
    .into();
    // Hebrew, a number with a mark, Persian, Arabic; invisible blanks; what looks like a stand-in.
    let texts = [
        "\u{5e9}\u{5dc}\u{5d5}\u{5dd}\u{200f} (1).pdf",
        "\u{200e}+55 11.vcf",
        "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}.txt",
        "\u{61c}\u{627}\u{644}.txt",
        "ja\u{200b}pan.txt",
        "a␛0A␛b.txt",
        "half ␛ open.txt",
    ];
    names.extend(texts.map(|text| text.as_bytes().to_vec()));
    names
}

fn raw_path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

#[test]
fn names_that_cannot_travel_arrive_as_they_are() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for name in raw_names() {
        write(lab.join("names").join(raw_path(&name)), &name);
    }
    let shared = bob.share([lab.join("names")]);
    shared.says("19 files shared").is_plain();
    assert!(!shared.err().contains("left out"), "{shared}");
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["names/"], &here).run().exits(0).says("19 files fetched").is_plain();
    for name in raw_names() {
        assert_content(here.join("names").join(raw_path(&name)), &name);
    }
    assert_eq!(names_in(here.join("names")).len(), raw_names().len(), "nothing else is left there");
    // There already: it is found under the same names.
    alice.fetch("bob", ["names/"], &here).run().exits(0).says("19 files there already");

    // What is shown can be copied, and what is known can be typed.
    let listed = alice.peer(["files", "bob"]).run();
    listed.exits(0).is_plain().prints("line␊break").prints("back\\slash").prints("bad-<FF>.txt").prints("<U+200F>");
    let out = listed.out();
    let shown: Vec<&str> = out.lines().map(|line| line.split_at(11).1).collect();
    assert_eq!(shown.len(), raw_names().len());
    alice.fetch("bob", shown.iter().copied(), &lab.empty_folder("copied")).run().exits(0).says("19 files fetched");
    let typed = [
        "names/line\nbreak",
        "names/\u{200e}+55 11.vcf",
        "names/+55 11.vcf",
        "names/japan.txt",
        "names/\u{5e9}\u{5dc}\u{5d5}\u{5dd} (1).pdf",
    ];
    let there = lab.empty_folder("typed");
    for name in typed {
        alice.fetch("bob", [name], &there).run().exits(0);
    }
    assert_eq!(names_in(&there).len(), 4);
    // And handed on, they are the same again.
    alice.peer(["fetch", "bob", "names/", "--share", "-o"]).arg(&here).run().exits(0);
    let names = |user: &tests::User<'_>| {
        let shares = user.peer(["--json", "shares"]).run();
        let shares = shares.json().into_iter().filter(|share| share["type"] == "share");
        shares.map(|share| share["name"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&alice), names(&bob));
}

#[test]
fn one_file_whose_name_cannot_travel_is_shared_and_offered_under_a_stand_in() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let path = write(lab.join(OsStr::from_bytes(b"bad-\xff.txt")), "x");
    bob.share([&path]);
    bob.peer(["shares"]).run().exits(0).prints("bad-<FF>.txt").is_plain();
    bob.peer(["share", "--as", "good.txt"]).arg(&path).run().exits(0);
    bob.peer(["offer", "alice"]).arg(&path).run().exits(0).says("offered bad-<FF>.txt (1 B) to alice").is_plain();
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["bad-<FF>.txt"], &here).run().exits(0);
    let typed = alice.peer(["fetch", "bob", "-o", "-"]).arg(OsStr::from_bytes(b"bad-\xff.txt")).run();
    typed.exits(0).prints_exactly("x");
    assert_content(here.join(raw_path(b"bad-\xff.txt")), b"x");
    bob.peer(["offer", "alice", "--withdraw", "bad-<FF>.txt"]).run();
    bob.peer(["unshare", "bad-<FF>.txt"]).run().exits(0);
    bob.peer(["shares"]).run().exits(0).prints_exactly("      1 B  good.txt\n");
}

#[test]
fn names_in_another_normal_form_are_found_everywhere() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (file, folder) = ("cafe\u{301}.txt", "Sa\u{303}o");
    bob.share([write(lab.join(file), "x"), write(lab.join(folder).join("a\u{301}.txt"), "y").parent().unwrap().into()]);
    let _node = bob.serve();
    let asked = [
        "caf\u{e9}.txt",
        "caf?.txt",
        "c*\u{e9}.txt",
        "S\u{e3}o/",
        "S\u{e3}o",
        "S\u{e3}o/\u{e1}.txt",
        "S\u{e3}o/*",
        "**/\u{e1}*",
    ];
    for (number, asked) in asked.into_iter().enumerate() {
        let here = lab.empty_folder(format!("here {number}"));
        alice.fetch("bob", [asked], &here).run().exits(0).says("1 file fetched");
    }
    let one = lab.empty_folder("one");
    alice.fetch("bob", ["caf\u{e9}.txt"], &one.join("new name")).run().exits(0);
    assert!(one.join("new name").is_file(), "one file is meant, if in another form");
    alice.peer(["files", "bob", "S\u{e3}o/"]).run().exits(0).prints("a\u{301}.txt");
    for words in ["caf\u{e9}", "cafe\u{301}", "cafe", "\u{e1}"] {
        alice.peer(["find", words]).run().exits(0).prints(".txt");
    }
    for name in ["caf\u{e9}.txt", "S\u{e3}o/\u{e1}.txt", "S\u{e3}o/a\u{301}.txt"] {
        alice.peer(["list", "--sharing", name]).run().exits(0).prints("bob");
    }
    bob.peer(["offer", "alice", "--as", "re\u{301}sume\u{301}"]).arg(lab.join(file)).run().exits(0);
    bob.peer(["offer", "alice", "--withdraw", "r\u{e9}sum\u{e9}"]).run().exits(0).says("offer withdrawn");
    bob.peer(["unshare", "caf\u{e9}.txt", "S\u{e3}o/"]).run().exits(0).says("stopped sharing 2 files");
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
