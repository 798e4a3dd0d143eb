//! Fetching of files: resolves the requested names, plans the work, downloads groups over parallel streams, verifies
//! them one by one and puts whole files in place.
//!
//! ```text
//! names ─► targets ─► plan ◄──── work ────► downloader (a task per stream) ──groups──► writer (three threads)
//!                      ▲                                                              │ hash, write, rename
//!                      └──────────── session ◄──── driver ◄──────── events ───────────┘
//! ```
//!
//! The session and its plan are pure state machines; the driver owns tasks, links and the writer. No byte is written
//! before its hash is verified, and no file has its name before it is whole.
//!
//! | question | module |
//! |---|---|
//! | which files are meant | `name_resolution`, which asks by `source_listing` |
//! | where they go, and under which name | `destination` |
//! | who has them | `room_sources` asks the members of a room, `source_finder` finds them, `candidate_dials` orders their dials, `source_dialer` opens their links and asks for the groups that they have |
//! | who is asked for what next | `plan`; `session` decides about sources, files and rounds |
//! | how groups come | `downloader`, a task per stream; `link_traffic` detects stalls |
//! | how they reach the disk | `writer`, into a `partial_file` |
//! | what is told | `report_builder` |

mod candidate_dials;
mod destination;
mod downloader;
mod driver;
mod link_traffic;
mod name_resolution;
mod partial_file;
mod plan;
mod report_builder;
mod room_sources;
mod session;
mod source_dialer;
mod source_finder;
mod source_listing;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::peer::{FileStat, FolderTime, PeerErrorCode};
use shared::{FileName, UserName};
use tokio_util::sync::CancellationToken;

use self::driver::{FetchDriver, ResolvingPeers};
pub use self::link_traffic::Slowdown;
use self::name_resolution::ResolvedRequest;
#[doc(hidden)]
pub use self::plan::plan_bench;
use self::report_builder::FetchReportBuilder;
use self::room_sources::RoomSources;
pub use self::room_sources::{MemberFiles, list_room_files};
use self::source_dialer::SourceDialer;
pub(super) use self::source_listing::{SourceShares, list_files};
use super::{Error, LocalUser, ShareOrigin, run_blocking};
use crate::sys::path_text;

/// The names to fetch, their owner, and the destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRequest {
    /// The user, or the room, whose shared names these are.
    pub from: ShareOrigin,
    /// Names, folders and patterns, as the user asked for them.
    pub names: Vec<RequestedName>,
    /// The folder, file or stream that receives the content.
    pub destination: FetchDestination,
    /// The rule for names that exist at the destination.
    pub if_exists: IfExists,
    /// Parallel streams per source.
    pub streams: usize,
    /// The users who are asked for the same content besides the owner.
    pub sources: SourcePolicy,
    /// Bytes per second, over all sources; `None`: unlimited.
    pub limit: Option<u64>,
    /// The longest wait for a lost source before it is given up.
    #[serde(rename = "patience")]
    pub source_timeout: Duration,
    /// Modification times of folders that an earlier attempt made, by path below the destination; set at the end.
    #[serde(default)]
    pub folder_times: Vec<FolderTime>,
    /// Files that an earlier attempt put in place and whose paths some
    /// file systems confuse with missing ones: never replaced.
    #[serde(default)]
    pub arrived: Vec<PlacedFile>,
}

/// A file that a fetch put in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedFile {
    /// Its path below the destination.
    #[serde(with = "path_text")]
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

/// One entry of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedName {
    /// A name, a folder (`docs/`) or a pattern (`*.pdf`).
    pub text: String,
    /// Target path, relative to the destination. `None`: derived from `text`.
    pub local: Option<FileName>,
}

/// The users besides the owner that a fetch may use as sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourcePolicy {
    /// Everybody who shares the same content, found through the tracker.
    Everybody,
    /// Everybody, and these users whatever the tracker knows of them.
    Also(Vec<UserName>),
    /// These users and nobody else.
    Only(Vec<UserName>),
}

