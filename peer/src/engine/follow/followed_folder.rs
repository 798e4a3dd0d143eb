//! The copy of a followed folder on the disk: files are placed, renamed and put aside by folder handles, so that nothing
//! outside of it is touched and no link followed.
//!
//! Two hidden folders lie in it: [`STAGING`] takes what is fetched until it is placed, and its presence tells that the disk
//! of the copy is there; [`TRASH`] keeps what was removed, by day. Hidden names never come from the source, and hidden
//! files of a shared folder aren't shared.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | days in the trash | [`TRASH_DAYS`] | the oldest are removed for good |
//! | names of one file that is kept | [`MAX_KEPT_NAMES`] | the new version isn't placed |

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use shared::names::{marked_component, numbered_component};
use shared::safe_text::safe_path;
use shared::{ContentHash, FileName};

use super::copy_fault::CopyFault;
use super::follow_plan::FollowedDisk;
use crate::engine::Error;
use crate::profile::RecordedFile;
use crate::sys::{
    FileStamp, FolderHandle, LocalEntry, disk_name, exchange, local_entry, move_no_replace, remove_empty_folder,
    sync_all, time_zone,
};

/// The hidden folder for what is being fetched.
pub(super) const STAGING: &str = ".vizinho-follow";
/// The hidden folder for what was removed.
pub(super) const TRASH: &str = ".vizinho-trash";
/// The end of the name of a file that is put aside while another takes its place.
const ASIDE: &str = ".old";
/// Days for which removed files are kept.
const TRASH_DAYS: i64 = 30;
/// Names that are tried for a file that is kept.
const MAX_KEPT_NAMES: u32 = 1000;
/// Attempts to place a file while somebody puts others in its place.
const MAX_ATTEMPTS: u32 = 5;
/// Folders that are open at once while they are synchronised with the disk.
const SYNCED_AT_ONCE: usize = 64;

/// The folder of a copy, by its handle.
#[derive(Debug)]
pub(super) struct FollowedFolder {
    path: PathBuf,
    root: FolderHandle,
    staging: FolderHandle,
    /// The folder that was listed last, and its names.
    listed: Option<(String, HashSet<String>)>,
    /// Folders that changed since they were synchronised with the disk.
    changed: HashSet<String>,
}

/// The result of placing a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlacedCopy {
    /// The placed file.
    pub(super) stamp: FileStamp,
    /// The name under which the file is kept that was in its place.
    pub(super) kept: Option<FileName>,
}

