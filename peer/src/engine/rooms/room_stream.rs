//! Our stream to a member: asks for what is missing here, and sends what is new.
//!
//! Replies come in the order of the requests. So a push needs no waiting: [`RequestExchange`] remembers what is
//! unanswered, and [`RoomStream`] takes the replies to pushes out of the others.

use std::sync::Arc;
use std::time::Duration;

use shared::peer::{PeerErrorCode, PeerRequest, RoomStreamReply, RoomStreamRequest};
use shared::{Fingerprint, RoomId};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::Rooms;
use super::request_exchange::RequestExchange;
use super::room_outlets::RoomOutlet;
use super::unanswered_requests::AnsweredRequest;
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{StreamPriority, with_timeout};

/// Time for the other side to let a stream begin.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for a reply, a transfer of runs included.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);
/// Interval of comparisons without a cause, in case a push was lost.
const COMPARE_INTERVAL: Duration = Duration::from_secs(60);

/// The stream, and what is on its way over it.
#[derive(Debug)]
pub(super) struct RoomStream {
    rooms: Rooms,
    room: RoomId,
    member: Fingerprint,
    exchange: RequestExchange,
    /// Demands a comparison.
    compare: Arc<Notify>,
    interval: Interval,
    is_comparison_due: bool,
    /// Bounds the members that are asked at a time.
    pulls: Arc<Semaphore>,
}

impl RoomStream {
    /// Opens the stream for a room to the member on the other side of `link`. From here on, new messages go over it.
    pub(super) async fn open(
        link: &Link,
        rooms: Rooms,
        room: RoomId,
        pulls: Arc<Semaphore>,
    ) -> Result<Self, StreamError> {
        let first = PeerRequest::Room { id: room };
        // A member with too many open streams lets none begin.
        let opened = with_timeout(OPEN_TIMEOUT, link.open_stream(&first, StreamPriority::Chat));
        let (sender, receiver) = opened.await?;
        let member = link.fingerprint();
        let (outlet, pushes) = RoomOutlet::open(member);
        let compare = outlet.compare.clone();
        let ending = |_| StreamError::Reset(PeerErrorCode::ShuttingDown);
        // Before the first comparison, so that nothing that comes meanwhile is missed.
        rooms.perform(move |registry| registry.outlets().add(room, outlet)).await.map_err(ending)?;
        let mut interval = tokio::time::interval_at(Instant::now() + COMPARE_INTERVAL, COMPARE_INTERVAL);
        // After a sleep of the machine, one comparison makes up for all that were missed.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            rooms,
            room,
            member,
            exchange: RequestExchange::new(sender, receiver, pushes),
            compare,
            interval,
            // Without a link the copies may have come apart.
            is_comparison_due: true,
            pulls,
        })
    }

    /// Sends what is new until a comparison is due and the permit for it is there; `None` if the other side ended the
    /// stream.
    pub(super) async fn next_comparison(&mut self) -> Result<Option<OwnedSemaphorePermit>, StreamError> {
        // One wait for all the time: whoever begins anew goes behind the others. It must be polled whatever the member
        // does: a permit that was handed over, and not taken, is one that nobody else has.
        let mut permit = std::pin::pin!(self.pulls.clone().acquire_owned());
        loop {
            tokio::select! {
                replied = self.exchange.next_reply() => {
                    let Some((_, answered)) = replied? else { return Ok(None) };
                    if self.note_answer(answered).await {
                        return Err(StreamError::Unexpected("a reply that nobody asked for"));
                    }
                }
                () = self.compare.notified() => self.is_comparison_due = true,
                _ = self.interval.tick() => self.is_comparison_due = true,
                Ok(permit) = &mut permit, if self.is_comparison_due => {
                    self.is_comparison_due = false;
                    return Ok(Some(permit));
                }
            }
        }
    }

    /// Sends a request and waits for its reply; pushes go on meanwhile.
    pub(super) async fn ask(&mut self, request: &RoomStreamRequest) -> Result<RoomStreamReply, StreamError> {
        with_timeout(REPLY_TIMEOUT, async {
            self.exchange.queue_question(request)?;
            loop {
                let (reply, answered) = self.exchange.next_reply().await?.ok_or(StreamError::Truncated)?;
                if self.note_answer(answered).await {
                    return match reply {
                        RoomStreamReply::Error { code, message } => Err(StreamError::Refused { code, message }),
                        reply if reply.is_within_bounds() => Ok(reply),
                        _ => Err(StreamError::Unexpected("a reply beyond its bounds")),
                    };
                }
            }
        })
        .await
    }

    /// Reads the raw parts that a reply announced.
    pub(super) async fn read_parts(&mut self, lengths: &[u32]) -> Result<Vec<Vec<u8>>, StreamError> {
        with_timeout(REPLY_TIMEOUT, async {
            // The lengths are few and small: `ask` has refused all others.
            let mut parts = Vec::with_capacity(lengths.len());
            for length in lengths {
                let length = usize::try_from(*length).map_err(|_| StreamError::Unexpected("a length"))?;
                parts.push(self.exchange.read_part(length).await?);
            }
            Ok(parts)
        })
        .await
    }

    /// Notes what a reply says. Returns true if it is one to a question.
    async fn note_answer(&self, answered: AnsweredRequest) -> bool {
        match answered {
            AnsweredRequest::Question => return true,
            AnsweredRequest::Push => {}
            AnsweredRequest::Delivered { message, number } => {
                let (room, member) = (self.room, self.member);
                let noted = self.rooms.perform(move |registry| {
                    registry.note_delivered(room, member, number, Some(message));
                });
                // Fails only when the node is ending.
                let _ = noted.await;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
