//! Report of a fetch: counts, the first error, and the names to ask for again.

use std::path::PathBuf;

use shared::peer::FolderTime;

use super::{FailureReason, FetchEventHandler};
use crate::engine::fetch::{
    FetchDestination, FetchEvent, FetchReport, FetchRequest, FetchSummary, FileNo, FileOutcome, FileReport, PlacedFile,
    RequestedName,
};
use crate::engine::{Error, ErrorKind};

/// Collects the report while files are settled.
#[derive(Debug, Default)]
pub(in crate::engine::fetch) struct FetchReportBuilder {
    summary: FetchSummary,
    first_error: Option<Error>,
    remaining: RemainingNames,
    /// Number of files that have a number in the events.
    next_file_no: FileNo,
    /// Modification times of the requested folders.
    folder_times: Vec<FolderTime>,
    /// Placed files, path and size, whose path some file systems confuse with that of other files.
    placed: Vec<(PathBuf, u64)>,
}

/// The names that a retry must ask for.
#[derive(Debug)]
enum RemainingNames {
    Listed(Vec<RequestedName>),
    /// All names of the request: something failed that no single name leads to.
    All,
}

impl Default for RemainingNames {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl FetchReportBuilder {
    /// Builds the report of a fetch that ended before its names were resolved: every name is aborted.
    pub(in crate::engine::fetch) fn abort_before_start(
        request: &FetchRequest,
        error: Error,
        report: FetchEventHandler<'_>,
    ) -> FetchReport {
        let mut report_builder = Self::default();
        for RequestedName { text, .. } in &request.names {
            report_builder.abort(text.clone(), 0, None, &error, report);
        }
        report_builder.build(request, request.destination.clone(), Some(error))
    }

    /// Returns the number of the next file in the events.
    pub(super) const fn next_number(&mut self) -> FileNo {
        self.next_file_no += 1;
        self.next_file_no - 1
    }

    /// Returns the error of the first file that failed.
    pub(super) const fn first_error(&self) -> Option<&Error> {
        self.first_error.as_ref()
    }

    /// Counts empty folders that were made.
    pub(super) const fn add_folders(&mut self, count: usize) {
        self.summary.folders += count;
    }

    /// Sets the folder times for the retry request: they are applied when
    /// all files are placed, if need be by a later attempt.
    pub(super) fn set_folder_times(&mut self, times: Vec<FolderTime>) {
        self.folder_times = times;
    }

    /// Records a placed file that a later attempt must not replace.
    pub(super) fn add_placed(&mut self, path: PathBuf, size: u64) {
        self.placed.push((path, size));
    }

    /// Counts and reports a settled file; `again` returns the entry of a
    /// retry request, asked for only if the file failed.
    pub(super) fn settle(
        &mut self,
        file: Option<FileNo>,
        told: FileReport,
        again: impl FnOnce() -> Option<RequestedName>,
        report: FetchEventHandler<'_>,
    ) {
        let summary = &mut self.summary;
        summary.bytes_fetched += told.bytes_fetched;
        summary.bytes_resumed += told.bytes_resumed;
        match &told.outcome {
            FileOutcome::Done(_) | FileOutcome::Streamed | FileOutcome::Renamed(_) => {
                let is_renamed = matches!(told.outcome, FileOutcome::Renamed(_));
                *if is_renamed { &mut summary.renamed } else { &mut summary.done } += 1;
                summary.placed_fetched += told.bytes_fetched;
                summary.placed_resumed += told.bytes_resumed;
            }
            FileOutcome::Skipped(_) => summary.skipped += 1,
            FileOutcome::Failed(_) | FileOutcome::Aborted(_) => {
                summary.failed += 1;
                match (again(), &mut self.remaining) {
                    (Some(asked), RemainingNames::Listed(left)) => left.push(asked),
                    (None, left) => *left = RemainingNames::All,
                    (Some(_), RemainingNames::All) => {}
                }
            }
        }
        report(FetchEvent::Finished { file, report: &told });
        // After the event, which borrows the report; an aborted file only repeats the error of the fetch.
        if let FileOutcome::Failed(error) = told.outcome {
            self.first_error.get_or_insert(error);
        }
    }

    /// Fails a name or file of which nothing was requested yet.
    pub(super) fn fail(
        &mut self,
        name: String,
        size: u64,
        again: Option<RequestedName>,
        error: Error,
        report: FetchEventHandler<'_>,
    ) {
        self.settle(None, FileReport::unfetched(name, size, FileOutcome::Failed(error)), || again, report);
    }

    /// Aborts a name or file of which nothing was requested when the whole fetch ended.
    pub(super) fn abort(
        &mut self,
        name: String,
        size: u64,
        again: Option<RequestedName>,
        error: &Error,
        report: FetchEventHandler<'_>,
    ) {
        let outcome = FileOutcome::Aborted(FailureReason::of(error).into_error());
        self.settle(None, FileReport::unfetched(name, size, outcome), || again, report);
    }

    /// Builds the report. The error is `early`, which ended the fetch, else that of the only file or of a closed pipe,
    /// else the number of failed files.
    pub(super) fn build(
        self,
        request: &FetchRequest,
        destination: FetchDestination,
        early: Option<Error>,
    ) -> FetchReport {
        let Self { summary, first_error, remaining: left, folder_times, placed: arrived, .. } = self;
        let total = summary.total();
        let error = early.or_else(|| {
            first_error.map(|error| match total {
                1 => error,
                _ if error.is_closed_pipe() => error,
                _ => Error::SomeFailed { failed: summary.failed, total },
            })
        });
        // The same request can't succeed after a wrong usage, and the reader of a closed pipe wants no more.
        let wanted = error.as_ref().filter(|error| !error.is_closed_pipe() && error.kind() != ErrorKind::Usage);
        let rest = wanted.and_then(|_| {
            let names = match left {
                // A stream can't be continued in the middle: a retry sends everything again.
                _ if destination.is_stream() => request.names.clone(),
                RemainingNames::All => request.names.clone(),
                RemainingNames::Listed(left) if left.is_empty() => return None,
                RemainingNames::Listed(left) => left,
            };
            // Those of earlier attempts, too: a fetch may be retried several times.
            let mut kept = request.arrived.clone();
            if let FetchDestination::Folder(root) = &destination {
                let below = |(path, size): (PathBuf, u64)| {
                    Some(PlacedFile { path: path.strip_prefix(root).ok()?.to_owned(), size })
                };
                kept.extend(arrived.into_iter().filter_map(below));
            }
            Some(FetchRequest { names, destination, folder_times, arrived: kept, ..request.clone() })
        });
        FetchReport { summary, error, remaining: rest }
    }
}

impl FileReport {
    const fn unfetched(name: String, size: u64, outcome: FileOutcome) -> Self {
        Self { name, size, outcome, bytes_fetched: 0, bytes_resumed: 0, sources: Vec::new() }
    }

    /// Builds the report of a file that exists at the destination and isn't fetched.
    pub(super) const fn skipped(name: String, size: u64, path: PathBuf) -> Self {
        Self::unfetched(name, size, FileOutcome::Skipped(path))
    }
}