/// The destination of fetched files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchDestination {
    /// Files go into this folder.
    Folder(#[serde(with = "path_text")] PathBuf),
    /// A single file goes to exactly this path; several names, a pattern or a folder go into a folder of that path.
    FileOrFolder(#[serde(with = "path_text")] PathBuf),
    /// Files are written one after another to this pipe or device.
    Stream(#[serde(with = "path_text")] PathBuf),
    /// Files are written one after another to standard output.
    Stdout,
}

/// The rule for a file whose name exists at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum IfExists {
    /// Keep the existing file if it has the same content, else use another name.
    #[default]
    SkipSame,
    /// Keep whatever exists and don't fetch the file.
    Skip,
    /// Use another name.
    Rename,
    /// Replace an existing file.
    Overwrite,
    /// Fail the file.
    Fail,
}

/// The receiver of a fetch's events.
type FetchEventHandler<'a> = &'a mut (dyn FnMut(FetchEvent<'_>) + Send);

/// The number of a file in this fetch, in the order of [`FetchEvent::Resolved`].
pub type FileNo = usize;

/// An event of a fetch, for progress display.
#[derive(Debug)]
pub enum FetchEvent<'a> {
    /// The link to the owner is being opened.
    Connecting {
        /// The user or the room whose names are requested.
        from: &'a ShareOrigin,
    },
    /// A member of the room is connected who has some of the files.
    SourceConnected {
        /// The member.
        user: &'a UserName,
    },
    /// Members of the room share different files under one name; the newest is fetched.
    VersionChosen {
        /// The name.
        name: &'a FileName,
        /// The member whose file is fetched.
        owner: &'a UserName,
        /// The members who share another file.
        others: &'a [UserName],
    },
    /// Existing local data is being hashed, to be skipped or resumed.
    Checking {
        /// The resumed file; `None` for a file that may be skipped.
        file: Option<FileNo>,
        /// Its name at the source.
        name: &'a FileName,
        /// Its size in bytes.
        size: u64,
        /// Bytes hashed since the previous event of this file.
        bytes: u64,
    },
    /// All names are resolved and the targets planned.
    Resolved {
        /// Number of files that will be fetched.
        files: usize,
        /// Sum of their sizes.
        bytes: u64,
    },
    /// A partial file of an older version of the file was removed.
    OutdatedRemoved {
        /// Its name at the source.
        name: &'a FileName,
    },
    /// The first bytes of a file are being requested.
    Started {
        /// The started file.
        file: FileNo,
        /// The user under whose name it is shared.
        owner: &'a UserName,
        /// Its name at the source.
        name: &'a FileName,
        /// Its size in bytes.
        size: u64,
        /// Bytes kept from an earlier attempt, verified again.
        resumed: u64,
    },
    /// The partial file of a file with several groups is open; its verified groups can be shared from there.
    Opened {
        /// The opened file.
        file: FileNo,
        /// The owner's description.
        stat: &'a FileStat,
        /// Its future name at the destination.
        name: &'a str,
        /// The path of the partial file.
        partial_path: &'a Path,
    },
    /// No source has this version of the file any more. The owner is asked again; then the file restarts or fails. Its
    /// verified bytes don't count until then.
    Paused {
        /// The paused file.
        file: FileNo,
        /// Its verified bytes, which the display takes back.
        bytes: u64,
    },
    /// The owner has other content under this name; the file restarts with that.
    ContentChanged {
        /// Its name at the source.
        name: &'a FileName,
    },
    /// More bytes of a file were verified.
    Verified {
        /// The verified file.
        file: FileNo,
        /// Bytes verified since the previous event of this file.
        bytes: u64,
    },
    /// A file is settled.
    Finished {
        /// The file; `None` for a name that led to no file.
        file: Option<FileNo>,
        /// Its outcome and byte counts.
        report: &'a FileReport,
    },
    /// The fetch waits until the owner has hashed a file again.
    AwaitingRehash {
        /// The requested name.
        name: &'a str,
    },
    /// The fetch waits until a process reads from the destination pipe.
    AwaitingReader {
        /// The path of the pipe.
        path: &'a Path,
    },
    /// Another user has the same content and becomes a source.
    SourceJoined {
        /// The new source.
        user: &'a UserName,
    },
    /// A named user, or one who has the same content, can't be asked.
    SourceUnavailable {
        /// The unavailable user.
        user: &'a UserName,
        /// The reason, in words for the user.
        why: &'a str,
    },
    /// The link to a source is lost; it is dialled again.
    SourceLost {
        /// The lost source.
        user: &'a UserName,
        /// The reason, in words for the user.
        why: &'a str,
    },
    /// A source is there and sends nothing, as when its disk hangs; it is called again.
    Silent {
        /// The silent source.
        user: &'a UserName,
        /// Time in which next to nothing came.
        time: Duration,
    },
    /// A source that was fast sends at a crawl; others are looked for, unless the user named those that may be asked.
    Slow {
        /// The slow source.
        user: &'a UserName,
        /// Its rates.
        slowdown: Slowdown,
        /// True if other sources are looked for.
        seeks: bool,
    },
    /// A source that was gone is back.
    SourceReturned {
        /// The returned source.
        user: &'a UserName,
    },
    /// A source sent something provably false and is not asked again.
    SourceBanned {
        /// The banned source.
        user: &'a UserName,
        /// The misbehaviour, in words for the user.
        why: &'a str,
    },
    /// Two names differ only by case or normal form: some systems can't hold both.
    CollidingNames {
        /// The earlier of the two.
        one: &'a str,
        /// The later one.
        other: &'a str,
    },
}

/// The outcome of one file.
#[derive(Debug)]
pub struct FileReport {
    /// Its name at the source, or the requested text.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// The final state of the file.
    pub outcome: FileOutcome,
    /// Verified bytes that came over the network.
    pub bytes_fetched: u64,
    /// Bytes kept from an earlier attempt.
    pub bytes_resumed: u64,
    /// The senders of its bytes, and those that were banned.
    pub sources: Vec<SourceReport>,
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

/// The longest wait for a file that its owner is hashing again.
const REHASH_TIMEOUT: Duration = Duration::from_secs(20);

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

impl FetchDestination {
    /// True if bytes go there in order and no file is kept.
    pub const fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Stdout)
    }
}

impl RequestedName {
    /// Builds an entry from the text that the user typed, without a target path of its own.
    pub fn for_text(text: impl Into<String>) -> Self {
        Self { text: text.into(), local: None }
    }
}

impl FetchSummary {
    /// Returns the number of all requested files, names that led to none included.
    pub const fn total(&self) -> usize {
        self.done + self.renamed + self.skipped + self.failed
    }
}

/// Fetches the request. Every known file gets a [`FileReport`], or every name if none is known; the failure of one file
/// doesn't stop the others.
pub async fn fetch(
    me: &LocalUser,
    request: &FetchRequest,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
    cancel: &CancellationToken,
) -> FetchReport {
    if request.from.user() == Some(&me.user) {
        let error = Error::Usage(format!("{} is you: nothing to fetch from yourself", me.user));
        return FetchReportBuilder::abort_before_start(request, error, report);
    }
    report(FetchEvent::Connecting { from: &request.from });
    let dialer = match SourceDialer::new(me, request.limit) {
        Ok(dialer) => dialer,
        Err(error) => return FetchReportBuilder::abort_before_start(request, error, report),
    };
    let ended = tokio::select! {
        // Boxed: the future is large, and every caller's future would contain it.
        ended = Box::pin(resolve_and_fetch(&dialer, request, report, cancel)) => ended,
        // Never completes; it is polled as long as the fetch runs, and dropped with it.
        never = source_dialer::watch_chat_activity(&dialer) => match never {},
    };
    let interrupted = matches!(ended.error, Some(Error::Interrupted));
    // One place for all outcomes: links must not outlive the
    // fetch, and the code tells the sources why they end.
    dialer.close_all(if interrupted { PeerErrorCode::Cancelled } else { PeerErrorCode::Done }).await;
    ended
}

async fn resolve_and_fetch(
    dialer: &SourceDialer,
    request: &FetchRequest,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
    cancel: &CancellationToken,
) -> FetchReport {
    let resolving = async {
        let owner = match &request.from {
            ShareOrigin::User(owner) => owner,
            ShareOrigin::Room(room) => {
                let RoomSources { room, links, resolved } =
                    room_sources::connect_room(dialer, room, &request.names, report).await?;
                return Ok((ResolvingPeers { room: Some(room), links, unreachable: None }, resolved));
            }
        };
        match dialer.connect(owner).await {
            Ok(link) => {
                let shares = SourceShares { link: &link, room: None };
                let resolved = name_resolution::resolve_names(shares, &request.names, REHASH_TIMEOUT, report).await?;
                Ok((ResolvingPeers { links: vec![link], ..ResolvingPeers::default() }, resolved))
            }
            // Other sources can replace an owner who can't be reached, if an earlier attempt left the file's
            // hash. Every other error, such as a changed key, ends the fetch below.
            Err(error @ (Error::Offline(_) | Error::Link { .. })) => {
                let (of, whose) = (request.clone(), owner.clone());
                let Some(wanted) = run_blocking(move || Ok(partial_file::file_from_state(&of, &whose))).await? else {
                    return Err(error);
                };
                report(FetchEvent::SourceUnavailable { user: owner, why: &error.to_string() });
                Ok((
                    ResolvingPeers { unreachable: Some(error), ..ResolvingPeers::default() },
                    ResolvedRequest { files: vec![wanted], is_one_file: true, ..ResolvedRequest::default() },
                ))
            }
            Err(error) => Err(error),
        }
    };
    let resolved = tokio::select! {
        () = cancel.cancelled() => Err(Error::Interrupted),
        resolved = resolving => resolved,
    };
    match resolved {
        // From here on the driver observes `cancel` itself, since it must settle the files that it began.
        Ok((peers, resolved)) => FetchDriver::new(dialer, peers, request, report, cancel).run(resolved).await,
        Err(error) => FetchReportBuilder::abort_before_start(request, error, report),
    }
}
