//! Files that a page was given: they lie in the profile's folder until they are shared no more, a folder for each drop.
//!
//! The length of a part is the truth about how far an upload is. Nothing is ever replaced: a complete file stays what it
//! is. Paths are confined to the drop's folder by its handle.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | drops | 1,000 | refused |
//! | files of a drop | 10,000 | refused |
//! | bytes of all, with those that running uploads announced | what the disk has and stays free; at the door the account's quota | refused |
//! | a drop of which nothing is shared and no send waits | 24 h after its last change | removed when a seat is taken |

mod announced_uploads;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use localization::tr;
use shared::FileName;
use shared::names::truncate_to_bytes;
use walkdir::WalkDir;

use self::announced_uploads::{AnnouncedUpload, AnnouncedUploads};
use super::Error;
use super::private_data::DROPS_FOLDER;
use super::sends::accept_policy::MIN_FREE_BYTES;
use super::share::for_each_share;
use crate::profile::{Profile, SendState};
use crate::sys::{FolderHandle, SpaceLimit, sync_all};

const MAX_DROPS: usize = 1000;
const MAX_FILES: usize = 10_000;
const UNUSED_LIFE: Duration = Duration::from_secs(24 * 3600);
/// The rest of a part's name has to fit as well.
const PART_STEM_BYTES: usize = 200;
/// Written anew when a drop is shared or sent, so that it isn't removed while it is hashed. Earlier releases remove a drop
/// without it.
const USED_MARK: &str = ".used";

/// The mark of one drop, chosen by the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DropId([u8; 16]);

/// A text that marks no drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", tr!("the mark of a drop has 32 hex digits"))]
pub struct InvalidDropId;

/// The files that pages gave a profile. Cheap to clone; clones count running uploads together.
#[derive(Debug, Clone)]
pub struct DroppedFiles {
    folder: PathBuf,
    /// Bytes of all drops together.
    quota: u64,
    announced: AnnouncedUploads,
}

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropProgress {
    /// So many bytes are here.
    Part(u64),
    /// The file is complete, with this size.
    Complete(u64),
}

/// The reason why a dropped file isn't taken.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    /// The name can't be used.
    #[error("{}", tr!("a name that begins with a dot can't be taken"))]
    Hidden,
    /// The part ends elsewhere.
    #[error("{}", tr!("the upload goes on at {offset}", offset = .0))]
    WrongOffset(u64),
    /// More bytes came than were announced.
    #[error("{}", tr!("more bytes came than were announced"))]
    TooLong,
    /// There are too many, or they are too large.
    #[error("{}", tr!("there is no room for further uploads: stop sharing some"))]
    Full,
    /// The disk has no room.
    #[error("{}", tr!("there is no room on the disk"))]
    NoSpace,
    /// The file is complete already.
    #[error("{}", tr!("the file is complete"))]
    Complete,
    /// Some files of the drop are not complete, or there are none.
    #[error("{}", tr!("the upload is not complete"))]
    Incomplete,
    /// The folder can't be used.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// A part that is being written.
#[derive(Debug)]
pub struct DropWriter {
    folder: FolderHandle,
    file: File,
    part: String,
    name: String,
    size: u64,
    written: u64,
    announced: AnnouncedUpload,
}

impl DropError {
    /// True if the file is here already.
    pub const fn is_complete(&self) -> bool {
        matches!(self, Self::Complete)
    }
}

impl std::str::FromStr for DropId {
    type Err = InvalidDropId;

    fn from_str(text: &str) -> Result<Self, InvalidDropId> {
        shared::hex::decode(text).map(Self).map_err(|_| InvalidDropId)
    }
}

impl DropId {
    /// Returns the mark as a key.
    pub fn text(self) -> String {
        shared::hex::encode(&self.0)
    }
}

impl DroppedFiles {
    /// Returns the drops of the profile in this folder.
    pub fn of(home: &Path, quota: u64) -> Self {
        Self { folder: home.join(DROPS_FOLDER), quota, announced: AnnouncedUploads::default() }
    }

    /// Returns how far the upload of a file is.
    ///
    /// # Errors
    /// [`DropError`].
    pub fn progress(&self, drop: DropId, name: &FileName) -> Result<DropProgress, DropError> {
        let (parents, last) = split(name)?;
        let Some(folder) = self.open_parents(drop, &parents)? else { return Ok(DropProgress::Part(0)) };
        if let Some(whole) = folder.file_identity(last) {
            return Ok(DropProgress::Complete(whole.size));
        }
        let part = folder.file_identity(&part_name(last, drop));
        Ok(DropProgress::Part(part.map_or(0, |part| part.size)))
    }

