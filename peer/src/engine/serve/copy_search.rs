//! Search for a file by its content among all that are on record with it, any number of which may be gone.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | records in memory at once | 64 | the next page is read when none of these will do |
//! | past searches that are remembered | 1,024 contents | all are forgotten: the next search of a content walks all its records |
//! | searches in vain through all records of a content | one a second | until then only the first 64 are checked |

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use shared::{ContentHash, FileName};

use super::disk_slots::DiskVisit;
use super::share_access::ShareAccess;
use crate::engine::private_data::PrivateData;
use crate::profile::{Profile, ProfileError, Share};

const PAGE_ROWS: usize = 64;
const MAX_PAST_SEARCHES: usize = 1024;
const FAILED_SEARCH_TTL: Duration = Duration::from_secs(1);

/// A content to search for, and the name under which it is wanted, if known.
#[derive(Debug, Clone, Copy)]
pub(super) struct ContentQuery<'a> {
    pub(super) hash: &'a ContentHash,
    pub(super) name: Option<&'a FileName>,
}

/// The outcomes of earlier searches.
#[derive(Debug, Default)]
pub(super) struct PastSearches(Mutex<HashMap<ContentHash, PastSearch>>);

#[derive(Debug)]
enum PastSearch {
    /// The file of this name was there.
    Found(FileName),
    /// No file was there, at this time.
    NotFound(Instant),
}

/// An iteration over the files on record with one content that a requester may get. The order is: the file of the wanted
/// name, the one found last time, the files of each audience, those of the most exact one first.
#[derive(Debug)]
pub(super) struct CopySearch<'a> {
    profile: &'a Profile,
    private: &'a PrivateData,
    past: &'a PastSearches,
    access: &'a ShareAccess,
    visit: &'a DiskVisit<'a>,
    hash: &'a ContentHash,
    stage: SearchStage,
    ready: VecDeque<Share>,
    /// Names that were looked up singly, and are left out of the pages.
    checked_names: Vec<FileName>,
    /// Files that were returned.
    seen: usize,
    /// True if all shared files were read, not only the first page.
    is_thorough: bool,
}

#[derive(Debug)]
enum SearchStage {
    Named(Option<FileName>),
    Past,
    Shares {
        /// The index of the audience.
        audience: usize,
        /// The last row that was read.
        after: i64,
    },
    Done,
}

impl<'a> CopySearch<'a> {
    pub(super) fn new(
        profile: &'a Profile,
        private: &'a PrivateData,
        past: &'a PastSearches,
        access: &'a ShareAccess,
        visit: &'a DiskVisit<'a>,
        ContentQuery { hash, name }: ContentQuery<'a>,
    ) -> Self {
        let stage = SearchStage::Named(name.cloned());
        let (ready, checked_names) = (VecDeque::new(), Vec::new());
        Self { profile, private, past, access, visit, hash, stage, ready, checked_names, seen: 0, is_thorough: false }
    }

    /// Returns the next file, and goes to its disk; files on full disks are passed over. The caller checks whether it is
    /// there.
    pub(super) fn next(&mut self) -> Result<Option<Share>, ProfileError> {
        loop {
            while let Some(share) = self.ready.pop_front() {
                if self.visit.enter(&share.path) && !self.private.is_private_share(&share) {
                    self.seen += 1;
                    return Ok(Some(share));
                }
            }
            if matches!(self.stage, SearchStage::Done) {
                if std::mem::take(&mut self.is_thorough) && !self.visit.is_blocked() {
                    // Only a long search in vain is worth remembering: the first page is tried each time
                    // anyway.
                    self.past.insert(*self.hash, PastSearch::NotFound(Instant::now()));
                }
                return Ok(None);
            }
            self.read_next_stage()?;
        }
    }

    /// Records that the file of this name was there. If others were tried before, it comes first the next time.
    pub(super) fn note_found(&self, name: &FileName) {
        if self.seen > 1 {
            self.past.insert(*self.hash, PastSearch::Found(name.clone()));
        }
    }

    fn read_next_stage(&mut self) -> Result<(), ProfileError> {
        self.stage = match std::mem::replace(&mut self.stage, SearchStage::Done) {
            SearchStage::Named(name) => {
                self.look_up(name)?;
                SearchStage::Past
            }
            SearchStage::Past => {
                self.look_up(self.past.found_name(self.hash))?;
                SearchStage::Shares { audience: 0, after: 0 }
            }
            SearchStage::Shares { audience, after } => {
                let Some(of) = self.access.audiences().get(audience) else { return Ok(()) };
                let rows = self.profile.shares_with_hash(of, self.hash, after, PAGE_ROWS)?;
                let (is_full, last) = (rows.len() == PAGE_ROWS, rows.last().map_or(after, |(row, _)| *row));
                self.add(rows.into_iter().map(|(_, share)| share));
                let is_first = after == 0;
                self.is_thorough |= !is_first;
                // After a recent search in vain only the first page is tried, or thousands of dead records
                // would be read for each request.
                if is_full && !(is_first && self.past.is_recent_failure(self.hash, Instant::now())) {
                    SearchStage::Shares { audience, after: last }
                } else {
                    SearchStage::Shares { audience: audience + 1, after: 0 }
                }
            }
            SearchStage::Done => SearchStage::Done,
        };
        Ok(())
    }

