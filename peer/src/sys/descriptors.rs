//! How many files may be open at once.

use rustix::process::{Resource, getrlimit};

/// How many files this process may have open at once; `None` without a limit.
pub fn open_files_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}
