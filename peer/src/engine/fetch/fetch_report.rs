//! The outcome of a fetch: of each file, and of all together.

use std::path::PathBuf;

use shared::{ContentHash, UserName};

use super::fetch_request::FetchRequest;
use crate::engine::Error;

/// The outcome of one file.
#[derive(Debug)]
pub struct FileReport {
    /// Its name at the source, or the requested text.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// True if its owner doesn't share it with everybody.
    pub restricted: bool,
    /// The final state of the file.
    pub outcome: FileOutcome,
    /// Verified bytes that came over the network.
    pub bytes_fetched: u64,
    /// Bytes kept from an earlier attempt.
    pub bytes_resumed: u64,
    /// The senders of its bytes, and those that were banned.
    pub sources: Vec<SourceReport>,
    /// The file that it is; `None` for a name that led to none.
    pub origin: Option<FetchedContent>,
}

/// The content of a fetched file, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedContent {
    /// The user under whose name it is shared.
    pub owner: UserName,
    /// Its content hash.
    pub hash: ContentHash,
}

/// The share of one source in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceReport {
    /// The source.
    pub user: UserName,
    /// Verified bytes that it sent.
    pub bytes: u64,
    /// True if the source was banned, for this or another file.
    pub banned: bool,
}

/// The final state of a file.
#[derive(Debug)]
pub enum FileOutcome {
    /// Placed under its own name.
    Done(PathBuf),
    /// Placed under another name, because its own was taken or refused.
    Renamed(PathBuf),
    /// Not placed: this path holds the same content, or something that must stay.
    Skipped(PathBuf),
    /// Written to standard output, a pipe or a device.
    Streamed,
    /// Not fetched, for a reason of its own.
    Failed(Error),
    /// Not fetched because the whole fetch ended early, with the fetch's error.
    Aborted(Error),
}

/// Counts over all files of a fetch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchSummary {
    /// Files placed under their own names or streamed.
    pub done: usize,
    /// Files placed under other names.
    pub renamed: usize,
    /// Files that were not fetched because something exists at their path.
    pub skipped: usize,
    /// Files that failed or were aborted, and names that led to no file.
    pub failed: usize,
    /// Empty folders of the request that exist now.
    pub folders: usize,
    /// Verified bytes that came over the network.
    pub bytes_fetched: u64,
    /// Bytes kept from earlier attempts.
    pub bytes_resumed: u64,
    /// The part of `bytes_fetched` that belongs to placed files; the rest is in partial files.
    pub placed_fetched: u64,
    /// The part of `bytes_resumed` that belongs to placed files.
    pub placed_resumed: u64,
}

/// The result of a whole fetch.
#[derive(Debug)]
pub struct FetchReport {
    /// Counts over all files.
    pub summary: FetchSummary,
    /// The cause that ended the fetch early, else the error of the only file,
    /// else [`Error::SomeFailed`] if some of several files failed.
    pub error: Option<Error>,
    /// The request that fetches the rest; `None` if nothing remains or a retry can't help.
    pub remaining: Option<FetchRequest>,
}

impl FetchSummary {
    /// Returns the number of all requested files, names that led to none included.
    pub const fn total(&self) -> usize {
        self.done + self.renamed + self.skipped + self.failed
    }
}
