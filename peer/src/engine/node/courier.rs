//! Delivering to one person, one attempt after another.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng;
use shared::UserName;
use shared::peer::MessageId;
use tokio::sync::{Notify, oneshot};

use super::switchboard::Switchboard;
use crate::engine::chat::ledger::Backoff;
use crate::engine::chat::{MessageState, Outgoing, Prospect, Settled, give_up, is_met, prospect};
use crate::engine::event::{Event, Events};
use crate::engine::{Error, ErrorKind, Me, blocking};

/// Where messages for one person are left.
#[derive(Debug)]
pub(super) struct Desk {
    user: UserName,
    /// Something may wait, or may go.
    wake: Notify,
    /// We are writing to them.
    typing: Notify,
    verdicts: Mutex<HashMap<MessageId, oneshot::Sender<Verdict>>>,
    verdicts_on_all: Mutex<Vec<oneshot::Sender<Verdict>>>,
}

/// What became of a message when it was tried.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// The other side has it.
    Stored,
    /// It could not go now, and waits.
    Waits {
        /// What kind of reason.
        kind: ErrorKind,
        /// In words.
        why: String,
        /// Whether the receiver's key is on record.
        met: bool,
        /// Whether the receiver has another key now.
        is_changed: bool,
    },
    /// It will never go.
    Failed {
        /// What kind of reason.
        kind: ErrorKind,
        /// In words.
        why: String,
    },
}

impl Desk {
    pub(super) fn new(user: UserName) -> Self {
        Self {
            user,
            wake: Notify::new(),
            typing: Notify::new(),
            verdicts: Mutex::default(),
            verdicts_on_all: Mutex::default(),
        }
    }

    /// Something may wait, or may go.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// We are writing.
    pub(super) fn typing(&self) {
        self.typing.notify_one();
    }

