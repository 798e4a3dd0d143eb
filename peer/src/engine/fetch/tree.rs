//! The destination and the folders below it, by handles.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use shared::UserName;
use shared::names::stand_in::component_of;
use shared::peer::FolderTime;
use shared::safe_text::safe_path;

use super::ArrivedFile;
use super::arrivals::Arrivals;
use super::naming::{Spelling, folded};
use super::partial::is_state;
use crate::engine::Error;
use crate::sys::{Folder, FolderObstacle, FreeRoom, is_name_refused, on_disk};

/// Folders below the destination whose handles are kept.
const OPEN_FOLDERS: usize = 64;

/// The destination and what is below it, by handles: whatever becomes of the path meanwhile, nothing goes elsewhere.
#[derive(Debug)]
pub(super) struct Tree {
    path: PathBuf,
    /// Whose files go there.
    from: UserName,
    /// Not before it is there.
    root: OnceLock<Arc<Folder>>,
    below: Mutex<Below>,
    arrivals: Mutex<Arrivals>,
}

/// What is known of the folders below the root, by their path.
#[derive(Debug, Default)]
struct Below {
    /// Handles of those that were entered lately.
    open: HashMap<Arc<str>, Arc<Folder>>,
    /// Where those are that couldn't have their own names.
    spelled: HashMap<Arc<str>, PathBuf>,
    /// What was there of states of parts; looked at once.
    states: HashMap<Arc<str>, Arc<[String]>>,
    /// Reasons for which they take no files; looked at once.
    obstacles: HashMap<Arc<str>, Option<Closed>>,
    /// Whether they are listed as they are spelled here; looked at once.
    listed: HashMap<Arc<str>, bool>,
    /// The names in the folder that was looked at last, as they were then.
    names: Option<(Arc<str>, Arc<HashSet<OsString>>)>,
}

/// A folder that takes no files, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) folder: PathBuf,
    pub(super) obstacle: FolderObstacle,
}

/// A folder of the destination.
#[derive(Debug, Clone)]
pub(super) struct Place {
    tree: Arc<Tree>,
    /// Its path below the destination, `/` between components; empty for the destination itself.
    below: Arc<str>,
}

/// A folder of the destination and when it was last modified at its source.
#[derive(Debug)]
pub(super) struct Dated {
    place: Place,
    time: FolderTime,
}

impl From<Closed> for Error {
    fn from(Closed { folder, obstacle }: Closed) -> Self {
        Self::Closed { folder, obstacle }
    }
}

impl Dated {
    /// `place` is to get this time.
    pub(super) const fn new(place: Place, time: FolderTime) -> Self {
        Self { place, time }
    }

    /// Sets its time, if it is there; nothing depends on that.
    pub(super) fn set(self) {
        let Self { place, time } = self;
        let set = |folder: Arc<Folder>| folder.set_modified(time.mtime, time.mtime_ns.min(999_999_999));
        if let Ok(Some(Err(why))) = place.existing().map(|folder| folder.map(set)) {
            tracing::debug!("the time of {} can't be set: {why}", safe_path(place.path()));
        }
    }
}

impl Tree {
    /// The files that this fetch put in place.
    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The root, or the nearest folder above it that is there, with its path.
    fn nearest_root(&self) -> Option<(Arc<Folder>, PathBuf)> {
        if let Some(root) = self.root.get() {
            return Some((root.clone(), self.path.clone()));
        }
        let nearest = self.path.ancestors().skip(1).find_map(|above| {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            Folder::open(above).ok().map(|folder| (Arc::new(folder), above.to_owned()))
        });
        // A path of one component has the current folder above it.
        nearest.or_else(|| Folder::open(Path::new(".")).ok().map(|folder| (Arc::new(folder), PathBuf::from("."))))
    }

