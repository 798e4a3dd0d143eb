//! Listings of a source: the descriptions of its files and folders, by its own answers over the link; of all that it
//! grants, or of what it shares with a room.

use std::time::Duration;

use shared::peer::{FileStat, FolderTime, ListEntry, PeerErrorCode, PeerReply, PeerRequest};
use shared::{FileName, RoomId, UntrustedText, UserName};
use tokio::time::Instant;

use crate::engine::Error;
use crate::engine::fetch::FetchEvent;
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{StreamPriority, StreamReceiver, StreamSender, with_timeout};
use crate::util::Backoff;

/// Time for one page of a listing.
const PAGE_TIMEOUT: Duration = Duration::from_secs(15);
/// First pause between two polls of a file that is being hashed again; doubled each time.
const FIRST_POLL_DELAY: Duration = Duration::from_millis(50);
const MAX_POLL_DELAY: Duration = Duration::from_secs(2);
/// Time for a source to learn from the tracker that we are a member of the room.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(10);
/// The most files in a listing: one user can't share more.
const MAX_FILES: usize = shared::limits::MAX_FILES_PER_USER;
/// Bytes of names in one question.
const MAX_QUESTION_BYTES: usize = 16 * 1024;
/// The most consecutive pages without files.
const MAX_EMPTY_PAGES: u32 = 1000;

/// The shares of a source that are asked about.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct SourceShares<'a> {
    /// The link to the source.
    pub(in crate::engine) link: &'a Link,
    /// Only what is shared with this room; `None`: all that the source grants.
    pub(in crate::engine) room: Option<RoomId>,
}

impl<'a> SourceShares<'a> {
    /// Returns the source.
    pub(in crate::engine::fetch) fn user(&self) -> &'a UserName {
        self.link.user()
    }
}

/// The wait for a source that asks the tracker whether we are a member of a room: we may have joined a moment ago.
struct AdmissionWait {
    is_about_room: bool,
    until: Instant,
    backoff: Backoff,
}

impl AdmissionWait {
    fn new(room: Option<RoomId>) -> Self {
        let backoff = Backoff::new(FIRST_POLL_DELAY, MAX_POLL_DELAY);
        Self { is_about_room: room.is_some(), until: Instant::now() + ADMISSION_TIMEOUT, backoff }
    }

    /// Returns the pause before the request is repeated; `None` if this is its outcome.
    fn pause_after<T>(&mut self, outcome: &Result<T, StreamError>) -> Option<Duration> {
        let is_busy = matches!(outcome, Err(StreamError::Refused { code: PeerErrorCode::Busy, .. }));
        let pause = self.backoff.next_delay();
        (self.is_about_room && is_busy && Instant::now() + pause < self.until).then_some(pause)
    }
}

/// Sends a request, again while the source asks whether we are a member of `room`.
async fn request_as_member(link: &Link, room: Option<RoomId>, request: &PeerRequest) -> Result<PeerReply, StreamError> {
    let mut wait = AdmissionWait::new(room);
    loop {
        let outcome = link.request(request).await;
        match wait.pause_after(&outcome) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return outcome,
        }
    }
}

/// Opens a stream with a request for a list, and reads its first page.
async fn begin_list(
    link: &Link,
    request: &PeerRequest,
) -> Result<(StreamSender, StreamReceiver, PeerReply), StreamError> {
    let opened = with_timeout(PAGE_TIMEOUT, link.open_stream(request, StreamPriority::Request));
    let (sender, mut receiver) = opened.await?;
    let first = with_timeout(PAGE_TIMEOUT, receiver.next_answer()).await?;
    Ok((sender, receiver, first))
}

