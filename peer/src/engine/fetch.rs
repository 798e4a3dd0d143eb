//! Fetching files: what is wanted is resolved, planned, pulled over parallel streams, verified group by group, and put
//! in place.
//!
//! ```text
//! resolve ─► destination ─► plan ◄──── work ────► puller (a task a stream) ──groups──► writer (a thread)
//!                            ▲                                                          │ hash, pwrite, rename
//!                            └──────────────── coordinator ◄────────── outcomes ────────┘
//! ```
//!
//! The plan is pure. Nothing is written before its hash is right, and nothing has its name before it is whole.

mod arrivals;
mod before;
mod collisions;
mod coordinator;
mod courtesy;
mod destination;
mod naming;
mod partial;
mod parts;
mod plan;
mod puller;
mod pulse;
mod resolve;
mod seeker;
mod slowdown;
mod sources;
mod tree;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::peer::{Code, FileStat, FolderTime};
use shared::{FileName, UserName};
use tokio_util::sync::CancellationToken;

use self::coordinator::{Account, Coordinator};
#[doc(hidden)]
pub use self::plan::bench;
use self::resolve::Resolved;
pub(super) use self::resolve::list;
pub use self::slowdown::Slowdown;
use self::sources::Caller;
use super::{Error, Me, blocking};
use crate::sys::path_text;

/// What to fetch, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Whose names they are.
    pub from: UserName,
    /// What is wanted.
    pub names: Vec<Asked>,
    /// Where to.
    pub destination: Destination,
    /// What to do where something is already.
    pub if_exists: IfExists,
    /// Streams that pull at once from each source.
    pub streams: usize,
    /// Who else is asked for the same content.
    pub sources: Sources,
    /// Bytes a second, from all sources together.
    pub limit: Option<u64>,
    /// How long sources that are gone are waited for.
    pub patience: Duration,
    /// The times of folders that an earlier attempt made, by their paths below the destination: they are set at the end.
    #[serde(default)]
    pub folder_times: Vec<FolderTime>,
    /// Files that an earlier attempt put in place and that some file systems take for what is missing: they stay.
    #[serde(default)]
    pub arrived: Vec<ArrivedFile>,
}

/// A file that was put in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrivedFile {
    /// Its path below the destination.
    #[serde(with = "path_text")]
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
}

/// Something that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// A name, a folder (`docs/`) or a pattern (`*.pdf`).
    pub text: String,
    /// Where below the destination the file of that name goes; from what it is asked for with, when there is nothing here.
    pub local: Option<FileName>,
}

/// Who is asked beside the one whose names they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sources {
    /// Everybody who shares the same content.
    Everybody,
    /// These as well as everybody.
    Also(Vec<UserName>),
    /// Nobody but these.
    Only(Vec<UserName>),
}