    /// Opens the part of a file, which is made or gone on with.
    ///
    /// # Errors
    /// [`DropError`].
    pub fn begin(&self, drop: DropId, name: &FileName, offset: u64, size: u64) -> Result<DropWriter, DropError> {
        let (parents, last) = split(name)?;
        let rest = size.saturating_sub(offset);
        let part = part_name(last, drop);
        let ((folder, mut file), announced) = self.announced.announce(rest, |others| {
            let more = rest.saturating_add(others);
            self.check_bounds(drop, more)?;
            let folder = self.make_parents(drop, &parents)?;
            let free = folder.free_space().ok().and_then(|free| free.bytes);
            if free.is_some_and(|free| more.saturating_add(MIN_FREE_BYTES) > free) {
                return Err(DropError::NoSpace);
            }
            if folder.file_identity(last).is_some() {
                return Err(DropError::Complete);
            }
            // Made here: a folder that is empty would go with another file that is cancelled.
            let file = folder.open_or_create(&part).map_err(|why| self.disk_error(why))?;
            Ok((folder, file))
        })?;
        let here = file.metadata().map_err(|why| self.disk_error(why))?.len();
        if offset > here {
            return Err(DropError::WrongOffset(here));
        }
        // The page may go back, to what it knows to have sent.
        file.set_len(offset).and_then(|()| file.seek(SeekFrom::Start(offset))).map_err(|why| self.disk_error(why))?;
        Ok(DropWriter { folder, file, part, name: last.to_owned(), size, written: offset, announced })
    }

    /// Gives a file up that nobody writes any more, complete or not, unless its drop is shared or sent. The folders that
    /// are empty then go as well.
    ///
    /// # Errors
    /// [`DropError::Hidden`], or a reason of the disk.
    pub fn cancel(&self, drop: DropId, name: &FileName) -> Result<(), DropError> {
        let (parents, last) = split(name)?;
        let root = self.folder.join(drop.text());
        // Neither a file that begins nor a drop that is taken finds a folder that is about to go.
        let _admission = self.announced.pause_admission();
        let Some(folder) = self.open_parents(drop, &parents)? else { return Ok(()) };
        folder.remove(&part_name(last, drop)).map_err(|why| self.disk_error(why))?;
        if !root.join(USED_MARK).exists() {
            folder.remove(last).map_err(|why| self.disk_error(why))?;
        }
        self.remove_empty_folders(&parents.iter().fold(root, |path, parent| path.join(parent)));
        Ok(())
    }

    /// Returns the files and folders of a complete drop, which is kept while it is shared or sent.
    ///
    /// # Errors
    /// [`DropError::Incomplete`], or a reason of the disk.
    pub fn take(&self, drop: DropId) -> Result<Vec<PathBuf>, DropError> {
        let root = self.folder.join(drop.text());
        let _admission = self.announced.pause_admission();
        let mut paths = Vec::new();
        for entry in WalkDir::new(&root).min_depth(1) {
            let entry = entry.map_err(|_| DropError::Incomplete)?;
            let name = entry.file_name().to_string_lossy();
            // A hidden name is that of a part: no page can choose one.
            if name != USED_MARK && name.starts_with('.') {
                return Err(DropError::Incomplete);
            }
            if entry.depth() == 1 && name != USED_MARK {
                paths.push(entry.into_path());
            }
        }
        if paths.is_empty() {
            return Err(DropError::Incomplete);
        }
        // Before the paths are given away: another process may be about to sweep.
        let mark = File::create(root.join(USED_MARK)).and_then(|mark| mark.set_modified(SystemTime::now()));
        mark.map_err(|why| self.disk_error(why))?;
        // A file system lists entries in any order.
        paths.sort();
        Ok(paths)
    }

    /// Removes a file that is shared no more, if it was dropped, and the folders that are empty then.
    pub fn remove(&self, path: &Path) {
        // Only below a drop's own folder: whatever else was shared is the user's, and stays on the disk.
        if path.strip_prefix(&self.folder).is_ok_and(|below| below.components().count() > 1) {
            // It may be gone already, and its folders are to go all the same.
            let _ = fs::remove_file(path);
            path.parent().into_iter().for_each(|folder| self.remove_empty_folders(folder));
        }
    }

