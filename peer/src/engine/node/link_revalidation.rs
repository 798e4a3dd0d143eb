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

use shared::peer::PeerErrorCode;
use shared::tracker::{TrackerErrorCode, TrackerRequest, WhoisReply, WhoisRequest};
use shared::{Fingerprint, UserName};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::NodeServices;
use super::tracker_session::TrackerHandle;
use crate::engine::node_event::{EventBus, NodeEvent};
use crate::engine::peer_lookup::{TrackerClient, key_change_error};
use crate::engine::{Error, LocalUser, run_blocking};
use crate::net::link::Link;
use crate::sys;

/// Whose links may be to the wrong key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RevalidationTrigger {
    /// Theirs: something was said about their key.
    UserKey(UserName),
    /// All of ours: our account is online elsewhere, and what is written to it goes there.
    OwnDisplacement,
    /// Everybody's: what was said meanwhile was not heard.
    AllKeys,
    /// Theirs: they are at these addresses now.
    UserMoved(UserName, Vec<IpAddr>),
    /// Everybody's: addresses of this machine may be gone.
    LocalNetwork,
}

/// The task that ends them.
#[derive(Debug)]
pub(super) struct LinkRevalidator {
    me: LocalUser,
    events: EventBus,
    tracker: TrackerHandle,
    services: NodeServices,
    triggers: mpsc::UnboundedReceiver<RevalidationTrigger>,
    stop: CancellationToken,
}

/// What the tracker says of somebody's key now.
enum TrackerKeyAnswer {
    Key(Fingerprint),
    /// There is no such account.
    NoAccount,
    /// It can't be asked.
    Unavailable,
}

impl LinkRevalidator {
    pub(super) const fn new(
        me: LocalUser,
        events: EventBus,
        tracker: TrackerHandle,
        services: NodeServices,
        triggers: mpsc::UnboundedReceiver<RevalidationTrigger>,
        stop: CancellationToken,
    ) -> Self {
        Self { me, events, tracker, services, triggers, stop }
    }

