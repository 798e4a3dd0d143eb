//! The node's links.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use shared::UserName;
use shared::peer::{Code, ZEROS};
use tokio::sync::mpsc;

use super::keeper::TrackerHandle;
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
    links: Mutex<HashMap<UserName, Vec<Link>>>,
}

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

    /// A link may be used from now on, unless it is to a process that answers nothing.
    pub(super) fn add(&self, link: &Link) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = links.entry(link.user().clone()).or_default();
        if !of_user.iter().any(|other| other.is_same(link)) {
            of_user.push(link.clone());
        }
    }

    /// A link has ended.
    pub(super) fn remove(&self, link: &Link) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_user) = links.get_mut(link.user()) {
            of_user.retain(|other| !other.is_same(link));
            if of_user.is_empty() {
                links.remove(link.user());
            }
        }
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
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.get(user).and_then(|all| all.iter().rev().find(|link| link.answers() && !link.is_closed()).cloned())
    }

    /// Ends all links to `user`.
    pub(super) fn hang_up(&self, user: &UserName, code: Code) {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner).remove(user).unwrap_or_default();
        links.iter().for_each(|link| link.close(code));
    }

    /// Ends those of the links to `user` that are meant; false when there are none.
    pub(super) fn hang_up_those(&self, user: &UserName, code: Code, is_meant: impl Fn(&Link) -> bool) -> bool {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of_user) = links.get_mut(user) else { return false };
        let before = of_user.len();
        of_user.retain(|link| {
            let stays = !is_meant(link);
            if !stays {
                link.close(code);
            }
            stays
        });
        of_user.len() < before
    }

    /// Everybody to whom there is a link.
    pub(super) fn users(&self) -> Vec<UserName> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Whether there is a link to `user`.
    pub(super) fn is_linked(&self, user: &UserName) -> bool {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.get(user).is_some_and(|all| !all.is_empty())
    }
}
