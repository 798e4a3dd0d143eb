//! Partial file: a file that lacks groups or its name.
//!
//! In the destination folder lies `.NAME.HASH8.part`, as long as the file will be, and for a
//! file of several groups its state ([`partial_state`]). Groups that the state lists are
//! hashed again before they count; without a readable state, all groups are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use shared::content::Manifest;
use shared::names::truncate_to_bytes;
use shared::peer::FileStat;
use shared::{ContentHash, GroupLayout, GroupSet, ZeroRuns};

use super::destination::{FileTarget, PartialTag};
use crate::engine::Error;
use crate::engine::partial_state::{self, FileOrigin, PARTIAL_SUFFIX, PartialState, STATE_SUFFIX};
use crate::sys::{make_owner_only, reserve_space, zero_range};

mod completed_file;
mod earlier_attempt;
mod locked_part;
#[cfg(test)]
mod tests;
mod zero_holes;

pub(super) use completed_file::CompletedFile;
pub(super) use earlier_attempt::{allocated_bytes, file_from_state, find_version, remove_outdated, remove_version};
use locked_part::{OpenedPartial, open_respelled, open_state};
use zero_holes::{data_between, write_with_holes};

/// Bytes that a partial's name adds to the file's own: two dots, eight hash digits, and the longer suffix.
const NAME_OVERHEAD_BYTES: usize = 1 + 1 + 8 + STATE_SUFFIX.len();

/// Bytes that a tag adds: a tilde and eight digits.
const TAG_BYTES: usize = 1 + 8;

/// A file that is being put together from its groups.
#[derive(Debug)]
pub(super) struct PartialFile {
    completed: CompletedFile,
    layout: GroupLayout,
    present: Vec<bool>,
    missing: u32,
}

/// The result of writing a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// Written; others are missing.
    Incomplete,
    /// Written, as the last one.
    Completed,
    /// Present already; nothing was written.
    Duplicate,
}

impl PartialFile {
    /// Opens or creates the partial file, locked against other processes. Groups of an earlier attempt are hashed
    /// again, and `hashed` is called with their bytes. A file of one group has no manifest; for others `known` also
    /// holds the groups claimed to be zeros, for which no space is reserved.
    pub(super) fn open(
        target: &FileTarget,
        stat: &FileStat,
        layout: GroupLayout,
        known: Option<(&Manifest, &ZeroRuns)>,
        hashed: &mut dyn FnMut(u64),
    ) -> Result<Self, Error> {
        let folder = target.folder.open_or_create()?;
        let OpenedPartial { part, spot, stem } = open_respelled(&folder, target, &stat.hash, layout.group_count() > 1)?;
        if stat.owner_only {
            // Before it has any content. A file system without modes leaves it as private as its folder.
            let _ = make_owner_only(&part);
        }
        let part_name = format!("{stem}{PARTIAL_SUFFIX}");
        let path = spot.path();
        let mut present = vec![false; usize::try_from(layout.group_count()).unwrap_or(0)];
        let (mut state, mut recorded) = (None, Ok(()));
        if let Some((manifest, _)) = known {
            let name = format!("{stem}{STATE_SUFFIX}");
            let file = open_state(&folder, &name);
            let len = part.metadata().map_err(Error::disk(&path))?.len();
            // Without a state, all groups are tried: hashing is quicker than fetching.
            let known = file.as_ref().and_then(|file| PartialState::read(file, &stat.hash, &layout));
            let hints = known.map_or_else(|| GroupSet::full(layout.group_count()), |state| state.present);
            let there = rehash_present(&part, len, &layout, manifest, &hints, hashed);
            (0..).zip(&mut present).for_each(|(group, present)| *present = there.contains(group));
            // Written anew in any case: groups that rotted must not stay listed.
            let state_now = PartialState { origin: origin(&spot, stat), manifest: manifest.clone(), present: there };
            if let Some(file) = file {
                recorded = state_now.write(&file, &stat.hash, &layout);
                state = Some((file, name));
            }
        }
        let zeros = known.map_or_else(ZeroRuns::default, |(_, zeros)| zeros.clone());
        let data = if known.is_some() { data_between(zeros.runs(), &layout) } else { Vec::new() };
        // After the rehash: until then, the length of the part tells how far the earlier attempt came.
        let reserved = recorded.and_then(|()| reserve_space(&part, layout.size(), data)).map_err(Error::disk(&path));
        let missing = u32::try_from(present.iter().filter(|present| !**present).count()).unwrap_or(u32::MAX);
        let (modified, executable) = (modified_time(stat), stat.executable);
        let whole = CompletedFile {
            target: spot,
            folder,
            part,
            part_name,
            state,
            size: layout.size(),
            hash: stat.hash,
            modified,
            executable,
        };
        let partial = Self { completed: whole, layout, present, missing };
        match reserved {
            Ok(()) => Ok(partial),
            Err(error) => {
                // A new partial file without groups goes; one that an earlier attempt filled stays.
                partial.abandon();
                Err(error)
            }
        }
    }

    /// Returns the flags of the verified groups.
    pub(super) fn present(&self) -> &[bool] {
        &self.present
    }

    /// Returns the path of the partial file, for display.
    pub(super) fn partial_path(&self) -> PathBuf {
        self.completed.partial_path()
    }

    /// Returns the bytes of the present groups.
    pub(super) fn present_bytes(&self) -> u64 {
        (0..self.layout.group_count())
            .zip(&self.present)
            .filter(|(_, there)| **there)
            .map(|(i, _)| self.layout.group_len(i))
            .sum()
    }

