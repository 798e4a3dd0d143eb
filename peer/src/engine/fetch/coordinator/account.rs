//! What became of the files: counts, the first error, and what to ask for again.

use std::path::PathBuf;

use shared::peer::FolderTime;

use super::{Reporter, Trouble};
use crate::engine::fetch::{
    ArrivedFile, Asked, Destination, Ended, FetchEvent, FileNo, Report, Request, Status, Summary,
};
use crate::engine::{Error, ErrorKind};

/// Sums up while files are settled.
#[derive(Debug, Default)]
pub(in crate::engine::fetch) struct Account {
    summary: Summary,
    first_error: Option<Error>,
    left: Left,
    /// Files that have a number in what is reported.
    numbered: FileNo,
    /// Of folders that are wanted as well.
    folder_times: Vec<FolderTime>,
    /// Files in place whose path some file systems take for that of others.
    arrived: Vec<(PathBuf, u64)>,
}

/// What isn't there.
#[derive(Debug)]
enum Left {
    These(Vec<Asked>),
    /// More than can be told by names.
    All,
}

impl Default for Left {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl Account {
    /// Of a fetch that ended before it was known what its names lead to.
    pub(in crate::engine::fetch) fn never_begun(request: &Request, error: Error, report: Reporter<'_>) -> Ended {
        let mut account = Self::default();
        for Asked { text, .. } in &request.names {
            account.break_off(text.clone(), 0, None, &error, report);
        }
        account.conclude(request, request.destination.clone(), Some(error))
    }

    /// The number of one more file in what is reported.
    pub(super) const fn next_number(&mut self) -> FileNo {
        self.numbered += 1;
        self.numbered - 1
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
    pub(super) fn remember_times(&mut self, times: Vec<FolderTime>) {
        self.folder_times = times;
    }

    /// A file that is in place is not to give way to what a later attempt brings.
    pub(super) fn remember_arrival(&mut self, path: PathBuf, size: u64) {
        self.arrived.push((path, size));
    }

    /// A file is settled; `again` says how to ask for it, should that be needed.
    pub(super) fn settle(
        &mut self,
        file: Option<FileNo>,
        told: Report,
        again: impl FnOnce() -> Option<Asked>,
        report: Reporter<'_>,
    ) {
        let summary = &mut self.summary;
        summary.bytes_fetched += told.bytes_fetched;
        summary.bytes_resumed += told.bytes_resumed;
        match &told.status {
            Status::Done(_) | Status::Streamed | Status::Renamed(_) => {
                let is_renamed = matches!(told.status, Status::Renamed(_));
                *if is_renamed { &mut summary.renamed } else { &mut summary.done } += 1;
                summary.placed_fetched += told.bytes_fetched;
                summary.placed_resumed += told.bytes_resumed;
            }
            Status::Skipped(_) => summary.skipped += 1,
            Status::Failed(_) | Status::BrokenOff(_) => {
                summary.failed += 1;
                match (again(), &mut self.left) {
                    (Some(asked), Left::These(left)) => left.push(asked),
                    (None, left) => *left = Left::All,
                    (Some(_), Left::All) => {}
                }
            }
        }
        report(FetchEvent::Finished { file, report: &told });
        if let Status::Failed(error) = told.status {
            self.first_error.get_or_insert(error);
        }
    }

    /// Something failed before anything of it was asked for.
    pub(super) fn fail(&mut self, name: String, size: u64, again: Option<Asked>, error: Error, report: Reporter<'_>) {
        self.settle(None, Report::unfetched(name, size, Status::Failed(error)), || again, report);
    }

    /// The whole fetch ended before anything of it was asked for.
    pub(super) fn break_off(
        &mut self,
        name: String,
        size: u64,
        again: Option<Asked>,
        error: &Error,
        report: Reporter<'_>,
    ) {
        let status = Status::BrokenOff(Trouble::of(error).into_error());
        self.settle(None, Report::unfetched(name, size, status), || again, report);
    }

    /// One that failed alone is the error, and so is a closed pipe; of several, how many. `early` is what ended it all.
    pub(super) fn conclude(self, request: &Request, destination: Destination, early: Option<Error>) -> Ended {
        let Self { summary, first_error, left, folder_times, arrived, .. } = self;
        let total = summary.total();
        let error = early.or_else(|| {
            first_error.map(|error| match total {
                1 => error,
                _ if error.is_closed_pipe() => error,
                _ => Error::Partial { failed: summary.failed, total },
            })
        });
        let wanted = error.as_ref().filter(|error| !error.is_closed_pipe() && error.kind() != ErrorKind::Usage);
        let rest = wanted.and_then(|_| {
            let names = match left {
                // What comes after it in the stream needs what came before.
                _ if destination.is_stream() => request.names.clone(),
                Left::All => request.names.clone(),
                Left::These(left) if left.is_empty() => return None,
                Left::These(left) => left,
            };
            let mut kept = request.arrived.clone();
            if let Destination::Folder(root) = &destination {
                let below = |(path, size): (PathBuf, u64)| {
                    Some(ArrivedFile { path: path.strip_prefix(root).ok()?.to_owned(), size })
                };
                kept.extend(arrived.into_iter().filter_map(below));
            }
            Some(Request { names, destination, folder_times, arrived: kept, ..request.clone() })
        });
        Ended { summary, error, rest }
    }
}

impl Report {
    const fn unfetched(name: String, size: u64, status: Status) -> Self {
        Self { name, size, status, bytes_fetched: 0, bytes_resumed: 0, sources: Vec::new() }
    }

    /// It was there already.
    pub(super) const fn skipped(name: String, size: u64, path: PathBuf) -> Self {
        Self::unfetched(name, size, Status::Skipped(path))
    }
}
