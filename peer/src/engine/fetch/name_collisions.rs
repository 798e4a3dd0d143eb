//! Name collisions: files of one fetch whose paths some file systems take for one, because they differ only by case, by
//! normal form, or by refused characters. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use shared::names::truncate_to_bytes;
use shared::{ContentHash, FileName};

use super::local_names::{NameSpelling, case_folded};
use super::name_resolution::ResolvedFile;

/// Hexadecimal digits in the tag of a partial file.
const TAG_DIGITS: usize = 8;

/// The files of a fetch that collide with others on some file systems.
#[derive(Debug, Default)]
pub(super) struct NameCollisions {
    by_path: HashMap<FileName, Arc<CollisionGroup>>,
    /// Folders that collide with a file of another spelling.
    folders: Vec<FileName>,
}

/// Files that have one path on some file systems, and possibly a folder with that path, too.
#[derive(Debug)]
pub(super) struct CollisionGroup {
    /// In the order of the fetch.
    files: Vec<CollidingFile>,
    has_folder: bool,
}

/// A file that collides with others or with a folder.
#[derive(Debug)]
struct CollidingFile {
    local: FileName,
    size: u64,
    hash: ContentHash,
}

/// A tag that tells a partial file from those of other names with the same content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartialTag {
    pub(super) text: String,
    /// Another file of the fetch uses the partial file without a tag.
    pub(super) is_needed: bool,
}

impl NameCollisions {
    /// Finds the collisions among these files and their folders.
    pub(super) fn find(resolved: &[ResolvedFile]) -> Self {
        let mut first: HashMap<String, usize> = HashMap::with_capacity(resolved.len());
        let mut groups: HashMap<String, (Vec<usize>, bool)> = HashMap::new();
        for (no, file) in resolved.iter().enumerate() {
            let key = collision_key(file.local.as_str());
            if let Some(earlier) = first.get(&key) {
                groups.entry(key).or_insert_with(|| (vec![*earlier], false)).0.push(no);
            } else {
                first.insert(key, no);
            }
        }
        let mut folders = Vec::new();
        for folder in folders_of(resolved) {
            let key = collision_key(folder);
            if let Some(file) = first.get(&key) {
                groups.entry(key).or_insert_with(|| (vec![*file], false)).1 = true;
                folders.extend(folder.parse());
            }
        }
        let mut by_path = HashMap::new();
        for (files, has_folder) in groups.into_values() {
            let file = |no: &usize| {
                let ResolvedFile { stat, local, .. } = resolved.get(*no)?;
                Some(CollidingFile { local: local.clone(), size: stat.size, hash: stat.hash })
            };
            let files: Vec<_> = files.iter().filter_map(file).collect();
            let locals: Vec<FileName> = files.iter().map(|file| file.local.clone()).collect();
            let group = Arc::new(CollisionGroup { files, has_folder });
            by_path.extend(locals.into_iter().map(|local| (local, group.clone())));
        }
        // An identical path is a plain conflict of names, which the allocator settles by a number.
        folders.retain(|folder| !by_path.contains_key(folder));
        Self { by_path, folders }
    }

    /// Returns the group of a file; `None` for a file that collides nowhere.
    pub(super) fn of(&self, local: &FileName) -> Option<&Arc<CollisionGroup>> {
        self.by_path.get(local)
    }

    /// Returns the folders that must exist before a file takes their path.
    pub(super) fn folders(&self) -> &[FileName] {
        &self.folders
    }
}

impl CollisionGroup {
    /// True if a folder of this fetch has the path as well.
    pub(super) const fn has_folder(&self) -> bool {
        self.has_folder
    }

    /// Returns the tag of the partial file of `local` with this content.
    pub(super) fn partial_tag(&self, local: &FileName, hash: &ContentHash) -> PartialTag {
        let others = || self.files.iter().filter(|other| other.hash == *hash && other.local != *local);
        let own = self.files.iter().position(|file| file.local == *local).unwrap_or(0);
        let is_needed = self.files.iter().take(own).any(|other| other.hash == *hash && other.local != *local);
        // From the last component, so that a run that fetches this file alone finds the same tag; from the
        // whole path if only the folders differ.
        let is_ambiguous = others().any(|other| other.local.last_component() == local.last_component());
        let tagged = if is_ambiguous { local.as_str() } else { local.last_component() };
        PartialTag { is_needed, ..PartialTag::of(tagged) }
    }

    /// Returns the sizes and hashes of the other files that an earlier fetch may have placed under `name`.
    pub(super) fn others_named(
        &self,
        local: &FileName,
        hash: &ContentHash,
        name: &str,
    ) -> impl Iterator<Item = (u64, ContentHash)> {
        let is_other = move |file: &&CollidingFile| file.local != *local || file.hash != *hash;
        let has_name = move |file: &&CollidingFile| {
            NameSpelling::ALL.iter().any(|spelling| spelling.spell(file.local.last_component()) == name)
        };
        self.files.iter().filter(is_other).filter(has_name).map(|file| (file.size, file.hash))
    }

