//! The lock of a data folder, which one tracker at a time holds.
//!
//! The folder itself is locked: another lock can't take that one's place unless the folder is replaced. The file `lock`
//! in it is locked as well, for trackers that know only the file, and put back if it is removed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;
use shared::safe_text::safe_path;
use tracing::warn;

/// The lock's file, which holds the process id of its holder.
const LOCK_FILE: &str = "lock";
/// Attempts to lock: a process that only checks the lock holds it for a moment.
const LOCK_ATTEMPTS: u32 = 4;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// A folder's lock, held while this lives.
#[derive(Debug)]
pub(crate) struct FolderLock {
    path: PathBuf,
    /// `None` where the file system can't lock folders.
    _folder: Option<File>,
    /// `None` where the file system can't lock files.
    file: Mutex<Option<File>>,
}

/// The reason why a lock can't be acquired.
pub(crate) enum LockError {
    /// Another process holds it; `None` if its id can't be read.
    Held { by: Option<u32> },
    /// The file system has no locks.
    NoLocks(io::Error),
    /// The folder or the file can't be opened.
    Unusable(io::Error),
}

impl FolderLock {
    /// Acquires the lock of the folder at `path`, which exists.
    pub(crate) fn acquire(path: &Path) -> Result<Self, LockError> {
        let held = |error| match error {
            TryLockError::WouldBlock => LockError::Held { by: holder_pid(path) },
            TryLockError::Error(why) if is_locking_unsupported(&why) => LockError::NoLocks(why),
            TryLockError::Error(why) => LockError::Unusable(why),
        };
        let folder = match lock_with_retry(|| File::open(path)) {
            Ok(folder) => Some(folder),
            // Network file systems lock only files that are open for writing, so folders can't be locked there.
            Err(TryLockError::Error(_)) => None,
            Err(taken) => return Err(held(taken)),
        };
        let file = match (lock_with_retry(|| open_file(path)), &folder) {
            (Ok(file), _) => {
                write_own_pid(&file);
                Some(file)
            }
            // The folder's lock alone is enough.
            (Err(TryLockError::Error(why)), Some(_)) if is_locking_unsupported(&why) => None,
            (Err(error), _) => return Err(held(error)),
        };
        Ok(Self { path: path.to_owned(), _folder: folder, file: Mutex::new(file) })
    }

    /// Checks that the lock's file is still the locked one, and puts it back if not.
    pub(crate) fn maintain(&self) {
        let mut file = self.file.lock();
        let Some(held) = file.as_ref() else { return };
        let path = self.path.join(LOCK_FILE);
        if is_file_at(held, &path) {
            return;
        }
        match lock_with_retry(|| open_file(&self.path)) {
            Ok(again) => {
                warn!(path = %safe_path(path), "somebody removed the lock: it is put back");
                write_own_pid(&again);
                *file = Some(again);
            }
            Err(TryLockError::WouldBlock) => {
                warn!(path = %safe_path(path), "another tracker holds the data folder's lock: stop one of the two");
            }
            // Other parts report a disk that can't be written; this is tried again at the next check.
            Err(TryLockError::Error(_)) => {}
        }
    }
}

/// Returns the id of the process that holds the folder's lock, if it can be read.
pub(crate) fn holder_pid(folder: &Path) -> Option<u32> {
    std::fs::read_to_string(folder.join(LOCK_FILE)).ok()?.trim().parse().ok()
}

/// True if a process is stopped (Ctrl-Z, SIGSTOP); false if that is unknown.
pub(crate) fn is_stopped(pid: u32) -> bool {
    // The state follows the program's name in parentheses, which may itself contain any character.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

/// True if a tracker runs on the folder. The check takes a shared lock for a moment.
pub(crate) fn is_locked(folder: &Path) -> bool {
    [folder.to_owned(), folder.join(LOCK_FILE)].iter().any(|path| {
        // Shared: two processes that only check don't take each other for a tracker.
        let held = File::open(path).map(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)));
        held.unwrap_or(false)
    })
}

/// Opens or creates a file that only its owner may read.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    // What is there stays: the id of a lock's holder, or a database.
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Locks the file that `open` opens, with several attempts.
fn lock_with_retry(open: impl Fn() -> io::Result<File>) -> Result<File, TryLockError> {
    for _ in 1..LOCK_ATTEMPTS {
        // Opened anew each time: the holder may have replaced the file.
        let file = open().map_err(TryLockError::Error)?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    let file = open().map_err(TryLockError::Error)?;
    file.try_lock().map(|()| file)
}

fn open_file(folder: &Path) -> io::Result<File> {
    let file = private_file(&folder.join(LOCK_FILE))?;
    give_to_owner(&file, folder)?;
    Ok(file)
}

/// Gives the file to the folder's owner: root writes it for the tracker's user, who must open it later.
pub(crate) fn give_to_owner(file: &File, folder: &Path) -> io::Result<()> {
    let (mine, owner) = (file.metadata()?, folder.metadata()?);
    if (mine.uid(), mine.gid()) != (owner.uid(), owner.gid()) && rustix::process::geteuid().is_root() {
        fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Writes this process's id into the lock's file. It is a hint for people, so errors are ignored.
fn write_own_pid(mut file: &File) {
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
}

fn is_file_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), path.symlink_metadata()) else { return false };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

/// True if the error means that the file system has no locks.
pub(crate) fn is_locking_unsupported(why: &io::Error) -> bool {
    let codes = [Errno::NOLCK, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::IO];
    Errno::from_io_error(why).is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_held(folder: &Path) -> bool {
        matches!(FolderLock::acquire(folder), Err(LockError::Held { by }) if by == Some(std::process::id()))
    }

    #[test]
    fn a_lock_that_somebody_removes_holds_and_is_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = (folder.path(), folder.path().join(LOCK_FILE));
        assert!(!is_locked(path));
        let lock = FolderLock::acquire(path).map_err(|_| ()).unwrap();
        assert!(is_locked(path) && is_held(path));
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(FolderLock::acquire(path), Err(LockError::Held { by: None })));
        lock.maintain();
        assert!(is_held(path));
        let is_file_locked = || matches!(File::open(&file).unwrap().try_lock(), Err(TryLockError::WouldBlock));
        assert!(is_file_locked(), "trackers that know only the file see it");
        std::fs::rename(&file, path.join("elsewhere")).unwrap();
        drop(File::create(&file).unwrap());
        assert!(!is_file_locked());
        lock.maintain();
        assert!(is_file_locked());
        drop(lock);
        assert!(!is_locked(path));
        assert!(FolderLock::acquire(path).is_ok());
    }

    #[test]
    fn the_locked_file_is_the_one_at_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let older = open_file(folder.path()).unwrap();
        older.lock().unwrap();
        assert!(matches!(FolderLock::acquire(folder.path()), Err(LockError::Held { .. })), "an older tracker runs");
    }
}
