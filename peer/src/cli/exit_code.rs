//! The one place that prints an error and picks the exit code.

use std::process::ExitCode;

use localization::in_english;
use serde_json::json;

use crate::engine::{Error, ErrorKind};
use crate::ui::CommandOutput;

const SIGINT: u8 = 2;
/// Base of the exit code for a signal, as in shells.
const SIGNAL_EXIT_BASE: u8 = 128;

/// Prints the error and returns the exit code.
pub(super) fn report_error(output: &CommandOutput, error: &Error, signalled: u8) -> ExitCode {
    // The reader of a pipe has had enough (`| head`): that is success.
    if error.is_closed_pipe() {
        return ExitCode::SUCCESS;
    }
    let kind = error.kind();
    // An interrupted command has printed its last line itself.
    if kind != ErrorKind::Interrupted {
        output.error(&error.to_string());
    }
    if output.is_json() {
        let mut fields = json!({ "code": kind.as_str(), "message": in_english(|| error.to_string()) });
        if let Error::TrackerKeyUnconfirmed { address, fingerprint, .. } = error {
            fields["tracker"] = json!(address);
            fields["fingerprint"] = json!(fingerprint);
        }
        // Ignored: with a closed pipe nobody reads the error.
        let _ = output.print_object("error", &fields);
        let _ = output.close();
    }
    // Scripts depend on these numbers; the help lists them (`args::HELP`).
    ExitCode::from(match kind {
        ErrorKind::Other => 1,
        ErrorKind::Usage => 2,
        ErrorKind::NotLoggedIn => 3,
        ErrorKind::Unavailable => 4,
        ErrorKind::NotShared => 5,
        ErrorKind::Refused => 6,
        ErrorKind::Network => 7,
        ErrorKind::Integrity => 8,
        ErrorKind::Disk => 9,
        ErrorKind::Exists => 10,
        ErrorKind::IdentityChanged => 11,
        ErrorKind::Partial => 12,
        ErrorKind::Interrupted if signalled > 0 => SIGNAL_EXIT_BASE + signalled,
        ErrorKind::Interrupted => SIGNAL_EXIT_BASE + SIGINT,
    })
}
