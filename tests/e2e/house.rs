//! The rules of the house, as far as a machine can see that they are kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::binaries::workspace;
use tests::{Invocation, ModuleGraph, Outcome};

fn cargo(args: &[&str]) -> Outcome {
    let root = workspace();
    let cargo = Invocation::new(env!("CARGO"), &root);
    let keep = ["HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];
    let cargo = keep.iter().fold(cargo, |cargo, name| match std::env::var_os(name) {
        Some(value) => cargo.env(name, value),
        None => cargo,
    });
    let outcome = cargo.args(args).arg("--offline").run();
    outcome.exits(0);
    outcome
}

fn metadata() -> Value {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    serde_json::from_slice(&output.stdout).expect("cargo speaks JSON")
}

/// Every crate that is built into the programs on this system, `NAME vVERSION`.
fn built_in() -> Vec<String> {
    let tree = cargo(&["tree", "--locked", "-p", "peer", "-p", "tracker", "-e", "normal,build", "--prefix", "none"]);
    let crates: Vec<String> = tree.out().lines().map(str::to_owned).collect();
    assert!(crates.iter().any(|line| line.starts_with("aws-lc-rs v")), "{crates:?}");
    crates
}

/// What a crate of the workspace depends on, tests apart.
fn dependencies(metadata: &Value, of: &str) -> Vec<String> {
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|package| package["name"] == of && package["source"].is_null());
    let all = package.expect("it is in the workspace")["dependencies"].as_array().expect("dependencies");
    let normal = all.iter().filter(|dependency| dependency["kind"] != "dev");
    normal.map(|dependency| dependency["name"].as_str().expect("a name").to_owned()).collect()
}

/// The Rust files below a folder of the workspace, their text and where they are.
fn sources(below: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&workspace().join(below), &mut found);
    assert!(!found.is_empty(), "there are sources in {below}");
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(&path).expect("text"))).collect()
}

/// Asserts that none of these texts stands in code (comments apart) below a folder.
fn never_names(below: &str, forbidden: &[&str]) {
    let mut found = Vec::new();
    for (path, text) in sources(below) {
        for (number, line) in (1..).zip(text.lines()) {
            let code = line.split("//").next().unwrap_or_default();
            let names = forbidden.iter().filter(|name| is_named(code, name));
            found.extend(names.map(|name| format!("{}:{number}: {name}", path.display())));
        }
    }
    assert!(found.is_empty(), "these may not be named there:\n{}", found.join("\n"));
}

/// Whether a path or word stands there by itself, not as the end or beginning of a longer one.
fn is_named(code: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(is_word);
        let after = code[at + name.len()..].chars().next().is_some_and(is_word);
        !before && !after
    })
}

#[test]
fn what_counts_as_named() {
    assert!(is_named("use crate::net::Link;", "crate::net"));
    assert!(!is_named("use crate::network;", "crate::net"));
    assert!(!is_named("let recreate::net = 1;", "crate::net"));
}

#[test]
fn peer_and_tracker_never_import_each_other() {
    let metadata = metadata();
    assert!(!dependencies(&metadata, "peer").contains(&"tracker".to_owned()));
    assert!(!dependencies(&metadata, "tracker").contains(&"peer".to_owned()));
    never_names("peer/src", &["tracker::daemon", "tracker::server", "tracker::registry"]);
    for (name, may_not) in
        [("certs", ["peer", "tracker"]), ("shared", ["peer", "tracker"]), ("rooms", ["peer", "tracker"])]
    {
        let depends = dependencies(&metadata, name);
        assert!(!may_not.iter().any(|other| depends.iter().any(|on| on == other)), "{name}: {depends:?}");
    }
}

#[test]
fn shared_and_rooms_are_pure() {
    let sorted = |name| {
        let mut depends = dependencies(&metadata(), name);
        depends.sort();
        depends
    };
    assert_eq!(sorted("shared"), ["blake3", "localization", "serde", "serde_json", "unicode-normalization", "zeroize"]);
    assert_eq!(sorted("rooms"), ["aws-lc-rs", "blake3", "shared", "thiserror"]);
    let io = ["TcpStream", "TcpListener", "UdpSocket", "std::fs", "std::process", "std::thread", "std::env", "tokio"];
    for folder in ["shared/src", "shared/rooms/src"] {
        never_names(folder, &io);
        never_names(folder, &["Instant", "SystemTime", "println", "eprintln"]);
    }
}

