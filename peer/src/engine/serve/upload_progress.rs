//! The record of groups that were sent of each file, which tells when a user has all of it. Pure.
//!
//! A fetch that is broken off may go on over another link, so the record of an unfinished file is kept for the next
//! link. A fetch may also use several links at once: what one of them leaves unfinished counts for those that are left.
//! Groups are counted, not bytes: lost groups are requested again, and groups of zeros never are.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | unfinished files of a link | 256 | further files are reported only if a single request gets all of them |
//! | unfinished files of closed links | 32 of one user, 256 in all | the longest untouched is forgotten: its rest is reported as a part |

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use shared::{ContentHash, FileName, GroupLayout, GroupSet, UserName, ZeroRuns};

const MAX_FILES_PER_LINK: usize = 256;
const MAX_UNFINISHED_PER_USER: usize = 32;
const MAX_UNFINISHED: usize = 256;

/// A file that is sent, with the name under which it is reported.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SentFile {
    pub(super) name: FileName,
    pub(super) hash: ContentHash,
}

/// The progress of a file, for reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UploadStatus {
    pub(super) name: FileName,
    pub(super) bytes: u64,
    pub(super) size: u64,
}

/// The record of unfinished files, for all links.
#[derive(Debug, Default)]
pub(super) struct UnfinishedUploads(Mutex<UnfinishedFiles>);

#[derive(Debug, Default)]
struct UnfinishedFiles {
    /// Groups that were sent over closed links, the latest last.
    left: VecDeque<(UserName, SentFile, GroupSet)>,
    /// Number of links over which a file is sent to a user.
    links: HashMap<(UserName, SentFile), usize>,
}

/// The progress of the files that are sent over one link.
#[derive(Debug)]
pub(super) struct LinkUploadProgress {
    user: UserName,
    unfinished: Arc<UnfinishedUploads>,
    files: HashMap<SentFile, FileUploadProgress>,
}

#[derive(Debug)]
struct FileUploadProgress {
    layout: GroupLayout,
    /// Groups that were sent over earlier links.
    sent_earlier: GroupSet,
    /// Groups that were sent over this link, and groups of zeros, which needn't be sent.
    sent_now: GroupSet,
    /// Bytes of the groups in either set.
    bytes: u64,
    /// True once the file was reported as sent; later requests belong to the same fetch.
    is_reported: bool,
}

impl LinkUploadProgress {
    pub(super) fn new(user: UserName, unfinished: Arc<UnfinishedUploads>) -> Self {
        Self { user, unfinished, files: HashMap::new() }
    }

    /// Begins a request for groups of a file; `zeros` are groups that the other side doesn't request. Returns the bytes
    /// of the file that were sent before.
    pub(super) fn begin(&mut self, file: &SentFile, layout: &GroupLayout, zeros: &ZeroRuns) -> u64 {
        if let Some(delivery) = self.files.get(file) {
            return delivery.bytes;
        }
        if layout.group_count() == 1 || self.files.len() >= MAX_FILES_PER_LINK {
            // A file of one group needs no record: it is sent whole or not at all.
            return 0;
        }
        let mut delivery = FileUploadProgress::new(*layout, zeros);
        if let Some(left) = self.unfinished.begin(&self.user, file) {
            delivery.mark_sent_earlier(&left);
        }
        let bytes = delivery.bytes;
        self.files.insert(file.clone(), delivery);
        bytes
    }

