//! The serving side of a room's stream: answers a member's requests, and takes what the member passes on.

use std::time::Duration;

use bytes::Bytes;
use rooms::{RunRequest, VectorEntry};
use shared::RoomId;
use shared::peer::{PeerErrorCode, RoomStreamReply, RoomStreamRequest, RoomSummary, RoomVectorEntry, SingleRunBytes};
use shared::room::{RecordHash, RoomDigest};

use super::Rooms;
use super::room_registry::{CallerStanding, OfferedPush};
use crate::engine::Error;
use crate::net::StreamError;
use crate::net::frame_receiver::FrameReceiver;
use crate::net::link::Link;
use crate::net::stream::{StreamSender, with_timeout};

/// Time for the other side to read a reply.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// A reply, with the raw bytes behind it.
type RoomAnswer = (RoomStreamReply, Bytes);

/// Serves the stream of a room that the other side of `link` opened.
///
/// # Errors
/// The failure of the stream; [`StreamError::Unexpected`] if the other side broke the protocol.
pub(in crate::engine) async fn serve_room(
    link: &Link,
    rooms: &Rooms,
    room: RoomId,
    mut sender: StreamSender,
    mut receiver: FrameReceiver,
) -> Result<(), StreamError> {
    let mut changes = rooms.directory().subscribe();
    let mut was_member = false;
    loop {
        let request = tokio::select! {
            request = receiver.next_frame::<RoomStreamRequest>() => request?,
            Ok(()) = changes.changed() => {
                if was_member && !rooms.directory().is_member(room, link.user(), &link.fingerprint()) {
                    // Both directions say why: the member learns of either first.
                    sender.reset(PeerErrorCode::Unauthorised);
                    receiver.stop(PeerErrorCode::Unauthorised);
                    return Ok(());
                }
                continue;
            }
        };
        let Some(request) = request else { break };
        if !request.is_within_bounds() {
            return Err(StreamError::Unexpected("a request beyond its bounds"));
        }
        let (reply, bytes) = match check_caller(link, rooms, room).await {
            Ok(()) => {
                was_member = true;
                // Kept where there are many links: a room's news comes over it.
                link.note_chat();
                answer(link, rooms, room, request).await?
            }
            Err(refusal) => (refusal, Bytes::new()),
        };
        // Whoever reads no replies keeps none of them in memory here.
        with_timeout(SEND_TIMEOUT, sender.send_frame_and_bulk(&reply, bytes, |_| {})).await?;
    }
    sender.finish();
    Ok(())
}

/// Checks at each request whether the caller is a member.
async fn check_caller(link: &Link, rooms: &Rooms, room: RoomId) -> Result<(), RoomStreamReply> {
    if rooms.directory().is_member(room, link.user(), &link.fingerprint()) {
        return Ok(());
    }
    let (user, key) = (link.user().clone(), link.fingerprint());
    match rooms.perform(move |registry| registry.standing(room, &user, &key)).await {
        Ok(CallerStanding::Member) => Ok(()),
        Ok(CallerStanding::Unclear) => {
            rooms.request_records(room);
            Err(refusal(PeerErrorCode::Busy, "the tracker is being asked whether you are a member"))
        }
        Ok(CallerStanding::Stranger) => Err(refusal(PeerErrorCode::Unauthorised, "you are not a member of this room")),
        Ok(CallerStanding::NotMine) => Err(refusal(PeerErrorCode::NotFound, "no such room here")),
        Err(_) => Err(refusal(PeerErrorCode::ShuttingDown, "going offline")),
    }
}

/// Checks whether the caller, who asks for files of a room, is a member of it. The error is its refusal.
pub(in crate::engine) async fn check_file_requester(
    link: &Link,
    rooms: &Rooms,
    room: RoomId,
) -> Result<(), (PeerErrorCode, &'static str)> {
    if rooms.directory().is_member(room, link.user(), &link.fingerprint()) {
        return Ok(());
    }
    let (user, key) = (link.user().clone(), link.fingerprint());
    match rooms.perform(move |registry| registry.file_standing(room, &user, &key)).await {
        Ok(CallerStanding::Member) => Ok(()),
        Ok(CallerStanding::Unclear) => {
            // Nobody can make the node ask about rooms that are none of the user's.
            if rooms.directory().room(room).is_some_and(|known| known.is_active()) {
                rooms.request_records(room);
            }
            Err((PeerErrorCode::Busy, "the tracker is being asked whether you are a member"))
        }
        Ok(CallerStanding::Stranger | CallerStanding::NotMine) => Err((PeerErrorCode::NotFound, "no such room here")),
        Err(_) => Err((PeerErrorCode::ShuttingDown, "going offline")),
    }
}

