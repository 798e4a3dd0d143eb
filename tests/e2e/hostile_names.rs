//! Names that were made to do harm, through every option that takes or makes a path.
//!
//! The classes are those that other tools of this kind had to mend: paths that lead out of the folder, paths from the
//! root, the other system's separators and drives, names that a terminal obeys, names that look like another one,
//! names that are an option, a device, a start-up file, too long, or nothing.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shared::names::name_encoding::decode_component;
use tests::files::{names_in, noise, write};
use tests::hostile::{HostilePeer, Offer, Trick};
use tests::{Invocation, Lab, User};

/// Names that are none: whatever they are asked for with, nothing is written.
const NEVER: [&str; 27] = [
    "../escaped",
    "../../escaped",
    "docs/../../escaped",
    "docs/..",
    "..",
    ".",
    "./escaped",
    "docs/./escaped",
    "/escaped",
    "//escaped",
    "/etc/cron.d/escaped",
    "docs//escaped",
    "docs/",
    "",
    "..\\escaped",
    "..\\..\\escaped",
    "C:\\escaped",
    "\\\\server\\share\\escaped",
    "docs\\..\\..\\escaped",
    "nul\0escaped",
    "escaped\n",
    "\u{1b}]0;escaped\u{7}",
    "\u{1b}[2Jescaped",
    "\u{9b}2Jescaped",
    "\u{202e}escaped",
    "escaped\u{2066}",
    "escaped\r",
];

/// Names that are odd and still names: below the destination they do no harm.
const ODD: [&str; 15] = [
    "-rf",
    "--output=..",
    "~",
    "~root",
    "$(touch escaped)",
    "`touch escaped`",
    "CON",
    "nul.txt",
    "C:escaped",
    "trailing.",
    "trailing ",
    "...",
    "escaped:stream",
    "*",
    "%2e%2e%2fescaped",
];

fn entry(name: &str, content: &[u8]) -> Value {
    let hash = shared::ContentHash::of(content);
    json!({ "name": name, "size": content.len(), "hash": hash, "group_size": 1 << 20, "mtime": 0 })
}

/// Mallory, whose list has exactly this name in it.
fn mallory(lab: &Lab, number: usize, name: &str) -> (String, HostilePeer) {
    let user = format!("mallory{number}");
    let offers = vec![Offer::new(name, *b"harm")];
    let peer = HostilePeer::join(lab, &user, offers, Trick::List(json!([entry(name, b"harm")])));
    (user, peer)
}

/// Everything below a folder, links not followed: its path and, for a file, its content.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            all.insert(entry.path(), kind.is_file().then(|| std::fs::read(entry.path()).unwrap()));
            if kind.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    all
}

/// A place with folders above the destination, so that there is somewhere to escape to.
struct Place {
    root: PathBuf,
    here: PathBuf,
}

fn place(lab: &Lab, name: &str) -> Place {
    let root = lab.empty_folder(name);
    write(root.join("above/precious"), "nobody's business");
    Place { here: lab.empty_folder(format!("{name}/above/middle/here")), root }
}

/// All the ways to say where to.
fn ways<'a>(alice: &User<'a>, user: &str, asked: &str, place: &Place) -> Vec<Invocation> {
    let fetch = |before: &[&str]| alice.peer(["fetch", "--patience", "0"]).args(before).folder(&place.here);
    let with_output = |output: PathBuf| fetch(&["-o"]).arg(output).args(["--", user, asked]);
    vec![
        fetch(&["--", user, asked]),
        with_output(place.here.clone()),
        with_output(place.here.join("new/")),
        with_output(place.here.join("new name")),
        with_output("./deep/deeper/".into()),
        fetch(&["--share", "--", user, asked]),
        fetch(&["--if-exists", "overwrite", "--", user, asked]),
        fetch(&["--retry"]),
    ]
}

#[test]
fn names_that_are_none_write_nothing_whatever_they_are_asked_for_with() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let place = place(&lab, "place");
    let before = tree(&place.root);
    for (number, name) in NEVER.into_iter().enumerate() {
        let (user, _peer) = mallory(&lab, number, name);
        // As a pattern, everything, and by the name itself: what it is called here may be what it is called there.
        let plain = if name.contains('\0') { "nul" } else { name };
        let asked = if number % 2 == 0 { "*" } else { plain };
        for fetch in ways(&alice, &user, asked, &place).into_iter().chain(ways(&alice, &user, ".", &place).pop()) {
            let outcome = fetch.run();
            assert_ne!(outcome.code, 0, "{name:?}: {outcome}");
            assert_ne!(outcome.code, 101, "{name:?}: {outcome}");
            outcome.is_plain();
        }
        let files = |tree: BTreeMap<PathBuf, Option<Vec<u8>>>| -> Vec<_> {
            tree.into_iter().filter(|(_, content)| content.is_some()).collect()
        };
        assert_eq!(files(tree(&place.root)), files(before.clone()), "{name:?} asked for as {asked:?}");
    }
}

