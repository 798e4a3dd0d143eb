//! What a file is: its BLAKE3 hash, the groups it is cut into, and the manifest that ties both together.
//!
//! BLAKE3 is a Merkle tree (the BLAKE3 paper, section 2.1). A *group* is a power-of-two slice of the file, so it is a
//! subtree of that tree, and its chaining value proves it alone. The *manifest* lists the chaining values of all groups;
//! merging them as the tree does gives the content hash, so a manifest can come from anybody: a wrong one does not
//! fold to the hash. A file of one group (or none) has the content hash itself as its only value.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::hex::hex_text;
use crate::limits::{MAX_FILE_SIZE, MAX_GROUPS_PER_FILE, MIN_GROUP_BYTES};

/// BLAKE3 of the whole file, as text 64 hexadecimal digits; the file's id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 32]);

hex_text!(ContentHash, 32);

impl ContentHash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// 32 bytes derived from `secret` for the purpose that the constant `context` names (BLAKE3's key derivation mode).
pub fn derive_key(context: &str, secret: &[u8]) -> [u8; 32] {
    blake3::derive_key(context, secret)
}

/// Few enough to stay in the processor's cache.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Whether all of these bytes are zeros.
pub fn is_all_zeros(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|some| some == &ZEROS[..some.len()])
}

/// The chaining value of one group.
pub type ChainingValue = [u8; 32];

/// How a file of a given size is cut into groups. The size alone decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupLayout {
    size: u64,
    group_bytes: u64,
}

impl GroupLayout {
    /// The layout of a file of `size` bytes; `None` above [`MAX_FILE_SIZE`].
    pub fn of(size: u64) -> Option<Self> {
        if size > MAX_FILE_SIZE {
            return None;
        }
        let mut group_bytes = MIN_GROUP_BYTES;
        while size.div_ceil(group_bytes) > MAX_GROUPS_PER_FILE {
            group_bytes *= 2;
        }
        Some(Self { size, group_bytes })
    }

    /// The file's size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of every group but perhaps the last.
    pub const fn group_bytes(&self) -> u64 {
        self.group_bytes
    }

    /// How many groups there are, at least one: an empty file is one empty group.
    pub fn group_count(&self) -> u32 {
        u32::try_from(self.size.div_ceil(self.group_bytes)).unwrap_or(u32::MAX).max(1)
    }

    /// Where group `index` starts, in bytes from the file's start.
    pub fn offset(&self, index: u32) -> u64 {
        (u64::from(index) * self.group_bytes).min(self.size)
    }

    /// Bytes of group `index`; 0 behind the end.
    pub fn group_len(&self, index: u32) -> u64 {
        (self.size - self.offset(index)).min(self.group_bytes)
    }

    /// Bytes of the groups `start..end`.
    pub fn range_len(&self, start: u32, end: u32) -> u64 {
        self.offset(end).saturating_sub(self.offset(start))
    }

    /// A hasher for group `index`, to be fed that group's bytes.
    pub fn hasher(&self, index: u32) -> GroupHasher {
        let mut inner = blake3::Hasher::new();
        inner.set_input_offset(self.offset(index));
        GroupHasher { inner, is_root: self.group_count() == 1 }
    }

    /// The chaining value of group `index` when it holds nothing but zeros. It follows from the place as well: the position
    /// of each chunk goes into its hash, so that one value can't stand for all.
    pub fn zero_chaining_value(&self, index: u32) -> ChainingValue {
        let mut hasher = self.hasher(index);
        let mut left = self.group_len(index);
        while left > 0 {
            let some = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
            hasher.update(&ZEROS[..some]);
            left -= some as u64;
        }
        hasher.finish()
    }

    /// The chaining value of group `index` when `bytes` are its content.
    pub fn chaining_value(&self, index: u32, bytes: &[u8]) -> ChainingValue {
        let mut hasher = self.hasher(index);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// Hashes one group from pieces.
#[derive(Debug)]
pub struct GroupHasher {
    inner: blake3::Hasher,
    is_root: bool,
}

impl GroupHasher {
    /// Takes the next bytes of the group. More than the group's own size is a mistake of the caller.
    pub fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
    }

    /// The group's chaining value.
    pub fn finish(self) -> ChainingValue {
        if self.is_root { *self.inner.finalize().as_bytes() } else { self.inner.finalize_non_root() }
    }
}

/// The chaining values of all groups of a file, proved or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    values: Vec<ChainingValue>,
}

impl Manifest {
    /// The manifest whose values are these.
    pub const fn new(values: Vec<ChainingValue>) -> Self {
        Self { values }
    }

    /// Reads the wire form, 32 bytes a group; `None` unless it is exactly as long as `layout` wants.
    pub fn from_bytes(layout: &GroupLayout, bytes: &[u8]) -> Option<Self> {
        let (values, rest) = bytes.as_chunks::<32>();
        (rest.is_empty() && values.len() as u64 == u64::from(layout.group_count())).then(|| Self::new(values.to_vec()))
    }