    /// True if `name` is another file's own.
    pub(super) fn is_name_of_other(&self, local: &FileName, name: &str) -> bool {
        self.files.iter().any(|file| file.local != *local && file.local.last_component() == name)
    }
}

impl PartialTag {
    /// Builds the tag of a file without collisions.
    pub(super) fn of(name: &str) -> Self {
        let hash = ContentHash::of(name.as_bytes()).to_string();
        Self { text: truncate_to_bytes(&hash, TAG_DIGITS).to_owned(), is_needed: false }
    }
}

/// Folds a path like a file system that ignores case and normal forms and refuses what Windows refuses.
pub(super) fn collision_key(path: &str) -> String {
    let mut key = String::with_capacity(path.len());
    for component in path.split('/') {
        if !key.is_empty() {
            key.push('/');
        }
        // Some systems cut off trailing dots and blanks, others replace them.
        key.push_str(case_folded(&NameSpelling::Plain.spell(component)).trim_end_matches(['_', '.', ' ']));
    }
    key
}

fn folders_of(resolved: &[ResolvedFile]) -> HashSet<&str> {
    let mut folders = HashSet::new();
    for file in resolved {
        let mut path = file.local.as_str();
        while let Some((folder, _)) = path.rsplit_once('/')
            && folders.insert(folder)
        {
            path = folder;
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use shared::GroupLayout;
    use shared::peer::FileStat;

    use super::*;

    fn wanted(files: &[(&str, &str)]) -> Vec<ResolvedFile> {
        let file = |(local, content): &(&str, &str)| {
            let layout = GroupLayout::of(content.len() as u64).unwrap();
            let local: FileName = local.parse().unwrap();
            ResolvedFile {
                stat: FileStat::new(local.clone(), ContentHash::of(content.as_bytes()), &layout),
                layout,
                local,
            }
        };
        files.iter().map(file).collect()
    }

    fn name(text: &str) -> FileName {
        text.parse().unwrap()
    }

    #[test]
    fn names_that_some_systems_take_for_one_are_found() {
        let files = wanted(&[
            ("README", "1"),
            ("Readme", "2"),
            ("cafe\u{301}", "3"),
            ("caf\u{e9}", "4"),
            ("D/Sub/x", "5"),
            ("D/sub/x", "6"),
            ("a:b", "7"),
            ("a_b", "8"),
            ("end.", "9"),
            ("end", "10"),
            ("alone", "11"),
        ]);
        let collisions = NameCollisions::find(&files);
        let is_alone = |file: &&ResolvedFile| collisions.of(&file.local).is_none();
        let alone: Vec<&str> = files.iter().filter(is_alone).map(|file| file.local.as_str()).collect();
        assert_eq!(alone, ["alone"]);
        assert!(collisions.folders().is_empty());
    }

    #[test]
    fn a_file_collides_with_the_folder_of_others() {
        let collisions = NameCollisions::find(&wanted(&[
            ("mix/photos", "1"),
            ("mix/Photos/p", "2"),
            ("same", "3"),
            ("same/x", "4"),
        ]));
        assert!(collisions.of(&name("mix/photos")).unwrap().has_folder());
        assert!(collisions.of(&name("mix/Photos/p")).is_none());
        assert_eq!(collisions.folders(), [name("mix/Photos")]);
        assert!(collisions.of(&name("same")).unwrap().has_folder());
    }

    #[test]
    fn partials_with_one_content_are_told_apart_in_every_run_alike() {
        let tag = |files: &[(&str, &str)], local: &str, content: &str| {
            let collisions = NameCollisions::find(&wanted(files));
            collisions.of(&name(local)).unwrap().partial_tag(&name(local), &ContentHash::of(content.as_bytes()))
        };
        let three = [("k/FILE", "one"), ("k/File", "one"), ("k/file", "other")];
        assert!(!tag(&three, "k/FILE", "one").is_needed && !tag(&three, "k/file", "other").is_needed);
        let second = tag(&three, "k/File", "one");
        assert!(second.is_needed);
        assert_eq!(second.text, PartialTag::of("File").text, "the same for a run that wants it alone");
        let folders = [("Docs/a", "one"), ("docs/a", "one")];
        assert_ne!(tag(&folders, "Docs/a", "one").text, tag(&folders, "docs/a", "one").text);
    }

    #[test]
    fn a_name_may_hold_what_another_file_had_to_put_there() {
        let files = wanted(&[("o/a_b", "own"), ("o/a:b", "other"), ("o/A_b", "third")]);
        let collisions = NameCollisions::find(&files);
        let group = collisions.of(&name("o/a_b")).unwrap();
        let others = |local: &str, content: &str, on_disk: &str| -> Vec<ContentHash> {
            let (local, hash) = (name(local), ContentHash::of(content.as_bytes()));
            group.others_named(&local, &hash, on_disk).map(|(_, hash)| hash).collect()
        };
        assert_eq!(others("o/a_b", "own", "a_b"), [ContentHash::of(b"other")]);
        assert_eq!(others("o/a:b", "other", "a_b"), [ContentHash::of(b"own")]);
        assert!(group.is_name_of_other(&name("o/a:b"), "a_b") && !group.is_name_of_other(&name("o/a_b"), "a_b"));
    }
}
