//! State of a partial file: its manifest and which of its groups are present.
//!
//! Next to `.NAME.HASH8.part` lies `.NAME.HASH8.state`:
//!
//! ```text
//! 8 bytes "vzpart4\n" | 32 bytes content hash | 32 bytes: the owner's name, padded with zeros
//! 8 bytes: modification time at the owner, seconds since 1970 | 4 bytes: nanoseconds
//! 1 byte: 1 if executable, and 2 if restricted, added up
//! 32 bytes a group: the manifest | 1 byte a group: 1 if present
//! ```
//!
//! Numbers are little-endian. Manifest and flags are hints: the manifest counts only if it merges to the content hash,
//! and a group only after it was hashed again.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use shared::content::Manifest;
use shared::{ContentHash, GroupLayout, GroupSet, UserName};

const MAGIC: &[u8; 8] = b"vzpart4\n";
const USER_BYTES: usize = 32;
const ORIGIN_BYTES: usize = USER_BYTES + 8 + 4 + 1;
const HEADER_BYTES: usize = MAGIC.len() + 32 + ORIGIN_BYTES;
const VALUE_BYTES: usize = 32;
/// Flags of an origin.
const EXECUTABLE: u8 = 1;
const RESTRICTED: u8 = 2;
/// Endings of the two names.
pub(super) const PARTIAL_SUFFIX: &str = ".part";
pub(super) const STATE_SUFFIX: &str = ".state";

/// The owner of a file, and its metadata there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileOrigin {
    pub(super) user: UserName,
    /// Modification time in seconds since 1970.
    pub(super) mtime: i64,
    /// Nanoseconds to add to it.
    pub(super) mtime_ns: u32,
    pub(super) executable: bool,
    /// True if the owner doesn't share it with everybody.
    pub(super) restricted: bool,
}

/// A state as it was read, with a checked manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartialState {
    pub(super) origin: FileOrigin,
    /// The manifest, which merges to the content hash.
    pub(super) manifest: Manifest,
    /// The groups that are claimed to be present.
    pub(super) present: GroupSet,
}

impl PartialState {
    /// Reads the state of the file with this hash; `None` for any other or invalid content.
    pub(super) fn read(file: &File, hash: &ContentHash, layout: &GroupLayout) -> Option<Self> {
        let mut bytes = vec![0; state_len(layout)];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Self::from_bytes(&bytes, hash, layout)
    }

    fn from_bytes(bytes: &[u8], hash: &ContentHash, layout: &GroupLayout) -> Option<Self> {
        let groups = usize::try_from(layout.group_count()).ok()?;
        let (magic, rest) = bytes.split_at_checked(MAGIC.len())?;
        let (of, rest) = rest.split_at_checked(32)?;
        let (origin, rest) = rest.split_at_checked(ORIGIN_BYTES)?;
        let origin = FileOrigin::from_bytes(origin)?;
        let (values, flags) = rest.split_at_checked(groups * VALUE_BYTES)?;
        if magic != MAGIC || of != hash.as_bytes() || flags.len() != groups {
            return None;
        }
        // A wrong manifest would let wrong groups pass: it has to merge to the requested hash.
        let manifest = Manifest::from_bytes(layout, values).filter(|manifest| manifest.content_hash() == *hash)?;
        let mut present = GroupSet::empty(layout.group_count());
        (0..).zip(flags).filter(|(_, flag)| **flag == 1).for_each(|(group, _)| present.insert(group));
        Some(Self { origin, manifest, present })
    }

    fn to_bytes(&self, hash: &ContentHash, layout: &GroupLayout) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(state_len(layout));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(hash.as_bytes());
        self.origin.write(&mut bytes);
        bytes.extend_from_slice(self.manifest.as_bytes());
        bytes.extend((0..layout.group_count()).map(|group| u8::from(self.present.contains(group))));
        bytes
    }

    /// Writes the whole state.
    pub(super) fn write(&self, file: &File, hash: &ContentHash, layout: &GroupLayout) -> io::Result<()> {
        let bytes = self.to_bytes(hash, layout);
        file.write_all_at(&bytes, 0)?;
        // The new state is written first, so that the file is only ever cut: extending a file is slow on some systems.
        if file.metadata()?.len() == bytes.len() as u64 { Ok(()) } else { file.set_len(bytes.len() as u64) }
    }
}

