//! Where a file goes: folders by handle, names that fit, and what to do where something is already.
//!
//! Looking at it makes nothing: folders come when it is decided that something goes into them.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::names::numbered;
use shared::names::stand_in::component_of;
use shared::peer::FolderTime;
use shared::{ContentHash, FileName};

use super::naming::{Claims, Spelling, twins};
use super::resolve::{Resolved, Wanted};
use super::tree::{Dated, Place, Tree};
use super::{Destination, IfExists, Request};
use crate::engine::Error;
use crate::sys::{Entry, Folder, Outlet, is_name_refused, make_executable, outlet};

/// Names to try before giving up: `report (1).pdf`, `report (2).pdf` …
const RENAMES: u32 = 10_000;

/// Where everything goes.
#[derive(Debug)]
pub(super) enum Placement {
    /// Files in and below a folder, or one file under a chosen name.
    Disk(Box<DiskPlacement>),
    /// Standard output, a pipe, a device.
    Stream,
}

#[derive(Debug)]
pub(super) struct DiskPlacement {
    tree: Arc<Tree>,
    name: Option<String>,
    if_exists: IfExists,
    claims: Claims,
    /// Names that some file systems take for earlier ones.
    twins: HashMap<FileName, u32>,
    /// Paths of folders below the destination: files of one folder share it.
    folders: HashSet<Arc<str>>,
}

/// Where one file goes.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) place: Place,
    wanted: WantedName,
    spelling: Spelling,
    /// Where its numbering begins: other files of the same fetch have what comes before.
    first: u32,
    /// Tells its partial from that of another file with the same content whose name differs only by case; 0 for the first.
    pub(super) twin: u32,
    if_exists: IfExists,
}

/// The name that a file got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Landing {
    /// Its own.
    Own(String),
    /// Another, because its own was taken or refused.
    Other(String),
    /// None: something has this name and is to be left.
    Taken(String),
}

/// The name that a file should have.
#[derive(Debug, Clone)]
enum WantedName {
    /// The last component of its path below the destination, of which there is one for all who know it.
    Last(FileName),
    /// Another one.
    Chosen(Box<str>),
}

/// What was found where a file should go.
#[derive(Debug)]
pub(super) enum Vacancy {
    /// It can go there, under that name or another.
    Free(Spot),
    /// It is there already, or something is that must stay.
    Skip(PathBuf),
}

/// Is told of bytes that were hashed, and says when to stop.
pub(super) type Hashed<'a> = &'a mut dyn FnMut(u64) -> Result<(), Error>;

impl Placement {
    /// Looks at the destination.
    pub(super) fn prepare(request: &Request, resolved: &Resolved) -> Result<Self, Error> {
        let (folder, name) = match &request.destination {
            Destination::Stream(_) | Destination::Stdout => return Ok(Self::Stream),
            Destination::FileOrFolder(path) if resolved.is_one_file => {
                if outlet(path) != Outlet::Files {
                    let why = "it is neither a file nor a folder: give another path with -o";
                    return Err(Error::disk(path)(io::Error::other(why)));
                }
                // Exactly that name, whether or not it looks like a stand-in.
                let name = path.file_name().and_then(|name| {
                    component_of(name.as_bytes())
                        .map_or_else(|| name.to_str().map(str::to_owned), |name| Some(name.into_owned()))
                });
                let name = name.ok_or_else(|| Error::Usage(format!("{} can't be a file's name", path.display())))?;
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                (parent.unwrap_or(Path::new(".")), Some(name))
            }
            Destination::Folder(path) | Destination::FileOrFolder(path) => (path.as_path(), None),
        };
        let tree = Arc::new(Tree::find(folder.to_owned(), request.from.clone())?);
        let claims = Claims::new(resolved.wanted.iter().map(|wanted| &wanted.local));
        let twins = twins(resolved.wanted.iter().map(|wanted| &wanted.local));
        let (if_exists, folders) = (request.if_exists, HashSet::new());
        let disk = DiskPlacement { tree, name, if_exists, claims, twins, folders };
        Ok(Self::Disk(Box::new(disk)))
    }
}

impl DiskPlacement {
    /// Finds the spot for a file and looks at what is there.
    pub(super) fn look(&mut self, wanted: &Wanted, hashed: Hashed<'_>) -> Result<Vacancy, Error> {
        let (place, name, claimed) = match &self.name {
            Some(name) => {
                let chosen = WantedName::Chosen(name.as_str().into());
                (self.place(""), chosen, None)
            }
            None => {
                let local = &wanted.local;
                let folder = local.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
                (self.place(folder), WantedName::Last(local.clone()), Some(local))
            }
        };
        let contested = claimed.is_some_and(|local| self.claims.is_contested(local));
        let (spelling, if_exists) = (Spelling::Own, self.if_exists);
        let twin = claimed.and_then(|local| self.twins.get(local)).copied().unwrap_or(0);
        let mut spot = Spot { place, wanted: name, spelling, first: 0, twin, if_exists };
        let folder = spot.place.existing()?;
        if let Some(folder) = &folder
            && if_exists == IfExists::SkipSame
            && let Some(path) = spot.same_content(folder, wanted, contested, hashed)?
        {
            return Ok(Vacancy::Skip(path));
        }
        spot.first = claimed.map_or(0, |local| self.claims.claim(local));
        if let Some(folder) = &folder {
            if let Some(path) = spot.look(folder)? {
                return Ok(Vacancy::Skip(path));
            }
            // It is there if an earlier fetch had to give it another name.
            if matches!(if_exists, IfExists::Skip | IfExists::Fail)
                && let Some(path) = spot.same_content(folder, wanted, contested, hashed)?
            {
                return if if_exists == IfExists::Skip { Ok(Vacancy::Skip(path)) } else { Err(Error::Exists(path)) };
            }
        }
        spot.place.closed().map_or(Ok(Vacancy::Free(spot)), |closed| Err(closed.into()))
    }

