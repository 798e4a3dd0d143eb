//! What became of the files: counts, the first error, and what to ask for again.

use std::path::PathBuf;

use shared::peer::FolderTime;

use super::{FailureReason, FetchEventHandler};
use crate::engine::fetch::{
    FetchDestination, FetchEvent, FetchReport, FetchRequest, FetchSummary, FileNo, FileOutcome, FileReport, PlacedFile,
    RequestedName,
};
use crate::engine::{Error, ErrorKind};

/// Sums up while files are settled.
#[derive(Debug, Default)]
pub(in crate::engine::fetch) struct FetchReportBuilder {
    summary: FetchSummary,
    first_error: Option<Error>,
    remaining: RemainingNames,
    /// Files that have a number in what is reported.
    next_file_no: FileNo,
    /// Of folders that are wanted as well.
    folder_times: Vec<FolderTime>,
    /// Files in place whose path some file systems take for that of others.
    placed: Vec<(PathBuf, u64)>,
}

/// What isn't there.
#[derive(Debug)]
enum RemainingNames {
    Listed(Vec<RequestedName>),
    /// More than can be told by names.
    All,
}

impl Default for RemainingNames {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl FetchReportBuilder {
    /// Of a fetch that ended before it was known what its names lead to.
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

    /// The number of one more file in what is reported.
    pub(super) const fn next_number(&mut self) -> FileNo {
        self.next_file_no += 1;
        self.next_file_no - 1
    }

    /// The error of the first file that failed.
    pub(super) const fn first_error(&self) -> Option<&Error> {
        self.first_error.as_ref()
    }

    /// So many folders with nothing in them are there.
    pub(super) const fn add_folders(&mut self, count: usize) {
        self.summary.folders += count;
    }

    /// Folders whose times are to be set when all is done, be it by a later attempt.
    pub(super) fn set_folder_times(&mut self, times: Vec<FolderTime>) {
        self.folder_times = times;
    }

    /// A file that is in place is not to give way to what a later attempt brings.
    pub(super) fn add_placed(&mut self, path: PathBuf, size: u64) {
        self.placed.push((path, size));
    }

    /// A file is settled; `again` says how to ask for it, should that be needed.
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
        if let FileOutcome::Failed(error) = told.outcome {
            self.first_error.get_or_insert(error);
        }
    }

    /// Something failed before anything of it was asked for.
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

    /// The whole fetch ended before anything of it was asked for.
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

    /// One that failed alone is the error, and so is a closed pipe; of several, how many. `early` is what ended it all.
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
        let wanted = error.as_ref().filter(|error| !error.is_closed_pipe() && error.kind() != ErrorKind::Usage);
        let rest = wanted.and_then(|_| {
            let names = match left {
                // What comes after it in the stream needs what came before.
                _ if destination.is_stream() => request.names.clone(),
                RemainingNames::All => request.names.clone(),
                RemainingNames::Listed(left) if left.is_empty() => return None,
                RemainingNames::Listed(left) => left,
            };
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

    /// It was there already.
    pub(super) const fn skipped(name: String, size: u64, path: PathBuf) -> Self {
        Self::unfetched(name, size, FileOutcome::Skipped(path))
    }
}