    /// Remembers files that an earlier attempt put in place, as far as they are still there.
    pub(super) fn recall(&self, arrived: &[ArrivedFile]) {
        for ArrivedFile { path, size } in arrived {
            let is_below = path.components().all(|component| matches!(component, Component::Normal(_)));
            let (Some(below), Some(name)) =
                (path.parent(), path.file_name().and_then(|name| component_of(name.as_bytes())))
            else {
                continue;
            };
            if let Ok(folder) = Folder::open(&self.path.join(below))
                && is_below
                && folder.mark(&name).is_some_and(|mark| mark.size == *size)
            {
                self.arrivals().add(&folder, below, &name);
            }
        }
    }

    /// Opens the root if it is there.
    pub(super) fn find(path: PathBuf, from: UserName) -> Result<Self, Error> {
        let root = match Folder::open(&path) {
            Ok(folder) => OnceLock::from(Arc::new(folder)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => OnceLock::new(),
            Err(why) => return Err(Error::disk(&path)(why)),
        };
        Ok(Self { path, from, root, below: Mutex::default(), arrivals: Mutex::default() })
    }

    /// The root, made if it isn't there.
    pub(super) fn root(&self) -> Result<Arc<Folder>, Error> {
        if let Some(root) = self.root.get() {
            return Ok(root.clone());
        }
        std::fs::create_dir_all(&self.path).map_err(|why| self.not_made(why))?;
        let root = Folder::open(&self.path).map_err(Error::disk(&self.path))?;
        Ok(self.root.get_or_init(|| Arc::new(root)).clone())
    }

    /// The error of a root that can't be made; names the component that the file system refuses.
    fn not_made(&self, why: io::Error) -> Error {
        let is_odd = |component: &OsStr| component.to_str().is_some_and(|name| Spelling::Plain.of(name) != name);
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
    fn enter(&self, below: &Arc<str>, make: bool) -> Result<Option<Arc<Folder>>, Error> {
        let root = if make { Some(self.root()?) } else { self.root.get().cloned() };
        let Some(mut folder) = root.filter(|_| !below.is_empty()) else {
            return Ok(self.root.get().cloned());
        };
        let mut known = self.below();
        if let Some(folder) = known.open.get(below) {
            return Ok(Some(folder.clone()));
        }
        let mut path = self.path.clone();
        let mut is_spelled = false;
        for component in below.split('/') {
            let entered = enter_spelled(&folder, component, make).map_err(|why| match folder.is_removed() {
                true => Closed { folder: path.clone(), obstacle: FolderObstacle::Removed }.into(),
                false if why.kind() == io::ErrorKind::NotADirectory => {
                    Error::InTheWay(path.join(&*on_disk(&listed_name(&folder, component))))
                }
                false => Error::disk(&path.join(component))(why),
            })?;
            let Some((inner, spelled)) = entered else { return Ok(None) };
            is_spelled |= spelled != component;
            path.push(&*on_disk(&spelled));
            folder = Arc::new(inner);
        }
        // Handles are not free: all are forgotten now and then.
        if known.open.len() >= OPEN_FOLDERS {
            known.open.clear();
        }
        known.open.insert(below.clone(), folder.clone());
        if is_spelled {
            known.spelled.insert(below.clone(), path);
        }
        Ok(Some(folder))
    }

    fn below(&self) -> MutexGuard<'_, Below> {
        self.below.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Enters the folder of this name, or of one that stands for it where the file system refuses it; tells which.
fn enter_spelled(folder: &Folder, component: &str, make: bool) -> io::Result<Option<(Folder, String)>> {
    let mut refusal = None;
    for spelling in Spelling::ALL {
        let name = spelling.of(component);
        if spelling != Spelling::Own && name == component {
            continue;
        }
        match if make { folder.enter(&name).map(Some) } else { folder.find(&name) } {
            Ok(Some(inner)) => return Ok(Some((inner, name.into_owned()))),
            // One of the others may be there.
            Ok(None) => {}
            Err(why) if is_name_refused(&why) => drop(refusal.get_or_insert(why)),
            Err(why) => return Err(why),
        }
    }
    refusal.filter(|_| make).map_or(Ok(None), Err)
}

/// Returns the name of what is found by `component`, as the folder lists it: its case may be another.
fn listed_name<'a>(folder: &Folder, component: &'a str) -> Cow<'a, str> {
    let names = folder.names().unwrap_or_default();
    let alike = || names.iter().find(|name| folded(name) == folded(component));
    match names.iter().find(|name| *name == component).or_else(alike) {
        Some(name) => Cow::Owned(name.clone()),
        None => Cow::Borrowed(component),
    }
}

impl Place {
    /// The folder at this path below the destination.
    pub(super) const fn new(tree: Arc<Tree>, below: Arc<str>) -> Self {
        Self { tree, below }
    }

