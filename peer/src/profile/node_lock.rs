//! Lock of a profile's one node.
//!
//! Two locks, which the system releases when the process ends in any way: one on the profile's folder, which nobody can
//! replace without moving the whole profile; and one on `node.lock` in it, for file systems that can't lock folders and
//! for versions that know only the file. The file names the holder: the process id on the first line, the path of the
//! node's socket on the second.
//!
//! A file can be removed and created anew under its holder. So a process checks, after locking, that its file is still
//! the one at the path, and the node checks this regularly ([`NodeLock::verify_or_restore`]).

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use shared::safe_text::safe_path;

use super::ProfileError;
use crate::sys;

const LOCK_FILE: &str = "node.lock";
/// Largest number of bytes read of a lock file.
const MAX_LOCK_TEXT_BYTES: u64 = 8 * 1024;
/// Attempts to lock a file that is replaced at the same time.
const TRIES: u32 = 10;

/// The lock held by the one node of a profile.
#[derive(Debug)]
pub struct NodeLock {
    home: PathBuf,
    /// `None` if the file system can't lock folders.
    _folder: Option<File>,
    file: Mutex<File>,
    socket: Mutex<Option<PathBuf>>,
}

/// The node that holds a profile, from its lock file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeHolder {
    /// The process id; `None` if the file is missing or unreadable.
    pub pid: Option<u32>,
    /// The path of the control socket; `None` until the node listens.
    pub socket: Option<PathBuf>,
}

/// The result of an attempt to lock.
enum LockOutcome {
    Acquired,
    HeldByOther,
    /// The file system has no such locks.
    Unsupported(io::Error),
}

impl NodeLock {
    /// Takes the node lock of the profile in `home`.
    ///
    /// # Errors
    /// [`ProfileError::NodeRuns`], [`ProfileError::NoLocks`], or [`ProfileError::Io`].
    pub(super) fn acquire(home: &Path) -> Result<Self, ProfileError> {
        let folder = File::open(home).map_err(ProfileError::io_at(home))?;
        let folder = match lock(&folder, File::try_lock).map_err(ProfileError::io_at(home))? {
            LockOutcome::Acquired => Some(folder),
            LockOutcome::HeldByOther => return Err(node_runs_error(home)),
            LockOutcome::Unsupported(_) => None,
        };
        let (file, unsupported) = lock_file(home)?;
        // One of the two locks suffices.
        match unsupported {
            Some(source) if folder.is_none() => return Err(ProfileError::NoLocks { home: home.to_owned(), source }),
            _ => {}
        }
        let lock = Self { home: home.to_owned(), _folder: folder, file: Mutex::new(file), socket: Mutex::default() };
        lock.write()?;
        Ok(lock)
    }

    /// Records the path of the node's control socket.
    ///
    /// # Errors
    /// [`ProfileError::Io`] if the lock file can't be written.
    pub fn set_socket(&self, socket: &Path) -> Result<(), ProfileError> {
        // The guard ends with the statement: `write` takes the same lock.
        *self.socket.lock() = Some(socket.to_owned());
        self.write()
    }

    /// Checks that the lock file is still ours, and restores it if it was removed.
    ///
    /// # Errors
    /// [`ProfileError::NodeRuns`] if another node has locked the file that is there now, or [`ProfileError::Io`].
    pub fn verify_or_restore(&self) -> Result<(), ProfileError> {
        let path = self.home.join(LOCK_FILE);
        // In a block of its own: below the same mutex is locked again.
        let is_ours = {
            let file = self.file.lock();
            is_at(&file, &path).map_err(ProfileError::io_at(&path))?
        };
        if is_ours {
            return Ok(());
        }
        let (file, _) = match lock_file(&self.home) {
            // Some file systems report several inode numbers for one file: a file with our own process id is
            // ours.
            Err(ProfileError::NodeRuns { pid }) if pid == Some(std::process::id()) => return Ok(()),
            locked => locked?,
        };
        *self.file.lock() = file;
        tracing::warn!("{} was removed: it is back", safe_path(&path));
        self.write()
    }

    fn write(&self) -> Result<(), ProfileError> {
        let mut text = format!("{}\n", std::process::id()).into_bytes();
        if let Some(socket) = &*self.socket.lock() {
            text.extend_from_slice(socket.as_os_str().as_bytes());
            text.push(b'\n');
        }
        let mut file = self.file.lock();
        // Rewritten in place: a file renamed over it would not carry the lock.
        let written = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).and_then(|_| file.write_all(&text));
        written.map_err(ProfileError::io_at(&self.home.join(LOCK_FILE)))
    }
}