/// Where fetched files go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// Into this folder.
    Folder(#[serde(with = "path_text")] PathBuf),
    /// The file of one name to exactly this path; several names, a pattern or a folder into a folder of that path.
    FileOrFolder(#[serde(with = "path_text")] PathBuf),
    /// One after another into this pipe or device.
    Stream(#[serde(with = "path_text")] PathBuf),
    /// One after another to standard output.
    Stdout,
}

/// What to do where the destination exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum IfExists {
    /// Leave it when the content is the same, else take another name.
    #[default]
    SkipSame,
    /// Leave it, whatever it is.
    Skip,
    /// Take another name.
    Rename,
    /// Take its place.
    Overwrite,
    /// Don't fetch.
    Fail,
}

/// A file of this fetch, by its place in the order of [`FetchEvent::Resolved`].
pub type FileNo = usize;

/// What happens during a fetch.
#[derive(Debug)]
pub enum FetchEvent<'a> {
    /// The link is being made.
    Connecting {
        /// To whom.
        user: &'a UserName,
    },
    /// What is there already is hashed, to be left or resumed.
    Checking {
        /// Which, of those that are resumed.
        file: Option<FileNo>,
        /// Its name at the source.
        name: &'a FileName,
        /// Its bytes.
        size: u64,
        /// How many further ones were hashed.
        bytes: u64,
    },
    /// What is to be fetched is known.
    Resolved {
        /// How many files.
        files: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// What an earlier attempt left of a file was of another version of it, and is removed.
    Outdated {
        /// Its name at the source.
        name: &'a FileName,
    },
    /// A file's first bytes are being asked for.
    Started {
        /// Which.
        file: FileNo,
        /// Its name at the source.
        name: &'a FileName,
        /// Its bytes.
        size: u64,
        /// Bytes that were there already from an earlier attempt, verified again.
        resumed: u64,
    },
    /// A file of several groups is being put together there, and can be offered from there as far as it is.
    Opened {
        /// Which.
        file: FileNo,
        /// As its source describes it.
        stat: &'a FileStat,
        /// The name it will have here.
        name: &'a str,
        /// Where its part lies.
        part: &'a Path,
    },
    /// Nobody has it any more as it was: its source is asked about it again, and then it either starts again or is
    /// finished as a name that led to no file. What was verified of it doesn't count until then.
    Paused {
        /// Which.
        file: FileNo,
        /// Bytes of it that were verified.
        bytes: u64,
    },
    /// It has another content at its source by now, and starts again with that.
    Changed {
        /// Its name at the source.
        name: &'a FileName,
    },
    /// Further bytes of it were verified.
    Verified {
        /// Which.
        file: FileNo,
        /// How many.
        bytes: u64,
    },
    /// It is settled.
    Finished {
        /// Which; none for a name that led to no file.
        file: Option<FileNo>,
        /// How.
        report: &'a Report,
    },
    /// Nothing moves until the source has hashed a file again.
    Waiting {
        /// What was asked for.
        name: &'a str,
    },
    /// Nothing moves until somebody reads from the pipe that it goes to.
    AwaitsReader {
        /// The pipe.
        path: &'a Path,
    },
    /// Somebody else has the same content and is asked as well.
    Joined {
        /// Who.
        user: &'a UserName,
    },
    /// Somebody who was named, or has the same content, can't be asked.
    NotAsked {
        /// Who.
        user: &'a UserName,
        /// Why.
        why: &'a str,
    },
    /// A source is gone; it is called again.
    Lost {
        /// Who.
        user: &'a UserName,
        /// Why.
        why: &'a str,
    },
    /// A source is there and sends nothing, as when its disk hangs; it is called again.
    Silent {
        /// Who.
        user: &'a UserName,
        /// Time in which nothing to speak of came.
        time: Duration,
    },
    /// A source that was fast sends at a crawl; others are looked for, unless the user named those that may be asked.
    Slow {
        /// Who.
        user: &'a UserName,
        /// Its rates.
        slowdown: Slowdown,
        /// Whether others are looked for.
        seeks: bool,
    },
    /// A source that was gone is back.
    Back {
        /// Who.
        user: &'a UserName,
    },
    /// A source told a lie and is asked no more.
    Banned {
        /// Who.
        user: &'a UserName,
        /// What it did.
        why: &'a str,
    },
    /// Two names differ only by case or normal form: on some systems one would take the other's place.
    Alike {
        /// One of them.
        one: &'a str,
        /// The other.
        other: &'a str,
    },
}

/// What became of one file.
#[derive(Debug)]
pub struct Report {
    /// Its name at the source, or what was asked for.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// How it ended.
    pub status: Status,
    /// Bytes that came over the network and were right.
    pub bytes_fetched: u64,
    /// Bytes that were there already from an earlier attempt.
    pub bytes_resumed: u64,
    /// Who sent what.
    pub sources: Vec<SourceReport>,
}

/// What one source sent of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceReport {
    /// Who.
    pub user: UserName,
    /// Bytes of it that were right.
    pub bytes: u64,
    /// Whether it told a lie, about this or another file.
    pub banned: bool,
}

