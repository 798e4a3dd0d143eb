//! The wait of `peer send` until its receivers have what was sent.

use std::time::Duration;

use localization::tr;
use serde_json::json;
use shared::RoomName;
use shared::names::name_encoding::display_name;

use super::super::context::CommandContext;
use super::upload_progress_sum::UploadProgressSum;
use crate::engine::chat::describe_send;
use crate::engine::node::{NodeApi, NodeEvents, NodeHandle, NodeLifetime};
use crate::engine::node_connection::open_replacement;
use crate::engine::node_event::{FileTransfer, NodeEvent};
use crate::engine::{Error, ErrorKind, LocalUser};
use crate::profile::{Audience, OutgoingSend, SendState};
use crate::ui::SendBar;

/// Interval between two looks at the record: another process may have ended a send.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Sends that are awaited, in their order.
pub(super) struct ReceiptWait<'a> {
    pub(super) context: &'a CommandContext,
    pub(super) me: &'a LocalUser,
    /// The room to which they were sent, and the number of its other members.
    pub(super) room: Option<(RoomName, usize)>,
}

/// A send that is awaited.
pub(super) struct AwaitedSend {
    send: OutgoingSend,
    /// False if the receiver is known to send no receipts: then it is over when all of it was fetched.
    has_receipts: bool,
    progress: UploadProgressSum,
    /// The members of the room who were counted in what was told last.
    told: usize,
    outcome: Option<SendState>,
}

impl AwaitedSend {
    pub(super) fn new(send: OutgoingSend, has_receipts: bool) -> Self {
        let progress = UploadProgressSum::new(&send.send);
        Self { send, has_receipts, progress, told: 0, outcome: None }
    }

    /// True if all of it was fetched by somebody who sends no receipts, which is all that will be known.
    fn is_fetched_unseen(&self) -> bool {
        self.outcome.is_none() && !self.has_receipts && self.progress.is_all()
    }

    /// Returns the bytes on the other side, as far as is known.
    fn bytes(&self) -> u64 {
        if self.outcome.is_some() { self.send.send.size } else { self.progress.bytes() }
    }
}

