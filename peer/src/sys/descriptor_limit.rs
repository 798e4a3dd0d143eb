//! The limit on open files.

use std::fs::File;

use rustix::process::{Resource, getrlimit};

use super::is_too_many_open_files;

/// Returns the number of files that this process may have open; `None` if there is no limit.
pub fn open_files_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Returns true if no further file can be opened for want of descriptors.
pub fn is_descriptor_limit_reached() -> bool {
    // SQLite opens two files at once, and may have closed one of them by now.
    let opened: Vec<_> = (0..2).map(|_| File::open("/")).collect();
    opened.iter().any(|opened| opened.as_ref().is_err_and(is_too_many_open_files))
}
