//! The comparison of two copies of a room: asks a member for what is missing here.

use std::sync::Arc;
use std::time::Duration;

use rooms::{RunRequest, Signature, VectorEntry};
use shared::peer::{RoomStreamReply, RoomStreamRequest, RoomVectorEntry};
use shared::{Fingerprint, RoomId};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Rooms;
use super::room_registry::OfferedRuns;
use super::room_stream::RoomStream;
use crate::engine::Error;
use crate::net::StreamError;
use crate::net::link::Link;

/// Bytes of a signature behind each record.
const SIGNATURE_BYTES: u32 = 64;
/// Time for which one member is asked before the others have their turn: whoever always has more, or says so, or is slow
/// with each reply, must not keep them out.
const TURN_TIME: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 20 });

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
    let member = link.fingerprint();
    let mut stream = RoomStream::open(&link, rooms.clone(), room, pulls).await?;
    while let Some(_permit) = stream.next_comparison().await? {
        let turn_end = Instant::now() + TURN_TIME;
        RoomPull { rooms: rooms.clone(), room, member, turn_end }.run(&mut stream).await?;
    }
    Ok(())
}

/// A comparison with one member.
#[derive(Debug)]
struct RoomPull {
    rooms: Rooms,
    room: RoomId,
    member: Fingerprint,
    turn_end: Instant,
}

/// The result of asking for messages.
#[derive(Debug, Clone, Copy, Default)]
struct PulledMessages {
    has_news: bool,
    /// The turn ended before the member had nothing more.
    is_cut_short: bool,
}

impl RoomPull {
    /// Compares both copies, and asks for what is missing here until the member has nothing more, or the turn ends.
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
        let (mut has_news, mut pulled) = (false, PulledMessages::default());
        let is_settled = self.on_registry(move |registry| registry.is_settled(room, &member, digest)).await?;
        if digest != mine.digest && !is_settled {
            if theirs.head != mine.head {
                has_news |= self.pull_records(stream).await?;
            }
            pulled = self.pull_messages(stream).await?;
            has_news |= pulled.has_news;
        }
        if pulled.is_cut_short && !has_news {
            // Nothing in a whole turn: the stream is opened again after a pause.
            return Err(StreamError::Timeout(TURN_TIME));
        }
        if pulled.is_cut_short {
            return self.on_registry(move |registry| registry.compare_with_all(room)).await;
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

    async fn pull_messages(&self, stream: &mut RoomStream) -> Result<PulledMessages, StreamError> {
        let (room, member) = (self.room, self.member);
        let (mut pulled, mut after) = (PulledMessages::default(), None);
        loop {
            let RoomStreamReply::Vector { entries, more } = stream.ask(&RoomStreamRequest::Vector { after }).await?
            else {
                return Err(StreamError::Unexpected("a vector was due"));
            };
            let page: Vec<VectorEntry> = entries.into_iter().map(from_wire).collect();
            let last = page.last().map(|entry| entry.author);
            let requests = self.on_registry(move |registry| registry.requests(room, member, &page)).await?;
            for request in requests {
                pulled.has_news |= self.pull_author(stream, request).await?;
                if self.is_turn_over() {
                    return Ok(PulledMessages { is_cut_short: true, ..pulled });
                }
            }
            if !more || last.is_none() || last <= after {
                return Ok(pulled);
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
                    } else if taken.stored == 0 || self.is_turn_over() {
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

    fn is_turn_over(&self) -> bool {
        Instant::now() >= self.turn_end
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
