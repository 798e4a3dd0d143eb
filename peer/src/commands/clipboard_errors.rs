//! Errors of the clipboard as errors of a command.

use crate::engine::{Error, ErrorKind};
use crate::sys::ClipboardError;

/// Returns the command's error.
pub(super) fn clipboard_error(error: &ClipboardError) -> Error {
    let kind = match error {
        ClipboardError::Empty => ErrorKind::NotShared,
        ClipboardError::NoProgram(_)
        | ClipboardError::TooLarge
        | ClipboardError::Failed { .. }
        | ClipboardError::TimedOut(_) => ErrorKind::Other,
    };
    Error::Relayed { kind, message: error.to_string() }
}
