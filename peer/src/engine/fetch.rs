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
//! | which files are meant | `name_resolution`, which asks the source for its lists |
//! | where they go, and under which name | `destination` |
//! | who has them | `sources` finds them, opens their links and asks for the groups that they have |
//! | who is asked for what next | `plan`; `session` decides about sources, files and rounds |
//! | how groups come | `downloader`, a task per stream; `stall_detector` gives up links that stall, `slowdown_detector` tells of slow sources, `chat_priority` slows bulk data beside a chat; `parallel_links` opens further links where they pay |
//! | how they reach the disk | `writer`, into a `partial_file` |
//! | what is asked for, told meanwhile, and reported | `fetch_request`, `fetch_event`, `fetch_report`, made by `report_builder` |

mod chat_priority;
mod destination;
mod downloader;
mod driver;
mod fetch_event;
mod fetch_report;
mod fetch_request;
mod name_resolution;
mod parallel_links;
mod partial_file;
mod plan;
mod report_builder;
mod session;
mod slowdown_detector;
mod sources;
mod stall_detector;
#[doc(hidden)]
pub mod transfer_bench;
mod writer;

use std::time::Duration;

use localization::tr;
use shared::FileName;
use shared::peer::{FileStat, PeerErrorCode};
use tokio_util::sync::CancellationToken;

use self::driver::{FetchDriver, ResolvingPeers};
use self::fetch_event::FetchEventHandler;
pub use self::fetch_event::{FetchEvent, FileNo};
pub use self::fetch_report::{FetchReport, FetchSummary, FetchedContent, FileOutcome, FileReport, SourceReport};
pub use self::fetch_request::{FetchDestination, FetchRequest, IfExists, PlacedFile, RequestedName, SourcePolicy};
pub(super) use self::name_resolution::source_listing::{SourceShares, find_removed, list_files, list_folders};
use self::name_resolution::{ResolvedRequest, expected_files, resolved_file};
#[doc(hidden)]
pub use self::plan::plan_bench;
use self::report_builder::FetchReportBuilder;
pub use self::slowdown_detector::Slowdown;
pub use self::sources::{MemberFiles, list_room_files};
use self::sources::{RoomSources, SourceDialer};
use super::{Error, LocalUser, run_blocking};
use crate::profile::ConversationName;

/// The longest wait for a file that its owner is hashing again.
const REHASH_TIMEOUT: Duration = Duration::from_secs(20);

/// A file as its owner listed it, and its path below the destination.
#[derive(Debug, Clone)]
pub(super) struct ListedFile {
    /// The owner's description.
    pub(super) stat: FileStat,
    /// Its path below the destination.
    pub(super) local: FileName,
}

/// Fetches the request. Every known file gets a [`FileReport`], or every name if none is known; the failure of one file
/// doesn't stop the others.
pub async fn fetch(
    me: &LocalUser,
    request: &FetchRequest,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
    cancel: &CancellationToken,
) -> FetchReport {
    fetch_named_or_listed(me, request, None, report, cancel).await
}

/// Fetches files that a user listed a moment ago, without asking for the request's names.
pub(super) async fn fetch_listed(
    me: &LocalUser,
    request: &FetchRequest,
    files: Vec<ListedFile>,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
    cancel: &CancellationToken,
) -> FetchReport {
    fetch_named_or_listed(me, request, Some(files), report, cancel).await
}

async fn fetch_named_or_listed(
    me: &LocalUser,
    request: &FetchRequest,
    listed: Option<Vec<ListedFile>>,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
    cancel: &CancellationToken,
) -> FetchReport {
    if request.from.person() == Some(&me.user) {
        let error = Error::Usage(tr!("{user} is you: nothing to fetch from yourself", user = me.user));
        return FetchReportBuilder::abort_before_start(request, error, report);
    }
    report(FetchEvent::Connecting { from: &request.from });
    let dialer = match SourceDialer::new(me, request.limit) {
        Ok(dialer) => dialer,
        Err(error) => return FetchReportBuilder::abort_before_start(request, error, report),
    };
    let ended = tokio::select! {
        // Boxed: the future is large, and every caller's future would contain it.
        ended = Box::pin(resolve_and_fetch(&dialer, request, listed, report, cancel)) => ended,
        // Never completes; it is polled as long as the fetch runs, and dropped with it.
        never = sources::watch_chat_activity(&dialer) => match never {},
    };
    let interrupted = matches!(ended.error, Some(Error::Interrupted));
    // One place for all outcomes: links must not outlive the fetch, and the code tells the sources why they end.
    dialer.close_all(if interrupted { PeerErrorCode::Cancelled } else { PeerErrorCode::Done }).await;
    ended
}

async fn resolve_and_fetch(
    dialer: &SourceDialer,
    request: &FetchRequest,
    listed: Option<Vec<ListedFile>>,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
    cancel: &CancellationToken,
) -> FetchReport {
    let resolving = async {
        let owner = match &request.from {
            ConversationName::Person(owner) => owner,
            ConversationName::Room(room) => {
                let RoomSources { room, links, resolved } =
                    sources::connect_room(dialer, room, &request.names, report).await?;
                return Ok((ResolvingPeers { room: Some(room), links, unreachable: None }, resolved));
            }
        };
        match dialer.connect(owner).await {
            Ok(link) => {
                let shares = SourceShares { link: &link, room: None };
                if let Some(listed) = listed {
                    let peers = ResolvingPeers { links: vec![link], ..ResolvingPeers::default() };
                    return Ok((peers, ResolvedRequest::from_listed(owner, listed)));
                }
                let resolved = name_resolution::resolve_names(shares, &request.names, REHASH_TIMEOUT, report).await?;
                Ok((ResolvingPeers { links: vec![link], ..ResolvingPeers::default() }, resolved))
            }
            // Other sources can replace an owner who can't be reached, if an earlier attempt left the file's
            // hash. Every other error, such as a changed key, ends the fetch below.
            Err(error @ (Error::Offline(_) | Error::Link { .. })) if listed.is_none() => {
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
    // Nothing is begun yet: the resolution may just be dropped.
    let resolved = tokio::select! {
        () = cancel.cancelled() => Err(Error::Interrupted),
        resolved = resolving => resolved,
    };
    let resolved = resolved.and_then(|(peers, mut resolved)| {
        if let (Some(expected), Some(owner)) = (&request.expected, request.from.person()) {
            expected_files::restrict(&mut resolved, expected, owner)?;
        }
        Ok((peers, resolved))
    });
    match resolved {
        // From here on the driver observes `cancel` itself, since it must settle the files that it began.
        Ok((peers, resolved)) => FetchDriver::new(dialer, peers, request, report, cancel).run(resolved).await,
        Err(error) => FetchReportBuilder::abort_before_start(request, error, report),
    }
}

impl ResolvedRequest {
    /// Builds the request for files that `owner` listed.
    fn from_listed(owner: &shared::UserName, listed: Vec<ListedFile>) -> Self {
        let mut this = Self::default();
        for ListedFile { stat, local } in listed {
            let name = stat.name.as_str().to_owned();
            match resolved_file(owner, stat, None) {
                Ok(file) => this.files.push(name_resolution::ResolvedFile { local, ..file }),
                Err(error) => this.missing.push((name, error)),
            }
        }
        this
    }
}
