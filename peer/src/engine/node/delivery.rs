//! The post office: whatever waits for somebody is delivered as soon as they can be reached.
//!
//! One courier for each person who was ever written to since the node began. A courier tries when something new waits,
//! when its person comes online (the tracker says so, or they call), when the node is back at the tracker, and in
//! between now and then, ever less often.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::UserName;
use shared::peer::{ChatMessage, MessageId};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::control::{DeliveryReport, FlushReport};
use super::delivery_worker::{DeliveryOutcome, DeliveryWorker, Mailbox};
use super::link_pool::LinkPool;
use crate::engine::chat::{self, MessageState, StoredMessage, delivery_state};
use crate::engine::node_event::{EventBus, NodeEvent};
use crate::engine::{Error, ErrorKind, LocalUser, now_ms, run_blocking};
use crate::profile::ForgetQuery;

/// Between two looks for what waited too long.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(3600);
/// Between two looks for history that is older than the user keeps it.
const PRUNE_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Where messages are left.
#[derive(Debug)]
pub(super) struct MessageOutbox {
    me: LocalUser,
    events: EventBus,
    mailboxes: Mutex<HashMap<UserName, Arc<Mailbox>>>,
    /// Desks that need a courier.
    new_mailboxes: mpsc::UnboundedSender<Arc<Mailbox>>,
}

/// The task that keeps the couriers.
#[derive(Debug)]
pub(super) struct DeliveryDispatcher {
    outbox: Arc<MessageOutbox>,
    link_pool: Arc<LinkPool>,
    new_mailboxes: mpsc::UnboundedReceiver<Arc<Mailbox>>,
    events: broadcast::Receiver<NodeEvent>,
    stop: CancellationToken,
}

impl MessageOutbox {
    /// A post office, and the task without which nothing leaves it.
    pub(super) fn new(
        me: LocalUser,
        events: EventBus,
        link_pool: Arc<LinkPool>,
        stop: CancellationToken,
    ) -> (Arc<Self>, DeliveryDispatcher) {
        let (sender, new_mailboxes) = mpsc::unbounded_channel();
        let event_receiver = events.subscribe();
        let outbox = Arc::new(Self { me, events, mailboxes: Mutex::default(), new_mailboxes: sender });
        (outbox.clone(), DeliveryDispatcher { outbox, link_pool, new_mailboxes, events: event_receiver, stop })
    }

    /// Stores a message; it is on its way when this returns.
    ///
    /// # Errors
    /// [`Error`] when it can't be stored.
    pub(super) async fn enqueue(&self, to: &UserName, message: ChatMessage) -> Result<StoredMessage, Error> {
        let stored = self.store(to, message).await?;
        self.mailbox(to).wake();
        Ok(stored)
    }

    /// Stores a message and waits until it was tried; with `now` it is given up when it can't be delivered.
    ///
    /// # Errors
    /// [`Error`] when it is given up.
    pub(super) async fn deliver(
        &self,
        to: &UserName,
        message: ChatMessage,
        now: bool,
    ) -> Result<DeliveryReport, Error> {
        let mailbox = self.mailbox(to);
        // Asked before it is stored: it may be delivered before anything else happens here.
        let outcome = mailbox.watch_message(message.id);
        let stored = self.store(to, message.clone()).await;
        if let Err(error) = stored {
            mailbox.unwatch_message(message.id);
            return Err(error);
        }
        mailbox.wake();
        match outcome.await {
            Ok(DeliveryOutcome::Stored) => Ok(DeliveryReport { message, state: MessageState::Stored, why: None }),
            Ok(DeliveryOutcome::Queued { kind, why, is_key_recorded: met, is_key_changed: is_changed })
                if !now && chat::may_stay_queued(kind, met, is_changed) =>
            {
                chat::queued_report(message, kind, why)
            }
            Ok(DeliveryOutcome::Queued { kind, why, is_key_recorded: met, .. }) => {
                self.fail_message(to, message, kind, &why, !met).await?;
                Err(chat::with_not_kept_hint(Error::Relayed { kind, message: why }))
            }
            Ok(DeliveryOutcome::Failed { kind, why }) => {
                self.fail_message(to, message, kind, &why, false).await?;
                Err(Error::Relayed { kind, message: why })
            }
            Err(oneshot::error::RecvError { .. }) => Err(Error::Internal("the node is ending".to_owned())),
        }
    }