#[test]
fn certs_has_no_sockets() {
    let depends = dependencies(&metadata(), "certs");
    assert!(!depends.iter().any(|name| name == "tokio" || name == "quinn"), "{depends:?}");
    never_names("certs/src", &["TcpStream", "TcpListener", "UdpSocket"]);
}

#[test]
fn a_layer_of_the_peer_names_none_above_it() {
    never_names("peer/src/net", &["crate::engine", "crate::commands", "crate::cli", "crate::ui", "crate::profile"]);
    never_names(
        "peer/src/engine",
        &["crate::commands", "crate::cli", "crate::ui", "crate::web", "clap", "indicatif", "crossterm", "axum"],
    );
    never_names("peer/src/ui", &["crate::net", "crate::profile", "crate::commands", "crate::cli", "clap"]);
    never_names("peer/src/web", &["crate::commands", "crate::cli", "crate::ui", "clap"]);
    never_names("peer/src/ui", &["crate::web"]);
    never_names("peer/src/commands", &["crate::cli", "indicatif", "crossterm", "axum", "hyper"]);
    let above = ["crate::net", "crate::engine", "crate::commands", "crate::cli", "crate::ui", "crate::web"];
    never_names("peer/src/profile", &above);
    never_names("peer/src/sys", &above);
    never_names("peer/src/sys", &["crate::profile"]);
    never_names("peer/src/util", &above);
    never_names("peer/src/util", &["crate::profile", "crate::sys"]);
}

/// The names of a crate's types, tests apart, each with the files that define it.
fn type_names(of: &str) -> BTreeMap<String, Vec<PathBuf>> {
    let mut names = BTreeMap::<String, Vec<PathBuf>>::new();
    for (path, text) in sources(&format!("{of}/src")) {
        if path.iter().any(|part| part == "tests") || path.ends_with("tests.rs") {
            continue;
        }
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for line in code.lines() {
            let visible = line.trim_start().strip_prefix("pub").unwrap_or(line);
            // Behind `pub`, or behind `pub(in crate::engine)`.
            let item =
                visible.strip_prefix('(').and_then(|scope| scope.split_once(')')).map_or(visible, |(_, item)| item);
            let mut words = item.split_whitespace();
            if !words.next().is_some_and(|word| ["struct", "enum", "trait", "union"].contains(&word)) {
                continue;
            }
            let name = words.next().unwrap_or_default().split(|c: char| !c.is_alphanumeric()).next();
            names.entry(name.unwrap_or_default().to_owned()).or_default().push(path.clone());
        }
    }
    names
}

#[test]
fn no_type_name_stands_twice_in_a_crate() {
    for name in ["shared", "certs", "shared/mdns", "shared/rooms", "tracker", "peer"] {
        let types = type_names(name);
        assert!(types.len() > 10, "{types:?}");
        let twice: Vec<_> = types.iter().filter(|(_, files)| files.len() > 1).collect();
        assert!(twice.is_empty(), "{twice:#?}");
    }
}

#[test]
fn modules_import_each_other_in_no_circle() {
    for name in ["shared", "certs", "shared/mdns", "shared/rooms", "tracker", "peer", "tests"] {
        let root = workspace().join(name).join("src");
        let files = sources(&format!("{name}/src"));
        let relative =
            files.iter().filter_map(|(path, text)| Some((path.strip_prefix(&root).ok()?.to_str()?, &**text)));
        let graph = ModuleGraph::from_sources(relative);
        assert!(graph.module_count() > 5, "{graph:?}");
        let circles = graph.circles();
        let lines: Vec<&str> = circles.iter().map(String::as_str).collect();
        assert!(lines.is_empty(), "modules of {name} import each other in a circle:\n{}", lines.join("\n"));
    }
}

