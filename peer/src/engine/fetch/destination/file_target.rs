//! Target of one file: the folder by handle, a name that fits, and the rule for names that exist.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use localization::tr;
use shared::names::numbered_component;
use shared::{ContentHash, FileName, UserName};

use super::content_comparison::{RehashCallback, hash_of, is_content, is_same};
use super::folder_tree::DestinationFolder;
use super::local_names::{CollisionGroup, NameSpelling, PartialTag};
use crate::engine::Error;
use crate::engine::fetch::name_resolution::ResolvedFile;
use crate::engine::fetch::{FileOutcome, IfExists};
use crate::sys::{EntryKind, FolderHandle, is_name_refused};

/// The most numbered names tried for a file: `report (1).pdf`, `report (2).pdf` …
const MAX_NUMBERED_NAMES: u32 = 10_000;

/// The target of one file: a folder and candidate names.
#[derive(Debug, Clone)]
pub(in crate::engine::fetch) struct FileTarget {
    pub(in crate::engine::fetch) folder: DestinationFolder,
    /// The owner of the file's name, recorded in its partial file.
    owner: UserName,
    preferred_name: PreferredName,
    spelling: NameSpelling,
    /// The first number to try; other files of the fetch have the lower ones.
    pub(super) first_number: u32,
    /// The files of the fetch that have the same path on some file systems.
    collision: Option<Arc<CollisionGroup>>,
    /// The existing file of the first name stays, and this file takes another name.
    pub(super) skips_first_name: bool,
    if_exists: IfExists,
}

/// The name that a file should get.
#[derive(Debug, Clone)]
pub(super) enum PreferredName {
    /// The last component of its path below the destination; the path is stored once and shared.
    LastComponent(FileName),
    /// A name that the user chose.
    Chosen(Box<str>),
}

/// The decision about the first name of a file during planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameAvailability {
    /// Nothing has the name, or the entry is dealt with when the file is placed.
    Free,
    /// Something has the name and stays; the file isn't fetched.
    Keep,
    /// A file of this fetch, or one of another name, has it; the file takes another name.
    UseAnother,
}

/// The decision about an existing name when the finished file is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConflictResolution {
    /// Replace the existing file.
    Replace,
    /// Leave what exists and try another name.
    UseAnother,
    /// Leave what exists and don't place the file.
    Refuse,
}

impl PreferredName {
    fn as_str(&self) -> &str {
        match self {
            Self::LastComponent(local) => local.last_component(),
            Self::Chosen(name) => name,
        }
    }
}

impl FileTarget {
    /// Builds the target of a file with its own name, until something else is found to have that.
    pub(super) const fn new(
        folder: DestinationFolder,
        owner: UserName,
        preferred_name: PreferredName,
        collision: Option<Arc<CollisionGroup>>,
        if_exists: IfExists,
    ) -> Self {
        let (spelling, first_number, skips_first_name) = (NameSpelling::Own, 0, false);
        Self { folder, owner, preferred_name, spelling, first_number, collision, skips_first_name, if_exists }
    }

    /// Builds the target of a file of this name in a folder by itself.
    #[cfg(test)]
    pub(in crate::engine::fetch) fn alone(path: &std::path::Path, name: &str, owner: UserName) -> Self {
        let (folder, name) = (DestinationFolder::alone(path), PreferredName::Chosen(name.into()));
        Self::new(folder, owner, name, None, IfExists::SkipSame)
    }

    /// Returns the owner of the file's name.
    pub(in crate::engine::fetch) const fn owner(&self) -> &UserName {
        &self.owner
    }

