//! Versions of files, told apart without reading them.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// A file's size, times and inode. At least one of them changes with the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileVersion {
    /// Size in bytes.
    pub size: u64,
    /// Last modification, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of any attribute, in nanoseconds since 1970. Unlike the modification time, programs can't set it. 0
    /// if it proves nothing, because a later change could have the same times.
    pub ctime_ns: i64,
    /// Inode number.
    pub inode: u64,
}

/// The difference between two versions, as far as metadata tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionChange {
    /// The same version of the same file.
    Unchanged,
    /// Size and modification time are equal, another attribute differs: chmod, a rename or link, a copy with its times,
    /// a network file system that renumbers inodes. The content can differ only if a program set the modification time
    /// back.
    Attributes,
    /// Size or modification time differ: the content may differ.
    Content,
}

/// Upper bound of the resolution of times that have a fraction of a second. Kernel ticks are up to 10 ms.
const FINE_STEP_NS: i64 = 50_000_000;
/// Upper bound of the resolution of times without one: FAT counts in steps of two seconds.
const COARSE_STEP_NS: i64 = 2_500_000_000;
const SECOND_NS: i64 = 1_000_000_000;

impl FileVersion {
    /// Returns the difference from this recorded version to `now`.
    pub fn change_to(&self, now: &Self) -> VersionChange {
        if (self.size, self.mtime_ns) != (now.size, now.mtime_ns) {
            VersionChange::Content
        } else if self.ctime_ns == 0 || self != now {
            VersionChange::Attributes
        } else {
            VersionChange::Unchanged
        }
    }

    /// Returns whether nothing was written between this state, which was recorded, and `now`: nobody can set the time of the last
    /// change back. The inode may have another number, as some network file systems give them anew.
    pub fn is_unwritten_at(&self, now: &Self) -> bool {
        self.ctime_ns != 0 && Self { inode: now.inode, ..*self } == *now
    }

    /// Returns the time until any change leaves other times than these, seen from `now_ns`: a moment for a file that was just
    /// written. `None` where that is past, or never comes soon.
    pub fn settles_in(&self, now_ns: i64) -> Option<Duration> {
        if self.ctime_ns == 0 || self.has_coarse_times() || self.is_settled_at(now_ns) {
            return None;
        }
        let left = self.mtime_ns.max(self.ctime_ns).saturating_add(FINE_STEP_NS).saturating_sub(now_ns);
        // Later than that, a clock was set back, or the time is one that somebody set.
        u64::try_from(left).ok().filter(|_| left <= FINE_STEP_NS).map(Duration::from_nanos)
    }

    /// This state as it is to be recorded of a file that is read from `now_ns` on. Times that are too young, or in a future
    /// that a clock was set back from, could be those of a later change as well.
    #[must_use]
    pub fn recorded_at(self, now_ns: i64) -> Self {
        if self.is_settled_at(now_ns) { self } else { Self { ctime_ns: 0, ..self } }
    }

    /// Returns true if every change after `now_ns` results in other times.
    pub fn is_settled_at(&self, now_ns: i64) -> bool {
        // A later change within one step of the clock can leave the same time.
        let step = if self.has_coarse_times() { COARSE_STEP_NS } else { FINE_STEP_NS };
        self.ctime_ns != 0 && self.mtime_ns.max(self.ctime_ns).saturating_add(step) <= now_ns
    }

    /// Returns true if the file system seems to store whole seconds.
    pub const fn has_coarse_times(&self) -> bool {
        self.mtime_ns % SECOND_NS == 0 && self.ctime_ns % SECOND_NS == 0
    }
}

/// Returns the version of an open file; `None` if it isn't a regular file.
pub fn open_file_version(file: &File) -> io::Result<Option<FileVersion>> {
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then(|| file_version(&metadata)))
}

/// Returns the version of the file with this metadata.
pub fn file_version(metadata: &Metadata) -> FileVersion {
    FileVersion {
        size: metadata.len(),
        mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        inode: metadata.ino(),
    }
}

/// Returns device and inode of a file with several names; `None` for one with a single name.
pub fn hard_link(metadata: &Metadata) -> Option<(u64, u64)> {
    (metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino()))
}

