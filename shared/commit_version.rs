//! Part of the build script of both programs: the version with the commit, for `--version`.
//!
//! Only a release build names its commit: a development build would be built anew for each. Without git, or where the
//! sources lie in somebody else's repository, as an unpacked archive may, it is the version alone.

#![expect(clippy::print_stdout, reason = "a build script tells cargo by it")]

use std::path::Path;
use std::process::Command;

pub(crate) fn main() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let (version, folder) = (variable("CARGO_PKG_VERSION"), variable("CARGO_MANIFEST_DIR"));
    println!("cargo::rerun-if-changed=../shared/commit_version.rs");
    let shown = if variable("PROFILE") == "release" {
        match commit(Path::new(&folder)) {
            Some(commit) => format!("{version} ({commit})"),
            None => version,
        }
    } else {
        format!("{version} (development build)")
    };
    println!("cargo::rustc-env=VIZINHO_VERSION={shown}");
}

/// Returns the commit and its date; `None` unless the package is in its own repository.
fn commit(package: &Path) -> Option<String> {
    let root = package.parent()?.canonicalize().ok()?;
    let found = git(&root, &["rev-parse", "--show-toplevel"])?;
    if Path::new(&found).canonicalize().ok()? != root {
        return None;
    }
    // Every commit and checkout writes one of the two.
    for name in ["HEAD", "logs/HEAD"] {
        let path = root.join(git(&root, &["rev-parse", "--git-path", name])?);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.to_str()?);
        }
    }
    let commit = git(&root, &["log", "-1", "--format=%h %cs", "--abbrev=10"])?;
    let is_plain = commit.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ' || c == '-');
    is_plain.then_some(commit).filter(|commit| !commit.is_empty())
}

/// Returns the first line that git prints; `None` if it fails or isn't there.
fn git(folder: &Path, args: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // A hook that builds has these set, for another folder.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    let output = command.arg("-C").arg(folder).args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.lines().next()?.to_owned())
}
