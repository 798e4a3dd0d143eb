//! The serving side of a room's stream: answers a member's requests, and takes what the member passes on.

use std::time::Duration;

use shared::RoomId;
use shared::peer::{PeerErrorCode, RoomStreamReply, RoomStreamRequest};

use super::Rooms;
use super::room_answers::{AnswerFailure, RoomAnswer, answer_request, refusal};
use super::room_registry::CallerStanding;
use crate::net::StreamError;
use crate::net::frame_receiver::FrameReceiver;
use crate::net::link::Link;
use crate::net::stream::{StreamSender, with_timeout};

/// Time for the other side to read a reply.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

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
            // A reply under way isn't interrupted; a frame that has begun stays with the receiver.
            request = receiver.next_frame::<RoomStreamRequest>() => request?,
            Ok(()) = changes.changed() => {
                // Whoever was no member may become one by this very change.
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
        // The size of a frame alone doesn't bound what a request costs here.
        if !request.is_within_bounds() {
            return Err(StreamError::Unexpected("a request beyond its bounds"));
        }
        // For each request: a stream may outlast a membership.
        let RoomAnswer { reply, bytes } = match check_caller(link, rooms, room).await {
            Ok(()) => {
                was_member = true;
                // Kept where there are many links: a room's news comes over it.
                link.note_chat();
                answer(link, rooms, room, request).await?
            }
            Err(refusal) => refusal.into(),
        };
        // Whoever reads no replies keeps none of them in memory here.
        with_timeout(SEND_TIMEOUT, sender.send_frame_and_bulk(&reply, bytes, |_| {})).await?;
    }
    sender.finish();
    Ok(())
}

/// Checks at each request whether the caller is a member.
async fn check_caller(link: &Link, rooms: &Rooms, room: RoomId) -> Result<(), RoomStreamReply> {
    // Nearly all callers are members: no step of the registry for them.
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
        // The same for both, so that nobody learns in which rooms the user is.
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
    let member = link.fingerprint();
    let answered = rooms.perform(move |registry| answer_request(registry, room, member, request)).await;
    match answered.unwrap_or_else(|ending| Err(AnswerFailure::Fault(ending))) {
        Ok(answer) => Ok(answer),
        Err(AnswerFailure::Misbehaviour(why)) => {
            tracing::info!("{}: a message of a room: {why}", link.user());
            Err(StreamError::Unexpected("a message that nobody signed"))
        }
        Err(AnswerFailure::Fault(error)) => {
            // The error may name paths of this machine, so the member learns only that there was one.
            tracing::debug!("{}: a room's request failed: {error}", link.user());
            Ok(refusal(PeerErrorCode::Internal, "a fault on this side").into())
        }
    }
}
