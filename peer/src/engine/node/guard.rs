//! Ending the links to keys that are no longer those of their users.
//!
//! A link was right when it began, and lasts for as long as both sides like. When the tracker says that a key changed,
//! when it may have said so while it was away, and when the user trusts another key, each link that may be concerned is
//! held against the tracker's word and the record. One with another key ends at once: neither a message nor a file goes to
//! whoever holds the old key, and what they write is not taken for their user's any more.
//!
//! Links end as well when an address at one of their ends is gone: QUIC lets a dialler move and not the one that was
//! dialled, and whatever is sent over such a link waits for nothing.

use std::collections::HashSet;
use std::net::IpAddr;

use shared::peer::Code;
use shared::tracker::{ErrorCode, Request, Whois, WhoisReply};
use shared::{Fingerprint, UserName};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Exchange;
use super::keeper::TrackerHandle;
use crate::engine::contacts::{AskTracker, changed_key};
use crate::engine::event::{Event, Events};
use crate::engine::{Error, Me, blocking};
use crate::net::link::Link;
use crate::sys;

/// Whose links may be to the wrong key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Theirs: something was said about their key.
    Of(UserName),
    /// All of ours: our account is online elsewhere, and what is written to it goes there.
    Ourselves,
    /// Everybody's: what was said meanwhile was not heard.
    All,
    /// Theirs: they are at these addresses now.
    Moved(UserName, Vec<IpAddr>),
    /// Everybody's: addresses of this machine may be gone.
    Network,
}

/// The task that ends them.
#[derive(Debug)]
pub(super) struct Guard {
    me: Me,
    events: Events,
    tracker: TrackerHandle,
    exchange: Exchange,
    doubts: mpsc::UnboundedReceiver<Doubt>,
    stop: CancellationToken,
}

/// What the tracker says of somebody's key now.
enum Word {
    Key(Fingerprint),
    /// There is no such account.
    Nobody,
    /// It can't be asked.
    Nothing,
}

impl Guard {
    pub(super) const fn new(
        me: Me,
        events: Events,
        tracker: TrackerHandle,
        exchange: Exchange,
        doubts: mpsc::UnboundedReceiver<Doubt>,
        stop: CancellationToken,
    ) -> Self {
        Self { me, events, tracker, exchange, doubts, stop }
    }

    /// Runs until the node stops.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        loop {
            let doubt = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                doubt = self.doubts.recv() => doubt,
            };
            let looked = match doubt {
                Some(Doubt::Of(user)) => self.look_at(&user, true).await,
                Some(Doubt::All) => {
                    let looked = self.look_at_all().await;
                    // Whoever came meanwhile was not heard of either.
                    looked.and(self.exchange.post.wake_all().await)
                }
                Some(Doubt::Moved(user, now)) => {
                    self.hang_up_dead(&user, |link| link.is_dialled() && !now.contains(&link.address().ip()));
                    Ok(())
                }
                Some(Doubt::Ourselves) => {
                    for user in self.exchange.switchboard.users() {
                        self.exchange.switchboard.hang_up(&user, Code::Replaced);
                    }
                    Ok(())
                }
                Some(Doubt::Network) => {
                    self.leave_gone_addresses();
                    Ok(())
                }
                None => return Ok(()),
            };
            // The next thing that is said is looked at again.
            if let Err(error) = looked {
                tracing::error!("the keys of the links could not be looked at: {error}");
            }
        }
    }

    async fn look_at_all(&mut self) -> Result<(), Error> {
        for user in self.exchange.switchboard.users() {
            self.look_at(&user, false).await?;
        }
        Ok(())
    }

    /// Ends the links that came in at an address which this machine has no longer.
    fn leave_gone_addresses(&self) {
        let ours: HashSet<IpAddr> = sys::local_addresses().into_iter().map(|local| local.ip).collect();
        let is_gone = |link: &Link| !link.is_dialled() && link.local_ip().is_some_and(|ip| !ours.contains(&ip));
        for user in self.exchange.switchboard.users() {
            self.hang_up_dead(&user, is_gone);
        }
    }

    fn hang_up_dead(&self, user: &UserName, is_dead: impl Fn(&Link) -> bool) {
        if self.exchange.switchboard.hang_up_those(user, Code::Done, is_dead) {
            tracing::info!("links to {user} were ended: they led to an address that is gone");
            // What waits for them goes over a new one.
            self.exchange.post.wake_if_open(user);
        }
    }

    /// `told`: it was about this user.
    async fn look_at(&mut self, user: &UserName, told: bool) -> Result<(), Error> {
        if !self.exchange.switchboard.is_linked(user) {
            return Ok(());
        }
        let word = self.ask(user).await;
        let (profile, whose) = (self.me.profile.clone(), user.clone());
        let recorded = blocking(move || Ok(profile.friend(&whose)?)).await?.map(|friend| friend.fingerprint);
        let is_right = |key: Fingerprint| {
            let as_said = match word {
                Word::Key(announced) => key == announced,
                // A tracker that lost its accounts while it was away is no reason to leave a friend.
                Word::Nobody => !told,
                Word::Nothing => true,
            };
            as_said && recorded.is_none_or(|recorded| key == recorded)
        };
        if !self.exchange.switchboard.hang_up_those(user, Code::Replaced, |link| !is_right(link.fingerprint())) {
            return Ok(());
        }
        tracing::info!("{user} has another key now: the links to the old one were ended");
        match (word, recorded) {
            (Word::Key(presented), Some(expected)) if presented != expected => {
                let (me, whose) = (self.me.clone(), user.clone());
                let why = blocking(move || changed_key(&me, &whose, expected, presented)).await?;
                self.freeze(user, why).await
            }
            _ => {
                self.exchange.post.wake_if_open(user);
                Ok(())
            }
        }
    }

    async fn freeze(&self, user: &UserName, why: Error) -> Result<(), Error> {
        let (profile, whose) = (self.me.profile.clone(), user.clone());
        let waits = blocking(move || {
            profile.set_frozen(&whose, true)?;
            Ok(!profile.outbox_of(&whose, 0, 1)?.is_empty())
        })
        .await?;
        if waits {
            // Whoever carries it finds out by themselves, and says so.
            self.exchange.post.wake(user);
        } else {
            self.events.send(Event::Held { user: user.clone(), why: why.to_string(), frozen: true });
        }
        Ok(())
    }

    async fn ask(&mut self, user: &UserName) -> Word {
        let whois = Request::Whois(Whois::User(user.clone()));
        match self.tracker.call::<WhoisReply>(&whois).await {
            Ok(reply) => reply.fingerprint.map_or(Word::Nobody, Word::Key),
            Err(error) if error.code() == Some(ErrorCode::NotFound) => Word::Nobody,
            Err(error) => {
                tracing::debug!("the key of {user} can't be asked for: {error}");
                Word::Nothing
            }
        }
    }
}

/// Tells the guard what to look at. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Suspicion {
    doubts: mpsc::UnboundedSender<Doubt>,
}

impl Suspicion {
    /// Where doubts are told, and where the guard hears of them.
    pub(super) fn channel() -> (Self, mpsc::UnboundedReceiver<Doubt>) {
        let (doubts, heard) = mpsc::unbounded_channel();
        (Self { doubts }, heard)
    }

    /// Something may be wrong.
    pub(super) fn tell(&self, doubt: Doubt) {
        // Fails only when the node is ending.
        let _ = self.doubts.send(doubt);
    }
}
