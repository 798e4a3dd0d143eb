//! Delivering to one person, one attempt after another.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng;
use shared::UserName;
use shared::peer::MessageId;
use tokio::sync::{Notify, oneshot};

use super::link_pool::LinkPool;
use crate::engine::chat::delivery_state::Backoff;
use crate::engine::chat::{
    ChatSender, MessageState, RetryPolicy, SettledMessage, fail_messages, is_key_recorded, retry_policy,
};
use crate::engine::node_event::{EventBus, NodeEvent};
use crate::engine::{Error, ErrorKind, LocalUser, run_blocking};

/// Where messages for one person are left.
#[derive(Debug)]
pub(super) struct Mailbox {
    user: UserName,
    /// Something may wait, or may go.
    wake: Notify,
    /// We are writing to them.
    typing: Notify,
    message_watchers: Mutex<HashMap<MessageId, oneshot::Sender<DeliveryOutcome>>>,
    queue_watchers: Mutex<Vec<oneshot::Sender<DeliveryOutcome>>>,
}

/// What became of a message when it was tried.
#[derive(Debug, Clone)]
pub(super) enum DeliveryOutcome {
    /// The other side has it.
    Stored,
    /// It could not go now, and waits.
    Queued {
        /// What kind of reason.
        kind: ErrorKind,
        /// In words.
        why: String,
        /// Whether the receiver's key is on record.
        is_key_recorded: bool,
        /// Whether the receiver has another key now.
        is_key_changed: bool,
    },
    /// It will never go.
    Failed {
        /// What kind of reason.
        kind: ErrorKind,
        /// In words.
        why: String,
    },
}

impl Mailbox {
    pub(super) fn new(user: UserName) -> Self {
        Self {
            user,
            wake: Notify::new(),
            typing: Notify::new(),
            message_watchers: Mutex::default(),
            queue_watchers: Mutex::default(),
        }
    }

    /// Something may wait, or may go.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// We are writing.
    pub(super) fn notify_typing(&self) {
        self.typing.notify_one();
    }

    /// Tells what becomes of a message the next time it is tried.
    pub(super) fn watch_message(&self, id: MessageId) -> oneshot::Receiver<DeliveryOutcome> {
        let (sender, outcome) = oneshot::channel();
        self.message_watchers.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        outcome
    }