impl FollowedFolder {
    /// Makes the folder of a copy, or takes one that is there. Returns true unless it was one already.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub(super) fn create(path: &Path) -> Result<bool, Error> {
        let make = || {
            std::fs::create_dir_all(path)?;
            let root = FolderHandle::open_recorded(path)?;
            let is_new = root.open_subfolder(STAGING)?.is_none();
            root.open_or_create_subfolder(STAGING)?;
            Ok(is_new)
        };
        make().map_err(Error::disk(path))
    }

    /// Opens the folder of a copy.
    ///
    /// # Errors
    /// [`Error::Disk`], also if the folder is another one than that which was made.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let away = || Error::disk(path)(io::Error::other(CopyFault::Away));
        let root = match FolderHandle::open_recorded(path) {
            Ok(root) => root,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Err(away()),
            Err(why) => return Err(Error::disk(path)(why)),
        };
        // Without it, this is the empty folder at which the disk would be mounted.
        let staging = root.open_subfolder(STAGING).map_err(Error::disk(&path.join(STAGING)))?.ok_or_else(away)?;
        Ok(Self { path: path.to_owned(), root, staging, listed: None, changed: HashSet::new() })
    }

    /// Returns the path of the folder for what is being fetched.
    pub(super) fn staging_path(&self) -> PathBuf {
        self.path.join(STAGING)
    }

    /// Places a fetched file. What it may not replace is kept under another name.
    ///
    /// # Errors
    /// [`Error::Disk`], or [`Error::InTheWay`] for what is no file.
    pub(super) fn place(
        &mut self,
        name: &FileName,
        staged: &str,
        replaces: Option<FileStamp>,
    ) -> Result<PlacedCopy, Error> {
        let path = self.path_of(name);
        let folder = self.make_folder_of(name)?;
        let leaf = name.last_component();
        let LocalEntry::File(stamp) = local_entry(&self.staging, staged).map_err(Error::disk(&path))? else {
            return Err(Error::Internal(format!("{} was fetched and isn't there", name.display())));
        };
        // Noted before the attempts: one that fails may have moved something already.
        self.note_changed(name);
        let mut kept = None;
        for _ in 0..MAX_ATTEMPTS {
            match move_no_replace((&self.staging, staged), (&folder, leaf)) {
                Ok(()) => return Ok(PlacedCopy { stamp, kept }),
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                Err(why) => return Err(Error::disk(&path)(why)),
            }
            match local_entry(&folder, leaf).map_err(Error::disk(&path))? {
                LocalEntry::Missing => {}
                LocalEntry::Other => return Err(Error::InTheWay(path)),
                LocalEntry::File(there) if Some(there) == replaces => {
                    if let Some(kept_now) = self.replace(&folder, name, staged, there)? {
                        return Ok(PlacedCopy { stamp, kept: kept_now.or(kept) });
                    }
                }
                LocalEntry::File(_) => kept = Some(self.keep((&folder, leaf), &folder, name)?),
            }
        }
        Err(Error::disk(&path)(io::Error::other(CopyFault::Unsteady)))
    }

    /// Replaces a file that may be replaced. Returns the name under which it is kept, if it changed in the last moment;
    /// `None` if the way is free now, and the file is to be placed as one that is new.
    fn replace(
        &self,
        folder: &FolderHandle,
        name: &FileName,
        staged: &str,
        expected: FileStamp,
    ) -> Result<Option<Option<FileName>>, Error> {
        let (path, leaf) = (self.path_of(name), name.last_component());
        // Both at once: whoever reads the name finds one of them, and what came out is looked at afterwards.
        if exchange((&self.staging, staged), (folder, leaf)).map_err(Error::disk(&path))? {
            if local_entry(&self.staging, staged).map_err(Error::disk(&path))? == LocalEntry::File(expected) {
                self.staging.remove(staged).map_err(Error::disk(&path))?;
                return Ok(Some(None));
            }
            return self.keep((&self.staging, staged), folder, name).map(|kept| Some(Some(kept)));
        }
        // Where the file system knows no exchange (renameat2(2)), the name is free for a moment.
        let aside = format!("{staged}{ASIDE}");
        move_no_replace((folder, leaf), (&self.staging, &aside)).map_err(Error::disk(&path))?;
        if local_entry(&self.staging, &aside).map_err(Error::disk(&path))? == LocalEntry::File(expected) {
            self.staging.remove(&aside).map_err(Error::disk(&path))?;
        } else {
            self.keep((&self.staging, &aside), folder, name)?;
        }
        Ok(None)
    }

    /// Moves a file of the user's beside the place of `name`, to the first free name that says so.
    fn keep(&self, from: (&FolderHandle, &str), to: &FolderHandle, name: &FileName) -> Result<FileName, Error> {
        let path = self.path_of(name);
        for number in 1..=MAX_KEPT_NAMES {
            let mark = if number == 1 { "mine".to_owned() } else { format!("mine {number}") };
            let leaf = marked_component(name.last_component(), &mark);
            match move_no_replace(from, (to, &leaf)) {
                Ok(()) => {
                    let above = &name.as_str()[..name.as_str().len() - name.last_component().len()];
                    let kept = format!("{above}{leaf}");
                    return kept.parse().map_err(|_| Error::Internal(format!("the name {kept:?}")));
                }
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                Err(why) => return Err(Error::disk(&path)(why)),
            }
        }
        Err(Error::DestinationExists(path))
    }

    /// Moves a placed file to its new name. Returns false if it isn't as recorded any more, or the name is taken.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub(super) fn rename(&mut self, from: &FileName, to: &FileName, file: &RecordedFile) -> Result<bool, Error> {
        let Some(folder) = self.folder_of(from)? else { return Ok(false) };
        if !is_recorded(&folder, from, file).map_err(Error::disk(&self.path_of(from)))? {
            return Ok(false);
        }
        let destination = self.make_folder_of(to)?;
        match move_no_replace((&folder, from.last_component()), (&destination, to.last_component())) {
            Ok(()) => {}
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(why) => return Err(Error::disk(&self.path_of(to))(why)),
        }
        self.note_changed(from);
        self.note_changed(to);
        self.remove_empty_folders(from);
        Ok(true)
    }

    /// Moves a placed file to the trash of `day`. Returns false if it isn't as recorded any more: then it stays.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub(super) fn remove(&mut self, name: &FileName, file: &RecordedFile, day: &str) -> Result<bool, Error> {
        let path = self.path_of(name);
        let Some(folder) = self.folder_of(name)? else { return Ok(false) };
        // By time and content: a file of the user's may have been given the recorded time.
        if !is_recorded(&folder, name, file).map_err(Error::disk(&path))?
            || hash_of(&folder, name.last_component())? != Some(file.hash)
        {
            return Ok(false);
        }
        // Moved and not removed: it may have changed since it was looked at.
        let trash = self.trash_folder(name, day).map_err(Error::disk(&self.path.join(TRASH)))?;
        for number in 0..MAX_KEPT_NAMES {
            let leaf = name.last_component();
            let free = if number == 0 { leaf.to_owned() } else { numbered_component(leaf, number) };
            match move_no_replace((&folder, leaf), (&trash, &free)) {
                Ok(()) => {
                    self.note_changed(name);
                    self.remove_empty_folders(name);
                    return Ok(true);
                }
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                Err(why) => return Err(Error::disk(&path)(why)),
            }
        }
        Err(Error::disk(&path)(io::Error::other(CopyFault::TrashFull)))
    }

    /// Makes a folder that is empty at the source.
    ///
    /// # Errors
    /// [`Error::Disk`], or [`Error::InTheWay`].
    pub(super) fn make_folder(&self, name: &FileName) -> Result<(), Error> {
        self.enter(name.components(), true).map(|_| ())
    }

    /// Removes what a fetch left in the folder for what is being fetched, parts of files apart: they are resumed.
    pub(super) fn clear_staging(&self) {
        for name in self.staging.names().unwrap_or_default().into_iter().filter(|name| !name.starts_with('.')) {
            // A file that was put aside may be the user's own. What can't be removed stays for the next time.
            let cleared = if name.ends_with(ASIDE) {
                let trash = self.root.open_or_create_subfolder(TRASH);
                let day = trash.and_then(|trash| trash.open_or_create_subfolder(&today().to_string()));
                day.and_then(|day| move_no_replace((&self.staging, &name), (&day, &name)))
            } else {
                self.staging.remove(&name)
            };
            if let Err(why) = cleared {
                tracing::info!("{} stays: {why}", safe_path(self.path.join(STAGING).join(&name)));
            }
        }
    }

    /// Removes the folder for what is being fetched, with parts of files: the copy is one no more.
    pub(super) fn dissolve(self) {
        self.clear_staging();
        for name in self.staging.names().unwrap_or_default() {
            // What can't be removed only keeps the hidden folder there.
            let _ = self.staging.remove(&name);
        }
        let Self { root, staging, .. } = self;
        drop(staging);
        remove_empty_folder(&root, STAGING);
    }

    /// Removes the days of the trash that are over; what can't be removed stays for the next time.
    pub(super) fn clear_trash(&self, today: jiff::civil::Date) {
        let Ok(Some(trash)) = self.root.open_subfolder(TRASH) else { return };
        for day in trash.names().unwrap_or_default() {
            // What has no day for a name was not put there by a follow.
            let Ok(date) = day.parse::<jiff::civil::Date>() else { continue };
            let is_over = today.since(date).is_ok_and(|age| i64::from(age.get_days()) > TRASH_DAYS);
            // Only a folder, by a look that follows no link.
            if is_over && matches!(trash.open_subfolder(&day), Ok(Some(_))) {
                let path = self.path.join(TRASH).join(&*disk_name(&day));
                if let Err(why) = std::fs::remove_dir_all(&path) {
                    tracing::info!("{} stays: {why}", safe_path(&path));
                }
            }
        }
    }

    /// Makes the changes of folders durable.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        let changed: Vec<String> = std::mem::take(&mut self.changed).into_iter().collect();
        // A renamed tree may have more folders than a process may have open.
        for some in changed.chunks(SYNCED_AT_ONCE) {
            let mut folders = Vec::with_capacity(some.len());
            for below in some {
                let components = below.split('/').filter(|component| !component.is_empty());
                // One that was removed meanwhile has nothing to keep.
                folders.extend(self.enter(components, false).ok().flatten());
            }
            self.sync_folders(&folders)?;
        }
        let root = self.enter(std::iter::empty(), false)?;
        self.sync_folders(root.as_slice())
    }

    fn sync_folders(&self, folders: &[FolderHandle]) -> Result<(), Error> {
        let synced: io::Result<()> = sync_all(&folders.iter().collect::<Vec<_>>()).into_iter().collect();
        synced.map_err(Error::disk(&self.path))
    }

    fn path_of(&self, name: &FileName) -> PathBuf {
        name.components().fold(self.path.clone(), |path, component| path.join(&*disk_name(component)))
    }

    fn note_changed(&mut self, name: &FileName) {
        let below = name.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
        self.changed.insert(below.to_owned());
        self.listed = None;
    }

    /// Enters a folder below the root; `None` if it isn't there, or a component of it is no folder and none is made.
    fn enter<'a>(
        &self,
        components: impl Iterator<Item = &'a str>,
        is_made: bool,
    ) -> Result<Option<FolderHandle>, Error> {
        let mut path = self.path.clone();
        // By the handle and not the path: another disk may be mounted there by now.
        let Some(mut folder) = self.root.open_subfolder(".").map_err(Error::disk(&self.path))? else { return Ok(None) };
        for component in components {
            path.push(&*disk_name(component));
            let entered = match is_made {
                true => folder.open_or_create_subfolder(component).map(Some),
                false => folder.open_subfolder(component),
            };
            folder = match entered {
                Ok(Some(inner)) => inner,
                Ok(None) => return Ok(None),
                Err(why) if why.kind() == io::ErrorKind::NotADirectory && !is_made => return Ok(None),
                Err(why) if why.kind() == io::ErrorKind::NotADirectory => return Err(Error::InTheWay(path)),
                Err(why) => return Err(Error::disk(&path)(why)),
            };
        }
        Ok(Some(folder))
    }

    fn folder_of(&self, name: &FileName) -> Result<Option<FolderHandle>, Error> {
        self.enter(folders_above(name), false)
    }

    fn make_folder_of(&self, name: &FileName) -> Result<FolderHandle, Error> {
        let folder = self.enter(folders_above(name), true)?;
        folder.ok_or_else(|| Error::Internal(format!("the folder of {} was made and isn't there", name.display())))
    }

    fn trash_folder(&self, name: &FileName, day: &str) -> io::Result<FolderHandle> {
        let mut folder = self.root.open_or_create_subfolder(TRASH)?.open_or_create_subfolder(day)?;
        for component in folders_above(name) {
            folder = folder.open_or_create_subfolder(component)?;
        }
        Ok(folder)
    }

    /// Removes the folders above a file that is gone, as far as they are empty.
    fn remove_empty_folders(&self, name: &FileName) {
        let mut below = name.as_str();
        while let Some((folder, _)) = below.rsplit_once('/') {
            let (above, leaf) = folder.rsplit_once('/').map_or(("", folder), |(above, leaf)| (above, leaf));
            let components = above.split('/').filter(|component| !component.is_empty());
            let Ok(Some(parent)) = self.enter(components, false) else { return };
            if !remove_empty_folder(&parent, leaf) {
                return;
            }
            below = folder;
        }
    }

    /// True if the folder of a file lists its name in this spelling: some file systems find it by others as well.
    fn is_listed(&mut self, folder: &FolderHandle, name: &FileName) -> bool {
        let below = name.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
        if self.listed.as_ref().is_none_or(|(listed, _)| listed != below) {
            let Ok(names) = folder.names() else { return true };
            self.listed = Some((below.to_owned(), names.into_iter().collect()));
        }
        // By the names on the disk: an encoded name may have several forms.
        self.listed.as_ref().is_none_or(|(_, names)| {
            let leaf = name.last_component();
            names.contains(leaf) || names.iter().any(|listed| disk_name(listed) == disk_name(leaf))
        })
    }
}

