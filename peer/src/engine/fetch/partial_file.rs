//! Partial file: a file that lacks groups or its name.
//!
//! In the destination folder lies `.NAME.HASH8.part`, as long as the file will be, and for a
//! file of several groups its state ([`partial_state`]). Groups that the state lists are
//! hashed again before they count; without a readable state, all groups are.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use shared::content::Manifest;
use shared::names::truncate_to_bytes;
use shared::peer::FileStat;
use shared::{ContentHash, GroupLayout, GroupSet, ZeroRuns};

use super::FileOutcome;
use super::destination::{FileTarget, PartialTag};
use crate::engine::Error;
use crate::engine::partial_state::{self, FileOrigin, PARTIAL_SUFFIX, PartialState, STATE_SUFFIX};
use crate::sys::{
    FolderHandle, is_locking_unsupported, is_name_refused, make_executable, make_owner_only, reserve_space, zero_range,
};

mod earlier_attempt;

pub(super) use self::earlier_attempt::{
    allocated_bytes, file_from_state, find_version, remove_outdated, remove_version,
};

/// Bytes that a partial's name adds to the file's own: two dots, eight hash digits, and the longer suffix.
const NAME_OVERHEAD_BYTES: usize = 1 + 1 + 8 + STATE_SUFFIX.len();

/// Bytes that a tag adds: a tilde and eight digits.
const TAG_BYTES: usize = 1 + 8;

/// Zeros within a group become holes in blocks of this size: smaller holes save little and fragment the file.
const HOLE_BYTES: usize = 64 * 1024;

/// A file that is being put together from its groups.
#[derive(Debug)]
pub(super) struct PartialFile {
    completed: CompletedFile,
    layout: GroupLayout,
    present: Vec<bool>,
    missing: u32,
}

/// A file that has all groups, but not its name yet.
#[derive(Debug)]
pub(super) struct CompletedFile {
    target: FileTarget,
    folder: Arc<FolderHandle>,
    part: File,
    part_name: String,
    state: Option<(File, String)>,
    size: u64,
    hash: ContentHash,
    /// Modification time at the source; `None` if the system can't represent it.
    modified: Option<SystemTime>,
    executable: bool,
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
        let mut state = None;
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
                state_now.write(&file, &stat.hash, &layout).map_err(Error::disk(&path))?;
                state = Some((file, name));
            }
        }
        let zeros = known.map_or_else(ZeroRuns::default, |(_, zeros)| zeros.clone());
        let data = if known.is_some() { data_between(zeros.runs(), &layout) } else { Vec::new() };
        // After the rehash: until then, the length of the part tells how far the earlier attempt came.
        let reserved = reserve_space(&part, layout.size(), data).map_err(Error::disk(&path));
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
        if self.layout.group_count() == 1 || self.present.iter().all(|there| !there) {
            let _ = folder.remove(part_name);
            if let Some((_, state)) = state {
                let _ = folder.remove(state);
            }
        }
    }
}

impl CompletedFile {
    /// Sets the length, which trailing holes may not have set, and the time and mode of the source.
    pub(super) fn apply_metadata(&self) -> Result<(), Error> {
        let disk = |why| Error::disk(&self.target.path())(why);
        if self.part.metadata().map_err(disk)?.len() != self.size {
            self.part.set_len(self.size).map_err(disk)?;
        }
        // A file system that doesn't keep times or modes is no reason to fail.
        if let Some(modified) = self.modified {
            let _ = self.part.set_modified(modified);
        }
        if self.executable {
            let _ = make_executable(&self.part);
        }
        Ok(())
    }

    /// Returns the open file, to be synced before it gets its name.
    pub(super) const fn file(&self) -> &File {
        &self.part
    }

    /// Returns its folder, to be synced when the file has its name.
    pub(super) const fn folder(&self) -> &Arc<FolderHandle> {
        &self.folder
    }

    /// Returns its path before it has its name, for display.
    fn partial_path(&self) -> PathBuf {
        self.target.folder.path_of(&self.part_name)
    }

    /// Returns the path of its folder, for display.
    pub(super) fn folder_path(&self) -> PathBuf {
        self.target.folder.path()
    }

    /// Returns the path of its first candidate name, for display.
    pub(super) fn path(&self) -> PathBuf {
        self.target.path()
    }

    /// Gives the file its final name, or removes it if what has the name must stay.
    pub(super) fn move_into_place(&self) -> Result<FileOutcome, Error> {
        // The state goes first: if the process dies here, a part without a state is found again by a later
        // attempt, but nothing looks for a state without a part.
        if let Some((_, state)) = &self.state {
            // Errors are ignored: the state is a hint, and whatever
            // lies in its place must not block the file.
            let _ = self.folder.remove(state);
        }
        let outcome = self.target.move_into_place(&self.folder, &self.part_name, (self.size, &self.hash))?;
        if matches!(outcome, FileOutcome::Skipped(_)) {
            let _ = self.folder.remove(&self.part_name);
        }
        Ok(outcome)
    }
}