#[test]
fn there_is_one_crypto_provider() {
    let second: Vec<String> = built_in().into_iter().filter(|line| line.starts_with("ring v")).collect();
    assert!(second.is_empty(), "a second provider: {second:?}");
}

#[test]
fn quinn_proto_has_no_known_faults() {
    let version = |line: &String| -> Option<Vec<u64>> {
        let version = line.strip_prefix("quinn-proto v")?.split(' ').next()?;
        Some(version.split('.').filter_map(|part| part.parse().ok()).collect())
    };
    let versions: Vec<Vec<u64>> = built_in().iter().filter_map(version).collect();
    assert!(!versions.is_empty() && versions.iter().all(|version| *version >= vec![0, 11, 19]), "{versions:?}");
}

/// Licences that ask for no more than their text beside the programs.
const LICENCES: [&str; 14] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "LLVM-exception",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "0BSD",
];

#[test]
fn what_is_built_in_may_be_given_away() {
    let tree = ["tree", "--locked", "-p", "peer", "-p", "tracker", "-e", "normal,build", "--prefix", "none"];
    let outcome = cargo(&[&tree[..], &["--format", "{p}|{l}"]].concat());
    let is_free = |licence: &str| {
        let words = licence.split(|c: char| c.is_whitespace() || "()/".contains(c)).filter(|word| !word.is_empty());
        !licence.is_empty()
            && words.filter(|word| !matches!(*word, "OR" | "AND" | "WITH")).all(|word| LICENCES.contains(&word))
    };
    let listed = outcome.out();
    let licences: Vec<(&str, &str)> = listed.lines().filter_map(|line| line.split_once('|')).collect();
    assert!(licences.iter().any(|(crate_, _)| crate_.starts_with("rustls v")), "{licences:?}");
    let other: Vec<_> = licences.iter().filter(|(_, licence)| !is_free(licence.trim_end_matches(" (*)"))).collect();
    assert!(other.is_empty(), "licences to look at: {other:?}");
}

#[test]
fn dependencies_come_from_one_registry_with_their_checksums() {
    let lock = std::fs::read_to_string(workspace().join("Cargo.lock")).expect("a lock file");
    let metadata = metadata();
    let members: Vec<&Value> = metadata["packages"].as_array().expect("packages").iter().collect();
    let mut registries = std::collections::BTreeSet::new();
    for package in lock.split("[[package]]").skip(1) {
        let value = |key: &str| package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        let name = value("name").expect("a name").trim_matches('"');
        match value("source") {
            Some(source) => {
                assert!(source.starts_with("\"registry+"), "{name} comes from {source}");
                assert!(value("checksum").is_some_and(|sum| sum.len() == 66), "{name} has no checksum");
                registries.insert(source);
            }
            None => {
                assert!(members.iter().any(|member| member["name"] == name), "{name} comes from nowhere");
            }
        }
    }
    assert_eq!(registries.len(), 1, "{registries:?}");
}

#[test]
fn nothing_is_left_to_do() {
    // Put together here, so that this file is not its own finding.
    let marks =
        [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["to", "do!"], ["unimple", "mented!"]].map(|parts| parts.concat());
    let mut found = Vec::new();
    for below in ["shared", "certs", "tracker", "peer", "tests"] {
        for (path, text) in sources(below) {
            for (number, line) in (1..).zip(text.lines()) {
                let names =
                    marks.iter().filter(|mark| is_named(line, mark.trim_end_matches('!')) && line.contains(*mark));
                found.extend(names.map(|mark| format!("{}:{number}: {mark}", path.display())));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_path_of_this_machine_is_in_the_sources() {
    let mut private = vec![workspace().to_string_lossy().into_owned()];
    private.extend(std::env::var("HOME").ok().filter(|home| home.len() > "/root".len()));
    for below in ["shared", "certs", "tracker", "peer", "tests"] {
        for (path, text) in sources(below) {
            let found: Vec<&String> = private.iter().filter(|path| text.contains(path.as_str())).collect();
            assert!(found.is_empty(), "{} names {found:?}", path.display());
        }
    }
}
