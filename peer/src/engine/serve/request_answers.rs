//! Answers to the requests that are not for a file's groups.

use bytes::Bytes;
use shared::RoomId;
use shared::peer::{
    EMPTY_PAGES_CAPABILITY, OWNER_ONLY_CAPABILITY, PeerErrorCode, PeerReply, PeerRequest, ROOM_FILES_CAPABILITY,
    ZEROS_CAPABILITY,
};

use super::ServeContext;
use super::link_uploads::LinkUploads;
use super::receipt_intake::take_receipt;
use super::request_refusal::{RequestRefusal, internal_refusal, send_refusal, unauthorised_refusal};
use super::user_quota::UserQuota;
use crate::engine::rooms::check_file_requester;
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::StreamSender;

/// Answers a request that isn't for a file's groups.
pub(super) async fn answer(
    context: &ServeContext,
    link: &Link,
    uploads: &LinkUploads,
    quota: &UserQuota,
    sender: &mut StreamSender,
    ask: PeerRequest,
) -> Result<(), StreamError> {
    let for_peer = |answer: PeerReply| {
        // A peer gets only the fields whose capability it announced.
        let answer = if link.has_capability(ZEROS_CAPABILITY) { answer } else { answer.without_zeros() };
        let answer = if link.has_capability(ROOM_FILES_CAPABILITY) { answer } else { answer.without_restricted() };
        if link.has_capability(OWNER_ONLY_CAPABILITY) { answer } else { answer.without_owner_only() }
    };
    // Held until the answer is read: a peer that reads none has few of them in memory here.
    let _answer = quota.acquire_answer(is_list_request(&ask)).await;
    match answer_request(context, link, uploads, ask).await? {
        Ok((answer, bytes)) if bytes.is_empty() => {
            uploads.with_stall_timeout(sender.send_frame(&for_peer(answer))).await
        }
        Ok((answer, bytes)) => {
            uploads
                .with_stall_timeout(
                    sender.send_frame_and_bulk(&for_peer(answer), bytes, |count| uploads.note_moved(count)),
                )
                .await
        }
        Err(refusal) => uploads.with_stall_timeout(send_refusal(sender, refusal)).await,
    }
}

/// Returns the room that a request is about.
const fn requested_room(ask: &PeerRequest) -> Option<RoomId> {
    match ask {
        PeerRequest::Files { room, .. }
        | PeerRequest::Folders { room, .. }
        | PeerRequest::FolderTimes { room, .. }
        | PeerRequest::Stat { room, .. } => *room,
        _ => None,
    }
}

/// True if the answer takes a walk through many shares.
const fn is_list_request(ask: &PeerRequest) -> bool {
    matches!(
        ask,
        PeerRequest::Files { .. }
            | PeerRequest::Folders { .. }
            | PeerRequest::FolderTimes { .. }
            | PeerRequest::Removed { .. }
    )
}

/// Returns the answer to a request, and the bytes that follow it.
async fn answer_request(
    context: &ServeContext,
    link: &Link,
    uploads: &LinkUploads,
    ask: PeerRequest,
) -> Result<Result<(PeerReply, Bytes), RequestRefusal>, StreamError> {
    let (user, by, library) = (link.user(), uploads.requester(), &context.library);
    // Checked for each request: a blocked user may have an outbound link, or one from before the block.
    match context.me.profile.is_blocked(user) {
        Ok(false) => {}
        Ok(true) => return Ok(Err(unauthorised_refusal())),
        Err(error) => return Ok(Err(internal_refusal(error.into()))),
    }
    if let Some(room) = requested_room(&ask)
        && let Err((code, message)) = check_file_requester(link, &context.rooms, room).await
    {
        return Ok(Err((code, message.to_owned())));
    }
    let without_bytes = |answer: Result<PeerReply, RequestRefusal>| answer.map(|answer| (answer, Bytes::new()));
    Ok(match ask {
        PeerRequest::Files { prefix, cursor, room } => {
            let reads_empty_pages = link.has_capability(EMPTY_PAGES_CAPABILITY);
            let (prefix, cursor) = (prefix.unwrap_or_default(), cursor.unwrap_or_default());
            without_bytes(library.list(by, room, prefix, cursor, reads_empty_pages).await)
        }
        PeerRequest::Folders { prefix, cursor, room } => {
            without_bytes(library.folders(by, room, prefix.unwrap_or_default(), cursor.unwrap_or_default()).await)
        }
        PeerRequest::FolderTimes { prefix, cursor, room } => {
            without_bytes(library.folder_times(by, room, prefix.unwrap_or_default(), cursor.unwrap_or_default()).await)
        }
        PeerRequest::Removed { names } => without_bytes(library.removed(by, names).await),
        PeerRequest::Stat { name, room } => {
            let answer = library.stat(by, room, name).await;
            if let Ok(PeerReply::Stat(stat)) = &answer {
                // Manifests are asked for by the hash alone: the name last described says which file is meant.
                uploads.remember_name(stat.name.clone(), stat.hash);
            }
            without_bytes(answer)
        }
        PeerRequest::Manifest { hash } => library.manifest(by, hash, uploads.described_name(&hash)).await,
        PeerRequest::Have { hash } => library.have(by, hash, uploads.described_name(&hash)).await,
        PeerRequest::Probe { port } => without_bytes(context.port_prober.probe(&context.me.identity, link, port).await),
        PeerRequest::Receipt(receipt) => {
            without_bytes(take_receipt(&context.me, &context.rooms, &context.events, user, by, receipt).await)
        }
        PeerRequest::Hello(_)
        | PeerRequest::Chat {}
        | PeerRequest::Room { .. }
        | PeerRequest::Changes {}
        | PeerRequest::Get { .. } => {
            return Err(StreamError::Unexpected("a request was due"));
        }
        PeerRequest::Unknown => {
            Err((PeerErrorCode::Protocol, format!("{} doesn't know that request", context.me.user)))
        }
    })
}
