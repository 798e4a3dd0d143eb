//! Where a file goes: folders by handle, names that fit, and what to do where something is already.
//!
//! Looking at it makes nothing: folders come when it is decided that something goes into them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::names::numbered;
use shared::names::stand_in::component_of;
use shared::peer::FolderTime;
use shared::safe_text::safe_path;
use shared::{ContentHash, FileName};

use super::collisions::{CollisionGroup, Collisions, PartTag};
use super::naming::{Claims, Spelling};
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
    collisions: Collisions,
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
    /// Files of the same fetch that have its path on some file systems.
    collision: Option<Arc<CollisionGroup>>,
    /// What has its first name is no reason not to fetch it, and stays.
    passes_first: bool,
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

/// What was found under the first name of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    /// Nothing, or something that isn't in its way.
    Free,
    /// Something that is left, and the file isn't fetched.
    Left,
    /// Something that is of another file of this fetch or of another name: the file takes another one.
    Passed,
}

/// What has a name when a file is to get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occupant {
    /// A file that the new one replaces.
    GivesWay,
    /// Something for which the file takes another name.
    Other,
    /// Something for which the file isn't put in place at all.
    Obstacle,
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
                let name = name.ok_or_else(|| Error::Usage(format!("{} can't be a file's name", safe_path(path))))?;
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                (parent.unwrap_or(Path::new(".")), Some(name))
            }
            Destination::Folder(path) | Destination::FileOrFolder(path) => (path.as_path(), None),
        };
        let tree = Arc::new(Tree::find(folder.to_owned(), request.from.clone())?);
        let claims = Claims::new(resolved.wanted.iter().map(|wanted| &wanted.local));
        tree.recall(&request.arrived);
        let collisions = Collisions::among(&resolved.wanted);
        let (if_exists, folders) = (request.if_exists, HashSet::new());
        let disk = DiskPlacement { tree, name, if_exists, claims, collisions, folders };
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
        let collision = claimed.and_then(|local| self.collisions.of(local)).cloned();
        let contested = contested || collision.is_some();
        let mut spot = Spot { place, wanted: name, spelling, first: 0, collision, passes_first: false, if_exists };
        let folder = spot.place.existing()?;
        if let Some(folder) = &folder
            && if_exists == IfExists::SkipSame
            && let Some(path) = spot.same_content(folder, wanted, contested, hashed)?
        {
            return Ok(Vacancy::Skip(path));
        }
        spot.first = claimed.map_or(0, |local| self.claims.claim(local));
        if let Some(folder) = &folder {
            match spot.look(folder, wanted, hashed)? {
                Finding::Left => return Ok(Vacancy::Skip(spot.path())),
                Finding::Passed => spot.passes_first = true,
                Finding::Free => {}
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

    /// Tells whether other files of this fetch have that path on some file systems.
    pub(super) fn collides(&self, local: &FileName) -> bool {
        self.collisions.of(local).is_some()
    }

    /// Makes the destination, where it isn't there.
    pub(super) fn make(&self) -> Result<(), Error> {
        self.tree.root().map(|_| ())
    }

    /// Folders that have to be there before a file takes their path.
    pub(super) fn colliding_folders(&self) -> Vec<FileName> {
        self.collisions.folders().to_vec()
    }

    /// Makes a folder.
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
        let if_exists = IfExists::SkipSame;
        Self { place, wanted, spelling: Spelling::Own, first: 0, collision: None, passes_first: false, if_exists }
    }

    /// Looks at what has its first name in its folder.
    fn look(&self, folder: &Folder, wanted: &Wanted, hashed: Hashed<'_>) -> Result<Finding, Error> {
        let (name, path) = (self.name(), self.path());
        let entry = match folder.entry(&name) {
            Err(why) if is_name_refused(&why) => None,
            entry => entry.map_err(Error::disk(&path))?,
        };
        let Some(entry) = entry else { return Ok(Finding::Free) };
        if self.place.has_arrival(folder, &name) {
            return Ok(Finding::Passed);
        }
        match (self.if_exists, entry) {
            (IfExists::Rename | IfExists::SkipSame, _) => Ok(Finding::Free),
            (IfExists::Skip, _) => {
                let content = (wanted.stat.size, &wanted.stat.hash);
                let is_passed =
                    !self.place.listed(folder, &name) || self.is_of_other(folder, &name, content, hashed)?;
                Ok(if is_passed { Finding::Passed } else { Finding::Left })
            }
            (IfExists::Overwrite, Entry::File(_)) if folder.may_replace(&name) => Ok(Finding::Free),
            (IfExists::Overwrite, Entry::File(_)) => {
                let why = "it can't be replaced: it is somebody else's, or protected with chattr; \
                           give another folder with -o, or --if-exists rename";
                Err(Error::disk(&path)(io::Error::new(io::ErrorKind::PermissionDenied, why)))
            }
            // A folder of another spelling is in the way of no file of this name, but where the two are one.
            (IfExists::Overwrite, Entry::Folder) if !self.place.listed(folder, &name) => Ok(Finding::Passed),
            (IfExists::Overwrite | IfExists::Fail, _) => Err(Error::Exists(path)),
        }
    }

    /// Tells whether the file `name` has the content of another file of this fetch, which may have been put there by an
    /// earlier one.
    fn is_of_other(
        &self,
        folder: &Folder,
        name: &str,
        (size, hash): (u64, &ContentHash),
        hashed: Hashed<'_>,
    ) -> Result<bool, Error> {
        let (Some(group), WantedName::Last(local)) = (&self.collision, &self.wanted) else { return Ok(false) };
        let Ok(Some(Entry::File(there))) = folder.entry(name) else { return Ok(false) };
        if self.spelling != Spelling::Own && group.is_name_of_other(local, name) {
            return Ok(true);
        }
        let others: Vec<ContentHash> =
            group.others_named(local, hash, name).filter(|(size, _)| *size == there).map(|(_, hash)| hash).collect();
        let may_be_own = there == size;
        if others.is_empty() {
            return Ok(false);
        }
        let found = folder.open_existing(name).ok().map(|file| hash_of(&file, hashed)).transpose()?.flatten();
        Ok(found.is_some_and(|found| others.contains(&found) && !(may_be_own && found == *hash)))
    }

    /// The first name that it tries to get.
    pub(super) fn name(&self) -> String {
        self.numbered(self.spelling, self.first)
    }

    /// The path of that, for people.
    pub(super) fn path(&self) -> PathBuf {
        self.place.path_of(&self.name())
    }

    /// Tells its partial from those of other names that have the same content.
    pub(super) fn part_tag(&self, hash: &ContentHash) -> PartTag {
        match (&self.collision, &self.wanted) {
            (Some(group), WantedName::Last(local)) => group.part_tag(local, hash),
            _ => PartTag::of(self.wanted.as_str()),
        }
    }

    /// Tells whether other files of this fetch have its path on some file systems.
    pub(super) const fn collides(&self) -> bool {
        self.collision.is_some()
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
        if let Some(name) = self.earlier_name(folder, content) {
            folder.rename_over(from, &name).map_err(Error::disk(&self.place.path_of(&name)))?;
            self.place.add_arrival(folder, &name);
            return Ok(Landing::Other(name));
        }
        for number in self.first..RENAMES {
            let name = self.numbered(self.spelling, number);
            let mut renamed = folder.rename_new(from, &name);
            let is_taken = |renamed: &io::Result<()>| {
                renamed.as_ref().is_err_and(|why| why.kind() == io::ErrorKind::AlreadyExists)
            };
            let mut occupant = Occupant::Other;
            if is_taken(&renamed) {
                occupant = self.occupant(folder, &name, number, content)?;
                if occupant == Occupant::GivesWay {
                    renamed = folder.rename_over(from, &name);
                }
            }
            if !is_taken(&renamed) {
                renamed.map_err(Error::disk(&self.place.path_of(&name)))?;
                self.place.add_arrival(folder, &name);
                let is_own = name == self.wanted.as_str() && !self.place.is_spelled();
                return Ok(if is_own { Landing::Own(name) } else { Landing::Other(name) });
            }
            match (occupant, self.if_exists) {
                (Occupant::Obstacle, IfExists::Skip) => return Ok(Landing::Taken(name)),
                (Occupant::Obstacle, IfExists::Fail) => return Err(Error::Exists(self.place.path_of(&name))),
                _ => {}
            }
        }
        Err(Error::Exists(self.path()))
    }

    /// Finds the name under which an earlier fetch had to put the same content because its own is another file's here:
    /// that is to be replaced, and not that other file.
    fn earlier_name(&self, folder: &Folder, content: (u64, &ContentHash)) -> Option<String> {
        let own = self.name();
        let is_file = |name: &String| matches!(folder.entry(name), Ok(Some(Entry::File(_))));
        let group = self.collision.as_ref().filter(|_| self.if_exists == IfExists::Overwrite && is_file(&own))?;
        let is_respelled = |local: &FileName| self.spelling != Spelling::Own && group.is_name_of_other(local, &own);
        let is_others = matches!(&self.wanted, WantedName::Last(local) if is_respelled(local));
        if !is_others && self.place.lists(folder, &own) {
            return None;
        }
        let names = (self.first + 1..RENAMES).map(|number| self.numbered(self.spelling, number));
        let mut there = names.take_while(is_file);
        there.find(|name| {
            let there = folder.mark(name).map(|mark| mark.size);
            there.is_some_and(|there| is_content(folder, name, there, content)) && !self.place.has_arrival(folder, name)
        })
    }

    /// Decides what becomes of the file because something has the name of this number.
    fn occupant(
        &self,
        folder: &Folder,
        name: &str,
        number: u32,
        content: (u64, &ContentHash),
    ) -> Result<Occupant, Error> {
        let is_first = number == self.first;
        let is_passed = is_first && self.passes_first && self.spelling == Spelling::Own;
        if is_passed || self.place.has_arrival(folder, name) {
            return Ok(Occupant::Other);
        }
        let entry = folder.entry(name).ok().flatten();
        let is_own_folder =
            entry == Some(Entry::Folder) && self.collision.as_ref().is_some_and(|group| group.has_folder());
        Ok(match self.if_exists {
            _ if is_own_folder => Occupant::Other,
            IfExists::SkipSame | IfExists::Rename => Occupant::Other,
            IfExists::Overwrite => match entry {
                // Nobody asked for another name's file to be replaced; one that an earlier fetch had to put there is the same.
                Some(Entry::File(size)) if is_first || is_content(folder, name, size, content) => Occupant::GivesWay,
                _ => Occupant::Other,
            },
            // Only its own name was asked about, where that can be told from others.
            IfExists::Skip | IfExists::Fail if !is_first => Occupant::Other,
            IfExists::Skip
                if !self.place.lists(folder, name) || self.is_of_other(folder, name, content, &mut |_| Ok(()))? =>
            {
                Occupant::Other
            }
            IfExists::Skip | IfExists::Fail => Occupant::Obstacle,
        })
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

/// Tells whether the file `name`, of `there` bytes, has this size and hash.
fn is_content(folder: &Folder, name: &str, there: u64, (size, hash): (u64, &ContentHash)) -> bool {
    let read = |file: File| hash_of(&file, &mut |_| Ok(())).ok().flatten();
    there == size && folder.open_existing(name).ok().and_then(read).is_some_and(|found| found == *hash)
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