async fn answer(
    link: &Link,
    rooms: &Rooms,
    room: RoomId,
    request: RoomStreamRequest,
) -> Result<RoomAnswer, StreamError> {
    let without_bytes = |reply| (reply, Bytes::new());
    let answered = match request {
        RoomStreamRequest::Summary(theirs) => summary(link, rooms, room, theirs).await.map(without_bytes),
        RoomStreamRequest::Records { after } => records(rooms, room, after).await,
        RoomStreamRequest::Vector { after } => {
            let page = rooms.perform(move |registry| registry.vector_page(room, after)).await;
            page.map(|(entries, more)| {
                without_bytes(RoomStreamReply::Vector { entries: entries.iter().map(to_wire).collect(), more })
            })
        }
        RoomStreamRequest::Want { author, locator, above, missing_cuts } => {
            let (request, asker) = (RunRequest { author, locator, above, missing_cuts }, link.fingerprint());
            let runs = rooms.perform(move |registry| registry.runs(room, &request, &asker)).await;
            runs.map(|(runs, leads_to_cut)| {
                let lengths = runs.iter().map(|run| length_of(run)).collect();
                (RoomStreamReply::Runs { lengths, leads_to_cut }, Bytes::from(runs.concat()))
            })
        }
        RoomStreamRequest::New { run } => take_push(link, rooms, room, run).await?.map(without_bytes),
        RoomStreamRequest::Unknown => Ok(without_bytes(refusal(PeerErrorCode::Protocol, "an unknown request"))),
    };
    Ok(answered.unwrap_or_else(|error| {
        tracing::debug!("{}: a room's request failed: {error}", link.user());
        without_bytes(refusal(PeerErrorCode::Internal, "a fault on this side"))
    }))
}

async fn summary(link: &Link, rooms: &Rooms, room: RoomId, theirs: RoomSummary) -> Result<RoomStreamReply, Error> {
    let member = link.fingerprint();
    let mine = rooms.perform(move |registry| {
        let mine = registry.summary(room)?;
        if mine.digest == theirs.digest {
            registry.note_delivered(room, member, u64::MAX, None);
        } else if !registry.is_settled(room, &member, theirs.digest) {
            // The other side may have what is missing here.
            registry.compare_with(room, &member);
        }
        Some(mine)
    });
    Ok(mine.await?.map_or_else(|| refusal(PeerErrorCode::NotFound, "no such room here"), RoomStreamReply::Summary))
}

async fn records(rooms: &Rooms, room: RoomId, after: Vec<RecordHash>) -> Result<RoomAnswer, Error> {
    let (records, more) = rooms.perform(move |registry| registry.records_after(room, &after)).await?;
    let lengths = records.iter().map(|record| length_of(record.signed())).collect();
    let mut bytes = Vec::new();
    for record in &records {
        bytes.extend_from_slice(record.signed());
        bytes.extend_from_slice(record.signature());
    }
    Ok((RoomStreamReply::Records { lengths, more }, bytes.into()))
}

async fn take_push(
    link: &Link,
    rooms: &Rooms,
    room: RoomId,
    run: SingleRunBytes,
) -> Result<Result<RoomStreamReply, Error>, StreamError> {
    let member = link.fingerprint();
    let offered = rooms.perform(move |registry| {
        let offered = registry.take_push(room, member, &run);
        if matches!(offered, Ok(Ok(OfferedPush::Later))) {
            registry.compare_with(room, &member);
        }
        offered
    });
    Ok(match offered.await {
        Ok(Ok(Ok(OfferedPush::Stored))) => Ok(RoomStreamReply::Taken {}),
        Ok(Ok(Ok(OfferedPush::Later))) => Ok(refusal(PeerErrorCode::Busy, "asked for later")),
        Ok(Ok(Err(why))) => {
            tracing::info!("{}: a message of a room: {why}", link.user());
            return Err(StreamError::Unexpected("a message that nobody signed"));
        }
        Ok(Err(error)) | Err(error) => Err(error),
    })
}

fn refusal(code: PeerErrorCode, words: &str) -> RoomStreamReply {
    RoomStreamReply::Error { code, message: words.into() }
}

fn length_of(part: &[u8]) -> u32 {
    u32::try_from(part.len()).unwrap_or(u32::MAX)
}

fn to_wire(entry: &VectorEntry) -> RoomVectorEntry {
    RoomVectorEntry { author: entry.author, newest: entry.newest, digest: RoomDigest::from_bytes(entry.digest) }
}