    /// Tells what becomes of a message the next time it is tried.
    pub(super) fn verdict_on(&self, id: MessageId) -> oneshot::Receiver<Verdict> {
        let (verdict, told) = oneshot::channel();
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).insert(id, verdict);
        told
    }

    /// Nobody asks about it any more.
    pub(super) fn forget(&self, id: MessageId) {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Tells how the next attempt goes.
    pub(super) fn verdict_on_all(&self) -> oneshot::Receiver<Verdict> {
        let (verdict, told) = oneshot::channel();
        self.verdicts_on_all.lock().unwrap_or_else(PoisonError::into_inner).push(verdict);
        told
    }

    fn tell(&self, id: MessageId, verdict: Verdict) {
        let waiting = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(waiting) = waiting {
            // Whoever asked may be gone.
            let _ = waiting.send(verdict);
        }
    }

    fn tell_all(&self, verdict: &Verdict) {
        let asked = std::mem::take(&mut *self.verdicts.lock().unwrap_or_else(PoisonError::into_inner));
        tell_those(asked.into_values(), verdict);
    }

    fn asked(&self) -> Vec<MessageId> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    fn is_asked_about_all(&self) -> bool {
        !self.verdicts_on_all.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn asked_about_all(&self) -> Vec<oneshot::Sender<Verdict>> {
        std::mem::take(&mut *self.verdicts_on_all.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn tell_those(asked: impl IntoIterator<Item = oneshot::Sender<Verdict>>, verdict: &Verdict) {
    for asked in asked {
        // Whoever asked may be gone.
        let _ = asked.send(verdict.clone());
    }
}

/// Delivers what waits for one person.
pub(super) struct Courier {
    me: Me,
    events: Events,
    switchboard: Arc<Switchboard>,
    desk: Arc<Desk>,
    outgoing: Option<Outgoing>,
    /// Why nothing goes, as it was last told.
    held: Option<String>,
}

impl Courier {
    pub(super) const fn new(me: Me, events: Events, switchboard: Arc<Switchboard>, desk: Arc<Desk>) -> Self {
        Self { me, events, switchboard, desk, outgoing: None, held: None }
    }

    /// Delivers for as long as the node lives.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            let asked = self.desk.asked_about_all();
            let attempt = self.attempt().await;
            let pause = match attempt {
                Ok(()) => {
                    tell_those(asked, &Verdict::Stored);
                    self.tell_what_was_settled_elsewhere().await;
                    backoff = Backoff::new();
                    self.held = None;
                    if self.desk.is_asked_about_all() {
                        // Asked while the attempt went on: it may not have been about everything.
                        continue;
                    }
                    None
                }
                Err(error) => {
                    let verdict = self.failed(&error).await;
                    tell_those(asked, &verdict);
                    self.desk.tell_all(&verdict);
                    Some(backoff.pause(rand::rng().random()))
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
                    () = self.desk.wake.notified() => break,
                    () = &mut again => break,
                    () = self.desk.typing.notified() => {}
                }
                self.say_typing().await;
            }
        }
    }

    /// Delivers everything that waits, over what is open or over a new link.
    async fn attempt(&mut self) -> Result<(), Error> {
        let (profile, user) = (self.me.profile.clone(), self.desk.user.clone());
        if blocking(move || Ok(profile.outbox_of(&user, 0, 1)?)).await?.is_empty() {
            return Ok(());
        }
        // Taken out while it is used: one that fails in the middle of a frame must not be used again.
        if let Some(open) = self.outgoing.take().filter(|open| !open.is_closed()) {
            match self.flush(open).await {
                Err(error) if is_broken(&error) => {
                    // The link may have died unnoticed; the other side knows the messages that it got.
                    tracing::debug!("{}: the conversation broke off: {error}", self.desk.user);
                }
                flushed => return flushed,
            }
        }
        let link = self.switchboard.link_to(&self.desk.user).await?;
        // Their key is the one on record.
        self.set_frozen(false).await?;
        let open = Outgoing::open(&link).await.map_err(|why| Error::stream(&self.desk.user, why))?;
        self.flush(open).await
    }

    async fn flush(&mut self, mut open: Outgoing) -> Result<(), Error> {
        let (desk, events) = (self.desk.clone(), self.events.clone());
        let flushed =
            open.flush(&self.me, &desk.user, &desk.wake, &mut |settled| report(&desk, &events, settled)).await;
        if flushed.is_ok() {
            self.outgoing = Some(open);
        }
        flushed
    }

    /// Draws the consequences of a failure; what is waited for is told its verdict.
    async fn failed(&mut self, error: &Error) -> Verdict {
        let (kind, why) = (error.kind(), error.to_string());
        let met = is_met(&self.me, &self.desk.user).await.unwrap_or(true);
        let prospect = prospect(error, met);
        let is_changed = prospect == Prospect::WhenTrusted;
        if prospect == Prospect::Never {
            let is_nobody = matches!(error, Error::UnknownUser(_));
            if let Err(error) = self.give_up_all(kind, &why, is_nobody).await {
                tracing::error!("what can't be delivered could not be given up: {error}");
            }
            return Verdict::Failed { kind, why };
        }
        if is_changed && let Err(error) = self.set_frozen(true).await {
            tracing::error!("{error}");
        }
        if self.held.as_ref() != Some(&why) {
            self.held = Some(why.clone());
            self.events.send(Event::Held { user: self.desk.user.clone(), why: why.clone(), frozen: is_changed });
        }
        Verdict::Waits { kind, why, met, is_changed }
    }

    /// Other processes of the profile deliver as well, and take things out.
    async fn tell_what_was_settled_elsewhere(&self) {
        for id in self.desk.asked() {
            let (profile, user) = (self.me.profile.clone(), self.desk.user.clone());
            match blocking(move || Ok(profile.state_of_ours(&user, id)?)).await {
                Ok(Some(MessageState::Stored)) => self.desk.tell(id, Verdict::Stored),
                Ok(Some(state)) if state.is_given_up() => {
                    let why = format!("it was given up ({})", state.as_str());
                    // By whom it was taken out, nobody here knows.
                    let kind = if state == MessageState::Dropped { ErrorKind::Other } else { ErrorKind::Unavailable };
                    self.desk.tell(id, Verdict::Failed { kind, why });
                }
                // Not stored yet, or stored since: the next attempt is about it.
                Ok(_) => {}
                Err(error) => tracing::error!("{error}"),
            }
        }
    }

    /// Gives up everything that waits: they don't want it, or there is nobody of that name.
    async fn give_up_all(&self, kind: ErrorKind, why: &str, is_nobody: bool) -> Result<(), Error> {
        let (profile, user) = (self.me.profile.clone(), self.desk.user.clone());
        let given_up = blocking(move || {
            let waiting = profile.outbox_of(&user, 0, usize::MAX)?;
            give_up(&profile, &user, waiting.into_iter().map(|stored| stored.message).collect(), is_nobody)
        })
        .await?;
        for id in given_up {
            let (to, state, why) = (self.desk.user.clone(), MessageState::Failed, Some(why.to_owned()));
            self.events.send(Event::State { to, id, state, why, kind: Some(kind) });
        }
        Ok(())
    }

    async fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let (profile, user) = (self.me.profile.clone(), self.desk.user.clone());
        blocking(move || Ok(profile.set_frozen(&user, frozen)?)).await.map(|_| ())
    }

    async fn say_typing(&mut self) {
        let open = match self.outgoing.take().filter(|open| !open.is_closed()) {
            Some(open) => Some(open),
            None => match self.switchboard.existing_link(&self.desk.user) {
                Some(link) => Outgoing::open(&link).await.ok(),
                None => None,
            },
        };
        if let Some(mut open) = open
            && open.typing().await.is_ok()
        {
            self.outgoing = Some(open);
        }
    }
}

/// Whether the stream broke, as opposed to the other side having said something.
fn is_broken(error: &Error) -> bool {
    use crate::net::StreamError;
    match error {
        Error::Stream { source: StreamError::Answered { .. }, .. } => false,
        Error::Stream { .. } | Error::Link { .. } => true,
        _ => false,
    }
}

fn report(desk: &Desk, events: &Events, settled: Settled) {
    let Settled { id, state, refused } = settled;
    let why = refused.map(|(_, why)| format!("{} refused it: {why}", desk.user));
    match (state, &why) {
        (MessageState::Stored, _) => desk.tell(id, Verdict::Stored),
        (_, Some(why)) => desk.tell(id, Verdict::Failed { kind: ErrorKind::Refused, why: why.clone() }),
        _ => {}
    }
    let kind = why.is_some().then_some(ErrorKind::Refused);
    events.send(Event::State { to: desk.user.clone(), id, state, why, kind });
}