    /// Removes a folder of a drop if it is empty, and those above it that are empty then.
    fn remove_empty_folders(&self, folder: &Path) {
        for folder in folder.ancestors().take_while(|folder| **folder != *self.folder) {
            if is_empty_but_mark(folder) {
                let _ = fs::remove_file(folder.join(USED_MARK));
            }
            // Fails as long as another file is in it, which then keeps the folders above as well.
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }

    /// Removes drops of earlier days of which the profile shares nothing and no send waits; blocks. A profile that can't be
    /// read keeps all.
    pub fn sweep(&self, profile: &Profile, now: SystemTime) {
        let due = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_due = |drop: &PathBuf| {
            last_change(drop).and_then(|at| now.duration_since(at).ok()).is_some_and(|age| age > UNUSED_LIFE)
        };
        let due: Vec<PathBuf> = due.filter(is_due).collect();
        if due.is_empty() {
            return;
        }
        match used_components(profile) {
            Ok(used) => {
                let is_unused = |drop: &&PathBuf| drop.file_name().is_some_and(|name| !used.contains(name));
                // Looked at again: it may have been taken since, and is about to be shared.
                for drop in due.iter().filter(|drop| is_unused(drop) && is_due(drop)) {
                    if let Err(why) = fs::remove_dir_all(drop) {
                        tracing::warn!("files that nobody shares any more stay: {why}");
                    }
                }
            }
            Err(why) => tracing::warn!("files that nobody shares any more can't be told: {why}"),
        }
    }

    fn check_bounds(&self, drop: DropId, more: u64) -> Result<(), DropError> {
        let root = self.folder.join(drop.text());
        let drops = fs::read_dir(&self.folder).map_or(0, Iterator::count);
        if drops >= MAX_DROPS && !root.exists() {
            return Err(DropError::Full);
        }
        // Counted to one beyond the bound at most: each file that begins asks for it.
        if WalkDir::new(&root).into_iter().take(MAX_FILES + 1).count() > MAX_FILES {
            return Err(DropError::Full);
        }
        // Without a quota nobody asks for the sizes, and the walk through all drops is spared.
        if self.quota < u64::MAX {
            let sizes = WalkDir::new(&self.folder).into_iter().flatten().filter_map(|entry| entry.metadata().ok());
            let taken: u64 = sizes.filter(fs::Metadata::is_file).map(|facts| facts.len()).sum();
            if taken.saturating_add(more) > self.quota {
                return Err(DropError::Full);
            }
        }
        Ok(())
    }

    fn open_parents(&self, drop: DropId, parents: &[&str]) -> Result<Option<FolderHandle>, DropError> {
        let mut folder = match FolderHandle::open(&self.folder.join(drop.text())) {
            Ok(folder) => folder,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(self.disk_error(why)),
        };
        for parent in parents {
            let Some(below) = folder.open_subfolder(parent).map_err(|why| self.disk_error(why))? else {
                return Ok(None);
            };
            folder = below;
        }
        Ok(Some(folder))
    }

    fn make_parents(&self, drop: DropId, parents: &[&str]) -> Result<FolderHandle, DropError> {
        let root = self.folder.join(drop.text());
        fs::create_dir_all(&root).map_err(|why| self.disk_error(why))?;
        let mut folder = FolderHandle::open(&root).map_err(|why| self.disk_error(why))?;
        for parent in parents {
            folder = folder.open_or_create_subfolder(parent).map_err(|why| self.disk_error(why))?;
        }
        Ok(folder)
    }

    fn disk_error(&self, why: io::Error) -> DropError {
        if SpaceLimit::of(&why).is_some() { DropError::NoSpace } else { Error::disk(&self.folder)(why).into() }
    }
}

impl DropWriter {
    /// Writes the next bytes.
    ///
    /// # Errors
    /// [`DropError::NoSpace`], [`DropError::TooLong`], or another reason of the disk. What was written stays.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DropError> {
        if self.written + bytes.len() as u64 > self.size {
            return Err(DropError::TooLong);
        }
        self.file.write_all(bytes).map_err(|why| self.disk_error(why))?;
        self.written += bytes.len() as u64;
        self.announced.record_written(bytes.len() as u64);
        Ok(())
    }

    /// Returns whether all bytes are here.
    pub const fn is_complete(&self) -> bool {
        self.written == self.size
    }

    /// Returns how many bytes are here.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Makes the file durable and gives it its name, which nothing has.
    ///
    /// # Errors
    /// The reason of the disk.
    pub fn finish(self) -> Result<(), DropError> {
        // Before it has its name, which promises the whole file even after a power cut.
        self.file.sync_all().map_err(|why| self.disk_error(why))?;
        self.folder.rename_no_replace(&self.part, &self.name).map_err(|why| self.disk_error(why))?;
        // A rename is durable only with its folder (fsync(2)).
        sync_all(&[&self.folder]).into_iter().try_for_each(|outcome| outcome.map_err(|why| self.disk_error(why)))
    }