    /// Makes the destination, where it isn't there.
    pub(super) fn make(&self) -> Result<(), Error> {
        self.tree.root().map(|_| ())
    }

    /// Makes a folder with nothing in it.
    pub(super) fn make_folder(&mut self, local: &FileName) -> Result<(), Error> {
        self.place(local.as_str()).folder().map(|_| ())
    }

    /// Remembers a folder whose time is to be set, once nothing more changes in it.
    pub(super) fn dated(&mut self, time: FolderTime) -> Dated {
        Dated::new(self.place(time.name.as_str()), time)
    }

    fn place(&mut self, below: &str) -> Place {
        let known = self.folders.get(below).cloned();
        let below = known.unwrap_or_else(|| {
            let below: Arc<str> = below.into();
            self.folders.insert(below.clone());
            below
        });
        Place::new(self.tree.clone(), below)
    }
}

impl WantedName {
    fn as_str(&self) -> &str {
        match self {
            Self::Last(local) => local.last_component(),
            Self::Chosen(name) => name,
        }
    }
}

impl Spot {
    /// A file of this name in a folder by itself.
    #[cfg(test)]
    pub(super) fn alone(path: &Path, name: &str, from: shared::UserName) -> Self {
        let (place, wanted) = (Place::alone(path, from), WantedName::Chosen(name.into()));
        Self { place, wanted, spelling: Spelling::Own, first: 0, twin: 0, if_exists: IfExists::SkipSame }
    }

    /// Looks at what has its name in its folder; tells the path of what is to be left there.
    fn look(&self, folder: &Folder) -> Result<Option<PathBuf>, Error> {
        let path = self.path();
        let entry = match folder.entry(&self.name()) {
            Err(why) if is_name_refused(&why) => None,
            entry => entry.map_err(Error::disk(&path))?,
        };
        match (entry, self.if_exists) {
            (None, _) | (Some(_), IfExists::Rename | IfExists::SkipSame) => Ok(None),
            (Some(_), IfExists::Skip) => Ok(Some(path)),
            (Some(Entry::File(_)), IfExists::Overwrite) if folder.may_replace(&self.name()) => Ok(None),
            (Some(Entry::File(_)), IfExists::Overwrite) => {
                let why = "it can't be replaced: it is somebody else's, or protected with chattr; \
                           give another folder with -o, or --if-exists rename";
                Err(Error::disk(&path)(io::Error::new(io::ErrorKind::PermissionDenied, why)))
            }
            (Some(Entry::Folder | Entry::Other), IfExists::Overwrite) | (Some(_), IfExists::Fail) => {
                Err(Error::Exists(path))
            }
        }
    }

    /// The first name that it tries to get.
    pub(super) fn name(&self) -> String {
        self.numbered(self.spelling, self.first)
    }

    /// The path of that, for people.
    pub(super) fn path(&self) -> PathBuf {
        self.place.path_of(&self.name())
    }

    /// Tells whether it may take the place of a file that is there.
    pub(super) fn replaces(&self) -> bool {
        self.if_exists == IfExists::Overwrite
    }

    /// Below the destination, whatever it is spelled like.
    pub(super) fn local(&self) -> Option<FileName> {
        let name = self.numbered(Spelling::Own, self.first);
        match self.place.below() {
            "" => name.parse().ok(),
            below => format!("{below}/{name}").parse().ok(),
        }
    }

    /// Where it could go when the file system refuses the name.
    pub(super) fn respelled(&self) -> Option<Self> {
        self.spelling.next().map(|spelling| Self { spelling, ..self.clone() })
    }

    /// Gives the finished file `from` in `folder`, which is the spot's, its name, or another where that is taken and may
    /// be. `content` is its size and hash.
    pub(super) fn put_in_place(
        &self,
        folder: &Folder,
        from: &str,
        content: (u64, &ContentHash),
    ) -> Result<Landing, Error> {
        match (self.put_as_spelled(folder, from, content), self.respelled()) {
            (Err(_), _) if folder.is_removed() => Err(self.place.removed()),
            // A partial may have a name that its file can't have, such as one that ends in a space.
            (Err(Error::Disk { source, path }), Some(spot)) if is_name_refused(&source) => {
                match spot.put_in_place(folder, from, content) {
                    // All names were refused alike: the first one is what people know.
                    Err(Error::Disk { source: again, .. }) if is_name_refused(&again) => {
                        Err(Error::Disk { path, source })
                    }
                    put => put,
                }
            }
            (put, _) => put,
        }
    }

