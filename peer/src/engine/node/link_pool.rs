//! The node's links, inbound and outbound, by user. [`link_admission`](super::link_admission) decides which may stay.

use std::collections::HashMap;
use std::sync::OnceLock;

use parking_lot::{Mutex, MutexGuard};
use shared::UserName;
use shared::peer::{PeerErrorCode, ZEROS_CAPABILITY};
use shared::tracker::TrackerErrorCode;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::link_admission::{InboundLink, LinkAdmission, admit_link};
use super::tracker_session::TrackerHandle;
use crate::engine::peer_lookup;
use crate::engine::{Error, LocalUser};
use crate::net::endpoint::Endpoint;
use crate::net::link::{Link, NODE_CAPABILITIES};
use crate::net::{LinkError, TrackerError};

/// The open links of a node. A link stays in it from its admission, or its dial, until it has ended.
#[derive(Debug)]
pub(super) struct LinkPool {
    me: LocalUser,
    dialing: DialingMode,
    links: Mutex<HashMap<UserName, Vec<PooledLink>>>,
}

/// The way in which a pool dials users.
#[derive(Debug)]
enum DialingMode {
    /// As a node that is present: from its port, with the words of its tracker session.
    Present {
        endpoint: Endpoint,
        tracker: TrackerHandle,
        /// Takes dialed links to the node's loop, which serves them like inbound ones.
        outbound_links: mpsc::UnboundedSender<OutboundLink>,
    },
    /// Without presence: from any port, which is bound at the first dial, and with a tracker connection for each lookup.
    OnDemand(OnceLock<Endpoint>),
}

/// A link and the facts on which its admission is decided.
#[derive(Debug, Clone)]
struct PooledLink {
    link: Link,
    since: Instant,
    /// True if this profile's user has written to the link's user.
    is_correspondent: bool,
}

/// Number of links from which on new ones are welcomed with less data in flight.
const CROWDED_LINKS: usize = 64;

/// A link that was dialed by this node.
#[derive(Debug)]
pub(super) struct OutboundLink {
    pub(super) link: Link,
    /// The key epoch that was current before the target's key was looked up.
    pub(super) key_epoch: u64,
}

impl LinkPool {
    /// Returns the pool of a node that is present at the tracker.
    pub(super) fn new(
        me: LocalUser,
        endpoint: Endpoint,
        tracker: TrackerHandle,
        outbound_links: mpsc::UnboundedSender<OutboundLink>,
    ) -> Self {
        let dialing = DialingMode::Present { endpoint, tracker, outbound_links };
        Self { me, dialing, links: Mutex::default() }
    }

    /// Returns the pool of a node without presence. Its links carry only what this side asks for.
    pub(super) fn on_demand(me: LocalUser) -> Self {
        Self { me, dialing: DialingMode::OnDemand(OnceLock::new()), links: Mutex::default() }
    }

    /// Adds an inbound link, perhaps in place of another one, which is closed. Returns false when there is no room for
    /// it.
    pub(super) fn admit(&self, link: &Link, is_correspondent: bool) -> bool {
        let now = Instant::now();
        let mut links = self.links();
        // Decided and added under one lock, or callers at the same moment would get the same room.
        let decision = {
            let inbound = links.values().flatten().filter(|entry| !entry.link.is_outbound());
            let mut inbound: Vec<&PooledLink> = inbound.collect();
            inbound.sort_by_key(|entry| entry.since);
            let facts: Vec<_> = inbound.iter().enumerate().map(|(id, entry)| entry.to_inbound(id)).collect();
            // The link is cloned, which ends the borrow of the map that it is removed from.
            match admit_link(&facts, link.user(), is_correspondent, now) {
                LinkAdmission::Replaces(id) => LinkAdmission::Replaces(inbound.get(id).map(|entry| entry.link.clone())),
                LinkAdmission::Admitted => LinkAdmission::Admitted,
                LinkAdmission::Full => LinkAdmission::Full,
            }
        };
        match decision {
            LinkAdmission::Admitted => {}
            LinkAdmission::Replaces(given_up) => {
                if let Some(given_up) = given_up {
                    tracing::debug!("a link of {} ends for one of {}", given_up.user(), link.user());
                    given_up.close(PeerErrorCode::Busy);
                    remove(&mut links, &given_up);
                }
            }
            LinkAdmission::Full => return false,
        }
        links.entry(link.user().clone()).or_default().push(PooledLink {
            link: link.clone(),
            since: now,
            is_correspondent,
        });
        true
    }

    /// Adds an outbound link; these aren't limited.
    fn add(&self, link: &Link) {
        // The flag is read of inbound links only.
        let entry = PooledLink { link: link.clone(), since: Instant::now(), is_correspondent: true };
        self.links().entry(link.user().clone()).or_default().push(entry);
    }

    /// Removes a link that has ended.
    pub(super) fn remove(&self, link: &Link) {
        remove(&mut self.links(), link);
    }

    /// True if there are so many links that a new one gets less data in flight.
    pub(super) fn is_crowded(&self) -> bool {
        self.links().values().map(Vec::len).sum::<usize>() >= CROWDED_LINKS
    }