    /// Decides about what has the first name in its folder.
    pub(super) fn check_first_name(
        &self,
        folder: &FolderHandle,
        resolved: &ResolvedFile,
        hashed: RehashCallback<'_>,
    ) -> Result<NameAvailability, Error> {
        let (name, path) = (self.name(), self.path());
        let entry = match folder.entry_kind(&name) {
            // Nothing can have a name that the file system refuses; a respelled one is tried when the file is placed.
            Err(why) if is_name_refused(&why) => None,
            entry => entry.map_err(Error::disk(&path))?,
        };
        let Some(entry) = entry else { return Ok(NameAvailability::Free) };
        if self.folder.is_placed(folder, &name) {
            return Ok(NameAvailability::UseAnother);
        }
        match (self.if_exists, entry) {
            // An existing file only costs this one its name; with `SkipSame`, the same content was searched for before.
            (IfExists::Rename | IfExists::SkipSame, _) => Ok(NameAvailability::Free),
            (IfExists::Skip, _) => {
                let content = (resolved.stat.size, &resolved.stat.hash);
                // Found but not listed: the file system folds names, and the entry is another file's.
                let is_passed = !self.folder.listed_name_initially(folder, &name)
                    || self.is_of_other(folder, &name, content, hashed)?;
                Ok(if is_passed { NameAvailability::UseAnother } else { NameAvailability::Keep })
            }
            (IfExists::Overwrite, EntryKind::File(_)) if folder.can_replace(&name) => Ok(NameAvailability::Free),
            (IfExists::Overwrite, EntryKind::File(_)) => {
                let why = tr!(
                    "it can't be replaced: it is somebody else's, or protected with chattr; give another folder with -o, \
                     or --if-exists rename"
                );
                Err(Error::disk(&path)(io::Error::new(io::ErrorKind::PermissionDenied, why)))
            }
            // The folder has another spelling, which this file system doesn't tell apart: no reason to fail.
            (IfExists::Overwrite, EntryKind::Folder) if !self.folder.listed_name_initially(folder, &name) => {
                Ok(NameAvailability::UseAnother)
            }
            (IfExists::Overwrite | IfExists::Fail, _) => Err(Error::DestinationExists(path)),
        }
    }

    /// True if the file `name` has the content of another file of this
    /// fetch: an earlier fetch may have placed that one there.
    fn is_of_other(
        &self,
        folder: &FolderHandle,
        name: &str,
        (size, hash): (u64, &ContentHash),
        hashed: RehashCallback<'_>,
    ) -> Result<bool, Error> {
        let (Some(group), PreferredName::LastComponent(local)) = (&self.collision, &self.preferred_name) else {
            return Ok(false);
        };
        let Ok(Some(EntryKind::File(there))) = folder.entry_kind(name) else { return Ok(false) };
        if self.spelling != NameSpelling::Own && group.is_name_of_other(local, name) {
            return Ok(true);
        }
        let others: Vec<ContentHash> =
            group.others_named(local, hash, name).filter(|(size, _)| *size == there).map(|(_, hash)| hash).collect();
        let may_be_own = there == size;
        // Sizes first: without a candidate of this size, nothing is hashed.
        if others.is_empty() {
            return Ok(false);
        }
        let found = folder.open_existing(name).ok().map(|file| hash_of(&file, hashed)).transpose()?.flatten();
        Ok(found.is_some_and(|found| others.contains(&found) && !(may_be_own && found == *hash)))
    }

    /// Returns the first candidate name.
    pub(in crate::engine::fetch) fn name(&self) -> String {
        self.numbered(self.spelling, self.first_number)
    }

    /// Returns the path of the first candidate name, for display.
    pub(in crate::engine::fetch) fn path(&self) -> PathBuf {
        self.folder.path_of(&self.name())
    }

    /// Returns the tag that tells its partial file from those of other names with the same content.
    pub(in crate::engine::fetch) fn partial_tag(&self, hash: &ContentHash) -> PartialTag {
        match (&self.collision, &self.preferred_name) {
            (Some(group), PreferredName::LastComponent(local)) => group.partial_tag(local, hash),
            _ => PartialTag::of(self.preferred_name.as_str()),
        }
    }

    /// True if other files of this fetch have its path on some file systems.
    pub(in crate::engine::fetch) const fn collides(&self) -> bool {
        self.collision.is_some()
    }

    /// True if it may replace an existing file.
    pub(in crate::engine::fetch) fn can_replace(&self) -> bool {
        self.if_exists == IfExists::Overwrite
    }

    /// Returns its path below the destination, before any respelling; `None` if that isn't a valid name.
    pub(in crate::engine::fetch) fn local(&self) -> Option<FileName> {
        let name = self.numbered(NameSpelling::Own, self.first_number);
        match self.folder.relative_path() {
            "" => name.parse().ok(),
            below => format!("{below}/{name}").parse().ok(),
        }
    }

