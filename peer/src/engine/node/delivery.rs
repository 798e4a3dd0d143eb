//! Delivery of queued messages as soon as their recipients can be reached.
//!
//! Each user to whom something was sent, or waited, since the node began has a [`DeliveryWorker`]. It makes an attempt
//! when a message is queued, when its user comes online (the tracker announces it, or the user calls), when the node is
//! back at the tracker, and in between after growing pauses.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use localization::tr;
use parking_lot::Mutex;
use shared::UserName;
use shared::peer::{ChatMessage, MessageId};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::delivery_worker::{DeliveryOutcome, DeliveryWorker, Mailbox};
use super::link_pool::LinkPool;
use super::node_values::FlushReport;
use crate::engine::chat::{self, DeliveryReport, MessageState, StoredMessage, delivery_state};
use crate::engine::event_bus::EventBus;
use crate::engine::node_event::NodeEvent;
use crate::engine::{Error, ErrorKind, LocalUser, Notice, now_ms, run_blocking};
use crate::profile::ForgetQuery;
use crate::util::TranslatedText;

/// Time for the workers to finish what they are at when the node ends.
const WORKER_END_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval between checks for expired messages.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(3600);
/// Interval between checks for history beyond the retention time.
const PRUNE_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// The queue of outgoing messages, by recipient.
#[derive(Debug)]
pub(super) struct MessageOutbox {
    me: LocalUser,
    events: EventBus,
    mailboxes: Mutex<HashMap<UserName, Arc<Mailbox>>>,
    /// Mailboxes that need a worker.
    new_mailboxes: mpsc::UnboundedSender<Arc<Mailbox>>,
}

/// The task that starts the workers, wakes them on events, expires messages and prunes the history.
#[derive(Debug)]
pub(super) struct DeliveryDispatcher {
    outbox: Arc<MessageOutbox>,
    link_pool: Arc<LinkPool>,
    new_mailboxes: mpsc::UnboundedReceiver<Arc<Mailbox>>,
    events: broadcast::Receiver<NodeEvent>,
    stop: CancellationToken,
}

