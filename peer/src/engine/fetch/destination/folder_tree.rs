//! Folders of the destination, by handle.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, OnceLock};

use localization::tr;
use parking_lot::Mutex;
use shared::names::name_encoding::encode_component;
use shared::safe_text::safe_path;

use super::local_names::{NameSpelling, case_folded};
use super::placed_files::PlacedFiles;
use crate::engine::Error;
use crate::engine::fetch::PlacedFile;
use crate::engine::partial_state::is_state;
use crate::sys::{FolderHandle, FreeSpace, UnwritableReason, disk_name, is_name_refused};

/// The most folder handles kept open below the destination.
const MAX_OPEN_FOLDERS: usize = 64;

/// The destination and its folders, by handle: whatever becomes of the path meanwhile, nothing is written elsewhere.
#[derive(Debug)]
pub(super) struct DestinationTree {
    path: PathBuf,
    /// Empty until the destination exists.
    root: OnceLock<Arc<FolderHandle>>,
    folder_cache: Mutex<FolderCache>,
    placed_files: Mutex<PlacedFiles>,
}

/// A cache of facts about folders below the root, by path.
#[derive(Debug, Default)]
struct FolderCache {
    /// Handles of recently entered folders.
    open: HashMap<Arc<str>, Arc<FolderHandle>>,
    /// Paths on disk of folders whose own names were refused.
    respelled_paths: HashMap<Arc<str>, PathBuf>,
    /// Names of state files at the first look.
    state_files: HashMap<Arc<str>, Arc<[String]>>,
    /// Results of the first look for obstacles; `None`: files can be placed.
    obstacles: HashMap<Arc<str>, Option<UnwritableFolder>>,
    /// Results of the first check that a folder is listed in this spelling.
    listed: HashMap<Arc<str>, bool>,
    /// The entry names of the folder looked at last.
    names: Option<(Arc<str>, Arc<HashSet<OsString>>)>,
}

/// A folder that takes no files, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnwritableFolder {
    pub(super) folder: PathBuf,
    pub(super) obstacle: UnwritableReason,
}

/// A folder at or below the destination, which need not exist yet.
#[derive(Debug, Clone)]
pub(in crate::engine::fetch) struct DestinationFolder {
    tree: Arc<DestinationTree>,
    /// Its path below the destination, with `/` between components; empty for the destination itself.
    relative_path: Arc<str>,
}

impl From<UnwritableFolder> for Error {
    fn from(UnwritableFolder { folder, obstacle }: UnwritableFolder) -> Self {
        Self::FolderUnwritable { folder, obstacle }
    }
}

impl DestinationTree {
    /// Returns the root, or the nearest existing folder above it, with its path.
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

