//! The comparison of two logs: one digest if they are the same, vectors in pages if not, then runs on request.
//!
//! Each side pulls. For an author whose entry differs from its own it sends a [`RunRequest`] with hashes of what it
//! has, newest first and then at doubling distance. The other side finds the newest that both have, and sends what
//! follows. That is the block locator of Bitcoin; it needs no agreement on numbers, so it works for branches as well.
//!
//! An author's digest covers the ends of his branches only: they name everything before them. Digests are the first 16
//! bytes of BLAKE3 in its key derivation mode. `||` joins bytes, and hashes and fingerprints have 32:
//!
//! ```text
//! of an author   derive_key("vizinho 2026 room author digest v1", hash of each end of a branch, ascending)
//! of a room      derive_key("vizinho 2026 room digest v1",
//!                           hash of the newest record || (author || digest of the author) of each author, ascending)
//! ```
//!
//! An end is a message without a successor in the log; in a chain it is the newest one. Authors without a message in the
//! log don't occur. Without a record, its hash is zeros. `newest` is an author's greatest number.
//!
//! A request without a locator asks for all after `above`. A locator has the ends, newest first and at most eight, then the
//! messages at the distances 0, 1, 3, 7, 15 … from the newest number, and last the floor, if there is one; but any choice
//! will do. The answer has messages of epochs that the asker may read ([`Membership::readable_since`]) and of numbers
//! greater than `above`, by ascending number; it never has gaps. In a chain they begin after the newest one of the locator,
//! and beside branches they are all but the locator's messages and their ancestors. A run ends at a message that can be
//! proven, so a reply may have less than fits; only one without runs says that there is nothing more.
//!
//! Two copies may differ for good: one member keeps less, or may not read what is older. Whoever got nothing new by a
//! comparison remembers both digests, and compares again when either changes.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;

use shared::Fingerprint;
use shared::room::{MessageHash, RoomDigest};

use crate::Membership;
use crate::log::{AuthorLog, RoomLog};
use crate::message::RoomMessage;
use crate::run::{MAX_RUN_BYTES, MAX_RUN_MESSAGES, MessageRun};

/// Most entries of a vector page.
pub const MAX_VECTOR_PAGE: usize = 256;
/// Most hashes of a request.
pub const MAX_LOCATOR: usize = 40;
/// Most runs in answer to one request.
pub const MAX_RUNS: usize = 4;
/// Most cuts in a request.
pub const MAX_MISSING_CUTS: usize = 4;
/// Most ends of branches in a request.
const MAX_ENDS: usize = 8;

/// One author's messages in a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the fields say all")]
pub struct VectorEntry {
    pub author: Fingerprint,
    pub newest: u64,
    pub digest: [u8; 16],
}

/// A request for messages of one author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRequest {
    /// The author.
    pub author: Fingerprint,
    /// Hashes of messages that the asker has, at most [`MAX_LOCATOR`].
    pub locator: Vec<MessageHash>,
    /// The asker's floor: nothing up to this number is wanted.
    pub above: u64,
    /// Cuts of the author's memberships that the asker lacks, at most [`MAX_MISSING_CUTS`].
    pub missing_cuts: Vec<MessageHash>,
}

/// The answer to a [`RunRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunReply {
    /// At most [`MAX_RUNS`]. If there are none, the other side has nothing more.
    pub runs: Vec<MessageRun>,
    /// True if the runs are on the way to a cut that the asker lacks; see [`RoomLog::insert_toward_cut`].
    pub leads_to_cut: bool,
}

impl RoomLog {
    /// Returns the hash of records and messages. Equal digests end a comparison.
    pub fn digest(&self, members: &Membership) -> RoomDigest {
        // With a context of its own, so that no record or message hashes to the digest of a room.
        let mut hasher = blake3::Hasher::new_derive_key("vizinho 2026 room digest v1");
        hasher.update(members.head().map_or([0; 32], |head| *head.as_bytes()).as_slice());
        for entry in self.authors.iter().filter_map(|(author, log)| self.vector_entry(*author, log)) {
            hasher.update(entry.author.as_bytes());
            hasher.update(&entry.digest);
        }
        RoomDigest::from_bytes(half(&hasher))
    }