/// Asks for the description of `name`; waits while its owner hashes it again. `None` if it isn't shared.
pub(in crate::engine::fetch) async fn stat_file(
    SourceShares { link, room }: SourceShares<'_>,
    name: &FileName,
    timeout: Duration,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
) -> Result<Option<FileStat>, Error> {
    let until = Instant::now() + timeout;
    let mut backoff = Backoff::new(FIRST_POLL_DELAY, MAX_POLL_DELAY);
    let mut told = false;
    loop {
        let pause = backoff.next_delay();
        match request_as_member(link, room, &PeerRequest::Stat { name: name.clone(), room }).await {
            // Only the name that was asked for: an answer about another file could place it under the wrong name.
            Ok(PeerReply::Stat(stat)) if stat.name == *name => return Ok(Some(stat)),
            Err(StreamError::Refused { code: PeerErrorCode::NotFound, .. }) => return Ok(None),
            Err(StreamError::Refused { code: PeerErrorCode::Stale, .. }) if Instant::now() + pause < until => {
                if !std::mem::replace(&mut told, true) {
                    report(FetchEvent::AwaitingRehash { name: name.as_str() });
                }
                tokio::time::sleep(pause).await;
            }
            Err(StreamError::Refused { code: PeerErrorCode::Stale, message }) => {
                return Err(Error::Stale { user: link.user().clone(), name: name.as_str().to_owned(), why: message });
            }
            Err(StreamError::Refused { code: PeerErrorCode::Internal, message }) => {
                return Err(Error::Unreadable {
                    user: link.user().clone(),
                    name: name.as_str().to_owned(),
                    why: message,
                });
            }
            Ok(_) => return Err(Error::stream(link.user(), StreamError::Unexpected("a stat was due"))),
            Err(error) => return Err(Error::stream(link.user(), error)),
        }
    }
}

/// Lists the files whose name starts with `prefix`; entries that can't be files stand for their received name.
pub(in crate::engine) async fn list_files(
    SourceShares { link, room }: SourceShares<'_>,
    prefix: &str,
) -> Result<Vec<Result<FileStat, UntrustedText>>, Error> {
    let failed = |error| Error::stream(link.user(), error);
    let ask = |cursor| PeerRequest::Files { prefix: Some(prefix.to_owned()), cursor, room };
    let mut wait = AdmissionWait::new(room);
    let begun = loop {
        let begun = begin_list(link, &ask(None)).await;
        match wait.pause_after(&begun) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => break begun,
        }
    };
    let (mut sender, mut receiver, first) = match begun {
        // Its user is in no such room, or we aren't.
        Err(StreamError::Refused { code: PeerErrorCode::NotFound, .. }) if room.is_some() => return Ok(Vec::new()),
        begun => begun.map_err(failed)?,
    };
    let mut page = Some(first);
    let mut all: Vec<Result<FileStat, UntrustedText>> = Vec::new();
    let mut last: Option<FileName> = None;
    let (mut cursor, mut empty_pages): (Option<String>, u32) = (None, 0);
    loop {
        let answer = match page.take() {
            Some(first) => first,
            None => with_timeout(PAGE_TIMEOUT, receiver.next_answer()).await.map_err(failed)?,
        };
        let PeerReply::FileList { files, next } = answer else {
            return Err(failed(StreamError::Unexpected("a list of files was due")));
        };
        let is_empty = files.is_empty();
        for entry in files.into_iter().map(ListEntry::into_result) {
            if let Ok(FileStat { name, .. }) = &entry {
                // Strictly ascending names prove that the listing ends and has no name twice.
                let in_order = last.as_ref().is_none_or(|last| name > last);
                if !in_order || !name.as_str().starts_with(prefix) {
                    return Err(failed(StreamError::Unexpected("a list that isn't what was asked for")));
                }
                last = Some(name.clone());
            }
            all.push(entry);
        }
        if all.len() > MAX_FILES {
            return Err(failed(StreamError::Unexpected("a list that isn't what was asked for")));
        }
        // An empty page isn't the end, since shares may be gone from the disk there; but its cursor must advance.
        empty_pages = if is_empty { empty_pages + 1 } else { 0 };
        let advanced = !is_empty || empty_pages <= MAX_EMPTY_PAGES && next > cursor;
        cursor.clone_from(&next);
        match next {
            Some(next) if advanced => {
                with_timeout(PAGE_TIMEOUT, sender.send_frame(&ask(Some(next)))).await.map_err(failed)?;
            }
            Some(_) => return Err(failed(StreamError::Unexpected("a list that doesn't go on"))),
            None => {
                sender.finish();
                return Ok(all);
            }
        }
    }
}

/// Lists the source's empty folders whose name starts with `prefix`; empty from a source that doesn't know the request.
pub(in crate::engine) async fn list_folders(shares: SourceShares<'_>, prefix: &str) -> Result<Vec<FileName>, Error> {
    let ask = |prefix, cursor| PeerRequest::Folders { prefix, cursor, room: shares.room };
    let page = |answer| match answer {
        PeerReply::FolderList { folders, next } => Some((folders, next)),
        _ => None,
    };
    list_pages(shares, prefix, ask, page, |folder| folder).await
}