/// Wakes a worker when it is dropped, whatever became of the message.
struct WakeOnDrop(Arc<Mailbox>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl MessageOutbox {
    /// Returns an outbox, and the task that delivers its messages.
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

    /// Stores a message and waits for its first delivery attempt. With `now` the message is given up if that fails.
    ///
    /// # Errors
    /// [`Error`] when the message is given up.
    pub(super) async fn deliver(
        &self,
        to: &UserName,
        message: ChatMessage,
        now: bool,
    ) -> Result<DeliveryReport, Error> {
        let mailbox = self.mailbox(to);
        // Watched before it is stored: the worker may deliver a stored message at any moment.
        let outcome = mailbox.watch_message(message.id);
        let stored = self.enqueue(to, message.clone()).await;
        if let Err(error) = stored {
            mailbox.unwatch_message(message.id);
            return Err(error);
        }
        match outcome.await {
            Ok(DeliveryOutcome::Stored) => Ok(DeliveryReport { message, state: MessageState::Stored, why: None }),
            Ok(DeliveryOutcome::Queued { kind, why, is_key_recorded: met, is_key_changed: is_changed })
                if !now && chat::may_stay_queued(kind, met, is_changed) =>
            {
                chat::queued_report(message, kind, why)
            }
            Ok(DeliveryOutcome::Queued { kind, why, is_key_recorded: met, .. }) => {
                self.fail_message(to, message, kind, &why, !met).await?;
                Err(chat::with_not_kept_hint(Error::Relayed { kind, message: why.to_string() }))
            }
            Ok(DeliveryOutcome::Failed { kind, why }) => {
                self.fail_message(to, message, kind, &why, false).await?;
                Err(Error::Relayed { kind, message: why.to_string() })
            }
            Err(oneshot::error::RecvError { .. }) => Err(Error::Internal(tr!("`peer` is going offline"))),
        }
    }

    /// Attempts to deliver the messages queued for `to`, and waits for the outcome.
    ///
    /// # Errors
    /// [`Error::Relayed`] when it will never be delivered, or only after the user did something.
    pub(super) async fn flush(&self, to: &UserName) -> Result<FlushReport, Error> {
        let mailbox = self.mailbox(to);
        // Before the wake-up: the attempt may end at once.
        let outcome = mailbox.watch_queue();
        mailbox.wake();
        match outcome.await {
            Ok(DeliveryOutcome::Stored) => Ok(FlushReport { why: None }),
            // Errors that only the user can fix; the messages stay queued.
            Ok(DeliveryOutcome::Queued {
                kind: kind @ (ErrorKind::Disk | ErrorKind::IdentityChanged), why, ..
            }) => Err(Error::Relayed { kind, message: why.to_string() }),
            Ok(DeliveryOutcome::Queued { why, .. }) => Ok(FlushReport { why: Some(why) }),
            Ok(DeliveryOutcome::Failed { kind, why }) => Err(Error::Relayed { kind, message: why.to_string() }),
            Err(oneshot::error::RecvError { .. }) => Err(Error::Internal(tr!("`peer` is going offline"))),
        }
    }

    /// Makes the worker of `user` attempt a delivery.
    pub(super) fn wake(&self, user: &UserName) {
        self.mailbox(user).wake();
    }

    /// Wakes the workers of all users for whom messages or receipts are queued.
    pub(super) async fn wake_all(&self) -> Result<(), Error> {
        let profile = self.me.profile.clone();
        let waiting = move || {
            let mut users = profile.queued_recipients()?;
            users.extend(profile.receipt_recipients()?);
            Ok(users)
        };
        for user in run_blocking(waiting).await? {
            self.wake(&user);
        }
        Ok(())
    }

    /// Sends a typing notice to `user` if there is a link to them.
    pub(super) fn notify_typing(&self, user: &UserName) {
        self.mailbox(user).notify_typing();
    }

    /// Stores a message, or finds it stored already, and wakes its worker once: a second time would be a second attempt.
    ///
    /// # Errors
    /// [`Error`] when the message can't be stored.
    pub(super) async fn enqueue(&self, to: &UserName, message: ChatMessage) -> Result<StoredMessage, Error> {
        // Held until the event is sent, so that events come in the order of the messages' places.
        let turn = self.events.lock_order().await;
        let (events, mailbox) = (self.events.clone(), self.mailbox(to));
        mailbox.end_typing();
        let waker = WakeOnDrop(mailbox);
        chat::store_outgoing(&self.me, to, message, move |stored| {
            // Runs on the storing thread: a message that is stored is announced even if this future is dropped.
            let (to, message, seq) = (stored.peer.clone(), stored.message.clone(), stored.seq);
            events.send(NodeEvent::MessageQueued { to, message, seq });
            drop(waker);
            drop(turn);
        })
        .await
    }

    /// Removes an outgoing message from the queue. Returns false when it wasn't queued.
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
            // A `deliver` that waits for this message gets its outcome from the worker.
            self.wake_existing(to);
        }
        Ok(dropped)
    }

    async fn fail_message(
        &self,
        to: &UserName,
        message: ChatMessage,
        kind: ErrorKind,
        why: &TranslatedText,
        is_unknown_user: bool,
    ) -> Result<(), Error> {
        let (profile, user) = (self.me.profile.clone(), to.clone());
        for id in run_blocking(move || chat::fail_messages(&profile, &user, vec![message], is_unknown_user)).await? {
            let why = Some(why.clone());
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
        let mut mailboxes = self.mailboxes.lock();
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

    /// Expires messages, and gives the user a notice of each, who watches no events.
    pub(super) async fn expire_with_notices(&self) -> Result<(), Error> {
        for expired in expire_outbox(&self.me, Duration::ZERO).await? {
            let why = expiry_message(&expired);
            (self.me.notify)(Notice::MessageExpired { to: expired.peer, why });
        }
        Ok(())
    }

    /// Expires messages and reports each as failed. `ran` is the time that the node has run since the last check.
    async fn report_expired(&self, ran: Duration) -> Result<(), Error> {
        for expired in expire_outbox(&self.me, ran).await? {
            let why = Some(expiry_message(&expired));
            let (to, id, state) = (expired.peer, expired.message.id, expired.state);
            self.events.send(NodeEvent::MessageStateChanged { to, id, state, why, kind: Some(ErrorKind::Unavailable) });
        }
        Ok(())
    }
}

/// Expires queued messages and returns them. `ran` is the time that this process has run since the last call.
async fn expire_outbox(me: &LocalUser, ran: Duration) -> Result<Vec<StoredMessage>, Error> {
    let profile = me.profile.clone();
    run_blocking(move || {
        let now = profile.advance_outbox_clock(now_ms(), ran)?;
        let expired = profile.expire_outbox(delivery_state::expiry_cutoff(now), now)?;
        // Their recipients were never told of these files.
        for StoredMessage { peer, message, .. } in &expired {
            message.offer.as_ref().map_or(Ok(false), |offer| profile.withdraw_undelivered_offer(peer, offer))?;
        }
        Ok(expired)
    })
    .await
}

/// Deletes history beyond the retention time. The earlier of the machine's clock and
/// [`crate::profile::Profile::outbox_now`] counts, so that a clock that jumps ahead deletes nothing.
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

/// Returns the words for a message that expired, with the beginning of its text.
fn expiry_message(expired: &StoredMessage) -> TranslatedText {
    let text = expired.message.text.safe_line();
    let mut beginning: String = text.chars().take(40).collect();
    if beginning.len() < text.len() {
        beginning.push('…');
    }
    TranslatedText::new(|| tr!("it waited for 14 days: {beginning}", beginning))
}

/// Logs an error of a periodic check. A disk that is full for a moment must not take the node offline: the next check
/// tries again.
fn log_failure(outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        tracing::error!("the outbox could not be looked through: {error}");
    }
}

