//! What one user shares: at most one file of each name, found by name, hash or words, and the list's JSON text once
//! somebody asked for it.
//!
//! A short list is looked through from end to end. A long one has an index by hash and by word, so that a search costs
//! each user the same few steps, however much it shares.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;

use bytes::Bytes;
use serde::Serialize;
use shared::FileName;
use shared::limits::FILES_PER_USER;
use shared::tracker::{FilesMode, HashText, SharedFile, Wanted, Words, words_of};

/// Lists longer than this have an index.
const INDEXED_ABOVE: usize = 64;
/// Files of one user that are listed at most for one asker.
const LISTED: usize = 1000;
/// About what a file costs in memory beside its texts: tree nodes, the index, allocations.
const BYTES_PER_FILE: usize = 400;

/// One user's files, by name.
#[derive(Debug, Clone, Default)]
pub struct Files {
    by_name: BTreeMap<FileName, Attributes>,
    index: Option<Index>,
    bytes: usize,
    /// The JSON list of all of them, until something changes.
    text: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attributes {
    size: u64,
    hash: HashText,
}

/// The names are always there; `None` sorts before all of them, to begin a range with.
#[derive(Debug, Clone, Default)]
struct Index {
    /// By a short hash of the hash's text: what is found is compared in full.
    by_hash: BTreeSet<(u64, Option<FileName>)>,
    by_word: BTreeSet<(Box<str>, Option<FileName>)>,
}

/// Why a list of files was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilesRefused {
    /// More than [`FILES_PER_USER`].
    TooMany,
    /// Together with everybody else's they would take more memory than [`super::Rules`] allow.
    CatalogueFull,
}

/// Files as text for one asker.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FilesText {
    /// A JSON list.
    pub(super) text: Bytes,
    /// How many of them are in it.
    pub(super) listed: usize,
    /// How many there are.
    pub(super) count: usize,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a FileName,
    size: u64,
    hash: &'a HashText,
}

