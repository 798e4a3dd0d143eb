//! The node's links.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::UserName;
use shared::peer::{PeerErrorCode, ZEROS_CAPABILITY};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::link_admission::{InboundLink, LinkAdmission, admit_link};
use super::tracker_session::TrackerHandle;
use crate::engine::chat::unreachable_is_offline;
use crate::engine::peer_lookup;
use crate::engine::{Error, LocalUser};
use crate::net::endpoint::Endpoint;
use crate::net::link::{ANSWERS, Link};

/// Links by user.
#[derive(Debug)]
pub(super) struct LinkPool {
    me: LocalUser,
    endpoint: Endpoint,
    tracker: TrackerHandle,
    /// Links that were dialled here and must be served like those that came in.
    outbound_links: mpsc::UnboundedSender<OutboundLink>,
    links: Mutex<HashMap<UserName, Vec<PooledLink>>>,
}

/// A link in its place.
#[derive(Debug, Clone)]
struct PooledLink {
    link: Link,
    since: Instant,
    /// Whether the one on its other side was written to.
    is_correspondent: bool,
}

/// Links from which on each may have less under way.
const CROWDED_LINKS: usize = 64;

/// A link that was dialled here.
#[derive(Debug)]
pub(super) struct OutboundLink {
    pub(super) link: Link,
    /// How many changes of keys there had been before its key was asked for.
    pub(super) key_epoch: u64,
}

impl LinkPool {
    pub(super) fn new(
        me: LocalUser,
        endpoint: Endpoint,
        tracker: TrackerHandle,
        outbound_links: mpsc::UnboundedSender<OutboundLink>,
    ) -> Self {
        Self { me, endpoint, tracker, outbound_links, links: Mutex::default() }
    }

    /// Puts a link that came in among the others, perhaps in the place of another one; false when there is no room for it.
    pub(super) fn admit(&self, link: &Link, is_correspondent: bool) -> bool {
        let now = Instant::now();
        let mut links = self.links();
        let decision = {
            let inbound = links.values().flatten().filter(|entry| !entry.link.is_outbound());
            let mut inbound: Vec<&PooledLink> = inbound.collect();
            inbound.sort_by_key(|entry| entry.since);
            let facts: Vec<_> = inbound.iter().enumerate().map(|(id, entry)| entry.to_inbound(id)).collect();
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

    /// Puts a link among the others that was dialled here.
    fn add(&self, link: &Link) {
        let entry = PooledLink { link: link.clone(), since: Instant::now(), is_correspondent: true };
        self.links().entry(link.user().clone()).or_default().push(entry);
    }

    /// A link has ended.
    pub(super) fn remove(&self, link: &Link) {
        remove(&mut self.links(), link);
    }

    /// Whether there are so many links that a new one may have less under way.
    pub(super) fn is_crowded(&self) -> bool {
        self.links().values().map(Vec::len).sum::<usize>() >= CROWDED_LINKS
    }

    /// A link to `user`: one that is there, or a new one.
    ///
    /// # Errors
    /// [`Error`]: offline, unreachable, changed.
    pub(super) async fn link_to(&self, user: &UserName) -> Result<Link, Error> {
        if let Some(link) = self.existing_link(user) {
            return Ok(link);
        }
        // Read before asking: a change that comes meanwhile makes the answer one to doubt.
        let key_epoch = self.tracker.key_epoch();
        let target = peer_lookup::find_target_or_recorded(&self.me, &mut self.tracker.clone(), user).await?;
        let mut tracker = self.tracker.clone();
        // What others write goes to where the account is online.
        let capabilities: &[&str] =
            if self.tracker.is_displaced() { &[ZEROS_CAPABILITY] } else { &[ANSWERS, ZEROS_CAPABILITY] };
        let dialed = peer_lookup::dial_via(&self.me, &self.endpoint, &mut tracker, &target, capabilities).await;
        let link = dialed.map_err(unreachable_is_offline)?;
        self.add(&link);
        // Fails only when the node is ending.
        let _ = self.outbound_links.send(OutboundLink { link: link.clone(), key_epoch });
        Ok(link)
    }

    /// A link to `user` that is there.
    pub(super) fn existing_link(&self, user: &UserName) -> Option<Link> {
        let links = self.links();
        let mut of_user = links.get(user)?.iter().rev().map(|entry| &entry.link);
        of_user.find(|link| link.is_serving() && !link.is_closed()).cloned()
    }

    /// Ends all links to `user`.
    pub(super) fn close_links(&self, user: &UserName, code: PeerErrorCode) {
        let links = self.links().remove(user).unwrap_or_default();
        links.iter().for_each(|entry| entry.link.close(code));
    }

    /// Ends those of the links to `user` that are meant; false when there are none.
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

    /// Everybody to whom there is a link.
    pub(super) fn users(&self) -> Vec<UserName> {
        self.links().keys().cloned().collect()
    }

    /// Whether there is a link to `user`.
    pub(super) fn has_link(&self, user: &UserName) -> bool {
        self.links().get(user).is_some_and(|all| !all.is_empty())
    }

    fn links(&self) -> MutexGuard<'_, HashMap<UserName, Vec<PooledLink>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PooledLink {
    fn to_inbound<Id>(&self, id: Id) -> InboundLink<'_, Id> {
        InboundLink {
            id,
            user: self.link.user(),
            is_correspondent: self.is_correspondent,
            carries_chat: self.link.carries_chat(),
            quiet_since: self.link.idle_since(),
        }
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