    /// Ends a request for `ranges`, of which `bytes` were sent, without a failure if it `has_succeeded`. Returns the file if
    /// it is now complete.
    pub(super) fn finish(
        &mut self,
        file: &SentFile,
        layout: &GroupLayout,
        ranges: &[(u32, u32)],
        bytes: u64,
        has_succeeded: bool,
    ) -> Option<UploadStatus> {
        let mut groups = whole_groups(layout, ranges, bytes);
        let is_complete = match self.files.get_mut(file) {
            Some(delivery) => {
                groups.for_each(|group| delivery.mark_sent(group));
                // Another link that was used for the same fetch may have ended since.
                if !delivery.is_complete()
                    && let Some(left) = self.unfinished.take(&self.user, file)
                {
                    delivery.mark_sent_earlier(&left);
                }
                let is_complete = delivery.is_complete() && !delivery.is_reported;
                delivery.is_reported = delivery.is_complete();
                if delivery.sent_now.is_full() {
                    // All groups went over this link: a further request belongs to another fetch.
                    self.files.remove(file);
                    self.unfinished.end(&self.user, file);
                }
                is_complete
            }
            // No record, for one group or too many files: complete only if this request got all of it.
            // The bytes of an empty file don't tell whether even its header was sent.
            None if bytes == 0 && !has_succeeded => false,
            None => layout.group_count() == 1 && groups.next().is_some() || bytes > 0 && bytes == layout.size(),
        };
        let size = layout.size();
        is_complete.then(|| UploadStatus { name: file.name.clone(), bytes: size, size })
    }

    /// Ends the link: returns the files of which more is not to come over others, with the bytes that were sent over all
    /// links. The records of unfinished ones are kept for the next link.
    pub(super) fn take_unfinished(&mut self) -> Vec<UploadStatus> {
        let ended = self.files.drain().filter_map(|(file, mut delivery)| {
            let others = self.unfinished.end(&self.user, &file);
            if delivery.is_reported {
                return None;
            }
            if let Some(left) = self.unfinished.take(&self.user, &file) {
                delivery.mark_sent_earlier(&left);
            }
            let status = UploadStatus { name: file.name.clone(), bytes: delivery.bytes, size: delivery.layout.size() };
            // While other links are left, one of them reports the file, and needs these groups even of a complete one.
            if delivery.bytes > 0 && !(others == 0 && delivery.is_complete()) {
                self.unfinished.insert(&self.user, file, delivery.into_sent_groups());
            }
            Some(status).filter(|status| others == 0 && status.bytes > 0)
        });
        ended.collect()
    }
}

impl FileUploadProgress {
    fn new(layout: GroupLayout, zeros: &ZeroRuns) -> Self {
        let [sent_earlier, sent_now] = [(); 2].map(|()| GroupSet::empty(layout.group_count()));
        let mut delivery = Self { layout, sent_earlier, sent_now, bytes: 0, is_reported: false };
        zeros.groups().for_each(|group| delivery.mark_sent(group));
        delivery
    }

    fn mark_sent(&mut self, group: u32) {
        self.count(group);
        self.sent_now.insert(group);
    }

    /// Adds groups that were sent over a link which is closed.
    fn mark_sent_earlier(&mut self, groups: &GroupSet) {
        for group in (0..self.layout.group_count()).filter(|group| groups.contains(*group)) {
            self.count(group);
            self.sent_earlier.insert(group);
        }
    }

    /// Counts a group that is about to be marked, unless it is.
    fn count(&mut self, group: u32) {
        if !self.sent_earlier.contains(group) && !self.sent_now.contains(group) {
            self.bytes += self.layout.group_len(group);
        }
    }

    const fn is_complete(&self) -> bool {
        self.bytes == self.layout.size()
    }

    fn into_sent_groups(self) -> GroupSet {
        let Self { sent_earlier: mut before, sent_now: now, layout, .. } = self;
        (0..layout.group_count()).filter(|group| now.contains(*group)).for_each(|group| before.insert(group));
        before
    }
}

impl UnfinishedUploads {
    /// Notes one more link over which a file is sent; returns the groups that were sent before.
    fn begin(&self, user: &UserName, file: &SentFile) -> Option<GroupSet> {
        *self.0.lock().links.entry((user.clone(), file.clone())).or_default() += 1;
        self.take(user, file)
    }

