//! Calling sources, and what they say that they have.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::peer::{Code, ZEROS};
use shared::{GroupSet, UserName};
use tokio::time::Instant;

use super::FileNo;
use super::courtesy::Courtesy;
use super::parts::{self, Held};
use super::writer::Order;
use crate::engine::contacts;
use crate::engine::{Error, Me};
use crate::net::endpoint::Endpoint;
use crate::net::link::{self, Link};
use crate::net::{LinkError, StreamError};

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Makes links, and ends them all. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    me: Me,
    endpoint: Endpoint,
    links: Arc<Mutex<Vec<Link>>>,
    courtesy: Arc<Courtesy>,
}

/// Somebody who has some of the files.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) link: Link,
    pub(super) has: HashSet<FileNo>,
    /// Those of which it has only some groups.
    pub(super) partly: Vec<(FileNo, GroupSet)>,
}

impl Found {
    /// Asks who has these files, of whom some may be fetching them themselves, what they have of `unsure`.
    pub(super) async fn ask(
        link: Link,
        mut has: HashSet<FileNo>,
        orders: &[Order],
        unsure: &[FileNo],
    ) -> Result<Self, StreamError> {
        let mut partly = Vec::new();
        for (file, held) in parts::ask(&link, orders, unsure).await? {
            match held {
                Held::All => {}
                Held::Some(groups) => partly.push((file, groups)),
                Held::Nothing => drop(has.remove(&file)),
            }
        }
        Ok(Self { link, has, partly })
    }
}

impl Caller {
    /// Opens a socket to call from, with windows that fit a limit of so many bytes a second.
    pub(super) fn new(me: &Me, limit: Option<u64>) -> Result<Self, Error> {
        let endpoint = Endpoint::dialling(&me.identity, limit).map_err(|why| Error::link(&me.user, why))?;
        let courtesy = Arc::new(Courtesy::new(Instant::now().into_std()));
        Ok(Self { me: me.clone(), endpoint, links: Arc::default(), courtesy })
    }

    /// What is due to people who talk.
    pub(super) const fn courtesy(&self) -> &Arc<Courtesy> {
        &self.courtesy
    }

    /// People began to talk, or stopped: all links make room, or use it again.
    pub(super) fn make_room(&self, room: bool) {
        let links = self.links();
        self.courtesy.set(room);
        self.endpoint.make_room(room);
        links.iter().for_each(|link| link.make_room(room));
    }

    /// Finds `user` and makes a link.
    pub(super) async fn call(&self, user: &UserName) -> Result<Link, Error> {
        let target = contacts::find(&self.me, user).await?;
        self.dial(&target).await
    }

    /// Calls `user` until they answer or `patience` has run out.
    pub(super) async fn call_again(&self, user: &UserName, patience: Duration) -> Result<Link, Error> {
        let until = Instant::now() + patience;
        let mut wait = FIRST_WAIT;
        loop {
            tokio::time::sleep(wait.min(until.saturating_duration_since(Instant::now()))).await;
            match self.call(user).await {
                Ok(link) => return Ok(link),
                Err(error @ (Error::PeerChanged { .. } | Error::KeyOfAnother { .. } | Error::Profile(_))) => {
                    return Err(error);
                }
                Err(error) if Instant::now() >= until => return Err(error),
                Err(error) => tracing::debug!("{user} is still gone: {error}"),
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Finds somebody who was named and asks what they have of these files, whatever the tracker knows of that.
    pub(super) async fn call_named(&self, user: &UserName, due: &[FileNo], orders: &[Order]) -> Result<Found, Error> {
        let link = self.call(user).await?;
        let asked = Found::ask(link, due.iter().copied().collect(), orders, due).await;
        asked.map_err(|why| Error::stream(user, why))
    }

    /// Makes a link to somebody who has these files.
    pub(super) async fn dial_other(
        &self,
        target: &link::Target,
        has: HashSet<FileNo>,
        orders: &[Order],
    ) -> Result<Found, Error> {
        let link = self.dial(target).await?;
        // The catalogue doesn't tell whether they have all of it; nobody offers part of what is one group.
        let several = |file: &FileNo| orders.get(*file).is_some_and(|order| order.layout.groups() > 1);
        let unsure: Vec<FileNo> = has.iter().copied().filter(several).collect();
        Found::ask(link, has, orders, &unsure).await.map_err(|why| Error::stream(&target.user, why))
    }

    /// Who calls.
    pub(super) const fn me(&self) -> &Me {
        &self.me
    }

    /// Ends all links.
    pub(super) async fn hang_up(self, code: Code) {
        for link in self.links().drain(..) {
            link.close(code);
        }
        self.endpoint.drain().await;
    }

    async fn dial(&self, target: &link::Target) -> Result<Link, Error> {
        let link = contacts::dial(&self.me, &self.endpoint, target, &[ZEROS]).await?;
        let mut links = self.links();
        // It may have been begun before people began to talk.
        link.make_room(self.courtesy.is_due());
        links.retain(|link| !link.is_closed());
        links.push(link.clone());
        Ok(link)
    }

    fn links(&self) -> MutexGuard<'_, Vec<Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether calling again may help.
pub(super) const fn may_come_back(error: &LinkError) -> bool {
    matches!(
        error,
        LinkError::NoAnswer { .. } | LinkError::TooNarrow(_) | LinkError::Lost(_) | LinkError::Refused { .. }
    )
}
