//! Renaming without replacing an existing file, on every kind of file system.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, linkat, openat, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

/// Renames `from` to `to` within `folder`. Fails with `AlreadyExists` if `to` exists.
///
/// Tries in this order: `RENAME_NOREPLACE` (local file systems), a hard link (NFS, NTFS by FUSE), an exclusively
/// created placeholder (exFAT by FUSE, network shares without hard links).
pub(super) fn rename_exclusive(folder: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> io::Result<()> {
    match renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        // EINVAL: the file system has no RENAME_NOREPLACE (rename(2)).
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        renamed => return Ok(renamed?),
    }
    match linkat(folder, from, folder, to, AtFlags::empty()) {
        Ok(()) => Ok(unlinkat(folder, from, AtFlags::empty())?),
        // NFS repeats a request if the reply was lost, and then finds the link that it made itself.
        Err(Errno::EXIST) if is_one_file(folder, from, to) => Ok(unlinkat(folder, from, AtFlags::empty())?),
        Err(Errno::EXIST) => Err(Errno::EXIST.into()),
        // Any error may mean that there are no hard links; the placeholder finds a real fault again.
        Err(_) => rename_over_placeholder(folder, from, to),
    }
}

fn rename_over_placeholder(folder: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> io::Result<()> {
    // A missing source must not leave a placeholder behind.
    statat(folder, from, AtFlags::SYMLINK_NOFOLLOW)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Closed at once: on Windows shares, an open file can't be replaced.
    drop(File::from(openat(folder, to, flags, Mode::from_raw_mode(0o666))?));
    let Err(why) = renameat(folder, from, folder, to) else { return Ok(()) };
    // Only an empty file can be the placeholder; remove nothing that has content.
    if statat(folder, to, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| stat.st_size == 0) {
        unlinkat(folder, to, AtFlags::empty())?;
        // SFTP without extensions never replaces a file, so the rename is safe without a placeholder.
        if matches!(why, Errno::EXIST | Errno::PERM | Errno::ACCESS) {
            return Ok(renameat(folder, from, folder, to)?);
        }
    }
    Err(why.into())
}

/// Returns true if both names exist and have one inode.
fn is_one_file(folder: BorrowedFd<'_>, one: &OsStr, other: &OsStr) -> bool {
    let id = |name| statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_placeholder_gives_way_and_others_stay() {
        let home = tempfile::tempdir().unwrap();
        let folder = File::open(home.path()).unwrap();
        let rename = |from: &str, to: &str| rename_over_placeholder(folder.as_fd(), from.as_ref(), to.as_ref());
        for (name, content) in [("part", "new"), ("taken", "old")] {
            let mut file = File::create(home.path().join(name)).unwrap();
            io::Write::write_all(&mut file, content.as_bytes()).unwrap();
        }
        assert_eq!(rename("part", "taken").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(home.path().join("taken")).unwrap(), b"old");
        rename("part", "free").unwrap();
        assert_eq!(std::fs::read(home.path().join("free")).unwrap(), b"new");
        assert_eq!(rename("part", "other").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!home.path().join("other").exists());
        // A folder in the way of the source: what can't be renamed leaves nothing behind.
        std::fs::create_dir(home.path().join("folder")).unwrap();
        assert!(rename("folder", "third").is_err());
        assert!(!home.path().join("third").exists());
    }
}
