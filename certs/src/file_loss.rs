//! Files that are open for long, and whether they are still where they were opened.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatFs;

/// The file systems of Linux whose files keep their numbers for as long as they are there (`statfs(2)`). Those of networks
/// and of FUSE may number a file anew while it is open.
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

/// Returns the kind of the file system at `path`, as `statfs(2)` numbers them.
///
/// # Errors
/// As the system says.
pub fn file_system_kind(path: &Path) -> io::Result<i64> {
    Ok(magic_number(&rustix::fs::statfs(path)?))
}

/// The same of a file or folder that is open.
///
/// # Errors
/// As the system says.
pub fn file_system_kind_of(file: impl AsFd) -> io::Result<i64> {
    Ok(magic_number(&rustix::fs::fstatfs(file)?))
}

fn magic_number(stat: &StatFs) -> i64 {
    // Its type differs between architectures; the kinds have 32 bits.
    #[allow(clippy::unnecessary_cast, clippy::cast_possible_wrap, trivial_numeric_casts, reason = "see above")]
    let kind = stat.f_type as i64 & 0xffff_ffff;
    kind
}

/// Returns whether a file at `path` keeps its inode's number for as long as it is there.
pub fn has_stable_inodes(path: &Path) -> bool {
    file_system_kind(path).is_ok_and(|kind| STEADY.contains(&kind))
}

/// The place of a file that is open, to notice when it is no longer there.
#[derive(Debug, Clone)]
pub struct FileLossDetector {
    path: PathBuf,
    /// Device and inode; `None` where the file system may number its files anew.
    id: Option<(u64, u64)>,
}

impl FileLossDetector {
    /// Returns the place of the file at `path`, which was opened just now.
    pub fn new(path: &Path) -> Self {
        let id = path.metadata().ok().filter(|_| has_stable_inodes(path)).map(|file| (file.dev(), file.ino()));
        Self { path: path.to_owned(), id }
    }

    /// Returns whether the file was removed, moved away or replaced: then nothing that is written to it is there at the
    /// next start. A place that can't be looked at proves nothing.
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
