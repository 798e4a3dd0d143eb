//! The requests of a room's stream on their way, and their replies.
//!
//! Both directions go on at the same time. A member who is busy with a long reply reads nothing meanwhile: whoever
//! wrote without reading would wait for it, and it for the reader.

use std::time::Duration;

use bytes::Bytes;
use shared::frame;
use shared::peer::{RoomStreamReply, RoomStreamRequest};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::room_outlets::RoomPush;
use super::unanswered_requests::{AnsweredRequest, UnansweredRequests};
use crate::net::StreamError;
use crate::net::stream::{StreamReceiver, StreamSender};

/// Time for the member to read what is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 10 } else { 20 });

/// Both directions of a stream, and what is new to the member.
#[derive(Debug)]
pub(super) struct RequestExchange {
    sender: StreamSender,
    receiver: StreamReceiver,
    pushes: mpsc::Receiver<RoomPush>,
    unanswered: UnansweredRequests,
    /// Frames, or the rest of them, that are not sent yet.
    outgoing: Bytes,
    /// The time at which `outgoing` has to be sent.
    deadline: Instant,
}

impl RequestExchange {
    /// Returns the exchange over a stream; `pushes` are sent as they come.
    pub(super) fn new(sender: StreamSender, receiver: StreamReceiver, pushes: mpsc::Receiver<RoomPush>) -> Self {
        let (unanswered, outgoing, deadline) = (UnansweredRequests::default(), Bytes::new(), Instant::now());
        Self { sender, receiver, pushes, unanswered, outgoing, deadline }
    }

    /// Queues a question behind what is on its way.
    pub(super) fn queue_question(&mut self, request: &RoomStreamRequest) -> Result<(), StreamError> {
        self.queue(request)?;
        self.unanswered.note_question();
        Ok(())
    }

    /// Sends what waits until a reply comes. Returns it with the request that it answers; `None` if the other side
    /// ended the stream. Cancel-safe.
    pub(super) async fn next_reply(&mut self) -> Result<Option<(RoomStreamReply, AnsweredRequest)>, StreamError> {
        loop {
            tokio::select! {
                Some(push) = self.pushes.recv(), if self.outgoing.is_empty() && self.unanswered.has_room_for_push() => {
                    let RoomPush { own_number, message, run } = push;
                    self.queue(&RoomStreamRequest::New { run })?;
                    // Noted in the order of the frames, by which replies are assigned.
                    self.unanswered.note_push(message, own_number);
                }
                sent = self.sender.send_shared_bulk(&mut self.outgoing), if !self.outgoing.is_empty() => sent?,
                () = tokio::time::sleep_until(self.deadline), if !self.outgoing.is_empty() => {
                    return Err(StreamError::Timeout(WRITE_TIMEOUT));
                }
                frame = self.receiver.next_frame::<RoomStreamReply>() => {
                    let Some(reply) = frame? else { return Ok(None) };
                    let answered = self.unanswered.settle(&reply);
                    let answered = answered.ok_or(StreamError::Unexpected("a reply that nobody asked for"))?;
                    return Ok(Some((reply, answered)));
                }
            }
        }
    }

    /// Reads a raw part that a reply announced.
    pub(super) async fn read_part(&mut self, length: usize) -> Result<Vec<u8>, StreamError> {
        let part = self.receiver.read_bulk_exact(length).await?;
        // While it sends these, the member reads nothing.
        self.deadline = Instant::now() + WRITE_TIMEOUT;
        Ok(part)
    }

    fn queue(&mut self, request: &RoomStreamRequest) -> Result<(), StreamError> {
        let mut frames = self.outgoing.to_vec();
        frame::encode(request, &mut frames)?;
        (self.outgoing, self.deadline) = (frames.into(), Instant::now() + WRITE_TIMEOUT);
        Ok(())
    }
}
