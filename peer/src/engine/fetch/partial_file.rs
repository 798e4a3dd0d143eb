//! A file that is not whole yet.
//!
//! Beside the destination lie `.NAME.HASH8.part`, as long as the file will be, and for files of several groups its state
//! ([`part_state`]). What that says is there is hashed again before it counts; without one that can be read, everything is.

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

use super::file_target::{AssignedName, FileTarget};
use super::name_collisions::PartialTag;
use crate::engine::Error;
use crate::engine::partial_state::{self, FileOrigin, PARTIAL_SUFFIX, PartialState, STATE_SUFFIX};
use crate::sys::{
    FolderHandle, is_locking_unsupported, is_name_refused, make_executable, make_owner_only, reserve_space, zero_range,
};

/// Of a partial's name, what isn't the file's own: two dots, eight digits, the longer ending.
const NAME_OVERHEAD_BYTES: usize = 1 + 1 + 8 + STATE_SUFFIX.len();

/// Of one with a tag: a tilde and eight digits.
const TAG_BYTES: usize = 1 + 8;

/// Zeros within a group become a hole in blocks of this size: smaller ones save little and cut files into pieces.
const HOLE_BYTES: usize = 64 * 1024;

/// A file that is being put together.
#[derive(Debug)]
pub(super) struct PartialFile {
    completed: CompletedFile,
    layout: GroupLayout,
    present: Vec<bool>,
    missing: u32,
}

/// A file that has all its groups and not yet its name.
#[derive(Debug)]
pub(super) struct CompletedFile {
    target: FileTarget,
    folder: Arc<FolderHandle>,
    part: File,
    part_name: String,
    state: Option<(File, String)>,
    size: u64,
    hash: ContentHash,
    /// `None` for a time that can't be.
    modified: Option<SystemTime>,
    executable: bool,
}

/// What became of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// It was written; others are missing.
    Incomplete,
    /// It was the last.
    Completed,
    /// It was there already.
    Duplicate,
}

impl PartialFile {
    /// Opens or begins the partial of a file; only one process may have it at a time. What an earlier attempt left is
    /// hashed again, and `hashed` told of its bytes. A file of one group has no manifest; of others, the groups that are
    /// claimed to be zeros are known as well, and get no room.
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
            // Before there is anything in it. Where files have no modes, it is as private as the folder.
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
            // Without a state every group may be there: hashing is quicker than fetching.
            let known = file.as_ref().and_then(|file| PartialState::read(file, &stat.hash, &layout));
            let hints = known.map_or_else(|| GroupSet::full(layout.group_count()), |state| state.present);
            let there = rehash_present(&part, len, &layout, manifest, &hints, hashed);
            (0..).zip(&mut present).for_each(|(group, present)| *present = there.contains(group));
            let state_now = PartialState { origin: origin(&spot, stat), manifest: manifest.clone(), present: there };
            if let Some(file) = file {
                state_now.write(&file, &stat.hash, &layout).map_err(Error::disk(&path))?;
                state = Some((file, name));
            }
        }
        let zeros = known.map_or_else(ZeroRuns::default, |(_, zeros)| zeros.clone());
        let data = if known.is_some() { data_between(zeros.runs(), &layout) } else { Vec::new() };
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
                partial.abandon();
                Err(error)
            }
        }
    }

    /// Which groups are there and right.
    pub(super) fn present(&self) -> &[bool] {
        &self.present
    }

    /// Where it lies, for people.
    pub(super) fn partial_path(&self) -> PathBuf {
        self.completed.partial_path()
    }

    /// Bytes of the groups that are there.
    pub(super) fn present_bytes(&self) -> u64 {
        (0..self.layout.group_count())
            .zip(&self.present)
            .filter(|(_, there)| **there)
            .map(|(i, _)| self.layout.group_len(i))
            .sum()
    }

    /// Whether no group is missing.
    pub(super) const fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Writes a group that was found right. Zeros in it become holes.
    pub(super) fn write(&mut self, group: u32, bytes: &[u8]) -> Result<WriteOutcome, Error> {
        let offset = self.layout.offset(group);
        self.add_group(group, |part| write_with_holes(part, bytes, offset))
    }

    /// Takes a group that is known to hold nothing but zeros.
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
            // After the data: a flag without its group would only cost a hash, but this way it can't even happen here.
            written = written.and_then(|()| partial_state::mark_present(state, &self.layout, group));
        }
        written.map_err(|why| Error::disk(&spot.path())(why))?;
        self.missing -= 1;
        Ok(if self.missing == 0 { WriteOutcome::Completed } else { WriteOutcome::Incomplete })
    }

    /// Waits until what was written is on the disk.
    pub(super) fn sync(&self) {
        // What matters is told when the file is whole.
        let _ = self.completed.part.sync_data();
    }

    /// The whole file, once no group is missing.
    pub(super) fn into_completed(self) -> CompletedFile {
        self.completed
    }

    /// Gives up on it: what could serve a later attempt stays, the rest goes.
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
    /// Gives it its length, which no group may have given it, and the time and the mode it has at its source.
    pub(super) fn apply_metadata(&self) -> Result<(), Error> {
        let disk = |why| Error::disk(&self.target.path())(why);
        if self.part.metadata().map_err(disk)?.len() != self.size {
            self.part.set_len(self.size).map_err(disk)?;
        }
        // A time or a mode that the file system doesn't hold is no reason to fail.
        if let Some(modified) = self.modified {
            let _ = self.part.set_modified(modified);
        }
        if self.executable {
            let _ = make_executable(&self.part);
        }
        Ok(())
    }

    /// The file itself, to be made durable before it gets its name.
    pub(super) const fn file(&self) -> &File {
        &self.part
    }

    /// The folder it lies in, to be made durable when it has its name.
    pub(super) const fn folder(&self) -> &Arc<FolderHandle> {
        &self.folder
    }

    /// The path under which it lies until it has its name, for people.
    fn partial_path(&self) -> PathBuf {
        self.target.folder.path_of(&self.part_name)
    }

    /// The path of the folder it lies in, for people.
    pub(super) fn folder_path(&self) -> PathBuf {
        self.target.folder.path()
    }

    /// The path of the name that it tries to get, for people.
    pub(super) fn path(&self) -> PathBuf {
        self.target.path()
    }

    /// Gives it its name.
    pub(super) fn move_into_place(&self) -> Result<AssignedName, Error> {
        // First: killed in between, a part without a state is found again, a state without a part never is.
        if let Some((_, state)) = &self.state {
            // Only a hint: whatever somebody put there since doesn't keep the file from its name.
            let _ = self.folder.remove(state);
        }
        let landing = self.target.move_into_place(&self.folder, &self.part_name, (self.size, &self.hash))?;
        if matches!(landing, AssignedName::Taken(_)) {
            let _ = self.folder.remove(&self.part_name);
        }
        Ok(landing)
    }
}

