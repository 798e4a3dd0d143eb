//! Protection of secrets in memory from core dumps.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Keeps the memory of this process, which holds keys and passwords, out of core files. Only the soft limit is lowered,
/// so programs that it starts may raise it again.
pub fn forbid_core_dumps() {
    let maximum = getrlimit(Resource::Core).maximum;
    // A limit of 0 says nothing to a program that core_pattern pipes to, such as systemd-coredump; Linux aborts the dump
    // for a limit of 1 byte, which is also too small for a file (fs/coredump.c).
    let current = maximum.map_or(1, |maximum| maximum.min(1));
    // Lowering a limit is always allowed.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(current), maximum });
}
