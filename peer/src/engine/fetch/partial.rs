//! A file that is not whole yet.
//!
//! Beside the destination lie `.NAME.HASH8.part`, as long as the file will be, and for files of several groups its state
//! ([`part_state`]). What that says is there is hashed again before it counts; without one that can be read, everything is.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use shared::content::Manifest;
use shared::names::cut;
use shared::peer::FileStat;
use shared::{ContentHash, GroupSet, Layout};

use super::destination::Spot;
use crate::engine::Error;
use crate::engine::part_state::{self, PART, PartState, STATE};
use crate::sys::{Folder, is_ours_alone, make_executable, reserve};

/// Of a partial's name, what isn't the file's own: two dots, eight digits, the longer ending.
const EXTRA_BYTES: usize = 1 + 1 + 8 + STATE.len();

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
    mtime: i64,
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
    /// hashed again; `manifest` is of no use for a file of one group.
    pub(super) fn open(
        spot: &Spot,
        stat: &FileStat,
        layout: Layout,
        manifest: Option<&Manifest>,
    ) -> Result<Self, Error> {
        let folder = spot.place.folder()?;
        let stem = partial_stem(&spot.name, &stat.hash);
        let part_name = format!("{stem}{PART}");
        let part_path = spot.place.path().join(&part_name);
        let part = open_alone(&folder, spot, &part_name)?;
        let mut present = vec![false; usize::try_from(layout.groups()).unwrap_or(0)];
        let mut state = None;
        if let Some(manifest) = manifest {
            let name = format!("{stem}{STATE}");
            let path = spot.place.path().join(&name);
            let file = folder.open_or_create(&name).map_err(Error::disk(&path))?;
            let len = part.metadata().map_err(Error::disk(&part_path))?.len();
            // Without a state every group may be there: hashing is quicker than fetching.
            let known = PartState::read(&file, &stat.hash, &layout);
            let hints = known.map_or_else(|| GroupSet::all(layout.groups()), |state| state.present);
            let there = if len == layout.size() {
                recheck(&part, &layout, manifest, &hints)
            } else {
                GroupSet::none(layout.groups())
            };
            (0..).zip(&mut present).for_each(|(group, present)| *present = there.contains(group));
            let state_now = PartState { manifest: manifest.clone(), present: there };
            state_now.write(&file, &stat.hash, &layout).map_err(Error::disk(&path))?;
            state = Some((file, name));
            reserve(&part, layout.size()).map_err(Error::disk(&part_path))?;
        } else {
            part.set_len(layout.size()).map_err(Error::disk(&part_path))?;
        }
        let missing = u32::try_from(present.iter().filter(|present| !**present).count()).unwrap_or(u32::MAX);
        let (spot, mtime, executable) = (spot.clone(), stat.mtime, stat.executable);
        let whole = Whole { spot, folder, part, part_name, state, mtime, executable };
        Ok(Self { whole, layout, present, missing })
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

    /// Writes a group that was found right.
    pub(super) fn write(&mut self, group: u32, bytes: &[u8]) -> Result<Written, Error> {
        let there = usize::try_from(group).ok().and_then(|index| self.present.get_mut(index));
        if there.is_none_or(|there| std::mem::replace(there, true)) {
            return Ok(Written::Twice);
        }
        let Whole { part, state, .. } = &self.whole;
        let mut written = part.write_all_at(bytes, self.layout.offset(group));
        if let Some((state, _)) = state {
            // After the data: a flag without its group would only cost a hash, but this way it can't even happen here.
            written = written.and_then(|()| part_state::add(state, &self.layout, group));
        }
        written.map_err(|why| Error::disk(&self.whole.part_path())(why))?;
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
        if state.is_none() || self.present.iter().all(|there| !there) {
            let _ = folder.remove(part_name);
            if let Some((_, state)) = state {
                let _ = folder.remove(state);
            }
        }
    }
}