/// Bytes of the disk that an earlier attempt at this file holds already.
pub(super) fn allocated_bytes(target: &FileTarget, hash: &ContentHash) -> u64 {
    let folder = target.folder.open_existing().ok().flatten();
    let held = |folder: &FolderHandle, stem: &String| folder.allocated_bytes(&format!("{stem}{PARTIAL_SUFFIX}"));
    folder.map_or(0, |folder| target.partial_stems(hash).iter().map(|stem| held(&folder, stem)).max().unwrap_or(0))
}

/// An open partial.
struct OpenedPartial {
    part: File,
    /// For the name that the file system takes.
    spot: FileTarget,
    /// Its name and that of its state, without their endings.
    stem: String,
}

/// Opens or makes the partial of a file, under a name that the file system takes. `may_be_there` says that an earlier
/// attempt can have left something worth looking for.
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

/// Opens or makes the partial under `name`, locked against every other process.
fn open_locked(folder: &FolderHandle, target: &FileTarget, name: &str) -> Result<File, Error> {
    let path = target.path();
    loop {
        let part = folder.open_or_create(name).map_err(Error::disk(&path))?;
        match part.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::DestinationInUse(target.path())),
            // Some shares lock nothing: two processes at one file only cost twice the work there.
            Err(TryLockError::Error(why)) if is_locking_unsupported(&why) => {}
            Err(TryLockError::Error(why)) => return Err(Error::disk(&path)(why)),
        }
        if !folder.is_sole_owner(&part).map_err(Error::disk(&path))? {
            let why = io::Error::other("somebody else can write to it: remove it, or fetch to another folder");
            return Err(Error::Disk { path: target.folder.path_of(name), source: why });
        }
        // Whoever had the lock may have finished and renamed what was opened here.
        if folder.is_named(name, &part).map_err(Error::disk(&path))? {
            return Ok(part);
        }
    }
}

/// Opens or makes the state under `name`. Whatever else lies there gives way: written to, another file of the user's
/// could be destroyed through it. `None` where it doesn't; a part without a state only costs more hashing.
fn open_state(folder: &FolderHandle, name: &str) -> Option<File> {
    let there = folder.open_or_create(name).ok().filter(|file| folder.is_sole_owner(file).unwrap_or(false));
    let made = there.map_or_else(|| folder.remove(name).and_then(|()| folder.create(name)), Ok);
    made.inspect_err(|why| tracing::info!("going on without {name}: {why}")).ok()
}

