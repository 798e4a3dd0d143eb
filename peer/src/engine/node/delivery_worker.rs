//! The delivery worker: delivers the queued messages of one recipient, one attempt after another.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use localization::tr;
use parking_lot::Mutex;
use rand::Rng;
use shared::UserName;
use shared::peer::{MessageId, PeerRequest, RECEIPTS_CAPABILITY};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::link_pool::LinkPool;
use crate::engine::chat::{
    ChatSender, MessageState, RetryPolicy, SettledMessage, fail_messages, is_key_recorded, retry_policy,
};
use crate::engine::event_bus::EventBus;
use crate::engine::node_event::NodeEvent;
use crate::engine::{Error, ErrorKind, LocalUser, run_blocking};
use crate::net::StreamError;
use crate::profile::QueuedReceipt;
use crate::util::Backoff;
use crate::util::TranslatedText;

/// Pauses between two attempts to deliver.
const ATTEMPT_BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(300));

/// The place where a worker is woken, and where those who wait for its outcomes register.
#[derive(Debug)]
pub(super) struct Mailbox {
    user: UserName,
    /// A message may have been queued, or may be deliverable now.
    wake: Notify,
    /// A typing notice may have to be sent.
    typing: Notify,
    /// False once the message is queued that the notice told of.
    is_typing: AtomicBool,
    message_watchers: Mutex<HashMap<MessageId, oneshot::Sender<DeliveryOutcome>>>,
    queue_watchers: Mutex<Vec<oneshot::Sender<DeliveryOutcome>>>,
}

/// The outcome of a delivery attempt.
#[derive(Debug, Clone)]
pub(super) enum DeliveryOutcome {
    /// The recipient has stored the message.
    Stored,
    /// The message could not be delivered now, and stays queued.
    Queued {
        kind: ErrorKind,
        /// The reason, for people.
        why: TranslatedText,
        /// True if the recipient's key is on record.
        is_key_recorded: bool,
        /// True if the recipient's key differs from the record.
        is_key_changed: bool,
    },
    /// The message will never be delivered.
    Failed {
        kind: ErrorKind,
        /// The reason, for people.
        why: TranslatedText,
    },
}

impl Mailbox {
    pub(super) fn new(user: UserName) -> Self {
        Self {
            user,
            wake: Notify::new(),
            typing: Notify::new(),
            is_typing: AtomicBool::new(false),
            message_watchers: Mutex::default(),
            queue_watchers: Mutex::default(),
        }
    }

    /// Makes the worker attempt a delivery.
    pub(super) fn wake(&self) {
        // The permit stays if the worker is in an attempt, so no wake-up is lost.
        self.wake.notify_one();
    }

    /// Makes the worker send a typing notice.
    pub(super) fn notify_typing(&self) {
        // Before the wake-up, at which the worker reads it.
        self.is_typing.store(true, Ordering::Relaxed);
        self.typing.notify_one();
    }

    /// Takes back a typing notice that wasn't sent yet: behind the message it would tell of another one.
    pub(super) fn end_typing(&self) {
        self.is_typing.store(false, Ordering::Relaxed);
    }

    /// Returns a receiver for the outcome of this message's next attempt.
    pub(super) fn watch_message(&self, id: MessageId) -> oneshot::Receiver<DeliveryOutcome> {
        let (sender, outcome) = oneshot::channel();
        self.message_watchers.lock().insert(id, sender);
        outcome
    }

    /// Removes the watcher of a message.
    pub(super) fn unwatch_message(&self, id: MessageId) {
        self.message_watchers.lock().remove(&id);
    }

    /// Returns a receiver for the outcome of the next attempt.
    pub(super) fn watch_queue(&self) -> oneshot::Receiver<DeliveryOutcome> {
        let (sender, outcome) = oneshot::channel();
        self.queue_watchers.lock().push(sender);
        outcome
    }

    fn report(&self, id: MessageId, outcome: DeliveryOutcome) {
        let watcher = self.message_watchers.lock().remove(&id);
        if let Some(waiting) = watcher {
            // The receiver may be gone.
            let _ = waiting.send(outcome);
        }
    }

    fn watched_messages(&self) -> Vec<MessageId> {
        self.message_watchers.lock().keys().copied().collect()
    }

    fn has_queue_watchers(&self) -> bool {
        !self.queue_watchers.lock().is_empty()
    }