    fn disk_error(&self, why: io::Error) -> DropError {
        if SpaceLimit::of(&why).is_some() { DropError::NoSpace } else { Error::disk(self.name.as_ref())(why).into() }
    }
}

/// Returns the time of the latest change below a folder, itself included; `None` if it can't be told.
fn last_change(folder: &Path) -> Option<SystemTime> {
    let times = WalkDir::new(folder).into_iter().map(|entry| entry.ok()?.metadata().ok()?.modified().ok());
    // One that can't be looked at may be the latest.
    times.collect::<Option<Vec<SystemTime>>>()?.into_iter().max()
}

/// Returns the names of all folders in which something is shared, or a send waits. A drop's name is random: one that is not
/// among them is in no such path, by whatever way the path leads there.
fn used_components(profile: &Profile) -> Result<HashSet<OsString>, Error> {
    let mut used = HashSet::new();
    let mut add = |path: &Path| used.extend(path.iter().map(OsStr::to_owned));
    for audience in profile.audiences()? {
        for_each_share(profile, &audience, "", |share| add(&share.path))?;
    }
    profile.share_roots()?.iter().for_each(|root| add(&root.path));
    // Those that are over are cleared by then, or are about to be.
    let sends = profile.sends()?.into_iter().filter(|send| send.state == SendState::Waiting);
    sends.for_each(|send| add(&send.path));
    Ok(used)
}

/// Returns whether a folder has nothing but the mark of a drop.
fn is_empty_but_mark(folder: &Path) -> bool {
    let is_mark = |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|entry| entry.file_name() == USED_MARK);
    fs::read_dir(folder).is_ok_and(|mut entries| entries.all(is_mark))
}

/// Returns the folders of a name and its last component; none of them is hidden.
fn split(name: &FileName) -> Result<(Vec<&str>, &str), DropError> {
    let mut components: Vec<&str> = name.components().collect();
    if components.iter().any(|component| component.starts_with('.')) {
        return Err(DropError::Hidden);
    }
    let last = components.pop().ok_or(DropError::Hidden)?;
    Ok((components, last))
}

