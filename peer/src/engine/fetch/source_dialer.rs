//! Calling sources, and what they say that they have.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::peer::{PeerErrorCode, ZEROS_CAPABILITY};
use shared::{GroupSet, UserName};
use tokio::time::Instant;

use super::FileNo;
use super::chat_priority::ChatPriority;
use super::group_availability::{self, GroupAvailability};
use super::writer::FileJob;
use crate::engine::peer_lookup;
use crate::engine::{Error, LocalUser};
use crate::net::endpoint::Endpoint;
use crate::net::link::{self, Link};
use crate::net::{LinkError, StreamError};

const FIRST_RETRY_DELAY: Duration = Duration::from_millis(200);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Makes links, and ends them all. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct SourceDialer {
    local_user: LocalUser,
    endpoint: Endpoint,
    links: Arc<Mutex<Vec<Link>>>,
    chat_priority: Arc<ChatPriority>,
}

/// Somebody who has some of the files.
#[derive(Debug)]
pub(super) struct ConnectedSource {
    pub(super) link: Link,
    pub(super) files: HashSet<FileNo>,
    /// Those of which it has only some groups.
    pub(super) partial_files: Vec<(FileNo, GroupSet)>,
}

impl ConnectedSource {
    /// Asks who has these files, of whom some may be fetching them themselves, what they have of `unsure`.
    pub(super) async fn query(
        link: Link,
        mut has: HashSet<FileNo>,
        jobs: &[FileJob],
        unsure: &[FileNo],
    ) -> Result<Self, StreamError> {
        let mut partly = Vec::new();
        for (file, held) in group_availability::query_availability(&link, jobs, unsure).await? {
            match held {
                GroupAvailability::All => {}
                GroupAvailability::Partial(groups) => partly.push((file, groups)),
                GroupAvailability::Nothing => drop(has.remove(&file)),
            }
        }
        Ok(Self { link, files: has, partial_files: partly })
    }
}

impl SourceDialer {
    /// Opens a socket to call from, with windows that fit a limit of so many bytes a second.
    pub(super) fn new(me: &LocalUser, limit: Option<u64>) -> Result<Self, Error> {
        let endpoint = Endpoint::client(&me.identity, limit).map_err(|why| Error::link(&me.user, why))?;
        let chat_priority = Arc::new(ChatPriority::new(Instant::now().into_std()));
        Ok(Self { local_user: me.clone(), endpoint, links: Arc::default(), chat_priority })
    }

    /// What is due to people who talk.
    pub(super) const fn chat_priority(&self) -> &Arc<ChatPriority> {
        &self.chat_priority
    }

    /// People began to talk, or stopped: all links make room, or use it again.
    pub(super) fn throttle_bulk(&self, room: bool) {
        let links = self.links();
        self.chat_priority.set_active(room);
        self.endpoint.throttle_bulk(room);
        links.iter().for_each(|link| link.throttle_bulk(room));
    }

    /// Finds `user` and makes a link.
    pub(super) async fn connect(&self, user: &UserName) -> Result<Link, Error> {
        let target = peer_lookup::find_target(&self.local_user, user).await?;
        self.dial(&target).await
    }

    /// Calls `user` until they answer or `patience` has run out.
    pub(super) async fn reconnect(&self, user: &UserName, timeout: Duration) -> Result<Link, Error> {
        let until = Instant::now() + timeout;
        let mut wait = FIRST_RETRY_DELAY;
        loop {
            tokio::time::sleep(wait.min(until.saturating_duration_since(Instant::now()))).await;
            match self.connect(user).await {
                Ok(link) => return Ok(link),
                Err(error @ (Error::PeerKeyChanged { .. } | Error::KeyOwnedByOther { .. } | Error::Profile(_))) => {
                    return Err(error);
                }
                Err(error) if Instant::now() >= until => return Err(error),
                Err(error) => tracing::debug!("{user} is still gone: {error}"),
            }
            wait = (wait * 2).min(MAX_RETRY_DELAY);
        }
    }

    /// Finds somebody who was named and asks what they have of these files, whatever the tracker knows of that.
    pub(super) async fn connect_named(
        &self,
        user: &UserName,
        due: &[FileNo],
        jobs: &[FileJob],
    ) -> Result<ConnectedSource, Error> {
        let link = self.connect(user).await?;
        let asked = ConnectedSource::query(link, due.iter().copied().collect(), jobs, due).await;
        asked.map_err(|why| Error::stream(user, why))
    }

    /// Makes a link to somebody who has these files.
    pub(super) async fn connect_candidate(
        &self,
        target: &link::DialTarget,
        has: HashSet<FileNo>,
        jobs: &[FileJob],
    ) -> Result<ConnectedSource, Error> {
        let link = self.dial(target).await?;
        // The catalogue doesn't tell whether they have all of it; nobody offers part of what is one group.
        let several = |file: &FileNo| jobs.get(*file).is_some_and(|job| job.layout.group_count() > 1);
        let unsure: Vec<FileNo> = has.iter().copied().filter(several).collect();
        ConnectedSource::query(link, has, jobs, &unsure).await.map_err(|why| Error::stream(&target.user, why))
    }

    /// Who calls.
    pub(super) const fn local_user(&self) -> &LocalUser {
        &self.local_user
    }

    /// Ends all links.
    pub(super) async fn close_all(self, code: PeerErrorCode) {
        for link in self.links().drain(..) {
            link.close(code);
        }
        self.endpoint.drain().await;
    }

    async fn dial(&self, target: &link::DialTarget) -> Result<Link, Error> {
        let link = peer_lookup::dial(&self.local_user, &self.endpoint, target, &[ZEROS_CAPABILITY]).await?;
        let mut links = self.links();
        // It may have been begun before people began to talk.
        link.throttle_bulk(self.chat_priority.is_active());
        links.retain(|link| !link.is_closed());
        links.push(link.clone());
        Ok(link)
    }

    fn links(&self) -> MutexGuard<'_, Vec<Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether calling again may help.
pub(super) const fn is_retryable(error: &LinkError) -> bool {
    matches!(
        error,
        LinkError::NoAnswer { .. } | LinkError::MtuTooSmall(_) | LinkError::Lost(_) | LinkError::Refused { .. }
    )
}
