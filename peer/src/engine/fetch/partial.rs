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
use shared::names::cut;
use shared::peer::FileStat;
use shared::{ContentHash, GroupSet, Layout, ZeroRuns};

use super::collisions::PartTag;
use super::destination::{Landing, Spot};
use crate::engine::Error;
use crate::engine::part_state::{self, Origin, PART, PartState, STATE};
use crate::sys::{Folder, cannot_lock, clear, is_name_refused, make_executable, make_owner_only, reserve};

/// Of a partial's name, what isn't the file's own: two dots, eight digits, the longer ending.
const EXTRA_BYTES: usize = 1 + 1 + 8 + STATE.len();

/// Of one with a tag: a tilde and eight digits.
const TAG_BYTES: usize = 1 + 8;

/// Zeros within a group become a hole in blocks of this size: smaller ones save little and cut files into pieces.
const HOLE_BYTES: usize = 64 * 1024;

/// A file that is being put together.
#[derive(Debug)]
pub(super) struct Partial {
    whole: Whole,
    layout: Layout,
    present: Vec<bool>,
    missing: u32,
}

/// A file that has all its groups and not yet its name.
#[derive(Debug)]
pub(super) struct Whole {
    spot: Spot,
    folder: Arc<Folder>,
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
pub(super) enum Written {
    /// It was written; others are missing.
    Some,
    /// It was the last.
    Last,
    /// It was there already.
    Twice,
}

impl Partial {
    /// Opens or begins the partial of a file; only one process may have it at a time. What an earlier attempt left is
    /// hashed again, and `hashed` told of its bytes. A file of one group has no manifest; of others, the groups that are
    /// claimed to be zeros are known as well, and get no room.
    pub(super) fn open(
        spot: &Spot,
        stat: &FileStat,
        layout: Layout,
        known: Option<(&Manifest, &ZeroRuns)>,
        hashed: &mut dyn FnMut(u64),
    ) -> Result<Self, Error> {
        let folder = spot.place.folder()?;
        let Opened { part, spot, stem } = open_spelled(&folder, spot, &stat.hash, layout.groups() > 1)?;
        if stat.owner_only {
            // Before there is anything in it. Where files have no modes, it is as private as the folder.
            let _ = make_owner_only(&part);
        }
        let part_name = format!("{stem}{PART}");
        let path = spot.path();
        let mut present = vec![false; usize::try_from(layout.groups()).unwrap_or(0)];
        let mut state = None;
        if let Some((manifest, _)) = known {
            let name = format!("{stem}{STATE}");
            let file = open_state(&folder, &name);
            let len = part.metadata().map_err(Error::disk(&path))?.len();
            // Without a state every group may be there: hashing is quicker than fetching.
            let known = file.as_ref().and_then(|file| PartState::read(file, &stat.hash, &layout));
            let hints = known.map_or_else(|| GroupSet::all(layout.groups()), |state| state.present);
            let there = recheck(&part, len, &layout, manifest, &hints, hashed);
            (0..).zip(&mut present).for_each(|(group, present)| *present = there.contains(group));
            let state_now = PartState { origin: origin(&spot, stat), manifest: manifest.clone(), present: there };
            if let Some(file) = file {
                state_now.write(&file, &stat.hash, &layout).map_err(Error::disk(&path))?;
                state = Some((file, name));
            }
        }
        let zeros = known.map_or_else(ZeroRuns::default, |(_, zeros)| zeros.clone());
        let data = if known.is_some() { data_between(zeros.runs(), &layout) } else { Vec::new() };
        let reserved = reserve(&part, layout.size(), data).map_err(Error::disk(&path));
        let missing = u32::try_from(present.iter().filter(|present| !**present).count()).unwrap_or(u32::MAX);
        let (modified, executable) = (modified(stat), stat.executable);
        let whole =
            Whole { spot, folder, part, part_name, state, size: layout.size(), hash: stat.hash, modified, executable };
        let partial = Self { whole, layout, present, missing };
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
    pub(super) fn part_path(&self) -> PathBuf {
        self.whole.part_path()
    }

    /// Bytes of the groups that are there.
    pub(super) fn present_bytes(&self) -> u64 {
        (0..self.layout.groups())
            .zip(&self.present)
            .filter(|(_, there)| **there)
            .map(|(i, _)| self.layout.len_of(i))
            .sum()
    }

    /// Whether no group is missing.
    pub(super) const fn is_whole(&self) -> bool {
        self.missing == 0
    }

    /// Writes a group that was found right. Zeros in it become holes.
    pub(super) fn write(&mut self, group: u32, bytes: &[u8]) -> Result<Written, Error> {
        let offset = self.layout.offset(group);
        self.add(group, |part| write_with_holes(part, bytes, offset))
    }

    /// Takes a group that is known to hold nothing but zeros.
    pub(super) fn write_zeros(&mut self, group: u32) -> Result<Written, Error> {
        let offset = self.layout.offset(group);
        let end = offset + self.layout.len_of(group);
        self.add(group, |part| clear(part, offset..end))
    }

    fn add(&mut self, group: u32, write: impl FnOnce(&File) -> io::Result<()>) -> Result<Written, Error> {
        let there = usize::try_from(group).ok().and_then(|index| self.present.get_mut(index));
        if there.is_none_or(|there| std::mem::replace(there, true)) {
            return Ok(Written::Twice);
        }
        let Whole { part, state, spot, .. } = &self.whole;
        let mut written = write(part);
        if let Some((state, _)) = state {
            // After the data: a flag without its group would only cost a hash, but this way it can't even happen here.
            written = written.and_then(|()| part_state::add(state, &self.layout, group));
        }
        written.map_err(|why| Error::disk(&spot.path())(why))?;
        self.missing -= 1;
        Ok(if self.missing == 0 { Written::Last } else { Written::Some })
    }

    /// Waits until what was written is on the disk.
    pub(super) fn sync(&self) {
        // What matters is told when the file is whole.
        let _ = self.whole.part.sync_data();
    }

    /// The whole file, once no group is missing.
    pub(super) fn into_whole(self) -> Whole {
        self.whole
    }

    /// Gives up on it: what could serve a later attempt stays, the rest goes.
    pub(super) fn abandon(self) {
        let Whole { folder, part_name, state, .. } = &self.whole;
        if self.layout.groups() == 1 || self.present.iter().all(|there| !there) {
            let _ = folder.remove(part_name);
            if let Some((_, state)) = state {
                let _ = folder.remove(state);
            }
        }
    }
}

impl Whole {
    /// Gives it its length, which no group may have given it, and the time and the mode it has at its source.
    pub(super) fn stamp(&self) -> Result<(), Error> {
        let disk = |why| Error::disk(&self.spot.path())(why);
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
    pub(super) const fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// The path under which it lies until it has its name, for people.
    fn part_path(&self) -> PathBuf {
        self.spot.place.path_of(&self.part_name)
    }

    /// The path of the folder it lies in, for people.
    pub(super) fn folder_path(&self) -> PathBuf {
        self.spot.place.path()
    }

    /// The path of the name that it tries to get, for people.
    pub(super) fn path(&self) -> PathBuf {
        self.spot.path()
    }

    /// Gives it its name.
    pub(super) fn put_in_place(&self) -> Result<Landing, Error> {
        // First: killed in between, a part without a state is found again, a state without a part never is.
        if let Some((_, state)) = &self.state {
            // Only a hint: whatever somebody put there since doesn't keep the file from its name.
            let _ = self.folder.remove(state);
        }
        let landing = self.spot.put_in_place(&self.folder, &self.part_name, (self.size, &self.hash))?;
        if matches!(landing, Landing::Taken(_)) {
            let _ = self.folder.remove(&self.part_name);
        }
        Ok(landing)
    }
}

/// Bytes of the disk that an earlier attempt at this file holds already.
pub(super) fn held_bytes(spot: &Spot, hash: &ContentHash) -> u64 {
    let folder = spot.place.existing().ok().flatten();
    let held = |folder: &Folder, stem: &String| folder.allocated(&format!("{stem}{PART}"));
    folder.map_or(0, |folder| spot.partial_stems(hash).iter().map(|stem| held(&folder, stem)).max().unwrap_or(0))
}

/// An open partial.
struct Opened {
    part: File,
    /// For the name that the file system takes.
    spot: Spot,
    /// Its name and that of its state, without their endings.
    stem: String,
}

/// Opens or makes the partial of a file, under a name that the file system takes. `may_be_there` says that an earlier
/// attempt can have left something worth looking for.
fn open_spelled(folder: &Folder, spot: &Spot, hash: &ContentHash, may_be_there: bool) -> Result<Opened, Error> {
    let mut spot = spot.clone();
    loop {
        let mut stems = spot.partial_stems(hash);
        let is_there = |stem: &String| folder.entry(&format!("{stem}{PART}")).is_ok_and(|entry| entry.is_some());
        let found = if may_be_there && stems.len() > 1 { stems.iter().position(is_there) } else { None };
        let stem = stems.swap_remove(found.unwrap_or(stems.len() - 1));
        match open_alone(folder, &spot, &format!("{stem}{PART}")) {
            Err(_) if folder.is_removed() => return Err(spot.place.removed()),
            Err(Error::Disk { source, .. }) if is_name_refused(&source) && spot.respelled().is_some() => {
                spot = spot.respelled().unwrap_or(spot);
            }
            opened => return Ok(Opened { part: opened?, spot, stem }),
        }
    }
}

/// Opens or makes the partial under `name`, locked against every other process.
fn open_alone(folder: &Folder, spot: &Spot, name: &str) -> Result<File, Error> {
    let path = spot.path();
    loop {
        let part = folder.open_or_create(name).map_err(Error::disk(&path))?;
        match part.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse(spot.path())),
            // Some shares lock nothing: two processes at one file only cost twice the work there.
            Err(TryLockError::Error(why)) if cannot_lock(&why) => {}
            Err(TryLockError::Error(why)) => return Err(Error::disk(&path)(why)),
        }
        if !folder.holds_alone(&part).map_err(Error::disk(&path))? {
            let why = io::Error::other("somebody else can write to it: remove it, or fetch to another folder");
            return Err(Error::Disk { path: spot.place.path_of(name), source: why });
        }
        // Whoever had the lock may have finished and renamed what was opened here.
        if folder.is_named(name, &part).map_err(Error::disk(&path))? {
            return Ok(part);
        }
    }
}

/// Opens or makes the state under `name`. Whatever else lies there gives way: written to, another file of the user's
/// could be destroyed through it. `None` where it doesn't; a part without a state only costs more hashing.
fn open_state(folder: &Folder, name: &str) -> Option<File> {
    let there = folder.open_or_create(name).ok().filter(|file| folder.holds_alone(file).unwrap_or(false));
    let made = there.map_or_else(|| folder.remove(name).and_then(|()| folder.create(name)), Ok);
    made.inspect_err(|why| tracing::info!("going on without {name}: {why}")).ok()
}

/// Removes what an earlier attempt left of other versions of this file of the same user, and no process works on; tells
/// whether there was any.
pub(super) fn remove_outdated(spot: &Spot, hash: &ContentHash) -> bool {
    let Ok(Some(folder)) = spot.place.existing() else { return false };
    let own = spot.name();
    // Of another file when it isn't all of the name.
    if cut(&own, 255 - EXTRA_BYTES) != own {
        return false;
    }
    let outdated = |stem: &&str| {
        let Some(state) = folder.open_existing(&format!("{stem}{STATE}")).ok().as_ref().and_then(part_state::described)
        else {
            return false;
        };
        state.0 != *hash
            && spot.partial_stems(&state.0).iter().any(|own| own == stem)
            && state.1.user == *spot.place.from()
    };
    let states = spot.place.states();
    let prefixes = [format!(".{own}."), format!(".{own}~")];
    let is_own = |name: &&String| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let stems = states.iter().filter(is_own).filter_map(|name| name.strip_suffix(STATE));
    stems.filter(outdated).filter(|stem| remove_unused(&folder, stem)).count() > 0
}

/// Removes what was fetched of a version of this file that is no more.
pub(super) fn remove_version(spot: &Spot, hash: &ContentHash) {
    if let Ok(Some(folder)) = spot.place.existing() {
        for stem in spot.partial_stems(hash) {
            remove_unused(&folder, &stem);
        }
    }
}

/// Where the part of this version of a file lies, if there is one.
pub(super) fn part_of_version(spot: &Spot, hash: &ContentHash) -> Option<PathBuf> {
    let folder = spot.place.existing().ok()??;
    let mut parts = spot.partial_stems(hash).into_iter().map(|stem| format!("{stem}{PART}"));
    parts.find(|part| folder.open_existing(part).is_ok()).map(|part| spot.path().with_file_name(part))
}

/// Removes a part and its state, unless a process works on it, or it isn't ours.
fn remove_unused(folder: &Folder, stem: &str) -> bool {
    let part = format!("{stem}{PART}");
    let unused = folder.open_existing(&part).is_ok_and(|file| {
        folder.holds_alone(&file).unwrap_or(false) && file.try_lock().is_ok() && folder.remove(&part).is_ok()
    });
    unused && folder.remove(&format!("{stem}{STATE}")).is_ok()
}

/// How the states of parts end.
pub(super) fn is_state(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(STATE)
}

/// The name of the partial of `name` with this content and of the state, without their endings.
pub(super) fn partial_stem(name: &str, tag: Option<&PartTag>, hash: &ContentHash) -> String {
    let (name, hash) = (cut(name, 255 - EXTRA_BYTES), hash.to_string());
    let hash = cut(&hash, 8);
    match tag {
        None => format!(".{name}.{hash}"),
        Some(PartTag { text, .. }) => format!(".{}~{text}.{hash}", cut(name, 255 - EXTRA_BYTES - TAG_BYTES)),
    }
}

impl Spot {
    /// The names that its partial and the state may have, without their endings; the last one is that of a new partial.
    ///
    /// Names that a file system takes for one, of files with one content, are told apart by a tag that depends on nothing
    /// but the name: a later run finds what an earlier one left, whatever else either is asked for.
    fn partial_stems(&self, hash: &ContentHash) -> Vec<String> {
        let (name, tag) = (self.name(), self.part_tag(hash));
        let tagged = partial_stem(&name, Some(&tag), hash);
        if tag.is_needed { vec![tagged] } else { vec![tagged, partial_stem(&name, None, hash)] }
    }
}

/// Lists the ranges of bytes between `holes`.
fn data_between(holes: &[(u32, u32)], layout: &Layout) -> Vec<Range<u64>> {
    let starts = std::iter::once(0).chain(holes.iter().map(|(_, end)| *end));
    let ends = holes.iter().map(|(start, _)| *start).chain([layout.groups()]);
    starts.zip(ends).map(|(start, end)| layout.offset(start)..layout.offset(end)).collect()
}

/// Writes `bytes` there; whole blocks of zeros take no room, whatever was there before.
fn write_with_holes(part: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut at = offset;
    // Blocks of one kind go together.
    let mut left = bytes;
    for (len, is_hole) in bytes.chunks(HOLE_BYTES).map(|block| (block.len(), is_zero(block))).fold(Vec::new(), joined) {
        let (run, rest) = left.split_at(len);
        match is_hole {
            true => clear(part, at..at + len as u64)?,
            false => part.write_all_at(run, at)?,
        }
        at += len as u64;
        left = rest;
    }
    Ok(())
}

fn joined(mut runs: Vec<(usize, bool)>, (len, is_hole): (usize, bool)) -> Vec<(usize, bool)> {
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

fn origin(spot: &Spot, stat: &FileStat) -> Origin {
    let FileStat { mtime, mtime_ns, executable, .. } = *stat;
    Origin { user: spot.place.from().clone(), mtime, mtime_ns, executable }
}

/// When it was last modified at its source.
fn modified(stat: &FileStat) -> Option<SystemTime> {
    let seconds = Duration::from_secs(stat.mtime.unsigned_abs());
    let whole = if stat.mtime < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    whole?.checked_add(Duration::from_nanos(stat.mtime_ns.min(999_999_999).into()))
}

/// Hashes the groups that `hints` has, as far as the part's `len` goes; gives back those that are right.
fn recheck(
    part: &File,
    len: u64,
    layout: &Layout,
    manifest: &Manifest,
    hints: &GroupSet,
    hashed: &mut dyn FnMut(u64),
) -> GroupSet {
    let mut there = GroupSet::none(layout.groups());
    let mut buffer = Vec::new();
    // One that is longer is of something else; where making files longer is slow, it is shorter for a while.
    let is_there = |group: &u32| len <= layout.size() && layout.offset(*group) + layout.len_of(*group) <= len;
    for group in (0..layout.groups()).filter(is_there).filter(|group| hints.contains(*group)) {
        buffer.resize(usize::try_from(layout.len_of(group)).unwrap_or(0), 0);
        let read = part.read_exact_at(&mut buffer, layout.offset(group));
        if read.is_ok() && manifest.value(group) == Some(&layout.value_of(group, &buffer)) {
            there.insert(group);
        }
        hashed(layout.len_of(group));
    }
    there
}

#[cfg(test)]
mod tests;
