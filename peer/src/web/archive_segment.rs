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

/// Returns an archive from `start` to `end`, its contents as the file's number in every byte.
#[cfg(test)]
pub(super) fn collect_bytes(segment_at: impl Fn(u64, u64) -> ArchiveSegment, start: u64, end: u64) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let position = start + all.len() as u64;
        if position >= end {
            return all;
        }
        match segment_at(position, end) {
            ArchiveSegment::Bytes(bytes) => all.extend(bytes),
            ArchiveSegment::Content { number, range, .. } => {
                let len = usize::try_from(range.end - range.start).unwrap();
                all.extend(std::iter::repeat_n(u8::try_from(number).unwrap(), len));
            }
        }
        assert!(start + all.len() as u64 > position, "it stands still at {position}");
    }
}