    /// Returns an open link to `user`, or dials one.
    ///
    /// # Errors
    /// [`Error`]: the user is offline or unreachable, or has another key than the one on record.
    pub(super) async fn link_to(&self, user: &UserName) -> Result<Link, Error> {
        if let Some(link) = self.existing_link(user) {
            return Ok(link);
        }
        match &self.dialing {
            DialingMode::Present { endpoint, tracker, outbound_links } => {
                // Read before the lookup: a key change that is announced meanwhile makes the link one to revalidate.
                let key_epoch = tracker.key_epoch();
                let target = peer_lookup::find_target_or_recorded(&self.me, &mut tracker.clone(), user).await?;
                // A displaced node doesn't announce that it answers: messages belong to the node that is present.
                let capabilities: &[&str] =
                    if tracker.is_displaced() { &[ZEROS_CAPABILITY] } else { &NODE_CAPABILITIES };
                let dialed =
                    peer_lookup::dial_via(&self.me, endpoint, &mut tracker.clone(), &target, capabilities).await;
                let link = dialed.map_err(unreachable_is_offline)?;
                self.add(&link);
                // Fails only when the node is ending.
                let _ = outbound_links.send(OutboundLink { link: link.clone(), key_epoch });
                Ok(link)
            }
            DialingMode::OnDemand(endpoint) => {
                let target = peer_lookup::find_target(&self.me, user).await;
                let target = target.map_err(|error| self.name_signed_out_user(error))?;
                let endpoint = match endpoint.get() {
                    Some(endpoint) => endpoint,
                    None => {
                        let bound = Endpoint::client(&self.me.identity, None).map_err(|why| Error::link(user, why))?;
                        // Another dial may have bound one meanwhile.
                        endpoint.get_or_init(|| bound)
                    }
                };
                let dialed = peer_lookup::dial(&self.me, endpoint, &target, &[]).await;
                let link = dialed.map_err(unreachable_is_offline)?;
                self.add(&link);
                Ok(link)
            }
        }
    }

    /// Adds the user's name to an error that only says that this machine was signed out: whoever waits for a delivery
    /// gets no more than the words.
    fn name_signed_out_user(&self, error: Error) -> Error {
        match error {
            Error::Tracker(TrackerError::Refused { refusal, .. }) if refusal.code == TrackerErrorCode::NotLoggedIn => {
                Error::signed_out(self.me.user.clone(), refusal)
            }
            error => error,
        }
    }

    /// Closes all links and the endpoint of a pool without presence, whose links nobody else closes.
    pub(super) async fn close(&self) {
        if let DialingMode::OnDemand(endpoint) = &self.dialing
            && let Some(endpoint) = endpoint.get()
        {
            endpoint.close(PeerErrorCode::Done);
            endpoint.drain().await;
        }
    }

    /// Returns an open link to `user` over which requests are answered, if there is one.
    pub(super) fn existing_link(&self, user: &UserName) -> Option<Link> {
        let links = self.links();
        // The newest first: a user who was restarted, or moved, leaves a dead one behind.
        let mut of_user = links.get(user)?.iter().rev().map(|entry| &entry.link);
        of_user.find(|link| link.is_serving() && !link.is_closed()).cloned()
    }

    /// Closes all links to `user`.
    pub(super) fn close_links(&self, user: &UserName, code: PeerErrorCode) {
        let links = self.links().remove(user).unwrap_or_default();
        links.iter().for_each(|entry| entry.link.close(code));
    }

    /// Closes those links to `user` for which `is_affected` is true. Returns false when there was none.
    pub(super) fn close_links_where(
        &self,
        user: &UserName,
        code: PeerErrorCode,
        is_affected: impl Fn(&Link) -> bool,
    ) -> bool {
        let mut links = self.links();
        let Some(of_user) = links.get_mut(user) else { return false };
        let before = of_user.len();
        of_user.retain(|entry| {
            let stays = !is_affected(&entry.link);
            if !stays {
                entry.link.close(code);
            }
            stays
        });
        of_user.len() < before
    }

    /// Returns all users to whom there is a link.
    pub(super) fn users(&self) -> Vec<UserName> {
        self.links().keys().cloned().collect()
    }

    /// True if there is a link to `user`, open or about to end.
    pub(super) fn has_link(&self, user: &UserName) -> bool {
        self.links().get(user).is_some_and(|all| !all.is_empty())
    }

    fn links(&self) -> MutexGuard<'_, HashMap<UserName, Vec<PooledLink>>> {
        self.links.lock()
    }
}

impl PooledLink {
    fn to_inbound<Id>(&self, id: Id) -> InboundLink<'_, Id> {
        InboundLink {
            id,
            user: self.link.user(),
            is_correspondent: self.is_correspondent,
            carries_chat: self.link.carries_chat(),
            idle_since: self.link.idle_since(),
        }
    }
}

/// Converts "no answer" and a refused handshake to [`Error::Offline`]: for chat, a listed user who doesn't answer, or whose
/// node is just going, is offline.
fn unreachable_is_offline(error: Error) -> Error {
    match error {
        Error::Link { user, source: source @ (LinkError::NoAnswer { .. } | LinkError::Lost(_)) } => {
            tracing::info!("{user}: {source}");
            Error::Offline(user)
        }
        error => error,
    }
}

fn remove(links: &mut HashMap<UserName, Vec<PooledLink>>, link: &Link) {
    if let Some(of_user) = links.get_mut(link.user()) {
        of_user.retain(|entry| !entry.link.is_same(link));
        if of_user.is_empty() {
            links.remove(link.user());
        }
    }
}
