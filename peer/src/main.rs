//! The `peer` command.

use std::process::ExitCode;

/// Gives back the memory of many links, which the system's allocator keeps.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    certs::forbid_core_dumps();
    peer::cli::main()
}
