//! Moves of files between open folders: no link is followed, and nothing is replaced unseen.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, RenameFlags, renameat_with, statat, unlinkat};
use rustix::io::Errno;

use super::exclusive_rename::rename_exclusive;
use super::folder_handle::{FolderHandle, disk_name};

/// The size and time of a file, by which a change of it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    /// Size in bytes.
    pub size: u64,
    /// Last modification, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

/// What has a name in a folder. Links are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalEntry {
    /// Nothing.
    Missing,
    /// A regular file.
    File(FileStamp),
    /// A folder, a link, a device or a socket.
    Other,
}

/// Returns what has this name in the folder. Fails with the system's error.
pub fn local_entry(folder: &FolderHandle, name: &str) -> io::Result<LocalEntry> {
    let stat = match statat(folder, &*disk_name(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(LocalEntry::Missing),
        Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(LocalEntry::Other);
    }
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let mtime_ns = stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanoseconds);
    Ok(LocalEntry::File(FileStamp { size: u64::try_from(stat.st_size).unwrap_or(0), mtime_ns }))
}

/// Moves the file `from` to the name `to` in another folder of the same file system, unless that exists. Fails with
/// `AlreadyExists`, or the system's error.
pub fn move_no_replace(
    (folder, from): (&FolderHandle, &str),
    (destination, to): (&FolderHandle, &str),
) -> io::Result<()> {
    rename_exclusive((folder.as_fd(), &disk_name(from)), (destination.as_fd(), &disk_name(to)))
}

/// Lets two files of one file system change places at once. Returns false where the file system can't do that. Fails with
/// the system's error.
pub fn exchange(
    (folder, one): (&FolderHandle, &str),
    (other_folder, other): (&FolderHandle, &str),
) -> io::Result<bool> {
    match renameat_with(folder, &*disk_name(one), other_folder, &*disk_name(other), RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes the folder of this name if it is there and empty; false if it stays.
pub fn remove_empty_folder(folder: &FolderHandle, name: &str) -> bool {
    unlinkat(folder, &*disk_name(name), AtFlags::REMOVEDIR).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_move_between_folders_and_replace_nothing() {
        let home = tempfile::tempdir().unwrap();
        for folder in ["a", "b", "b/empty"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        let [a, b] = ["a", "b"].map(|name| FolderHandle::open(&home.path().join(name)).unwrap());
        for (name, content) in [("a/new", "new"), ("b/old", "older")] {
            let mut file = fs::File::create(home.path().join(name)).unwrap();
            io::Write::write_all(&mut file, content.as_bytes()).unwrap();
        }
        let taken = move_no_replace((&a, "new"), (&b, "old")).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        if exchange((&a, "new"), (&b, "old")).unwrap() {
            assert!(matches!(local_entry(&b, "old").unwrap(), LocalEntry::File(FileStamp { size: 3, .. })));
            assert!(matches!(local_entry(&a, "new").unwrap(), LocalEntry::File(FileStamp { size: 5, .. })));
        }
        move_no_replace((&a, "new"), (&b, "free")).unwrap();
        assert_eq!(local_entry(&a, "new").unwrap(), LocalEntry::Missing);
        std::os::unix::fs::symlink("free", home.path().join("b/link")).unwrap();
        assert_eq!(local_entry(&b, "link").unwrap(), LocalEntry::Other);
        assert!(remove_empty_folder(&b, "empty") && !remove_empty_folder(&b, "empty"));
        assert!(!remove_empty_folder(&b, "free"));
    }

    #[test]
    fn a_recorded_folder_that_became_a_link_is_not_opened() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        fs::create_dir(home.join("real")).unwrap();
        assert!(FolderHandle::open_recorded(&home.join("real")).is_ok());
        std::os::unix::fs::symlink("real", home.join("link")).unwrap();
        assert!(FolderHandle::open_recorded(&home.join("link")).is_err());
    }
}
