//! Where a file goes: folders by handle, names that fit, and what to do where something is already.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use shared::names::numbered;
use shared::{ContentHash, FileName, UserName};

use super::partial::is_state;
use super::resolve::Wanted;
use super::{Destination, IfExists};
use crate::engine::Error;
use crate::sys::{Entry, Folder};

/// Names to try before giving up: `report (1).pdf`, `report (2).pdf` …
const RENAMES: u32 = 10_000;
/// Folders below the destination whose handles are kept.
const OPEN_FOLDERS: usize = 64;

/// Where everything goes.
#[derive(Debug)]
pub(super) enum Placement {
    /// Files in and below a folder, or one file under a chosen name.
    Disk(DiskPlacement),
    /// Standard output.
    Stdout,
}

#[derive(Debug)]
pub(super) struct DiskPlacement {
    tree: Arc<Tree>,
    name: Option<String>,
    if_exists: IfExists,
    /// Paths of folders below the destination: files of one folder share it.
    folders: HashSet<Arc<str>>,
}

/// The destination and what is below it, by handles: whatever becomes of the path meanwhile, nothing goes elsewhere.
#[derive(Debug)]
struct Tree {
    root: Arc<Folder>,
    path: PathBuf,
    /// Whose files go there.
    from: UserName,
    /// What was there of states of parts, by the folder's path below the root; looked at once.
    states: Mutex<HashMap<Arc<str>, Arc<[String]>>>,
    /// Handles of folders that were entered lately, by their path below the root.
    open: Mutex<HashMap<Arc<str>, Arc<Folder>>>,
}

/// A folder of the destination.
#[derive(Debug, Clone)]
pub(super) struct Place {
    tree: Arc<Tree>,
    /// Its path below the destination, `/` between components; empty for the destination itself.
    below: Arc<str>,
}

/// Where one file goes.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) place: Place,
    /// The name it should have.
    pub(super) name: String,
    pub(super) if_exists: IfExists,
}

/// What was found where a file should go.
#[derive(Debug)]
pub(super) enum Vacancy {
    /// It can go there, under that name or another.
    Free(Spot),
    /// It is there already, or something is that must stay.
    Skip(PathBuf),
}

impl Placement {
    /// Opens the destination, making folders that aren't there.
    pub(super) fn prepare(
        from: &UserName,
        destination: &Destination,
        if_exists: IfExists,
        wanted: &[Wanted],
    ) -> Result<Self, Error> {
        let (folder, name) = match destination {
            Destination::Stdout => return Ok(Self::Stdout),
            Destination::Folder(path) => (path.as_path(), None),
            Destination::FileOrFolder(path) if !is_one_file(wanted) => (path.as_path(), None),
            Destination::FileOrFolder(path) => {
                let name = path.file_name().and_then(|name| name.to_str());
                let name = name.ok_or_else(|| Error::Usage(format!("{} can't be a file's name", path.display())))?;
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                (parent.unwrap_or(Path::new(".")), Some(name.to_owned()))
            }
        };
        std::fs::create_dir_all(folder).map_err(Error::disk(folder))?;
        let opened = Folder::open(folder).map_err(Error::disk(folder))?;
        let tree = Arc::new(Tree::new(opened, folder.to_owned(), from.clone()));
        Ok(Self::Disk(DiskPlacement { tree, name, if_exists, folders: HashSet::new() }))
    }
}

impl DiskPlacement {
    /// Bytes that may still be written at the destination, if the system tells.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        self.tree.root.free_bytes().ok()
    }

    /// The destination's path, for people.
    pub(super) fn path(&self) -> &Path {
        &self.tree.path
    }

    /// Finds the spot for a file and looks at what is there.
    pub(super) fn look(&mut self, wanted: &Wanted) -> Result<Vacancy, Error> {
        let (place, name) = match self.name.clone() {
            Some(name) => (self.place(""), name),
            None => self.parent(&wanted.local),
        };
        let spot = Spot { place, name, if_exists: self.if_exists };
        let (folder, path) = (spot.place.folder()?, spot.path());
        let entry = folder.entry(&spot.name).map_err(Error::disk(&path))?;
        match (entry, self.if_exists) {
            (None, _) | (Some(_), IfExists::Rename) => Ok(Vacancy::Free(spot)),
            (Some(_), IfExists::Skip) => Ok(Vacancy::Skip(path)),
            (Some(Entry::File(size)), IfExists::SkipSame) => {
                let same = size == wanted.stat.size && has_content(&folder, &spot.name, &wanted.stat.hash);
                let there = if same { Some(path) } else { spot.numbered_twin(&folder, wanted) };
                Ok(there.map_or(Vacancy::Free(spot), Vacancy::Skip))
            }
            (Some(_), IfExists::SkipSame) | (Some(Entry::File(_)), IfExists::Overwrite) => Ok(Vacancy::Free(spot)),
            (Some(Entry::Folder | Entry::Other), IfExists::Overwrite) | (Some(_), IfExists::Fail) => {
                Err(Error::Exists(path))
            }
        }
    }

    /// Makes a folder with nothing in it.
    pub(super) fn make_folder(&mut self, local: &FileName) -> Result<(), Error> {
        self.place(local.as_str()).folder().map(|_| ())
    }

    /// The folder in which `local` lies, and the last component.
    fn parent(&mut self, local: &FileName) -> (Place, String) {
        let (folder, name) = local.as_str().rsplit_once('/').unwrap_or(("", local.as_str()));
        (self.place(folder), name.to_owned())
    }

    fn place(&mut self, below: &str) -> Place {
        let known = self.folders.get(below).cloned();
        let below = known.unwrap_or_else(|| {
            let below: Arc<str> = below.into();
            self.folders.insert(below.clone());
            below
        });
        Place { tree: self.tree.clone(), below }
    }
}

