//! What is known of a file that is not whole: which of its groups are there, and what proves them.
//!
//! Beside `.NAME.HASH8.part` lies `.NAME.HASH8.state`:
//!
//! ```text
//! 8 bytes "vzpart3\n" | 32 bytes content hash | 32 bytes: whose file it is, with zeros behind the name
//! 32 bytes a group: the manifest | 1 byte a group: 1 where it is there
//! ```
//!
//! Both are hints. The manifest counts only if it folds to the hash, and a group only after it was hashed again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use shared::content::Manifest;
use shared::{ContentHash, GroupSet, Layout, UserName};

const MAGIC: &[u8; 8] = b"vzpart3\n";
const USER_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + 32 + USER_BYTES;
const VALUE_BYTES: usize = 32;
/// How the two names end.
pub(super) const PART: &str = ".part";
pub(super) const STATE: &str = ".state";

/// A state as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartState {
    /// Whose file it is.
    pub(super) from: UserName,
    /// Folds to the hash.
    pub(super) manifest: Manifest,
    /// What it says is there.
    pub(super) present: GroupSet,
}

impl PartState {
    /// Reads the state of the file with this hash; `None` for anything else.
    pub(super) fn read(file: &File, hash: &ContentHash, layout: &Layout) -> Option<Self> {
        let mut bytes = vec![0; whole_len(layout)];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Self::from_bytes(&bytes, hash, layout)
    }

    fn from_bytes(bytes: &[u8], hash: &ContentHash, layout: &Layout) -> Option<Self> {
        let groups = usize::try_from(layout.groups()).ok()?;
        let (magic, rest) = bytes.split_at_checked(MAGIC.len())?;
        let (of, rest) = rest.split_at_checked(32)?;
        let (from, rest) = rest.split_at_checked(USER_BYTES)?;
        let from = user_of(from)?;
        let (values, flags) = rest.split_at_checked(groups * VALUE_BYTES)?;
        if magic != MAGIC || of != hash.as_bytes() || flags.len() != groups {
            return None;
        }
        let manifest = Manifest::from_bytes(layout, values).filter(|manifest| manifest.fold() == *hash)?;
        let mut present = GroupSet::none(layout.groups());
        (0..).zip(flags).filter(|(_, flag)| **flag == 1).for_each(|(group, _)| present.insert(group));
        Some(Self { from, manifest, present })
    }

    fn to_bytes(&self, hash: &ContentHash, layout: &Layout) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(whole_len(layout));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(hash.as_bytes());
        let from = self.from.as_str().bytes().chain(std::iter::repeat(0));
        bytes.extend(from.take(USER_BYTES));
        bytes.extend_from_slice(self.manifest.as_bytes());
        bytes.extend((0..layout.groups()).map(|group| u8::from(self.present.contains(group))));
        bytes
    }

    /// Writes all of it.
    pub(super) fn write(&self, file: &File, hash: &ContentHash, layout: &Layout) -> io::Result<()> {
        let bytes = self.to_bytes(hash, layout);
        file.set_len(bytes.len() as u64)?;
        file.write_all_at(&bytes, 0)
    }
}

/// Of which file, and whose, a state says that it is.
pub(super) fn described(file: &File) -> Option<(ContentHash, UserName)> {
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (hash, from) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
    Some((ContentHash::from_bytes(hash.try_into().ok()?), user_of(from)?))
}

/// Notes in a state that was written that one more group is there.
pub(super) fn add(file: &File, layout: &Layout, group: u32) -> io::Result<()> {
    let flags = HEADER_BYTES as u64 + u64::from(layout.groups()) * VALUE_BYTES as u64;
    file.write_all_at(&[1], flags + u64::from(group))
}

/// Where the state of this part lies.
pub(super) fn state_path(part: &Path) -> Option<PathBuf> {
    let name = part.file_name()?.to_str()?.strip_suffix(PART)?;
    Some(part.with_file_name(format!("{name}{STATE}")))
}

fn user_of(bytes: &[u8]) -> Option<UserName> {
    std::str::from_utf8(bytes).ok()?.trim_end_matches('\0').parse().ok()
}

fn whole_len(layout: &Layout) -> usize {
    HEADER_BYTES + usize::try_from(layout.groups()).unwrap_or(0) * (VALUE_BYTES + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> (ContentHash, Layout, PartState) {
        let layout = Layout::of((2 << 20) + 5).unwrap();
        let manifest = Manifest::new(vec![[1; 32], [2; 32], [3; 32]]);
        let mut present = GroupSet::none(3);
        present.insert(1);
        (manifest.fold(), layout, PartState { from: "bob".parse().unwrap(), manifest, present })
    }

    #[test]
    fn golden_bytes() {
        let (hash, layout, state) = sample();
        let bytes = state.to_bytes(&hash, &layout);
        let user = [b"bob".as_slice(), &[0; 29]].concat();
        let golden =
            [b"vzpart3\n".as_slice(), hash.as_bytes(), &user, &[1; 32], &[2; 32], &[3; 32], &[0, 1, 0]].concat();
        assert_eq!(bytes, golden);
        let file = tempfile::tempfile().unwrap();
        state.write(&file, &hash, &layout).unwrap();
        add(&file, &layout, 2).unwrap();
        assert_eq!(described(&file), Some((hash, state.from)));
        let read = PartState::read(&file, &hash, &layout).unwrap();
        assert_eq!((read.manifest, read.present.len()), (state.manifest, 2));
        assert!(read.present.contains(2));
    }

    #[test]
    fn names_belong_together() {
        let state = state_path(Path::new("/a/.film.mkv.01234567.part")).unwrap();
        assert_eq!(state, Path::new("/a/.film.mkv.01234567.state"));
        assert_eq!(state_path(Path::new("/a/film.mkv")), None);
    }

    proptest! {
        /// Whatever is wrong with a state, what is read of it is what proves the file's groups, or nothing.
        #[test]
        fn a_state_that_was_changed_proves_nothing_else(at: proptest::sample::Index, to: u8, cut in 0_usize..5) {
            let (hash, layout, state) = sample();
            let mut bytes = state.to_bytes(&hash, &layout);
            let at = at.index(bytes.len());
            bytes[at] = to;
            bytes.truncate(bytes.len() - cut);
            if let Some(read) = PartState::from_bytes(&bytes, &hash, &layout) {
                prop_assert_eq!(read.manifest, state.manifest);
                prop_assert_eq!(cut, 0);
            }
        }
    }
}
