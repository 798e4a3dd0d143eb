//! Neighbouring files of a list, which never change: made once with all that is looked for in them.

use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use bytes::Bytes;
use serde::Serialize;
use shared::FileName;
use shared::tracker::{FilesMode, HashText, Words};

use super::{cost, words_of};

/// Files in one chunk.
pub(super) const MOST: usize = 512;
/// Chunks with more files than this have an index.
const INDEXED_ABOVE: usize = 64;

/// Between one and [`MOST`] files, ordered by name.
#[derive(Debug)]
pub(super) struct Chunk {
    files: Vec<(FileName, Attributes)>,
    index: Option<Index>,
    bytes: usize,
    /// The files as JSON, each with a comma before it.
    text: OnceLock<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: u64,
    pub(super) hash: HashText,
}

/// Places of files, ordered by what is looked for.
#[derive(Debug)]
struct Index {
    /// By a short hash of the hash's text: what is found is compared in full.
    by_hash: Vec<(u64, u16)>,
    by_word: Vec<(Box<str>, u16)>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a FileName,
    size: u64,
    hash: &'a HashText,
}

impl Chunk {
    /// Of files that are ordered by name.
    pub(super) fn new(files: Vec<(FileName, Attributes)>) -> Self {
        let bytes = files.iter().map(|(name, attributes)| cost(name, attributes)).sum();
        let index = (files.len() > INDEXED_ABOVE).then(|| Index::new(&files));
        Self { files, index, bytes, text: OnceLock::new() }
    }

    pub(super) const fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn first(&self) -> Option<&FileName> {
        self.files.first().map(|(name, _)| name)
    }

    pub(super) fn get(&self, name: &FileName) -> Option<(&FileName, &Attributes)> {
        let place = self.files.binary_search_by(|(other, _)| other.cmp(name)).ok()?;
        self.at(place)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&FileName, &Attributes)> {
        self.files.iter().map(|(name, attributes)| (name, attributes))
    }

    pub(super) fn text(&self) -> Bytes {
        let make = || {
            let mut text = Vec::with_capacity(self.files.len() * 128);
            for (name, attributes) in &self.files {
                text.push(b',');
                entry_text(&mut text, name, attributes);
            }
            text.shrink_to_fit();
            text.into()
        };
        self.text.get_or_init(make).clone()
    }

    /// The files with this hash, ordered by name.
    pub(super) fn with_hash(&self, hash: &HashText) -> Vec<(&FileName, &Attributes)> {
        let has_hash = |file: &(&FileName, &Attributes)| file.1.hash == *hash;
        let Some(index) = &self.index else { return self.entries().filter(has_hash).collect() };
        let short = short_hash(hash);
        let begin = index.by_hash.partition_point(|(other, _)| *other < short);
        let same = index.by_hash.iter().skip(begin).take_while(|(other, _)| *other == short);
        same.filter_map(|(_, place)| self.at(usize::from(*place))).filter(has_hash).collect()
    }

    /// Files among which are all whose names have these words, ordered by name.
    pub(super) fn with_words(&self, words: &Words) -> Vec<(&FileName, &Attributes)> {
        let Some(index) = &self.index else { return self.entries().collect() };
        // The rarest of the words; the others are looked for only in what it finds.
        let Some(rarest) = words.iter().map(|word| index.with_prefix(word)).min_by_key(|found| found.len()) else {
            return Vec::new();
        };
        let mut places: Vec<u16> = rarest.iter().map(|(_, place)| *place).collect();
        places.sort_unstable();
        places.dedup();
        places.into_iter().filter_map(|place| self.at(usize::from(place))).collect()
    }

    /// These files with, or without, those in `changes`, which are ordered by name; `None` when that changes nothing.
    pub(super) fn changed(
        &self,
        mode: FilesMode,
        changes: &[(&FileName, &Attributes)],
    ) -> Option<Vec<(FileName, Attributes)>> {
        let changes_anything = |(name, attributes): &(&FileName, &Attributes)| match (mode, self.get(name)) {
            (FilesMode::Remove, found) => found.is_some(),
            (FilesMode::Add | FilesMode::Replace, found) => found.is_none_or(|(_, found)| found != *attributes),
        };
        if !changes.iter().any(changes_anything) {
            return None;
        }
        let mut files = Vec::with_capacity(self.files.len() + changes.len());
        let (mut old, mut new) = (self.entries().peekable(), changes.iter().copied().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some((old, _)), Some((new, _))) => old.cmp(new),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return Some(files),
            };
            let replaced = if order.is_ge() { new.next() } else { None };
            let kept = if order.is_le() { old.next() } else { None };
            let next = if mode == FilesMode::Remove { kept.filter(|_| replaced.is_none()) } else { replaced.or(kept) };
            files.extend(next.map(|(name, attributes)| (name.clone(), attributes.clone())));
        }
    }

    fn at(&self, place: usize) -> Option<(&FileName, &Attributes)> {
        self.files.get(place).map(|(name, attributes)| (name, attributes))
    }
}

impl Index {
    fn new(files: &[(FileName, Attributes)]) -> Self {
        let (mut by_hash, mut by_word) = (Vec::with_capacity(files.len()), Vec::new());
        for (place, (name, attributes)) in (0_u16..).zip(files) {
            by_hash.push((short_hash(&attributes.hash), place));
            by_word.extend(words_of(name.as_str()).map(|word| (word.into_boxed_str(), place)));
        }
        by_hash.sort_unstable();
        by_word.sort_unstable();
        by_word.dedup();
        by_word.shrink_to_fit();
        Self { by_hash, by_word }
    }

    fn with_prefix(&self, prefix: &str) -> &[(Box<str>, u16)] {
        let begin = self.by_word.partition_point(|(word, _)| **word < *prefix);
        let behind = self.by_word.get(begin..).unwrap_or_default();
        let count = behind.partition_point(|(word, _)| word.starts_with(prefix));
        behind.get(..count).unwrap_or_default()
    }
}

/// Appends a file as JSON.
pub(super) fn entry_text(text: &mut Vec<u8>, name: &FileName, attributes: &Attributes) {
    super::super::listing::push_json(text, &Entry { name, size: attributes.size, hash: &attributes.hash });
}

fn short_hash(hash: &HashText) -> u64 {
    let mut hasher = DefaultHasher::new();
    hash.hash(&mut hasher);
    hasher.finish()
}