    /// Records the files that an earlier attempt placed, as far as they still exist.
    pub(super) fn restore_placed(&self, arrived: &[PlacedFile]) {
        for PlacedFile { path, size } in arrived {
            // The list comes from a saved request: a path that leads elsewhere doesn't count.
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
                self.placed_files.lock().add(&folder, below, &name);
            }
        }
    }

    /// Opens the root if it exists.
    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        let root = match FolderHandle::open(&path) {
            Ok(folder) => OnceLock::from(Arc::new(folder)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => OnceLock::new(),
            Err(why) => return Err(Error::disk(&path)(why)),
        };
        Ok(Self { path, root, folder_cache: Mutex::default(), placed_files: Mutex::default() })
    }

    /// Opens the root; makes it if it doesn't exist.
    pub(super) fn create_root(&self) -> Result<Arc<FolderHandle>, Error> {
        if let Some(root) = self.root.get() {
            return Ok(root.clone());
        }
        // By path: links in it are the user's own. Below the root none is followed.
        std::fs::create_dir_all(&self.path).map_err(|why| self.creation_error(why))?;
        let root = FolderHandle::open(&self.path).map_err(Error::disk(&self.path))?;
        // Another thread may have been first, and all must use one handle.
        Ok(self.root.get_or_init(|| Arc::new(root)).clone())
    }

    /// Builds the error of a root that can't be made; it names the component that the file system refuses.
    fn creation_error(&self, why: io::Error) -> Error {
        let is_odd = |component: &OsStr| component.to_str().is_some_and(|name| NameSpelling::Plain.spell(name) != name);
        let missing = self.path.ancestors().take_while(|path| !path.is_dir()).last();
        let refused = missing.and_then(Path::file_name).filter(|name| is_name_refused(&why) && is_odd(name));
        match refused {
            Some(name) => {
                let name = safe_path(name);
                let why = tr!("this file system can't hold the name {name}: give another folder with -o", name);
                Error::disk(&self.path)(io::Error::other(why))
            }
            None => Error::disk(&self.path)(why),
        }
    }

    /// Opens the folder `below`; if `make` is set, makes it if it doesn't exist. No link is followed on the way.
    fn enter(&self, below: &Arc<str>, make: bool) -> Result<Option<Arc<FolderHandle>>, Error> {
        let root = if make { Some(self.create_root()?) } else { self.root.get().cloned() };
        let Some(mut folder) = root.filter(|_| !below.is_empty()) else {
            return Ok(self.root.get().cloned());
        };
        // Held over the walk, so that two threads don't make the same folders side by side.
        let mut known = self.folder_cache.lock();
        if let Some(folder) = known.open.get(below) {
            return Ok(Some(folder.clone()));
        }
        let mut path = self.path.clone();
        let mut is_spelled = false;
        for component in below.split('/') {
            let entered = enter_respelled(&folder, component, make).map_err(|why| match folder.is_removed() {
                true => UnwritableFolder { folder: path.clone(), obstacle: UnwritableReason::Removed }.into(),
                false if why.kind() == io::ErrorKind::NotADirectory => {
                    Error::InTheWay(path.join(&*disk_name(&listed_name(&folder, component))))
                }
                false => Error::disk(&path.join(component))(why),
            })?;
            let Some((inner, spelled)) = entered else { return Ok(None) };
            is_spelled |= spelled != component;
            path.push(&*disk_name(&spelled));
            folder = Arc::new(inner);
        }
        // Descriptors are scarce, and clearing all handles is simpler than tracking their use.
        if known.open.len() >= MAX_OPEN_FOLDERS {
            known.open.clear();
        }
        known.open.insert(below.clone(), folder.clone());
        if is_spelled {
            known.respelled_paths.insert(below.clone(), path);
        }
        Ok(Some(folder))
    }
}

/// Enters the folder of this name, or of a respelling if the file system refuses the name; returns the name used.
fn enter_respelled(folder: &FolderHandle, component: &str, make: bool) -> io::Result<Option<(FolderHandle, String)>> {
    let mut refusal = None;
    for spelling in NameSpelling::ALL {
        let name = spelling.spell(component);
        // Nothing to respell: this name was tried already.
        if spelling != NameSpelling::Own && name == component {
            continue;
        }
        match if make { folder.open_or_create_subfolder(&name).map(Some) } else { folder.open_subfolder(&name) } {
            Ok(Some(inner)) => return Ok(Some((inner, name.into_owned()))),
            // An earlier fetch may have made it in another spelling.
            Ok(None) => {}
            Err(why) if is_name_refused(&why) => drop(refusal.get_or_insert(why)),
            Err(why) => return Err(why),
        }
    }
    // Without `make`, a refused name only means that the folder doesn't exist.
    refusal.filter(|_| make).map_or(Ok(None), Err)
}

/// Returns the name of what is found by `component`, as the folder lists it: its case may be another.
fn listed_name<'a>(folder: &FolderHandle, component: &'a str) -> Cow<'a, str> {
    let names = folder.names().unwrap_or_default();
    let alike = || names.iter().find(|name| case_folded(name) == case_folded(component));
    match names.iter().find(|name| *name == component).or_else(alike) {
        Some(name) => Cow::Owned(name.clone()),
        None => Cow::Borrowed(component),
    }
}