impl FollowedDisk for FollowedFolder {
    fn look(&mut self, name: &FileName) -> Result<LocalEntry, Error> {
        let Some(folder) = self.folder_of(name)? else { return Ok(LocalEntry::Missing) };
        let entry = local_entry(&folder, name.last_component()).map_err(Error::disk(&self.path_of(name)))?;
        // A file system without case leads to the file of another spelling.
        if matches!(entry, LocalEntry::File(_)) && !self.is_listed(&folder, name) {
            return Ok(LocalEntry::Other);
        }
        Ok(entry)
    }

    fn hash(&mut self, name: &FileName) -> Result<Option<ContentHash>, Error> {
        match self.folder_of(name)? {
            Some(folder) => hash_of(&folder, name.last_component()),
            None => Ok(None),
        }
    }
}

/// Returns today's date here, as the trash names its days.
pub(super) fn today() -> jiff::civil::Date {
    jiff::Timestamp::now().to_zoned(time_zone()).date()
}

fn folders_above(name: &FileName) -> impl Iterator<Item = &str> {
    let folder = name.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
    folder.split('/').filter(|component| !component.is_empty())
}

fn is_recorded(folder: &FolderHandle, name: &FileName, file: &RecordedFile) -> io::Result<bool> {
    let recorded = FileStamp { size: file.size, mtime_ns: file.mtime_ns };
    Ok(local_entry(folder, name.last_component())? == LocalEntry::File(recorded))
}

/// Hashes a file; `None` if it can't be read.
fn hash_of(folder: &FolderHandle, leaf: &str) -> Result<Option<ContentHash>, Error> {
    let Ok(file) = folder.open_existing(leaf) else { return Ok(None) };
    let mut hasher = blake3::Hasher::new();
    match hasher.update_reader(file) {
        Ok(_) => Ok(Some(ContentHash::from_bytes(*hasher.finalize().as_bytes()))),
        // What can't be read counts as changed here, and is kept.
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests;