/// Returns whether a node holds the profile in `home`.
///
/// # Errors
/// [`ProfileError::Io`] if the locks can't be tested.
pub(super) fn is_node_locked(home: &Path) -> Result<bool, ProfileError> {
    // Shared locks: two tests don't exclude each other, and a node that starts at this moment tries again.
    for path in [home.to_owned(), home.join(LOCK_FILE)] {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(ProfileError::Io { path, source }),
        };
        if let LockOutcome::HeldByOther = lock(&file, File::try_lock_shared).map_err(ProfileError::io_at(&path))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the node that held the profile in `home` last; it may have ended.
pub(super) fn read_node_holder(home: &Path) -> NodeHolder {
    let mut text = Vec::new();
    // Bounded: anybody who can write to the folder may have put any file there.
    let read = File::open(home.join(LOCK_FILE)).and_then(|file| file.take(MAX_LOCK_TEXT_BYTES).read_to_end(&mut text));
    if read.is_err() {
        return NodeHolder::default();
    }
    let mut lines = text.split(|byte| *byte == b'\n');
    let pid = lines.next().and_then(|line| std::str::from_utf8(line).ok()).and_then(|line| line.parse().ok());
    let socket = lines.next().filter(|line| !line.is_empty());
    let socket = socket.map(|line| PathBuf::from(std::ffi::OsString::from_vec(line.to_vec())));
    // A relative path would be looked for in whatever folder a command runs.
    NodeHolder { pid, socket: socket.filter(|path| path.is_absolute()) }
}

/// Locks the lock file at its path; the error is set if the file system has no such locks.
fn lock_file(home: &Path) -> Result<(File, Option<io::Error>), ProfileError> {
    let path = home.join(LOCK_FILE);
    let mut tries = 0..TRIES;
    loop {
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.map_err(ProfileError::io_at(&path))?;
        let unsupported = match lock(&file, File::try_lock).map_err(ProfileError::io_at(&path))? {
            LockOutcome::Acquired => None,
            LockOutcome::HeldByOther => return Err(node_runs_error(home)),
            LockOutcome::Unsupported(why) => Some(why),
        };
        // The file may have been removed before it was locked. After the last attempt, the file system's
        // inode numbers are taken as unreliable.
        if tries.next().is_none() || is_at(&file, &path).map_err(ProfileError::io_at(&path))? {
            return Ok((file, unsupported));
        }
    }
}

fn lock(file: &File, how: impl Fn(&File) -> Result<(), TryLockError>) -> io::Result<LockOutcome> {
    match how(file) {
        Ok(()) => Ok(LockOutcome::Acquired),
        Err(TryLockError::WouldBlock) => Ok(LockOutcome::HeldByOther),
        Err(TryLockError::Error(why)) if sys::is_locking_unsupported(&why) => Ok(LockOutcome::Unsupported(why)),
        Err(TryLockError::Error(why)) => Err(why),
    }
}

/// True if `file` is the file at `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let key = |metadata: &Metadata| (metadata.dev(), metadata.ino());
    match std::fs::metadata(path) {
        Ok(there) => Ok(key(&there) == key(&file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn node_runs_error(home: &Path) -> ProfileError {
    ProfileError::NodeRuns { pid: read_node_holder(home).pid }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_a_profile_whatever_becomes_of_the_file() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        assert!(!is_node_locked(home).unwrap());
        let lock = NodeLock::acquire(home).unwrap();
        let refused = || matches!(NodeLock::acquire(home), Err(ProfileError::NodeRuns { .. }));
        assert!(is_node_locked(home).unwrap() && refused());
        lock.set_socket(Path::new("/run/x.sock")).unwrap();
        let here = NodeHolder { pid: Some(std::process::id()), socket: Some("/run/x.sock".into()) };
        assert_eq!(read_node_holder(home), here);
        std::fs::remove_file(home.join(LOCK_FILE)).unwrap();
        assert!(is_node_locked(home).unwrap() && refused());
        lock.verify_or_restore().unwrap();
        assert_eq!(read_node_holder(home), here);
        drop(lock);
        assert!(!is_node_locked(home).unwrap());
        NodeLock::acquire(home).unwrap();
    }

    #[test]
    fn a_node_of_an_older_version_is_a_node() {
        let home = tempfile::tempdir().unwrap();
        let old = File::create(home.path().join(LOCK_FILE)).unwrap();
        old.try_lock().unwrap();
        assert!(is_node_locked(home.path()).unwrap());
        assert!(matches!(NodeLock::acquire(home.path()), Err(ProfileError::NodeRuns { pid: None })));
    }

    #[test]
    fn a_file_locked_by_another_node_since_is_told() {
        let home = tempfile::tempdir().unwrap();
        let lock = NodeLock::acquire(home.path()).unwrap();
        std::fs::remove_file(home.path().join(LOCK_FILE)).unwrap();
        // A version that locks no folders.
        let other = File::create(home.path().join(LOCK_FILE)).unwrap();
        other.try_lock().unwrap();
        assert!(matches!(lock.verify_or_restore(), Err(ProfileError::NodeRuns { .. })));
    }
}