    /// True if no group is missing.
    pub(super) const fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Writes a verified group; zeros in it become holes.
    pub(super) fn write(&mut self, group: u32, bytes: &[u8]) -> Result<WriteOutcome, Error> {
        let offset = self.layout.offset(group);
        self.add_group(group, |part| write_with_holes(part, bytes, offset))
    }

    /// Writes a group that is known to be zeros, as a hole.
    pub(super) fn write_zeros(&mut self, group: u32) -> Result<WriteOutcome, Error> {
        let offset = self.layout.offset(group);
        let end = offset + self.layout.group_len(group);
        self.add_group(group, |part| zero_range(part, offset..end))
    }

    fn add_group(&mut self, group: u32, write: impl FnOnce(&File) -> io::Result<()>) -> Result<WriteOutcome, Error> {
        let there = usize::try_from(group).ok().and_then(|index| self.present.get_mut(index));
        if there.is_none_or(|there| std::mem::replace(there, true)) {
            return Ok(WriteOutcome::Duplicate);
        }
        let CompletedFile { part, state, target: spot, .. } = &self.completed;
        let mut written = write(part);
        if let Some((state, _)) = state {
            // After the data: a flag whose group is missing costs a wasted hash at the next start.
            written = written.and_then(|()| partial_state::mark_present(state, &self.layout, group));
        }
        written.map_err(|why| Error::disk(&spot.path())(why))?;
        self.missing -= 1;
        Ok(if self.missing == 0 { WriteOutcome::Completed } else { WriteOutcome::Incomplete })
    }

    /// Waits until the written bytes are on the disk.
    pub(super) fn sync(&self) {
        // An error is ignored: the sync of the whole file reports it.
        let _ = self.completed.part.sync_data();
    }

    /// Returns the whole file; no group may be missing.
    pub(super) fn into_completed(self) -> CompletedFile {
        self.completed
    }

    /// Gives up: groups that a later attempt can use stay, anything else is removed.
    pub(super) fn abandon(self) {
        let CompletedFile { folder, part_name, state, .. } = &self.completed;
        // Of a single group nothing can be verified before all of it is there.
        if self.layout.group_count() == 1 || self.present.iter().all(|there| !there) {
            // What can't be removed costs disk space only.
            let _ = folder.remove(part_name);
            if let Some((_, state)) = state {
                let _ = folder.remove(state);
            }
        }
    }
}

/// Builds the name of the partial file and state of `name` with this content, without suffix.
pub(super) fn partial_stem(name: &str, tag: Option<&PartialTag>, hash: &ContentHash) -> String {
    let (name, hash) = (truncate_to_bytes(name, 255 - NAME_OVERHEAD_BYTES), hash.to_string());
    let hash = truncate_to_bytes(&hash, 8);
    match tag {
        None => format!(".{name}.{hash}"),
        Some(PartialTag { text, .. }) => {
            format!(".{}~{text}.{hash}", truncate_to_bytes(name, 255 - NAME_OVERHEAD_BYTES - TAG_BYTES))
        }
    }
}

impl FileTarget {
    /// Returns the possible names of its partial file and state, without suffix; a new partial file gets the last one.
    ///
    /// Colliding names with the same content are told apart by a tag that depends on the name alone: a later run finds
    /// the partial file of an earlier one, whatever else either run fetches.
    fn partial_stems(&self, hash: &ContentHash) -> Vec<String> {
        let (name, tag) = (self.name(), self.partial_tag(hash));
        let tagged = partial_stem(&name, Some(&tag), hash);
        if tag.is_needed { vec![tagged] } else { vec![tagged, partial_stem(&name, None, hash)] }
    }
}

fn origin(target: &FileTarget, stat: &FileStat) -> FileOrigin {
    let FileStat { mtime, mtime_ns, executable, restricted, .. } = *stat;
    FileOrigin { user: target.owner().clone(), mtime, mtime_ns, executable, restricted }
}

/// Returns the modification time at the source; `None` if the system can't represent it.
fn modified_time(stat: &FileStat) -> Option<SystemTime> {
    let seconds = Duration::from_secs(stat.mtime.unsigned_abs());
    let whole = if stat.mtime < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    whole?.checked_add(Duration::from_nanos(stat.mtime_ns.min(999_999_999).into()))
}

/// Hashes the groups in `hints`, as far as the part's `len` reaches; returns the correct ones.
fn rehash_present(
    part: &File,
    len: u64,
    layout: &GroupLayout,
    manifest: &Manifest,
    hints: &GroupSet,
    hashed: &mut dyn FnMut(u64),
) -> GroupSet {
    let mut there = GroupSet::empty(layout.group_count());
    let mut buffer = Vec::new();
    // A longer part belongs to something else. A shorter one is normal: where extending is slow, it grows as written.
    let is_there = |group: &u32| len <= layout.size() && layout.offset(*group) + layout.group_len(*group) <= len;
    for group in (0..layout.group_count()).filter(is_there).filter(|group| hints.contains(*group)) {
        buffer.resize(usize::try_from(layout.group_len(group)).unwrap_or(0), 0);
        let read = part.read_exact_at(&mut buffer, layout.offset(group));
        if read.is_ok() && manifest.chaining_value(group) == Some(&layout.chaining_value(group, &buffer)) {
            there.insert(group);
        }
        hashed(layout.group_len(group));
    }
    there
}