    /// Returns the target in the next spelling, for a file system that refuses the name; `None` after the last one.
    pub(in crate::engine::fetch) fn respelled(&self) -> Option<Self> {
        self.spelling.next().map(|spelling| Self { spelling, ..self.clone() })
    }

    /// Renames the finished file `from` in `folder`, the target's folder, to its name, or to another if that is taken
    /// and may be; skips it if what has the name must stay. `content` is its size and hash.
    pub(in crate::engine::fetch) fn move_into_place(
        &self,
        folder: &FolderHandle,
        from: &str,
        content: (u64, &ContentHash),
    ) -> Result<FileOutcome, Error> {
        match (self.move_as_spelled(folder, from, content), self.respelled()) {
            (Err(_), _) if folder.is_removed() => Err(self.folder.removed_error()),
            // The partial file may have a name where the final one is refused, such as one that ends in a space.
            (Err(Error::Disk { source, path }), Some(spot)) if is_name_refused(&source) => {
                match spot.move_into_place(folder, from, content) {
                    // Every spelling was refused: the error names the one that the user knows.
                    Err(Error::Disk { source: again, .. }) if is_name_refused(&again) => {
                        Err(Error::Disk { path, source })
                    }
                    put => put,
                }
            }
            (put, _) => put,
        }
    }

    fn move_as_spelled(
        &self,
        folder: &FolderHandle,
        from: &str,
        content: (u64, &ContentHash),
    ) -> Result<FileOutcome, Error> {
        if let Some(name) = self.earlier_name(folder, content) {
            let path = self.folder.path_of(&name);
            folder.rename_replace(from, &name).map_err(Error::disk(&path))?;
            self.folder.add_placed(folder, &name);
            return Ok(FileOutcome::Renamed(path));
        }
        for number in self.first_number..MAX_NUMBERED_NAMES {
            let name = self.numbered(self.spelling, number);
            // Renamed first and looked at after: a check before the rename would race with other processes.
            let mut renamed = folder.rename_no_replace(from, &name);
            let is_taken = |renamed: &io::Result<()>| {
                renamed.as_ref().is_err_and(|why| why.kind() == io::ErrorKind::AlreadyExists)
            };
            let mut occupant = ConflictResolution::UseAnother;
            if is_taken(&renamed) {
                occupant = self.resolve_conflict(folder, &name, number, content)?;
                if occupant == ConflictResolution::Replace {
                    renamed = folder.rename_replace(from, &name);
                }
            }
            if !is_taken(&renamed) {
                let path = self.folder.path_of(&name);
                renamed.map_err(Error::disk(&path))?;
                self.folder.add_placed(folder, &name);
                let is_own = name == self.preferred_name.as_str() && !self.folder.is_respelled();
                return Ok(if is_own { FileOutcome::Done(path) } else { FileOutcome::Renamed(path) });
            }
            match (occupant, self.if_exists) {
                (ConflictResolution::Refuse, IfExists::Skip) => {
                    return Ok(FileOutcome::Skipped(self.folder.path_of(&name)));
                }
                (ConflictResolution::Refuse, IfExists::Fail) => {
                    return Err(Error::DestinationExists(self.folder.path_of(&name)));
                }
                _ => {}
            }
        }
        Err(Error::DestinationExists(self.path()))
    }

    /// Finds the numbered name under which an earlier fetch placed the same content because the own name is another
    /// file's here: to overwrite means to replace that one.
    fn earlier_name(&self, folder: &FolderHandle, content: (u64, &ContentHash)) -> Option<String> {
        let own = self.name();
        let is_file = |name: &String| matches!(folder.entry_kind(name), Ok(Some(EntryKind::File(_))));
        let group = self.collision.as_ref().filter(|_| self.if_exists == IfExists::Overwrite && is_file(&own))?;
        let is_respelled = |local: &FileName| self.spelling != NameSpelling::Own && group.is_name_of_other(local, &own);
        let is_others = matches!(&self.preferred_name, PreferredName::LastComponent(local) if is_respelled(local));
        if !is_others && self.folder.lists_name(folder, &own) {
            return None;
        }
        let names = (self.first_number + 1..MAX_NUMBERED_NAMES).map(|number| self.numbered(self.spelling, number));
        let mut there = names.take_while(is_file);
        there.find(|name| {
            let there = folder.file_identity(name).map(|mark| mark.size);
            there.is_some_and(|there| is_content(folder, name, there, content)) && !self.folder.is_placed(folder, name)
        })
    }