    /// Tries what waits for `to`.
    ///
    /// # Errors
    /// [`Error::Told`] when it never will go.
    pub(super) async fn flush(&self, to: &UserName) -> Result<FlushReport, Error> {
        let mailbox = self.mailbox(to);
        let outcome = mailbox.watch_queue();
        mailbox.wake();
        match outcome.await {
            Ok(DeliveryOutcome::Stored) => Ok(FlushReport { why: None }),
            // Only the user can do something about these; what waits does so all the same.
            Ok(DeliveryOutcome::Queued {
                kind: kind @ (ErrorKind::Disk | ErrorKind::IdentityChanged), why, ..
            }) => Err(Error::Relayed { kind, message: why }),
            Ok(DeliveryOutcome::Queued { why, .. }) => Ok(FlushReport { why: Some(why) }),
            Ok(DeliveryOutcome::Failed { kind, why }) => Err(Error::Relayed { kind, message: why }),
            Err(oneshot::error::RecvError { .. }) => Err(Error::Internal("the node is ending".to_owned())),
        }
    }

    /// Says that something may wait for `user` that can go now.
    pub(super) fn wake(&self, user: &UserName) {
        self.mailbox(user).wake();
    }

    /// The same of everybody for whom something waits.
    ///
    /// # Errors
    /// What is wrong with the profile.
    pub(super) async fn wake_all(&self) -> Result<(), Error> {
        let profile = self.me.profile.clone();
        for user in run_blocking(move || Ok(profile.queued_recipients()?)).await? {
            self.wake(&user);
        }
        Ok(())
    }

    /// Says to `user` that we are writing, if they can be told without a call.
    pub(super) fn notify_typing(&self, user: &UserName) {
        self.mailbox(user).notify_typing();
    }

    async fn store(&self, to: &UserName, message: ChatMessage) -> Result<StoredMessage, Error> {
        // First come, first stored: what one view says keeps its order.
        let turn = self.events.lock_order().await;
        let (events, mailbox) = (self.events.clone(), self.mailbox(to));
        chat::store_outgoing(&self.me, to, message, move |stored| {
            let (to, message, seq) = (stored.peer.clone(), stored.message.clone(), stored.seq);
            events.send(NodeEvent::MessageQueued { to, message, seq });
            mailbox.wake();
            drop(turn);
        })
        .await
    }

    /// Takes a message of ours out of what waits; false when it didn't wait.
    ///
    /// # Errors
    /// What is wrong with the profile.
    pub(super) async fn cancel_queued(&self, to: &UserName, id: MessageId) -> Result<bool, Error> {
        let dropped = chat::cancel_message(&self.me, to, id).await?;
        if dropped {
            self.events.send(NodeEvent::MessageStateChanged {
                to: to.clone(),
                id,
                state: MessageState::Dropped,
                why: None,
                kind: None,
            });
            // Whoever waits for it to be delivered is told.
            self.wake_existing(to);
        }
        Ok(dropped)
    }

    async fn fail_message(
        &self,
        to: &UserName,
        message: ChatMessage,
        kind: ErrorKind,
        why: &str,
        is_unknown_user: bool,
    ) -> Result<(), Error> {
        let (profile, user) = (self.me.profile.clone(), to.clone());
        for id in run_blocking(move || chat::fail_messages(&profile, &user, vec![message], is_unknown_user)).await? {
            let why = Some(why.to_owned());
            self.events.send(NodeEvent::MessageStateChanged {
                to: to.clone(),
                id,
                state: MessageState::Failed,
                why,
                kind: Some(kind),
            });
        }
        Ok(())
    }

    fn mailbox(&self, user: &UserName) -> Arc<Mailbox> {
        let mut mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        mailboxes
            .entry(user.clone())
            .or_insert_with(|| {
                let mailbox = Arc::new(Mailbox::new(user.clone()));
                // Fails only when the node is ending.
                let _ = self.new_mailboxes.send(mailbox.clone());
                mailbox
            })
            .clone()
    }

    /// Gives up what waited too long, and says so; the node has run for so long since the last look.
    async fn report_expired(&self, ran: Duration) -> Result<(), Error> {
        for expired in expire_outbox(&self.me, ran).await? {
            let why = Some(expiry_message(&expired));
            let (to, id, state) = (expired.peer, expired.message.id, expired.state);
            self.events.send(NodeEvent::MessageStateChanged { to, id, state, why, kind: Some(ErrorKind::Unavailable) });
        }
        Ok(())
    }
}

