//! Neighbouring files of a list, which never change: made once with all that is looked for in them.
//!
//! ```text
//! names  a.txtb/c.txtd.pdf…            hashes  a short hash of each hash
//! text   ,{"name":"a.txt","size":1,…   ends    where each file's name and text end
//! index  the words of the names, see [`super::index`]
//! ```
//!
//! A few long texts instead of a few short ones a file: they take a third of the memory, and are made, copied and
//! thrown away at once.

use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::size_of_val;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::Serialize;
use shared::tracker::{FilesMode, HashText, SharedFile};
use shared::{ContentHash, FileName};

use super::super::byte_counter::{ByteCounter, CountedText};
use super::word_index::{PositionSet, WordIndex};

/// Files in one chunk.
pub(super) const MAX_FILES: usize = 512;
/// Bytes of text in one chunk, unless it is a single file's.
pub(super) const MAX_TEXT_BYTES: usize = 96 * 1024;
/// About what the allocator keeps beside each of a chunk's parts, and what it takes to share the text.
const ALLOCATION_OVERHEAD: usize = 10 * 16 + 128;

/// Between one and [`MOST`] files, ordered by name.
#[derive(Debug)]
pub(super) struct FileChunk {
    names: Box<str>,
    /// The files as JSON, each with a comma before it.
    text: Bytes,
    /// What all who have the text share.
    counted_text: Arc<CountedText>,
    ends: Box<[EntryEnds]>,
    hashes: Box<[u32]>,
    index: WordIndex,
    digest: OnceLock<ContentHash>,
}

/// Where one file's parts end.
#[derive(Debug, Clone, Copy)]
struct EntryEnds {
    name: u32,
    text: u32,
}

/// One file, where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkEntry<'a> {
    pub(super) name: &'a str,
    /// As JSON with a comma before it.
    text: &'a [u8],
    hash: u32,
}

/// A hash to look for.
#[derive(Debug)]
pub(super) struct HashQuery {
    short: u32,
    /// How the text of a file that has it ends.
    ending: Vec<u8>,
}

/// Files that are written into a chunk.
#[derive(Debug, Default)]
pub(super) struct ChunkBuilder {
    names: String,
    text: Vec<u8>,
    ends: Vec<EntryEnds>,
    hashes: Vec<u32>,
}

impl FileChunk {
    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    /// The memory it takes, allocations included.
    pub(super) fn bytes(&self) -> usize {
        let arrays = size_of_val(&*self.ends) + size_of_val(&*self.hashes);
        size_of::<Self>() + self.names.len() + self.text.len() + arrays + self.index.bytes() + ALLOCATION_OVERHEAD
    }

    pub(super) fn first(&self) -> &str {
        self.at(0).map_or("", |entry| entry.name)
    }

    pub(super) fn last(&self) -> &str {
        self.at(self.len().saturating_sub(1)).map_or("", |entry| entry.name)
    }

    pub(super) fn get(&self, name: &str) -> Option<ChunkEntry<'_>> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let entry = self.at(middle)?;
            match entry.name.cmp(name) {
                Ordering::Equal => return Some(entry),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = ChunkEntry<'_>> {
        (0..self.len()).filter_map(|place| self.at(place))
    }

    pub(super) fn text(&self) -> Bytes {
        self.text.clone()
    }

    /// From now on its text is counted.
    pub(super) fn count_in(&self, counter: &ByteCounter) {
        self.counted_text.count_in(counter);
    }

    /// Of the text.
    pub(super) fn digest(&self) -> ContentHash {
        *self.digest.get_or_init(|| ContentHash::of(&self.text))
    }

    pub(super) const fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// The files with this hash.
    pub(super) fn with_hash(&self, hash: &HashQuery) -> impl Iterator<Item = ChunkEntry<'_>> {
        let same = self.hashes.iter().enumerate().filter(|(_, short)| **short == hash.short);
        same.filter_map(|(place, _)| self.at(place)).filter(|entry| hash.matches(entry))
    }

    /// The files whose names have these words; what was looked at is taken from `effort`.
    pub(super) fn with_words(&self, words: &[String], effort: &mut usize) -> impl Iterator<Item = ChunkEntry<'_>> {
        let mut places = PositionSet::all();
        for word in words {
            places.intersect(&self.index.with_prefix(word, effort));
            if places.is_empty() {
                break;
            }
        }
        places.into_iter().filter_map(|place| self.at(place))
    }

    /// These files with, or without, those in `changes`, which are ordered by name; `None` when that changes nothing.
    pub(super) fn merged_with<'a>(
        &'a self,
        mode: FilesMode,
        changes: &[ChunkEntry<'a>],
    ) -> Option<Vec<ChunkEntry<'a>>> {
        let changes_anything = |entry: &ChunkEntry<'_>| match (mode, self.get(entry.name)) {
            (FilesMode::Remove, found) => found.is_some(),
            (FilesMode::Add | FilesMode::Replace, found) => found != Some(*entry),
        };
        if !changes.iter().any(changes_anything) {
            return None;
        }
        let mut files = Vec::with_capacity(self.len() + changes.len());
        let (mut old, mut new) = (self.entries().peekable(), changes.iter().copied().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some(old), Some(new)) => old.name.cmp(new.name),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return Some(files),
            };
            let replaced = if order.is_ge() { new.next() } else { None };
            let kept = if order.is_le() { old.next() } else { None };
            files.extend(if mode == FilesMode::Remove {
                kept.filter(|_| replaced.is_none())
            } else {
                replaced.or(kept)
            });
        }
    }

    fn at(&self, place: usize) -> Option<ChunkEntry<'_>> {
        entry_at(&self.names, &self.text, &self.ends, &self.hashes, place)
    }
}

