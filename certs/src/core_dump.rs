//! Secrets and the core dumps of a process that crashed.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Keeps the memory of this process out of core dumps: keys and passwords are in it. What it starts may have its own.
pub fn forbid_core_dumps() {
    let maximum = getrlimit(Resource::Core).maximum;
    // To have less is always allowed.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
}
