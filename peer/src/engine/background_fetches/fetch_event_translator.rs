//! Translation of a fetch's events into lines for the user of a view.

use std::path::Path;

use localization::tr;
use shared::names::name_encoding;
use shared::safe_text::{safe_line, safe_path};
use tokio::sync::mpsc;

use super::BackgroundEvent;
use crate::engine::fetch::{FetchEvent, FileOutcome, FileReport};
use crate::engine::size_format::format_size;
use crate::engine::source_words::{silent_words, slow_words};
use crate::util::TranslatedText;

/// Translates fetch events into lines for the user.
pub(super) struct FetchEventTranslator {
    /// The number of the fetch.
    number: u64,
    /// Files without a report; `None` until their number is known.
    unreported_files: Option<usize>,
    events: mpsc::UnboundedSender<BackgroundEvent>,
}

impl FetchEventTranslator {
    pub(super) const fn new(number: u64, events: mpsc::UnboundedSender<BackgroundEvent>) -> Self {
        Self { number, unreported_files: None, events }
    }

    pub(super) fn handle_event(&mut self, event: &FetchEvent<'_>) {
        match event {
            FetchEvent::Resolved { files, .. } => self.unreported_files = Some(*files),
            FetchEvent::Finished { report, .. } => {
                self.unreported_files = self.unreported_files.map(|files| files.saturating_sub(1));
                // Before the report: a user who reads it may leave at once, and must not be warned.
                if self.unreported_files.is_none_or(|files| files == 0) {
                    self.send(BackgroundEvent::AllFilesReported(self.number));
                }
                self.finished(report);
            }
            FetchEvent::AwaitingRehash { name } => self.note(|| {
                tr!(
                    "{name} changed or grew at the source and is being hashed again there",
                    name = name_encoding::display_name(name)
                )
            }),
            FetchEvent::SourceJoined { user } => self.note(|| tr!("{user} has the same and is asked as well", user)),
            FetchEvent::SourceUnavailable { user, why } => {
                self.note(|| tr!("{user} is not asked: {why}", user, why = safe_line(why)));
            }
            FetchEvent::SourceLost { user, why } => {
                self.note(|| tr!("{user} went offline ({why}); retrying", user, why = safe_line(why)));
            }
            FetchEvent::Silent { user, time } => {
                self.note(|| tr!("{silence}; retrying", silence = silent_words(user, *time)));
            }
            FetchEvent::Slow { user, slowdown, seeks } => self.note(|| slow_words(user, *slowdown, *seeks)),
            FetchEvent::SourceReturned { user } => self.note(|| tr!("{user} is back", user)),
            FetchEvent::SourceBanned { user, why } => self.send(BackgroundEvent::Problem(TranslatedText::new(|| {
                tr!("{user} {why}: fetching nothing more from {user}", user, why = safe_line(why))
            }))),
            FetchEvent::Connecting { .. }
            | FetchEvent::Started { .. }
            | FetchEvent::Paused { .. }
            | FetchEvent::Verified { .. }
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

    fn finished(&self, report: &FileReport) {
        let name = name_encoding::display_name(&report.name).into_owned();
        let name = &name;
        let placed = |text: &dyn Fn() -> String| self.send(BackgroundEvent::FilePlaced(TranslatedText::new(text)));
        match &report.outcome {
            FileOutcome::Done(path) => placed(&|| {
                let bytes = format_size(report.size);
                tr!("{name}: {bytes} fetched and verified, in {path}", name, bytes, path = path_text(path))
            }),
            FileOutcome::Renamed(path) => placed(&|| {
                tr!(
                    "{name}: {bytes} fetched and verified, in {path} (the name was taken)",
                    name,
                    bytes = format_size(report.size),
                    path = path_text(path)
                )
            }),
            FileOutcome::Skipped(path) => {
                placed(&|| tr!("{name} exists already: {path}", name, path = path_text(path)));
            }
            FileOutcome::Streamed => {}
            // The event at the end of the fetch says it once for all files.
            FileOutcome::Aborted(_) => {}
            FileOutcome::Failed(error) => {
                self.send(BackgroundEvent::Problem(TranslatedText::new(|| format!("{name}: {error}"))));
            }
        }
    }

    fn note(&self, text: impl Fn() -> String) {
        self.send(BackgroundEvent::Note(TranslatedText::new(text)));
    }

    fn send(&self, told: BackgroundEvent) {
        // The view is gone when nobody listens.
        let _ = self.events.send(told);
    }
}

fn path_text(path: &Path) -> String {
    safe_path(path)
}
