//! The files that one user shares: at most one of each name, found by name, hash or words, with their JSON text.
//!
//! The list consists of chunks of neighbouring names. Copies of a list share the chunks, and a change makes only its
//! own chunk anew: a long list is copied, changed and sent fast, and a change is prepared on a copy while others
//! use the list.

mod file_chunk;
mod file_list_builder;
mod normalization_variants;
#[cfg(test)]
mod tests;
mod word_index;

use std::sync::Arc;

use bytes::Bytes;
use shared::limits::MAX_FILES_PER_USER;
use shared::tracker::{FilesMode, FindCriterion, HashText, SharedFile};
use shared::{ContentHash, FileName};

use super::byte_counter::ByteCounter;
use file_chunk::{ChunkEntry, FileChunk, HashQuery};
use file_list_builder::{FileListBuilder, MAX_FILES};
use normalization_variants::normalization_variants;

/// Files of one user in a LIST_PEERS reply filtered by name or hash.
const MAX_FILES_LISTED: usize = 1000;
/// Lists that take more memory than this take a while to drop.
const LONG_LIST_BYTES: usize = 1024 * 1024;
/// Longer texts are sent as parts of their own instead of being copied into a text with other users' entries.
pub(crate) const MAX_COPIED_TEXT_BYTES: usize = 64 * 1024;
/// The effort of a file that is found, in looks at names: it is parsed and sent.
const EFFORT_PER_FOUND: usize = 32;

/// The files of one user, ordered by name. A clone shares the chunks.
#[derive(Debug, Clone, Default)]
pub struct FileList {
    /// Non-empty chunks; each begins behind the last name of the chunk before it.
    chunks: Arc<[Arc<FileChunk>]>,
    count: usize,
    bytes: usize,
    text_bytes: usize,
}

/// The memory of a list of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ListSize {
    /// The whole list.
    pub(crate) bytes: usize,
    /// Its texts alone, a part of `bytes`.
    pub(crate) text: usize,
}

/// The reason why a list of files was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileListError {
    /// More than [`MAX_FILES_PER_USER`] files.
    TooMany,
    /// All lists together would take more memory than [`crate::registry::PresenceRules`] allow.
    CatalogueFull,
    /// The user, the origin or its network would exceed its quota of that memory.
    ShareExceeded,
    /// Too many replaced lists of this origin are still being sent.
    TooManyInFlight,
}

/// Files as JSON text for one requester.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileListText {
    /// A JSON list of the first [`MAX_FILES_LISTED`] of them.
    pub(crate) text: Bytes,
    /// The number of files in `text`.
    pub(crate) listed: usize,
    /// The number of files found.
    pub(crate) count: usize,
}

/// A prepared search criterion.
#[derive(Debug)]
pub(crate) struct FileQuery(QueryKind);

#[derive(Debug)]
enum QueryKind {
    Hash(HashQuery),
    /// Words, folded as the index has them.
    Words(Vec<String>),
}

impl FileList {
    /// Builds a list; of several files with one name the last one counts.
    pub fn from_list(mut list: Vec<SharedFile>) -> Self {
        if !list.is_sorted_by(|one, next| one.name < next.name) {
            // The sort is stable: after reversing, the last file of a name comes first, which is the one `dedup` keeps.
            list.reverse();
            list.sort_by(|one, other| one.name.cmp(&other.name));
            list.dedup_by(|later, first| later.name == first.name);
        }
        let pieces = list.len().div_ceil(MAX_FILES).max(1);
        let each = list.len().div_ceil(pieces);
        let mut list = list.into_iter();
        let mut chunks = FileListBuilder::default();
        (0..pieces).for_each(|_| chunks.push_files(list.by_ref().take(each)));
        chunks.into()
    }

    /// Builds a list from the [`FileList::pieces`] of one, in any order. Unchanged pieces become the same chunks again,
    /// so that their digests match the stored ones.
    pub fn from_pieces(mut pieces: Vec<Vec<SharedFile>>) -> Self {
        pieces.sort_by(|one, other| one.first().map(|file| &file.name).cmp(&other.first().map(|file| &file.name)));
        // Pieces that overlap come from a damaged store: the list is built from the files instead.
        if !pieces.iter().flatten().is_sorted_by(|one, next| one.name < next.name) {
            return Self::from_list(pieces.into_iter().flatten().collect());
        }
        let mut chunks = FileListBuilder::default();
        pieces.into_iter().for_each(|piece| chunks.push_files(piece.into_iter()));
        chunks.into()
    }

