//! Our stream to a member: asks for what is missing here, and sends what is new.
//!
//! Replies come in the order of the requests. So a push needs no waiting: [`RoomStream`] remembers what is unanswered, and
//! takes the replies to pushes out of the others.

use std::sync::Arc;
use std::time::Duration;

use shared::peer::{PeerErrorCode, PeerRequest, RoomStreamReply, RoomStreamRequest};
use shared::{Fingerprint, RoomId};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::Rooms;
use super::room_outlets::{RoomOutlet, RoomPush};
use super::unanswered_requests::{AnsweredRequest, UnansweredRequests};
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{StreamPriority, StreamReceiver, StreamSender, with_timeout};

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
    sender: StreamSender,
    receiver: StreamReceiver,
    pushes: mpsc::Receiver<RoomPush>,
    unanswered: UnansweredRequests,
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
        let (sender, receiver) = link.open_stream(&PeerRequest::Room { id: room }, StreamPriority::Chat).await?;
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
            sender,
            receiver,
            pushes,
            unanswered: UnansweredRequests::default(),
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
        // One wait for all the time: whoever begins anew goes behind the others.
        let mut permit = std::pin::pin!(self.pulls.clone().acquire_owned());
        loop {
            tokio::select! {
                Some(push) = self.pushes.recv(), if self.unanswered.has_room_for_push() => {
                    self.send_push(push).await?;
                }
                frame = self.receiver.next_frame::<RoomStreamReply>() => {
                    let Some(reply) = frame? else { return Ok(None) };
                    if self.settle(&reply).await? {
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
            self.sender.send_frame(request).await?;
            self.unanswered.note_question();
            loop {
                tokio::select! {
                    Some(push) = self.pushes.recv(), if self.unanswered.has_room_for_push() => {
                        self.send_push(push).await?;
                    }
                    frame = self.receiver.next_frame::<RoomStreamReply>() => {
                        let reply = frame?.ok_or(StreamError::Truncated)?;
                        if self.settle(&reply).await? {
                            return match reply {
                                RoomStreamReply::Error { code, message } => Err(StreamError::Refused { code, message }),
                                reply if reply.is_within_bounds() => Ok(reply),
                                _ => Err(StreamError::Unexpected("a reply beyond its bounds")),
                            };
                        }
                    }
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
                parts.push(self.receiver.read_bulk_exact(length).await?);
            }
            Ok(parts)
        })
        .await
    }

    async fn send_push(&mut self, push: RoomPush) -> Result<(), StreamError> {
        let RoomPush { own_number, message, run } = push;
        self.sender.send_frame(&RoomStreamRequest::New { run }).await?;
        // Noted as soon as it is sent: replies are assigned by the order of the requests.
        self.unanswered.note_push(message, own_number);
        Ok(())
    }

    /// Assigns a reply to the oldest request without one. Returns true if that is a question.
    async fn settle(&mut self, reply: &RoomStreamReply) -> Result<bool, StreamError> {
        match self.unanswered.settle(reply) {
            None => Err(StreamError::Unexpected("a reply that nobody asked for")),
            Some(AnsweredRequest::Question) => Ok(true),
            Some(AnsweredRequest::Push) => Ok(false),
            Some(AnsweredRequest::Delivered { message, number }) => {
                let (room, member) = (self.room, self.member);
                let noted = self.rooms.perform(move |registry| {
                    registry.note_delivered(room, member, number, Some(message));
                });
                // Fails only when the node is ending.
                let _ = noted.await;
                Ok(false)
            }
        }
    }
}
