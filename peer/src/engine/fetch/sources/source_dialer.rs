//! Dialer of sources: opens the links of a fetch, and asks sources which files they have.

use std::collections::HashSet;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use shared::peer::{PeerErrorCode, ROOM_FILES_CAPABILITY, ZEROS_CAPABILITY};
use shared::{GroupSet, UserName};
use tokio::time::{Instant, sleep};

use super::availability_watch::query_availability;
use crate::engine::bulk_rate::BULK_WINDOW_INTERVAL;
use crate::engine::fetch::FileNo;
use crate::engine::fetch::chat_priority::ChatPriority;
use crate::engine::fetch::writer::FileJob;
use crate::engine::node::{NodeApi, NodeHandle};
use crate::engine::peer_lookup;
use crate::engine::{Error, LocalUser, run_blocking};
use crate::net::StreamError;
use crate::net::endpoint::Endpoint;
use crate::net::link::{self, Link};
use crate::sys::lower_process_priority;
use crate::util::Backoff;

const FIRST_RETRY_DELAY: Duration = Duration::from_millis(200);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
/// The pause before the next attempt to reach the node.
const NODE_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Files about which a member of a room is asked in one search, the largest first.
const MAX_MEMBER_QUERIES: usize = 256;

/// Opens links and closes them all at the end. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::engine::fetch) struct SourceDialer {
    local_user: LocalUser,
    endpoint: Endpoint,
    links: Arc<Mutex<Vec<Link>>>,
    chat_priority: Arc<ChatPriority>,
}

/// A user who has some of the files, with an open link.
#[derive(Debug)]
pub(in crate::engine::fetch) struct ConnectedSource {
    pub(in crate::engine::fetch) link: Link,
    pub(in crate::engine::fetch) has: SourceFiles,
}

/// The files that a source has.
#[derive(Debug, Default)]
pub(in crate::engine::fetch) struct SourceFiles {
    pub(in crate::engine::fetch) files: HashSet<FileNo>,
    /// The files that it has in part.
    pub(in crate::engine::fetch) partial_files: Vec<(FileNo, GroupSet)>,
}

impl ConnectedSource {
    /// Builds a source of these files. It is asked about the `unsure` ones, which it may still be fetching itself.
    pub(in crate::engine::fetch) async fn query(
        link: Link,
        mut files: HashSet<FileNo>,
        jobs: &[FileJob],
        unsure: &[FileNo],
    ) -> Result<Self, StreamError> {
        let mut partial_files = Vec::new();
        for (file, held) in query_availability(&link, jobs, unsure).await? {
            match held {
                Some(groups) if groups.is_full() => {}
                Some(groups) => partial_files.push((file, groups)),
                None => drop(files.remove(&file)),
            }
        }
        Ok(Self { link, has: SourceFiles { files, partial_files } })
    }

    /// Builds a source of a room's files: a member, who is asked which of the `due` ones it has, whatever their names
    /// there. `owned` are those that it described itself.
    pub(in crate::engine::fetch) async fn query_member(
        link: Link,
        due: &[FileNo],
        owned: HashSet<FileNo>,
        jobs: &[FileJob],
    ) -> Result<Self, StreamError> {
        let is_sure = |file: &FileNo| owned.contains(file) && jobs.get(*file).is_some_and(|job| !job.stat.partial);
        let unsure: Vec<FileNo> = due.iter().copied().filter(|file| !is_sure(file)).take(MAX_MEMBER_QUERIES).collect();
        let files = owned.into_iter().chain(unsure.iter().copied()).collect();
        Self::query(link, files, jobs, &unsure).await
    }
}

impl SourceDialer {
    /// Opens the socket of a fetch, with windows that fit a limit of so many bytes per second.
    pub(in crate::engine::fetch) fn new(me: &LocalUser, limit: Option<u64>) -> Result<Self, Error> {
        let endpoint = Endpoint::client(&me.identity, limit).map_err(|why| Error::link(&me.user, why))?;
        let chat_priority = Arc::default();
        Ok(Self { local_user: me.clone(), endpoint, links: Arc::default(), chat_priority })
    }

    /// Returns the state that throttles bulk data during a chat.
    pub(in crate::engine::fetch) const fn chat_priority(&self) -> &Arc<ChatPriority> {
        &self.chat_priority
    }

    /// Sets whether bulk data is throttled because a chat is active, on open links and future ones.
    pub(in crate::engine::fetch) fn throttle_bulk(&self, is_chat_active: bool) {
        // Locked before the flag is set: a link dialled meanwhile is either in the list or reads the new flag.
        let links = self.links();
        self.chat_priority.set_active(is_chat_active);
        let window = self.chat_priority.bulk_window();
        self.endpoint.throttle_bulk(window);
        links.iter().for_each(|link| link.throttle_bulk(window));
    }

    /// Finds `user` and opens a link.
    pub(in crate::engine::fetch) async fn connect(&self, user: &UserName) -> Result<Link, Error> {
        let target = peer_lookup::find_target(&self.local_user, user).await?;
        self.dial(&target).await
    }

    /// Dials `user` until they answer or `timeout` has passed.
    pub(in crate::engine::fetch) async fn reconnect(&self, user: &UserName, timeout: Duration) -> Result<Link, Error> {
        let until = Instant::now() + timeout;
        let mut backoff = Backoff::new(FIRST_RETRY_DELAY, MAX_RETRY_DELAY);
        loop {
            // Sleeps first: the link has just failed, and an immediate attempt would meet the same state.
            sleep(backoff.next_delay().min(until.saturating_duration_since(Instant::now()))).await;
            match self.connect(user).await {
                Ok(link) => return Ok(link),
                // No attempt can cure these.
                Err(error @ (Error::PeerKeyChanged { .. } | Error::KeyOwnedByOther { .. } | Error::Profile(_))) => {
                    return Err(error);
                }
                Err(error) if Instant::now() >= until => return Err(error),
                Err(error) => tracing::debug!("{user} is still gone: {error}"),
            }
        }
    }