/// How a file ended.
#[derive(Debug)]
pub enum Status {
    /// It is there under its own name.
    Done(PathBuf),
    /// It is there under another name, because its own was taken.
    Renamed(PathBuf),
    /// It was there already.
    Skipped(PathBuf),
    /// It went to standard output.
    Streamed,
    /// It is not there.
    Failed(Error),
    /// It is not there, because the whole fetch ended before: this is that one's error.
    BrokenOff(Error),
}

/// What became of all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Fetched, under their own names.
    pub done: usize,
    /// Fetched, under other names.
    pub renamed: usize,
    /// There already.
    pub skipped: usize,
    /// Not there.
    pub failed: usize,
    /// Folders with nothing in them that are there.
    pub folders: usize,
    /// Bytes that came over the network and were right.
    pub bytes_fetched: u64,
    /// Bytes that were there already from earlier attempts.
    pub bytes_resumed: u64,
    /// Of the bytes that came over the network, those of files that are there; the others are of parts.
    pub placed_fetched: u64,
    /// The same of those that were there already.
    pub placed_resumed: u64,
}

/// How long a file that is being hashed again by its owner is waited for.
const STALE_PATIENCE: Duration = Duration::from_secs(20);

/// How a fetch ended.
#[derive(Debug)]
pub struct Ended {
    /// What became of the files.
    pub summary: Summary,
    /// What went wrong: what ended all of it early, else the error itself of a file that was alone, else
    /// [`Error::Partial`] when some of several failed.
    pub error: Option<Error>,
    /// What fetches the rest, if there is one.
    pub rest: Option<Request>,
}

impl Destination {
    /// Tells whether bytes go there in order, and no file is kept.
    pub const fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Stdout)
    }
}

impl Asked {
    /// As the user typed it.
    pub fn for_text(text: impl Into<String>) -> Self {
        Self { text: text.into(), local: None }
    }
}

impl Summary {
    /// All files that were to be fetched, and names that led to none.
    pub const fn total(&self) -> usize {
        self.done + self.renamed + self.skipped + self.failed
    }
}

/// Fetches. Every file that is known of is settled with a [`Report`], and so is every name when none is; what goes wrong
/// with one doesn't stop the others.
pub async fn fetch(
    me: &Me,
    request: &Request,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
    cancel: &CancellationToken,
) -> Ended {
    if request.from == me.user {
        let error = Error::Usage(format!("{} is you: nothing to fetch from yourself", me.user));
        return Account::never_begun(request, error, report);
    }
    report(FetchEvent::Connecting { user: &request.from });
    let caller = match Caller::new(me, request.limit) {
        Ok(caller) => caller,
        Err(error) => return Account::never_begun(request, error, report),
    };
    let ended = tokio::select! {
        // Too large to lie in whatever waits for it.
        ended = Box::pin(fetch_through(&caller, request, report, cancel)) => ended,
        never = courtesy::heed(me, &caller) => match never {},
    };
    let interrupted = matches!(ended.error, Some(Error::Interrupted));
    caller.hang_up(if interrupted { Code::Cancelled } else { Code::Done }).await;
    ended
}

async fn fetch_through(
    caller: &Caller,
    request: &Request,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
    cancel: &CancellationToken,
) -> Ended {
    let resolving = async {
        match caller.call(&request.from).await {
            Ok(link) => {
                let resolved = resolve::resolve(&link, &request.names, STALE_PATIENCE, report).await?;
                Ok((Ok(link), resolved))
            }
            Err(error @ (Error::Offline(_) | Error::Link { .. })) => {
                let of = request.clone();
                let Some(wanted) = blocking(move || Ok(before::known_before(&of))).await? else { return Err(error) };
                report(FetchEvent::NotAsked { user: &request.from, why: &error.to_string() });
                Ok((Err(error), Resolved { wanted: vec![wanted], is_one_file: true, ..Resolved::default() }))
            }
            Err(error) => Err(error),
        }
    };
    let resolved = tokio::select! {
        () = cancel.cancelled() => Err(Error::Interrupted),
        resolved = resolving => resolved,
    };
    match resolved {
        Ok((link, resolved)) => Coordinator::new(caller, link, request, resolved).run(report, cancel).await,
        Err(error) => Account::never_begun(request, error, report),
    }
}
