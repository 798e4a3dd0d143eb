//! The progress of a fetch and of its files, for a view that lists them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use shared::ContentHash;

use super::InterruptedFetch;
use super::fetch_byte_count::FetchByteCount;
use crate::engine::Error;
use crate::engine::chat::ConversationName;
use crate::engine::fetch::{FetchEvent, FetchRequest, FileNo, FileOutcome, FileReport};
use crate::util::TranslatedText;

/// Least time between two reports of a fetch that runs.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);
/// Files of a fetch that are listed; of further ones only bytes are counted.
const MAX_LISTED_FILES: usize = 1000;

/// The state of a fetch or of one of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FetchState {
    /// It goes on.
    Running,
    /// It is here.
    Done,
    /// It ended with an error.
    Failed,
    /// The user stopped it; what is here is kept.
    Stopped,
}

/// The progress of a fetch.
#[derive(Debug, Clone, Serialize)]
pub struct FetchProgress {
    /// The number of the fetch.
    pub number: u64,
    /// The user or the room that it fetches from.
    pub from: ConversationName,
    /// The file, folder or pattern that was asked for.
    pub name: String,
    /// Verified bytes of all files.
    pub bytes: u64,
    /// The size of all files; 0 while it is not known.
    pub size: u64,
    /// The state.
    pub state: FetchState,
    /// The reason of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<TranslatedText>,
    /// The files that were started, in that order.
    pub files: Vec<FetchedFile>,
    /// The number of files, listed or not.
    pub file_count: usize,
    #[serde(skip)]
    count: FetchByteCount,
    #[serde(skip)]
    places: HashMap<FileNo, usize>,
    #[serde(skip)]
    reported: Option<Instant>,
}

/// A file of a fetch.
#[derive(Debug, Clone, Serialize)]
pub struct FetchedFile {
    /// The shared name.
    pub name: String,
    /// The place on this disk, once it is there.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "write_path")]
    pub path: Option<PathBuf>,
    /// Verified bytes.
    pub bytes: u64,
    /// Its size.
    pub size: u64,
    /// The state.
    pub state: FetchState,
    /// The reason of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<TranslatedText>,
    /// Its content, once it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<ContentHash>,
}

/// The progress of a fetch, as its thread and its view share it.
pub type ProgressLock = Arc<Mutex<FetchProgress>>;

impl FetchProgress {
    pub(super) fn new(number: u64, from: ConversationName, name: String) -> Self {
        Self {
            number,
            from,
            name,
            bytes: 0,
            size: 0,
            state: FetchState::Running,
            why: None,
            files: Vec::new(),
            file_count: 0,
            count: FetchByteCount::default(),
            places: HashMap::new(),
            reported: None,
        }
    }

    /// Takes an event of the fetch; returns whether the progress is to be reported.
    pub(super) fn handle_event(&mut self, event: &FetchEvent<'_>, now: Instant) -> bool {
        self.count.handle_event(event);
        (self.bytes, self.size) = (self.count.bytes, self.count.size);
        match event {
            FetchEvent::Resolved { files, .. } => self.file_count = *files,
            FetchEvent::Started { file, name, size, resumed, .. } => {
                self.begin_file(*file, name.as_str(), *size, *resumed);
            }
            FetchEvent::Paused { file, .. } => self.change(*file, |listed| listed.bytes = 0),
            FetchEvent::Verified { file, bytes } => self.change(*file, |listed| listed.bytes += bytes),
            FetchEvent::Finished { file, report } => {
                self.finish_file(*file, report);
                return self.is_due(now, true);
            }
            _ => return false,
        }
        self.is_due(now, false)
    }

    /// Ends the fetch with its error, if there was one.
    pub(super) fn end(&mut self, error: Option<&Error>) {
        let is_failed = |file: &FetchedFile| file.state == FetchState::Failed;
        self.state = match error {
            Some(Error::Interrupted) => FetchState::Stopped,
            Some(_) => FetchState::Failed,
            None => FetchState::Done,
        };
        if self.state == FetchState::Failed {
            // One file's own reason says more than that some failed.
            let only = self.files.iter().find(|file| is_failed(file)).and_then(|file| file.why.clone());
            let own = error.map(TranslatedText::of);
            self.why = if self.file_count <= 1 { only.or(own) } else { own };
        }
        for file in self.files.iter_mut().filter(|file| file.state == FetchState::Running) {
            file.state = self.state;
        }
    }

    /// Returns how to go on with a fetch that the user stopped.
    pub(super) fn interruption(&self, request: &FetchRequest) -> InterruptedFetch {
        let names: Vec<&str> = request.names.iter().map(|asked| asked.text.as_str()).collect();
        InterruptedFetch { from: request.from.clone(), name: names.join(" "), bytes: self.bytes, size: self.size }
    }