    fn has_watchers(&self) -> bool {
        self.has_queue_watchers() || !self.message_watchers.lock().is_empty()
    }

    fn take_queue_watchers(&self) -> Vec<oneshot::Sender<DeliveryOutcome>> {
        std::mem::take(&mut *self.queue_watchers.lock())
    }
}

fn report_to(watchers: impl IntoIterator<Item = oneshot::Sender<DeliveryOutcome>>, outcome: &DeliveryOutcome) {
    for watcher in watchers {
        // The receiver may be gone.
        let _ = watcher.send(outcome.clone());
    }
}

/// The task that delivers the queued messages of one recipient.
pub(super) struct DeliveryWorker {
    me: LocalUser,
    events: EventBus,
    link_pool: Arc<LinkPool>,
    mailbox: Arc<Mailbox>,
    /// Cancelled when the node ends: no further attempt begins.
    stop: CancellationToken,
    chat_sender: Option<ChatSender>,
    /// The last reason for a failure that was reported, so that each is reported once.
    last_hold_reason: Option<TranslatedText>,
    /// True if messages were queued at the last attempt, not only receipts.
    has_messages: bool,
}

impl DeliveryWorker {
    pub(super) const fn new(
        me: LocalUser,
        events: EventBus,
        link_pool: Arc<LinkPool>,
        mailbox: Arc<Mailbox>,
        stop: CancellationToken,
    ) -> Self {
        Self { me, events, link_pool, mailbox, stop, chat_sender: None, last_hold_reason: None, has_messages: false }
    }

