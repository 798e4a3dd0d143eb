//! The folders into which accounts fetch: how much is in them, and what is removed when.
//!
//! A file that a browser has taken is made read-only: that marks it, and begins the time after which it is removed. It survives
//! a restart, and needs no record beside the file.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use walkdir::WalkDir;

/// The name of the folder, in an account's profile.
const DOWNLOAD_FOLDER: &str = "downloads";
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The time for which a file stays after a browser began to take it.
const TAKEN_LIFE: Duration = DAY;
/// The time for which a file stays that no browser took, and a part of one.
const UNTAKEN_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// The mode of a file that a browser took.
const TAKEN_MODE: u32 = 0o400;

/// Returns the folder of a profile.
pub fn download_folder(home: &Path) -> PathBuf {
    home.join(DOWNLOAD_FOLDER)
}

/// Marks a file that a browser begins to take. Fails if it isn't ours.
pub fn mark_taken(file: &Path) -> io::Result<()> {
    // A repeated download begins the time anew: the kernel records each change.
    fs::set_permissions(file, Permissions::from_mode(TAKEN_MODE))
}

/// Returns the bytes of all files in a folder. What can't be looked at counts nothing.
pub fn used_bytes(folder: &Path) -> u64 {
    files_below(folder).map(|(_, metadata)| metadata.len()).fold(0, u64::saturating_add)
}

/// Removes what is due in the folders of all accounts, and returns how many files that were.
pub(super) fn sweep_downloads(door: &Path, now: SystemTime) -> usize {
    let accounts = fs::read_dir(door).into_iter().flatten().flatten();
    accounts.map(|account| sweep_folder(&download_folder(&account.path()), now)).sum()
}

fn sweep_folder(folder: &Path, now: SystemTime) -> usize {
    let due = files_below(folder).filter(|(_, metadata)| is_due(metadata, now));
    // Gathered first: what is removed while it is walked may hide the rest.
    let due: Vec<PathBuf> = due.map(|(path, _)| path).collect();
    due.iter().filter(|path| fs::remove_file(path).is_ok()).count()
}

fn is_due(metadata: &Metadata, now: SystemTime) -> bool {
    use std::os::unix::fs::MetadataExt;
    let is_taken = metadata.mode() & 0o222 == 0;
    // The time of the last change to the file's own data: its content's time may be that of the shared file.
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or(0));
    let age = now.duration_since(changed).unwrap_or_default();
    age >= if is_taken { TAKEN_LIFE } else { UNTAKEN_LIFE }
}

fn files_below(folder: &Path) -> impl Iterator<Item = (PathBuf, Metadata)> {
    let entries = WalkDir::new(folder).follow_links(false).into_iter().filter_map(Result::ok);
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.filter_map(|entry| Some((entry.path().to_owned(), entry.metadata().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_goes_after_a_day_and_the_rest_after_a_month() {
        let door = tempfile::tempdir().unwrap();
        let folder = download_folder(&door.path().join("ana"));
        fs::create_dir_all(folder.join("photos")).unwrap();
        let (taken, left) = (folder.join("photos/a.jpg"), folder.join("film.mkv"));
        for file in [&taken, &left] {
            fs::File::create(file).unwrap().set_len(1000).unwrap();
        }
        std::os::unix::fs::symlink(&left, folder.join("link")).unwrap();
        assert_eq!(used_bytes(&folder), 2000);
        mark_taken(&taken).unwrap();
        let now = SystemTime::now();
        let sweep = |days: u32| sweep_downloads(door.path(), now + DAY * days + Duration::from_secs(60));
        assert_eq!(sweep(0), 0);
        assert_eq!((sweep(1), taken.exists(), left.exists()), (1, false, true));
        assert_eq!((sweep(29), left.exists()), (0, true));
        assert_eq!((sweep(30), left.exists(), used_bytes(&folder)), (1, false, 0));
        assert_eq!(sweep_downloads(&door.path().join("none"), now), 0);
    }
}
