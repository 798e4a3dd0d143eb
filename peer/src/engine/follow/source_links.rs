//! Links to the followed users: one to each, whatever number of their folders is followed, and what is asked over it.

use std::collections::HashMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shared::names::matching_key;
use shared::names::name_encoding::display_name;
use shared::peer::{
    CHANGES_CAPABILITY, FileStat, MAX_MARK_BYTES, PeerErrorCode, PeerReply, PeerRequest, RAW_NAMES_CAPABILITY,
    ZEROS_CAPABILITY,
};
use shared::{FileName, UserName};
use tokio::sync::Mutex as AsyncMutex;

use super::follow_plan::ListedState;
use crate::engine::fetch::{ListedFile, SourceShares, find_removed, list_files, list_folders};
use crate::engine::{Error, LocalUser, peer_lookup};
use crate::net::StreamError;
use crate::net::endpoint::Endpoint;
use crate::net::link::Link;
use crate::net::stream::{StreamPriority, StreamReceiver, StreamSender};

/// Time for a user to tell the state of the present.
const FIRST_MARK_TIMEOUT: Duration = Duration::from_secs(15);

/// The links of all follows.
#[derive(Debug)]
pub(super) struct SourceLinks {
    me: LocalUser,
    endpoint: Endpoint,
    /// The link to each user, locked while it is dialled: two follows of one user share it.
    links: Mutex<HashMap<UserName, Arc<AsyncMutex<Option<Link>>>>>,
}

/// A stream on which a user tells of changes.
#[derive(Debug)]
pub(super) struct ChangeSubscription {
    /// Held open: its end tells the other side that nobody listens.
    _sender: StreamSender,
    receiver: StreamReceiver,
}

/// A folder as its user lists it.
#[derive(Debug, Default)]
pub(super) struct SourceListing {
    /// The names below the folder, and what is said of them.
    pub(super) state: ListedState,
    /// The files, to be fetched if they are needed.
    pub(super) files: HashMap<FileName, FileStat>,
    /// The empty folders.
    pub(super) folders: Vec<FileName>,
    /// Entries that can't be files, as they are shown.
    pub(super) invalid: Vec<String>,
    /// True if the user shares the folder, or something in it.
    pub(super) is_shared: bool,
    /// The beginning of the shared names of its files.
    prefix: String,
}

impl SourceLinks {
    pub(super) fn new(me: &LocalUser) -> Result<Self, Error> {
        let endpoint = Endpoint::client(&me.identity, None).map_err(|why| Error::link(&me.user, why))?;
        Ok(Self { me: me.clone(), endpoint, links: Mutex::default() })
    }

    /// Returns the link to a user, and dials if there is none.
    pub(super) async fn link_to(&self, user: &UserName) -> Result<Link, Error> {
        let of_user = self.links.lock().entry(user.clone()).or_default().clone();
        // The map's lock is released by now: only those who want this user wait for the dial.
        let mut existing = of_user.lock().await;
        if let Some(link) = existing.as_ref().filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        let target = peer_lookup::find_target(&self.me, user).await?;
        let link = peer_lookup::dial(&self.me, &self.endpoint, &target, &[ZEROS_CAPABILITY]).await?;
        *existing = Some(link.clone());
        Ok(link)
    }

    /// Closes all links.
    pub(super) async fn close(&self) {
        self.endpoint.close(PeerErrorCode::Done);
        self.endpoint.drain().await;
    }
}

impl ChangeSubscription {
    /// Subscribes to the changes of a user's shares; `None` if their peer doesn't tell of them.
    pub(super) async fn open(link: &Link) -> Result<Option<Self>, Error> {
        if !link.has_capability(CHANGES_CAPABILITY) {
            return Ok(None);
        }
        let opened = link.open_stream(&PeerRequest::Changes {}, StreamPriority::Request).await;
        let (sender, receiver) = opened.map_err(|why| Error::stream(link.user(), why))?;
        let mut this = Self { _sender: sender, receiver };
        // The first mark is that of the present: what is listed after it has all changes until then.
        match tokio::time::timeout(FIRST_MARK_TIMEOUT, this.next(link.user())).await {
            Ok(marked) => marked.map(|()| Some(this)),
            Err(_) => Err(Error::stream(link.user(), StreamError::Timeout(FIRST_MARK_TIMEOUT))),
        }
    }

    /// Waits for the next change. Cancel-safe.
    pub(super) async fn next(&mut self, user: &UserName) -> Result<(), Error> {
        match self.receiver.next_answer().await.map_err(|why| Error::stream(user, why))? {
            PeerReply::Changed { mark } if mark.len() <= MAX_MARK_BYTES => Ok(()),
            _ => Err(Error::stream(user, StreamError::Unexpected("a change was due"))),
        }
    }
}

