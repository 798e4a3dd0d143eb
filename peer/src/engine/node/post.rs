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

use super::control::{Delivery, Flushed};
use super::courier::{Courier, Desk, Verdict};
use super::switchboard::Switchboard;
use crate::engine::chat::{self, MessageState, StoredMessage, ledger};
use crate::engine::event::{Event, Events};
use crate::engine::{Error, ErrorKind, Me, blocking, now_ms};
use crate::profile::Forget;

/// Between two looks for what waited too long.
const LOOK: Duration = Duration::from_secs(3600);
/// Between two looks for history that is older than the user keeps it.
const FORGET: Duration = Duration::from_secs(24 * 3600);

/// Where messages are left.
#[derive(Debug)]
pub(super) struct PostOffice {
    me: Me,
    events: Events,
    desks: Mutex<HashMap<UserName, Arc<Desk>>>,
    /// Desks that need a courier.
    opened: mpsc::UnboundedSender<Arc<Desk>>,
}

/// The task that keeps the couriers.
#[derive(Debug)]
pub(super) struct Dispatcher {
    office: Arc<PostOffice>,
    switchboard: Arc<Switchboard>,
    opened: mpsc::UnboundedReceiver<Arc<Desk>>,
    happened: broadcast::Receiver<Event>,
    stop: CancellationToken,
}

impl PostOffice {
    /// A post office, and the task without which nothing leaves it.
    pub(super) fn new(
        me: Me,
        events: Events,
        switchboard: Arc<Switchboard>,
        stop: CancellationToken,
    ) -> (Arc<Self>, Dispatcher) {
        let (sender, opened) = mpsc::unbounded_channel();
        let happened = events.subscribe();
        let office = Arc::new(Self { me, events, desks: Mutex::default(), opened: sender });
        (office.clone(), Dispatcher { office, switchboard, opened, happened, stop })
    }

    /// Stores a message; it is on its way when this returns.
    ///
    /// # Errors
    /// [`Error`] when it can't be stored.
    pub(super) async fn say(&self, to: &UserName, message: ChatMessage) -> Result<StoredMessage, Error> {
        let stored = self.store(to, message).await?;
        self.desk(to).wake();
        Ok(stored)
    }

    /// Stores a message and waits until it was tried; with `now` it is given up when it can't be delivered.
    ///
    /// # Errors
    /// [`Error`] when it is given up.
    pub(super) async fn deliver(&self, to: &UserName, message: ChatMessage, now: bool) -> Result<Delivery, Error> {
        let desk = self.desk(to);
        // Asked before it is stored: it may be delivered before anything else happens here.
        let verdict = desk.verdict_on(message.id);
        let stored = self.store(to, message.clone()).await;
        if let Err(error) = stored {
            desk.forget(message.id);
            return Err(error);
        }
        desk.wake();
        match verdict.await {
            Ok(Verdict::Stored) => Ok(Delivery { message, state: MessageState::Stored, why: None }),
            Ok(Verdict::Waits { kind, why, met, is_changed }) if !now && chat::may_wait(kind, met, is_changed) => {
                chat::waits(message, kind, why)
            }
            Ok(Verdict::Waits { kind, why, met, .. }) => {
                self.give_up(to, message, kind, &why, !met).await?;
                Err(chat::not_kept(Error::Told { kind, message: why }))
            }
            Ok(Verdict::Failed { kind, why }) => {
                self.give_up(to, message, kind, &why, false).await?;
                Err(Error::Told { kind, message: why })
            }
            Err(oneshot::error::RecvError { .. }) => Err(Error::Internal("the node is ending".to_owned())),
        }
    }

    /// Tries what waits for `to`.
    ///
    /// # Errors
    /// [`Error::Told`] when it never will go.
    pub(super) async fn flush(&self, to: &UserName) -> Result<Flushed, Error> {
        let desk = self.desk(to);
        let verdict = desk.verdict_on_all();
        desk.wake();
        match verdict.await {
            Ok(Verdict::Stored) => Ok(Flushed { why: None }),
            // Only the user can do something about these; what waits does so all the same.
            Ok(Verdict::Waits { kind: kind @ (ErrorKind::Disk | ErrorKind::IdentityChanged), why, .. }) => {
                Err(Error::Told { kind, message: why })
            }
            Ok(Verdict::Waits { why, .. }) => Ok(Flushed { why: Some(why) }),
            Ok(Verdict::Failed { kind, why }) => Err(Error::Told { kind, message: why }),
            Err(oneshot::error::RecvError { .. }) => Err(Error::Internal("the node is ending".to_owned())),
        }
    }

    /// Says that something may wait for `user` that can go now.
    pub(super) fn wake(&self, user: &UserName) {
        self.desk(user).wake();
    }

    /// The same of everybody for whom something waits.
    ///
    /// # Errors
    /// What is wrong with the profile.
    pub(super) async fn wake_all(&self) -> Result<(), Error> {
        let profile = self.me.profile.clone();
        for user in blocking(move || Ok(profile.outbox_users()?)).await? {
            self.wake(&user);
        }
        Ok(())
    }

    /// Says to `user` that we are writing, if they can be told without a call.
    pub(super) fn typing(&self, user: &UserName) {
        self.desk(user).typing();
    }

    async fn store(&self, to: &UserName, message: ChatMessage) -> Result<StoredMessage, Error> {
        // First come, first stored: what one view says keeps its order.
        let turn = self.events.turn().await;
        let (events, desk) = (self.events.clone(), self.desk(to));
        chat::store_ours(&self.me, to, message, move |stored| {
            let (to, message, seq) = (stored.peer.clone(), stored.message.clone(), stored.seq);
            events.send(Event::Said { to, message, seq });
            desk.wake();
            drop(turn);
        })
        .await
    }

