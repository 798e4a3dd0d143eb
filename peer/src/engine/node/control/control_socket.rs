//! The socket's place in the file system.
//!
//! In the profile's folder; where that can hold none (a network or FAT file system, a path longer than the 108 bytes that
//! an address has) in a folder of this user alone, under a name made of the profile's path. The node's lock file says
//! where. Whoever removes the socket cuts the node off from the other processes of its profile, so the node looks
//! for it now and then and puts it back.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::safe_text::safe_path;
use tokio::net::UnixListener;

use crate::engine::Error;
use crate::profile::{NodeLock, Profile};
use crate::sys;

/// A listening socket and the name under which it is found. Dropping it removes the name.
#[derive(Debug)]
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
    profile: Profile,
    lock: Arc<NodeLock>,
    /// The database was not at its place at the last look.
    was_database_lost: bool,
}

impl ControlSocket {
    /// Takes the name; the caller holds the profile's lock, so what is there is left over.
    ///
    /// # Errors
    /// [`Error::Disk`] when neither place takes a socket.
    pub(super) fn bind(profile: &Profile, lock: Arc<NodeLock>) -> Result<Self, Error> {
        let (listener, path) = listen(profile)?;
        let id = inode_of(&path).map_err(Error::disk(&path))?;
        lock.set_socket(&path)?;
        Ok(Self { listener, path, inode: id, profile: profile.clone(), lock, was_database_lost: false })
    }

    /// Where clients come.
    pub(super) const fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Looks whether the database, the lock and the socket are still there, and puts back what can be put back.
    ///
    /// # Errors
    /// When another node has the profile, or the database is gone. One that is away for a moment only (a backup, a file
    /// system that is mounted anew) is waited for; nothing is written meanwhile.
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
            // The next look tries again.
            Err(why) => tracing::error!("the node's socket was removed and can't be put back: {why}"),
        }
        Ok(())
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Not that of a node that began since.
        if inode_of(&self.path).is_ok_and(|id| id == self.inode) {
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
    let fallback = sys::runtime_folder().and_then(|folder| {
        let path = folder.join(socket_file_name(profile.home()));
        Ok((bind_at(&path)?, path))
    });
    fallback.map_err(|other| {
        tracing::debug!("no socket in the profile: {why}; nor elsewhere: {other}");
        let home = profile.home().to_owned();
        let advice = format!(
            "the folder can't hold the node's socket ({}), nor can one be made elsewhere ({}): \
             use --home with a folder on a local disk",
            sys::plain_message(&why),
            sys::plain_message(&other)
        );
        Error::Disk { path: home, source: io::Error::new(why.kind(), advice) }
    })
}

/// Binds beside the name and moves the socket there: it is never there and open to others.
fn bind_at(path: &Path) -> io::Result<UnixListener> {
    // Not longer than the name itself: an address has few bytes.
    let draft = path.with_extension("new");
    remove_if_present(&draft)?;
    let listener = UnixListener::bind(&draft)?;
    let placed = fs::set_permissions(&draft, Permissions::from_mode(0o600)).and_then(|()| {
        if fs::symlink_metadata(path).is_ok_and(|there| !there.file_type().is_socket()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else has the socket's name"));
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

/// The same for as long as the profile stays where it is.
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