#[test]
fn odd_names_stay_below_the_destination() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    for (number, name) in ODD.into_iter().enumerate() {
        let place = place(&lab, &format!("place{number}"));
        let (user, _peer) = mallory(&lab, number, name);
        let outside = |tree: BTreeMap<PathBuf, Option<Vec<u8>>>| -> Vec<PathBuf> {
            tree.into_keys().filter(|path| !path.starts_with(&place.here)).collect()
        };
        let before = outside(tree(&place.root));
        let mut written = 0;
        for fetch in ways(&alice, &user, name, &place) {
            let outcome = fetch.run();
            outcome.is_plain();
            written += usize::from(outcome.code == 0);
        }
        assert!(written >= 5, "{name:?} is a name, if an odd one: {written}");
        assert_eq!(outside(tree(&place.root)), before, "{name:?}");
    }
}

#[test]
fn stand_ins_lead_nowhere_else() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    // Of `.`, `..`, `../x`, paths, NUL, an override, a hidden file; written twice; broken; and some that are what they are.
    let mut names = [
        "␛2E␛",
        "␛2E2E␛",
        "␛2E2E2F␛escaped",
        "␛2E␛bashrc",
        "␛2F746D702F␛escaped",
        "a␛2F␛escaped",
        "a␛00␛escaped",
        "␛E280AE␛escaped",
        "␛E2909B␛2E2E2F␛E2909B␛escaped",
        "␛E2909B3041E2909B␛escaped",
        "x␛2E2E␛/escaped",
        "docs/␛2E2E␛/␛2E2E␛/escaped",
        "␛1B␛[2Jescaped␛0D0A␛",
        "docs␛0A␛/␛5C␛escaped",
        "␛␛2e2e␛escaped",
    ];
    names.sort_unstable();
    let place = place(&lab, "place");
    let outside =
        || -> Vec<PathBuf> { tree(&place.root).into_keys().filter(|path| !path.starts_with(&place.here)).collect() };
    let before = outside();
    let list: Vec<Value> = names.iter().map(|name| entry(name, b"harm")).collect();
    let offers = names.iter().map(|name| Offer::new(name, *b"harm")).collect();
    let _peer = HostilePeer::join(&lab, "mallory", offers, Trick::List(json!(list)));
    alice.fetch("mallory", ["."], &place.here).run().exits(0).is_plain();
    assert_eq!(outside(), before);
    for name in names {
        let on_disk = name.split('/').map(|one| decode_component(one).into_owned()).collect::<Vec<_>>().join(&b'/');
        let path = place.here.join(OsStr::from_bytes(&on_disk));
        assert!(path.is_file(), "{name}: {}", path.display());
    }
}

#[test]
fn what_a_shell_would_read_at_its_start_only_comes_when_it_is_named() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let names = [".bashrc", ".config/autostart/x.desktop", ".ssh/authorized_keys", "notes"];
    let list: Vec<Value> = names.iter().map(|name| entry(name, b"harm")).collect();
    let offers = names.map(|name| Offer::new(name, *b"harm")).into();
    let _peer = HostilePeer::join(&lab, "mallory", offers, Trick::List(json!(list)));
    let home = lab.empty_folder("home of alice");
    for all in ["*", ".", "**", "*/*", "**/authorized_keys"] {
        // There may be nothing that fits; hidden files never do.
        let outcome = alice.fetch("mallory", [all], &home).run();
        assert!(matches!(outcome.code, 0 | 5), "{all}: {outcome}");
        assert!(names_in(&home).iter().all(|name| name == "notes"), "{all}: {:?}", names_in(&home));
    }
    alice.fetch("mallory", [".ssh/authorized_keys"], &home).run().exits(0);
    assert_eq!(names_in(&home), ["authorized_keys", "notes"], "and then not to where it would be read");
}

#[test]
fn names_that_differ_by_case_or_normal_form_both_arrive_and_are_told() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for (name, seed) in [("Read.me", 1), ("read.me", 2), ("caf\u{e9}", 3), ("cafe\u{301}", 4)] {
        write(lab.join("docs").join(name), noise(seed, 1_000));
    }
    bob.share([lab.join("docs")]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    let outcome = alice.fetch("bob", ["docs/"], &here).run();
    outcome.exits(0).says("Read.me and docs/read.me differ only by case");
    assert_eq!(names_in(here.join("docs")).len(), 4);
}

#[test]
fn a_link_on_the_way_is_not_followed_by_any_option() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([write(lab.join("docs/sub/file"), "new").ancestors().nth(2).unwrap()]);
    let _node = bob.serve();
    let outside = lab.empty_folder("outside");
    write(outside.join("file"), "precious");
    write(outside.join("sub/file"), "precious");
    for (link, to) in
        [("docs", outside.clone()), ("docs/sub", outside.clone()), ("docs/sub/file", outside.join("file"))]
    {
        let here = lab.empty_folder(format!("here {}", link.len()));
        std::fs::create_dir_all(here.join(link).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&to, here.join(link)).unwrap();
        for options in [&[][..], &["--if-exists", "overwrite"], &["--if-exists", "rename"], &["--share"]] {
            let outcome = alice.peer(["fetch", "-o"]).arg(&here).args(options).args(["bob", "docs/"]).run();
            outcome.is_plain();
        }
        assert_eq!(std::fs::read_to_string(outside.join("file")).unwrap(), "precious", "{link}");
        assert_eq!(std::fs::read_to_string(outside.join("sub/file")).unwrap(), "precious", "{link}");
        assert_eq!(names_in(&outside), ["file", "sub"], "{link}");
        assert_eq!(names_in(outside.join("sub")), ["file"], "{link}");
    }
}