    /// Dials a named user and asks which of these files they have, whatever the tracker knows of that.
    pub(in crate::engine::fetch) async fn connect_named(
        &self,
        user: &UserName,
        due: &[FileNo],
        jobs: &[FileJob],
    ) -> Result<ConnectedSource, Error> {
        let link = self.connect(user).await?;
        let asked = ConnectedSource::query(link.clone(), due.iter().copied().collect(), jobs, due).await;
        asked.map_err(|why| dialled_in_vain(&link, why))
    }

    /// Dials a user who has these files according to the tracker.
    pub(in crate::engine::fetch) async fn connect_candidate(
        &self,
        target: &link::DialTarget,
        has: HashSet<FileNo>,
        jobs: &[FileJob],
    ) -> Result<ConnectedSource, Error> {
        let link = self.dial_listed(target).await?;
        // The catalogue lists partial files, too. A file of one group is never shared in part.
        let several = |file: &FileNo| jobs.get(*file).is_some_and(|job| job.layout.group_count() > 1);
        let unsure: Vec<FileNo> = has.iter().copied().filter(several).collect();
        let asked = ConnectedSource::query(link.clone(), has, jobs, &unsure).await;
        asked.map_err(|why| dialled_in_vain(&link, why))
    }

    /// Dials a member of a room. Fails with [`Error::NoRoomFiles`] for a client that knows no files of rooms, and with the
    /// errors of [`peer_lookup::dial`].
    pub(in crate::engine::fetch) async fn connect_member(&self, target: &link::DialTarget) -> Result<Link, Error> {
        let link = self.dial_listed(target).await?;
        if link.has_capability(ROOM_FILES_CAPABILITY) {
            return Ok(link);
        }
        link.close(PeerErrorCode::Done);
        Err(Error::NoRoomFiles(target.user.clone()))
    }

    /// Returns the acting user.
    pub(in crate::engine::fetch) const fn local_user(&self) -> &LocalUser {
        &self.local_user
    }

    /// Closes all links with `code` and waits until the endpoint is drained.
    pub(in crate::engine::fetch) async fn close_all(self, code: PeerErrorCode) {
        for link in self.links().drain(..) {
            link.close(code);
        }
        self.endpoint.drain().await;
    }

    /// Dials somebody whom the tracker lists and the user did not name.
    async fn dial_listed(&self, target: &link::DialTarget) -> Result<Link, Error> {
        let link = self.dial(target).await?;
        // Whoever never answers leaves nothing on record.
        let (me, user, fingerprint) = (self.local_user.clone(), target.user.clone(), target.fingerprint);
        let checked = run_blocking(move || peer_lookup::check_key(&me, &user, fingerprint)).await;
        checked.inspect_err(|_| link.close(PeerErrorCode::Cancelled))?;
        Ok(link)
    }

    async fn dial(&self, target: &link::DialTarget) -> Result<Link, Error> {
        let link = peer_lookup::dial(&self.local_user, &self.endpoint, target, &[ZEROS_CAPABILITY]).await?;
        let mut links = self.links();
        // The chat may have begun during the dial; the lock is the one that `throttle_bulk` takes.
        link.throttle_bulk(self.chat_priority.bulk_window());
        // Dead links go where new ones come, so that the list stays short.
        links.retain(|link| !link.is_closed());
        links.push(link.clone());
        Ok(link)
    }

    fn links(&self) -> MutexGuard<'_, Vec<Link>> {
        self.links.lock()
    }
}

/// Closes a link over which the user couldn't be asked, which the dialer would keep until the end of the fetch; returns
/// the error.
pub(super) fn dialled_in_vain(link: &Link, why: StreamError) -> Error {
    link.close(PeerErrorCode::Cancelled);
    Error::stream(link.user(), why)
}

/// Throttles bulk data while the profile's node says that a chat is active, for as long as the future is polled.
pub(in crate::engine::fetch) async fn watch_chat_activity(dialer: &SourceDialer) -> Infallible {
    loop {
        match NodeHandle::attach(&dialer.local_user.profile).await {
            Ok(Some(node)) => {
                let ended = apply_chat_activity(&node, dialer).await;
                tracing::debug!("whether people talk isn't known any more: {ended}");
                // Without a node nobody chats in this profile; throttled
                // for ever, the fetch would never be quick again.
                dialer.throttle_bulk(false);
            }
            Ok(None) => {}
            Err(error) => tracing::debug!("whether people talk isn't known: {error}"),
        }
        // No node is no error: one may start at any time during the fetch.
        sleep(NODE_POLL_INTERVAL).await;
    }
}

async fn apply_chat_activity(node: &NodeApi, dialer: &SourceDialer) -> Error {
    let mut active = false;
    loop {
        // The node replies only when its state differs from `active`, so this needs no polling.
        let mut change = pin!(node.wait_for_chat_activity(!active));
        let changed = loop {
            tokio::select! {
                changed = &mut change => break changed,
                // The window follows the rate.
                () = sleep(BULK_WINDOW_INTERVAL), if active => dialer.throttle_bulk(true),
            }
        };
        match changed {
            Ok(()) => active = !active,
            Err(error) => return error,
        }
        // Messages are handled in the node's process: that of the fetch has the larger part of the work, and time.
        if active && node.is_in_other_process() {
            lower_process_priority();
        }
        dialer.throttle_bulk(active);
    }
}
