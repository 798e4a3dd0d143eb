//! The destination and the folders below it, by handles.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use shared::UserName;
use shared::peer::FolderTime;

use super::naming::Spelling;
use super::partial::is_state;
use crate::engine::Error;
use crate::sys::{Folder, is_name_refused};

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
            tracing::debug!("the time of {} can't be set: {why}", place.path().display());
        }
    }
}

impl Tree {
    /// Its path, for people.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The root, if it was there or was made.
    pub(super) fn existing_root(&self) -> Option<&Folder> {
        self.root.get().map(Arc::as_ref)
    }

    /// Opens the root if it is there.
    pub(super) fn find(path: PathBuf, from: UserName) -> Result<Self, Error> {
        let root = match Folder::open(&path) {
            Ok(folder) => OnceLock::from(Arc::new(folder)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => OnceLock::new(),
            Err(why) => return Err(Error::disk(&path)(why)),
        };
        Ok(Self { path, from, root, below: Mutex::default() })
    }

    /// The root, made if it isn't there.
    pub(super) fn root(&self) -> Result<Arc<Folder>, Error> {
        if let Some(root) = self.root.get() {
            return Ok(root.clone());
        }
        std::fs::create_dir_all(&self.path).map_err(Error::disk(&self.path))?;
        let root = Folder::open(&self.path).map_err(Error::disk(&self.path))?;
        Ok(self.root.get_or_init(|| Arc::new(root)).clone())
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
            let entered = enter_spelled(&folder, component, make).map_err(Error::disk(&path.join(component)))?;
            let Some((inner, spelled)) = entered else { return Ok(None) };
            is_spelled |= spelled != component;
            path.push(&spelled);
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
        folder.ok_or_else(|| Error::Internal(format!("{} was made and isn't there", self.path().display())))
    }

    /// Its handle, if it is there.
    pub(super) fn existing(&self) -> Result<Option<Arc<Folder>>, Error> {
        self.tree.enter(&self.below, false)
    }

    /// Its path, for people.
    pub(super) fn path(&self) -> PathBuf {
        if self.below.is_empty() {
            return self.tree.path.clone();
        }
        let spelled = self.tree.below().spelled.get(&self.below).cloned();
        spelled.unwrap_or_else(|| self.tree.path.join(&*self.below))
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