impl FileOrigin {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (user, rest) = bytes.split_at_checked(USER_BYTES)?;
        let (mtime, rest) = rest.split_first_chunk()?;
        let (mtime_ns, rest) = rest.split_first_chunk()?;
        // One byte of an earlier release, which wrote 1 for an executable file, says the same.
        let flags = *rest.first()?;
        Some(Self {
            user: std::str::from_utf8(user).ok()?.trim_end_matches('\0').parse().ok()?,
            mtime: i64::from_le_bytes(*mtime),
            mtime_ns: u32::from_le_bytes(*mtime_ns),
            executable: flags & EXECUTABLE != 0,
            restricted: flags & RESTRICTED != 0,
        })
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let user = self.user.as_str().bytes().chain(std::iter::repeat(0));
        bytes.extend(user.take(USER_BYTES));
        bytes.extend_from_slice(&self.mtime.to_le_bytes());
        bytes.extend_from_slice(&self.mtime_ns.to_le_bytes());
        let executable = if self.executable { EXECUTABLE } else { 0 };
        bytes.push(executable | if self.restricted { RESTRICTED } else { 0 });
    }
}

/// True for the name of a state file.
pub(super) fn is_state(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(STATE_SUFFIX)
}

/// Reads the hash and origin that a state file claims.
pub(super) fn read_header(file: &File) -> Option<(ContentHash, FileOrigin)> {
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (hash, origin) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
    Some((ContentHash::from_bytes(*hash), FileOrigin::from_bytes(origin)?))
}

/// Marks one more group as present in a written state.
pub(super) fn mark_present(file: &File, layout: &GroupLayout, group: u32) -> io::Result<()> {
    // One byte, in place: rewriting the state for each group would cost its whole manifest every time.
    let flags = HEADER_BYTES as u64 + u64::from(layout.group_count()) * VALUE_BYTES as u64;
    file.write_all_at(&[1], flags + u64::from(group))
}

/// Returns the path of the state of a partial file; `None` if the name isn't one of a partial file.
pub(super) fn state_path(part: &Path) -> Option<PathBuf> {
    let name = part.file_name()?.as_bytes().strip_suffix(PARTIAL_SUFFIX.as_bytes())?;
    Some(part.with_file_name(OsStr::from_bytes(&[name, STATE_SUFFIX.as_bytes()].concat())))
}

fn state_len(layout: &GroupLayout) -> usize {
    HEADER_BYTES + usize::try_from(layout.group_count()).unwrap_or(0) * (VALUE_BYTES + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> (ContentHash, GroupLayout, PartialState) {
        let layout = GroupLayout::of((2 << 20) + 5).unwrap();
        let manifest = Manifest::new(vec![[1; 32], [2; 32], [3; 32]]);
        let mut present = GroupSet::empty(3);
        present.insert(1);
        let user = "bob".parse().unwrap();
        let origin = FileOrigin { user, mtime: -2, mtime_ns: 3, executable: true, restricted: true };
        (manifest.content_hash(), layout, PartialState { origin, manifest, present })
    }

    #[test]
    fn golden_bytes() {
        let (hash, layout, state) = sample();
        let bytes = state.to_bytes(&hash, &layout);
        let user = [b"bob".as_slice(), &[0; 29]].concat();
        let rest = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 3, 0, 0, 0, 3];
        let header = [b"vzpart4\n".as_slice(), hash.as_bytes(), &user, &rest].concat();
        let golden = [header.as_slice(), &[1; 32], &[2; 32], &[3; 32], &[0, 1, 0]].concat();
        assert_eq!(bytes, golden);
        let file = tempfile::tempfile().unwrap();
        state.write(&file, &hash, &layout).unwrap();
        mark_present(&file, &layout, 2).unwrap();
        assert_eq!(read_header(&file), Some((hash, state.origin)));
        let read = PartialState::read(&file, &hash, &layout).unwrap();
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
        /// A damaged state is either rejected, or read with a manifest that proves the file's groups.
        #[test]
        fn a_state_that_was_changed_proves_nothing_else(at: proptest::sample::Index, to: u8, cut in 0_usize..5) {
            let (hash, layout, state) = sample();
            let mut bytes = state.to_bytes(&hash, &layout);
            let at = at.index(bytes.len());
            bytes[at] = to;
            bytes.truncate(bytes.len() - cut);
            if let Some(read) = PartialState::from_bytes(&bytes, &hash, &layout) {
                prop_assert_eq!(read.manifest, state.manifest);
                prop_assert_eq!(cut, 0);
            }
        }
    }
}
