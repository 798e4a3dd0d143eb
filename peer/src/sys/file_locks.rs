//! Locks of files: file systems without them.

use std::io;

use rustix::io::Errno;

/// Returns true for the errors of a file system without file locks.
pub fn is_locking_unsupported(error: &io::Error) -> bool {
    // Network and FUSE file systems answer with any of these, also with EBADF and EISDIR for what is neither.
    let unsupported = [Errno::BADF, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOLCK, Errno::NOSYS, Errno::ISDIR];
    Errno::from_io_error(error).is_some_and(|error| unsupported.contains(&error))
}