impl<'a> ChunkEntry<'a> {
    /// As JSON.
    pub(super) fn text(&self) -> &'a [u8] {
        self.text.get(1..).unwrap_or_default()
    }

    /// Bytes of its text.
    pub(super) const fn len(&self) -> usize {
        self.text.len()
    }

    /// `None` only if what was written can't be read.
    pub(super) fn file(&self) -> Option<SharedFile> {
        serde_json::from_slice(self.text()).ok()
    }
}

/// The text says it all.
impl PartialEq for ChunkEntry<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl HashQuery {
    pub(super) fn new(hash: &HashText) -> Self {
        let mut ending = br#","hash":"#.to_vec();
        super::super::peer_list::push_json(&mut ending, hash);
        ending.push(b'}');
        Self { short: short_hash(hash), ending }
    }

    pub(super) fn matches(&self, entry: &ChunkEntry<'_>) -> bool {
        entry.hash == self.short && entry.text.ends_with(&self.ending)
    }
}

impl ChunkBuilder {
    /// `file`'s name is behind all names before.
    pub(super) fn push(&mut self, SharedFile { name, size, hash }: &SharedFile) {
        #[derive(Serialize)]
        struct FileJson<'a> {
            name: &'a FileName,
            size: u64,
            // The last: files with a hash are known by the end of their texts.
            hash: &'a HashText,
        }
        self.text.push(b',');
        super::super::peer_list::push_json(&mut self.text, &FileJson { name, size: *size, hash });
        self.finish_entry(name.as_str(), short_hash(hash));
    }

    /// As [`Draft::push`].
    pub(super) fn push_entry(&mut self, entry: &ChunkEntry<'_>) {
        self.text.extend_from_slice(entry.text);
        self.finish_entry(entry.name, entry.hash);
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = ChunkEntry<'_>> {
        let at = |place| entry_at(&self.names, &self.text, &self.ends, &self.hashes, place);
        (0..self.ends.len()).filter_map(at)
    }

    pub(super) fn finish(self) -> FileChunk {
        let names = self.names.into_boxed_str();
        let mut begin = 0;
        let index = WordIndex::new(self.ends.iter().map(|ends| {
            let name = names.get(begin..ends.name as usize).unwrap_or_default();
            begin = ends.name as usize;
            name
        }));
        let (ends, hashes) = (self.ends.into_boxed_slice(), self.hashes.into_boxed_slice());
        let (shared_text, text) = CountedText::new(self.text);
        FileChunk { names, text, counted_text: shared_text, ends, hashes, index, digest: OnceLock::new() }
    }

    fn finish_entry(&mut self, name: &str, hash: u32) {
        self.names.push_str(name);
        // A chunk is far below 4 GiB.
        let end = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        self.ends.push(EntryEnds { name: end(self.names.len()), text: end(self.text.len()) });
        self.hashes.push(hash);
    }
}

fn entry_at<'a>(
    names: &'a str,
    text: &'a [u8],
    ends: &[EntryEnds],
    hashes: &[u32],
    place: usize,
) -> Option<ChunkEntry<'a>> {
    let begin = place.checked_sub(1).and_then(|before| ends.get(before)).copied();
    let (begin, end) = (begin.unwrap_or(EntryEnds { name: 0, text: 0 }), ends.get(place)?);
    Some(ChunkEntry {
        name: names.get(begin.name as usize..end.name as usize)?,
        text: text.get(begin.text as usize..end.text as usize)?,
        hash: *hashes.get(place)?,
    })
}

fn short_hash(hash: &HashText) -> u32 {
    let mut hasher = DefaultHasher::new();
    hash.hash(&mut hasher);
    (hasher.finish() >> 32) as u32
}
