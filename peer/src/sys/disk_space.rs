//! Free space and inodes of file systems.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

/// Bytes that are written to find out whether there is room: as many as the memory has that SQLite shares by a file.
const PROBE_BYTES: usize = 32 * 1024;

/// The limit that leaves no room for anything more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpaceLimit {
    /// The disk's size, in bytes or in files.
    Disk,
    /// The quota of the user, the group or the project.
    Quota,
}

impl SpaceLimit {
    /// Returns the limit that an error tells of; `None` for one that has nothing to do with room.
    pub fn of(why: &io::Error) -> Option<Self> {
        match why.kind() {
            io::ErrorKind::StorageFull => Some(Self::Disk),
            io::ErrorKind::QuotaExceeded => Some(Self::Quota),
            _ => None,
        }
    }
}

/// Returns the limit that leaves no room beside `path`. Something is written there to find out: a quota shows in no number
/// of the disk. `None` where there is room, or that can't be told.
pub fn exhausted_space(path: &Path) -> Option<SpaceLimit> {
    let probe = nearest_folder(path).join(format!(".room-{}", std::process::id()));
    let written =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&probe).and_then(|mut file| {
            file.write_all(&[0; PROBE_BYTES])?;
            // On a network the other end may say so no sooner.
            file.sync_all()
        });
    let _ = fs::remove_file(&probe);
    written.err().and_then(|why| SpaceLimit::of(&why))
}

/// Returns true if the file system of `path` has no free inodes, whatever its free bytes; false if that is unknown.
pub fn is_out_of_inodes(path: &Path) -> bool {
    rustix::fs::statvfs(nearest_folder(path)).is_ok_and(|disk| disk.f_favail == 0 && disk.f_files > 0)
}

/// Returns the nearest existing folder above `path`.
fn nearest_folder(path: &Path) -> PathBuf {
    let mut above = path.ancestors();
    let there = above.find(|path| path.is_dir() || path.as_os_str().is_empty());
    match there {
        Some(path) if !path.as_os_str().is_empty() => path.to_owned(),
        // The ancestors of a relative path end with an empty one, which means the current folder.
        _ => PathBuf::from("."),
    }
}

/// Returns true if the file system of `path` is mounted read-only; false if that is unknown.
pub fn is_read_only_mount(path: &Path) -> bool {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    rustix::fs::statvfs(folder).is_ok_and(|disk| disk.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_want_of_room() {
        let limit = |number| SpaceLimit::of(&io::Error::from_raw_os_error(number));
        // ENOSPC, EDQUOT, EIO.
        assert_eq!([28, 122, 5].map(limit), [Some(SpaceLimit::Disk), Some(SpaceLimit::Quota), None]);
    }

    #[test]
    fn a_look_for_room_leaves_nothing_behind() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(exhausted_space(&home.path().join("profile.db")), None);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