    fn put_as_spelled(&self, folder: &Folder, from: &str, content: (u64, &ContentHash)) -> Result<Landing, Error> {
        for number in self.first..RENAMES {
            let name = self.numbered(self.spelling, number);
            let mut renamed = folder.rename_new(from, &name);
            let is_taken = |renamed: &io::Result<()>| {
                renamed.as_ref().is_err_and(|why| why.kind() == io::ErrorKind::AlreadyExists)
            };
            if is_taken(&renamed) && self.gives_way(folder, &name, number, content) {
                renamed = folder.rename_over(from, &name);
            }
            if !is_taken(&renamed) {
                renamed.map_err(Error::disk(&self.place.path_of(&name)))?;
                self.place.arrivals().add(folder, &name);
                let is_own = name == self.wanted.as_str() && !self.place.is_spelled();
                return Ok(if is_own { Landing::Own(name) } else { Landing::Other(name) });
            }
            // What this fetch put there is no reason not to fetch another file.
            if self.place.arrivals().has(folder, &name) {
                continue;
            }
            match self.if_exists {
                IfExists::Skip => return Ok(Landing::Taken(name)),
                IfExists::Fail => return Err(Error::Exists(self.place.path_of(&name))),
                IfExists::SkipSame | IfExists::Rename | IfExists::Overwrite => {}
            }
        }
        Err(Error::Exists(self.path()))
    }

    /// Decides whether the file of this name is to be replaced.
    fn gives_way(&self, folder: &Folder, name: &str, number: u32, (size, hash): (u64, &ContentHash)) -> bool {
        if self.if_exists != IfExists::Overwrite || self.place.arrivals().has(folder, name) {
            return false;
        }
        // Nobody asked for another name's file to be replaced; one that an earlier fetch had to put there is the same.
        let is_same = || {
            let file =
                folder.open_existing(name).ok().filter(|_| folder.entry(name).ok() == Some(Some(Entry::File(size))));
            file.and_then(|file| hash_of(&file, &mut |_| Ok(())).ok().flatten()).is_some_and(|found| found == *hash)
        };
        number == self.first || is_same()
    }

    fn numbered(&self, spelling: Spelling, number: u32) -> String {
        let name = spelling.of(self.wanted.as_str());
        if number == 0 { name.into_owned() } else { numbered(&name, number) }
    }

    /// The same content under the name it should have, or under another that an earlier fetch had to take.
    fn same_content(
        &self,
        folder: &Folder,
        wanted: &Wanted,
        contested: bool,
        hashed: Hashed<'_>,
    ) -> Result<Option<PathBuf>, Error> {
        for spelling in Spelling::ALL {
            if spelling != Spelling::Own && spelling.of(self.wanted.as_str()) == self.wanted.as_str() {
                continue;
            }
            for number in 0..RENAMES {
                let name = self.numbered(spelling, number);
                match folder.entry(&name) {
                    Ok(Some(Entry::File(size))) => {
                        if size == wanted.stat.size && is_same(folder, &name, wanted, hashed)? {
                            return Ok(Some(self.place.path_of(&name)));
                        }
                    }
                    Ok(Some(_)) => {}
                    // Another file of the same fetch may have had to take a number, and the first one failed.
                    Ok(None) if number == 0 && contested => {}
                    _ => break,
                }
            }
        }
        Ok(None)
    }
}

/// Whether that is the content of the file `name`, which is then made executable if it is to be.
fn is_same(folder: &Folder, name: &str, wanted: &Wanted, hashed: Hashed<'_>) -> Result<bool, Error> {
    let Ok(file) = folder.open_existing(name) else { return Ok(false) };
    let is_same = hash_of(&file, hashed)?.is_some_and(|hash| hash == wanted.stat.hash);
    if is_same && wanted.stat.executable {
        // Somebody else's file stays as it is.
        let _ = make_executable(&file);
    }
    Ok(is_same)
}

/// `None` when it can't be read.
fn hash_of(mut file: &File, hashed: Hashed<'_>) -> Result<Option<ContentHash>, Error> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(ContentHash::from_bytes(*hasher.finalize().as_bytes()))),
            Ok(len) => {
                hasher.update(&buffer[..len]);
                hashed(len as u64)?;
            }
            Err(_) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_have_their_names_get_others() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::open(home.path()).unwrap();
        let spot = Spot::alone(home.path(), &("y".repeat(300) + ".pdf"), "bob".parse().unwrap());
        for number in 0..2 {
            folder.open_or_create("part").unwrap();
            let hash = ContentHash::of(&[]);
            let Landing::Other(name) = spot.put_in_place(&folder, "part", (0, &hash)).unwrap() else { panic!() };
            assert!(name.ends_with(".pdf") && home.path().join(&name).is_file(), "{name}");
            assert_eq!(name.contains(" (1)"), number == 1, "{name}");
        }
    }
}
