//! The sending side of chat: sends the queued messages of one recipient over one link.

use std::time::Instant;

use shared::peer::{ChatFrame, ChatReply, MessageId, PeerErrorCode, PeerRequest};
use shared::{UntrustedText, UserName};
use tokio::sync::Notify;

use super::delivery_state::{ACK_TIMEOUT, ReplyOutcome, SendWindow};
use super::{LocalUser, MessageState};
use crate::engine::{Error, run_blocking};
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{StreamPriority, StreamReceiver, StreamSender, with_timeout};

/// The sending half of a conversation over one link.
#[derive(Debug)]
pub struct ChatSender {
    link: Link,
    sender: StreamSender,
    receiver: StreamReceiver,
    send_window: SendWindow,
}

/// A message whose delivery state was just recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledMessage {
    /// The message's id.
    pub id: MessageId,
    /// The state as it is recorded now.
    pub state: MessageState,
    /// The receiver's code and words if it refused the message.
    pub refusal: Option<(PeerErrorCode, UntrustedText)>,
}

impl ChatSender {
    /// Opens a chat stream over `link`.
    ///
    /// # Errors
    /// [`StreamError`] when the link has ended, or the receiver grants no stream in time.
    pub async fn open(link: &Link) -> Result<Self, StreamError> {
        let (sender, receiver) =
            with_timeout(ACK_TIMEOUT, link.open_stream(&PeerRequest::Chat {}, StreamPriority::Chat)).await?;
        Ok(Self { link: link.clone(), sender, receiver, send_window: SendWindow::default() })
    }

    /// True if the link has ended.
    pub fn is_closed(&self) -> bool {
        self.link.is_closed()
    }

    /// Sends the messages queued for `to` until there are none; `queue_changed` says that there may be more. Each
    /// message's state is recorded in the profile before it is reported.
    ///
    /// # Errors
    /// [`Error`]; the stream must not be used after one.
    pub async fn flush(
        &mut self,
        me: &LocalUser,
        to: &UserName,
        queue_changed: &Notify,
        report: &mut (dyn FnMut(SettledMessage) + Send),
    ) -> Result<(), Error> {
        loop {
            self.send_queued(me, to).await?;
            // An empty window after sending means that nothing is queued.
            let Some(wake_at) = self.send_window.next_timeout() else { return Ok(()) };
            tokio::select! {
                reply = self.receiver.next_frame() => {
                    let reply = reply.and_then(|reply| reply.ok_or(StreamError::Truncated));
                    let reply = reply.map_err(|why| Error::stream(to, why))?;
                    self.handle_replies(reply, me, to, report).await?;
                }
                () = queue_changed.notified() => {}
                () = tokio::time::sleep_until(wake_at.into()) => {
                    let now = Instant::now();
                    if self.send_window.is_timed_out(now) {
                        return Err(Error::stream(to, StreamError::Timeout(ACK_TIMEOUT)));
                    }
                    let slow = self.send_window.take_slow(now).into_iter();
                    // Shown as sent only now: most acks come sooner, and the state would change twice in a
                    // moment.
                    let sent = slow.map(|id| SettledMessage { id, state: MessageState::Sent, refusal: None }).collect();
                    record_settled(me, to, sent, report).await?;
                }
            }
        }
    }

    /// Sends a typing notice.
    ///
    /// # Errors
    /// [`StreamError`]; the stream must not be used after one.
    pub async fn send_typing(&mut self) -> Result<(), StreamError> {
        with_timeout(ACK_TIMEOUT, self.sender.send_frame(&ChatFrame::Typing {})).await
    }

    async fn send_queued(&mut self, me: &LocalUser, to: &UserName) -> Result<(), Error> {
        let (profile, peer, after, room) =
            (me.profile.clone(), to.clone(), self.send_window.last_sent_seq(), self.send_window.free_slots());
        if room == 0 {
            return Ok(());
        }
        for stored in run_blocking(move || Ok(profile.queued_for(&peer, after, room)?)).await? {
            // One frame at a time: a receiver that doesn't read is noticed by the time limit of each.
            let sent =
                with_timeout(ACK_TIMEOUT, self.sender.send_frame(&ChatFrame::Message(stored.message.clone()))).await;
            sent.map_err(|why| Error::stream(to, why))?;
            self.send_window.note_sent(&stored, Instant::now());
        }
        Ok(())
    }

    /// Handles a reply and those that are buffered behind it, and records them with one write.
    async fn handle_replies(
        &mut self,
        first: ChatReply,
        me: &LocalUser,
        to: &UserName,
        report: &mut (dyn FnMut(SettledMessage) + Send),
    ) -> Result<(), Error> {
        let mut settled = Vec::new();
        let mut not_now = None;
        let mut next = Some(first);
        while let Some(reply) = next {
            match self.send_window.handle_reply(reply) {
                ReplyOutcome::Stored(id) => {
                    settled.push(SettledMessage { id, state: MessageState::Stored, refusal: None });
                }
                ReplyOutcome::Rejected(id, code, why) => {
                    settled.push(SettledMessage { id, state: MessageState::Failed, refusal: Some((code, why)) });
                }
                ReplyOutcome::Deferred(code, message) => {
                    not_now = Some(StreamError::Refused { code, message });
                    break;
                }
                ReplyOutcome::Ignored => {}
                ReplyOutcome::Flood => {
                    let flood = StreamError::Unexpected("replies to nothing, and no end of them");
                    return Err(Error::stream(to, flood));
                }
            }
            // Only buffered replies: waiting for more would delay the record of these.
            next = self.receiver.buffered_frame().map_err(|why| Error::stream(to, why))?;
        }
        // Recorded before the error is returned, so that acked messages aren't sent again.
        record_settled(me, to, settled, report).await?;
        not_now.map_or(Ok(()), |why| Err(Error::stream(to, why)))
    }
}

async fn record_settled(
    me: &LocalUser,
    to: &UserName,
    settled: Vec<SettledMessage>,
    report: &mut (dyn FnMut(SettledMessage) + Send),
) -> Result<(), Error> {
    if settled.is_empty() {
        return Ok(());
    }
    let outcomes: Vec<_> = settled.iter().map(|settled| (settled.id, settled.state)).collect();
    let (profile, to) = (me.profile.clone(), to.clone());
    let changed = run_blocking(move || {
        let changed = profile.record_delivery_states(&to, &outcomes)?;
        // A refused offer is unknown to its recipient, who will never ask for it.
        for (id, _) in changed.iter().filter(|(_, state)| *state == MessageState::Failed) {
            let offer = profile.outgoing_message(&to, *id)?.and_then(|stored| stored.message.offer);
            offer.map_or(Ok(false), |offer| profile.withdraw_undelivered_offer(&to, &offer))?;
        }
        Ok(changed)
    })
    .await?;
    // Unchanged ones were settled by another process of the profile, which reported them.
    settled.into_iter().filter(|settled| changed.contains(&(settled.id, settled.state))).for_each(report);
    Ok(())
}
