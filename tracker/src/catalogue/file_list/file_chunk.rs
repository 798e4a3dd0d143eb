//! Immutable chunks of neighbouring files, built with everything that searches and replies need.
//!
//! ```text
//! names  a.txtb/c.txtd.pdf…            hashes  a short hash of each content hash
//! text   ,{"name":"a.txt","size":1,…   ends    the ends of each file's name and text
//! index  the words of the names, see [`super::word_index`]
//! ```
//! A few long texts instead of several short ones a file take a third of the memory, and are allocated, copied and
//! freed in one go.

use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::size_of_val;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::Serialize;
use shared::tracker::{FilesMode, HashText, SharedFile};
use shared::{ContentHash, FileName};

use super::super::byte_counter::{ByteCounter, CountedText};
use super::super::json_text::push_json;
use super::word_index::{PositionSet, WordIndex};

/// Bytes of text in one chunk of several files.
pub(super) const MAX_TEXT_BYTES: usize = 96 * 1024;
/// The allocator's overhead for a chunk's parts and its shared text, about.
const ALLOCATION_OVERHEAD: usize = 10 * 16 + 128;

/// One to [`MAX_FILES`] files, ordered by name.
#[derive(Debug)]
pub(super) struct FileChunk {
    names: Box<str>,
    /// The files as JSON, each with a comma before it.
    text: Bytes,
    /// The same text, for counting its memory when the chunk is replaced.
    counted_text: Arc<CountedText>,
    ends: Box<[EntryEnds]>,
    hashes: Box<[u32]>,
    index: WordIndex,
    digest: OnceLock<ContentHash>,
}

/// The ends of one file's name and text.
#[derive(Debug, Clone, Copy)]
struct EntryEnds {
    name: u32,
    text: u32,
}

/// One file, borrowed from its chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkEntry<'a> {
    pub(super) name: &'a str,
    /// JSON with a comma before it.
    text: &'a [u8],
    hash: u32,
}

/// A content hash to search for.
#[derive(Debug)]
pub(super) struct HashQuery {
    short: u32,
    /// The end of the text of every file with this hash.
    ending: Vec<u8>,
}

/// A chunk under construction.
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

    /// Returns the memory the chunk takes, with the allocator's overhead.
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
        // The names are parts of one text, so no slice can be searched by the library.
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

    /// Counts the text until it is freed.
    pub(super) fn count_in(&self, counter: &ByteCounter) {
        self.counted_text.count_in(counter);
    }

    /// Returns the hash of the text, computed at the first call.
    pub(super) fn digest(&self) -> ContentHash {
        // Not when the chunk is built: only the store asks for it, without the lock of the registry.
        *self.digest.get_or_init(|| ContentHash::of(&self.text))
    }

    pub(super) const fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Returns the files with this hash.
    pub(super) fn with_hash(&self, hash: &HashQuery) -> impl Iterator<Item = ChunkEntry<'_>> {
        let same = self.hashes.iter().enumerate().filter(|(_, short)| **short == hash.short);
        same.filter_map(|(place, _)| self.at(place)).filter(|entry| hash.matches(entry))
    }

    /// Returns the files whose names have all these words. Looks are subtracted from `effort`.
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

    /// Returns the files after adding or removing sorted `changes`; `None` when nothing changes.
    pub(super) fn merged_with<'a>(
        &'a self,
        mode: FilesMode,
        changes: &[ChunkEntry<'a>],
    ) -> Option<Vec<ChunkEntry<'a>>> {
        let changes_anything = |entry: &ChunkEntry<'_>| match (mode, self.get(entry.name)) {
            (FilesMode::Remove, found) => found.is_some(),
            (FilesMode::Add | FilesMode::Replace, found) => found != Some(*entry),
        };
        // Such a chunk is shared by the old list and the new one.
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
            // `Equal` takes one from both: the change replaces the file, or removes it.
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
    /// Returns the file as JSON.
    pub(super) fn text(&self) -> &'a [u8] {
        self.text.get(1..).unwrap_or_default()
    }

    /// Returns the bytes of its text, the comma included.
    pub(super) const fn len(&self) -> usize {
        self.text.len()
    }

    /// Parses the text. `None` only for text that this module didn't write.
    pub(super) fn file(&self) -> Option<SharedFile> {
        serde_json::from_slice(self.text()).ok()
    }
}

/// Compares the texts, which have all fields.
impl PartialEq for ChunkEntry<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl HashQuery {
    pub(super) fn new(hash: &HashText) -> Self {
        // The hash is the last field of a file's text, see `ChunkBuilder::push`.
        let mut ending = br#","hash":"#.to_vec();
        push_json(&mut ending, hash);
        ending.push(b'}');
        Self { short: short_hash(hash), ending }
    }

    pub(super) fn matches(&self, entry: &ChunkEntry<'_>) -> bool {
        // Short hashes may collide; the text decides.
        entry.hash == self.short && entry.text.ends_with(&self.ending)
    }
}

impl ChunkBuilder {
    /// Appends a file whose name is behind all others.
    pub(super) fn push(&mut self, SharedFile { name, size, hash }: &SharedFile) {
        #[derive(Serialize)]
        struct FileJson<'a> {
            name: &'a FileName,
            size: u64,
            // Must be the last field: `HashQuery` matches the end of the text.
            hash: &'a HashText,
        }
        self.text.push(b',');
        push_json(&mut self.text, &FileJson { name, size: *size, hash });
        self.finish_entry(name.as_str(), short_hash(hash));
    }

    /// Appends a file of another chunk; see [`ChunkBuilder::push`].
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
        // A chunk has about `MAX_TEXT_BYTES`, or a single file: the conversion never saturates.
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
    // For speed only: a match is confirmed by the text.
    (hasher.finish() >> 32) as u32
}
