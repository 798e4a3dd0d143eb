//! What one user shares: at most one file of each name, found by name, hash or words, and the list's JSON text.
//!
//! The list is kept in chunks of neighbouring names. Whoever has a copy of it shares the chunks, and what changes makes
//! only its own chunk anew: so a long list is copied, changed and told in a moment, and can be changed much while
//! nobody has to wait for it.

mod chunk;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use shared::FileName;
use shared::limits::FILES_PER_USER;
use shared::tracker::{FilesMode, HashText, SharedFile, Wanted, words_of};

use chunk::{Attributes, Chunk, MOST, entry_text};

/// Files of one user that are listed at most for one asker.
const LISTED: usize = 1000;
/// About what a file costs in memory beside its texts: tree nodes, the index, allocations.
const BYTES_PER_FILE: usize = 400;
/// Lists longer than this take a while to be thrown away.
const LONG: usize = 1000;

/// One user's files, by name. Copying it is cheap.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// None of them empty, each name behind all names of the chunk before.
    chunks: Vec<Arc<Chunk>>,
    count: usize,
    bytes: usize,
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

impl Files {
    /// Those files; of several with one name the last counts.
    pub fn from_list(list: Vec<SharedFile>) -> Self {
        let by_name: BTreeMap<_, _> =
            list.into_iter().map(|SharedFile { name, size, hash }| (name, Attributes { size, hash })).collect();
        let mut files = Self::default();
        files.push_all(by_name.into_iter().collect());
        files
    }

    /// How many.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether to throw them away takes a while.
    pub const fn is_long(&self) -> bool {
        self.count > LONG
    }

