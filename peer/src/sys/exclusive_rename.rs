//! Renaming within a folder or between two without replacing an existing file, on every kind of file system.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, linkat, openat, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

/// A name in an open folder.
pub(super) type FolderEntry<'a> = (BorrowedFd<'a>, &'a OsStr);

/// Renames `from` to `to`, in the same folder or another one of the same file system. Fails with `AlreadyExists` if
/// `to` exists.
///
/// Tries in this order: `RENAME_NOREPLACE` (local file systems), a hard link (NFS, NTFS by FUSE), an exclusively
/// created placeholder (exFAT by FUSE, network shares without hard links).
pub(super) fn rename_exclusive(from: FolderEntry<'_>, to: FolderEntry<'_>) -> io::Result<()> {
    match renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE) {
        // EINVAL: the file system has no RENAME_NOREPLACE (rename(2)).
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        renamed => return Ok(renamed?),
    }
    match linkat(from.0, from.1, to.0, to.1, AtFlags::empty()) {
        Ok(()) => remove(from),
        // NFS repeats a request if the reply was lost, and then finds the link that it made itself.
        Err(Errno::EXIST) if is_one_file(from, to) => remove(from),
        Err(Errno::EXIST) => Err(Errno::EXIST.into()),
        // Any error may mean that there are no hard links; the placeholder finds a real fault again.
        Err(_) => rename_over_placeholder(from, to),
    }
}

fn rename_over_placeholder(from: FolderEntry<'_>, to: FolderEntry<'_>) -> io::Result<()> {
    // A missing source must not leave a placeholder behind.
    statat(from.0, from.1, AtFlags::SYMLINK_NOFOLLOW)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Closed at once: on Windows shares, an open file can't be replaced.
    drop(File::from(openat(to.0, to.1, flags, Mode::from_raw_mode(0o666))?));
    let Err(why) = renameat(from.0, from.1, to.0, to.1) else { return Ok(()) };
    // Only an empty file can be the placeholder; remove nothing that has content.
    if statat(to.0, to.1, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| stat.st_size == 0) {
        remove(to)?;
        // SFTP without extensions never replaces a file, so the rename is safe without a placeholder.
        if matches!(why, Errno::EXIST | Errno::PERM | Errno::ACCESS) {
            return Ok(renameat(from.0, from.1, to.0, to.1)?);
        }
    }
    Err(why.into())
}

fn remove(entry: FolderEntry<'_>) -> io::Result<()> {
    Ok(unlinkat(entry.0, entry.1, AtFlags::empty())?)
}

/// Returns true if both names exist and have one inode.
fn is_one_file(one: FolderEntry<'_>, other: FolderEntry<'_>) -> bool {
    let id = |(folder, name)| statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_placeholder_gives_way_and_others_stay() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("other")).unwrap();
        let [folder, other] = [home.path().to_owned(), home.path().join("other")].map(|path| File::open(path).unwrap());
        let place = |name: &'static str| match name.strip_prefix("other/") {
            Some(name) => (other.as_fd(), OsStr::new(name)),
            None => (folder.as_fd(), OsStr::new(name)),
        };
        let rename = |from, to| rename_over_placeholder(place(from), place(to));
        for (name, content) in [("part", "new"), ("taken", "old")] {
            let mut file = File::create(home.path().join(name)).unwrap();
            io::Write::write_all(&mut file, content.as_bytes()).unwrap();
        }
        assert_eq!(rename("part", "taken").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(home.path().join("taken")).unwrap(), b"old");
        rename("part", "other/free").unwrap();
        assert_eq!(std::fs::read(home.path().join("other/free")).unwrap(), b"new");
        assert_eq!(rename("taken", "other/free").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(rename("part", "second").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!home.path().join("second").exists());
        // A folder in the way of the source: what can't be renamed leaves nothing behind.
        std::fs::create_dir(home.path().join("folder")).unwrap();
        assert!(rename("folder", "third").is_err());
        assert!(!home.path().join("third").exists());
    }
}