impl DestinationFolder {
    /// Builds the folder at this path below the destination.
    pub(super) const fn new(tree: Arc<DestinationTree>, relative_path: Arc<str>) -> Self {
        Self { tree, relative_path }
    }

    /// Returns its path below the destination, with `/` between components; empty for the destination itself.
    pub(in crate::engine::fetch) fn relative_path(&self) -> &str {
        &self.relative_path
    }

    /// Builds a folder without a tree around it.
    #[cfg(test)]
    pub(super) fn alone(path: &Path) -> Self {
        Self { tree: Arc::new(DestinationTree::open(path.to_owned()).unwrap()), relative_path: "".into() }
    }

    /// Returns the state files that were in it at the first look.
    pub(in crate::engine::fetch) fn state_files(&self) -> Arc<[String]> {
        if let Some(known) = self.tree.folder_cache.lock().state_files.get(&self.relative_path) {
            return known.clone();
        }
        // Read without the lock: two threads that list the folder twice lose time only.
        let names = self.open_existing().ok().flatten().and_then(|folder| folder.names().ok()).unwrap_or_default();
        let states: Arc<[String]> = names.into_iter().filter(|name| is_state(name)).collect();
        self.tree.folder_cache.lock().state_files.insert(self.relative_path.clone(), states.clone());
        states
    }

    /// Returns its handle; makes the folder if it doesn't exist.
    pub(in crate::engine::fetch) fn open_or_create(&self) -> Result<Arc<FolderHandle>, Error> {
        let folder = self.tree.enter(&self.relative_path, true)?;
        folder.ok_or_else(|| Error::Internal(format!("{} was made and isn't there", safe_path(self.path()))))
    }

    /// Returns its handle, if the folder exists.
    pub(in crate::engine::fetch) fn open_existing(&self) -> Result<Option<Arc<FolderHandle>>, Error> {
        self.tree.enter(&self.relative_path, false)
    }

    /// Returns the folder, or the nearest existing one above it, with its path.
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

    /// Finds the reason why files can't be placed in it, or why it can't be made, as far as that is known beforehand.
    pub(super) fn find_obstacle(&self) -> Option<UnwritableFolder> {
        if let Some(known) = self.tree.folder_cache.lock().obstacles.get(&self.relative_path) {
            return known.clone();
        }
        let closed = self.nearest().and_then(|(nearest, folder)| {
            let obstacle = nearest.unwritable_reason()?;
            Some(UnwritableFolder { folder, obstacle })
        });
        self.tree.folder_cache.lock().obstacles.insert(self.relative_path.clone(), closed.clone());
        closed
    }

    /// Builds the error of a folder that was removed during the fetch.
    pub(in crate::engine::fetch) fn removed_error(&self) -> Error {
        Error::FolderUnwritable { folder: self.path(), obstacle: UnwritableReason::Removed }
    }

    /// Returns the free space of its disk, with the existing folder that was asked and its path.
    pub(in crate::engine::fetch) fn free_space(&self) -> Option<(FreeSpace, Arc<FolderHandle>, PathBuf)> {
        let (nearest, path) = self.nearest()?;
        Some((nearest.free_space().ok()?, nearest, path))
    }

    /// Records that this fetch placed the file of this name here.
    pub(super) fn add_placed(&self, folder: &FolderHandle, name: &str) {
        let below = self.disk_path_below_root();
        self.tree.placed_files.lock().add(folder, &below, name);
    }

    /// True if the name leads to a file that this fetch placed, here or elsewhere.
    pub(super) fn is_placed(&self, folder: &FolderHandle, name: &str) -> bool {
        let below = self.disk_path_below_root();
        self.tree.placed_files.lock().contains(folder, &below, name, || self.lists_name(folder, name))
    }

    /// True if `folder`, its own handle, lists the name in this spelling,
    /// and so do all folders above; true if that is unknown.
    pub(super) fn lists_name(&self, folder: &FolderHandle, name: &str) -> bool {
        let name = disk_name(name);
        folder.names().map_or(true, |names| names.iter().any(|listed| disk_name(listed) == name))
            && self.is_path_listed()
    }