impl Files {
    /// Those files; of several with one name the last counts.
    pub fn from_list(list: Vec<SharedFile>) -> Self {
        let by_name: BTreeMap<_, _> =
            list.into_iter().map(|SharedFile { name, size, hash }| (name, Attributes { size, hash })).collect();
        let bytes = by_name.iter().map(|(name, attributes)| cost(name, attributes)).sum();
        let mut files = Self { by_name, index: None, bytes, text: None };
        files.keep_index();
        files
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// About how much memory they take.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Each of them, ordered by name.
    pub(super) fn to_list(&self) -> Vec<SharedFile> {
        let file =
            |entry: Entry<'_>| SharedFile { name: entry.name.clone(), size: entry.size, hash: entry.hash.clone() };
        entries(&self.by_name).map(file).collect()
    }

    /// Makes the text now, where it costs nobody anything.
    pub fn prepare_text(&mut self) {
        self.text();
    }

    /// About how much memory these files would take after [`Files::apply`], at most.
    pub(super) fn bytes_after(&self, mode: FilesMode, other: &Self) -> usize {
        match mode {
            FilesMode::Replace => other.bytes,
            FilesMode::Add => self.bytes + other.bytes,
            FilesMode::Remove => self.bytes,
        }
    }

    /// Changes these files by `other`, which is left with what is no longer needed. Says whether anything changed.
    pub(super) fn apply(&mut self, mode: FilesMode, other: &mut Self) -> Result<bool, FilesRefused> {
        match mode {
            FilesMode::Replace if other.len() > FILES_PER_USER => return Err(FilesRefused::TooMany),
            FilesMode::Replace if self.by_name == other.by_name => return Ok(false),
            FilesMode::Replace => {
                mem::swap(self, other);
                return Ok(true);
            }
            FilesMode::Add => {
                let new = other.by_name.keys().filter(|name| !self.by_name.contains_key(*name)).count();
                if self.len() + new > FILES_PER_USER {
                    return Err(FilesRefused::TooMany);
                }
            }
            FilesMode::Remove => {}
        }
        let mut changed = false;
        for (name, attributes) in mem::take(&mut other.by_name) {
            changed |= match mode {
                FilesMode::Remove => self.take(&name),
                FilesMode::Add | FilesMode::Replace if self.by_name.get(&name) == Some(&attributes) => false,
                FilesMode::Add | FilesMode::Replace => {
                    self.put(name, attributes);
                    true
                }
            };
        }
        if changed {
            self.text = None;
            self.keep_index();
        }
        Ok(changed)
    }

    /// The JSON list of all files, ordered by name.
    pub(super) fn text(&mut self) -> &Bytes {
        let by_name = &self.by_name;
        self.text.get_or_insert_with(|| list_text(entries(by_name)).into())
    }

    /// The files of this name and this hash, as text only if it is `shown`; `None` when there is no such file.
    pub(super) fn matching(&self, name: Option<&FileName>, hash: Option<&HashText>, shown: bool) -> Option<FilesText> {
        let names = match (name, hash) {
            (Some(name), hash) => {
                let (name, found) = self.by_name.get_key_value(name)?;
                let matches = hash.is_none_or(|hash| *hash == found.hash);
                if matches { vec![name] } else { Vec::new() }
            }
            (None, Some(hash)) => self.named_with_hash(hash, None),
            (None, None) => self.by_name.keys().collect(),
        };
        if names.is_empty() {
            return None;
        }
        let count = names.len();
        let listed = if shown { count.min(LISTED) } else { 0 };
        let entry =
            |name| self.by_name.get_key_value(name).map(|(name, a)| Entry { name, size: a.size, hash: &a.hash });
        let text = list_text(names.into_iter().take(listed).filter_map(entry)).into();
        Some(FilesText { text, listed, count })
    }

    /// At most `limit` of the files that are wanted, in the order of their names, from behind `after` on.
    pub(super) fn find(&self, wanted: &Wanted, after: Option<&FileName>, limit: usize) -> Vec<SharedFile> {
        let names = match wanted {
            Wanted::Hash(hash) => self.named_with_hash(hash, after),
            Wanted::Words(words) => self.named_with_words(words, after),
        };
        let found = |name: &FileName| {
            let Attributes { size, hash } = self.by_name.get(name)?;
            Some(SharedFile { name: name.clone(), size: *size, hash: hash.clone() })
        };
        names.into_iter().take(limit).filter_map(found).collect()
    }

    fn named_with_hash(&self, hash: &HashText, after: Option<&FileName>) -> Vec<&FileName> {
        let is_behind = |name: &&FileName| after.is_none_or(|after| *name > after);
        let has_hash = |name: &&FileName| self.by_name.get(*name).is_some_and(|found| found.hash == *hash);
        match &self.index {
            Some(index) => index.with_hash(hash).filter(is_behind).filter(has_hash).collect(),
            None => self.by_name.keys().filter(is_behind).filter(has_hash).collect(),
        }
    }

    fn named_with_words(&self, words: &Words, after: Option<&FileName>) -> Vec<&FileName> {
        let is_wanted = |name: &&FileName| after.is_none_or(|after| *name > after) && words.matches(name);
        let Some(index) = &self.index else { return self.by_name.keys().filter(is_wanted).collect() };
        // The longest word is the rarest, as a rule; the others are looked for only in what it finds.
        let longest = words.iter().max_by_key(|word| word.len()).unwrap_or_default();
        let found: BTreeSet<&FileName> = index.with_prefix(longest).filter(is_wanted).collect();
        found.into_iter().collect()
    }

    fn put(&mut self, name: FileName, attributes: Attributes) {
        self.take(&name);
        self.bytes += cost(&name, &attributes);
        if let Some(index) = &mut self.index {
            index.insert(&name, &attributes);
        }
        self.by_name.insert(name, attributes);
    }

    fn take(&mut self, name: &FileName) -> bool {
        let Some(attributes) = self.by_name.remove(name) else { return false };
        self.bytes -= cost(name, &attributes);
        if let Some(index) = &mut self.index {
            index.remove(name, &attributes);
        }
        true
    }

    /// Has an index when the list is long, and none when it is short.
    fn keep_index(&mut self) {
        if self.len() <= INDEXED_ABOVE {
            self.index = None;
        } else if self.index.is_none() {
            let mut index = Index::default();
            self.by_name.iter().for_each(|(name, attributes)| index.insert(name, attributes));
            self.index = Some(index);
        }
    }
}

impl Index {
    fn insert(&mut self, name: &FileName, attributes: &Attributes) {
        self.by_hash.insert((short_hash(&attributes.hash), Some(name.clone())));
        self.by_word.extend(words_of(name.as_str()).map(|word| (word.into_boxed_str(), Some(name.clone()))));
    }