/// Gives up what waited too long; tells what that was. This process has run for `ran` since it last did so.
///
/// # Errors
/// What is wrong with the profile.
pub async fn expire_outbox(me: &LocalUser, ran: Duration) -> Result<Vec<StoredMessage>, Error> {
    let profile = me.profile.clone();
    run_blocking(move || {
        let now = profile.advance_outbox_clock(now_ms(), ran)?;
        let expired = profile.expire_outbox(delivery_state::expiry_cutoff(now), now)?;
        for StoredMessage { peer, message, .. } in &expired {
            message.offer.as_ref().map_or(Ok(false), |offer| profile.withdraw_undelivered_offer(peer, offer))?;
        }
        Ok(expired)
    })
    .await
}

/// Forgets what is older than the user keeps history. A clock that jumps ahead makes nothing old: what counts is the time
/// by the machine's or by that of [`crate::profile::Profile::outbox_now`], whichever is earlier.
async fn prune_history(me: LocalUser) -> Result<(), Error> {
    let profile = me.profile.clone();
    run_blocking(move || {
        let Some(kept) = profile.history_retention_ms()? else { return Ok(()) };
        let now = now_ms();
        let before = Some(profile.outbox_now(now)?.min(now).saturating_sub(kept));
        let forgotten = profile.forget(&ForgetQuery { with: None, before }, now)?;
        tracing::info!("{} messages were older than history is kept, and are forgotten", forgotten.messages);
        Ok(())
    })
    .await
}

/// What is said of a message that waited too long.
pub fn expiry_message(expired: &StoredMessage) -> String {
    let text = expired.message.text.safe_line();
    let mut beginning: String = text.chars().take(40).collect();
    if beginning.len() < text.len() {
        beginning.push('…');
    }
    format!("it waited for 14 days: {beginning}")
}

/// A disk that is full for a moment is no reason to go offline: the next look tries again.
fn log_failure(outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        tracing::error!("the outbox could not be looked through: {error}");
    }
}

impl DeliveryDispatcher {
    /// Runs until the node stops.
    ///
    /// # Errors
    /// What is wrong with the profile.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let mut workers = JoinSet::new();
        log_failure(self.outbox.report_expired(Duration::ZERO).await);
        let mut last_expiry = tokio::time::Instant::now();
        self.outbox.wake_all().await?;
        let mut expiry_tick = tokio::time::interval_at(tokio::time::Instant::now() + EXPIRY_INTERVAL, EXPIRY_INTERVAL);
        let mut prune_tick = tokio::time::interval(PRUNE_INTERVAL);
        prune_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut prune_tasks = JoinSet::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(mailbox) = self.new_mailboxes.recv() => {
                    let worker =
                        DeliveryWorker::new(self.outbox.me.clone(), self.outbox.events.clone(), self.link_pool.clone(), mailbox);
                    workers.spawn(worker.run());
                }
                Some(ended) = workers.join_next() => if let Err(failure) = ended {
                    tracing::error!("a courier's task failed: {failure}");
                },
                _ = prune_tick.tick() => if prune_tasks.is_empty() {
                    prune_tasks.spawn(prune_history(self.outbox.me.clone()));
                },
                Some(ended) = prune_tasks.join_next() => match ended {
                    Ok(outcome) => log_failure(outcome),
                    Err(failure) => tracing::error!("a task that forgets failed: {failure}"),
                },
                _ = expiry_tick.tick() => {
                    let outcome = self.outbox.report_expired(last_expiry.elapsed()).await;
                    if outcome.is_ok() {
                        last_expiry = tokio::time::Instant::now();
                    }
                    log_failure(outcome);
                }
                event = self.events.recv() => match event {
                    Ok(NodeEvent::Presence { user, online: true }) => self.outbox.wake_existing(&user),
                    // Back at the tracker, or too much happened to look at it one by one: who came meanwhile is unknown.
                    Ok(NodeEvent::Online { .. }) | Err(broadcast::error::RecvError::Lagged(_)) => {
                        log_failure(self.outbox.wake_all().await);
                    }
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Closed) => break,
                },
            }
        }
        workers.shutdown().await;
        prune_tasks.shutdown().await;
        Ok(())
    }
}

impl MessageOutbox {
    /// As [`PostOffice::wake`], for somebody who was written to; the others need no courier.
    pub(super) fn wake_existing(&self, user: &UserName) {
        let mailbox = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner).get(user).cloned();
        if let Some(mailbox) = mailbox {
            mailbox.wake();
        }
    }
}