/// An open partial file.
struct OpenedPartial {
    part: File,
    /// The target, in the spelling that the file system accepts.
    spot: FileTarget,
    /// The name of the partial file and its state, without suffix.
    stem: String,
}

/// Opens or creates the partial file, under a name that the file system accepts. `may_be_there`: an earlier attempt may
/// have left groups worth looking for.
fn open_respelled(
    folder: &FolderHandle,
    target: &FileTarget,
    hash: &ContentHash,
    may_be_there: bool,
) -> Result<OpenedPartial, Error> {
    let mut target = target.clone();
    loop {
        let mut stems = target.partial_stems(hash);
        let is_there =
            |stem: &String| folder.entry_kind(&format!("{stem}{PARTIAL_SUFFIX}")).is_ok_and(|entry| entry.is_some());
        // Two stems: an earlier fetch may have needed the tag where this one doesn't.
        let found = if may_be_there && stems.len() > 1 { stems.iter().position(is_there) } else { None };
        let stem = stems.swap_remove(found.unwrap_or(stems.len() - 1));
        match open_locked(folder, &target, &format!("{stem}{PARTIAL_SUFFIX}")) {
            Err(_) if folder.is_removed() => return Err(target.folder.removed_error()),
            Err(Error::Disk { source, .. }) if is_name_refused(&source) && target.respelled().is_some() => {
                target = target.respelled().unwrap_or(target);
            }
            opened => return Ok(OpenedPartial { part: opened?, spot: target, stem }),
        }
    }
}

/// Opens or creates the partial file `name`, locked against other processes.
fn open_locked(folder: &FolderHandle, target: &FileTarget, name: &str) -> Result<File, Error> {
    let path = target.path();
    loop {
        let part = folder.open_or_create(name).map_err(Error::disk(&path))?;
        match part.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::DestinationInUse(target.path())),
            // Some network file systems don't lock: two processes at one file only do the work twice there.
            Err(TryLockError::Error(why)) if is_locking_unsupported(&why) => {}
            Err(TryLockError::Error(why)) => return Err(Error::disk(&path)(why)),
        }
        // Another user who can write to the file could change it after its groups were verified.
        if !folder.is_sole_owner(&part).map_err(Error::disk(&path))? {
            let why = io::Error::other("somebody else can write to it: remove it, or fetch to another folder");
            return Err(Error::Disk { path: target.folder.path_of(name), source: why });
        }
        // The previous holder of the lock may have renamed the opened
        // file into place: then the name is tried again.
        if folder.is_named(name, &part).map_err(Error::disk(&path))? {
            return Ok(part);
        }
    }
}

/// Opens or creates the state file `name`. Anything else of that name is removed, because a write through a link could
/// destroy another file of the user. `None` if that fails; a part without a state only costs more hashing.
fn open_state(folder: &FolderHandle, name: &str) -> Option<File> {
    let there = folder.open_or_create(name).ok().filter(|file| folder.is_sole_owner(file).unwrap_or(false));
    let made = there.map_or_else(|| folder.remove(name).and_then(|()| folder.create(name)), Ok);
    made.inspect_err(|why| tracing::info!("going on without {name}: {why}")).ok()
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

/// Returns the byte ranges between `holes`.
fn data_between(holes: &[(u32, u32)], layout: &GroupLayout) -> Vec<Range<u64>> {
    let starts = std::iter::once(0).chain(holes.iter().map(|(_, end)| *end));
    let ends = holes.iter().map(|(start, _)| *start).chain([layout.group_count()]);
    starts.zip(ends).map(|(start, end)| layout.offset(start)..layout.offset(end)).collect()
}

/// Writes `bytes` at `offset`; whole blocks of zeros become holes, whatever was there before.
fn write_with_holes(part: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
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

fn merge_block(mut runs: Vec<(usize, bool)>, (len, is_hole): (usize, bool)) -> Vec<(usize, bool)> {
    match runs.last_mut() {
        Some((last, kind)) if *kind == is_hole => *last += len,
        _ => runs.push((len, is_hole)),
    }
    runs
}

fn is_zero(bytes: &[u8]) -> bool {
    // Without a branch per byte, in pieces: of a block of noise only the first piece is looked at.
    bytes.chunks(4096).all(|piece| piece.iter().fold(0, |any, byte| any | byte) == 0)
}

fn origin(target: &FileTarget, stat: &FileStat) -> FileOrigin {
    let FileStat { mtime, mtime_ns, executable, .. } = *stat;
    FileOrigin { user: target.owner().clone(), mtime, mtime_ns, executable }
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
    // A longer part belongs to something else. A shorter one is
    // normal: where extending is slow, it grows as written.
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

#[cfg(test)]
mod tests;