/// Returns the name of a part, of the same form as those of fetches.
fn part_name(name: &str, drop: DropId) -> String {
    // Names that are alike up to the cut have different tags.
    let tag = shared::hex::encode(&blake3::hash(&[&drop.0[..], name.as_bytes()].concat()).as_bytes()[..4]);
    format!(".{}.{tag}.part", truncate_to_bytes(name, PART_STEM_BYTES))
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::engine::share::{ShareEvent, share, unshare};
    use crate::profile::Audience;

    const DROP: DropId = DropId([7; 16]);

    fn name(text: &str) -> FileName {
        text.parse().unwrap()
    }

    fn put(drops: &DroppedFiles, file: &str, offset: u64, size: u64, bytes: &[u8]) -> Result<(), DropError> {
        let mut writer = drops.begin(DROP, &name(file), offset, size)?;
        writer.write(bytes)?;
        if writer.is_complete() { writer.finish() } else { Ok(()) }
    }

    #[test]
    fn an_upload_goes_on_and_replaces_nothing() {
        let home = tempfile::tempdir().unwrap();
        let drops = DroppedFiles::of(home.path(), u64::MAX);
        assert_eq!(drops.progress(DROP, &name("a/b.txt")).unwrap(), DropProgress::Part(0));
        put(&drops, "a/b.txt", 0, 6, b"abc").unwrap();
        assert_eq!(drops.progress(DROP, &name("a/b.txt")).unwrap(), DropProgress::Part(3));
        assert!(matches!(drops.take(DROP), Err(DropError::Incomplete)));
        assert!(matches!(put(&drops, "a/b.txt", 4, 6, b"ef"), Err(DropError::WrongOffset(3))));
        assert!(matches!(put(&drops, "a/b.txt", 3, 6, b"defg"), Err(DropError::TooLong)));
        put(&drops, "a/b.txt", 2, 6, b"cdef").unwrap();
        assert_eq!(drops.progress(DROP, &name("a/b.txt")).unwrap(), DropProgress::Complete(6));
        assert!(matches!(put(&drops, "a/b.txt", 0, 1, b"x"), Err(DropError::Complete)));
        put(&drops, "empty", 0, 0, b"").unwrap();
        let root = home.path().join("uploads").join(DROP.text());
        assert_eq!(drops.take(DROP).unwrap(), [root.join("a"), root.join("empty")]);
        assert_eq!(fs::read(root.join("a/b.txt")).unwrap(), b"abcdef");
        drops.remove(&root.join("a/b.txt"));
        assert!(!root.join("a").exists() && root.exists());
        drops.remove(&root.join("empty"));
        assert!(!root.exists());
    }

    #[test]
    fn a_cancelled_file_is_no_part_of_its_drop() {
        let home = tempfile::tempdir().unwrap();
        let drops = DroppedFiles::of(home.path(), 10);
        let root = home.path().join("uploads").join(DROP.text());
        for _ in 0..2 {
            drops.cancel(DROP, &name("none/film")).unwrap();
            assert!(!root.exists(), "there is nothing yet");
        }
        put(&drops, "a/film", 0, 9, b"abc").unwrap();
        put(&drops, "kept", 0, 1, b"x").unwrap();
        put(&drops, "whole", 0, 6, b"123456").unwrap();
        assert!(matches!(put(&drops, "next", 0, 6, b"123456"), Err(DropError::Full)));
        for cancelled in ["a/film", "whole"] {
            drops.cancel(DROP, &name(cancelled)).unwrap();
        }
        put(&drops, "next", 0, 6, b"123456").unwrap();
        assert_eq!(drops.take(DROP).unwrap(), [root.join("kept"), root.join("next")], "the folder is gone as well");
        drops.cancel(DROP, &name("kept")).unwrap();
        assert!(root.join("kept").exists(), "it is shared");
        assert!(matches!(drops.cancel(DROP, &name(".used")), Err(DropError::Hidden)));
    }

    #[test]
    fn uploads_at_once_have_the_quota_together() {
        let home = tempfile::tempdir().unwrap();
        let drops = DroppedFiles::of(home.path(), 10);
        let begin = |file: &str, size| drops.clone().begin(DROP, &name(file), 0, size);
        let mut first = begin("a", 6).unwrap();
        assert!(matches!(begin("b", 5), Err(DropError::Full)), "6 of 10 were announced");
        let second = begin("b", 4).unwrap();
        first.write(b"123").unwrap();
        assert!(matches!(begin("c", 1), Err(DropError::Full)), "what is written counts once");
        drop(second);
        begin("c", 4).unwrap().write(b"1234").unwrap();
        drop(first);
        assert!(begin("d", 3).is_ok(), "what broke off counts as it lies there");
    }

    #[test]
    fn names_and_bounds() {
        let home = tempfile::tempdir().unwrap();
        let drops = DroppedFiles::of(home.path(), 10);
        for hidden in [".a", "a/.b", ".a/b"] {
            assert!(matches!(put(&drops, hidden, 0, 1, b"x"), Err(DropError::Hidden)), "{hidden}");
        }
        put(&drops, "a", 0, 8, b"12345678").unwrap();
        assert!(matches!(put(&drops, "b", 0, 3, b"123"), Err(DropError::Full)));
        put(&drops, "b", 0, 2, b"12").unwrap();
        for wrong in ["", "x", "07070707070707070707070707070707x", "../0707070707070707070707070707070"] {
            assert!(wrong.parse::<DropId>().is_err(), "{wrong}");
        }
        let outside = home.path().join("profile.db");
        File::create(&outside).unwrap();
        drops.remove(&outside);
        assert!(outside.exists());
        // A symbolic link in the way is not followed.
        let root = home.path().join("uploads").join(DROP.text());
        std::os::unix::fs::symlink(home.path(), root.join("link")).unwrap();
        assert!(put(&drops, "link/x", 0, 0, b"").is_err() && !home.path().join("x").exists());
        fs::remove_file(root.join("link")).unwrap();
    }

    #[test]
    fn what_is_neither_shared_nor_sent_goes_after_a_day() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let drops = DroppedFiles::of(profile.home(), u64::MAX);
        let root = profile.home().join("uploads").join(DROP.text());
        let (now, later) = (SystemTime::now(), SystemTime::now() + UNUSED_LIFE * 2);
        put(&drops, "docs/a", 0, 1, b"x").unwrap();
        drops.sweep(&profile, now);
        assert!(root.exists());
        // A job that failed, or one that is about to begin.
        let paths = drops.take(DROP).unwrap();
        drops.sweep(&profile, now);
        assert!(root.exists());
        let mut report = |_: ShareEvent<'_>| ControlFlow::Continue(());
        share(&profile, &Audience::Everybody, &paths, None, &mut report).unwrap();
        drops.sweep(&profile, later);
        assert!(root.join("docs/a").exists(), "it is shared");
        // As after `peer unshare`, or the receipt for a folder.
        unshare(&profile, &Audience::Everybody, &["docs".to_owned()]).unwrap();
        drops.sweep(&profile, now);
        assert!(root.exists());
        drops.sweep(&profile, later);
        assert!(!root.exists());
    }
}
