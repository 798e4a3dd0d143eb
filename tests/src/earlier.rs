//! An earlier version beside this one: its bytes and files, and under `VIZINHO_LONG=1` its binaries.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::binaries::workspace;

/// The commit whose bytes, files and binaries everything later has to get on with.
pub const COMMIT: &str = "f0f0c2d";

/// A folder with the earlier `peer` and `tracker`, in place of building them.
const OVERRIDE: &str = "VIZINHO_EARLIER_BIN_DIR";

static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();

/// What was recorded from the earlier version.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(COMMIT)
}

/// The folder with the earlier binaries, built once from the repository's own history. `None`, said on standard output,
/// where the long tests weren't asked for or the history isn't here.
pub fn binaries() -> Option<&'static Path> {
    BUILT.get_or_init(find).as_deref()
}

fn find() -> Option<PathBuf> {
    if std::env::var_os("VIZINHO_LONG").is_none() {
        println!("skipped: only under VIZINHO_LONG=1");
        return None;
    }
    if let Some(folder) = std::env::var_os(OVERRIDE) {
        return Some(folder.into());
    }
    let folder = workspace().join("target").join(COMMIT);
    let source = folder.join("source");
    std::fs::create_dir_all(&source).expect("a folder for the earlier source");
    let mut archive = Command::new("git")
        .args(["archive", COMMIT])
        .current_dir(workspace())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("git runs");
    let stdout = archive.stdout.take().expect("a pipe");
    let unpacked = Command::new("tar").arg("-x").current_dir(&source).stdin(stdout).stderr(Stdio::null()).status();
    if !archive.wait().expect("git ends").success() || !unpacked.expect("tar runs").success() {
        println!("skipped: the commit {COMMIT} is not in this checkout");
        return None;
    }
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "-p", "tracker", "-p", "peer", "--bins", "--target-dir"])
        .arg(&folder)
        .current_dir(&source)
        .status();
    assert!(built.expect("cargo runs").success(), "{COMMIT} must build");
    Some(folder.join("debug"))
}

/// Copies a recorded folder to `target`, readable by its owner alone.
///
/// # Panics
/// When the disk doesn't want to.
pub fn copy(name: &str, target: &Path) {
    copy_folder(&fixtures().join(name), target);
}

fn copy_folder(from: &Path, to: &Path) {
    let owner_only = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, owner_only(0o700)).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
            std::fs::set_permissions(&target, owner_only(0o600)).unwrap();
        }
    }
}
