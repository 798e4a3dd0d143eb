//! Content hashes, groups and manifests: how the content of a file is named and verified.
//!
//! BLAKE3 is a Merkle tree (the BLAKE3 paper, section 2.1). A *group* is a power-of-two slice of the file, so it is a
//! subtree of that tree and is verified alone by its chaining value. The *manifest* lists the chaining values of all
//! groups. Merging them as the tree does gives the content hash, so a manifest may come from anybody: a wrong manifest
//! gives another hash. A file of one group has the content hash itself as its only value.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::hex::hex_text;
use crate::limits::{MAX_FILE_SIZE, MAX_GROUPS_PER_FILE, MIN_GROUP_BYTES};

/// The BLAKE3 hash of a whole file, which is the file's id. Its text form has 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 32]);

hex_text!(ContentHash, 32);

impl ContentHash {
    /// Returns the hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// Derives 32 bytes from `secret` with BLAKE3's key derivation mode. `context` is a constant that names the purpose.
pub fn derive_key(context: &str, secret: &[u8]) -> [u8; 32] {
    blake3::derive_key(context, secret)
}

/// A source of zeros, small enough to stay in the processor's cache.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Returns true if every byte is zero.
pub fn is_all_zeros(bytes: &[u8]) -> bool {
    // Comparing slices compiles to memcmp, which is much faster than a loop over bytes.
    bytes.chunks(ZEROS.len()).all(|some| some == &ZEROS[..some.len()])
}

/// The chaining value of one group: the hash of its subtree, or the content hash if the file has one group only.
pub type ChainingValue = [u8; 32];

/// The division of a file into groups. It follows from the file's size alone, so both sides of a transfer compute the
/// same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupLayout {
    size: u64,
    group_bytes: u64,
}

impl GroupLayout {
    /// Returns the layout of a file of `size` bytes, or `None` above [`MAX_FILE_SIZE`].
    pub fn of(size: u64) -> Option<Self> {
        if size > MAX_FILE_SIZE {
            return None;
        }
        // A group must be a power of two in size: only such a slice is a subtree of the BLAKE3 tree.
        let mut group_bytes = MIN_GROUP_BYTES;
        while size.div_ceil(group_bytes) > MAX_GROUPS_PER_FILE {
            group_bytes *= 2;
        }
        Some(Self { size, group_bytes })
    }

    /// Returns the file's size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns the size in bytes of every group except the last, which may be shorter.
    pub const fn group_bytes(&self) -> u64 {
        self.group_bytes
    }

    /// Returns the number of groups, at least 1: an empty file is one empty group.
    pub fn group_count(&self) -> u32 {
        // Can't fail: `of` keeps the count within `MAX_GROUPS_PER_FILE`.
        u32::try_from(self.size.div_ceil(self.group_bytes)).unwrap_or(u32::MAX).max(1)
    }

    /// Returns the offset of group `index` in bytes, at most the file's size.
    pub fn offset(&self, index: u32) -> u64 {
        // Indices may come from the network: beyond the end, all groups are empty.
        u64::from(index).saturating_mul(self.group_bytes).min(self.size)
    }

    /// Returns the size of group `index` in bytes, 0 beyond the end.
    pub fn group_len(&self, index: u32) -> u64 {
        // Can't underflow: an offset is never beyond the file's size.
        (self.size - self.offset(index)).min(self.group_bytes)
    }

    /// Returns the number of bytes in the groups `start..end`.
    pub fn range_len(&self, start: u32, end: u32) -> u64 {
        self.offset(end).saturating_sub(self.offset(start))
    }

    /// Returns a hasher for the bytes of group `index`.
    pub fn hasher(&self, index: u32) -> GroupHasher {
        let mut inner = blake3::Hasher::new();
        // Chunk counters are part of the hash, so the hasher must know the group's position in the file.
        inner.set_input_offset(self.offset(index));
        // BLAKE3 finalizes the root with a flag of its own; the only group of a file is the root.
        GroupHasher { inner, is_root: self.group_count() == 1 }
    }

    /// Returns the chaining value of group `index` if all its bytes are zeros. It depends on the group's position,
    /// which is part of each chunk's hash, so one value can't serve for all groups.
    pub fn zero_chaining_value(&self, index: u32) -> ChainingValue {
        // Groups of huge files have gigabytes, so the zeros are fed in pieces and not from a buffer of that size.
        let mut hasher = self.hasher(index);
        let mut left = self.group_len(index);
        while left > 0 {
            let some = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
            hasher.update(&ZEROS[..some]);
            left -= some as u64;
        }
        hasher.finish()
    }

    /// Returns the chaining value of group `index` if its content is `bytes`.
    pub fn chaining_value(&self, index: u32, bytes: &[u8]) -> ChainingValue {
        let mut hasher = self.hasher(index);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// A hasher for one group, fed piece by piece.
#[derive(Debug)]
pub struct GroupHasher {
    inner: blake3::Hasher,
    is_root: bool,
}

impl GroupHasher {
    /// Adds the next bytes of the group. The caller must not add more than the group's size.
    pub fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
    }

    /// Returns the group's chaining value.
    pub fn finish(self) -> ChainingValue {
        // An empty group is always the root, of an empty file: BLAKE3 has no empty subtree below it.
        if self.is_root { *self.inner.finalize().as_bytes() } else { self.inner.finalize_non_root() }
    }
}

/// The chaining values of all groups of a file. The type doesn't say whether they were verified: compare
/// [`Manifest::content_hash`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    values: Vec<ChainingValue>,
}

impl Manifest {
    /// Makes a manifest of these values.
    pub const fn new(values: Vec<ChainingValue>) -> Self {
        Self { values }
    }

    /// Parses the wire form, 32 bytes per group. Returns `None` unless the length is exactly that of `layout`.
    pub fn from_bytes(layout: &GroupLayout, bytes: &[u8]) -> Option<Self> {
        let (values, rest) = bytes.as_chunks::<32>();
        (rest.is_empty() && values.len() as u64 == u64::from(layout.group_count())).then(|| Self::new(values.to_vec()))
    }

    /// Returns the wire form, 32 bytes per group.
    pub fn as_bytes(&self) -> &[u8] {
        self.values.as_flattened()
    }

    /// Returns the value of group `index`, or `None` beyond the last group.
    pub fn chaining_value(&self, index: u32) -> Option<&ChainingValue> {
        self.values.get(usize::try_from(index).ok()?)
    }

    /// Returns the content hash that these values merge to.
    pub fn content_hash(&self) -> ContentHash {
        match self.values.as_slice() {
            // No layout has an empty manifest: even an empty file has one group.
            [] => ContentHash::of(&[]),
            // The only group is the root of the tree, so its value is the content hash already.
            [only] => ContentHash(*only),
            values => {
                // The last merge apart from the others: BLAKE3 gives the root a flag of its own.
                let (left, right) = values.split_at(left_groups(values.len()));
                let root = merge_subtrees_root(&merge_subtree(left), &merge_subtree(right), Mode::Hash);
                ContentHash(*root.as_bytes())
            }
        }
    }
}

/// Returns the number of groups in the left subtree: the largest power of two below `groups`, which is at least 2
/// (BLAKE3's tree shape).
fn left_groups(groups: usize) -> usize {
    groups.next_power_of_two() / 2
}

fn merge_subtree(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [only] => *only,
        // Not reached: both halves of two or more values have at least one.
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
        assert_eq!(GroupLayout::of(MAX_FILE_SIZE).unwrap().group_len(u32::MAX), 0, "an index of the network");
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
