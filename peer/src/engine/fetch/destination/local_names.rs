//! Local names of files: numbers for files that want the same name, respellings for file systems that refuse a name, and
//! collisions of files whose paths some file systems take for one, because they differ only by case, by normal form, or
//! by refused characters. Pure.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use shared::names::name_encoding::encode_literal;
use shared::names::truncate_to_bytes;
use shared::{ContentHash, FileName};

use crate::engine::fetch::name_resolution::ResolvedFile;

/// The length of a short name: with the additions of a partial file it fits where 143 bytes are the most (eCryptfs).
const MAX_SHORT_BYTES: usize = 100;
/// Characters that Windows and its file systems refuse.
const REFUSED_CHARS: [char; 8] = ['<', '>', ':', '"', '|', '?', '*', '\\'];
/// Hexadecimal digits in the tag of a partial file.
const TAG_DIGITS: usize = 8;

/// A spelling of a path component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum NameSpelling {
    /// As it is at the source.
    #[default]
    Own,
    /// Without the characters and endings that other systems refuse.
    Plain,
    /// In few ASCII characters that every system accepts; a hash keeps names apart.
    Short,
}

impl NameSpelling {
    pub(super) const ALL: [Self; 3] = [Self::Own, Self::Plain, Self::Short];

    /// Returns the spelling to try if this one is refused.
    pub(super) const fn next(self) -> Option<Self> {
        match self {
            Self::Own => Some(Self::Plain),
            Self::Plain => Some(Self::Short),
            Self::Short => None,
        }
    }

    /// Returns the component in this spelling.
    pub(super) fn spell(self, component: &str) -> Cow<'_, str> {
        match self {
            Self::Own => component.into(),
            // A file system that refuses the raw bytes gets the stand-in itself as a name.
            Self::Plain => encode_literal(&plain_spelling(component)).into_owned().into(),
            Self::Short => short_spelling(component).into(),
        }
    }
}

/// Assigns names to the files of one fetch.
#[derive(Debug, Default)]
pub(super) struct NameAllocator {
    /// Number of files that want each name.
    request_counts: HashMap<FileName, u32>,
    /// The folders that these files go into.
    folders: HashSet<Box<str>>,
    /// Contested and numbered names that are assigned.
    allocated: HashSet<FileName>,
}

impl NameAllocator {
    /// Builds the allocator for files that want these names.
    pub(super) fn new<'a>(locals: impl IntoIterator<Item = &'a FileName>) -> Self {
        let mut claims = Self::default();
        for local in locals {
            *claims.request_counts.entry(local.clone()).or_default() += 1;
            let mut folder = local.as_str();
            // Above a folder that is in the set, all are: a deep tree isn't climbed for each file.
            while let Some((above, _)) = folder.rsplit_once('/')
                && !claims.folders.contains(above)
            {
                claims.folders.insert(above.into());
                folder = above;
            }
        }
        claims
    }

    /// True if a file can't simply have this name, because a folder or another file wants it as well.
    pub(super) fn is_contested(&self, local: &FileName) -> bool {
        self.folders.contains(local.as_str()) || self.request_counts.get(local).is_some_and(|count| *count > 1)
    }

    /// Returns the first number to try for the next file that wants this name; 0 is the name itself.
    pub(super) fn allocate_number(&mut self, local: &FileName) -> u32 {
        if !self.is_contested(local) || (!self.folders.contains(local.as_str()) && self.allocated.insert(local.clone()))
        {
            return 0;
        }
        // A number whose name another file wants is skipped, so that this file doesn't displace that one.
        for number in 1.. {
            // No number fits the length limit: the rename finds a free name later.
            let Some(name) = local.numbered(number) else { break };
            let is_free = !self.request_counts.contains_key(&name) && !self.folders.contains(name.as_str());
            if is_free && self.allocated.insert(name) {
                return number;
            }
        }
        1
    }
}

/// Folds a name like a file system that ignores case and normal forms.
pub(in crate::engine::fetch) fn case_folded(name: &str) -> String {
    use unicode_normalization::UnicodeNormalization;
    if name.is_ascii() { name.to_ascii_lowercase() } else { name.nfkc().flat_map(char::to_lowercase).collect() }
}

fn plain_spelling(component: &str) -> String {
    let mut text = component.replace(|c: char| REFUSED_CHARS.contains(&c) || c.is_control(), "_");
    // Windows drops trailing dots and blanks, so two names would become one.
    let kept = text.trim_end_matches(['.', ' ']).len();
    text.replace_range(kept.., &"_".repeat(text.len() - kept));
    if is_device(&text) { format!("_{text}") } else { text }
}

