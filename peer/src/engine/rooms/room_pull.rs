//! The comparison of two copies of a room: asks a member for what is missing here.

use std::sync::Arc;

use rooms::{RunRequest, Signature, VectorEntry};
use shared::peer::{RoomStreamReply, RoomStreamRequest, RoomVectorEntry};
use shared::{Fingerprint, RoomId};
use tokio::sync::Semaphore;

use super::Rooms;
use super::room_registry::OfferedRuns;
use super::room_stream::RoomStream;
use crate::engine::Error;
use crate::net::StreamError;
use crate::net::link::Link;

/// Bytes of a signature behind each record.
const SIGNATURE_BYTES: u32 = 64;

/// Opens the stream for a room to the member on the other side of `link`, and keeps both copies equal until it ends.
/// `pulls` bounds the members that are asked at a time.
///
/// # Errors
/// The reason why the stream ended.
pub(in crate::engine) async fn run_room_stream(
    link: Link,
    rooms: Rooms,
    room: RoomId,
    pulls: Arc<Semaphore>,
) -> Result<(), StreamError> {
    link.note_chat();
    let pull = RoomPull { rooms: rooms.clone(), room, member: link.fingerprint() };
    let mut stream = RoomStream::open(&link, rooms, room, pulls).await?;
    while let Some(_permit) = stream.next_comparison().await? {
        pull.run(&mut stream).await?;
    }
    Ok(())
}

/// The repeated comparison with one member.
#[derive(Debug)]
struct RoomPull {
    rooms: Rooms,
    room: RoomId,
    member: Fingerprint,
}

impl RoomPull {
    /// Compares both copies, and asks for what is missing here until the member has nothing more.
    ///
    /// # Errors
    /// The stream can't be used any more. A refusal is one as well: the caller opens another stream later.
    async fn run(&self, stream: &mut RoomStream) -> Result<(), StreamError> {
        let (room, member) = (self.room, self.member);
        let Some(mine) = self.on_registry(move |registry| registry.summary(room)).await? else { return Ok(()) };
        let RoomStreamReply::Summary(theirs) = stream.ask(&RoomStreamRequest::Summary(mine)).await? else {
            return Err(StreamError::Unexpected("a summary was due"));
        };
        let digest = theirs.digest;
        let mut has_news = false;
        let is_settled = self.on_registry(move |registry| registry.is_settled(room, &member, digest)).await?;
        if digest != mine.digest && !is_settled {
            if theirs.head != mine.head {
                has_news |= self.pull_records(stream).await?;
            }
            has_news |= self.pull_messages(stream).await?;
        }
        self.on_registry(move |registry| registry.note_compared(room, member, digest, has_news)).await
    }

    async fn pull_records(&self, stream: &mut RoomStream) -> Result<bool, StreamError> {
        let mut has_news = false;
        loop {
            let room = self.room;
            let after = self.on_registry(move |registry| registry.locator(room)).await?;
            let RoomStreamReply::Records { lengths, more } = stream.ask(&RoomStreamRequest::Records { after }).await?
            else {
                return Err(StreamError::Unexpected("records were due"));
            };
            let with_signatures: Vec<u32> = lengths.iter().map(|length| length + SIGNATURE_BYTES).collect();
            let parts = stream.read_parts(&with_signatures).await?;
            let records: Vec<(Vec<u8>, Signature)> = parts.into_iter().filter_map(split_signature).collect();
            let taken = self.on_registry(move |registry| registry.take_member_records(room, &records)).await?;
            match taken {
                Ok(true) => has_news = true,
                Ok(false) => return Ok(has_news),
                Err(error) => {
                    // Perhaps its tracker has another key by now. Messages may be in order all the same.
                    tracing::info!("{}: records of a room: {error}", self.member);
                    return Ok(has_news);
                }
            }
            if !more {
                return Ok(has_news);
            }
        }
    }

    async fn pull_messages(&self, stream: &mut RoomStream) -> Result<bool, StreamError> {
        let (room, member) = (self.room, self.member);
        let (mut has_news, mut after) = (false, None);
        loop {
            let RoomStreamReply::Vector { entries, more } = stream.ask(&RoomStreamRequest::Vector { after }).await?
            else {
                return Err(StreamError::Unexpected("a vector was due"));
            };
            let page: Vec<VectorEntry> = entries.into_iter().map(from_wire).collect();
            let last = page.last().map(|entry| entry.author);
            let requests = self.on_registry(move |registry| registry.requests(room, member, &page)).await?;
            for request in requests {
                has_news |= self.pull_author(stream, request).await?;
            }
            if !more || last.is_none() || last <= after {
                return Ok(has_news);
            }
            after = last;
        }
    }

    async fn pull_author(&self, stream: &mut RoomStream, mut request: RunRequest) -> Result<bool, StreamError> {
        let (room, member) = (self.room, self.member);
        let (mut has_news, mut has_asked_records) = (false, false);
        loop {
            let RunRequest { author, locator, above, missing_cuts } = request.clone();
            let want = RoomStreamRequest::Want { author, locator, above, missing_cuts };
            let RoomStreamReply::Runs { lengths, leads_to_cut } = stream.ask(&want).await? else {
                return Err(StreamError::Unexpected("runs were due"));
            };
            if lengths.is_empty() {
                return Ok(has_news);
            }
            let runs = stream.read_parts(&lengths).await?;
            let asked = request.clone();
            let offered =
                self.on_registry(move |registry| registry.take_pulled_runs(room, &asked, member, &runs, leads_to_cut));
            match offered.await? {
                Ok(OfferedRuns::Taken { taken, next }) => {
                    has_news |= taken.stored > 0;
                    if taken.needs_records && !has_asked_records {
                        has_asked_records = true;
                        has_news |= self.pull_records(stream).await?;
                    } else if taken.stored == 0 {
                        return Ok(has_news);
                    }
                    request = next;
                }
                Ok(OfferedRuns::Invalid(why)) => {
                    tracing::info!("{member}: messages of a room: {why}");
                    return Err(StreamError::Unexpected("messages that nobody signed"));
                }
                Err(error) => {
                    tracing::error!("messages of a room could not be stored: {error}");
                    return Ok(has_news);
                }
            }
        }
    }

    async fn on_registry<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut super::RoomRegistry) -> T + Send + 'static,
    ) -> Result<T, StreamError> {
        let done = self.rooms.perform(job).await;
        done.map_err(|_: Error| StreamError::Reset(shared::peer::PeerErrorCode::ShuttingDown))
    }
}

/// Parts a record from its signature.
fn split_signature(mut record: Vec<u8>) -> Option<(Vec<u8>, Signature)> {
    let signature = *record.last_chunk::<64>()?;
    record.truncate(record.len() - signature.len());
    Some((record, signature))
}

fn from_wire(entry: RoomVectorEntry) -> VectorEntry {
    VectorEntry { author: entry.author, newest: entry.newest, digest: *entry.digest.as_bytes() }
}