/// Waits for tasks that the stop of the node has ended, up to [`WORKER_END_TIMEOUT`], and aborts the others.
///
/// Not aborted at once: what uses the profile on another thread would outlive the abort, and the profile's last handle
/// puts the write-ahead log away.
async fn end_tasks<T: 'static>(tasks: &mut JoinSet<T>) {
    let ended = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(WORKER_END_TIMEOUT, ended).await;
    tasks.shutdown().await;
}

impl DeliveryDispatcher {
    /// Runs only the workers that an act needs, for a node without presence: it delivers nothing unasked. Returns when the
    /// node stops.
    pub(super) async fn run_workers(mut self) {
        let mut workers = JoinSet::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(mailbox) = self.new_mailboxes.recv() => drop(workers.spawn(self.worker(mailbox).run())),
            }
        }
        end_tasks(&mut workers).await;
    }

    fn worker(&self, mailbox: Arc<Mailbox>) -> DeliveryWorker {
        let MessageOutbox { me, events, .. } = &*self.outbox;
        DeliveryWorker::new(me.clone(), events.clone(), self.link_pool.clone(), mailbox, self.stop.clone())
    }

    /// Runs until the node stops.
    ///
    /// # Errors
    /// [`Error`] when the queued messages can't be read at the start.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let mut workers = JoinSet::new();
        // Expired messages go first, or the workers would deliver them.
        log_failure(self.outbox.report_expired(Duration::ZERO).await);
        let mut last_expiry = tokio::time::Instant::now();
        self.outbox.wake_all().await?;
        let mut expiry_tick = tokio::time::interval_at(tokio::time::Instant::now() + EXPIRY_INTERVAL, EXPIRY_INTERVAL);
        let mut prune_tick = tokio::time::interval(PRUNE_INTERVAL);
        // A process that was stopped for days prunes once, not once for each missed day.
        prune_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // In a task of their own: deleting much history must not delay deliveries.
        let mut prune_tasks = JoinSet::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(mailbox) = self.new_mailboxes.recv() => {
                    workers.spawn(self.worker(mailbox).run());
                }
                Some(ended) = workers.join_next() => if let Err(failure) = ended {
                    tracing::error!("a delivery worker failed: {failure}");
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
                    // After a failure the elapsed time still counts, or messages would age too slowly.
                    if outcome.is_ok() {
                        last_expiry = tokio::time::Instant::now();
                    }
                    log_failure(outcome);
                }
                event = self.events.recv() => match event {
                    Ok(NodeEvent::Presence { user, online: true }) => self.outbox.wake_existing(&user),
                    // After a time without the tracker, or missed events, it is unknown who came online.
                    Ok(NodeEvent::Online { .. }) | Err(broadcast::error::RecvError::Lagged(_)) => {
                        log_failure(self.outbox.wake_all().await);
                    }
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Closed) => break,
                },
            }
        }
        tokio::join!(end_tasks(&mut workers), end_tasks(&mut prune_tasks));
        Ok(())
    }
}

impl MessageOutbox {
    /// As [`MessageOutbox::wake`], but does nothing for a user without a worker: nothing is queued for them.
    pub(super) fn wake_existing(&self, user: &UserName) {
        let mailbox = self.mailboxes.lock().get(user).cloned();
        if let Some(mailbox) = mailbox {
            mailbox.wake();
        }
    }
}