    /// Runs until the node stops; an attempt that is under way then is finished.
    pub(super) async fn run(mut self) {
        let mut backoff = ATTEMPT_BACKOFF;
        loop {
            // Taken before the attempt, which may miss what is queued during it: later watchers get the next
            // attempt.
            let (queue_watchers, watched) = (self.mailbox.take_queue_watchers(), self.mailbox.watched_messages());
            let attempt = self.attempt().await;
            if attempt.is_err() && self.stop.is_cancelled() {
                // Its links were closed: that says nothing about the recipient.
                return;
            }
            let pause = match attempt {
                Ok(()) => {
                    report_to(queue_watchers, &DeliveryOutcome::Stored);
                    self.report_settled_elsewhere().await;
                    backoff.reset();
                    self.last_hold_reason = None;
                    if self.mailbox.has_queue_watchers() {
                        // These registered during the attempt, which may not have covered what they ask
                        // about.
                        continue;
                    }
                    None
                }
                Err(error) => {
                    let outcome = self.handle_failure(&error).await;
                    report_to(queue_watchers, &outcome);
                    watched.into_iter().for_each(|id| self.mailbox.report(id, outcome.clone()));
                    // Jittered: recipients that come back together aren't dialed in the same moment.
                    let pause = backoff.next_jittered(rand::rng().random());
                    // Whoever registered during the attempt waits for the next one, whose wake-up this one may have taken.
                    Some(if self.mailbox.has_watchers() { Duration::ZERO } else { pause })
                }
            };
            let again = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => pending().await,
                }
            };
            tokio::pin!(again);
            loop {
                tokio::select! {
                    // In this order: once the node stops, no further attempt begins.
                    biased;
                    () = self.stop.cancelled() => return,
                    () = self.mailbox.wake.notified() => break,
                    () = &mut again => break,
                    () = self.mailbox.typing.notified() => {}
                }
                self.send_typing().await;
            }
        }
    }

    /// Delivers everything that is queued: messages, then receipts.
    async fn attempt(&mut self) -> Result<(), Error> {
        // First what an open conversation takes: the queries below would hold each message up.
        self.flush_open_chat().await?;
        loop {
            let (profile, user) = (self.me.profile.clone(), self.mailbox.user.clone());
            let look = move || Ok((!profile.queued_for(&user, 0, 1)?.is_empty(), profile.queued_receipts(&user)?));
            let (has_messages, receipts) = run_blocking(look).await?;
            self.has_messages = has_messages;
            // Looked at again after each, as a flush takes the wake-up of a receipt that is queued meanwhile.
            if has_messages {
                self.deliver_messages().await?;
            } else if receipts.is_empty() {
                return Ok(());
            } else {
                self.deliver_receipts(receipts).await?;
            }
        }
    }

    /// Delivers the receipts that are queued. A receiver that takes none, or knows no such send, settles them.
    async fn deliver_receipts(&self, receipts: Vec<QueuedReceipt>) -> Result<(), Error> {
        let link = self.link_pool.link_to(&self.mailbox.user).await?;
        let takes_receipts = link.has_capability(RECEIPTS_CAPABILITY);
        let (mut settled, mut failure) = (Vec::new(), None);
        for QueuedReceipt { number, receipt } in receipts {
            let answer =
                if takes_receipts { link.request(&PeerRequest::Receipt(receipt)).await.map(|_| ()) } else { Ok(()) };
            match answer {
                Err(StreamError::Refused { code, .. }) if !code.is_temporary() => settled.push(number),
                Ok(()) => settled.push(number),
                Err(why) => {
                    failure = Some(Error::stream(&self.mailbox.user, why));
                    break;
                }
            }
        }
        // Recorded before the error is returned, so that those that arrived aren't sent again.
        let profile = self.me.profile.clone();
        run_blocking(move || Ok(profile.remove_receipts(&settled)?)).await?;
        failure.map_or(Ok(()), Err)
    }

    /// Delivers the queued messages over the stream that is open from an earlier attempt, if there is one. In the middle
    /// of a conversation a message waits for no query but that of the flush.
    async fn flush_open_chat(&mut self) -> Result<(), Error> {
        // Taken out during use: a stream that fails within a frame must not be used again.
        let Some(open) = self.chat_sender.take().filter(|open| !open.is_closed()) else { return Ok(()) };
        // Only a message makes a flush fail.
        self.has_messages = true;
        match self.flush(open).await {
            Err(error) if is_link_failure(&error) => {
                // Another stream is tried, over another link if this one is closed by now. Repeated messages do
                // no harm: the recipient knows the ids that it stored.
                tracing::debug!("{}: the conversation broke off: {error}", self.mailbox.user);
                Ok(())
            }
            flushed => flushed,
        }
    }

    /// Delivers the queued messages over a new stream.
    async fn deliver_messages(&mut self) -> Result<(), Error> {
        let link = self.link_pool.link_to(&self.mailbox.user).await?;
        // The link was made, so the key is the one on record.
        self.set_frozen(false).await?;
        let open = ChatSender::open(&link).await.map_err(|why| Error::stream(&self.mailbox.user, why))?;
        self.flush(open).await
    }

    async fn flush(&mut self, mut open: ChatSender) -> Result<(), Error> {
        let (mailbox, events) = (self.mailbox.clone(), self.events.clone());
        let flushed = open
            .flush(&self.me, &mailbox.user, &mailbox.wake, &mut |settled| report_settled(&mailbox, &events, settled))
            .await;
        if flushed.is_ok() {
            self.chat_sender = Some(open);
        }
        flushed
    }

    /// Applies the retry policy to a failed attempt; returns the outcome for those who wait.
    async fn handle_failure(&mut self, error: &Error) -> DeliveryOutcome {
        let (kind, why) = (error.kind(), TranslatedText::of(error));
        // If the profile can't say, the messages are kept: only an unknown key allows to give them up.
        let is_key_recorded = is_key_recorded(&self.me, &self.mailbox.user).await.unwrap_or(true);
        let policy = retry_policy(error, is_key_recorded);
        let is_key_changed = policy == RetryPolicy::AfterTrust;
        if policy == RetryPolicy::Never {
            let is_unknown_user = matches!(error, Error::UnknownUser(_));
            if let Err(error) = self.give_up_all(kind, &why, is_unknown_user).await {
                // They stay queued, and the next attempt gives them up.
                tracing::error!("what can't be delivered could not be given up: {error}");
            }
            return DeliveryOutcome::Failed { kind, why };
        }
        if is_key_changed && let Err(error) = self.set_frozen(true).await {
            tracing::error!("{error}");
        }
        // Told once for each reason: the attempts go on for days.
        if self.has_messages && self.last_hold_reason.as_ref() != Some(&why) {
            self.last_hold_reason = Some(why.clone());
            self.events.send(NodeEvent::DeliveryHeld {
                user: self.mailbox.user.clone(),
                why: why.clone(),
                frozen: is_key_changed,
            });
        }
        DeliveryOutcome::Queued { kind, why, is_key_recorded, is_key_changed }
    }

    /// Reports watched messages that another process of the profile delivered or removed from the queue.
    async fn report_settled_elsewhere(&self) {
        for id in self.mailbox.watched_messages() {
            let (profile, user) = (self.me.profile.clone(), self.mailbox.user.clone());
            match run_blocking(move || Ok(profile.outgoing_state(&user, id)?)).await {
                Ok(Some(MessageState::Stored)) => self.mailbox.report(id, DeliveryOutcome::Stored),
                Ok(Some(state)) if state.is_given_up() => {
                    let why = TranslatedText::new(|| tr!("it was given up ({state})", state = state.as_str()));
                    // The process that removed it is unknown.
                    let kind = if state == MessageState::Dropped { ErrorKind::Other } else { ErrorKind::Unavailable };
                    self.mailbox.report(id, DeliveryOutcome::Failed { kind, why });
                }
                // Not in the database yet, or queued since the attempt began: the next attempt covers it.
                Ok(_) => {}
                Err(error) => tracing::error!("{error}"),
            }
        }
    }

    /// Gives up everything that is queued: the recipient refuses it, or doesn't exist.
    async fn give_up_all(&self, kind: ErrorKind, why: &TranslatedText, is_unknown_user: bool) -> Result<(), Error> {
        let (profile, user) = (self.me.profile.clone(), self.mailbox.user.clone());
        let given_up = run_blocking(move || {
            let receipts: Vec<i64> = profile.queued_receipts(&user)?.iter().map(|receipt| receipt.number).collect();
            profile.remove_receipts(&receipts)?;
            let waiting = profile.queued_for(&user, 0, usize::MAX)?;
            fail_messages(&profile, &user, waiting.into_iter().map(|stored| stored.message).collect(), is_unknown_user)
        })
        .await?;
        for id in given_up {
            let (to, state, told) = (self.mailbox.user.clone(), MessageState::Failed, Some(why.clone()));
            self.events.send(NodeEvent::MessageStateChanged { to, id, state, why: told, kind: Some(kind) });
            // Those that were queued during the attempt are given up as well.
            self.mailbox.report(id, DeliveryOutcome::Failed { kind, why: why.clone() });
        }
        Ok(())
    }

    async fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let (profile, user) = (self.me.profile.clone(), self.mailbox.user.clone());
        run_blocking(move || Ok(profile.set_frozen(&user, frozen)?)).await.map(|_| ())
    }

    async fn send_typing(&mut self) {
        if !self.mailbox.is_typing.swap(false, Ordering::Relaxed) {
            return;
        }
        let open = match self.chat_sender.take().filter(|open| !open.is_closed()) {
            Some(open) => Some(open),
            // Nobody is dialled for a notice that is worthless a moment later.
            None => match self.link_pool.existing_link(&self.mailbox.user) {
                Some(link) => ChatSender::open(&link).await.ok(),
                None => None,
            },
        };
        if let Some(mut open) = open
            && open.send_typing().await.is_ok()
        {
            self.chat_sender = Some(open);
        }
    }
}

/// True if the stream or link broke; false if the other side refused something.
fn is_link_failure(error: &Error) -> bool {
    match error {
        Error::Stream { source: StreamError::Refused { .. }, .. } => false,
        Error::Stream { .. } | Error::Link { .. } => true,
        _ => false,
    }
}

fn report_settled(mailbox: &Mailbox, events: &EventBus, settled: SettledMessage) {
    let SettledMessage { id, state, refusal: refused } = settled;
    let user = &mailbox.user;
    let why = refused.map(|(_, why)| TranslatedText::new(|| tr!("{user} refused it: {why}", user, why)));
    let outcome = match (state, &why) {
        (MessageState::Stored, _) => Some(DeliveryOutcome::Stored),
        (_, Some(why)) => Some(DeliveryOutcome::Failed { kind: ErrorKind::Refused, why: why.clone() }),
        _ => None,
    };
    let kind = why.is_some().then_some(ErrorKind::Refused);
    // Before those who wait: whoever has an outcome finds the events before it in its channel.
    events.send(NodeEvent::MessageStateChanged { to: mailbox.user.clone(), id, state, why, kind });
    if let Some(outcome) = outcome {
        mailbox.report(id, outcome);
    }
}

#[cfg(test)]
mod tests;
