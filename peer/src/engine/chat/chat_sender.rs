//! Sending what waits for somebody over one link.

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

/// What became of a message of ours, as it is recorded now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledMessage {
    /// Which.
    pub id: MessageId,
    /// What became of it.
    pub state: MessageState,
    /// The other side's words when it refused.
    pub refusal: Option<(PeerErrorCode, UntrustedText)>,
}

impl ChatSender {
    /// Begins to speak over `link`.
    ///
    /// # Errors
    /// [`StreamError`] when the link is gone, or the other side lets no stream begin.
    pub async fn open(link: &Link) -> Result<Self, StreamError> {
        let (sender, receiver) =
            with_timeout(ACK_TIMEOUT, link.open_stream(&PeerRequest::Chat {}, StreamPriority::Chat)).await?;
        Ok(Self { link: link.clone(), sender, receiver, send_window: SendWindow::default() })
    }

    /// Whether it still leads anywhere.
    pub fn is_closed(&self) -> bool {
        self.link.is_closed()
    }

    /// Sends what waits for `to` until nothing does; `more` says that something more may wait. What becomes of each
    /// message is recorded, then reported.
    ///
    /// # Errors
    /// [`Error`]; after one, this half is of no more use.
    pub async fn flush(
        &mut self,
        me: &LocalUser,
        to: &UserName,
        queue_changed: &Notify,
        report: &mut (dyn FnMut(SettledMessage) + Send),
    ) -> Result<(), Error> {
        loop {
            self.send_queued(me, to).await?;
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
                    let sent = slow.map(|id| SettledMessage { id, state: MessageState::Sent, refusal: None }).collect();
                    record_settled(me, to, sent, report).await?;
                }
            }
        }
    }

    /// Says that we are writing.
    ///
    /// # Errors
    /// [`StreamError`]; after one, this half is of no more use.
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
            let sent =
                with_timeout(ACK_TIMEOUT, self.sender.send_frame(&ChatFrame::Message(stored.message.clone()))).await;
            sent.map_err(|why| Error::stream(to, why))?;
            self.send_window.note_sent(&stored, Instant::now());
        }
        Ok(())
    }

    /// Takes a reply and those that are here behind it, and records them with one write.
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
            next = self.receiver.buffered_frame().map_err(|why| Error::stream(to, why))?;
        }
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
        for (id, _) in changed.iter().filter(|(_, state)| *state == MessageState::Failed) {
            let offer = profile.outgoing_message(&to, *id)?.and_then(|stored| stored.message.offer);
            offer.map_or(Ok(false), |offer| profile.withdraw_undelivered_offer(&to, &offer))?;
        }
        Ok(changed)
    })
    .await?;
    settled.into_iter().filter(|settled| changed.contains(&(settled.id, settled.state))).for_each(report);
    Ok(())
}
