//! The control socket's file: its two possible places, its binding and its restoration.
//!
//! The socket is in the profile's folder. If that can hold none (a network or FAT file system, a path beyond the 108
//! bytes of a socket address), it is in a folder of this user alone, under a name derived from the profile's path; the
//! node's lock file says where. A removed socket would cut the node off from the other processes of its profile, so the
//! node checks it periodically and restores it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use localization::tr;
use shared::safe_text::safe_path;
use tokio::net::UnixListener;

use crate::engine::Error;
use crate::profile::{NodeLock, Profile};
use crate::sys;

/// A listening socket and its file. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
    profile: Profile,
    lock: Arc<NodeLock>,
    /// True if the database was missing at the last check.
    was_database_lost: bool,
}

impl ControlSocket {
    /// Binds the socket. The caller holds the profile's lock, so a socket that is there is a leftover.
    ///
    /// # Errors
    /// [`Error::Disk`] when neither place takes a socket.
    pub(super) fn bind(profile: &Profile, lock: Arc<NodeLock>) -> Result<Self, Error> {
        let (listener, path) = listen(profile)?;
        let id = inode_of(&path).map_err(Error::disk(&path))?;
        // The other processes read there in which of its two places the socket is.
        lock.set_socket(&path)?;
        Ok(Self { listener, path, inode: id, profile: profile.clone(), lock, was_database_lost: false })
    }

    /// Returns the socket that clients connect to.
    pub(super) const fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Checks that the database, the lock and the socket are still there, and restores the latter two.
    ///
    /// # Errors
    /// Another node has the profile, or the database was missing at two checks in a row. After one such check it may be
    /// away for a moment (a backup, a file system that is mounted again), and nothing is written meanwhile.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        let database = self.profile.check_database_file();
        if self.was_database_lost {
            database?;
            self.was_database_lost = false;
        } else {
            self.was_database_lost = database.is_err();
        }
        self.lock.verify_or_restore()?;
        if inode_of(&self.path).is_ok_and(|id| id == self.inode) {
            return Ok(());
        }
        let bound = listen(&self.profile).and_then(|(listener, path)| {
            let id = inode_of(&path).map_err(Error::disk(&path))?;
            self.lock.set_socket(&path)?;
            (self.listener, self.path, self.inode) = (listener, path, id);
            Ok(())
        });
        match bound {
            Ok(()) => tracing::warn!("{} was removed: it is back", safe_path(&self.path)),
            // The next check tries again.
            Err(why) => tracing::error!("the node's socket was removed and can't be put back: {why}"),
        }
        Ok(())
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // The file may belong to a node that began since.
        if inode_of(&self.path).is_ok_and(|id| id == self.inode) {
            // A leftover does no harm: the next node replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn listen(profile: &Profile) -> Result<(UnixListener, PathBuf), Error> {
    let usual = profile.socket_path();
    let why = match bind_at(&usual) {
        Ok(listener) => return Ok((listener, usual)),
        Err(why) => why,
    };
    // Some file systems hold no sockets, and the path of a socket has at most 108 bytes.
    let fallback = sys::runtime_folder().and_then(|folder| {
        let path = folder.join(socket_file_name(profile.home()));
        Ok((bind_at(&path)?, path))
    });
    fallback.map_err(|other| {
        tracing::debug!("no socket in the profile: {why}; nor elsewhere: {other}");
        let home = profile.home().to_owned();
        let advice = tr!(
            "the folder can't hold the node's socket ({why}), nor can one be made elsewhere ({other}): use --home with a \
             folder on a local disk",
            why = sys::plain_message(&why),
            other = sys::plain_message(&other)
        );
        Error::Disk { path: home, source: io::Error::new(why.kind(), advice) }
    })
}

/// Binds to a temporary name and renames the socket: under its own name it never has wrong permissions.
fn bind_at(path: &Path) -> io::Result<UnixListener> {
    // Not longer than the name itself, for a socket address has only 108 bytes.
    let draft = path.with_extension("new");
    // A node that was killed leaves its draft behind, where bind(2) would fail with EADDRINUSE.
    remove_if_present(&draft)?;
    let listener = UnixListener::bind(&draft)?;
    let placed = fs::set_permissions(&draft, Permissions::from_mode(0o600)).and_then(|()| {
        // Only a socket may be replaced: rename would silently remove any other file.
        if fs::symlink_metadata(path).is_ok_and(|there| !there.file_type().is_socket()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, tr!("something else has the socket's name")));
        }
        fs::rename(&draft, path)
    });
    if let Err(why) = placed {
        remove_if_present(&draft)?;
        return Err(why);
    }
    Ok(listener)
}

fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn inode_of(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Derives the file name from the profile's path: the same as long as the profile isn't moved.
fn socket_file_name(home: &Path) -> String {
    let hash = blake3::hash(std::os::unix::ffi::OsStrExt::as_bytes(home.as_os_str())).to_hex();
    format!("{}.sock", &hash[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_removed_is_put_back() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let lock = Arc::new(profile.lock_node().unwrap());
        let mut socket = ControlSocket::bind(&profile, lock).unwrap();
        let path = profile.socket_path();
        fs::remove_file(&path).unwrap();
        socket.check().unwrap();
        assert!(tokio::net::UnixStream::connect(&path).await.is_ok());
        // Another one in its place is not ours to be reached by.
        fs::remove_file(&path).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        socket.check().unwrap();
        assert!(tokio::net::UnixStream::connect(&path).await.is_ok());
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_folder_too_deep_for_a_socket_has_it_elsewhere() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("d".repeat(100));
        let profile = Profile::open(&deep).unwrap();
        let lock = Arc::new(profile.lock_node().unwrap());
        let socket = ControlSocket::bind(&profile, lock).unwrap();
        let path = profile.node_holder().socket.unwrap();
        assert!(!path.starts_with(&deep));
        assert!(tokio::net::UnixStream::connect(&path).await.is_ok());
        drop(socket);
        assert!(!path.exists());
    }
}