impl Whole {
    /// Gives it the time and the mode it has at its source.
    pub(super) fn stamp(&self) -> Result<(), Error> {
        if let Ok(mtime) = u64::try_from(self.mtime) {
            // A time that the file system doesn't hold is no reason to fail.
            let _ = self.part.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(mtime));
        }
        if self.executable {
            make_executable(&self.part).map_err(|why| Error::disk(&self.part_path())(why))?;
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
    pub(super) fn part_path(&self) -> PathBuf {
        self.spot.place.path().join(&self.part_name)
    }

    /// Gives it its name; tells the path, and whether that is another than was wanted.
    pub(super) fn put_in_place(&self) -> Result<(PathBuf, bool), Error> {
        // First: killed in between, a part without a state is found again, a state without a part never is.
        if let Some((_, state)) = &self.state {
            self.folder.remove(state).map_err(|why| Error::disk(&self.part_path())(why))?;
        }
        let name = self.spot.put_in_place(&self.folder, &self.part_name)?;
        let renamed = name != self.spot.name;
        Ok((self.spot.place.path().join(name), renamed))
    }
}

/// Bytes of the disk that an earlier attempt at this file holds already.
pub(super) fn held_bytes(spot: &Spot, hash: &ContentHash) -> u64 {
    let folder = spot.place.folder();
    folder.map_or(0, |folder| folder.allocated(&format!("{}{PART}", partial_stem(&spot.name, hash))))
}

/// Opens or makes the partial under `name`, locked against every other process.
fn open_alone(folder: &Folder, spot: &Spot, name: &str) -> Result<File, Error> {
    let path = spot.place.path().join(name);
    loop {
        let part = folder.open_or_create(name).map_err(Error::disk(&path))?;
        match part.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse(spot.path())),
            Err(TryLockError::Error(why)) => return Err(Error::disk(&path)(why)),
        }
        if !is_ours_alone(&part).map_err(Error::disk(&path))? {
            let why = io::Error::other("somebody else can write to it: remove it, or fetch to another folder");
            return Err(Error::Disk { path, source: why });
        }
        // Whoever had the lock may have finished and renamed what was opened here.
        if folder.is_named(name, &part).map_err(Error::disk(&path))? {
            return Ok(part);
        }
    }
}

fn partial_stem(name: &str, hash: &ContentHash) -> String {
    let short = hash.to_string();
    format!(".{}.{}", cut(name, 255 - EXTRA_BYTES), cut(&short, 8))
}

/// Hashes the groups that `hints` has; gives back those that are right.
fn recheck(part: &File, layout: &Layout, manifest: &Manifest, hints: &GroupSet) -> GroupSet {
    let mut there = GroupSet::none(layout.groups());
    let mut buffer = Vec::new();
    for group in (0..layout.groups()).filter(|group| hints.contains(*group)) {
        buffer.resize(usize::try_from(layout.len_of(group)).unwrap_or(0), 0);
        let read = part.read_exact_at(&mut buffer, layout.offset(group));
        if read.is_ok() && manifest.value(group) == Some(&layout.value_of(group, &buffer)) {
            there.insert(group);
        }
    }
    there
}

#[cfg(test)]
mod tests {
    use super::super::IfExists;
    use super::super::destination::Place;
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    struct Case {
        home: tempfile::TempDir,
        content: Vec<u8>,
        stat: FileStat,
        layout: Layout,
        manifest: Manifest,
    }

    fn case(bytes: usize) -> Case {
        let content: Vec<u8> = (0..bytes).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let layout = Layout::of(bytes as u64).unwrap();
        let values =
            (0..layout.groups()).map(|group| layout.value_of(group, slice(&content, &layout, group))).collect();
        let stat = FileStat {
            name: "x".parse().unwrap(),
            size: bytes as u64,
            hash: ContentHash::of(&content),
            group_size: layout.group_bytes(),
            mtime: 1_000_000,
            executable: true,
            partial: false,
        };
        Case { home: tempfile::tempdir().unwrap(), content, stat, layout, manifest: Manifest::new(values) }
    }