    /// Adds the shares of exactly this name that have the content.
    fn look_up(&mut self, name: Option<FileName>) -> Result<(), ProfileError> {
        let Some(name) = name.filter(|name| !self.checked_names.contains(name)) else { return Ok(()) };
        for audience in self.access.audiences() {
            let named = self.profile.share(audience, &name)?;
            self.ready.extend(named.filter(|share| share.hash == *self.hash));
        }
        self.checked_names.push(name);
        Ok(())
    }

    fn add(&mut self, copies: impl Iterator<Item = Share>) {
        let named = &self.checked_names;
        self.ready.extend(copies.filter(|share| !named.contains(&share.name)));
    }
}

impl PastSearches {
    fn found_name(&self, hash: &ContentHash) -> Option<FileName> {
        match self.searches().get(hash) {
            Some(PastSearch::Found(name)) => Some(name.clone()),
            _ => None,
        }
    }

    fn is_recent_failure(&self, hash: &ContentHash, now: Instant) -> bool {
        let searches = self.searches();
        matches!(searches.get(hash), Some(PastSearch::NotFound(at)) if now.duration_since(*at) < FAILED_SEARCH_TTL)
    }

    fn insert(&self, hash: ContentHash, search: PastSearch) {
        let mut searches = self.searches();
        if searches.len() >= MAX_PAST_SEARCHES && !searches.contains_key(&hash) {
            // They only save work, so the simplest eviction will do.
            searches.clear();
        }
        searches.insert(hash, search);
    }

    fn searches(&self) -> MutexGuard<'_, HashMap<ContentHash, PastSearch>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use shared::{GroupLayout, Manifest, ZeroRuns};

    use super::*;
    use crate::engine::fair_slots::FairSlotBounds;
    use crate::engine::serve::disk_slots::DiskSlots;
    use crate::engine::serve::share_access::NoRooms;
    use crate::engine::serve::share_access::tests::requester;
    use crate::profile::{Audience, HashedShare};
    use crate::sys::FileVersion;

    const COPIES: usize = PAGE_ROWS * 2 + 5;

    fn copy(audience: Audience, name: &str) -> HashedShare {
        let id = FileVersion { size: 3, mtime_ns: 1, ctime_ns: 1, inode: 1 };
        let (name, path, hash) = (name.parse().unwrap(), format!("/nowhere/{name}").into(), ContentHash::of(b"abc"));
        let zeros = ZeroRuns::default();
        let share = Share { audience, name, path, version: id, executable: false, hash, zeros };
        HashedShare { share, manifest: Manifest::new(vec![GroupLayout::of(3).unwrap().chaining_value(0, b"abc")]) }
    }

    #[test]
    fn all_copies_are_come_to_and_the_right_one_first() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let (private, past) = (PrivateData::of(&profile), PastSearches::default());
        let alice = requester("alice");
        let shared = |number| copy(Audience::Everybody, &format!("copy{number}"));
        let copies: Vec<HashedShare> = (0..COPIES).map(shared).collect();
        profile.put_shares(&copies).unwrap();
        let others = ["alice", "bob"].map(|user| copy(Audience::Person(user.parse().unwrap()), "offered"));
        profile.put_shares(&others).unwrap();
        let hash = ContentHash::of(b"abc");
        let access = ShareAccess::of(&profile, &NoRooms, &alice, None).unwrap();
        let disks = DiskSlots::new(FairSlotBounds { total: 4, per_key: 4 });
        let visit = DiskVisit::new(&disks, access.user(), None);
        let search =
            |name| CopySearch::new(&profile, &private, &past, &access, &visit, ContentQuery { hash: &hash, name });
        let all = |mut search: CopySearch<'_>| {
            std::iter::from_fn(|| search.next().unwrap())
                .map(|share| share.name.as_str().to_owned())
                .collect::<Vec<_>>()
        };

        let last = copies[COPIES - 1].share.name.clone();
        let named = all(search(Some(&last)));
        assert_eq!((named.len(), named[0].as_str(), named[1].as_str()), (COPIES + 1, last.as_str(), "offered"));
        // In vain: not all of them again at once.
        assert_eq!(all(search(None)).len(), PAGE_ROWS + 1);
        assert_eq!(all(search(Some(&last))).len(), PAGE_ROWS + 2);

        let mut found = search(Some(&last));
        found.next().unwrap();
        found.next().unwrap();
        found.note_found(&last);
        assert_eq!(all(search(None))[0], last.as_str());
    }
}