    /// Returns the chunks' digests and their files as JSON with commas between them. Only changed chunks change theirs.
    pub fn pieces(&self) -> impl Iterator<Item = (ContentHash, Bytes)> {
        self.chunks.iter().map(|chunk| (chunk.digest(), chunk.text().slice(1..)))
    }

    /// Returns the number of files.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// True if there are no files.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// True if dropping the list takes a while.
    pub const fn is_long(&self) -> bool {
        self.bytes > LONG_LIST_BYTES
    }

    /// Returns the memory the list takes, with the copy of a short list's text that LIST_PEERS makes.
    pub const fn bytes(&self) -> usize {
        self.bytes + if self.text_bytes > MAX_COPIED_TEXT_BYTES { 0 } else { self.text_bytes }
    }

    /// True if neither list changed since one was cloned from the other.
    pub fn is_copy_of(&self, other: &Self) -> bool {
        // Empty lists are made independently of each other, and yet are the same.
        Arc::ptr_eq(&self.chunks, &other.chunks) || self.is_empty() && other.is_empty()
    }

    /// Returns all files, ordered by name.
    pub(crate) fn to_list(&self) -> Vec<SharedFile> {
        self.entries().filter_map(|entry| entry.file()).collect()
    }

    /// Returns about how many bytes [`FileList::with_changes`] goes through.
    pub fn effort(&self, mode: FilesMode, other: &Self) -> usize {
        if mode == FilesMode::Replace {
            // Lists of different lengths differ without being compared.
            return if self.count == other.count { self.bytes } else { 0 };
        }
        let mut touched: Vec<usize> = other.entries().map(|entry| self.chunk_index(entry.name)).collect();
        // The changes are in order, so those of one chunk are neighbours.
        touched.dedup();
        let bytes = |number: usize| self.chunks.get(number).map_or(0, |chunk| chunk.bytes());
        other.bytes + touched.into_iter().map(bytes).sum::<usize>()
    }

    /// Returns the list changed by `other`; `None` when that changes nothing. Fails with [`FileListError::TooMany`]
    /// when the result has more than [`MAX_FILES_PER_USER`] files.
    pub fn with_changes(&self, mode: FilesMode, other: &Self) -> Result<Option<Self>, FileListError> {
        let changed = match mode {
            // A client may repeat its list: an unchanged one makes no event and no write.
            FilesMode::Replace if self.count == other.count && self.entries().eq(other.entries()) => None,
            FilesMode::Replace => Some(other.clone()),
            FilesMode::Add | FilesMode::Remove => self.merged(mode, &other.entries().collect::<Vec<_>>()),
        };
        match changed {
            // Judged by the result: short changes add up.
            Some(files) if files.len() > MAX_FILES_PER_USER => Err(FileListError::TooMany),
            changed => Ok(changed),
        }
    }

    /// Returns the list's part of the catalogue's memory.
    pub(crate) const fn size(&self) -> ListSize {
        ListSize { bytes: self.bytes(), text: self.text_bytes }
    }

    /// Counts the texts of all chunks until they are freed.
    pub(crate) fn count_in(&self, counter: &ByteCounter) {
        self.chunks.iter().for_each(|chunk| chunk.count_in(counter));
    }

    /// Returns the size of the JSON list of all files, about.
    pub(crate) const fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Returns the JSON list of all files, ordered by name, in pieces.
    pub(crate) fn text(&self) -> impl Iterator<Item = Bytes> {
        let texts = self.chunks.iter().enumerate().map(|(number, chunk)| {
            let text = chunk.text();
            // Every file has a comma before it; the first one's is cut off.
            if number == 0 { text.slice(1..) } else { text }
        });
        [Bytes::from_static(b"[")].into_iter().chain(texts).chain([Bytes::from_static(b"]")])
    }