    fn remove(&mut self, name: &FileName, attributes: &Attributes) {
        self.by_hash.remove(&(short_hash(&attributes.hash), Some(name.clone())));
        for word in words_of(name.as_str()) {
            self.by_word.remove(&(word.into_boxed_str(), Some(name.clone())));
        }
    }

    fn with_hash(&self, hash: &HashText) -> impl Iterator<Item = &FileName> {
        let short = short_hash(hash);
        self.by_hash
            .range((short, None)..)
            .take_while(move |(other, _)| *other == short)
            .filter_map(|(_, name)| name.as_ref())
    }

    fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = &FileName> {
        let behind = self.by_word.range((Box::from(prefix), None)..);
        behind.take_while(move |(word, _)| word.starts_with(prefix)).filter_map(|(_, name)| name.as_ref())
    }
}

fn short_hash(hash: &HashText) -> u64 {
    let mut hasher = DefaultHasher::new();
    hash.hash(&mut hasher);
    hasher.finish()
}

fn cost(name: &FileName, attributes: &Attributes) -> usize {
    BYTES_PER_FILE + 3 * name.as_str().len() + 2 * attributes.hash.as_str().len()
}

fn entries(by_name: &BTreeMap<FileName, Attributes>) -> impl Iterator<Item = Entry<'_>> {
    by_name.iter().map(|(name, Attributes { size, hash })| Entry { name, size: *size, hash })
}

