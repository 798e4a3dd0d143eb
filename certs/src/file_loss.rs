//! Detection of the loss of a file that is open for long, and the kinds of file systems.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatFs;

/// File systems of Linux whose inode numbers are stable while a file exists, by magic number (`statfs(2)`). Network and
/// FUSE file systems may renumber a file while it is open.
const STEADY: [i64; 9] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x794c_7630, // overlayfs
    0xf2f5_2010, // f2fs
    0x2fc1_2fc1, // zfs
    0xca45_1a4e, // bcachefs
    0x3153_464a, // jfs
];

/// Returns the kind of the file system at `path`, as its magic number (`statfs(2)`).
pub fn file_system_kind(path: &Path) -> io::Result<i64> {
    Ok(magic_number(&rustix::fs::statfs(path)?))
}

/// Returns the kind of the file system of an open file or folder.
pub fn file_system_kind_of(file: impl AsFd) -> io::Result<i64> {
    Ok(magic_number(&rustix::fs::fstatfs(file)?))
}

fn magic_number(stat: &StatFs) -> i64 {
    // The type of `f_type` differs between architectures. Magic numbers have 32 bits, and sign extension must not
    // change them.
    #[allow(clippy::unnecessary_cast, clippy::cast_possible_wrap, trivial_numeric_casts, reason = "see above")]
    let kind = stat.f_type as i64 & 0xffff_ffff;
    kind
}

/// Returns true if a file at `path` keeps its inode number while it exists.
pub fn has_stable_inodes(path: &Path) -> bool {
    file_system_kind(path).is_ok_and(|kind| STEADY.contains(&kind))
}

/// A watch on the path of an open file, which notices when the path no longer leads to it.
#[derive(Debug, Clone)]
pub struct FileLossDetector {
    path: PathBuf,
    /// Device and inode; `None` if the file system may renumber its files.
    id: Option<(u64, u64)>,
}

impl FileLossDetector {
    /// Records the file at `path`, which the caller has just opened.
    pub fn new(path: &Path) -> Self {
        // By path rather than by handle: SQLite, which opens such files, gives no handle.
        let id = path.metadata().ok().filter(|_| has_stable_inodes(path)).map(|file| (file.dev(), file.ino()));
        Self { path: path.to_owned(), id }
    }

    /// Returns true if the file was removed, moved or replaced, so that data written to it would not be found at the
    /// next start. Returns false if the path can't be examined, which proves nothing.
    pub fn is_lost(&self) -> bool {
        match self.path.metadata() {
            Ok(there) => self.id.is_some_and(|id| id != (there.dev(), there.ino())),
            Err(why) => matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_may_change_prove_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, away) = (folder.path().join("file"), folder.path().join("away"));
        std::fs::File::create(&path).unwrap();
        let place = FileLossDetector::new(&path);
        assert!(!place.is_lost());
        std::fs::rename(&path, &away).unwrap();
        assert!(place.is_lost());
        std::fs::File::create(&path).unwrap();
        assert_eq!(place.is_lost(), has_stable_inodes(&path), "another one is in its place");
        let place = FileLossDetector { id: None, ..place };
        assert!(!place.is_lost());
        std::fs::remove_dir_all(folder.path()).unwrap();
        assert!(place.is_lost());
    }
}
