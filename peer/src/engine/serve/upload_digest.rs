//! A digest of uploads: limits the reports of files that users fetched, and counts the rest. Pure.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | files of one user that are reported one by one | 10,000 at once, 20 a second after that | counted, and reported as one number each 10 s |
//! | users that are counted apart | 256 | users with nothing to report are forgotten; without any, further users count together as one |

use std::collections::HashMap;

use shared::UserName;
use tokio::time::Instant;

use crate::util::rate_limit::TokenBucket;

/// Reports at once: enough for a large folder.
const LINE_BURST: u64 = 10_000;
const LINES_PER_SECOND: u64 = 20;
const USERS: usize = 256;

/// A counter of uploaded files by user.
#[derive(Debug, Default)]
pub(super) struct UploadDigest {
    users: HashMap<UserName, UserUploadTally>,
    /// All users without an entry in `users`.
    others: Option<UserUploadTally>,
}

/// A number of uploaded files that were not reported one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnreportedUploads {
    /// `None` if there are several.
    pub(super) by: Option<UserName>,
    pub(super) count: u64,
    pub(super) bytes: u64,
}

#[derive(Debug)]
struct UserUploadTally {
    /// The reports of single files.
    lines: TokenBucket,
    count: u64,
    bytes: u64,
}

impl UploadDigest {
    /// Counts a file; returns true if it is to be reported by itself.
    pub(super) fn record(&mut self, by: &UserName, bytes: u64, now: Instant) -> bool {
        let now = now.into_std();
        // Only users with full buckets: forgetting another one would renew its burst.
        if self.users.len() >= USERS && !self.users.contains_key(by) {
            self.users.retain(|_, tally| tally.count > 0 || !tally.lines.is_full(now));
        }
        let new = || UserUploadTally {
            lines: TokenBucket::with_burst(LINES_PER_SECOND, LINE_BURST, now),
            count: 0,
            bytes: 0,
        };
        let has_place = self.users.len() < USERS || self.users.contains_key(by);
        let tally = if has_place {
            self.users.entry(by.clone()).or_insert_with(new)
        } else {
            self.others.get_or_insert_with(new)
        };
        let is_told = tally.lines.try_consume(1, now);
        if !is_told {
            tally.count += 1;
            tally.bytes = tally.bytes.saturating_add(bytes);
        }
        is_told
    }

    /// Returns the counts of unreported files, and resets them.
    pub(super) fn take_unreported(&mut self) -> Vec<UnreportedUploads> {
        let users = self.users.iter_mut().map(|(by, tally)| (Some(by), tally));
        let all = users.chain(self.others.iter_mut().map(|tally| (None, tally)));
        let untold = all.filter(|(_, tally)| tally.count > 0).map(|(by, tally)| {
            let (count, bytes) = (std::mem::take(&mut tally.count), std::mem::take(&mut tally.bytes));
            UnreportedUploads { by: by.cloned(), count, bytes }
        });
        untold.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_large_folder_is_told_file_by_file_and_a_loop_is_not() {
        let (mut digest, now) = (UploadDigest::default(), Instant::now());
        let (alice, bob): (UserName, UserName) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        assert_eq!((0..10_500).filter(|_| digest.record(&alice, 3, now)).count(), 10_000);
        assert!(digest.record(&bob, 1, now), "others are told of");
        let untold = UnreportedUploads { by: Some(alice.clone()), count: 500, bytes: 1500 };
        assert_eq!(digest.take_unreported(), [untold]);
        assert_eq!(digest.take_unreported(), []);
        let later = now + Duration::from_secs(10);
        assert_eq!((0..500).filter(|_| digest.record(&alice, 3, later)).count(), 200);
    }

    #[test]
    fn however_many_users_the_table_stays_small() {
        let (mut digest, now) = (UploadDigest::default(), Instant::now());
        for number in 0..1000 {
            assert!(digest.record(&format!("user{number}").parse().unwrap(), 1, now), "told of user{number}");
        }
        assert_eq!(digest.users.len(), USERS);
        assert!(
            digest.record(&"late".parse().unwrap(), 1, now + Duration::from_secs(1)),
            "room for those who come later"
        );
    }

    #[test]
    fn whoever_finds_no_place_is_counted_with_others() {
        let (mut digest, now) = (UploadDigest::default(), Instant::now());
        let told = |digest: &mut UploadDigest, user: usize, files: usize| {
            let by = format!("user{user}").parse().unwrap();
            (0..files).filter(|_| digest.record(&by, 2, now)).count()
        };
        for user in 0..USERS {
            assert_eq!(told(&mut digest, user, 1), 1);
        }
        let others: usize = (USERS..USERS + 11).map(|user| told(&mut digest, user, 1000)).sum();
        assert_eq!(others, 10_000);
        assert_eq!(digest.take_unreported(), [UnreportedUploads { by: None, count: 1000, bytes: 2000 }]);
        assert_eq!(digest.take_unreported(), []);
        assert_eq!(told(&mut digest, 0, 10), 10, "who has a place is told of as before");
    }
}
