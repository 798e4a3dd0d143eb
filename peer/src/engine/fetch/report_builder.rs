//! Report of a fetch: events for the display, counts, the first error, and the names to ask for again.

use std::path::PathBuf;

use shared::UserName;
use shared::peer::{FileStat, FolderTime};

use super::destination::FileTarget;
use super::writer::{EarlierRounds, FileJob};
use super::{
    FetchDestination, FetchEvent, FetchEventHandler, FetchReport, FetchRequest, FetchSummary, FetchedContent, FileNo,
    FileOutcome, FileReport, PlacedFile, RequestedName,
};
use crate::engine::{Error, ErrorKind};

/// The one account of a fetch: every event and every settled file passes it.
pub(super) struct FetchReportBuilder<'a> {
    events: FetchEventHandler<'a>,
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

/// A cloneable error: one cause can fail several files.
#[derive(Debug, Clone)]
pub(super) struct FailureReason {
    pub(super) kind: ErrorKind,
    message: String,
    /// The owner has other content under the name, or none.
    pub(super) is_content_changed: bool,
}

impl<'a> FetchReportBuilder<'a> {
    pub(super) fn new(events: FetchEventHandler<'a>) -> Self {
        Self {
            events,
            summary: FetchSummary::default(),
            first_error: None,
            remaining: RemainingNames::Listed(Vec::new()),
            next_file_no: 0,
            folder_times: Vec::new(),
            placed: Vec::new(),
        }
    }

    /// Builds the report of a fetch that ended before its names were resolved: every name is aborted.
    pub(super) fn abort_before_start(
        request: &FetchRequest,
        error: Error,
        events: FetchEventHandler<'a>,
    ) -> FetchReport {
        let mut report = Self::new(events);
        for RequestedName { text, .. } in &request.names {
            report.abort(text.clone(), 0, None, &error);
        }
        report.build(request, request.destination.clone(), Some(error))
    }

    /// Passes an event on to the display.
    pub(super) fn tell(&mut self, event: FetchEvent<'_>) {
        (self.events)(event);
    }