    /// Notes that a file is sent over one link less; returns the number of those left.
    fn end(&self, user: &UserName, file: &SentFile) -> usize {
        let links = &mut self.0.lock().links;
        let key = (user.clone(), file.clone());
        let left = links.get(&key).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            links.remove(&key);
        } else {
            links.insert(key, left);
        }
        left
    }

    fn insert(&self, user: &UserName, file: SentFile, groups: GroupSet) {
        let files = &mut self.0.lock().left;
        files.retain(|(of, known, _)| of != user || *known != file);
        let mut of_user = files.iter().enumerate().filter(|(_, (of, _, _))| of == user).map(|(at, _)| at);
        // An entry of its own user goes, so that one user can't make others' entries forgotten.
        if let Some(oldest) = of_user.next()
            && 1 + of_user.count() >= MAX_UNFINISHED_PER_USER
        {
            files.remove(oldest);
        }
        files.push_back((user.clone(), file, groups));
        if files.len() > MAX_UNFINISHED {
            files.pop_front();
        }
    }

    fn take(&self, user: &UserName, file: &SentFile) -> Option<GroupSet> {
        let files = &mut self.0.lock().left;
        let at = files.iter().position(|(of, known, _)| of == user && known == file)?;
        files.remove(at).map(|(_, _, groups)| groups)
    }
}