    /// Lists the report of a file. Those that were there already, or failed before they began, were never started.
    fn finish_file(&mut self, file: Option<FileNo>, report: &FileReport) {
        let (state, path, why) = match &report.outcome {
            FileOutcome::Done(path) | FileOutcome::Renamed(path) | FileOutcome::Skipped(path) => {
                (FetchState::Done, Some(path.clone()), None)
            }
            FileOutcome::Streamed => (FetchState::Done, None, None),
            FileOutcome::Aborted(_) => (FetchState::Stopped, None, None),
            FileOutcome::Failed(error) => (FetchState::Failed, None, Some(TranslatedText::of(error))),
        };
        let place = file.and_then(|file| self.places.get(&file).copied());
        if place.is_none() && self.files.len() < MAX_LISTED_FILES {
            self.files.push(FetchedFile::new(report.name.clone(), report.size));
        }
        let listed = match place {
            Some(place) => self.files.get_mut(place),
            // Beyond the bound nothing was added, and the last entry is that of another file.
            None => self.files.last_mut().filter(|listed| listed.name == report.name),
        };
        if let Some(listed) = listed {
            (listed.state, listed.path, listed.why) = (state, path, why);
            listed.hash = report.origin.as_ref().map(|origin| origin.hash);
            if state == FetchState::Done {
                listed.bytes = listed.size;
            }
        }
    }

    fn begin_file(&mut self, file: FileNo, name: &str, size: u64, resumed: u64) {
        let place = self.places.get(&file).copied().unwrap_or(self.files.len());
        if place == self.files.len() {
            if place == MAX_LISTED_FILES {
                return;
            }
            self.files.push(FetchedFile::new(name.to_owned(), size));
            self.places.insert(file, place);
        }
        // Started again, it may have another size.
        self.change(file, |listed| (listed.size, listed.bytes) = (size, resumed));
    }

    fn change(&mut self, file: FileNo, change: impl FnOnce(&mut FetchedFile)) {
        if let Some(listed) = self.places.get(&file).and_then(|place| self.files.get_mut(*place)) {
            change(listed);
        }
    }

    fn is_due(&mut self, now: Instant, is_end_of_file: bool) -> bool {
        let is_due = self.reported.is_none_or(|reported| now.duration_since(reported) >= REPORT_INTERVAL);
        // The end of the only file is the end of the fetch: it is told by that.
        let is_due = is_due || (is_end_of_file && self.file_count <= 1);
        if is_due {
            self.reported = Some(now);
        }
        is_due
    }
}

impl FetchedFile {
    const fn new(name: String, size: u64) -> Self {
        Self { name, path: None, bytes: 0, size, state: FetchState::Running, why: None, hash: None }
    }
}

/// Writes a path as text: one that is no UTF-8 is shown as well as it can be.
fn write_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use shared::FileName;

    use super::super::test_reports::file_report;
    use super::*;

    fn progress() -> FetchProgress {
        FetchProgress::new(1, "bob".parse().unwrap(), "films".to_owned())
    }

    #[test]
    fn a_file_that_begins_anew_counts_once() {
        let (mut progress, now) = (progress(), Instant::now());
        let (owner, name) = ("bob".parse().unwrap(), "film.mkv".parse().unwrap());
        let started = |size, resumed| FetchEvent::Started { file: 0, owner: &owner, name: &name, size, resumed };
        assert!(progress.handle_event(&FetchEvent::Resolved { files: 2, bytes: 150 }, now));
        assert!(!progress.handle_event(&started(100, 10), now), "told a moment ago");
        progress.handle_event(&FetchEvent::Verified { file: 0, bytes: 20 }, now);
        assert_eq!((progress.bytes, progress.files[0].bytes), (30, 30));
        progress.handle_event(&FetchEvent::Paused { file: 0, bytes: 30 }, now);
        progress.handle_event(&started(120, 0), now);
        assert!(progress.handle_event(&FetchEvent::Verified { file: 0, bytes: 70 }, now + REPORT_INTERVAL));
        assert_eq!((progress.bytes, progress.size, progress.files.len()), (70, 170, 1));
        assert_eq!(progress.files[0].size, 120);
        progress.end(Some(&Error::Interrupted));
        assert_eq!((progress.state, progress.files[0].state), (FetchState::Stopped, FetchState::Stopped));
    }

    #[test]
    fn of_many_files_the_first_are_listed_and_each_counts_once() {
        let (mut progress, now) = (progress(), Instant::now());
        let owner = "bob".parse().unwrap();
        let (files, bytes) = (MAX_LISTED_FILES + 10, 5 * (MAX_LISTED_FILES as u64 + 10));
        progress.handle_event(&FetchEvent::Resolved { files, bytes }, now);
        for file in 0..files {
            let name: FileName = format!("f{file}").parse().unwrap();
            progress.handle_event(&FetchEvent::Started { file, owner: &owner, name: &name, size: 5, resumed: 2 }, now);
            progress.handle_event(&FetchEvent::Verified { file, bytes: 3 }, now);
            let report = file_report(name.as_str(), 5, FileOutcome::Done(PathBuf::new()));
            progress.handle_event(&FetchEvent::Finished { file: Some(file), report: &report }, now);
        }
        assert_eq!((progress.files.len(), progress.bytes, progress.size), (MAX_LISTED_FILES, bytes, bytes));
    }
}
