//! The files of the page, as a machine can look at them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tests::binaries::workspace;

/// All files together, compressed.
const MOST_BYTES: usize = 150 * 1024;
/// Lines of a module.
const MOST_LINES: usize = 350;

fn page_files() -> BTreeMap<String, String> {
    let folder = workspace().join("peer/src/web/app");
    let paths = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    paths.map(|path| (name(&path), std::fs::read_to_string(&path).expect("text"))).collect()
}

fn is_module(name: &str) -> bool {
    name.ends_with(".js")
}

/// The names that a text puts between `before` and `after`.
fn names_between<'a>(text: &'a str, before: &str, after: char) -> BTreeSet<&'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split(after).next()).collect()
}

/// The size that `gzip -9` makes of the files, each for itself as a server sends them.
fn compressed_size(files: &BTreeMap<String, String>) -> usize {
    let gzip = |text: &String| {
        let mut child = Command::new("gzip")
            .arg("-9c")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a gzip");
        let (mut input, mut output) =
            (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
        let text = text.clone();
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let mut compressed = Vec::new();
        output.read_to_end(&mut compressed).expect("it compresses");
        writer.join().expect("it doesn't panic").expect("it reads");
        assert!(child.wait().expect("it ends").success());
        compressed.len()
    };
    files.values().map(gzip).sum()
}

#[test]
fn the_page_is_small() {
    let files = page_files();
    let size = compressed_size(&files);
    assert!(size > 10_000 && size < MOST_BYTES, "{size} bytes");
    for (name, text) in files.iter().filter(|(name, _)| is_module(name)) {
        assert!(text.lines().count() <= MOST_LINES, "{name} has {} lines", text.lines().count());
        assert!(text.starts_with("/**\n"), "{name} begins with what it is");
    }
}

#[test]
fn the_page_names_nobody_else_and_runs_no_text() {
    for (name, text) in page_files() {
        // An XML namespace is a name and no place. An address in a message is told by its scheme.
        let text = text.replace("http://www.w3.org/2000/svg", "").replace("https?:\\/\\/", "");
        // Types are imported in comments only.
        let text = text.replace("{import(\"./", "");
        let forbidden = [
            "http:",
            "https:",
            "//cdn",
            "import(",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "cssText",
            "setAttribute(\"style\"",
            "srcdoc",
            " style=",
            "<style",
            " onclick=",
            " onload=",
            "javascript:",
            "serviceWorker",
            "DOMParser",
            "createContextualFragment",
            "@import",
            "url(",
        ];
        for word in forbidden {
            assert!(!text.contains(word), "{name} has {word}");
        }
    }
}

#[test]
fn all_files_are_served_and_loaded_at_once() {
    let files = page_files();
    let index = &files["index.html"];
    let modules: BTreeSet<&str> = files.keys().map(String::as_str).filter(|name| is_module(name)).collect();
    let mut loaded = names_between(index, "<link rel=\"modulepreload\" href=\"app/", '"');
    loaded.extend(names_between(index, "<script type=\"module\" src=\"app/", '"'));
    assert_eq!(loaded, modules, "index.html names each module, so that none waits for another");
    let source = std::fs::read_to_string(workspace().join("peer/src/web/app_assets.rs")).expect("a source");
    let list = source.split("app_files![").nth(1).and_then(|rest| rest.split(']').next()).expect("a list");
    let served: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
    assert_eq!(served, files.keys().map(String::as_str).collect());
    // Each module that one names is there, and each one is used.
    let named: BTreeSet<&str> = files
        .iter()
        .filter(|(name, _)| is_module(name))
        .flat_map(|(_, text)| names_between(text, "from \"./", '"'))
        .chain(["main.js"])
        .collect();
    assert_eq!(named, modules);
}

#[test]
fn modules_make_no_circle() {
    let files = page_files();
    let mut left: BTreeMap<&str, BTreeSet<&str>> = files
        .iter()
        .filter(|(name, _)| is_module(name))
        .map(|(name, text)| (&**name, names_between(text, "from \"./", '"')))
        .collect();
    loop {
        let free: Vec<&str> = left
            .iter()
            .filter(|(_, named)| named.iter().all(|name| !left.contains_key(name)))
            .map(|(name, _)| *name)
            .collect();
        if free.is_empty() {
            break;
        }
        for name in free {
            left.remove(name);
        }
    }
    assert!(left.is_empty(), "{left:?}");
}

/// The keys of a module of texts, with the `{values}` that each one takes.
fn texts_of(module: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    module
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_once(": "))
        .filter(|(key, _)| {
            key.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
        })
        .map(|(key, text)| (key, names_between(text, "{", '}')))
        .collect()
}

#[test]
fn both_languages_say_the_same() {
    let files = page_files();
    let (english, portuguese) = (texts_of(&files["texts_en.js"]), texts_of(&files["texts_pt.js"]));
    assert!(english.len() > 200, "{}", english.len());
    assert_eq!(english, portuguese);
    // Each one that a module asks for by name is there.
    for (name, text) in files.iter().filter(|(name, _)| is_module(name) && !name.starts_with("texts")) {
        let asked = [" t(\"", "(t(\"", "[t(\"", " tn(\"", "(tn(\""].map(|call| names_between(text, call, '"'));
        for key in asked.into_iter().flatten() {
            assert!(english.contains_key(key), "{name} asks for {key}");
        }
    }
}