/// Removes what an earlier attempt left of other versions of this file of the same user, and no process works on; tells
/// whether there was any.
pub(super) fn remove_outdated(target: &FileTarget, hash: &ContentHash) -> bool {
    let Ok(Some(folder)) = target.folder.open_existing() else { return false };
    let own = target.name();
    // Of another file when it isn't all of the name.
    if truncate_to_bytes(&own, 255 - NAME_OVERHEAD_BYTES) != own {
        return false;
    }
    let outdated = |stem: &&str| {
        let Some(state) =
            folder.open_existing(&format!("{stem}{STATE_SUFFIX}")).ok().as_ref().and_then(partial_state::read_header)
        else {
            return false;
        };
        state.0 != *hash
            && target.partial_stems(&state.0).iter().any(|own| own == stem)
            && state.1.user == *target.folder.owner()
    };
    let states = target.folder.state_files();
    let prefixes = [format!(".{own}."), format!(".{own}~")];
    let is_own = |name: &&String| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let stems = states.iter().filter(is_own).filter_map(|name| name.strip_suffix(STATE_SUFFIX));
    stems.filter(outdated).filter(|stem| remove_unused(&folder, stem)).count() > 0
}

/// Removes what was fetched of a version of this file that is no more.
pub(super) fn remove_version(target: &FileTarget, hash: &ContentHash) {
    if let Ok(Some(folder)) = target.folder.open_existing() {
        for stem in target.partial_stems(hash) {
            remove_unused(&folder, &stem);
        }
    }
}

/// Where the part of this version of a file lies, if there is one.
pub(super) fn find_version(target: &FileTarget, hash: &ContentHash) -> Option<PathBuf> {
    let folder = target.folder.open_existing().ok()??;
    let mut parts = target.partial_stems(hash).into_iter().map(|stem| format!("{stem}{PARTIAL_SUFFIX}"));
    parts.find(|part| folder.open_existing(part).is_ok()).map(|part| target.path().with_file_name(part))
}

/// Removes a part and its state, unless a process works on it, or it isn't ours.
fn remove_unused(folder: &FolderHandle, stem: &str) -> bool {
    let part = format!("{stem}{PARTIAL_SUFFIX}");
    let unused = folder.open_existing(&part).is_ok_and(|file| {
        folder.is_sole_owner(&file).unwrap_or(false) && file.try_lock().is_ok() && folder.remove(&part).is_ok()
    });
    unused && folder.remove(&format!("{stem}{STATE_SUFFIX}")).is_ok()
}

/// How the states of parts end.
pub(super) fn is_state(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(STATE_SUFFIX)
}

/// The name of the partial of `name` with this content and of the state, without their endings.
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
    /// The names that its partial and the state may have, without their endings; the last one is that of a new partial.
    ///
    /// Names that a file system takes for one, of files with one content, are told apart by a tag that depends on nothing
    /// but the name: a later run finds what an earlier one left, whatever else either is asked for.
    fn partial_stems(&self, hash: &ContentHash) -> Vec<String> {
        let (name, tag) = (self.name(), self.partial_tag(hash));
        let tagged = partial_stem(&name, Some(&tag), hash);
        if tag.is_needed { vec![tagged] } else { vec![tagged, partial_stem(&name, None, hash)] }
    }
}

/// Lists the ranges of bytes between `holes`.
fn data_between(holes: &[(u32, u32)], layout: &GroupLayout) -> Vec<Range<u64>> {
    let starts = std::iter::once(0).chain(holes.iter().map(|(_, end)| *end));
    let ends = holes.iter().map(|(start, _)| *start).chain([layout.group_count()]);
    starts.zip(ends).map(|(start, end)| layout.offset(start)..layout.offset(end)).collect()
}

/// Writes `bytes` there; whole blocks of zeros take no room, whatever was there before.
fn write_with_holes(part: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut at = offset;
    // Blocks of one kind go together.
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
    // In pieces that are looked at without a branch for each byte.
    bytes.chunks(4096).all(|piece| piece.iter().fold(0, |any, byte| any | byte) == 0)
}

fn origin(target: &FileTarget, stat: &FileStat) -> FileOrigin {
    let FileStat { mtime, mtime_ns, executable, .. } = *stat;
    FileOrigin { user: target.folder.owner().clone(), mtime, mtime_ns, executable }
}

/// When it was last modified at its source.
fn modified_time(stat: &FileStat) -> Option<SystemTime> {
    let seconds = Duration::from_secs(stat.mtime.unsigned_abs());
    let whole = if stat.mtime < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    whole?.checked_add(Duration::from_nanos(stat.mtime_ns.min(999_999_999).into()))
}

/// Hashes the groups that `hints` has, as far as the part's `len` goes; gives back those that are right.
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
    // One that is longer is of something else; where making files longer is slow, it is shorter for a while.
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