    /// Decides what to do about the existing entry of this numbered name.
    fn resolve_conflict(
        &self,
        folder: &FolderHandle,
        name: &str,
        number: u32,
        content: (u64, &ContentHash),
    ) -> Result<ConflictResolution, Error> {
        let is_first = number == self.first_number;
        let is_passed = is_first && self.skips_first_name && self.spelling == NameSpelling::Own;
        if is_passed || self.folder.is_placed(folder, name) {
            return Ok(ConflictResolution::UseAnother);
        }
        // What vanished or can't be looked at isn't replaced.
        let entry = folder.entry_kind(name).ok().flatten();
        // A folder of this fetch with the file's path: both must arrive, whatever the rule says.
        let is_own_folder =
            entry == Some(EntryKind::Folder) && self.collision.as_ref().is_some_and(|group| group.has_folder());
        Ok(match self.if_exists {
            _ if is_own_folder => ConflictResolution::UseAnother,
            IfExists::SkipSame | IfExists::Rename => ConflictResolution::UseAnother,
            IfExists::Overwrite => match entry {
                // Only the own name was asked to be replaced. A numbered one
                // holds the same content from an earlier fetch.
                Some(EntryKind::File(size)) if is_first || is_content(folder, name, size, content) => {
                    ConflictResolution::Replace
                }
                _ => ConflictResolution::UseAnother,
            },
            // The rule concerns the own name only; numbered ones are free to be passed.
            IfExists::Skip | IfExists::Fail if !is_first => ConflictResolution::UseAnother,
            IfExists::Skip
                if !self.folder.lists_name(folder, name)
                    || self.is_of_other(folder, name, content, &mut |_| Ok(()))? =>
            {
                ConflictResolution::UseAnother
            }
            IfExists::Skip | IfExists::Fail => ConflictResolution::Refuse,
        })
    }

    fn numbered(&self, spelling: NameSpelling, number: u32) -> String {
        let name = spelling.spell(self.preferred_name.as_str());
        if number == 0 { name.into_owned() } else { numbered_component(&name, number) }
    }

    /// Returns the path of a file with the same content, under the own name or one that an earlier fetch had to use.
    pub(super) fn find_same_content(
        &self,
        folder: &FolderHandle,
        resolved: &ResolvedFile,
        contested: bool,
        hashed: RehashCallback<'_>,
    ) -> Result<Option<PathBuf>, Error> {
        for spelling in NameSpelling::ALL {
            // Nothing to respell: these names were looked at already.
            if spelling != NameSpelling::Own
                && spelling.spell(self.preferred_name.as_str()) == self.preferred_name.as_str()
            {
                continue;
            }
            for number in 0..MAX_NUMBERED_NAMES {
                let name = self.numbered(spelling, number);
                match folder.entry_kind(&name) {
                    Ok(Some(EntryKind::File(size))) => {
                        if size == resolved.stat.size && is_same(folder, &name, resolved, hashed)? {
                            return Ok(Some(self.folder.path_of(&name)));
                        }
                    }
                    Ok(Some(_)) => {}
                    // An earlier fetch may have numbered this file for the sake of another one, which then failed.
                    Ok(None) if number == 0 && contested => {}
                    _ => break,
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_have_their_names_get_others() {
        let home = tempfile::tempdir().unwrap();
        let folder = FolderHandle::open(home.path()).unwrap();
        let target = FileTarget::alone(home.path(), &("y".repeat(300) + ".pdf"), "bob".parse().unwrap());
        for number in 0..2 {
            folder.open_or_create("part").unwrap();
            let hash = ContentHash::of(&[]);
            let FileOutcome::Renamed(path) = target.move_into_place(&folder, "part", (0, &hash)).unwrap() else {
                panic!()
            };
            let name = path.strip_prefix(home.path()).unwrap().to_str().unwrap();
            assert!(name.ends_with(".pdf") && path.is_file(), "{name}");
            assert_eq!(name.contains(" (1)"), number == 1, "{name}");
        }
    }
}
