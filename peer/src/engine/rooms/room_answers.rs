//! The answers to a member's requests for a room. No sockets: the stream's task sends them.

use bytes::Bytes;
use rooms::{RunRequest, VectorEntry};
use shared::peer::{PeerErrorCode, RoomStreamReply, RoomStreamRequest, RoomSummary, RoomVectorEntry, SingleRunBytes};
use shared::room::{RecordHash, RoomDigest};
use shared::{Fingerprint, RoomId};

use super::room_registry::{OfferedPush, RoomRegistry};
use crate::engine::Error;

/// A reply, with the raw bytes behind it.
#[derive(Debug)]
pub(super) struct RoomAnswer {
    pub(super) reply: RoomStreamReply,
    pub(super) bytes: Bytes,
}

/// A reason why a request has no answer.
#[derive(Debug)]
pub(super) enum AnswerFailure {
    /// No honest member sends it.
    Misbehaviour(String),
    /// A fault on this side.
    Fault(Error),
}

impl From<RoomStreamReply> for RoomAnswer {
    fn from(reply: RoomStreamReply) -> Self {
        Self { reply, bytes: Bytes::new() }
    }
}

/// Answers a request of `member`, who is a member of the room.
///
/// # Errors
/// An [`AnswerFailure`].
pub(super) fn answer_request(
    registry: &mut RoomRegistry,
    room: RoomId,
    member: Fingerprint,
    request: RoomStreamRequest,
) -> Result<RoomAnswer, AnswerFailure> {
    Ok(match request {
        RoomStreamRequest::Summary(theirs) => summary(registry, room, member, theirs).into(),
        RoomStreamRequest::Records { after } => records(registry, room, &after),
        RoomStreamRequest::Vector { after } => {
            let (entries, more) = registry.vector_page(room, after);
            RoomStreamReply::Vector { entries: entries.iter().map(to_wire).collect(), more }.into()
        }
        RoomStreamRequest::Want { author, locator, above, missing_cuts } => {
            let request = RunRequest { author, locator, above, missing_cuts };
            let (runs, leads_to_cut) = registry.runs(room, &request, &member);
            let lengths = runs.iter().map(|run| length_of(run)).collect();
            RoomAnswer { reply: RoomStreamReply::Runs { lengths, leads_to_cut }, bytes: runs.concat().into() }
        }
        RoomStreamRequest::New { run } => take_push(registry, room, member, &run)?.into(),
        // A newer version may ask more: the stream stays for what both know.
        RoomStreamRequest::Unknown => refusal(PeerErrorCode::Protocol, "an unknown request").into(),
    })
}

/// Returns a reply that refuses a request.
pub(super) fn refusal(code: PeerErrorCode, words: &str) -> RoomStreamReply {
    RoomStreamReply::Error { code, message: words.into() }
}

fn summary(registry: &mut RoomRegistry, room: RoomId, member: Fingerprint, theirs: RoomSummary) -> RoomStreamReply {
    let Some(mine) = registry.summary(room) else { return refusal(PeerErrorCode::NotFound, "no such room here") };
    if mine.digest == theirs.digest {
        // Equal copies have all that was written here, whatever its number.
        registry.note_delivered(room, member, u64::MAX, None);
    } else if !registry.is_settled(room, &member, theirs.digest) {
        // The other side may have what is missing here.
        registry.outlets().compare_with(room, &member);
    }
    RoomStreamReply::Summary(mine)
}

fn records(registry: &RoomRegistry, room: RoomId, after: &[RecordHash]) -> RoomAnswer {
    let (records, more) = registry.records_after(room, after);
    let lengths = records.iter().map(|record| length_of(record.signed())).collect();
    let mut bytes = Vec::new();
    for record in &records {
        bytes.extend_from_slice(record.signed());
        bytes.extend_from_slice(record.signature());
    }
    RoomAnswer { reply: RoomStreamReply::Records { lengths, more }, bytes: bytes.into() }
}

fn take_push(
    registry: &mut RoomRegistry,
    room: RoomId,
    member: Fingerprint,
    run: &SingleRunBytes,
) -> Result<RoomStreamReply, AnswerFailure> {
    match registry.take_push(room, member, run) {
        Ok(Ok(OfferedPush::Stored)) => Ok(RoomStreamReply::Taken {}),
        Ok(Ok(OfferedPush::Later)) => {
            // A comparison also brings what comes before it.
            registry.outlets().compare_with(room, &member);
            Ok(refusal(PeerErrorCode::Busy, "asked for later"))
        }
        Ok(Err(why)) => Err(AnswerFailure::Misbehaviour(why)),
        Err(error) => Err(AnswerFailure::Fault(error)),
    }
}

fn length_of(part: &[u8]) -> u32 {
    u32::try_from(part.len()).unwrap_or(u32::MAX)
}

fn to_wire(entry: &VectorEntry) -> RoomVectorEntry {
    RoomVectorEntry { author: entry.author, newest: entry.newest, digest: RoomDigest::from_bytes(entry.digest) }
}
