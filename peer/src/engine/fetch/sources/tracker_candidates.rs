//! The users who have some of the files according to the tracker, in the order in which they are dialled.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use shared::UserName;
use shared::tracker::{HashText, ListPeersReply, ListPeersRequest, ListedPeer, TrackerRequest, UserFilesReply};

use super::candidate_dials::{DialPriority, in_dial_order};
use crate::engine::fetch::FileNo;
use crate::engine::fetch::writer::FileJob;
use crate::engine::peer_lookup::{self, TrackerClient};
use crate::engine::{Error, LocalUser, run_blocking};
use crate::net::TrackerError;
use crate::net::link::DialTarget;
use crate::net::tracker::TrackerConnection;

/// Files whose hashes the tracker is asked about in one search, the
/// largest first. A user who has one of them is asked about all.
const MAX_HASH_QUERIES: usize = 256;
/// Users of one search of whom the tracker is asked for all files: a list takes up to 32 MiB. The others are dialled for
/// the files by which they were found.
const MAX_LISTED_USERS: usize = 64;

/// A search for the users who have some of the `due` files.
pub(super) struct CandidateSearch<'a> {
    pub(super) me: &'a LocalUser,
    pub(super) jobs: &'a [FileJob],
    /// The largest first.
    pub(super) due: &'a [FileNo],
}

/// The users whom the tracker named.
struct FoundUsers {
    users: HashMap<UserName, FoundUser>,
    /// False if the tracker refused some of the questions.
    is_complete: bool,
}

/// A listed user, and the files by which they were found.
struct FoundUser {
    entry: ListedPeer,
    has: HashSet<FileNo>,
}

/// A listed user, and where they can be dialled for these files.
pub(super) struct SourceCandidate {
    pub(super) user: UserName,
    pub(super) target: Result<DialTarget, Error>,
    pub(super) has: HashSet<FileNo>,
}

impl CandidateSearch<'_> {
    /// Passes each candidate on as soon as it is known what they have; only those for whom `is_new` is true. Fails if
    /// the tracker refuses before it names anybody.
    pub(super) async fn run(
        &self,
        is_new: impl Fn(&UserName) -> bool,
        mut pass_on: impl FnMut(SourceCandidate),
    ) -> Result<(), Error> {
        let (me, due) = (self.me, self.due);
        // What isn't for everybody isn't the tracker's business either.
        let is_public = |no: &&FileNo| self.jobs.get(**no).is_some_and(|job| !job.stat.restricted);
        let public: Vec<FileNo> = due.iter().filter(is_public).copied().collect();
        if public.is_empty() {
            return Ok(());
        }
        let mut tracker = me.connect_tracker().await?;
        let FoundUsers { users, is_complete } = self.find_by_hash(&mut tracker, &public).await?;
        // Where each file was asked about by its hash, a user's list says nothing more.
        let is_all_known = public.len() == due.len() && due.len() <= MAX_HASH_QUERIES;
        // A tracker that refused is asked no more.
        let mut lists_left = if is_complete && !is_all_known { MAX_LISTED_USERS } else { 0 };
        let is_new = |found: &FoundUser| found.entry.user != me.user && is_new(&found.entry.user);
        let users: Vec<FoundUser> = users.into_values().filter(is_new).collect();
        let (of, local) = (me.clone(), TrackerClient::local_address(&tracker));
        for mut candidate in run_blocking(move || candidates_in_dial_order(&of, users, local)).await? {
            // In the same order: strangers take no turn from known users here either.
            if lists_left > 0 && candidate.target.is_ok() {
                lists_left -= 1;
                match self.catalogued_files(&mut tracker, &candidate.user).await {
                    Ok(has) => candidate.has = has,
                    // A list that is too long to be read counts against its user alone.
                    Err(Error::Tracker(TrackerError::NotATracker { .. })) => match me.connect_tracker().await {
                        Ok(again) => tracker = again,
                        Err(_) => lists_left = 0,
                    },
                    Err(error) => {
                        tracing::info!("what {} shares isn't known: {error}", candidate.user);
                        lists_left = 0;
                    }
                }
            }
            pass_on(candidate);
        }
        Ok(())
    }

    /// Asks the tracker who has each of these files. Fails if it refuses before it named anybody.
    async fn find_by_hash(&self, tracker: &mut TrackerConnection, public: &[FileNo]) -> Result<FoundUsers, Error> {
        let mut users: HashMap<UserName, FoundUser> = HashMap::new();
        // One small query per hash, then one full list per user found: most hashes have no other source.
        let asked = public.iter().take(MAX_HASH_QUERIES).filter_map(|no| Some((*no, self.jobs.get(*no)?)));
        for (no, job) in asked {
            let same = ListPeersRequest {
                hash: Some(job.stat.hash.into()),
                with_files: Some(false),
                ..ListPeersRequest::default()
            };
            match list_peers(tracker, same).await {
                Ok(peers) => {
                    for entry in peers {
                        let new = |entry| FoundUser { entry, has: HashSet::new() };
                        users.entry(entry.user.clone()).or_insert_with(|| new(entry)).has.insert(no);
                    }
                }
                Err(error) if users.is_empty() => return Err(error),
                Err(error) => {
                    tracing::info!("the tracker names no further sources: {error}");
                    return Ok(FoundUsers { users, is_complete: false });
                }
            }
        }
        Ok(FoundUsers { users, is_complete: true })
    }

    /// Returns the due files that `user` has in the tracker's catalogue.
    async fn catalogued_files(
        &self,
        tracker: &mut TrackerConnection,
        user: &UserName,
    ) -> Result<HashSet<FileNo>, Error> {
        // One request for all files; by hash it would take one for each.
        let all = ListPeersRequest { user: Some(user.clone()), ..ListPeersRequest::default() };
        let listed: UserFilesReply = tracker.call(&TrackerRequest::ListPeers(all)).await?;
        let hashes: HashSet<HashText> = listed.into_files().into_iter().map(|file| file.hash).collect();
        let has = |no: &FileNo| self.jobs.get(*no).is_some_and(|job| hashes.contains(&HashText::from(job.stat.hash)));
        Ok(self.due.iter().copied().filter(has).collect())
    }
}

/// Returns the candidates among listed users, with the files of each, in the order in which they are dialled. Blocking.
fn candidates_in_dial_order(
    me: &LocalUser,
    users: Vec<FoundUser>,
    local: Option<SocketAddr>,
) -> Result<Vec<SourceCandidate>, Error> {
    let candidate = |FoundUser { entry, has }| {
        let target = peer_lookup::candidate_from_entry(me, &entry, local);
        // After the target: at the first meeting that records nothing.
        let is_known = me.profile.known_user(&entry.user)?.is_some();
        let priority = DialPriority { is_known, seen_at: entry.ip };
        Ok((priority, SourceCandidate { user: entry.user, target, has }))
    };
    users.into_iter().map(candidate).collect::<Result<_, Error>>().map(in_dial_order)
}

async fn list_peers(tracker: &mut TrackerConnection, which: ListPeersRequest) -> Result<Vec<ListedPeer>, Error> {
    let peers: ListPeersReply = tracker.call(&TrackerRequest::ListPeers(which)).await?;
    Ok(peers.peers)
}
