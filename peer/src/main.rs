//! The `peer` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    certs::forbid_core_dumps();
    peer::cli::main()
}
