//! The destination and the folders below it, by handles.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use shared::UserName;
use shared::names::name_encoding::encode_component;
use shared::peer::FolderTime;
use shared::safe_text::safe_path;

use super::PlacedFile;
use super::local_names::NameSpelling;
use super::partial_file::is_state;
use super::placed_files::PlacedFiles;
use crate::engine::Error;
use crate::sys::{FolderHandle, FreeSpace, UnwritableReason, disk_name, is_name_refused};

/// Folders below the destination whose handles are kept.
const MAX_OPEN_FOLDERS: usize = 64;

/// The destination and what is below it, by handles: whatever becomes of the path meanwhile, nothing goes elsewhere.
#[derive(Debug)]
pub(super) struct DestinationTree {
    path: PathBuf,
    /// Whose files go there.
    owner: UserName,
    /// Not before it is there.
    root: OnceLock<Arc<FolderHandle>>,
    folder_cache: Mutex<FolderCache>,
    placed_files: Mutex<PlacedFiles>,
}

/// What is known of the folders below the root, by their path.
#[derive(Debug, Default)]
struct FolderCache {
    /// Handles of those that were entered lately.
    open: HashMap<Arc<str>, Arc<FolderHandle>>,
    /// Where those are that couldn't have their own names.
    respelled_paths: HashMap<Arc<str>, PathBuf>,
    /// What was there of states of parts; looked at once.
    state_files: HashMap<Arc<str>, Arc<[String]>>,
    /// Reasons for which they take no files; looked at once.
    obstacles: HashMap<Arc<str>, Option<UnwritableFolder>>,
    /// Whether they are listed as they are spelled here; looked at once.
    listed: HashMap<Arc<str>, bool>,
    /// The names in the folder that was looked at last, as they were then.
    names: Option<(Arc<str>, Arc<HashSet<OsString>>)>,
}

/// A folder that takes no files, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnwritableFolder {
    pub(super) folder: PathBuf,
    pub(super) obstacle: UnwritableReason,
}

/// A folder of the destination.
#[derive(Debug, Clone)]
pub(super) struct DestinationFolder {
    tree: Arc<DestinationTree>,
    /// Its path below the destination, `/` between components; empty for the destination itself.
    relative_path: Arc<str>,
}

/// A folder of the destination and when it was last modified at its source.
#[derive(Debug)]
pub(super) struct FolderTimestamp {
    folder: DestinationFolder,
    time: FolderTime,
}

impl From<UnwritableFolder> for Error {
    fn from(UnwritableFolder { folder, obstacle }: UnwritableFolder) -> Self {
        Self::FolderUnwritable { folder, obstacle }
    }
}

impl FolderTimestamp {
    /// `place` is to get this time.
    pub(super) const fn new(folder: DestinationFolder, time: FolderTime) -> Self {
        Self { folder, time }
    }

    /// Sets its time, if it is there; nothing depends on that.
    pub(super) fn apply(self) {
        let Self { folder: place, time } = self;
        let set = |folder: Arc<FolderHandle>| folder.set_modified(time.mtime, time.mtime_ns.min(999_999_999));
        if let Ok(Some(Err(why))) = place.open_existing().map(|folder| folder.map(set)) {
            tracing::debug!("the time of {} can't be set: {why}", safe_path(place.path()));
        }
    }
}

impl DestinationTree {
    /// The files that this fetch put in place.
    fn placed_files(&self) -> MutexGuard<'_, PlacedFiles> {
        self.placed_files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The root, or the nearest folder above it that is there, with its path.
    fn nearest_root(&self) -> Option<(Arc<FolderHandle>, PathBuf)> {
        if let Some(root) = self.root.get() {
            return Some((root.clone(), self.path.clone()));
        }
        let nearest = self.path.ancestors().skip(1).find_map(|above| {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            FolderHandle::open(above).ok().map(|folder| (Arc::new(folder), above.to_owned()))
        });
        // A path of one component has the current folder above it.
        nearest.or_else(|| FolderHandle::open(Path::new(".")).ok().map(|folder| (Arc::new(folder), PathBuf::from("."))))
    }

