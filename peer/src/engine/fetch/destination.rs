//! Where a file goes: folders by handle, names that fit, and what to do where something is already.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::names::numbered;
use shared::{ContentHash, FileName};

use super::resolve::Wanted;
use super::{Destination, IfExists};
use crate::engine::Error;
use crate::sys::{Entry, Folder};

/// Names to try before giving up: `report (1).pdf`, `report (2).pdf` …
const RENAMES: u32 = 10_000;

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
    root: Place,
    name: Option<String>,
    if_exists: IfExists,
    /// Folders that were entered already, by their path below the root.
    folders: HashMap<String, Place>,
}

/// A folder by handle, with its path for people.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) folder: Arc<Folder>,
    pub(super) path: PathBuf,
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
    pub(super) fn prepare(destination: &Destination, if_exists: IfExists, wanted: &[Wanted]) -> Result<Self, Error> {
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
        let root = Place { folder: Arc::new(opened), path: folder.to_owned() };
        Ok(Self::Disk(DiskPlacement { root, name, if_exists, folders: HashMap::new() }))
    }
}

impl DiskPlacement {
    /// Bytes that may still be written at the destination, if the system tells.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        self.root.folder.free_bytes().ok()
    }

    /// The destination's path, for people.
    pub(super) fn path(&self) -> &Path {
        &self.root.path
    }

    /// Finds the spot for a file and looks at what is there.
    pub(super) fn look(&mut self, wanted: &Wanted) -> Result<Vacancy, Error> {
        let (place, name) = match &self.name {
            Some(name) => (self.root.clone(), name.clone()),
            None => self.enter(&wanted.local)?,
        };
        let path = place.path.join(&name);
        let spot = Spot { place, name, if_exists: self.if_exists };
        let entry = spot.place.folder.entry(&spot.name).map_err(Error::disk(&path))?;
        match (entry, self.if_exists) {
            (None, _) | (Some(_), IfExists::Rename) => Ok(Vacancy::Free(spot)),
            (Some(_), IfExists::Skip) => Ok(Vacancy::Skip(path)),
            (Some(Entry::File(size)), IfExists::SkipSame) => {
                let same = size == wanted.stat.size && spot.has_content(&spot.name, &wanted.stat.hash);
                let there = if same { Some(path) } else { spot.numbered_twin(wanted) };
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
        let (place, name) = self.enter(local)?;
        let path = place.path.join(&name);
        place.folder.enter(&name).map_err(Error::disk(&path)).map(|_| ())
    }

    /// The folder in which `local` lies, made if it isn't there, and the last component.
    fn enter(&mut self, local: &FileName) -> Result<(Place, String), Error> {
        let name = local.last_component().to_owned();
        let Some((folder, _)) = local.as_str().rsplit_once('/') else { return Ok((self.root.clone(), name)) };
        if let Some(place) = self.folders.get(folder) {
            return Ok((place.clone(), name));
        }
        let mut place = self.root.clone();
        for component in folder.split('/') {
            let path = place.path.join(component);
            let entered = place.folder.enter(component).map_err(Error::disk(&path))?;
            place = Place { folder: Arc::new(entered), path };
        }
        // Handles are not free: forget them all now and then.
        if self.folders.len() >= 128 {
            self.folders.clear();
        }
        self.folders.insert(folder.to_owned(), place.clone());
        Ok((place, name))
    }
}

impl Spot {
    /// The path it should have, for people.
    pub(super) fn path(&self) -> PathBuf {
        self.place.path.join(&self.name)
    }

    /// Gives the finished file `from` its name, or another where that is taken and may be; tells which.
    pub(super) fn put_in_place(&self, from: &str) -> Result<String, Error> {
        let folder = &self.place.folder;
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
                Err(why) => return Err(Error::disk(&self.place.path.join(&name))(why)),
            }
        }
        Err(Error::Exists(self.path()))
    }

    fn has_content(&self, name: &str, hash: &ContentHash) -> bool {
        let content = self.place.folder.open_existing(name).and_then(|file| hash_of(&file));
        content.is_ok_and(|content| content == *hash)
    }

    /// The same content under another name that an earlier fetch had to take.
    fn numbered_twin(&self, wanted: &Wanted) -> Option<PathBuf> {
        for number in 1..RENAMES {
            let name = numbered(&self.name, number);
            match self.place.folder.entry(&name) {
                Ok(Some(Entry::File(size))) if size == wanted.stat.size => {
                    if self.has_content(&name, &wanted.stat.hash) {
                        return Some(self.place.path.join(name));
                    }
                }
                Ok(Some(_)) => {}
                _ => return None,
            }
        }
        None
    }
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