/// Returns those of the names of which the source says that it shared them and that they were removed; none from a source
/// that doesn't know the request.
pub(in crate::engine) async fn find_removed(link: &Link, names: &[FileName]) -> Result<Vec<FileName>, Error> {
    let (mut removed, mut left) = (Vec::new(), names);
    while !left.is_empty() {
        let sizes = left.iter().scan(0, |bytes, name| {
            // An upper bound: names may be full of characters that JSON escapes.
            *bytes += 3 + name.as_str().len() * 2;
            Some(*bytes)
        });
        let (some, rest) = left.split_at(sizes.take_while(|bytes| *bytes <= MAX_QUESTION_BYTES).count().max(1));
        match link.request(&PeerRequest::Removed { names: some.to_vec() }).await {
            // Only what was asked about.
            Ok(PeerReply::RemovedList { names }) => {
                removed.extend(names.into_iter().filter(|name| some.contains(name)));
            }
            Err(error) if is_without_answer(&error, None) => return Ok(removed),
            Ok(_) => return Err(Error::stream(link.user(), StreamError::Unexpected("a list of names was due"))),
            Err(error) => return Err(Error::stream(link.user(), error)),
        }
        left = rest;
    }
    Ok(removed)
}

/// Lists the modification times of folders whose name starts with `prefix`, with the same rule as [`list_folders`].
pub(in crate::engine::fetch) async fn list_folder_times(
    shares: SourceShares<'_>,
    prefix: &str,
) -> Result<Vec<FolderTime>, Error> {
    let ask = |prefix, cursor| PeerRequest::FolderTimes { prefix, cursor, room: shares.room };
    let page = |answer| match answer {
        PeerReply::FolderTimes { folders, next } => Some((folders, next)),
        _ => None,
    };
    list_pages(shares, prefix, ask, page, |time| &time.name).await
}

/// True if the source can't have what is asked for: it doesn't know the request, or no such room. Any other refusal
/// says nothing about what it has, and must not pass for an empty list.
fn is_without_answer(error: &StreamError, room: Option<RoomId>) -> bool {
    match error {
        StreamError::Refused { code: PeerErrorCode::Protocol, .. } => true,
        StreamError::Refused { code: PeerErrorCode::NotFound, .. } => room.is_some(),
        _ => false,
    }
}

/// Lists page after page, as long as each begins behind the previous one.
async fn list_pages<T>(
    SourceShares { link, room }: SourceShares<'_>,
    prefix: &str,
    ask: impl Fn(Option<String>, Option<String>) -> PeerRequest,
    page: impl Fn(PeerReply) -> Option<(Vec<ListEntry<T>>, Option<String>)>,
    name: impl Fn(&T) -> &FileName,
) -> Result<Vec<T>, Error> {
    let mut all: Vec<T> = Vec::new();
    loop {
        let cursor = all.last().map(|last| name(last).as_str().to_owned());
        let request = ask(Some(prefix.to_owned()), cursor);
        let answer = match request_as_member(link, room, &request).await {
            Ok(answer) => page(answer),
            // An earlier version doesn't know the request: its files come without folders.
            Err(error) if is_without_answer(&error, room) => return Ok(all),
            Err(error) => return Err(Error::stream(link.user(), error)),
        };
        let due = || Error::stream(link.user(), StreamError::Unexpected("a list of folders was due"));
        let (folders, next) = answer.ok_or_else(due)?;
        let folders: Vec<T> = folders.into_iter().filter_map(|entry| entry.into_result().ok()).collect();
        // A source that repeats a page ends the listing instead of making it endless.
        let advanced = folders.first().map(&name) > all.last().map(&name);
        let goes_on = next.is_some() && advanced && all.len() <= MAX_FILES;
        all.extend(folders);
        if !goes_on {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_source_that_does_not_know_the_request_has_no_folders() {
        let refused = |code| StreamError::Refused { code, message: "no".to_owned().into() };
        let room = Some(RoomId::from_bytes([7; 16]));
        for (code, room, is_empty) in [
            (PeerErrorCode::Protocol, None, true),
            (PeerErrorCode::Protocol, room, true),
            (PeerErrorCode::NotFound, room, true),
            (PeerErrorCode::NotFound, None, false),
            (PeerErrorCode::Busy, None, false),
            (PeerErrorCode::Busy, room, false),
            (PeerErrorCode::Internal, room, false),
            (PeerErrorCode::Unauthorised, None, false),
        ] {
            assert_eq!(is_without_answer(&refused(code), room), is_empty, "{code} {room:?}");
        }
        assert!(!is_without_answer(&StreamError::Truncated, room));
    }
}
