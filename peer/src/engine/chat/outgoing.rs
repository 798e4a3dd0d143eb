//! Sending what waits for somebody over one link.

use std::time::Instant;

use shared::peer::{Ask, ChatFrame, ChatReply, Code, MessageId};
use shared::{UntrustedText, UserName};
use tokio::sync::Notify;

use super::ledger::{ACK, Outcome, Sending};
use super::{Me, MessageState};
use crate::engine::{Error, blocking};
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{Priority, Receiver, Sender, within};

/// The sending half of a conversation over one link.
#[derive(Debug)]
pub struct Outgoing {
    link: Link,
    sender: Sender,
    receiver: Receiver,
    sending: Sending,
}

/// What became of a message of ours, as it is recorded now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Which.
    pub id: MessageId,
    /// What became of it.
    pub state: MessageState,
    /// The other side's words when it refused.
    pub refused: Option<(Code, UntrustedText)>,
}

impl Outgoing {
    /// Begins to speak over `link`.
    ///
    /// # Errors
    /// [`StreamError`] when the link is gone, or the other side lets no stream begin.
    pub async fn open(link: &Link) -> Result<Self, StreamError> {
        let (sender, receiver) = within(ACK, link.open(&Ask::Chat {}, Priority::Chat)).await?;
        Ok(Self { link: link.clone(), sender, receiver, sending: Sending::default() })
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
        me: &Me,
        to: &UserName,
        more: &Notify,
        report: &mut (dyn FnMut(Settled) + Send),
    ) -> Result<(), Error> {
        loop {
            self.send_waiting(me, to).await?;
            let Some(wake_at) = self.sending.wake_at() else { return Ok(()) };
            tokio::select! {
                reply = self.receiver.frame() => {
                    let reply = reply.and_then(|reply| reply.ok_or(StreamError::Truncated));
                    let reply = reply.map_err(|why| Error::stream(to, why))?;
                    self.take_replies(reply, me, to, report).await?;
                }
                () = more.notified() => {}
                () = tokio::time::sleep_until(wake_at.into()) => {
                    let now = Instant::now();
                    if self.sending.is_lost(now) {
                        return Err(Error::stream(to, StreamError::Timeout(ACK)));
                    }
                    let slow = self.sending.slow(now).into_iter();
                    let sent = slow.map(|id| Settled { id, state: MessageState::Sent, refused: None }).collect();
                    record(me, to, sent, report).await?;
                }
            }
        }
    }

    /// Says that we are writing.
    ///
    /// # Errors
    /// [`StreamError`]; after one, this half is of no more use.
    pub async fn typing(&mut self) -> Result<(), StreamError> {
        within(ACK, self.sender.frame(&ChatFrame::Typing {})).await
    }

    async fn send_waiting(&mut self, me: &Me, to: &UserName) -> Result<(), Error> {
        let (profile, peer, after, room) = (me.profile.clone(), to.clone(), self.sending.after(), self.sending.room());
        if room == 0 {
            return Ok(());
        }
        for stored in blocking(move || Ok(profile.outbox_of(&peer, after, room)?)).await? {
            let sent = within(ACK, self.sender.frame(&ChatFrame::Message(stored.message.clone()))).await;
            sent.map_err(|why| Error::stream(to, why))?;
            self.sending.send(&stored, Instant::now());
        }
        Ok(())
    }

    /// Takes a reply and those that are here behind it, and records them with one write.
    async fn take_replies(
        &mut self,
        first: ChatReply,
        me: &Me,
        to: &UserName,
        report: &mut (dyn FnMut(Settled) + Send),
    ) -> Result<(), Error> {
        let mut settled = Vec::new();
        let mut not_now = None;
        let mut next = Some(first);
        while let Some(reply) = next {
            match self.sending.reply(reply) {
                Outcome::Stored(id) => settled.push(Settled { id, state: MessageState::Stored, refused: None }),
                Outcome::Failed(id, code, why) => {
                    settled.push(Settled { id, state: MessageState::Failed, refused: Some((code, why)) });
                }
                Outcome::NotNow(code, message) => {
                    not_now = Some(StreamError::Answered { code, message });
                    break;
                }
                Outcome::Nothing => {}
                Outcome::Flood => {
                    let flood = StreamError::Unexpected("replies to nothing, and no end of them");
                    return Err(Error::stream(to, flood));
                }
            }
            next = self.receiver.frame_here().map_err(|why| Error::stream(to, why))?;
        }
        record(me, to, settled, report).await?;
        not_now.map_or(Ok(()), |why| Err(Error::stream(to, why)))
    }
}

async fn record(
    me: &Me,
    to: &UserName,
    settled: Vec<Settled>,
    report: &mut (dyn FnMut(Settled) + Send),
) -> Result<(), Error> {
    if settled.is_empty() {
        return Ok(());
    }
    let outcomes: Vec<_> = settled.iter().map(|settled| (settled.id, settled.state)).collect();
    let (profile, to) = (me.profile.clone(), to.clone());
    let changed = blocking(move || {
        let changed = profile.settle(&to, &outcomes)?;
        for (id, _) in changed.iter().filter(|(_, state)| *state == MessageState::Failed) {
            let offer = profile.message_of_ours(&to, *id)?.and_then(|stored| stored.message.offer);
            offer.map_or(Ok(false), |offer| profile.withdraw_untold(&to, &offer))?;
        }
        Ok(changed)
    })
    .await?;
    settled.into_iter().filter(|settled| changed.contains(&(settled.id, settled.state))).for_each(report);
    Ok(())
}