    /// Same as [`Self::lists_name`] by the entries at the first look:
    /// the folder isn't listed again for each of its files.
    pub(super) fn listed_name_initially(&self, folder: &FolderHandle, name: &str) -> bool {
        let known = self.tree.folder_cache.lock().names.clone().filter(|(below, _)| *below == self.relative_path);
        let names = match known {
            Some((_, names)) => names,
            None => {
                let Ok(names) = folder.names() else { return true };
                let names: Arc<HashSet<_>> = Arc::new(names.iter().map(|name| disk_name(name).into_owned()).collect());
                self.tree.folder_cache.lock().names = Some((self.relative_path.clone(), names.clone()));
                names
            }
        };
        names.contains(&*disk_name(name)) && self.is_path_listed()
    }

    /// True if the folder and those above are listed in the spelling used here.
    fn is_path_listed(&self) -> bool {
        if self.relative_path.is_empty() {
            return true;
        }
        if let Some(known) = self.tree.folder_cache.lock().listed.get(&self.relative_path) {
            return *known;
        }
        // The cache isn't locked meanwhile: reading a folder may take long, and the one above asks for it as well.
        let above = self.relative_path.rsplit_once('/').map_or("", |(above, _)| above);
        let above = Self::new(self.tree.clone(), above.into());
        let path = self.path();
        let names = above.open_existing().ok().flatten().and_then(|folder| folder.names().ok());
        let has = |names: Vec<String>| names.iter().any(|listed| Some(&*disk_name(listed)) == path.file_name());
        let is_listed = names.is_none_or(has) && above.is_path_listed();
        self.tree.folder_cache.lock().listed.insert(self.relative_path.clone(), is_listed);
        is_listed
    }

    /// Returns its path below the destination as it is spelled on disk.
    fn disk_path_below_root(&self) -> PathBuf {
        let path = self.path();
        path.strip_prefix(&self.tree.path).map_or_else(|_| PathBuf::from(&*self.relative_path), Path::to_owned)
    }

    /// Returns its path, for display.
    pub(in crate::engine::fetch) fn path(&self) -> PathBuf {
        if self.relative_path.is_empty() {
            return self.tree.path.clone();
        }
        let spelled = self.tree.folder_cache.lock().respelled_paths.get(&self.relative_path).cloned();
        // Not entered yet: assume that no component is respelled.
        let own =
            || self.relative_path.split('/').fold(self.tree.path.clone(), |path, one| path.join(&*disk_name(one)));
        spelled.unwrap_or_else(own)
    }

    /// Returns the path of the entry `name` in it.
    pub(in crate::engine::fetch) fn path_of(&self, name: &str) -> PathBuf {
        self.path().join(&*disk_name(name))
    }

    /// True if a component of its path is respelled.
    pub(super) fn is_respelled(&self) -> bool {
        self.tree.folder_cache.lock().respelled_paths.contains_key(&self.relative_path)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn folders_that_cannot_have_their_names_get_others_and_are_found_again() {
        let home = tempfile::tempdir().unwrap();
        // No file system here holds more than 255 bytes.
        let below: Arc<str> = format!("docs/{}/sub", "x".repeat(300)).into();
        for made in [true, false] {
            let tree = DestinationTree::open(home.path().to_owned()).unwrap();
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
        let tree = Arc::new(DestinationTree::open(root.clone()).unwrap());
        let place = DestinationFolder { tree: tree.clone(), relative_path: "a/b".into() };
        assert!(place.open_existing().unwrap().is_none());
        assert!(!home.path().join("not").exists());
        place.open_or_create().unwrap();
        assert!(root.join("a/b").is_dir());
        fs::File::create(home.path().join("file")).unwrap();
        assert!(matches!(DestinationTree::open(home.path().join("file")), Err(Error::Disk { .. })));
    }
}