impl ReceiptWait<'_> {
    /// Waits for all sends, with a bar; returns what became of each. Fails with [`Error::Interrupted`], or with the reason
    /// why this machine has no node any more.
    pub(super) async fn run(
        &self,
        node: &mut NodeHandle,
        mut sends: Vec<AwaitedSend>,
    ) -> Result<Vec<(OutgoingSend, SendState)>, Error> {
        let size = sends.iter().fold(0, |sum: u64, awaited| sum.saturating_add(awaited.send.send.size));
        let label = match sends.as_slice() {
            [only] => display_name(&only.send.send.name_prefix()).into_owned(),
            several => tr!("{count} sends", count = several.len()),
        };
        let mut bar = SendBar::new(&self.context.output, &label, size);
        // Watched before the first look at the record, so that no end falls between the two.
        let mut events = self.watch(node).await?;
        loop {
            for awaited in sends.iter_mut().filter(|awaited| awaited.outcome.is_none()) {
                self.look(awaited)?;
            }
            if sends.iter().all(|awaited| awaited.outcome.is_some()) {
                bar.end();
                let outcome = |awaited: AwaitedSend| Some((awaited.send, awaited.outcome?));
                return Ok(sends.into_iter().filter_map(outcome).collect());
            }
            self.await_news(node, &mut events, &mut sends, &mut bar).await?;
        }
    }

    /// Reads from the record what became of a send, and tells it.
    fn look(&self, awaited: &mut AwaitedSend) -> Result<(), Error> {
        let number = awaited.send.number;
        if awaited.is_fetched_unseen() {
            // If another process settled it first, that counts: the state is read below.
            self.me.profile.settle_send(number, SendState::Done)?;
        }
        let state = self.state(number)?;
        if let (Some((_, of)), SendState::Waiting) = (&self.room, state) {
            let (done, declined) = self.me.profile.room_receipt_counts(number)?;
            if done + declined > awaited.told {
                awaited.told = done + declined;
                let name = display_name(&awaited.send.send.name_prefix()).into_owned();
                self.context.output.note(&tr!("{name}: {done}/{of} have it", name, done, of));
            }
        }
        if state != SendState::Waiting {
            self.report(&awaited.send, state)?;
            awaited.outcome = Some(state);
        }
        Ok(())
    }

    /// Waits until something may have changed, and shows progress meanwhile.
    async fn await_news(
        &self,
        node: &mut NodeHandle,
        events: &mut NodeEvents,
        sends: &mut [AwaitedSend],
        bar: &mut SendBar,
    ) -> Result<(), Error> {
        // One timer for all events: a stream of progress must not put the look off for ever.
        let look = tokio::time::sleep(LOOK_INTERVAL);
        tokio::pin!(look);
        loop {
            let event = tokio::select! {
                () = self.context.cancel.cancelled() => return Err(Error::Interrupted),
                () = &mut look => return Ok(()),
                event = events.next() => event,
            };
            if let Some(transfer) = event.as_ref().and_then(NodeEvent::transfer) {
                self.add_transfer(&transfer, sends, bar);
                if sends.iter().any(AwaitedSend::is_fetched_unseen) {
                    return Ok(());
                }
                continue;
            }
            match event {
                Some(NodeEvent::SendSettled { number, .. })
                    if sends.iter().any(|awaited| awaited.send.number == number) =>
                {
                    return Ok(());
                }
                // A message that is given up fails its send, without an event of the send itself.
                Some(NodeEvent::MessageStateChanged { id, .. })
                    if sends.iter().any(|awaited| awaited.send.id == Some(id)) =>
                {
                    return Ok(());
                }
                Some(_) => {}
                // The node of another process has ended: the one after it, or one of this process, goes on.
                None => {
                    *node = open_replacement(&self.context.cancel, self.me, NodeLifetime::Command).await?;
                    *events = self.watch(node).await?;
                    return Ok(());
                }
            }
        }
    }

    /// Counts what a receiver fetched.
    fn add_transfer(&self, transfer: &FileTransfer, sends: &mut [AwaitedSend], bar: &mut SendBar) {
        let is_theirs =
            |awaited: &AwaitedSend| self.room.is_some() || awaited.send.audience.person() == Some(&transfer.peer);
        let mut is_moved = false;
        for awaited in sends.iter_mut().filter(|awaited| is_theirs(awaited)) {
            is_moved |= awaited.progress.handle_transfer(transfer);
        }
        if is_moved {
            bar.set_bytes(sends.iter().fold(0, |sum, awaited| awaited.bytes().saturating_add(sum)));
        }
    }

    async fn watch(&self, node: &NodeApi) -> Result<NodeEvents, Error> {
        self.context.until_cancelled(node.watch(None)).await
    }

    fn state(&self, number: i64) -> Result<SendState, Error> {
        // A send that is no more on record is one that was over long ago.
        Ok(self.me.profile.send(number)?.map_or(SendState::Ended, |send| send.state))
    }

    fn report(&self, sent: &OutgoingSend, state: SendState) -> Result<(), Error> {
        let to = self.receiver(sent);
        if self.context.output.is_json() {
            let mut fields = json!({ "number": sent.number, "to": to, "name": sent.send.name, "outcome": state });
            if let Some((_, of)) = &self.room {
                let (done, declined) = self.me.profile.room_receipt_counts(sent.number)?;
                fields["count"] = json!(done);
                fields["declined"] = json!(declined);
                fields["of"] = json!(of);
            }
            return Ok(self.context.output.print_object("receipt", &fields)?);
        }
        let what = display_name(&describe_send(&sent.send)).into_owned();
        if state == SendState::Done {
            self.context.output.note(&match &self.room {
                Some((room, _)) => tr!("everybody in #{room} has {what}", room, what),
                None => tr!("{to} has {what}", to, what),
            });
        }
        Ok(())
    }

    /// Returns the receiver as it is shown.
    pub(super) fn receiver(&self, sent: &OutgoingSend) -> String {
        match (&self.room, &sent.audience) {
            (Some((room, _)), _) => format!("#{room}"),
            (None, Audience::Person(user)) => user.to_string(),
            (None, audience) => audience.to_string(),
        }
    }

    /// Returns the error of a send that didn't arrive, if any.
    pub(super) fn failure(&self, sent: &OutgoingSend, state: SendState) -> Option<Error> {
        let (name, to) = (display_name(sent.send.name.as_str()).into_owned(), self.receiver(sent));
        let (kind, message) = match state {
            SendState::Done | SendState::Waiting => return None,
            SendState::Declined => (ErrorKind::Refused, tr!("{to} declined {name}", to, name)),
            SendState::Ended => (ErrorKind::Other, tr!("the send of {name} was ended here", name)),
            SendState::Failed => {
                (ErrorKind::Unavailable, tr!("{to} was not told of {name}: the message was given up", to, name))
            }
        };
        Some(Error::Relayed { kind, message })
    }
}