    /// Nobody asks about it any more.
    pub(super) fn unwatch_message(&self, id: MessageId) {
        self.message_watchers.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Tells how the next attempt goes.
    pub(super) fn watch_queue(&self) -> oneshot::Receiver<DeliveryOutcome> {
        let (sender, outcome) = oneshot::channel();
        self.queue_watchers.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        outcome
    }

    fn report(&self, id: MessageId, outcome: DeliveryOutcome) {
        let watcher = self.message_watchers.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(waiting) = watcher {
            // Whoever asked may be gone.
            let _ = waiting.send(outcome);
        }
    }

    fn report_all(&self, outcome: &DeliveryOutcome) {
        let watchers = std::mem::take(&mut *self.message_watchers.lock().unwrap_or_else(PoisonError::into_inner));
        report_to(watchers.into_values(), outcome);
    }

    fn watched_messages(&self) -> Vec<MessageId> {
        self.message_watchers.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    fn has_queue_watchers(&self) -> bool {
        !self.queue_watchers.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn take_queue_watchers(&self) -> Vec<oneshot::Sender<DeliveryOutcome>> {
        std::mem::take(&mut *self.queue_watchers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn report_to(watchers: impl IntoIterator<Item = oneshot::Sender<DeliveryOutcome>>, outcome: &DeliveryOutcome) {
    for watcher in watchers {
        // Whoever asked may be gone.
        let _ = watcher.send(outcome.clone());
    }
}

/// Delivers what waits for one person.
pub(super) struct DeliveryWorker {
    me: LocalUser,
    events: EventBus,
    link_pool: Arc<LinkPool>,
    mailbox: Arc<Mailbox>,
    chat_sender: Option<ChatSender>,
    /// Why nothing goes, as it was last told.
    last_hold_reason: Option<String>,
}

impl DeliveryWorker {
    pub(super) const fn new(me: LocalUser, events: EventBus, link_pool: Arc<LinkPool>, mailbox: Arc<Mailbox>) -> Self {
        Self { me, events, link_pool, mailbox, chat_sender: None, last_hold_reason: None }
    }

    /// Delivers for as long as the node lives.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            let queue_watchers = self.mailbox.take_queue_watchers();
            let attempt = self.attempt().await;
            let pause = match attempt {
                Ok(()) => {
                    report_to(queue_watchers, &DeliveryOutcome::Stored);
                    self.report_settled_elsewhere().await;
                    backoff = Backoff::new();
                    self.last_hold_reason = None;
                    if self.mailbox.has_queue_watchers() {
                        // Asked while the attempt went on: it may not have been about everything.
                        continue;
                    }
                    None
                }
                Err(error) => {
                    let outcome = self.handle_failure(&error).await;
                    report_to(queue_watchers, &outcome);
                    self.mailbox.report_all(&outcome);
                    Some(backoff.next_delay(rand::rng().random()))
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
                    () = self.mailbox.wake.notified() => break,
                    () = &mut again => break,
                    () = self.mailbox.typing.notified() => {}
                }
                self.send_typing().await;
            }
        }
    }

    /// Delivers everything that waits, over what is open or over a new link.
    async fn attempt(&mut self) -> Result<(), Error> {
        let (profile, user) = (self.me.profile.clone(), self.mailbox.user.clone());
        if run_blocking(move || Ok(profile.queued_for(&user, 0, 1)?)).await?.is_empty() {
            return Ok(());
        }
        // Taken out while it is used: one that fails in the middle of a frame must not be used again.
        if let Some(open) = self.chat_sender.take().filter(|open| !open.is_closed()) {
            match self.flush(open).await {
                Err(error) if is_link_failure(&error) => {
                    // The link may have died unnoticed; the other side knows the messages that it got.
                    tracing::debug!("{}: the conversation broke off: {error}", self.mailbox.user);
                }
                flushed => return flushed,
            }
        }
        let link = self.link_pool.link_to(&self.mailbox.user).await?;
        // Their key is the one on record.
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

    /// Draws the consequences of a failure; what is waited for is told its verdict.
    async fn handle_failure(&mut self, error: &Error) -> DeliveryOutcome {
        let (kind, why) = (error.kind(), error.to_string());
        let is_key_recorded = is_key_recorded(&self.me, &self.mailbox.user).await.unwrap_or(true);
        let policy = retry_policy(error, is_key_recorded);
        let is_key_changed = policy == RetryPolicy::AfterTrust;
        if policy == RetryPolicy::Never {
            let is_unknown_user = matches!(error, Error::UnknownUser(_));
            if let Err(error) = self.give_up_all(kind, &why, is_unknown_user).await {
                tracing::error!("what can't be delivered could not be given up: {error}");
            }
            return DeliveryOutcome::Failed { kind, why };
        }
        if is_key_changed && let Err(error) = self.set_frozen(true).await {
            tracing::error!("{error}");
        }
        if self.last_hold_reason.as_ref() != Some(&why) {
            self.last_hold_reason = Some(why.clone());
            self.events.send(NodeEvent::DeliveryHeld {
                user: self.mailbox.user.clone(),
                why: why.clone(),
                frozen: is_key_changed,
            });
        }
        DeliveryOutcome::Queued { kind, why, is_key_recorded, is_key_changed }
    }

    /// Other processes of the profile deliver as well, and take things out.
    async fn report_settled_elsewhere(&self) {
        for id in self.mailbox.watched_messages() {
            let (profile, user) = (self.me.profile.clone(), self.mailbox.user.clone());
            match run_blocking(move || Ok(profile.outgoing_state(&user, id)?)).await {
                Ok(Some(MessageState::Stored)) => self.mailbox.report(id, DeliveryOutcome::Stored),
                Ok(Some(state)) if state.is_given_up() => {
                    let why = format!("it was given up ({})", state.as_str());
                    // By whom it was taken out, nobody here knows.
                    let kind = if state == MessageState::Dropped { ErrorKind::Other } else { ErrorKind::Unavailable };
                    self.mailbox.report(id, DeliveryOutcome::Failed { kind, why });
                }
                // Not stored yet, or stored since: the next attempt is about it.
                Ok(_) => {}
                Err(error) => tracing::error!("{error}"),
            }
        }
    }

    /// Gives up everything that waits: they don't want it, or there is nobody of that name.
    async fn give_up_all(&self, kind: ErrorKind, why: &str, is_unknown_user: bool) -> Result<(), Error> {
        let (profile, user) = (self.me.profile.clone(), self.mailbox.user.clone());
        let given_up = run_blocking(move || {
            let waiting = profile.queued_for(&user, 0, usize::MAX)?;
            fail_messages(&profile, &user, waiting.into_iter().map(|stored| stored.message).collect(), is_unknown_user)
        })
        .await?;
        for id in given_up {
            let (to, state, why) = (self.mailbox.user.clone(), MessageState::Failed, Some(why.to_owned()));
            self.events.send(NodeEvent::MessageStateChanged { to, id, state, why, kind: Some(kind) });
        }
        Ok(())
    }

    async fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let (profile, user) = (self.me.profile.clone(), self.mailbox.user.clone());
        run_blocking(move || Ok(profile.set_frozen(&user, frozen)?)).await.map(|_| ())
    }

    async fn send_typing(&mut self) {
        let open = match self.chat_sender.take().filter(|open| !open.is_closed()) {
            Some(open) => Some(open),
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

/// Whether the stream broke, as opposed to the other side having said something.
fn is_link_failure(error: &Error) -> bool {
    use crate::net::StreamError;
    match error {
        Error::Stream { source: StreamError::Refused { .. }, .. } => false,
        Error::Stream { .. } | Error::Link { .. } => true,
        _ => false,
    }
}

fn report_settled(mailbox: &Mailbox, events: &EventBus, settled: SettledMessage) {
    let SettledMessage { id, state, refusal: refused } = settled;
    let why = refused.map(|(_, why)| format!("{} refused it: {why}", mailbox.user));
    match (state, &why) {
        (MessageState::Stored, _) => mailbox.report(id, DeliveryOutcome::Stored),
        (_, Some(why)) => mailbox.report(id, DeliveryOutcome::Failed { kind: ErrorKind::Refused, why: why.clone() }),
        _ => {}
    }
    let kind = why.is_some().then_some(ErrorKind::Refused);
    events.send(NodeEvent::MessageStateChanged { to: mailbox.user.clone(), id, state, why, kind });
}