fn list_text<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<u8> {
    let mut text = vec![b'['];
    for entry in entries {
        if text.len() > 1 {
            text.push(b',');
        }
        super::listing::push_json(&mut text, &entry);
    }
    text.push(b']');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files(names: impl IntoIterator<Item = String>, size: u64) -> Files {
        let hash = HashText::new("h").unwrap();
        let file = |name: String| SharedFile { name: name.parse().unwrap(), size, hash: hash.clone() };
        Files::from_list(names.into_iter().map(file).collect())
    }

    fn named(names: &[&str], size: u64) -> Files {
        files(names.iter().map(|name| (*name).to_owned()), size)
    }

    fn text(files: &mut Files) -> String {
        String::from_utf8(files.text().to_vec()).unwrap()
    }

    #[test]
    fn replace_add_remove() {
        let mut mine = Files::default();
        assert_eq!(text(&mut mine), "[]");
        assert_eq!(mine.apply(FilesMode::Replace, &mut named(&["b", "a", "b"], 1)), Ok(true));
        assert_eq!(text(&mut mine), r#"[{"name":"a","size":1,"hash":"h"},{"name":"b","size":1,"hash":"h"}]"#);
        assert_eq!(mine.apply(FilesMode::Replace, &mut named(&["a", "b"], 1)), Ok(false));
        assert_eq!(mine.apply(FilesMode::Add, &mut named(&["b", "c"], 2)), Ok(true));
        assert_eq!(mine.apply(FilesMode::Add, &mut named(&["c"], 2)), Ok(false));
        assert_eq!(mine.len(), 3);
        assert_eq!(mine.apply(FilesMode::Remove, &mut named(&["a", "c", "zz"], 0)), Ok(true));
        assert_eq!(mine.apply(FilesMode::Remove, &mut named(&["zz"], 0)), Ok(false));
        assert_eq!(text(&mut mine), r#"[{"name":"b","size":2,"hash":"h"}]"#);
        assert_eq!(mine.apply(FilesMode::Replace, &mut Files::default()), Ok(true));
        assert!(mine.is_empty());
    }

    #[test]
    fn matching_files_are_listed_up_to_a_bound_and_counted() {
        let mine = files((0..LISTED + 5).map(|i| i.to_string()), 1);
        let hash = HashText::new("h").unwrap();
        let all = mine.matching(None, Some(&hash), true).unwrap();
        let list: Vec<SharedFile> = serde_json::from_slice(&all.text).unwrap();
        assert_eq!((list.len(), all.listed, all.count), (LISTED, LISTED, LISTED + 5));
        let counted = mine.matching(None, Some(&hash), false).unwrap();
        assert_eq!((&counted.text[..], counted.listed, counted.count), (&b"[]"[..], 0, LISTED + 5));
        let name = "7".parse().unwrap();
        assert_eq!(mine.matching(Some(&name), Some(&hash), true).unwrap().count, 1);
        assert_eq!(mine.matching(Some(&name), HashText::new("x").as_ref(), true), None);
    }

    fn found(files: &Files, wanted: &Wanted, after: Option<&FileName>) -> Vec<String> {
        files.find(wanted, after, 1000).into_iter().map(|file| file.name.to_string()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_index_finds_what_a_look_at_every_file_finds(
            steps in proptest::collection::vec((0..3_u8, proptest::collection::vec(("[ab]{1,2} [ab]c?", 0..3_u8), 0..60)), 1..5),
            query in "[ab]{1,2}( [abc])?", hash in 0..3_u8, after in proptest::option::of("[ab] [ab]"),
        ) {
            let mut mine = Files::default();
            for (mode, list) in steps {
                let mode = [FilesMode::Replace, FilesMode::Add, FilesMode::Remove][usize::from(mode)];
                let file = |(i, (name, hash)): (usize, (String, u8))| {
                    let name = format!("{name} {}", i % 90).parse().unwrap();
                    SharedFile { name, size: 1, hash: HashText::new(&hash.to_string()).unwrap() }
                };
                let list = list.into_iter().cycle().take(200).enumerate().map(file).collect();
                mine.apply(mode, &mut Files::from_list(list)).unwrap();
            }
            let mut without = mine.clone();
            without.index = None;
            prop_assert_eq!(mine.index.is_some(), mine.len() > INDEXED_ABOVE);
            let fresh: usize = mine.by_name.iter().map(|(name, attributes)| cost(name, attributes)).sum();
            prop_assert_eq!(mine.bytes(), fresh);
            if let Some(index) = &mine.index {
                prop_assert_eq!(index.by_hash.len(), mine.len());
            }
            let after: Option<FileName> = after.map(|name| name.parse().unwrap());
            let hash = HashText::new(&hash.to_string()).unwrap();
            for wanted in [Wanted::Words(Words::new(&query).unwrap()), Wanted::Hash(hash.clone())] {
                prop_assert_eq!(found(&mine, &wanted, after.as_ref()), found(&without, &wanted, after.as_ref()));
            }
            prop_assert_eq!(mine.matching(None, Some(&hash), true), without.matching(None, Some(&hash), true));
        }
    }

    #[test]
    fn the_bound_is_exact_and_beyond_it_nothing_changes() {
        let all = || (0..FILES_PER_USER).map(|i| i.to_string());
        let mut mine = files(all(), 1);
        assert_eq!(mine.apply(FilesMode::Add, &mut named(&["new"], 1)), Err(FilesRefused::TooMany));
        assert_eq!(mine.apply(FilesMode::Add, &mut named(&["7"], 2)), Ok(true));
        assert_eq!(mine.apply(FilesMode::Remove, &mut named(&["8"], 0)), Ok(true));
        assert_eq!(mine.apply(FilesMode::Add, &mut named(&["new"], 1)), Ok(true));
        assert_eq!(mine.len(), FILES_PER_USER);
        let mut more = files(all().chain(["new".to_owned()]), 1);
        assert_eq!(mine.apply(FilesMode::Replace, &mut more), Err(FilesRefused::TooMany));
    }
}