    /// Its path below the destination, `/` between components; empty for the destination itself.
    pub(super) fn below(&self) -> &str {
        &self.below
    }

    /// A place by itself.
    #[cfg(test)]
    pub(super) fn alone(path: &Path, from: UserName) -> Self {
        Self { tree: Arc::new(Tree::find(path.to_owned(), from).unwrap()), below: "".into() }
    }

    /// Whose files go there.
    pub(super) fn from(&self) -> &UserName {
        &self.tree.from
    }

    /// The states of parts that were in it at the beginning.
    pub(super) fn states(&self) -> Arc<[String]> {
        if let Some(known) = self.tree.below().states.get(&self.below) {
            return known.clone();
        }
        let names = self.existing().ok().flatten().and_then(|folder| folder.names().ok()).unwrap_or_default();
        let states: Arc<[String]> = names.into_iter().filter(|name| is_state(name)).collect();
        self.tree.below().states.insert(self.below.clone(), states.clone());
        states
    }

    /// Its handle; the folder is made if it isn't there.
    pub(super) fn folder(&self) -> Result<Arc<Folder>, Error> {
        let folder = self.tree.enter(&self.below, true)?;
        folder.ok_or_else(|| Error::Internal(format!("{} was made and isn't there", safe_path(self.path()))))
    }

    /// Its handle, if it is there.
    pub(super) fn existing(&self) -> Result<Option<Arc<Folder>>, Error> {
        self.tree.enter(&self.below, false)
    }

    /// It, or the nearest folder above it that is there, with its path.
    fn nearest(&self) -> Option<(Arc<Folder>, PathBuf)> {
        let mut below = self.below.clone();
        while !below.is_empty() {
            let place = Self { tree: self.tree.clone(), below: below.clone() };
            if let Ok(Some(folder)) = place.existing() {
                return Some((folder, place.path()));
            }
            below = below.rsplit_once('/').map_or("", |(above, _)| above).into();
        }
        self.tree.nearest_root()
    }

    /// Looks for what keeps files from it, or it from being made, as far as that can be known beforehand.
    pub(super) fn closed(&self) -> Option<Closed> {
        if let Some(known) = self.tree.below().obstacles.get(&self.below) {
            return known.clone();
        }
        let closed = self.nearest().and_then(|(nearest, folder)| {
            let obstacle = nearest.obstacle()?;
            Some(Closed { folder, obstacle })
        });
        self.tree.below().obstacles.insert(self.below.clone(), closed.clone());
        closed
    }

    /// The error of a folder that was removed meanwhile.
    pub(super) fn removed(&self) -> Error {
        Error::Closed { folder: self.path(), obstacle: FolderObstacle::Removed }
    }

    /// Asks for the room on the disk there, with the folder that was looked at and its path.
    pub(super) fn free_room(&self) -> Option<(FreeRoom, Arc<Folder>, PathBuf)> {
        let (nearest, path) = self.nearest()?;
        Some((nearest.free_room().ok()?, nearest, path))
    }

    /// Remembers that this fetch put the file of this name in place here.
    pub(super) fn add_arrival(&self, folder: &Folder, name: &str) {
        let below = self.below_root();
        self.tree.arrivals().add(folder, &below, name);
    }