    /// The wire form, 32 bytes a group.
    pub fn as_bytes(&self) -> &[u8] {
        self.values.as_flattened()
    }

    /// The value of group `index`.
    pub fn chaining_value(&self, index: u32) -> Option<&ChainingValue> {
        self.values.get(usize::try_from(index).ok()?)
    }

    /// The content hash that these values make.
    pub fn content_hash(&self) -> ContentHash {
        match self.values.as_slice() {
            [] => ContentHash::of(&[]),
            [only] => ContentHash(*only),
            values => {
                let (left, right) = values.split_at(left_groups(values.len()));
                let root = merge_subtrees_root(&merge_subtree(left), &merge_subtree(right), Mode::Hash);
                ContentHash(*root.as_bytes())
            }
        }
    }
}

/// How many of `groups` (at least two) are in the left subtree: the largest power of two below `groups`.
fn left_groups(groups: usize) -> usize {
    groups.next_power_of_two() / 2
}

fn merge_subtree(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [only] => *only,
        [] => [0; 32],
        _ => {
            let (left, right) = values.split_at(left_groups(values.len()));
            merge_subtrees_non_root(&merge_subtree(left), &merge_subtree(right), Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest_of(bytes: &[u8]) -> (GroupLayout, Manifest) {
        let layout = GroupLayout::of(bytes.len() as u64).unwrap();
        let values = (0..layout.group_count())
            .map(|i| {
                let start = usize::try_from(layout.offset(i)).unwrap();
                layout.chaining_value(i, &bytes[start..start + usize::try_from(layout.group_len(i)).unwrap()])
            })
            .collect();
        (layout, Manifest::new(values))
    }

    #[test]
    fn golden_empty_file() {
        let (layout, manifest) = manifest_of(&[]);
        assert_eq!((layout.group_count(), layout.group_len(0)), (1, 0));
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(manifest.content_hash().to_string(), empty);
    }

    #[test]
    fn manifests_fold_to_the_hash_of_the_file() {
        let mib = usize::try_from(MIN_GROUP_BYTES).unwrap();
        let bytes: Vec<u8> = (0..5 * mib + 77).map(|i| u8::try_from(i % 251).unwrap()).collect();
        for size in
            [0, 1, 1023, 1025, mib - 1, mib, mib + 1, 2 * mib, 2 * mib + 1, 3 * mib, 4 * mib, 4 * mib + 5, bytes.len()]
        {
            let (layout, manifest) = manifest_of(&bytes[..size]);
            assert_eq!(manifest.content_hash(), ContentHash::of(&bytes[..size]), "{size}");
            assert_eq!(Manifest::from_bytes(&layout, manifest.as_bytes()), Some(manifest));
        }
    }

    #[test]
    fn layouts() {
        let layout = GroupLayout::of(32_768 << 20).unwrap();
        assert_eq!((layout.group_bytes(), layout.group_count()), (1 << 20, 32_768));
        let layout = GroupLayout::of((32_768 << 20) + 1).unwrap();
        assert_eq!((layout.group_bytes(), layout.group_count()), (2 << 20, 16_385));
        assert_eq!(layout.group_len(16_384), 1);
        assert_eq!(layout.group_len(16_385), 0);
        assert_eq!(GroupLayout::of(MAX_FILE_SIZE + 1), None);
        assert!(GroupLayout::of(MAX_FILE_SIZE).unwrap().group_count() <= 32_768);
    }

    proptest! {
        #[test]
        fn groups_cover_the_file(size in 0..=MAX_FILE_SIZE) {
            let layout = GroupLayout::of(size).unwrap();
            prop_assert!(layout.group_bytes().is_power_of_two());
            prop_assert!(u64::from(layout.group_count()) <= MAX_GROUPS_PER_FILE);
            prop_assert_eq!(layout.range_len(0, layout.group_count()), size);
            let last = layout.group_count() - 1;
            prop_assert_eq!(layout.offset(last) + layout.group_len(last), size);
        }

        #[test]
        fn another_manifest_folds_to_another_hash(count in 1_usize..40, flip in 0_usize..40, bit in 0_u8..8) {
            let values: Vec<ChainingValue> = (0..count).map(|i| [u8::try_from(i).unwrap(); 32]).collect();
            let mut wrong = values.clone();
            wrong[flip % count][usize::from(bit)] ^= 1 << bit;
            prop_assert_ne!(Manifest::new(values).content_hash(), Manifest::new(wrong).content_hash());
        }

        #[test]
        fn a_group_hashed_in_pieces_is_the_same(cut in 0_usize..3000) {
            let layout = GroupLayout::of(2 << 20).unwrap();
            let bytes = vec![7; 1 << 20];
            let mut hasher = layout.hasher(1);
            hasher.update(&bytes[..cut]);
            hasher.update(&bytes[cut..]);
            prop_assert_eq!(hasher.finish(), layout.chaining_value(1, &bytes));
        }
    }
}