    /// Returns the next page of the vector: authors after `after`, in ascending order.
    pub fn vector_page(&self, after: Option<Fingerprint>) -> Vec<VectorEntry> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let authors = self.authors.range((start, Bound::Unbounded));
        authors.filter_map(|(author, log)| self.vector_entry(*author, log)).take(MAX_VECTOR_PAGE).collect()
    }

    /// Returns true if another member, by an entry of its vector, has an author's messages as they are here, up to its
    /// newest.
    pub fn has_same(&self, theirs: &VectorEntry) -> bool {
        let Some(log) = self.authors.get(&theirs.author) else { return false };
        let kept = || log.levels.range(..=theirs.newest).flat_map(|(_, contents)| contents);
        let ends: BTreeSet<MessageHash> = if theirs.newest == log.floor.number {
            log.floor.contents.iter().map(|last| last.hash).collect()
        } else if !log.is_forked() {
            log.levels.get(&theirs.newest).into_iter().flatten().copied().collect()
        } else {
            let previous = kept().filter_map(|hash| self.index.get(hash)?.previous);
            let continued: HashSet<MessageHash> = previous.map(|previous| previous.hash).collect();
            kept().filter(|hash| !continued.contains(*hash)).copied().collect()
        };
        !ends.is_empty() && digest_of(&ends) == theirs.digest
    }

    /// Returns requests for the authors whose messages differ from those of another member.
    pub fn requests(&self, page: &[VectorEntry], members: &Membership) -> Vec<RunRequest> {
        let differs = |theirs: &&VectorEntry| {
            let mine = self.authors.get(&theirs.author).and_then(|log| self.vector_entry(theirs.author, log));
            mine.is_none_or(|mine| mine.digest != theirs.digest)
        };
        page.iter().take(MAX_VECTOR_PAGE).filter(differs).map(|theirs| self.request(theirs.author, members)).collect()
    }

    /// Returns the request for what another member has of `author`.
    pub fn request(&self, author: Fingerprint, members: &Membership) -> RunRequest {
        let cuts = members.spans(&author).iter().rev().filter_map(|span| span.cut?.hash);
        let missing_cuts = cuts.filter(|cut| !self.index.contains(cut)).take(MAX_MISSING_CUTS).collect();
        let Some(log) = self.authors.get(&author) else {
            return RunRequest { author, locator: Vec::new(), above: 0, missing_cuts };
        };
        let mut locator = self.ends(log);
        locator.reverse();
        locator.truncate(MAX_ENDS);
        let mut step = 1_u64;
        let mut number = log.levels.last_key_value().map_or(0, |(number, _)| *number);
        // The last two places are for the floor, which may have two contents.
        while number > log.floor.number && locator.len() < MAX_LOCATOR - 2 {
            locator.extend(log.levels.get(&number).and_then(|contents| contents.iter().min()));
            number = number.saturating_sub(step);
            step = step.saturating_mul(2);
        }
        locator.extend(log.floor.contents.iter().map(|last| last.hash));
        RunRequest { author, locator, above: log.floor.number, missing_cuts }
    }

    /// Returns the next messages for `request`, of `since` and later epochs. The asker repeats the request, with what it
    /// got in the locator, until the answer is empty. `signed_bytes` are the caller's, by hash.
    pub fn runs(
        &self,
        request: &RunRequest,
        since: u64,
        signed_bytes: impl Fn(&MessageHash) -> Option<Vec<u8>>,
    ) -> RunReply {
        let Some(log) = self.authors.get(&request.author) else { return RunReply::default() };
        let runs = self.proven_runs(log, self.path_to_missing_cut(request, since), &signed_bytes);
        if !runs.is_empty() {
            return RunReply { runs, leads_to_cut: true };
        }
        // What follows a cut may prove it where its own signature is missing.
        let runs = self.proven_runs(log, self.wanted(log, request, since), &signed_bytes);
        RunReply { runs, leads_to_cut: false }
    }

    fn proven_runs(
        &self,
        log: &AuthorLog,
        wanted: Vec<MessageHash>,
        signed_bytes: impl Fn(&MessageHash) -> Option<Vec<u8>>,
    ) -> Vec<MessageRun> {
        let wanted_set: HashSet<MessageHash> = wanted.iter().copied().collect();
        let mut children: HashMap<MessageHash, Vec<MessageHash>> = HashMap::new();
        let mut starts = VecDeque::new();
        for hash in wanted {
            match self.index.get(&hash).and_then(|info| info.previous).filter(|last| wanted_set.contains(&last.hash)) {
                Some(previous) => children.entry(previous.hash).or_default().push(hash),
                None => starts.push_back(hash),
            }
        }
        let (mut runs, mut reply_bytes) = (Vec::new(), 0);
        while let Some(start) = starts.pop_front() {
            if runs.len() >= MAX_RUNS {
                break;
            }
            let mut chain = vec![start];
            let size = |hash: &MessageHash| self.index.get(hash).map_or(0, |info| info.bytes);
            let (mut bytes, mut following) = (size(&start), None);
            while let Some((next, others)) = chain.last().and_then(|last| children.get(last)?.split_first()) {
                // The first goes on with this run, and each other branch begins one of its own.
                starts.extend(others);
                if chain.len() >= MAX_RUN_MESSAGES || bytes + size(next) > MAX_RUN_BYTES as u64 {
                    following = Some(*next);
                    break;
                }
                bytes += size(next);
                chain.push(*next);
            }
            reply_bytes += bytes;
            // The first run is never left out: the asker would take a reply without runs for the end.
            if !runs.is_empty() && reply_bytes > MAX_RUN_BYTES as u64 {
                break;
            }
            let Some(run) = self.proven_run(log, &chain, &signed_bytes) else { continue };
            // A long chain goes on in the next run: each reply costs the asker a wait for the network, and for its disk.
            let unproven = chain.get(run.messages().len()).copied();
            starts.extend(if unproven.is_some() && log.is_forked() { None } else { unproven.or(following) });
            runs.push(run);
        }
        runs
    }

    /// Returns the messages that lead to the first cut that the asker lacks and this log has, by ascending number and
    /// from the newest that both have; as many as fit into a run.
    fn path_to_missing_cut(&self, request: &RunRequest, since: u64) -> Vec<MessageHash> {
        let is_own = |hash: &&MessageHash| self.index.get(hash).is_some_and(|info| info.author == request.author);
        let mut cuts = request.missing_cuts.iter().take(MAX_MISSING_CUTS);
        let Some(cut) = cuts.find(is_own) else { return Vec::new() };
        let known: HashSet<&MessageHash> = request.locator.iter().take(MAX_LOCATOR).collect();
        let mut path: Vec<MessageHash> =
            std::iter::successors(Some(*cut), |hash| Some(self.index.get(hash)?.previous?.hash))
                .take_while(|hash| {
                    let info = self.index.get(hash);
                    !known.contains(hash) && info.is_some_and(|info| info.number > request.above && info.epoch >= since)
                })
                .collect();
        path.reverse();
        // The oldest part: the asker takes no message without its predecessor.
        path.truncate(MAX_RUN_MESSAGES);
        path
    }

    /// Returns the messages that the asker lacks, by ascending number: for a chain only as many as fit into a reply.
    fn wanted(&self, log: &AuthorLog, request: &RunRequest, since: u64) -> Vec<MessageHash> {
        let locator = request.locator.iter().take(MAX_LOCATOR);
        let is_wanted = |hash: &&MessageHash| self.index.get(hash).is_some_and(|info| info.epoch >= since);
        if !log.is_forked() {
            let common = locator.filter_map(|hash| {
                let known = self.index.get(hash).filter(|info| info.author == request.author);
                known.map(|info| info.number)
            });
            let from = common.max().unwrap_or(0).max(request.above);
            let rest = log.levels.range((Bound::Excluded(from), Bound::Unbounded));
            return rest
                .flat_map(|(_, contents)| contents)
                .filter(is_wanted)
                .take(MAX_RUNS * MAX_RUN_MESSAGES)
                .copied()
                .collect();
        }
        let mut known = HashSet::new();
        for hash in locator {
            let mut next = Some(*hash);
            // Each message is visited once, however many hashes of the locator lead to it.
            while let Some(hash) = next.filter(|hash| known.insert(*hash)) {
                next = self.index.get(&hash).and_then(|info| info.previous).map(|previous| previous.hash);
            }
        }
        let rest = log.levels.range((Bound::Excluded(request.above), Bound::Unbounded));
        rest.flat_map(|(_, contents)| contents)
            .filter(|hash| !known.contains(*hash))
            .filter(is_wanted)
            .copied()
            .collect()
    }

    fn proven_run(
        &self,
        log: &AuthorLog,
        chain: &[MessageHash],
        signed_bytes: impl Fn(&MessageHash) -> Option<Vec<u8>>,
    ) -> Option<MessageRun> {
        let signature = |hash: &MessageHash| self.index.get(hash)?.signature;
        let mut ends = chain.iter().enumerate().rev();
        let (end, signature) = ends.find_map(|(end, hash)| Some((end, signature(hash)?)))?;
        let messages: Option<Vec<RoomMessage>> =
            chain.get(..=end)?.iter().map(|hash| RoomMessage::parse(&signed_bytes(hash)?).ok()).collect();
        Some(MessageRun::proven(log.key, messages?, signature))
    }

    fn vector_entry(&self, author: Fingerprint, log: &AuthorLog) -> Option<VectorEntry> {
        let newest = *log.levels.last_key_value()?.0;
        // By hash: contents of one number stand in the order of their arrival, which differs among members.
        let ends: BTreeSet<MessageHash> = self.ends(log).into_iter().collect();
        Some(VectorEntry { author, newest, digest: digest_of(&ends) })
    }

    /// Returns the messages of an author that have no successor, by ascending number.
    pub(crate) fn ends(&self, log: &AuthorLog) -> Vec<MessageHash> {
        let newest = log.levels.last_key_value().map(|(_, contents)| contents.clone()).unwrap_or_default();
        // In a chain only the newest message has no successor.
        if !log.is_forked() {
            return newest;
        }
        let all = || log.levels.values().flatten();
        let continued: HashSet<MessageHash> =
            all().filter_map(|hash| self.index.get(hash)?.previous).map(|previous| previous.hash).collect();
        all().filter(|hash| !continued.contains(*hash)).copied().collect()
    }
}

/// Returns the digest of an author whose branches have these ends.
fn digest_of(ends: &BTreeSet<MessageHash>) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("vizinho 2026 room author digest v1");
    for end in ends {
        hasher.update(end.as_bytes());
    }
    half(&hasher)
}

fn half(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
