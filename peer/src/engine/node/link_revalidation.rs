//! Revalidation of open links: closes those whose key is no longer their user's.
//!
//! A link's key was right when the link was made, and links have no time limit. When the tracker announces a key
//! change, when announcements may have been missed, and when the user trusts another key, the affected links' keys are
//! compared with the tracker's answer and the record. A link with another key is closed at once: the holder of an old
//! key gets neither messages nor files, and is no longer taken for the user.
//!
//! Links with a lost address at either end are closed as well. In QUIC only the client's side can migrate, so that data
//! sent over such a link would wait for its idle timeout.

use std::collections::HashSet;
use std::net::IpAddr;

use shared::peer::PeerErrorCode;
use shared::tracker::{TrackerErrorCode, TrackerRequest, WhoisReply, WhoisRequest};
use shared::{Fingerprint, UserName};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::NodeServices;
use super::revalidation_trigger::RevalidationTrigger;
use super::tracker_session::TrackerHandle;
use crate::engine::event_bus::EventBus;
use crate::engine::node_event::NodeEvent;
use crate::engine::peer_lookup::{TrackerClient, key_change_error};
use crate::engine::{Error, LocalUser, run_blocking};
use crate::net::link::Link;
use crate::sys;
use crate::util::TranslatedText;

/// The task that revalidates links.
#[derive(Debug)]
pub(super) struct LinkRevalidator {
    me: LocalUser,
    events: EventBus,
    tracker: TrackerHandle,
    services: NodeServices,
    triggers: mpsc::UnboundedReceiver<RevalidationTrigger>,
    stop: CancellationToken,
}

/// The tracker's present answer about a user's key.
enum TrackerKeyAnswer {
    Key(Fingerprint),
    /// The user has no account, or an account without a key.
    NoAccount,
    /// The tracker can't be asked.
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
                    // Users who came online meanwhile were not announced either.
                    revalidated.and(self.services.outbox.wake_all().await)
                }
                Some(RevalidationTrigger::UserMoved(user, now)) => {
                    self.close_dead_links(&user, |link| link.is_outbound() && !now.contains(&link.address().ip()));
                    // What could not be delivered at the old addresses is tried at the new ones.
                    self.services.outbox.wake_existing(&user);
                    Ok(())
                }
                Some(RevalidationTrigger::OwnDisplacement) => {
                    // What is said from now on belongs to the node that took over.
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
            // Not fatal: the next trigger checks these links again.
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

    /// Closes the inbound links that use an address which this machine has lost.
    fn close_links_at_gone_addresses(&self) {
        let ours: HashSet<IpAddr> = sys::local_addresses().into_iter().map(|local| local.ip).collect();
        // Only the side that dialled can move a link to another address (RFC 9000, section 9).
        let is_gone = |link: &Link| !link.is_outbound() && link.local_ip().is_some_and(|ip| !ours.contains(&ip));
        for user in self.services.link_pool.users() {
            self.close_dead_links(&user, is_gone);
        }
    }

    fn close_dead_links(&self, user: &UserName, is_dead: impl Fn(&Link) -> bool) {
        if self.services.link_pool.close_links_where(user, PeerErrorCode::Done, is_dead) {
            tracing::info!("links to {user} were ended: they led to an address that is gone");
            // The delivery worker dials a new link.
            self.services.outbox.wake_existing(user);
        }
    }

    /// Closes the links to `user` with a wrong key. `was_announced`: the tracker's announcement was about this user.
    async fn revalidate(&mut self, user: &UserName, was_announced: bool) -> Result<(), Error> {
        if !self.services.link_pool.has_link(user) {
            return Ok(());
        }
        let answer = self.tracker_key_of(user).await;
        // Read after the wait for the tracker, so that a key that is trusted meanwhile counts.
        let (profile, whose) = (self.me.profile.clone(), user.clone());
        let recorded = run_blocking(move || Ok(profile.known_user(&whose)?)).await?.map(|friend| friend.fingerprint);
        let is_right = |key: Fingerprint| {
            let as_said = match answer {
                TrackerKeyAnswer::Key(announced) => key == announced,
                // A tracker that lost its accounts while it was away is no reason to drop a known user.
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
        // Another key than the recorded one needs the user's word; otherwise a new link is all that is needed.
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
            // The delivery worker fails on the changed key, and reports it with the message's state.
            self.services.outbox.wake(user);
        } else {
            self.events.send(NodeEvent::DeliveryHeld {
                user: user.clone(),
                why: TranslatedText::of(&why),
                frozen: true,
            });
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
