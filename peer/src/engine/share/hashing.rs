//! Hashing of a file, group by group, in one pass.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use localization::tr;
use shared::content::{ChainingValue, Manifest, is_all_zeros};
use shared::{GroupLayout, ZeroRuns};

use super::key_search::KeySearch;
use crate::engine::now_ns;
use crate::engine::private_data::PrivacyReason;
use crate::engine::zero_groups::zero_values;
use crate::profile::HashedFile;
use crate::sys::{FileVersion, VersionChange, holes, open_file_version, plain_message};
use crate::util::TranslatedText;

const READ_BYTES: usize = 1 << 20;
/// Bytes read at the start of each group in a hole, because file systems have reported holes wrongly.
const PROBE_BYTES: usize = 4096;
/// Groups in holes hashed between two progress calls.
const HOLE_BATCH: usize = 512;

/// The reason why a file has no hash.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// The system denies access.
    #[error("{}", plain_message(.0))]
    Unreadable(#[from] io::Error),
    /// Its content changes during each pass.
    #[error("{}", tr!("it changes while it is read: share it again when nobody writes to it"))]
    Changing,
    /// Its size isn't that of its content, as with files in /proc and /sys, which are generated when they are read.
    #[error("{}", false_size_text(*.claimed, *.more))]
    FalseSize {
        /// The size that the system reports.
        claimed: u64,
        /// True if it has more bytes than that.
        more: bool,
    },
    /// It contains the secret key of the profile.
    #[error("{}", PrivacyReason::Key.text())]
    HoldsKey,
    /// It can't be shared, for this reason.
    #[error("{0}")]
    Refused(TranslatedText),
    /// The progress callback interrupted the hashing.
    #[error("{}", tr!("its hashing was broken off"))]
    Interrupted,
}

fn false_size_text(claimed: u64, more: bool) -> String {
    if more {
        tr!("its size is said to be {claimed} bytes, and it has more: copy it, and share the copy", claimed)
    } else {
        tr!("its size is said to be {claimed} bytes, and it has fewer: copy it, and share the copy", claimed)
    }
}

/// A callback for hashed bytes that can interrupt the hashing.
pub(in crate::engine) type HashProgressCallback<'a> = dyn FnMut(u64) -> ControlFlow<()> + 'a;

