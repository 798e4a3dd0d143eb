//! How many files may be open at once.

use std::fs::File;

use rustix::process::{Resource, getrlimit};

use super::is_too_many_open_files;

/// How many files this process may have open at once; `None` without a limit.
pub fn open_files_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Whether no further file can be opened now, for want of descriptors.
pub fn is_descriptor_limit_reached() -> bool {
    // SQLite opens two at once, and may have given one back by now.
    let opened: Vec<_> = (0..2).map(|_| File::open("/")).collect();
    opened.iter().any(|opened| opened.as_ref().is_err_and(is_too_many_open_files))
}