    /// Tells whether the name stands for a file that this fetch put in place, here or elsewhere.
    pub(super) fn has_arrival(&self, folder: &Folder, name: &str) -> bool {
        let below = self.below_root();
        self.tree.arrivals().has(folder, &below, name, || self.lists(folder, name))
    }

    /// Tells whether `folder`, its own, lists the name as it is spelled, and so does each folder above; true where that can't
    /// be told.
    pub(super) fn lists(&self, folder: &Folder, name: &str) -> bool {
        let name = on_disk(name);
        folder.names().map_or(true, |names| names.iter().any(|listed| on_disk(listed) == name)) && self.is_listed()
    }

    /// The same by the names that were there when the folder was looked at first: it isn't listed for each of its files.
    pub(super) fn listed(&self, folder: &Folder, name: &str) -> bool {
        let known = self.tree.below().names.clone().filter(|(below, _)| *below == self.below);
        let names = match known {
            Some((_, names)) => names,
            None => {
                let Ok(names) = folder.names() else { return true };
                let names: Arc<HashSet<_>> = Arc::new(names.iter().map(|name| on_disk(name).into_owned()).collect());
                self.tree.below().names = Some((self.below.clone(), names.clone()));
                names
            }
        };
        names.contains(&*on_disk(name)) && self.is_listed()
    }

    /// Tells whether its folders are listed as they are spelled here.
    fn is_listed(&self) -> bool {
        if self.below.is_empty() {
            return true;
        }
        if let Some(known) = self.tree.below().listed.get(&self.below) {
            return *known;
        }
        let above = self.below.rsplit_once('/').map_or("", |(above, _)| above);
        let above = Self::new(self.tree.clone(), above.into());
        let path = self.path();
        let names = above.existing().ok().flatten().and_then(|folder| folder.names().ok());
        let has = |names: Vec<String>| names.iter().any(|listed| Some(&*on_disk(listed)) == path.file_name());
        let is_listed = names.is_none_or(has) && above.is_listed();
        self.tree.below().listed.insert(self.below.clone(), is_listed);
        is_listed
    }

    /// Its path below the destination as it is on the disk.
    fn below_root(&self) -> PathBuf {
        let path = self.path();
        path.strip_prefix(&self.tree.path).map_or_else(|_| PathBuf::from(&*self.below), Path::to_owned)
    }

    /// Its path, for people.
    pub(super) fn path(&self) -> PathBuf {
        if self.below.is_empty() {
            return self.tree.path.clone();
        }
        let spelled = self.tree.below().spelled.get(&self.below).cloned();
        // Not entered yet: as its components would be.
        let own = || self.below.split('/').fold(self.tree.path.clone(), |path, one| path.join(&*on_disk(one)));
        spelled.unwrap_or_else(own)
    }

    /// The path of what has this name in it.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path().join(&*on_disk(name))
    }

    /// Whether it couldn't have its own name.
    pub(super) fn is_spelled(&self) -> bool {
        self.tree.below().spelled.contains_key(&self.below)
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
            let tree = Tree::find(home.path().to_owned(), bob()).unwrap();
            assert!(tree.enter(&below, made).unwrap().is_some(), "made: {made}");
            let place = Place { tree: Arc::new(tree), below: below.clone() };
            assert!(place.is_spelled() && place.path().is_dir(), "{:?}", place.path());
            assert!(place.path().starts_with(home.path().join("docs")) && place.path().ends_with("sub"));
        }
    }

    #[test]
    fn looking_makes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("not/there");
        let tree = Arc::new(Tree::find(root.clone(), bob()).unwrap());
        let place = Place { tree: tree.clone(), below: "a/b".into() };
        assert!(place.existing().unwrap().is_none());
        assert!(!home.path().join("not").exists());
        place.folder().unwrap();
        assert!(root.join("a/b").is_dir());
        std::fs::File::create(home.path().join("file")).unwrap();
        assert!(matches!(Tree::find(home.path().join("file"), bob()), Err(Error::Disk { .. })));
    }
}
