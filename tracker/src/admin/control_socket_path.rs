//! The paths at which the socket may be.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The socket's name in the data folder.
const SOCKET_NAME: &str = "control.sock";
/// The longest path of a socket: `sun_path` has 108 bytes, one for the final zero.
const PATH_BYTES: usize = 107;

/// A path at which a socket can be bound or found, while this lives.
pub(super) struct ControlSocketPath {
    /// The path for people.
    pub(super) path: PathBuf,
    /// The path for system calls; it may go through an open descriptor.
    pub(super) address: PathBuf,
    _open_meanwhile: Option<File>,
}

impl ControlSocketPath {
    /// Returns the path in the data folder.
    pub(super) fn in_data_folder(data_folder: &Path) -> io::Result<Self> {
        Self::in_folder(data_folder, SOCKET_NAME)
    }

    /// Returns the path in the runtime folder; `None` for a user without one.
    pub(super) fn in_runtime_folder(data_folder: &Path) -> Option<io::Result<Self>> {
        let folder = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let for_root = || rustix::process::geteuid().is_root().then(|| PathBuf::from("/run"));
        let folder = folder.or_else(for_root)?;
        Some(
            data_folder
                // The tracker and its administrator may name the folder by different paths.
                .canonicalize()
                .and_then(|data_folder| Self::in_folder(&folder, &runtime_socket_name(&data_folder))),
        )
    }

    /// Returns a path in `folder`. One that is too long for a socket goes through the folder's descriptor.
    fn in_folder(folder: &Path, name: &str) -> io::Result<Self> {
        let path = folder.join(name);
        if path.as_os_str().as_bytes().len() <= PATH_BYTES {
            return Ok(Self { address: path.clone(), path, _open_meanwhile: None });
        }
        let folder = File::open(folder)?;
        // Linux resolves the descriptor's link, so the path is short enough.
        let address = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, address, _open_meanwhile: Some(folder) })
    }
}

/// Returns the socket's name in the runtime folder, which other data folders may share.
fn runtime_socket_name(data_folder: &Path) -> String {
    let hash = blake3::hash(data_folder.as_os_str().as_bytes()).to_hex();
    format!("vizinho-tracker-{}.sock", hash.get(..16).unwrap_or_default())
}
