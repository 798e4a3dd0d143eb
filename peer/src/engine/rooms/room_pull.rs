//! The stream for a room to one member, opened here: sends what is new, and asks for what is missing.

use std::sync::Arc;
use std::time::Duration;

use shared::peer::PeerErrorCode;
use shared::{Fingerprint, RoomId};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Rooms;
use super::pull_session::{PullSession, part_lengths};
use super::room_registry::RoomRegistry;
use super::room_stream::RoomStream;
use crate::engine::Error;
use crate::net::StreamError;
use crate::net::link::Link;

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
    // Marked, so that the link isn't given up for being idle: a room's news comes over it.
    link.note_chat();
    let member = link.fingerprint();
    let mut stream = RoomStream::open(&link, rooms.clone(), room, pulls).await?;
    while let Some(_permit) = stream.next_comparison().await? {
        let compared = compare(&rooms, room, member, &mut stream).await;
        if matches!(compared, Err(StreamError::Timeout(_))) {
            // Whoever lets its turn pass must not keep others from what comes behind a gap.
            on_registry(&rooms, move |registry| registry.note_unfinished(room, member)).await?;
        }
        compared?;
    }
    Ok(())
}

/// Compares both copies, and asks for what is missing here until the member has nothing more, or its turn ends.
///
/// # Errors
/// The stream can't be used any more. A refusal is one as well: the caller opens another stream later.
async fn compare(rooms: &Rooms, room: RoomId, member: Fingerprint, stream: &mut RoomStream) -> Result<(), StreamError> {
    let begun = on_registry(rooms, move |registry| PullSession::begin(registry, room, member)).await?;
    let Some((mut session, mut request)) = begun else { return Ok(()) };
    let turn_end = Instant::now() + TURN_TIME;
    loop {
        let reply = stream.ask(&request).await?;
        let parts = stream.read_parts(&part_lengths(&reply)).await?;
        let step = on_registry(rooms, move |registry| {
            let next = session.take_reply(registry, reply, parts);
            next.map(|next| next.map(|request| (session, request)))
        });
        let Some(next) = step.await?? else { return Ok(()) };
        (session, request) = next;
        if Instant::now() >= turn_end {
            let has_news = on_registry(rooms, move |registry| session.interrupt(registry)).await?;
            // Nothing in a whole turn: the stream is opened again after a pause.
            return if has_news { Ok(()) } else { Err(StreamError::Timeout(TURN_TIME)) };
        }
    }
}

async fn on_registry<T: Send + 'static>(
    rooms: &Rooms,
    job: impl FnOnce(&mut RoomRegistry) -> T + Send + 'static,
) -> Result<T, StreamError> {
    // It fails only while the node is ending.
    let done = rooms.perform(job).await;
    done.map_err(|_: Error| StreamError::Reset(PeerErrorCode::ShuttingDown))
}