    /// Takes a message of ours out of what waits; false when it didn't wait.
    ///
    /// # Errors
    /// What is wrong with the profile.
    pub(super) async fn drop_waiting(&self, to: &UserName, id: MessageId) -> Result<bool, Error> {
        let dropped = chat::take_out(&self.me, to, id).await?;
        if dropped {
            self.events.send(Event::State { to: to.clone(), id, state: MessageState::Dropped, why: None, kind: None });
            // Whoever waits for it to be delivered is told.
            self.wake_if_open(to);
        }
        Ok(dropped)
    }

    async fn give_up(
        &self,
        to: &UserName,
        message: ChatMessage,
        kind: ErrorKind,
        why: &str,
        is_nobody: bool,
    ) -> Result<(), Error> {
        let (profile, user) = (self.me.profile.clone(), to.clone());
        for id in blocking(move || chat::give_up(&profile, &user, vec![message], is_nobody)).await? {
            let why = Some(why.to_owned());
            self.events.send(Event::State { to: to.clone(), id, state: MessageState::Failed, why, kind: Some(kind) });
        }
        Ok(())
    }

    fn desk(&self, user: &UserName) -> Arc<Desk> {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        desks
            .entry(user.clone())
            .or_insert_with(|| {
                let desk = Arc::new(Desk::new(user.clone()));
                // Fails only when the node is ending.
                let _ = self.opened.send(desk.clone());
                desk
            })
            .clone()
    }

    /// Gives up what waited too long, and says so; the node has run for so long since the last look.
    async fn expire(&self, ran: Duration) -> Result<(), Error> {
        for late in expire(&self.me, ran).await? {
            let why = Some(expired_words(&late));
            let (to, id, state) = (late.peer, late.message.id, late.state);
            self.events.send(Event::State { to, id, state, why, kind: Some(ErrorKind::Unavailable) });
        }
        Ok(())
    }
}

/// Gives up what waited too long; tells what that was. This process has run for `ran` since it last did so.
///
/// # Errors
/// What is wrong with the profile.
pub async fn expire(me: &Me, ran: Duration) -> Result<Vec<StoredMessage>, Error> {
    let profile = me.profile.clone();
    blocking(move || {
        let now = profile.look_at_outbox_clock(now_ms(), ran)?;
        let late = profile.expire_outbox(ledger::given_up_before(now), now)?;
        for StoredMessage { peer, message, .. } in &late {
            message.offer.as_ref().map_or(Ok(false), |offer| profile.withdraw_untold(peer, offer))?;
        }
        Ok(late)
    })
    .await
}

/// Forgets what is older than the user keeps history. A clock that jumps ahead makes nothing old: what counts is the time
/// by the machine's or by that of [`crate::profile::Profile::outbox_now`], whichever is earlier.
async fn forget_old(me: Me) -> Result<(), Error> {
    let profile = me.profile.clone();
    blocking(move || {
        let Some(kept) = profile.keeps_history()? else { return Ok(()) };
        let now = now_ms();
        let before = Some(profile.outbox_now(now)?.min(now).saturating_sub(kept));
        let forgotten = profile.forget(&Forget { with: None, before }, now)?;
        tracing::info!("{} messages were older than history is kept, and are forgotten", forgotten.messages);
        Ok(())
    })
    .await
}

/// What is said of a message that waited too long.
pub fn expired_words(late: &StoredMessage) -> String {
    let text = late.message.text.line();
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

impl Dispatcher {
    /// Runs until the node stops.
    ///
    /// # Errors
    /// What is wrong with the profile.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let mut couriers = JoinSet::new();
        log_failure(self.office.expire(Duration::ZERO).await);
        let mut looked = tokio::time::Instant::now();
        self.office.wake_all().await?;
        let mut look = tokio::time::interval_at(tokio::time::Instant::now() + LOOK, LOOK);
        let mut forget = tokio::time::interval(FORGET);
        forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut forgetting = JoinSet::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(desk) = self.opened.recv() => {
                    let courier =
                        Courier::new(self.office.me.clone(), self.office.events.clone(), self.switchboard.clone(), desk);
                    couriers.spawn(courier.run());
                }
                Some(ended) = couriers.join_next() => if let Err(failure) = ended {
                    tracing::error!("a courier's task failed: {failure}");
                },
                _ = forget.tick() => if forgetting.is_empty() {
                    forgetting.spawn(forget_old(self.office.me.clone()));
                },
                Some(ended) = forgetting.join_next() => match ended {
                    Ok(outcome) => log_failure(outcome),
                    Err(failure) => tracing::error!("a task that forgets failed: {failure}"),
                },
                _ = look.tick() => {
                    let outcome = self.office.expire(looked.elapsed()).await;
                    if outcome.is_ok() {
                        looked = tokio::time::Instant::now();
                    }
                    log_failure(outcome);
                }
                event = self.happened.recv() => match event {
                    Ok(Event::Presence { user, online: true }) => self.office.wake_if_open(&user),
                    // Back at the tracker, or too much happened to look at it one by one: who came meanwhile is unknown.
                    Ok(Event::Online { .. }) | Err(broadcast::error::RecvError::Lagged(_)) => {
                        log_failure(self.office.wake_all().await);
                    }
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Closed) => break,
                },
            }
        }
        couriers.shutdown().await;
        forgetting.shutdown().await;
        Ok(())
    }
}

impl PostOffice {
    /// As [`PostOffice::wake`], for somebody who was written to; the others need no courier.
    pub(super) fn wake_if_open(&self, user: &UserName) {
        let desk = self.desks.lock().unwrap_or_else(PoisonError::into_inner).get(user).cloned();
        if let Some(desk) = desk {
            desk.wake();
        }
    }
}
