//! Protection of secrets in memory from core dumps.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Keeps the memory of this process, which holds keys and passwords, out of core files. Only the soft limit is lowered,
/// so programs that it starts may raise it again.
pub fn forbid_core_dumps() {
    let maximum = getrlimit(Resource::Core).maximum;
    // Lowering a limit is always allowed.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
}