impl SourceListing {
    /// Lists a folder, or with `None` all that the user shares.
    pub(super) async fn fetch(link: &Link, folder: Option<&FileName>) -> Result<Self, Error> {
        let shares = SourceShares { link, room: None };
        let prefix = folder.map_or_else(String::new, |folder| format!("{}/", folder.as_str()));
        let is_raw = link.has_capability(RAW_NAMES_CAPABILITY);
        let below = |name: &FileName| {
            let name = if prefix.is_empty() { name.clone() } else { name.strip_folder(&prefix)? };
            // What comes unasked changes no program's behaviour, and is none of the copy's own folders.
            let name = if is_raw { name } else { name.literal() };
            (!name.is_hidden()).then_some(name)
        };
        let mut this = Self { prefix: prefix.clone(), ..Self::default() };
        for entry in list_files(shares, &prefix).await? {
            match entry {
                Ok(stat) => {
                    if let Some(name) = below(&stat.name) {
                        this.add_file(name, stat);
                    }
                }
                Err(name) => this.invalid.push(display_name(&name.to_string()).into_owned()),
            }
        }
        // Without the slash: the folder itself may be empty.
        let folders = list_folders(shares, folder.map_or("", FileName::as_str)).await?;
        let is_listed = !this.files.is_empty() || !this.invalid.is_empty();
        this.is_shared = is_listed || folder.is_none() || folders.iter().any(|name| Some(name) == folder);
        this.folders = folders.iter().filter_map(below).collect();
        this.is_shared |= !this.folders.is_empty();
        Ok(this)
    }

    /// Asks the user which of these files that are not listed were removed.
    pub(super) async fn ask_removed<'a>(
        &mut self,
        link: &Link,
        recorded: impl Iterator<Item = &'a FileName>,
    ) -> Result<(), Error> {
        if !link.has_capability(CHANGES_CAPABILITY) {
            return Ok(());
        }
        // Asked by name: a list of all removed ones would tell everybody what was shared by mistake.
        let absent = recorded.filter(|name| !self.state.files.contains_key(*name));
        let shared = |name: &FileName| format!("{}{}", self.prefix, name.as_str()).parse().ok();
        let asked: Vec<FileName> = absent.filter_map(shared).collect();
        let removed = find_removed(link, &asked).await?;
        let below = |name: FileName| if self.prefix.is_empty() { Some(name) } else { name.strip_folder(&self.prefix) };
        self.state.removed = removed.into_iter().filter_map(below).collect();
        Ok(())
    }

    /// Finds the shared folder that is called like this one in another normal form, or as it is shown.
    pub(super) async fn find_lookalike(link: &Link, folder: &FileName) -> Result<Option<FileName>, Error> {
        let (key, depth) = (matching_key(folder.as_str()), folder.components().count());
        let is_meant = |name: &str| matching_key(name) == key || display_name(name) == folder.as_str();
        let files = list_files(SourceShares { link, room: None }, "").await?;
        let above = files.iter().flatten().filter_map(|stat| {
            let (slash, _) = stat.name.as_str().match_indices('/').nth(depth - 1)?;
            Some(&stat.name.as_str()[..slash])
        });
        let found = above.filter(|name| is_meant(name)).find_map(|name| name.parse().ok());
        Ok(found)
    }

    fn add_file(&mut self, name: FileName, stat: FileStat) {
        // A user may list a name twice, and two names may be one in literal form: the first stays.
        if let Entry::Vacant(vacant) = self.state.files.entry(name) {
            let name = vacant.key().clone();
            vacant.insert(stat.hash);
            self.files.insert(name, stat);
        }
    }

    /// Forgets all but these files.
    pub(super) fn keep_files<'a>(&mut self, names: impl Iterator<Item = &'a FileName>) {
        self.files = names.filter_map(|name| self.files.remove_entry(name)).collect();
    }

    /// Takes a listed file, to be fetched under this name. `None` while its user hashes it anew, which is a change to come.
    pub(super) fn take_file(&mut self, name: &FileName, local: FileName) -> Option<ListedFile> {
        let stat = self.files.remove(name).filter(|stat| !stat.stale && !stat.partial)?;
        Some(ListedFile { stat, local })
    }
}

#[cfg(test)]
mod tests {
    use shared::ContentHash;

    use super::*;

    fn stat(size: u64) -> FileStat {
        let hash = ContentHash::of(&size.to_be_bytes());
        let stat = serde_json::json!({ "name": "docs/a", "size": size, "hash": hash, "group_size": 1 << 20 });
        serde_json::from_value(stat).unwrap()
    }

    #[test]
    fn of_a_name_that_is_listed_twice_the_first_counts_in_all_respects() {
        let mut listing = SourceListing::default();
        let name: FileName = "a".parse().unwrap();
        listing.add_file(name.clone(), stat(1));
        listing.add_file(name.clone(), stat(2));
        assert_eq!(listing.state.files[&name], listing.files[&name].hash);
        assert_eq!(listing.files[&name].size, 1);
    }
}
