//! Translation of a fetch's events into lines for the user of a view.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use localization::tr;
use shared::names::name_encoding;
use shared::safe_text::{safe_line, safe_path};
use tokio::sync::mpsc;

use super::{BackgroundEvent, InterruptedFetch};
use crate::engine::fetch::{FetchEvent, FetchRequest, FileNo, FileOutcome, FileReport};
use crate::engine::size_format::format_size;
use crate::engine::source_words::{silent_words, slow_words};

/// Translates fetch events into lines for the user.
pub(super) struct FetchEventTranslator {
    /// The number of the fetch.
    number: u64,
    /// Files without a report; `None` until their number is known.
    unreported_files: Option<usize>,
    events: mpsc::UnboundedSender<BackgroundEvent>,
    running: HashMap<FileNo, RunningFile>,
    /// Files that changed at the source and were not started again yet.
    paused: HashSet<FileNo>,
    /// Verified bytes of all files.
    bytes: u64,
    /// The sizes of all files but the paused ones.
    size: u64,
}

/// Byte counts of a file that was started.
struct RunningFile {
    size: u64,
    missing: u64,
}

impl FetchEventTranslator {
    pub(super) fn new(number: u64, events: mpsc::UnboundedSender<BackgroundEvent>) -> Self {
        Self {
            number,
            unreported_files: None,
            events,
            running: HashMap::new(),
            paused: HashSet::new(),
            bytes: 0,
            size: 0,
        }
    }

    pub(super) fn handle_event(&mut self, event: &FetchEvent<'_>) {
        match event {
            FetchEvent::Resolved { files, bytes } => (self.unreported_files, self.size) = (Some(*files), *bytes),
            FetchEvent::Started { file, size, resumed, .. } => {
                if self.paused.remove(file) {
                    self.size += size;
                }
                self.running.insert(*file, RunningFile { size: *size, missing: size.saturating_sub(*resumed) });
                self.bytes += resumed;
            }
            FetchEvent::Paused { file, bytes } => {
                // Counted anew when the file is started again, perhaps with another size.
                self.bytes = self.bytes.saturating_sub(*bytes);
                if let Some(running) = self.running.remove(file) {
                    self.size = self.size.saturating_sub(running.size);
                    self.paused.insert(*file);
                }
            }
            FetchEvent::Verified { file, bytes } => {
                let Some(running) = self.running.get_mut(file) else { return };
                running.missing = running.missing.saturating_sub(*bytes);
                self.bytes += bytes;
            }
            FetchEvent::Finished { file, report } => {
                if file.is_some_and(|file| self.paused.remove(&file)) {
                    self.size += report.size;
                }
                let running = file.and_then(|file| self.running.remove(&file));
                let left = running.map_or(report.size, |running| running.missing);
                // A skipped file was never `Started` or `Verified`: its size is added here.
                self.bytes +=
                    if matches!(report.outcome, FileOutcome::Failed(_) | FileOutcome::Aborted(_)) { 0 } else { left };
                self.unreported_files = self.unreported_files.map(|files| files.saturating_sub(1));
                // Before the report: a user who reads it may leave at once, and must not be warned.
                if self.unreported_files.is_none_or(|files| files == 0) {
                    self.send(BackgroundEvent::AllFilesReported(self.number));
                }
                self.finished(report);
            }
            FetchEvent::AwaitingRehash { name } => {
                self.note(tr!(
                    "{name} changed or grew at the source and is being hashed again there",
                    name = name_encoding::display_name(name)
                ));
            }
            FetchEvent::SourceJoined { user } => self.note(tr!("{user} has the same and is asked as well", user)),
            FetchEvent::SourceUnavailable { user, why } => {
                self.note(tr!("{user} is not asked: {why}", user, why = safe_line(why)));
            }
            FetchEvent::SourceLost { user, why } => {
                self.note(tr!("{user} went offline ({why}); retrying", user, why = safe_line(why)));
            }
            FetchEvent::Silent { user, time } => {
                self.note(tr!("{silence}; retrying", silence = silent_words(user, *time)));
            }
            FetchEvent::Slow { user, slowdown, seeks } => self.note(slow_words(user, *slowdown, *seeks)),
            FetchEvent::SourceReturned { user } => self.note(tr!("{user} is back", user)),
            FetchEvent::SourceBanned { user, why } => {
                let what = tr!("{user} {why}: fetching nothing more from {user}", user, why = safe_line(why));
                self.send(BackgroundEvent::Problem(what));
            }
            FetchEvent::Connecting { .. }
            | FetchEvent::SourceConnected { .. }
            | FetchEvent::VersionChosen { .. }
            | FetchEvent::Checking { .. }
            | FetchEvent::Opened { .. }
            | FetchEvent::ContentChanged { .. }
            | FetchEvent::AwaitingReader { .. }
            | FetchEvent::OutdatedRemoved { .. }
            | FetchEvent::CollidingNames { .. } => {}
        }
    }

    pub(super) fn broken_off(&self, request: &FetchRequest) -> InterruptedFetch {
        let names: Vec<&str> = request.names.iter().map(|asked| asked.text.as_str()).collect();
        InterruptedFetch { from: request.from.clone(), name: names.join(" "), bytes: self.bytes, size: self.size }
    }

    fn finished(&self, report: &FileReport) {
        let name = name_encoding::display_name(&report.name).into_owned();
        let bytes = format_size(report.size);
        match &report.outcome {
            FileOutcome::Done(path) => {
                self.note(tr!("{name}: {bytes} fetched and verified, in {path}", name, bytes, path = path_text(path)));
            }
            FileOutcome::Renamed(path) => {
                self.note(tr!(
                    "{name}: {bytes} fetched and verified, in {path} (the name was taken)",
                    name,
                    bytes,
                    path = path_text(path)
                ));
            }
            FileOutcome::Skipped(path) => {
                self.note(tr!("{name} exists already: {path}", name, path = path_text(path)));
            }
            FileOutcome::Streamed => {}
            // The event at the end of the fetch says it once for all files.
            FileOutcome::Aborted(_) => {}
            FileOutcome::Failed(error) => self.send(BackgroundEvent::Problem(format!("{name}: {error}"))),
        }
    }

    fn note(&self, text: String) {
        self.send(BackgroundEvent::Note(text));
    }

    fn send(&self, told: BackgroundEvent) {
        // The view is gone when nobody listens.
        let _ = self.events.send(told);
    }
}

fn path_text(path: &Path) -> String {
    safe_path(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_started_again_counts_once() {
        let mut words = FetchEventTranslator::new(1, mpsc::unbounded_channel().0);
        let (owner, name) = ("bob".parse().unwrap(), "film.mkv".parse().unwrap());
        let started = |size, resumed| FetchEvent::Started { file: 0, owner: &owner, name: &name, size, resumed };
        words.handle_event(&FetchEvent::Resolved { files: 2, bytes: 150 });
        words.handle_event(&started(100, 10));
        words.handle_event(&FetchEvent::Verified { file: 0, bytes: 20 });
        words.handle_event(&FetchEvent::Paused { file: 0, bytes: 30 });
        assert_eq!((words.bytes, words.size), (0, 50));
        words.handle_event(&started(200, 0));
        words.handle_event(&FetchEvent::Verified { file: 0, bytes: 70 });
        assert_eq!((words.bytes, words.size), (70, 250));
    }
}