/// Returns the groups of `ranges` that are complete within their first `bytes` bytes.
fn whole_groups(layout: &GroupLayout, ranges: &[(u32, u32)], bytes: u64) -> impl Iterator<Item = u32> {
    let mut left = bytes;
    ranges.iter().flat_map(|(start, end)| *start..*end).map_while(move |group| {
        left = left.checked_sub(layout.group_len(group))?;
        Some(group)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    struct Case {
        unfinished: Arc<UnfinishedUploads>,
        file: SentFile,
        layout: GroupLayout,
    }

    impl Case {
        fn new(bytes: u64) -> Self {
            let file = SentFile { name: "big".parse().unwrap(), hash: ContentHash::of(b"big") };
            Self { unfinished: Arc::default(), file, layout: GroupLayout::of(bytes).unwrap() }
        }

        fn link(&self) -> LinkUploadProgress {
            LinkUploadProgress::new("alice".parse().unwrap(), self.unfinished.clone())
        }

        /// Sends ranges whole; tells whether that was the last of the file.
        fn send(&self, link: &mut LinkUploadProgress, ranges: &[(u32, u32)]) -> bool {
            let bytes = ranges.iter().map(|(start, end)| self.layout.range_len(*start, *end)).sum();
            link.begin(&self.file, &self.layout, &ZeroRuns::default());
            let told = link.finish(&self.file, &self.layout, ranges, bytes, true);
            assert!(told.as_ref().is_none_or(|told| told.bytes == self.layout.size()));
            told.is_some()
        }

        fn left(&self, mut link: LinkUploadProgress) -> Vec<u64> {
            link.take_unfinished().iter().map(|told| told.bytes).collect()
        }
    }

    #[test]
    fn a_fetch_over_several_links_is_told_as_one() {
        let case = Case::new(5 * MIB + 1);
        let mut link = case.link();
        assert!(!case.send(&mut link, &[(0, 2), (4, 5)]));
        // Half of a group is none.
        assert_eq!(link.finish(&case.file, &case.layout, &[(2, 3)], MIB / 2, false), None);
        assert_eq!(case.left(link), [3 * MIB]);
        let mut link = case.link();
        // What was lost on the way comes again, and after the others.
        assert_eq!(link.begin(&case.file, &case.layout, &ZeroRuns::default()), 3 * MIB);
        assert!(!case.send(&mut link, &[(2, 4)]));
        assert!(case.send(&mut link, &[(5, 6)]));
        assert!(!case.send(&mut link, &[(1, 2)]));
        assert_eq!(case.left(link), [0; 0]);
    }

    #[test]
    fn a_fetch_over_two_links_at_once_is_told_as_one() {
        let case = Case::new(4 * MIB);
        for ends_early in [false, true] {
            let [mut one, mut other] = [case.link(), case.link()];
            assert!(!case.send(&mut one, &[(0, 2)]) && !case.send(&mut other, &[(2, 3)]));
            if ends_early {
                assert_eq!(case.left(one), [0; 0], "the other goes on");
                assert!(case.send(&mut other, &[(3, 4)]), "and knows what it sent");
                assert_eq!(case.left(other), [0; 0]);
            } else {
                assert!(!case.send(&mut other, &[(3, 4)]));
                assert_eq!((case.left(other), case.left(one)), (vec![], vec![4 * MIB]));
            }
            assert!(case.unfinished.0.lock().links.is_empty() && case.unfinished.0.lock().left.is_empty());
        }
        // Broken off: told once, and known to the next link.
        let [mut one, mut other] = [case.link(), case.link()];
        assert!(!case.send(&mut one, &[(0, 1)]) && !case.send(&mut other, &[(2, 3)]));
        assert_eq!((case.left(one), case.left(other)), (vec![], vec![2 * MIB]));
        let mut next = case.link();
        assert!(!case.send(&mut next, &[(1, 2)]) && case.send(&mut next, &[(3, 4)]));
        // Two fetches of the same file at once are two.
        let [mut one, mut other] = [case.link(), case.link()];
        assert!(!case.send(&mut one, &[(0, 2)]) && case.send(&mut other, &[(0, 4)]) && case.send(&mut one, &[(2, 4)]));
    }

    #[test]
    fn a_file_that_is_fetched_again_is_told_again() {
        let case = Case::new(3 * MIB);
        let mut link = case.link();
        assert!(case.send(&mut link, &[(0, 3)]));
        assert!(!case.send(&mut link, &[(0, 2)]));
        assert!(case.send(&mut link, &[(2, 3)]));
        assert_eq!(case.left(link), [0; 0]);
        let empty = Case::new(0);
        let mut link = empty.link();
        assert!(empty.send(&mut link, &[(0, 1)]) && empty.send(&mut link, &[(0, 1)]));
    }

    #[test]
    fn an_empty_file_whose_header_was_not_sent_is_not_told() {
        let empty = Case::new(0);
        let mut link = empty.link();
        link.begin(&empty.file, &empty.layout, &ZeroRuns::default());
        assert_eq!(link.finish(&empty.file, &empty.layout, &[(0, 1)], 0, false), None);
    }

    #[test]
    fn zeros_are_not_waited_for() {
        let case = Case::new(4 * MIB);
        let mut link = case.link();
        assert_eq!(link.begin(&case.file, &case.layout, &ZeroRuns::from_groups([1, 2])), 2 * MIB);
        assert!(!case.send(&mut link, &[(0, 1)]));
        assert!(case.send(&mut link, &[(3, 4)]));
    }

    #[test]
    fn what_is_left_is_forgotten_at_last_and_nobody_makes_others_forgotten() {
        let mut case = Case::new(3 * MIB);
        let mut leave = |user: &str, number: usize| {
            case.file.name = format!("big{number}").parse().unwrap();
            let mut link = LinkUploadProgress::new(user.parse().unwrap(), case.unfinished.clone());
            case.send(&mut link, &[(0, 1)]);
            link.take_unfinished();
            case.file.clone()
        };
        let first = leave("carol", 0);
        let (begun, last) =
            (leave("alice", 0), (1..=MAX_UNFINISHED).map(|number| leave("alice", number)).last().unwrap());
        let known = |user: &str, file: &SentFile| {
            let mut link = LinkUploadProgress::new(user.parse().unwrap(), case.unfinished.clone());
            link.begin(file, &case.layout, &ZeroRuns::default())
        };
        assert_eq!((known("alice", &last), known("alice", &begun)), (MIB, 0));
        assert_eq!(known("carol", &first), MIB, "she left only one");
        assert!(case.unfinished.0.lock().left.len() <= MAX_UNFINISHED_PER_USER);
    }
}
