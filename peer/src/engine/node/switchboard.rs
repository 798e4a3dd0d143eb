//! The node's links.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::UserName;
use shared::peer::{Code, ZEROS};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::keeper::TrackerHandle;
use super::link_admission::{Admission, LinkFacts, admit};
use crate::engine::chat::unreachable_is_offline;
use crate::engine::contacts;
use crate::engine::{Error, Me};
use crate::net::endpoint::Endpoint;
use crate::net::link::{ANSWERS, Link};

/// Links by user.
#[derive(Debug)]
pub(super) struct Switchboard {
    me: Me,
    endpoint: Endpoint,
    tracker: TrackerHandle,
    /// Links that were dialled here and must be served like those that came in.
    dialled: mpsc::UnboundedSender<Dialled>,
    links: Mutex<HashMap<UserName, Vec<HeldLink>>>,
}

/// A link in its place.
#[derive(Debug, Clone)]
struct HeldLink {
    link: Link,
    since: Instant,
    /// Whether the one on its other side was written to.
    is_known: bool,
}

/// Links from which on each may have less under way.
const CROWD: usize = 64;

/// A link that was dialled here.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) link: Link,
    /// How many changes of keys there had been before its key was asked for.
    pub(super) changes: u64,
}

impl Switchboard {
    pub(super) fn new(
        me: Me,
        endpoint: Endpoint,
        tracker: TrackerHandle,
        dialled: mpsc::UnboundedSender<Dialled>,
    ) -> Self {
        Self { me, endpoint, tracker, dialled, links: Mutex::default() }
    }

    /// Puts a link that came in among the others, perhaps in the place of another one; false when there is no room for it.
    pub(super) fn admit(&self, link: &Link, is_known: bool) -> bool {
        let now = Instant::now();
        let mut links = self.links();
        let decision = {
            let came_in = links.values().flatten().filter(|entry| !entry.link.is_dialled());
            let mut came_in: Vec<&HeldLink> = came_in.collect();
            came_in.sort_by_key(|entry| entry.since);
            let facts: Vec<_> = came_in.iter().enumerate().map(|(id, entry)| entry.facts(id)).collect();
            match admit(&facts, link.user(), is_known, now) {
                Admission::Instead(id) => Admission::Instead(came_in.get(id).map(|entry| entry.link.clone())),
                Admission::Room => Admission::Room,
                Admission::Full => Admission::Full,
            }
        };
        match decision {
            Admission::Room => {}
            Admission::Instead(given_up) => {
                if let Some(given_up) = given_up {
                    tracing::debug!("a link of {} ends for one of {}", given_up.user(), link.user());
                    given_up.close(Code::Busy);
                    remove(&mut links, &given_up);
                }
            }
            Admission::Full => return false,
        }
        links.entry(link.user().clone()).or_default().push(HeldLink { link: link.clone(), since: now, is_known });
        true
    }

    /// Puts a link among the others that was dialled here.
    fn add(&self, link: &Link) {
        let entry = HeldLink { link: link.clone(), since: Instant::now(), is_known: true };
        self.links().entry(link.user().clone()).or_default().push(entry);
    }

    /// A link has ended.
    pub(super) fn remove(&self, link: &Link) {
        remove(&mut self.links(), link);
    }

    /// Whether there are so many links that a new one may have less under way.
    pub(super) fn is_crowded(&self) -> bool {
        self.links().values().map(Vec::len).sum::<usize>() >= CROWD
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
        let changes = self.tracker.key_changes();
        let target = contacts::find_or_recorded(&self.me, &mut self.tracker.clone(), user).await?;
        let mut tracker = self.tracker.clone();
        // What others write goes to where the account is online.
        let capabilities: &[&str] = if self.tracker.is_displaced() { &[ZEROS] } else { &[ANSWERS, ZEROS] };
        let dialled = contacts::dial_through(&self.me, &self.endpoint, &mut tracker, &target, capabilities).await;
        let link = dialled.map_err(unreachable_is_offline)?;
        self.add(&link);
        // Fails only when the node is ending.
        let _ = self.dialled.send(Dialled { link: link.clone(), changes });
        Ok(link)
    }

    /// A link to `user` that is there.
    pub(super) fn existing_link(&self, user: &UserName) -> Option<Link> {
        let links = self.links();
        let mut of_user = links.get(user)?.iter().rev().map(|entry| &entry.link);
        of_user.find(|link| link.answers() && !link.is_closed()).cloned()
    }

    /// Ends all links to `user`.
    pub(super) fn hang_up(&self, user: &UserName, code: Code) {
        let links = self.links().remove(user).unwrap_or_default();
        links.iter().for_each(|entry| entry.link.close(code));
    }

    /// Ends those of the links to `user` that are meant; false when there are none.
    pub(super) fn hang_up_those(&self, user: &UserName, code: Code, is_meant: impl Fn(&Link) -> bool) -> bool {
        let mut links = self.links();
        let Some(of_user) = links.get_mut(user) else { return false };
        let before = of_user.len();
        of_user.retain(|entry| {
            let stays = !is_meant(&entry.link);
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
    pub(super) fn is_linked(&self, user: &UserName) -> bool {
        self.links().get(user).is_some_and(|all| !all.is_empty())
    }

    fn links(&self) -> MutexGuard<'_, HashMap<UserName, Vec<HeldLink>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldLink {
    fn facts<Id>(&self, id: Id) -> LinkFacts<'_, Id> {
        LinkFacts {
            id,
            user: self.link.user(),
            is_known: self.is_known,
            carries_chat: self.link.carries_chat(),
            quiet_since: self.link.quiet_since(),
        }
    }
}

fn remove(links: &mut HashMap<UserName, Vec<HeldLink>>, link: &Link) {
    if let Some(of_user) = links.get_mut(link.user()) {
        of_user.retain(|entry| !entry.link.is_same(link));
        if of_user.is_empty() {
            links.remove(link.user());
        }
    }
}
