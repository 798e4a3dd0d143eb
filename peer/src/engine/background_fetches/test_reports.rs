//! Reports of files for tests.

use crate::engine::fetch::{FileOutcome, FileReport};

/// Returns the report of a file of this name.
pub(super) fn file_report(name: &str, size: u64, outcome: FileOutcome) -> FileReport {
    let name = name.to_owned();
    let (bytes_fetched, bytes_resumed, sources) = (size, 0, Vec::new());
    FileReport { name, size, restricted: false, outcome, bytes_fetched, bytes_resumed, sources, origin: None }
}