    /// Returns the receiver of the events.
    pub(super) fn events(&mut self) -> FetchEventHandler<'_> {
        self.events
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
        settled: FileReport,
        again: impl FnOnce() -> Option<RequestedName>,
    ) {
        let summary = &mut self.summary;
        summary.bytes_fetched += settled.bytes_fetched;
        summary.bytes_resumed += settled.bytes_resumed;
        match &settled.outcome {
            FileOutcome::Done(_) | FileOutcome::Streamed | FileOutcome::Renamed(_) => {
                let is_renamed = matches!(settled.outcome, FileOutcome::Renamed(_));
                *if is_renamed { &mut summary.renamed } else { &mut summary.done } += 1;
                summary.placed_fetched += settled.bytes_fetched;
                summary.placed_resumed += settled.bytes_resumed;
            }
            FileOutcome::Skipped(_) => summary.skipped += 1,
            FileOutcome::Failed(_) | FileOutcome::Aborted(_) => {
                summary.failed += 1;
                match (again(), &mut self.remaining) {
                    (Some(name), RemainingNames::Listed(names)) => names.push(name),
                    (None, remaining) => *remaining = RemainingNames::All,
                    (Some(_), RemainingNames::All) => {}
                }
            }
        }
        (self.events)(FetchEvent::Finished { file, report: &settled });
        // After the event, which borrows the report; an aborted file only repeats the error of the fetch.
        if let FileOutcome::Failed(error) = settled.outcome {
            self.first_error.get_or_insert(error);
        }
    }

    /// Fails a name or file of which nothing was requested yet.
    pub(super) fn fail(&mut self, name: String, size: u64, again: Option<RequestedName>, error: Error) {
        self.settle(None, FileReport::unfetched(name, size, FileOutcome::Failed(error)), || again);
    }

    /// Aborts a name or file of which nothing was requested when the whole fetch ended.
    pub(super) fn abort(&mut self, name: String, size: u64, again: Option<RequestedName>, error: &Error) {
        let outcome = FileOutcome::Aborted(FailureReason::of(error).into_error());
        self.settle(None, FileReport::unfetched(name, size, outcome), || again);
    }

    /// Settles the file of a job with the bytes and sources that it has so far.
    pub(super) fn settle_job(&mut self, job: &FileJob, so_far: EarlierRounds, outcome: FileOutcome) {
        // A placed file whose path the file system may confuse with that of a file still to come.
        if let FileOutcome::Done(path) | FileOutcome::Renamed(path) | FileOutcome::Skipped(path) = &outcome
            && job.target.as_ref().is_some_and(FileTarget::collides)
        {
            self.add_placed(path.clone(), job.layout.size());
        }
        let EarlierRounds { fetched, resumed, sources } = so_far;
        let settled = FileReport {
            name: job.stat.name.as_str().to_owned(),
            size: job.layout.size(),
            restricted: job.stat.restricted,
            outcome,
            bytes_fetched: fetched,
            bytes_resumed: resumed.unwrap_or(0),
            sources,
            origin: Some(FetchedContent { owner: job.owner.clone(), hash: job.stat.hash }),
        };
        self.settle(Some(job.reported_no), settled, || retry_name_of_job(job));
    }

    /// Fails the file of a job that isn't part of a running round; aborts it after an interruption.
    pub(super) fn fail_job(&mut self, job: &FileJob, error: Error) {
        let outcome = match error {
            Error::Interrupted => FileOutcome::Aborted(error),
            error => FileOutcome::Failed(error),
        };
        self.settle_job(job, job.earlier_rounds.clone(), outcome);
    }

    /// Aborts the files of jobs that were not begun when the whole fetch ended.
    pub(super) fn abort_jobs(&mut self, jobs: &[FileJob], error: &Error) {
        for job in jobs {
            let outcome = FileOutcome::Aborted(FailureReason::of(error).into_error());
            self.settle_job(job, job.earlier_rounds.clone(), outcome);
        }
    }

    /// Builds the report. The error is `early`, which ended the fetch, else that of the only file or of a closed pipe,
    /// else the number of failed files.
    pub(super) fn build(
        self,
        request: &FetchRequest,
        destination: FetchDestination,
        early: Option<Error>,
    ) -> FetchReport {
        let Self { summary, first_error, remaining, folder_times, placed, .. } = self;
        let total = summary.total();
        let error = early.or_else(|| {
            first_error.map(|error| match total {
                1 => error,
                _ if error.is_closed_pipe() => error,
                _ => Error::SomeFailed { failed: summary.failed, total },
            })
        });
        // The same request can't succeed after a wrong usage, and the reader of a closed pipe wants no more.
        let can_retry = error.as_ref().is_some_and(|error| !error.is_closed_pipe() && error.kind() != ErrorKind::Usage);
        let names = match remaining {
            // A stream can't be continued in the middle: a retry sends everything again.
            _ if destination.is_stream() => request.names.clone(),
            RemainingNames::All => request.names.clone(),
            RemainingNames::Listed(names) => names,
        };
        let remaining = (can_retry && !names.is_empty()).then(|| {
            // Those of earlier attempts, too: a fetch may be retried several times.
            let mut arrived = request.arrived.clone();
            if let FetchDestination::Folder(root) = &destination {
                let below = |(path, size): (PathBuf, u64)| {
                    Some(PlacedFile { path: path.strip_prefix(root).ok()?.to_owned(), size })
                };
                arrived.extend(placed.into_iter().filter_map(below));
            }
            FetchRequest { names, destination, folder_times, arrived, ..request.clone() }
        });
        FetchReport { summary, error, remaining }
    }
}

impl FileReport {
    const fn unfetched(name: String, size: u64, outcome: FileOutcome) -> Self {
        Self {
            name,
            size,
            restricted: false,
            outcome,
            bytes_fetched: 0,
            bytes_resumed: 0,
            sources: Vec::new(),
            origin: None,
        }
    }

    /// Builds the report of a file of `owner` that exists at the destination and isn't fetched.
    pub(super) fn skipped(stat: &FileStat, path: PathBuf, owner: UserName) -> Self {
        let name = stat.name.as_str().to_owned();
        let origin = Some(FetchedContent { owner, hash: stat.hash });
        Self { restricted: stat.restricted, origin, ..Self::unfetched(name, stat.size, FileOutcome::Skipped(path)) }
    }
}

impl FailureReason {
    pub(super) fn of(error: &Error) -> Self {
        Self { kind: error.kind(), message: error.to_string(), is_content_changed: false }
    }

    pub(super) fn into_error(self) -> Error {
        Error::Relayed { kind: self.kind, message: self.message }
    }
}

/// Builds the request entry for exactly this file and target; `None` for a stream, which has no target.
fn retry_name_of_job(job: &FileJob) -> Option<RequestedName> {
    Some(RequestedName { text: job.stat.name.as_str().to_owned(), local: job.target.as_ref()?.local() })
}