/// Ignores progress and never interrupts.
pub(in crate::engine) const fn ignore_progress(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Hashes a whole file, group by group, as it was at one moment; bytes appended meanwhile aren't part of it.
///
/// # Errors
/// [`HashError::HoldsKey`] if `search` finds the key, [`HashError::Changing`] or [`HashError::FalseSize`] if the
/// content isn't one version of the reported size, [`HashError::Unreadable`] or [`HashError::Interrupted`] as named.
pub(in crate::engine) fn hash_file(
    file: &File,
    search: &mut KeySearch<'_>,
    progress: &mut HashProgressCallback<'_>,
) -> Result<HashedFile, HashError> {
    // Before the first look: a time stamp younger than this may belong to a later change as well.
    let begun = now_ns();
    let before = regular_file_id(file)?;
    let layout = GroupLayout::of(before.size)
        .ok_or_else(|| HashError::Refused(TranslatedText::new(|| tr!("it is too large"))))?;
    let read = group_values(file, &layout, search, progress)?;
    let more = has_trailing_bytes(file, before.size)?;
    let changed = before.change_to(&regular_file_id(file)?) == VersionChange::Content;
    let GroupValues { values, zeros } = match read {
        // The file changed while it was read. If a second pass
        // gives the same values, they held between the two.
        Some(read) if changed => group_values(file, &layout, search, &mut |_| progress(0))?
            .filter(|again| again.values == read.values)
            .ok_or(HashError::Changing)?,
        // Only if nothing changed: bytes behind the end are normal while a file is appended to.
        Some(_) if more => return Err(HashError::FalseSize { claimed: before.size, more: true }),
        Some(read) => read,
        None if changed => return Err(HashError::Changing),
        None => return Err(HashError::FalseSize { claimed: before.size, more: false }),
    };
    let manifest = Manifest::new(values);
    Ok(HashedFile { version: before.recorded_at(begun), hash: manifest.content_hash(), manifest, zeros })
}

/// True if the first and last group of a file match `known`: a cheap check where times are coarse.
pub(super) fn has_same_ends(file: &File, known: &HashedFile) -> bool {
    let Some(layout) = GroupLayout::of(known.version.size) else { return false };
    let mut buffer = Vec::new();
    [0, layout.group_count() - 1].into_iter().all(|group| {
        buffer.resize(usize::try_from(layout.group_len(group)).unwrap_or(0), 0);
        let read = file.read_exact_at(&mut buffer, layout.offset(group));
        read.is_ok() && known.manifest.chaining_value(group) == Some(&layout.chaining_value(group, &buffer))
    })
}

struct GroupValues {
    values: Vec<ChainingValue>,
    zeros: ZeroRuns,
}

/// Computes the values of all groups; `None` if the file ends too early.
fn group_values(
    file: &File,
    layout: &GroupLayout,
    search: &mut KeySearch<'_>,
    progress: &mut HashProgressCallback<'_>,
) -> Result<Option<GroupValues>, HashError> {
    search.restart();
    let mut zeros = hole_groups(file, layout)?;
    let mut in_holes = Vec::with_capacity(zeros.len());
    for some in zeros.chunks(HOLE_BATCH) {
        in_holes.extend(zero_values(layout, some));
        check_flow(progress(some.iter().map(|group| layout.group_len(*group)).sum()))?;
    }
    // Holes are hashed beforehand, on several threads and without a read: a sparse file may be mostly holes.
    let mut holes = zeros.clone().into_iter().zip(in_holes).peekable();
    let mut buffer = vec![0; READ_BYTES.min(usize::try_from(layout.size()).unwrap_or(READ_BYTES).max(1))];
    let mut values = Vec::with_capacity(usize::try_from(layout.group_count()).unwrap_or(0));
    for group in 0..layout.group_count() {
        if let Some((_, value)) = holes.next_if(|(hole, _)| *hole == group) {
            values.push(value);
            // What stands before a hole and what stands behind it aren't one text.
            search.restart();
            continue;
        }
        let (mut hasher, mut only_zeros) = (layout.hasher(group), true);
        let (mut at, end) = (layout.offset(group), layout.offset(group) + layout.group_len(group));
        while at < end {
            let some = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            match file.read_exact_at(&mut buffer[..some], at) {
                // The file shrank, or its size is false; the caller decides by its version.
                Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read?,
            }
            if search.finds_in(&buffer[..some]) {
                return Err(HashError::HoldsKey);
            }
            only_zeros = only_zeros && is_all_zeros(&buffer[..some]);
            hasher.update(&buffer[..some]);
            at += some as u64;
            check_flow(progress(some as u64))?;
        }
        if only_zeros {
            zeros.push(group);
        }
        values.push(hasher.finish());
    }
    // Groups in holes came first, and groups of written zeros behind them.
    zeros.sort_unstable();
    // A file of one group has no manifest, so no claim about zeros can be transmitted.
    let zeros = if layout.group_count() > 1 { ZeroRuns::from_groups(zeros) } else { ZeroRuns::default() };
    Ok(Some(GroupValues { values, zeros }))
}

const fn check_flow(flow: ControlFlow<()>) -> Result<(), HashError> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(HashError::Interrupted),
    }
}

/// Returns the groups that lie in holes as a whole.
fn hole_groups(file: &File, layout: &GroupLayout) -> io::Result<Vec<u32>> {
    if layout.group_count() == 1 {
        return Ok(Vec::new());
    }
    let (size, group_bytes) = (layout.size(), layout.group_bytes());
    let group = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let mut groups = Vec::new();
    let mut probe = [0; PROBE_BYTES];
    let tail = size % group_bytes;
    // The shortest hole that can cover a group: the last group may be shorter than the others.
    let least = if tail == 0 { group_bytes } else { tail };
    for (start, end) in holes(file, size, least) {
        // The last group may be shorter: a hole up to the end of the file covers it.
        let behind = if end == size { layout.group_count() } else { group(end / group_bytes) };
        for no in group(start.div_ceil(group_bytes))..behind {
            let read = file.read_at(&mut probe, layout.offset(no))?;
            if read > 0 && is_all_zeros(&probe[..read]) {
                groups.push(no);
            }
        }
    }
    Ok(groups)
}

/// True if the file has bytes beyond its reported size.
fn has_trailing_bytes(file: &File, size: u64) -> io::Result<bool> {
    match file.read_at(&mut [0], size) {
        // An empty regular file reads as empty; an error means that its size was made up.
        Err(why) if size == 0 => Err(why),
        read => Ok(read.is_ok_and(|bytes| bytes > 0)),
    }
}