/// Returns true if both are the same inode, perhaps under two names.
pub fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

const fn nanoseconds(seconds: i64, beyond: i64) -> i64 {
    seconds.saturating_mul(SECOND_NS).saturating_add(beyond)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = FileVersion> {
        (0_u64..3, -2_i64..3, 0_i64..3, 0_u64..3).prop_map(|(size, mtime_ns, ctime_ns, inode)| FileVersion {
            size,
            mtime_ns,
            ctime_ns,
            inode,
        })
    }

    proptest! {
        /// Size and modification time alone decide what may have other content; nothing else is a change of it.
        #[test]
        fn size_and_modification_time_decide_first(before in ids(), now in ids()) {
            let change = before.change_to(&now);
            let same_content = before.size == now.size && before.mtime_ns == now.mtime_ns;
            prop_assert_eq!(change == VersionChange::Content, !same_content);
            let same = before == now && before.ctime_ns != 0;
            prop_assert_eq!(change == VersionChange::Unchanged, same);
        }

        /// What was recorded too early to tell two versions apart is never taken for proof.
        #[test]
        fn young_times_prove_nothing(
            mtime in -3_000_000_000_i64..3_000_000_000,
            ctime in 1_i64..3_000_000_000,
            now in -6_000_000_000_i64..9_000_000_000,
            coarse: bool,
        ) {
            let step = if coarse { 2_000_000_000 } else { 1 };
            let rounded = |ns: i64| if coarse { (ns / step) * step } else { ns };
            let id = FileVersion { size: 1, mtime_ns: rounded(mtime), ctime_ns: rounded(ctime), inode: 1 };
            // A change at any time from then on has, on this file system, these times.
            let later = FileVersion { ctime_ns: rounded(now), mtime_ns: rounded(now), ..id };
            if id.recorded_at(now).change_to(&id) == VersionChange::Unchanged {
                prop_assert!(id.recorded_at(now).change_to(&later) != VersionChange::Unchanged);
            }
        }
    }

    #[test]
    fn times_settle() {
        let id = FileVersion { size: 1, mtime_ns: 5_000_000_007, ctime_ns: 5_000_000_009, inode: 1 };
        assert!(!id.is_settled_at(5_000_000_010), "it was just written");
        assert!(id.is_settled_at(5_100_000_000));
        assert!(!id.is_settled_at(4_000_000_000), "the clock was set back");
        assert_eq!(id.settles_in(5_000_000_010), Some(Duration::from_nanos(49_999_999)));
        assert_eq!([5_100_000_000, 4_000_000_000].map(|now| id.settles_in(now)), [None, None]);
        let coarse = FileVersion { mtime_ns: 4 * SECOND_NS, ctime_ns: 4 * SECOND_NS, ..id };
        assert!(!coarse.is_settled_at(6 * SECOND_NS) && coarse.is_settled_at(7 * SECOND_NS));
        assert_eq!(coarse.settles_in(4 * SECOND_NS), None, "nobody waits for seconds");
        let timeless = FileVersion { mtime_ns: 0, ctime_ns: 0, ..id };
        assert!(!timeless.is_settled_at(i64::MAX), "a file system that keeps no times");
        assert_eq!(timeless.change_to(&timeless), VersionChange::Attributes);
    }

    #[test]
    fn an_edit_whose_time_was_set_back_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        io::Write::write_all(&mut File::create(&path).unwrap(), b"one").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let before = file.metadata().unwrap();
        // The system's clock of files ticks every few milliseconds.
        loop {
            io::Write::write_all(&mut &file, b"two").unwrap();
            io::Seek::rewind(&mut &file).unwrap();
            file.set_modified(before.modified().unwrap()).unwrap();
            let after = file.metadata().unwrap();
            if after.ctime_nsec() != before.ctime_nsec() || after.ctime() != before.ctime() {
                assert_eq!(after.modified().unwrap(), before.modified().unwrap());
                let change = file_version(&before).change_to(&file_version(&after));
                assert_eq!(change, VersionChange::Attributes);
                assert!(!file_version(&before).is_unwritten_at(&file_version(&after)));
                return;
            }
        }
    }
}