    /// Runs until the node stops.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        loop {
            let trigger = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                doubt = self.triggers.recv() => doubt,
            };
            let revalidated = match trigger {
                Some(RevalidationTrigger::UserKey(user)) => self.revalidate(&user, true).await,
                Some(RevalidationTrigger::AllKeys) => {
                    let revalidated = self.revalidate_all().await;
                    // Whoever came meanwhile was not heard of either.
                    revalidated.and(self.services.outbox.wake_all().await)
                }
                Some(RevalidationTrigger::UserMoved(user, now)) => {
                    self.close_dead_links(&user, |link| link.is_outbound() && !now.contains(&link.address().ip()));
                    Ok(())
                }
                Some(RevalidationTrigger::OwnDisplacement) => {
                    for user in self.services.link_pool.users() {
                        self.services.link_pool.close_links(&user, PeerErrorCode::Replaced);
                    }
                    Ok(())
                }
                Some(RevalidationTrigger::LocalNetwork) => {
                    self.close_links_at_gone_addresses();
                    Ok(())
                }
                None => return Ok(()),
            };
            // The next thing that is said is looked at again.
            if let Err(error) = revalidated {
                tracing::error!("the keys of the links could not be looked at: {error}");
            }
        }
    }

    async fn revalidate_all(&mut self) -> Result<(), Error> {
        for user in self.services.link_pool.users() {
            self.revalidate(&user, false).await?;
        }
        Ok(())
    }

    /// Ends the links that came in at an address which this machine has no longer.
    fn close_links_at_gone_addresses(&self) {
        let ours: HashSet<IpAddr> = sys::local_addresses().into_iter().map(|local| local.ip).collect();
        let is_gone = |link: &Link| !link.is_outbound() && link.local_ip().is_some_and(|ip| !ours.contains(&ip));
        for user in self.services.link_pool.users() {
            self.close_dead_links(&user, is_gone);
        }
    }

    fn close_dead_links(&self, user: &UserName, is_dead: impl Fn(&Link) -> bool) {
        if self.services.link_pool.close_links_where(user, PeerErrorCode::Done, is_dead) {
            tracing::info!("links to {user} were ended: they led to an address that is gone");
            // What waits for them goes over a new one.
            self.services.outbox.wake_existing(user);
        }
    }

    /// `told`: it was about this user.
    async fn revalidate(&mut self, user: &UserName, was_announced: bool) -> Result<(), Error> {
        if !self.services.link_pool.has_link(user) {
            return Ok(());
        }
        let answer = self.tracker_key_of(user).await;
        let (profile, whose) = (self.me.profile.clone(), user.clone());
        let recorded = run_blocking(move || Ok(profile.known_user(&whose)?)).await?.map(|friend| friend.fingerprint);
        let is_right = |key: Fingerprint| {
            let as_said = match answer {
                TrackerKeyAnswer::Key(announced) => key == announced,
                // A tracker that lost its accounts while it was away is no reason to leave a friend.
                TrackerKeyAnswer::NoAccount => !was_announced,
                TrackerKeyAnswer::Unavailable => true,
            };
            as_said && recorded.is_none_or(|recorded| key == recorded)
        };
        if !self
            .services
            .link_pool
            .close_links_where(user, PeerErrorCode::Replaced, |link| !is_right(link.fingerprint()))
        {
            return Ok(());
        }
        tracing::info!("{user} has another key now: the links to the old one were ended");
        match (answer, recorded) {
            (TrackerKeyAnswer::Key(presented), Some(expected)) if presented != expected => {
                let (me, whose) = (self.me.clone(), user.clone());
                let why = run_blocking(move || key_change_error(&me, &whose, expected, presented)).await?;
                self.freeze_outbox(user, why).await
            }
            _ => {
                self.services.outbox.wake_existing(user);
                Ok(())
            }
        }
    }

    async fn freeze_outbox(&self, user: &UserName, why: Error) -> Result<(), Error> {
        let (profile, whose) = (self.me.profile.clone(), user.clone());
        let waits = run_blocking(move || {
            profile.set_frozen(&whose, true)?;
            Ok(!profile.queued_for(&whose, 0, 1)?.is_empty())
        })
        .await?;
        if waits {
            // Whoever carries it finds out by themselves, and says so.
            self.services.outbox.wake(user);
        } else {
            self.events.send(NodeEvent::DeliveryHeld { user: user.clone(), why: why.to_string(), frozen: true });
        }
        Ok(())
    }

    async fn tracker_key_of(&mut self, user: &UserName) -> TrackerKeyAnswer {
        let whois = TrackerRequest::Whois(WhoisRequest::User(user.clone()));
        match self.tracker.call::<WhoisReply>(&whois).await {
            Ok(reply) => reply.fingerprint.map_or(TrackerKeyAnswer::NoAccount, TrackerKeyAnswer::Key),
            Err(error) if error.code() == Some(TrackerErrorCode::NotFound) => TrackerKeyAnswer::NoAccount,
            Err(error) => {
                tracing::debug!("the key of {user} can't be asked for: {error}");
                TrackerKeyAnswer::Unavailable
            }
        }
    }
}

/// Tells the guard what to look at. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct RevalidationHandle {
    triggers: mpsc::UnboundedSender<RevalidationTrigger>,
}

impl RevalidationHandle {
    /// Where doubts are told, and where the guard hears of them.
    pub(super) fn channel() -> (Self, mpsc::UnboundedReceiver<RevalidationTrigger>) {
        let (triggers, trigger_receiver) = mpsc::unbounded_channel();
        (Self { triggers }, trigger_receiver)
    }

    /// Something may be wrong.
    pub(super) fn request(&self, trigger: RevalidationTrigger) {
        // Fails only when the node is ending.
        let _ = self.triggers.send(trigger);
    }
}