fn regular_file_id(file: &File) -> Result<FileVersion, HashError> {
    open_file_version(file)?.ok_or_else(|| HashError::Refused(TranslatedText::new(|| tr!("it is not a regular file"))))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn holes_and_zeros_have_the_hash_of_what_is_read() {
        let file = tempfile::tempfile().unwrap();
        let size = (7 << 20) + 70_000;
        file.set_len(size).unwrap();
        file.write_all_at(b"data", (2 << 20) + 5).unwrap();
        // Zeros that were written.
        file.write_all_at(&[0; 1 << 20], 4 << 20).unwrap();
        file.write_all_at(&[7], (5 << 20) - 1 + (1 << 20)).unwrap();
        let mut hashed = 0;
        let HashedFile { hash, manifest, zeros, .. } = hash_file(&file, &mut KeySearch::new(None), &mut |bytes| {
            hashed += bytes;
            ControlFlow::Continue(())
        })
        .unwrap();
        let mut content = vec![0; usize::try_from(size).unwrap()];
        file.read_exact_at(&mut content, 0).unwrap();
        assert_eq!((hash, manifest.content_hash()), (shared::ContentHash::of(&content), hash));
        assert_eq!(hashed, size);
        assert_eq!(zeros.groups().collect::<Vec<_>>(), [0, 1, 3, 4, 6, 7]);
    }

    #[test]
    fn an_append_while_it_is_hashed_is_not_part_of_it() {
        let file = tempfile::tempfile().unwrap();
        (&file).write_all(&[1; 3 << 20]).unwrap();
        let mut appended = false;
        let hashed = hash_file(&file, &mut KeySearch::new(None), &mut |_| {
            if !std::mem::replace(&mut appended, true) {
                (&file).write_all(b"one line more").unwrap();
            }
            ControlFlow::Continue(())
        });
        let HashedFile { version: id, hash, .. } = hashed.unwrap();
        assert_eq!((id.size, hash), (3 << 20, shared::ContentHash::of(&[1; 3 << 20])));
    }

    #[test]
    fn what_never_was_there_as_a_whole_has_no_hash() {
        let file = tempfile::tempfile().unwrap();
        (&file).write_all(&[1; 3 << 20]).unwrap();
        let mut round = 1;
        let hashed = hash_file(&file, &mut KeySearch::new(None), &mut |_| {
            round += 1;
            file.write_all_at(&[round; 100], 0).unwrap();
            // Times may be too coarse to tell.
            let later = std::time::SystemTime::now() + std::time::Duration::from_secs(round.into());
            file.set_modified(later).unwrap();
            ControlFlow::Continue(())
        });
        assert!(matches!(hashed, Err(HashError::Changing)), "{hashed:?}");
        let cut = hash_file(&file, &mut KeySearch::new(None), &mut |_| {
            file.set_len(5).unwrap();
            ControlFlow::Continue(())
        });
        assert!(matches!(cut, Err(HashError::Changing)), "{cut:?}");
    }

    #[test]
    fn files_that_are_made_up_are_not_empty_ones() {
        for path in ["/proc/self/status", "/proc/cpuinfo"] {
            let Ok(file) = File::open(path) else { continue };
            let hashed = hash_file(&file, &mut KeySearch::new(None), &mut ignore_progress);
            assert!(matches!(hashed, Err(HashError::FalseSize { claimed: 0, more: true })), "{path}: {hashed:?}");
        }
        if let Ok(file) = File::open("/sys/kernel/mm/transparent_hugepage/enabled") {
            let hashed = hash_file(&file, &mut KeySearch::new(None), &mut ignore_progress);
            assert!(matches!(hashed, Err(HashError::FalseSize { claimed: 4096, more: false })), "{hashed:?}");
        }
        let empty = tempfile::tempfile().unwrap();
        assert_eq!(
            hash_file(&empty, &mut KeySearch::new(None), &mut ignore_progress).unwrap().hash,
            shared::ContentHash::of(&[])
        );
    }

    #[test]
    fn a_file_that_was_just_written_is_looked_at_again() {
        let file = tempfile::tempfile().unwrap();
        (&file).write_all(b"a").unwrap();
        // Ahead of the clock, so that it is too young however long the test was held up.
        file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(3600)).unwrap();
        let known = hash_file(&file, &mut KeySearch::new(None), &mut ignore_progress).unwrap();
        assert_eq!(known.version.change_to(&open_file_version(&file).unwrap().unwrap()), VersionChange::Attributes);
        assert!(has_same_ends(&file, &known));
        file.write_all_at(b"b", 0).unwrap();
        assert!(!has_same_ends(&file, &known));
    }
}