    /// Remembers files that an earlier attempt put in place, as far as they are still there.
    pub(super) fn restore_placed(&self, arrived: &[PlacedFile]) {
        for PlacedFile { path, size } in arrived {
            let is_below = path.components().all(|component| matches!(component, Component::Normal(_)));
            let (Some(below), Some(name)) =
                (path.parent(), path.file_name().and_then(|name| encode_component(name.as_bytes())))
            else {
                continue;
            };
            if let Ok(folder) = FolderHandle::open(&self.path.join(below))
                && is_below
                && folder.file_identity(&name).is_some_and(|mark| mark.size == *size)
            {
                self.placed_files().add(&folder, below, &name);
            }
        }
    }

    /// Opens the root if it is there.
    pub(super) fn open(path: PathBuf, from: UserName) -> Result<Self, Error> {
        let root = match FolderHandle::open(&path) {
            Ok(folder) => OnceLock::from(Arc::new(folder)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => OnceLock::new(),
            Err(why) => return Err(Error::disk(&path)(why)),
        };
        Ok(Self { path, owner: from, root, folder_cache: Mutex::default(), placed_files: Mutex::default() })
    }

    /// The root, made if it isn't there.
    pub(super) fn create_root(&self) -> Result<Arc<FolderHandle>, Error> {
        if let Some(root) = self.root.get() {
            return Ok(root.clone());
        }
        std::fs::create_dir_all(&self.path).map_err(|why| self.creation_error(why))?;
        let root = FolderHandle::open(&self.path).map_err(Error::disk(&self.path))?;
        Ok(self.root.get_or_init(|| Arc::new(root)).clone())
    }

    /// The error of a root that can't be made; names the component that the file system refuses.
    fn creation_error(&self, why: io::Error) -> Error {
        let is_odd = |component: &OsStr| component.to_str().is_some_and(|name| NameSpelling::Plain.spell(name) != name);
        let missing = self.path.ancestors().take_while(|path| !path.is_dir()).last();
        let refused = missing.and_then(Path::file_name).filter(|name| is_name_refused(&why) && is_odd(name));
        match refused {
            Some(name) => {
                let name = safe_path(name);
                let why = format!("this file system can't hold the name {name}: give another folder with -o");
                Error::disk(&self.path)(io::Error::other(why))
            }
            None => Error::disk(&self.path)(why),
        }
    }

    /// Opens the folder `below`, made if it isn't there and is to be; no link is followed on the way.
    fn enter(&self, below: &Arc<str>, make: bool) -> Result<Option<Arc<FolderHandle>>, Error> {
        let root = if make { Some(self.create_root()?) } else { self.root.get().cloned() };
        let Some(mut folder) = root.filter(|_| !below.is_empty()) else {
            return Ok(self.root.get().cloned());
        };
        let mut known = self.folder_cache();
        if let Some(folder) = known.open.get(below) {
            return Ok(Some(folder.clone()));
        }
        let mut path = self.path.clone();
        let mut is_spelled = false;
        for component in below.split('/') {
            let entered = enter_respelled(&folder, component, make).map_err(|why| match folder.is_removed() {
                true => UnwritableFolder { folder: path.clone(), obstacle: UnwritableReason::Removed }.into(),
                false => Error::disk(&path.join(component))(why),
            })?;
            let Some((inner, spelled)) = entered else { return Ok(None) };
            is_spelled |= spelled != component;
            path.push(&*disk_name(&spelled));
            folder = Arc::new(inner);
        }
        // Handles are not free: all are forgotten now and then.
        if known.open.len() >= MAX_OPEN_FOLDERS {
            known.open.clear();
        }
        known.open.insert(below.clone(), folder.clone());
        if is_spelled {
            known.respelled_paths.insert(below.clone(), path);
        }
        Ok(Some(folder))
    }

    fn folder_cache(&self) -> MutexGuard<'_, FolderCache> {
        self.folder_cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Enters the folder of this name, or of one that stands for it where the file system refuses it; tells which.
fn enter_respelled(folder: &FolderHandle, component: &str, make: bool) -> io::Result<Option<(FolderHandle, String)>> {
    let mut refusal = None;
    for spelling in NameSpelling::ALL {
        let name = spelling.spell(component);
        if spelling != NameSpelling::Own && name == component {
            continue;
        }
        match if make { folder.open_or_create_subfolder(&name).map(Some) } else { folder.open_subfolder(&name) } {
            Ok(Some(inner)) => return Ok(Some((inner, name.into_owned()))),
            // One of the others may be there.
            Ok(None) => {}
            Err(why) if is_name_refused(&why) => drop(refusal.get_or_insert(why)),
            Err(why) => return Err(why),
        }
    }
    refusal.filter(|_| make).map_or(Ok(None), Err)
}

impl DestinationFolder {
    /// The folder at this path below the destination.
    pub(super) const fn new(tree: Arc<DestinationTree>, relative_path: Arc<str>) -> Self {
        Self { tree, relative_path }
    }

    /// Its path below the destination, `/` between components; empty for the destination itself.
    pub(super) fn relative_path(&self) -> &str {
        &self.relative_path
    }

    /// A place by itself.
    #[cfg(test)]
    pub(super) fn alone(path: &Path, from: UserName) -> Self {
        Self { tree: Arc::new(DestinationTree::open(path.to_owned(), from).unwrap()), relative_path: "".into() }
    }

    /// Whose files go there.
    pub(super) fn owner(&self) -> &UserName {
        &self.tree.owner
    }

    /// The states of parts that were in it at the beginning.
    pub(super) fn state_files(&self) -> Arc<[String]> {
        if let Some(known) = self.tree.folder_cache().state_files.get(&self.relative_path) {
            return known.clone();
        }
        let names = self.open_existing().ok().flatten().and_then(|folder| folder.names().ok()).unwrap_or_default();
        let states: Arc<[String]> = names.into_iter().filter(|name| is_state(name)).collect();
        self.tree.folder_cache().state_files.insert(self.relative_path.clone(), states.clone());
        states
    }

    /// Its handle; the folder is made if it isn't there.
    pub(super) fn open_or_create(&self) -> Result<Arc<FolderHandle>, Error> {
        let folder = self.tree.enter(&self.relative_path, true)?;
        folder.ok_or_else(|| Error::Internal(format!("{} was made and isn't there", safe_path(self.path()))))
    }

    /// Its handle, if it is there.
    pub(super) fn open_existing(&self) -> Result<Option<Arc<FolderHandle>>, Error> {
        self.tree.enter(&self.relative_path, false)
    }

    /// It, or the nearest folder above it that is there, with its path.
    fn nearest(&self) -> Option<(Arc<FolderHandle>, PathBuf)> {
        let mut below = self.relative_path.clone();
        while !below.is_empty() {
            let place = Self { tree: self.tree.clone(), relative_path: below.clone() };
            if let Ok(Some(folder)) = place.open_existing() {
                return Some((folder, place.path()));
            }
            below = below.rsplit_once('/').map_or("", |(above, _)| above).into();
        }
        self.tree.nearest_root()
    }

    /// Looks for what keeps files from it, or it from being made, as far as that can be known beforehand.
    pub(super) fn find_obstacle(&self) -> Option<UnwritableFolder> {
        if let Some(known) = self.tree.folder_cache().obstacles.get(&self.relative_path) {
            return known.clone();
        }
        let closed = self.nearest().and_then(|(nearest, folder)| {
            let obstacle = nearest.unwritable_reason()?;
            Some(UnwritableFolder { folder, obstacle })
        });
        self.tree.folder_cache().obstacles.insert(self.relative_path.clone(), closed.clone());
        closed
    }

    /// The error of a folder that was removed meanwhile.
    pub(super) fn removed_error(&self) -> Error {
        Error::FolderUnwritable { folder: self.path(), obstacle: UnwritableReason::Removed }
    }

    /// Asks for the room on the disk there, with the folder that was looked at and its path.
    pub(super) fn free_space(&self) -> Option<(FreeSpace, Arc<FolderHandle>, PathBuf)> {
        let (nearest, path) = self.nearest()?;
        Some((nearest.free_space().ok()?, nearest, path))
    }

    /// Remembers that this fetch put the file of this name in place here.
    pub(super) fn add_placed(&self, folder: &FolderHandle, name: &str) {
        let below = self.disk_path_below_root();
        self.tree.placed_files().add(folder, &below, name);
    }

    /// Tells whether the name stands for a file that this fetch put in place, here or elsewhere.
    pub(super) fn is_placed(&self, folder: &FolderHandle, name: &str) -> bool {
        let below = self.disk_path_below_root();
        self.tree.placed_files().contains(folder, &below, name, || self.lists_name(folder, name))
    }

    /// Tells whether `folder`, its own, lists the name as it is spelled, and so does each folder above; true where that can't
    /// be told.
    pub(super) fn lists_name(&self, folder: &FolderHandle, name: &str) -> bool {
        let name = disk_name(name);
        folder.names().map_or(true, |names| names.iter().any(|listed| disk_name(listed) == name))
            && self.is_path_listed()
    }

    /// The same by the names that were there when the folder was looked at first: it isn't listed for each of its files.
    pub(super) fn listed_name_initially(&self, folder: &FolderHandle, name: &str) -> bool {
        let known = self.tree.folder_cache().names.clone().filter(|(below, _)| *below == self.relative_path);
        let names = match known {
            Some((_, names)) => names,
            None => {
                let Ok(names) = folder.names() else { return true };
                let names: Arc<HashSet<_>> = Arc::new(names.iter().map(|name| disk_name(name).into_owned()).collect());
                self.tree.folder_cache().names = Some((self.relative_path.clone(), names.clone()));
                names
            }
        };
        names.contains(&*disk_name(name)) && self.is_path_listed()
    }

    /// Tells whether its folders are listed as they are spelled here.
    fn is_path_listed(&self) -> bool {
        if self.relative_path.is_empty() {
            return true;
        }
        if let Some(known) = self.tree.folder_cache().listed.get(&self.relative_path) {
            return *known;
        }
        let above = self.relative_path.rsplit_once('/').map_or("", |(above, _)| above);
        let above = Self::new(self.tree.clone(), above.into());
        let path = self.path();
        let names = above.open_existing().ok().flatten().and_then(|folder| folder.names().ok());
        let has = |names: Vec<String>| names.iter().any(|listed| Some(&*disk_name(listed)) == path.file_name());
        let is_listed = names.is_none_or(has) && above.is_path_listed();
        self.tree.folder_cache().listed.insert(self.relative_path.clone(), is_listed);
        is_listed
    }

    /// Its path below the destination as it is on the disk.
    fn disk_path_below_root(&self) -> PathBuf {
        let path = self.path();
        path.strip_prefix(&self.tree.path).map_or_else(|_| PathBuf::from(&*self.relative_path), Path::to_owned)
    }

    /// Its path, for people.
    pub(super) fn path(&self) -> PathBuf {
        if self.relative_path.is_empty() {
            return self.tree.path.clone();
        }
        let spelled = self.tree.folder_cache().respelled_paths.get(&self.relative_path).cloned();
        // Not entered yet: as its components would be.
        let own =
            || self.relative_path.split('/').fold(self.tree.path.clone(), |path, one| path.join(&*disk_name(one)));
        spelled.unwrap_or_else(own)
    }

    /// The path of what has this name in it.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path().join(&*disk_name(name))
    }

    /// Whether it couldn't have its own name.
    pub(super) fn is_respelled(&self) -> bool {
        self.tree.folder_cache().respelled_paths.contains_key(&self.relative_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bob() -> UserName {
        "bob".parse().unwrap()
    }

    #[test]
    fn folders_that_cannot_have_their_names_get_others_and_are_found_again() {
        let home = tempfile::tempdir().unwrap();
        // No file system here holds more than 255 bytes.
        let below: Arc<str> = format!("docs/{}/sub", "x".repeat(300)).into();
        for made in [true, false] {
            let tree = DestinationTree::open(home.path().to_owned(), bob()).unwrap();
            assert!(tree.enter(&below, made).unwrap().is_some(), "made: {made}");
            let place = DestinationFolder { tree: Arc::new(tree), relative_path: below.clone() };
            assert!(place.is_respelled() && place.path().is_dir(), "{:?}", place.path());
            assert!(place.path().starts_with(home.path().join("docs")) && place.path().ends_with("sub"));
        }
    }

    #[test]
    fn looking_makes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("not/there");
        let tree = Arc::new(DestinationTree::open(root.clone(), bob()).unwrap());
        let place = DestinationFolder { tree: tree.clone(), relative_path: "a/b".into() };
        assert!(place.open_existing().unwrap().is_none());
        assert!(!home.path().join("not").exists());
        place.open_or_create().unwrap();
        assert!(root.join("a/b").is_dir());
        std::fs::File::create(home.path().join("file")).unwrap();
        assert!(matches!(DestinationTree::open(home.path().join("file"), bob()), Err(Error::Disk { .. })));
    }
}