    /// About how much memory they take.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing changed since one was a copy of the other.
    pub fn is_copy_of(&self, other: &Self) -> bool {
        self.chunks.len() == other.chunks.len() && self.chunks.iter().zip(&other.chunks).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// Each of them, ordered by name.
    pub(super) fn to_list(&self) -> Vec<SharedFile> {
        self.entries().map(shared_file).collect()
    }

    /// Makes the text now, where it costs nobody anything.
    pub fn prepare_text(&self) {
        self.chunks.iter().for_each(|chunk| drop(chunk.text()));
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
    ///
    /// # Errors
    /// [`FilesRefused::TooMany`], and then nothing changed.
    pub fn apply(&mut self, mode: FilesMode, other: &mut Self) -> Result<bool, FilesRefused> {
        match mode {
            FilesMode::Replace if other.len() > FILES_PER_USER => return Err(FilesRefused::TooMany),
            FilesMode::Replace if self.count == other.count && self.entries().eq(other.entries()) => return Ok(false),
            FilesMode::Replace => {
                mem::swap(self, other);
                return Ok(true);
            }
            FilesMode::Add => {
                let new = other.entries().filter(|(name, _)| self.get(name).is_none()).count();
                if self.len() + new > FILES_PER_USER {
                    return Err(FilesRefused::TooMany);
                }
            }
            FilesMode::Remove => {}
        }
        let before = mem::take(self);
        let changed = self.merge(&before, mode, &other.entries().collect::<Vec<_>>());
        Ok(changed)
    }

    /// The pieces of the JSON list of all files, ordered by name.
    pub(super) fn text(&self) -> impl Iterator<Item = Bytes> {
        let texts = self.chunks.iter().enumerate().map(|(number, chunk)| {
            let text = chunk.text();
            // Each file has a comma before it, but the first.
            if number == 0 { text.slice(1..) } else { text }
        });
        [Bytes::from_static(b"[")].into_iter().chain(texts).chain([Bytes::from_static(b"]")])
    }

    /// The JSON list in one piece.
    pub(super) fn whole_text(&self) -> Bytes {
        self.text().collect::<Vec<_>>().concat().into()
    }

    /// The files of this name and this hash, as text only if it is `shown`; `None` when there is no such file.
    pub(super) fn matching(&self, name: Option<&FileName>, hash: Option<&HashText>, shown: bool) -> Option<FilesText> {
        let found: Vec<_> = match (name, hash) {
            (Some(name), hash) => {
                let found = self.get(name).filter(|(_, found)| hash.is_none_or(|hash| *hash == found.hash));
                found.into_iter().collect()
            }
            (None, Some(hash)) => self.chunks.iter().flat_map(|chunk| chunk.with_hash(hash)).collect(),
            (None, None) => self.entries().collect(),
        };
        if found.is_empty() {
            return None;
        }
        let count = found.len();
        let listed = if shown { count.min(LISTED) } else { 0 };
        let mut text = vec![b'['];
        for (number, (name, attributes)) in found.into_iter().take(listed).enumerate() {
            if number > 0 {
                text.push(b',');
            }
            entry_text(&mut text, name, attributes);
        }
        text.push(b']');
        Some(FilesText { text: text.into(), listed, count })
    }

    /// At most `limit` of the files that are wanted, in the order of their names, from behind `after` on. Each that is
    /// looked at costs `effort`; where that ends the search does, and says behind which file to go on.
    pub(super) fn find(
        &self,
        wanted: &Wanted,
        after: Option<&FileName>,
        limit: usize,
        effort: &mut usize,
    ) -> (Vec<SharedFile>, Option<FileName>) {
        let begin = after.map_or(0, |after| self.chunk_of(after));
        let mut found = Vec::new();
        for chunk in self.chunks.iter().skip(begin) {
            let candidates = match wanted {
                Wanted::Hash(hash) => chunk.with_hash(hash),
                Wanted::Words(words) => chunk.with_words(words),
            };
            let behind = candidates.into_iter().filter(|(name, _)| after.is_none_or(|after| *name > after));
            for (name, attributes) in behind {
                let is_wanted = match wanted {
                    Wanted::Hash(_) => true,
                    Wanted::Words(words) => words.matches(name),
                };
                if is_wanted {
                    found.push(shared_file((name, attributes)));
                }
                *effort = effort.saturating_sub(1);
                if found.len() == limit || *effort == 0 {
                    return (found, Some(name.clone()));
                }
            }
        }
        (found, None)
    }

    fn get(&self, name: &FileName) -> Option<(&FileName, &Attributes)> {
        self.chunks.get(self.chunk_of(name))?.get(name)
    }

    fn entries(&self) -> impl Iterator<Item = (&FileName, &Attributes)> {
        self.chunks.iter().flat_map(|chunk| chunk.entries())
    }

    /// The place of the chunk that has this name, if one has.
    fn chunk_of(&self, name: &FileName) -> usize {
        self.chunks.partition_point(|chunk| chunk.first().is_some_and(|first| first <= name)).saturating_sub(1)
    }

    /// Becomes `before`, changed by the files in `changes`, which are ordered by name; chunks that don't change are
    /// shared. Says whether anything changed.
    fn merge(&mut self, before: &Self, mode: FilesMode, mut changes: &[(&FileName, &Attributes)]) -> bool {
        let mut changed = false;
        for (number, chunk) in before.chunks.iter().enumerate() {
            let next = before.chunks.get(number + 1).and_then(|next| next.first());
            let here = changes.partition_point(|(name, _)| next.is_none_or(|next| *name < next));
            let (own, rest) = changes.split_at(here);
            changes = rest;
            match chunk.changed(mode, own) {
                Some(files) => {
                    changed = true;
                    self.push_all(files);
                }
                None => self.push(Arc::clone(chunk)),
            }
        }
        if mode == FilesMode::Add && !changes.is_empty() {
            // There was no chunk at all.
            changed = true;
            self.push_all(changes.iter().map(|(name, attributes)| ((*name).clone(), (*attributes).clone())).collect());
        }
        changed
    }

    /// Appends files that are ordered by name and behind all that are here.
    fn push_all(&mut self, mut files: Vec<(FileName, Attributes)>) {
        if let Some(last) = self.chunks.pop_if(|last| last.len() + files.len() <= MOST / 2) {
            self.count -= last.len();
            self.bytes -= last.bytes();
            files.splice(0..0, last.entries().map(|(name, attributes)| (name.clone(), attributes.clone())));
        }
        let pieces = files.len().div_ceil(MOST).max(1);
        let each = files.len().div_ceil(pieces).max(1);
        while !files.is_empty() {
            let rest = files.split_off(each.min(files.len()));
            self.push(Arc::new(Chunk::new(mem::replace(&mut files, rest))));
        }
    }

    fn push(&mut self, chunk: Arc<Chunk>) {
        self.count += chunk.len();
        self.bytes += chunk.bytes();
        self.chunks.push(chunk);
    }
}

fn shared_file((name, attributes): (&FileName, &Attributes)) -> SharedFile {
    SharedFile { name: name.clone(), size: attributes.size, hash: attributes.hash.clone() }
}

fn cost(name: &FileName, attributes: &Attributes) -> usize {
    BYTES_PER_FILE + 3 * name.as_str().len() + 2 * attributes.hash.as_str().len()
}