fn short_spelling(component: &str) -> String {
    let plain: String = plain_spelling(component).chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
    if plain == component && plain.len() <= MAX_SHORT_BYTES {
        return plain;
    }
    // Keeps names apart that differ only in what was replaced or cut off.
    let hash = ContentHash::of(component.as_bytes()).to_string();
    let (stem, extension) = match plain.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && extension.len() <= 10 => (stem, format!(".{extension}")),
        // A long ending is part of the name rather than a type.
        _ => (plain.as_str(), String::new()),
    };
    // Nine bytes: a dash and eight hexadecimal digits.
    format!(
        "{}-{}{extension}",
        truncate_to_bytes(stem, MAX_SHORT_BYTES - 9 - extension.len()),
        truncate_to_bytes(&hash, 8)
    )
}

/// True for a name that Windows takes for a device, whatever its extension.
fn is_device(component: &str) -> bool {
    let stem = component.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered =
        |device: &str| stem.strip_prefix(device).is_some_and(|number| matches!(number.as_bytes(), [b'1'..=b'9']));
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT")
}

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
pub(in crate::engine::fetch) struct PartialTag {
    pub(in crate::engine::fetch) text: String,
    /// Another file of the fetch uses the partial file without a tag.
    pub(in crate::engine::fetch) is_needed: bool,
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
    pub(in crate::engine::fetch) fn of(name: &str) -> Self {
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
        // It ends at the first that is known: so are all above it.
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
    use proptest::prelude::*;
    use shared::GroupLayout;
    use shared::peer::FileStat;

    use super::*;

    fn names(texts: &[&str]) -> Vec<FileName> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_file_gets_a_name_that_no_other_wants() {
        let names = names(&["a.txt", "a.txt", "a (1).txt", "a.txt", "b", "b/c", "d/b"]);
        let mut claims = NameAllocator::new(&names);
        let numbers: Vec<u32> = names.iter().map(|name| claims.allocate_number(name)).collect();
        assert_eq!(numbers, [0, 2, 0, 3, 1, 0, 0], "what one file wants, and what is a folder, nobody else gets");
    }

    #[test]
    fn what_other_systems_refuse_is_replaced() {
        for (name, plain) in [
            ("a:b?.txt", "a_b_.txt"),
            ("what... ", "what____"),
            ("con", "_con"),
            ("nul.tar.gz", "_nul.tar.gz"),
            ("com1.txt", "_com1.txt"),
            ("com.txt", "com.txt"),
            ("größe.pdf", "größe.pdf"),
        ] {
            assert_eq!(NameSpelling::Plain.spell(name), plain);
        }
        let long = "ä".repeat(125) + ".tar5";
        let short = NameSpelling::Short.spell(&long);
        assert!(short.len() <= MAX_SHORT_BYTES && short.ends_with(".tar5"), "{short}");
        assert_ne!(short, NameSpelling::Short.spell(&long.replace("ää", "äö")));
        assert_eq!(NameSpelling::Short.spell("plain.txt"), "plain.txt");
    }

    #[test]
    fn a_stand_in_that_is_refused_is_kept_as_it_is() {
        let plain = NameSpelling::Plain.spell("a:␛0A␛b");
        assert_eq!(&*shared::names::name_encoding::decode_component(&plain), "a_␛0A␛b".as_bytes());
        assert_eq!(&*shared::names::name_encoding::decode_component(&NameSpelling::Own.spell("a␛0A␛b")), b"a\nb");
        assert!(NameSpelling::Short.spell("a␛0A␛b").is_ascii());
    }

    fn wanted(files: &[(&str, &str)]) -> Vec<ResolvedFile> {
        let file = |(local, content): &(&str, &str)| {
            let layout = GroupLayout::of(content.len() as u64).unwrap();
            let local: FileName = local.parse().unwrap();
            ResolvedFile {
                owner: "bob".parse().unwrap(),
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

    proptest! {
        #[test]
        fn every_spelling_is_a_name(component in "(\\.|:|\\PC){1,60}") {
            if let Ok(name) = component.parse::<FileName>()
                && name.components().count() == 1
            {
                for spelling in NameSpelling::ALL {
                    let spelled = spelling.spell(&component);
                    prop_assert!(spelled.parse::<FileName>().is_ok_and(|name| name.components().count() == 1), "{spelled}");
                }
                prop_assert!(NameSpelling::Short.spell(&component).is_ascii());
                prop_assert!(NameSpelling::Short.spell(&component).len() <= MAX_SHORT_BYTES);
            }
        }
    }
}
