//! Parts of an archive that is made while it is sent.

use std::ops::Range;

/// A part of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ArchiveSegment {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A range of the content of a file of this size; the range is not empty.
    Content { number: u32, size: u64, range: Range<u64> },
}

/// Returns the part of `bytes`, which begin at `start` in the archive, from `position` to `end`.
pub(super) fn segment_of(mut bytes: Vec<u8>, start: u64, position: u64, end: u64) -> ArchiveSegment {
    bytes.truncate(usize::try_from(end - start).unwrap_or(usize::MAX));
    bytes.drain(..usize::try_from(position - start).unwrap_or(usize::MAX).min(bytes.len()));
    ArchiveSegment::Bytes(bytes)
}