    fn slice<'a>(content: &'a [u8], layout: &Layout, group: u32) -> &'a [u8] {
        let start = usize::try_from(layout.offset(group)).unwrap();
        &content[start..start + usize::try_from(layout.len_of(group)).unwrap()]
    }

    impl Case {
        fn spot(&self, name: &str) -> Spot {
            let place = Place::alone(Folder::open(self.home.path()).unwrap(), self.home.path().to_owned());
            Spot { place, name: name.to_owned(), if_exists: IfExists::SkipSame }
        }

        fn open(&self, name: &str) -> Result<Partial, Error> {
            let manifest = (self.layout.groups() > 1).then_some(&self.manifest);
            Partial::open(&self.spot(name), &self.stat, self.layout, manifest)
        }

        fn write(&self, partial: &mut Partial, group: u32) -> Written {
            partial.write(group, slice(&self.content, &self.layout, group)).unwrap()
        }

        fn files(&self) -> Vec<String> {
            let mut names: Vec<_> = std::fs::read_dir(self.home.path())
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    fn finish(partial: Partial) -> (PathBuf, bool) {
        let whole = partial.into_whole();
        whole.stamp().unwrap();
        whole.put_in_place().unwrap()
    }

    fn content(path: &Path) -> Vec<u8> {
        std::fs::read(path).unwrap()
    }

    #[test]
    fn whole_files_get_their_name_and_nothing_else_stays() {
        for (bytes, name) in [(0, "empty"), (10, "-small"), (3 << 20, "large")] {
            let case = case(bytes);
            let mut partial = case.open(name).unwrap();
            let last = case.layout.groups() - 1;
            for group in 0..last {
                assert_eq!(case.write(&mut partial, group), Written::Some);
            }
            assert_eq!(case.write(&mut partial, last), Written::Last);
            let (path, renamed) = finish(partial);
            assert!(!renamed);
            assert_eq!(content(&path), case.content);
            assert_eq!(case.files(), [name]);
            let metadata = std::fs::metadata(&path).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7111, 0o111);
            let age = metadata.modified().unwrap();
            assert_eq!(age.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_000_000);
        }
    }

    #[test]
    fn what_was_written_is_found_again_and_what_rotted_is_not() {
        let case = case((5 << 20) + 9);
        let mut partial = case.open("x").unwrap();
        for group in [0, 2, 5] {
            case.write(&mut partial, group);
        }
        drop(partial);
        let part = case.home.path().join(case.files().iter().find(|name| name.ends_with(".part")).unwrap());
        std::fs::OpenOptions::new().write(true).open(&part).unwrap().write_all_at(b"rot", (2 << 20) + 5).unwrap();
        let mut partial = case.open("x").unwrap();
        assert_eq!(partial.present(), [true, false, false, false, false, true]);
        assert_eq!(partial.present_bytes(), (1 << 20) + 9);
        assert_eq!(case.write(&mut partial, 0), Written::Twice);
        for group in 1..5 {
            case.write(&mut partial, group);
        }
        assert!(partial.is_whole());
        assert_eq!(content(&finish(partial).0), case.content);
    }

    #[test]
    fn damaged_states_and_parts_only_cost_time() {
        let case = case(3 << 20);
        let mut partial = case.open("x").unwrap();
        case.write(&mut partial, 0);
        drop(partial);
        let state = case.home.path().join(case.files().iter().find(|name| name.ends_with(".state")).unwrap());
        for len in [0, 5, 41] {
            std::fs::OpenOptions::new().write(true).open(&state).unwrap().set_len(len).unwrap();
            assert_eq!(case.open("x").unwrap().present_bytes(), 1 << 20);
        }
        std::fs::remove_file(&state).unwrap();
        assert_eq!(case.open("x").unwrap().present(), [true, false, false]);
        let part = case.home.path().join(case.files().iter().find(|name| name.ends_with(".part")).unwrap());
        for len in [100, 100 << 20] {
            std::fs::OpenOptions::new().write(true).open(&part).unwrap().set_len(len).unwrap();
            assert_eq!(case.open("x").unwrap().present_bytes(), 0);
            assert_eq!(std::fs::metadata(&part).unwrap().len(), 3 << 20);
        }
    }

    #[test]
    fn a_second_process_is_kept_out() {
        let case = case(10);
        let first = case.open("x").unwrap();
        assert!(matches!(case.open("x"), Err(Error::InUse(_))));
        first.abandon();
        assert!(case.files().is_empty());
    }

    #[test]
    fn a_name_taken_meanwhile_is_not_lost() {
        let case = case(10);
        let mut partial = case.open("x.pdf").unwrap();
        case.write(&mut partial, 0);
        File::create(case.home.path().join("x.pdf")).unwrap().write_all(b"theirs").unwrap();
        let (path, renamed) = finish(partial);
        assert!(renamed);
        assert_eq!(path.file_name().unwrap(), "x (1).pdf");
        assert_eq!(content(&case.home.path().join("x.pdf")), b"theirs");
    }

    #[test]
    fn the_longest_names_have_room_for_a_partial() {
        let case = case(3 << 20);
        let name = "é".repeat(127) + "x";
        let mut partial = case.open(&name).unwrap();
        for group in 0..3 {
            case.write(&mut partial, group);
        }
        finish(partial);
        assert_eq!(case.files(), [name]);
    }
}