    /// Returns each file as JSON, ordered by name.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.entries().map(|entry| entry.text())
    }

    /// Returns the files of this name and hash, as text only if `shown`; `None` when there is none.
    pub(crate) fn matching(
        &self,
        name: Option<&FileName>,
        hash: Option<&HashText>,
        shown: bool,
    ) -> Option<FileListText> {
        let hash = hash.map(HashQuery::new);
        let found: Vec<_> = match (name, &hash) {
            (Some(name), hash) => {
                let has_hash = |entry: &ChunkEntry<'_>| hash.as_ref().is_none_or(|hash| hash.matches(entry));
                let mut found = self.find_by_name(name.as_str()).filter(has_hash).into_iter().collect::<Vec<_>>();
                if found.is_empty() {
                    // macOS decomposes the names of files and other systems compose them: the name may be here in the
                    // other form.
                    let others = normalization_variants(name.as_str());
                    found.extend(others.iter().filter_map(|other| self.find_by_name(other)).filter(has_hash));
                }
                found
            }
            (None, Some(hash)) => self.chunks.iter().flat_map(|chunk| chunk.with_hash(hash)).collect(),
            (None, None) => self.entries().collect(),
        };
        if found.is_empty() {
            return None;
        }
        let count = found.len();
        let listed = if shown { count.min(MAX_FILES_LISTED) } else { 0 };
        let list = found.iter().take(listed).map(ChunkEntry::text).collect::<Vec<_>>().join(&b','.to_owned());
        Some(FileListText { text: [b"[", &*list, b"]"].concat().into(), listed, count })
    }

    /// Returns at most `limit` matching files in the order of their names, from behind `after` on. Looks are subtracted
    /// from `effort`; soon after it reaches 0 the search stops and returns the name behind which to continue.
    pub(crate) fn find(
        &self,
        sought: &FileQuery,
        after: Option<&FileName>,
        limit: usize,
        effort: &mut usize,
    ) -> (Vec<SharedFile>, Option<FileName>) {
        // Chunks that end before the cursor are skipped without a look.
        let begin = self.chunks.partition_point(|chunk| after.is_some_and(|after| chunk.last() <= after.as_str()));
        let is_behind = |entry: &ChunkEntry<'_>| after.is_none_or(|after| entry.name > after.as_str());
        let mut found = Vec::new();
        for (number, chunk) in self.chunks.iter().enumerate().skip(begin) {
            let before = found.len();
            let left = limit - before;
            match &sought.0 {
                QueryKind::Hash(hash) => {
                    // Comparing short hashes is cheaper than looking at names.
                    *effort = effort.saturating_sub(chunk.len() / 8);
                    found.extend(chunk.with_hash(hash).filter(is_behind).filter_map(|entry| entry.file()).take(left));
                }
                QueryKind::Words(words) => {
                    let some = chunk.with_words(words, effort);
                    found.extend(some.filter(is_behind).filter_map(|entry| entry.file()).take(left));
                }
            }
            *effort = effort.saturating_sub((found.len() - before) * EFFORT_PER_FOUND);
            if found.len() >= limit {
                break;
            }
            // The search stops between chunks only, so that a name is enough to continue.
            if *effort == 0 && number + 1 < self.chunks.len() {
                return (found, chunk.last().parse().ok());
            }
        }
        (found, None)
    }

    fn find_by_name(&self, name: &str) -> Option<ChunkEntry<'_>> {
        self.chunks.get(self.chunk_index(name)).and_then(|chunk| chunk.get(name))
    }

    fn entries(&self) -> impl Iterator<Item = ChunkEntry<'_>> {
        self.chunks.iter().flat_map(|chunk| chunk.entries())
    }

    /// Returns the number of the chunk whose range of names includes this name.
    fn chunk_index(&self, name: &str) -> usize {
        self.chunks.partition_point(|chunk| chunk.first() <= name).saturating_sub(1)
    }

    /// Returns the list with sorted `changes` applied; `None` when they change nothing. Unchanged chunks are shared.
    fn merged(&self, mode: FilesMode, mut changes: &[ChunkEntry<'_>]) -> Option<Self> {
        let (mut merged, mut changed) = (FileListBuilder::default(), false);
        for (number, chunk) in self.chunks.iter().enumerate() {
            let next = self.chunks.get(number + 1).map(|next| next.first());
            let here = changes.partition_point(|entry| next.is_none_or(|next| entry.name < next));
            let (own, rest) = changes.split_at(here);
            changes = rest;
            match chunk.merged_with(mode, own) {
                Some(files) => {
                    changed = true;
                    merged.push_all(files);
                }
                None => merged.0.push(Arc::clone(chunk)),
            }
        }
        if mode == FilesMode::Add && !changes.is_empty() {
            // The list was empty: no chunk took the changes.
            changed = true;
            merged.push_all(changes.to_vec());
        }
        changed.then(|| merged.into())
    }
}

impl FileQuery {
    pub(crate) fn new(wanted: &FindCriterion) -> Self {
        Self(match wanted {
            FindCriterion::Hash(hash) => QueryKind::Hash(HashQuery::new(hash)),
            FindCriterion::Words(words) => QueryKind::Words(words.folded().collect()),
        })
    }
}
