//! The bytes of a fetch: how many are here, and how many there are in all. No I/O.

use std::collections::HashMap;

use crate::engine::fetch::{FetchEvent, FileNo, FileOutcome};

/// The counted bytes of a fetch and of its files.
#[derive(Debug, Clone, Default)]
pub(super) struct FetchByteCount {
    /// Verified bytes of all files.
    pub(super) bytes: u64,
    /// The sizes of all files; 0 while they are not known.
    pub(super) size: u64,
    started: HashMap<FileNo, StartedFile>,
}

/// Byte counts of a file that was started and not reported yet.
#[derive(Debug, Clone, Copy)]
struct StartedFile {
    size: u64,
    verified: u64,
}

impl FetchByteCount {
    /// Takes an event of the fetch.
    pub(super) fn handle_event(&mut self, event: &FetchEvent<'_>) {
        match event {
            FetchEvent::Resolved { bytes, .. } => self.size = *bytes,
            FetchEvent::Started { file, size, resumed, .. } => {
                // It changed at its source and is started again: counted anew, perhaps with another size.
                if let Some(before) = self.started.insert(*file, StartedFile { size: *size, verified: *resumed }) {
                    self.bytes = self.bytes.saturating_sub(before.verified);
                    self.size = self.size.saturating_sub(before.size).saturating_add(*size);
                }
                self.bytes += resumed;
            }
            FetchEvent::Paused { file, .. } => {
                if let Some(started) = self.started.get_mut(file) {
                    self.bytes = self.bytes.saturating_sub(std::mem::take(&mut started.verified));
                }
            }
            FetchEvent::Verified { file, bytes } => {
                if let Some(started) = self.started.get_mut(file) {
                    started.verified += bytes;
                    self.bytes += bytes;
                }
            }
            FetchEvent::Finished { file, report } => {
                let started = file.and_then(|file| self.started.remove(&file));
                // One that was here already was never started: its whole size is added.
                let left = started.map_or(report.size, |started| started.size.saturating_sub(started.verified));
                if !matches!(report.outcome, FileOutcome::Failed(_) | FileOutcome::Aborted(_)) {
                    self.bytes += left;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use shared::UserName;

    use super::*;
    use crate::engine::Error;
    use crate::engine::background_fetches::test_reports::file_report;

    fn owner() -> UserName {
        "bob".parse().unwrap()
    }

    fn start(count: &mut FetchByteCount, file: FileNo, size: u64, resumed: u64) {
        let name = "film.mkv".parse().unwrap();
        count.handle_event(&FetchEvent::Started { file, owner: &owner(), name: &name, size, resumed });
    }

    fn finish(count: &mut FetchByteCount, file: Option<FileNo>, size: u64, outcome: FileOutcome) {
        count.handle_event(&FetchEvent::Finished { file, report: &file_report("film.mkv", size, outcome) });
    }

    #[test]
    fn a_file_that_is_started_again_counts_once() {
        let mut count = FetchByteCount::default();
        count.handle_event(&FetchEvent::Resolved { files: 2, bytes: 150 });
        start(&mut count, 0, 100, 10);
        count.handle_event(&FetchEvent::Verified { file: 0, bytes: 20 });
        assert_eq!((count.bytes, count.size), (30, 150));
        count.handle_event(&FetchEvent::Paused { file: 0, bytes: 30 });
        assert_eq!((count.bytes, count.size), (0, 150));
        start(&mut count, 0, 200, 0);
        count.handle_event(&FetchEvent::Verified { file: 0, bytes: 70 });
        assert_eq!((count.bytes, count.size), (70, 250));
        finish(&mut count, Some(0), 200, FileOutcome::Done(PathBuf::new()));
        assert_eq!((count.bytes, count.size), (200, 250));
    }

    #[test]
    fn what_was_here_counts_whole_and_what_failed_as_far_as_it_came() {
        let mut count = FetchByteCount::default();
        count.handle_event(&FetchEvent::Resolved { files: 3, bytes: 300 });
        finish(&mut count, None, 100, FileOutcome::Skipped(PathBuf::new()));
        start(&mut count, 1, 100, 0);
        count.handle_event(&FetchEvent::Verified { file: 1, bytes: 40 });
        finish(&mut count, Some(1), 100, FileOutcome::Failed(Error::Integrity(String::new())));
        finish(&mut count, None, 100, FileOutcome::Failed(Error::Integrity(String::new())));
        assert_eq!((count.bytes, count.size), (140, 300));
    }
}
