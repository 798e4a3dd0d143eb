//! Holes in place of zeros: written, and left out when space is reserved.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use shared::GroupLayout;

use crate::sys::zero_range;

/// Zeros within a group become holes in blocks of this size: smaller holes save little and fragment the file.
pub(super) const HOLE_BYTES: usize = 64 * 1024;

/// Returns the byte ranges between `holes`.
pub(super) fn data_between(holes: &[(u32, u32)], layout: &GroupLayout) -> Vec<Range<u64>> {
    let starts = std::iter::once(0).chain(holes.iter().map(|(_, end)| *end));
    let ends = holes.iter().map(|(start, _)| *start).chain([layout.group_count()]);
    starts.zip(ends).map(|(start, end)| layout.offset(start)..layout.offset(end)).collect()
}

/// Writes `bytes` at `offset`; whole blocks of zeros become holes, whatever was there before.
pub(super) fn write_with_holes(part: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut at = offset;
    // Adjacent blocks of one kind are merged: a system call per run, not per block.
    let mut left = bytes;
    for (len, is_hole) in
        bytes.chunks(HOLE_BYTES).map(|block| (block.len(), is_zero(block))).fold(Vec::new(), merge_block)
    {
        let (run, rest) = left.split_at(len);
        match is_hole {
            true => zero_range(part, at..at + len as u64)?,
            false => part.write_all_at(run, at)?,
        }
        at += len as u64;
        left = rest;
    }
    Ok(())
}

pub(super) fn merge_block(mut runs: Vec<(usize, bool)>, (len, is_hole): (usize, bool)) -> Vec<(usize, bool)> {
    match runs.last_mut() {
        Some((last, kind)) if *kind == is_hole => *last += len,
        _ => runs.push((len, is_hole)),
    }
    runs
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    // Without a branch per byte, in pieces: of a block of noise only the first piece is looked at.
    bytes.chunks(4096).all(|piece| piece.iter().fold(0, |any, byte| any | byte) == 0)
}