impl Tree {
    fn new(root: Folder, path: PathBuf, from: UserName) -> Self {
        Self { root: Arc::new(root), path, from, states: Mutex::default(), open: Mutex::default() }
    }

    /// Opens the folder `below`, made if it isn't there; no link is followed on the way.
    fn enter(&self, below: &Arc<str>) -> Result<Arc<Folder>, Error> {
        if below.is_empty() {
            return Ok(self.root.clone());
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = open.get(below) {
            return Ok(folder.clone());
        }
        let (mut folder, mut path) = (self.root.clone(), self.path.clone());
        for component in below.split('/') {
            path.push(component);
            folder = Arc::new(folder.enter(component).map_err(Error::disk(&path))?);
        }
        // Handles are not free: all are forgotten now and then.
        if open.len() >= OPEN_FOLDERS {
            open.clear();
        }
        open.insert(below.clone(), folder.clone());
        Ok(folder)
    }
}

impl Place {
    /// A place by itself.
    #[cfg(test)]
    pub(super) fn alone(folder: Folder, path: PathBuf, from: UserName) -> Self {
        Self { tree: Arc::new(Tree::new(folder, path, from)), below: "".into() }
    }

    /// Whose files go there.
    pub(super) fn from(&self) -> &UserName {
        &self.tree.from
    }

    /// The states of parts that were in it at the beginning.
    pub(super) fn states(&self) -> Arc<[String]> {
        let known = self.tree.states.lock().unwrap_or_else(PoisonError::into_inner).get(&self.below).cloned();
        known.unwrap_or_else(|| {
            let names = self.folder().ok().and_then(|folder| folder.names().ok()).unwrap_or_default();
            let states: Arc<[String]> = names.into_iter().filter(|name| is_state(name)).collect();
            let mut all = self.tree.states.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(self.below.clone(), states.clone());
            states
        })
    }

    /// Its handle; the folder is made if it isn't there.
    pub(super) fn folder(&self) -> Result<Arc<Folder>, Error> {
        self.tree.enter(&self.below)
    }

    /// Its path, for people.
    pub(super) fn path(&self) -> PathBuf {
        if self.below.is_empty() { self.tree.path.clone() } else { self.tree.path.join(&*self.below) }
    }
}

impl Spot {
    /// The path it should have, for people.
    pub(super) fn path(&self) -> PathBuf {
        self.place.path().join(&self.name)
    }

    /// Gives the finished file `from` in `folder`, which is the spot's, its name, or another where that is taken and may be; tells which.
    pub(super) fn put_in_place(&self, folder: &Folder, from: &str) -> Result<String, Error> {
        if self.if_exists == IfExists::Overwrite {
            folder.rename_over(from, &self.name).map_err(Error::disk(&self.path()))?;
            return Ok(self.name.clone());
        }
        for number in 0..RENAMES {
            let name = if number == 0 { self.name.clone() } else { numbered(&self.name, number) };
            match folder.rename_new(from, &name) {
                Ok(()) => return Ok(name),
                Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => {
                    if matches!(self.if_exists, IfExists::Fail | IfExists::Skip) {
                        break;
                    }
                }
                Err(why) => return Err(Error::disk(&self.place.path().join(&name))(why)),
            }
        }
        Err(Error::Exists(self.path()))
    }

    /// The same content under another name that an earlier fetch had to take.
    fn numbered_twin(&self, folder: &Folder, wanted: &Wanted) -> Option<PathBuf> {
        for number in 1..RENAMES {
            let name = numbered(&self.name, number);
            match folder.entry(&name) {
                Ok(Some(Entry::File(size))) if size == wanted.stat.size => {
                    if has_content(folder, &name, &wanted.stat.hash) {
                        return Some(self.place.path().join(name));
                    }
                }
                Ok(Some(_)) => {}
                _ => return None,
            }
        }
        None
    }
}

fn has_content(folder: &Folder, name: &str, hash: &ContentHash) -> bool {
    folder.open_existing(name).and_then(|file| hash_of(&file)).is_ok_and(|content| content == *hash)
}

/// Whether all that is wanted is one file, and not for being alone in a folder.
fn is_one_file(wanted: &[Wanted]) -> bool {
    matches!(wanted, [only] if only.local.components().count() == 1)
}

fn hash_of(mut file: &File) -> std::io::Result<ContentHash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(ContentHash::from_bytes(*hasher.finalize().as_bytes())),
            len => hasher.update(&buffer[..len]),
        };
    }
}
