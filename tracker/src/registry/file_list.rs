//! What one user shares: at most one file of each name, found by name, hash or words, and the list's JSON text.
//!
//! The list is kept in chunks of neighbouring names. Whoever has a copy of it shares the chunks, and what changes makes
//! only its own chunk anew: so a long list is copied, changed and told in a moment, and can be changed much while
//! nobody has to wait for it.

mod file_chunk;
#[cfg(test)]
mod tests;
mod word_index;

use std::sync::Arc;

use bytes::Bytes;
use shared::limits::MAX_FILES_PER_USER;
use shared::names::{to_nfc, to_nfd};
use shared::tracker::{FilesMode, FindCriterion, HashText, SharedFile};
use shared::{ContentHash, FileName};

use super::byte_counter::ByteCounter;
use super::catalogue_quota::ListSize;
use file_chunk::{ChunkBuilder, ChunkEntry, FileChunk, HashQuery, MAX_FILES, MAX_TEXT_BYTES};

/// Files of one user that are listed at most for one asker.
const MAX_FILES_LISTED: usize = 1000;
/// Lists that take more memory than this take a while to be thrown away.
const LONG_LIST_BYTES: usize = 1024 * 1024;
/// Texts longer than this stay where they are instead of being copied into a text that tells of several users.
pub(super) const MAX_COPIED_TEXT_BYTES: usize = 64 * 1024;
/// What a file that is found costs, in looks at one that isn't.
const EFFORT_PER_FOUND: usize = 32;

/// One user's files, by name. Copying it is cheap.
#[derive(Debug, Clone, Default)]
pub struct FileList {
    /// None of them empty, each name behind all names of the chunk before.
    chunks: Arc<[Arc<FileChunk>]>,
    count: usize,
    bytes: usize,
    text_bytes: usize,
}

/// Why a list of files was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileListError {
    /// More than [`MAX_FILES_PER_USER`].
    TooMany,
    /// Together with everybody else's they would take more memory than [`super::PresenceRules`] allow.
    CatalogueFull,
    /// With it the user, or the origin, would have more of that memory than its part.
    ShareExceeded,
    /// Too many lists of this origin that have changed are still being read.
    TooManyInFlight,
}

/// Files as text for one asker.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileListText {
    /// A JSON list.
    pub(super) text: Bytes,
    /// How many of them are in it.
    pub(super) listed: usize,
    /// How many there are.
    pub(super) count: usize,
}

/// What to find, in a form in which it is found fast.
#[derive(Debug)]
pub(super) struct FileQuery(QueryKind);

#[derive(Debug)]
enum QueryKind {
    Hash(HashQuery),
    /// As the index has them.
    Words(Vec<String>),
}

/// Chunks in the making, ordered by name.
#[derive(Debug, Default)]
struct FileListBuilder(Vec<Arc<FileChunk>>);

impl FileList {
    /// Those files; of several with one name the last counts.
    pub fn from_list(mut list: Vec<SharedFile>) -> Self {
        if !list.is_sorted_by(|one, next| one.name < next.name) {
            // The last of a name comes first.
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

    /// As [`FileList::from_list`], of the lists that [`FileList::pieces`] gave, in any order: if nobody changed them, they are
    /// the same pieces again.
    pub fn from_pieces(mut pieces: Vec<Vec<SharedFile>>) -> Self {
        pieces.sort_by(|one, other| one.first().map(|file| &file.name).cmp(&other.first().map(|file| &file.name)));
        if !pieces.iter().flatten().is_sorted_by(|one, next| one.name < next.name) {
            return Self::from_list(pieces.into_iter().flatten().collect());
        }
        let mut chunks = FileListBuilder::default();
        pieces.into_iter().for_each(|piece| chunks.push_files(piece.into_iter()));
        chunks.into()
    }

    /// The list in pieces that stay as they are when others change: what tells each from all others, and its files as
    /// JSON, with commas between them.
    pub fn pieces(&self) -> impl Iterator<Item = (ContentHash, Bytes)> {
        self.chunks.iter().map(|chunk| (chunk.digest(), chunk.text().slice(1..)))
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
        self.bytes > LONG_LIST_BYTES
    }

    /// The memory they take, a copy of a short list's text for LIST_PEERS included.
    pub const fn bytes(&self) -> usize {
        self.bytes + if self.text_bytes > MAX_COPIED_TEXT_BYTES { 0 } else { self.text_bytes }
    }

    /// Whether nothing changed since one was a copy of the other.
    pub fn is_copy_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks) || self.is_empty() && other.is_empty()
    }

    /// Each of them, ordered by name.
    #[cfg(test)]
    pub(super) fn to_list(&self) -> Vec<SharedFile> {
        self.entries().filter_map(|entry| entry.file()).collect()
    }

    /// About how many bytes are gone through by [`FileList::with_changes`].
    pub fn effort(&self, mode: FilesMode, other: &Self) -> usize {
        if mode == FilesMode::Replace {
            return if self.count == other.count { self.bytes } else { 0 };
        }
        let mut touched: Vec<usize> = other.entries().map(|entry| self.chunk_index(entry.name)).collect();
        touched.dedup();
        let bytes = |number: usize| self.chunks.get(number).map_or(0, |chunk| chunk.bytes());
        other.bytes + touched.into_iter().map(bytes).sum::<usize>()
    }

    /// These files, changed by `other`; `None` when that changes nothing.
    ///
    /// # Errors
    /// [`FileListError::TooMany`].
    pub fn with_changes(&self, mode: FilesMode, other: &Self) -> Result<Option<Self>, FileListError> {
        let changed = match mode {
            FilesMode::Replace if self.count == other.count && self.entries().eq(other.entries()) => None,
            FilesMode::Replace => Some(other.clone()),
            FilesMode::Add | FilesMode::Remove => self.merged(mode, &other.entries().collect::<Vec<_>>()),
        };
        match changed {
            Some(files) if files.len() > MAX_FILES_PER_USER => Err(FileListError::TooMany),
            changed => Ok(changed),
        }
    }

    /// What they take of the catalogue's memory.
    pub(super) const fn size(&self) -> ListSize {
        ListSize { bytes: self.bytes(), text: self.text_bytes }
    }

    /// From now on their texts are counted.
    pub(super) fn count_in(&self, counter: &ByteCounter) {
        self.chunks.iter().for_each(|chunk| chunk.count_in(counter));
    }

    /// Bytes of the JSON list of all files, about.
    pub(super) const fn text_bytes(&self) -> usize {
        self.text_bytes
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

    /// Each file as JSON, ordered by name.
    pub(super) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.entries().map(|entry| entry.text())
    }

    /// The files of this name and this hash, as text only if it is `shown`; `None` when there is no such file.
    pub(super) fn matching(
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

    /// At most `limit` of the files that are wanted, in the order of their names, from behind `after` on. What is
    /// looked at is taken from `effort`; soon after that ends the search does, and says behind which file to go on.
    pub(super) fn find(
        &self,
        sought: &FileQuery,
        after: Option<&FileName>,
        limit: usize,
        effort: &mut usize,
    ) -> (Vec<SharedFile>, Option<FileName>) {
        let begin = self.chunks.partition_point(|chunk| after.is_some_and(|after| chunk.last() <= after.as_str()));
        let is_behind = |entry: &ChunkEntry<'_>| after.is_none_or(|after| entry.name > after.as_str());
        let mut found = Vec::new();
        for (number, chunk) in self.chunks.iter().enumerate().skip(begin) {
            let before = found.len();
            let left = limit - before;
            match &sought.0 {
                QueryKind::Hash(hash) => {
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

    /// The place of the chunk that has this name, if one has.
    fn chunk_index(&self, name: &str) -> usize {
        self.chunks.partition_point(|chunk| chunk.first() <= name).saturating_sub(1)
    }

    /// These files, changed by those in `changes`, which are ordered by name; chunks that don't change are shared.
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
            // There was no chunk at all.
            changed = true;
            merged.push_all(changes.to_vec());
        }
        changed.then(|| merged.into())
    }
}

/// The name with each component in either normal form; of a name with many components that may differ, with all in the
/// same.
fn normalization_variants(name: &str) -> Vec<String> {
    const LOOKED_UP: usize = 32;
    if name.is_ascii() {
        return Vec::new();
    }
    let mut forms = vec![String::new()];
    for component in name.split('/') {
        let both = [to_nfc(component), to_nfd(component)];
        let tried = if both[0] != both[1] && forms.len() < LOOKED_UP { &both[..] } else { &both[..1] };
        let mut longer = Vec::with_capacity(forms.len() * tried.len());
        for form in &forms {
            let slash = if form.is_empty() { "" } else { "/" };
            longer.extend(tried.iter().map(|component| format!("{form}{slash}{component}")));
        }
        forms = longer;
    }
    forms.push(to_nfd(name).into_owned());
    forms.retain(|form| form != name);
    forms.sort_unstable();
    forms.dedup();
    forms
}

impl FileListBuilder {
    /// As [`Chunks::push_all`].
    fn push_files(&mut self, files: impl Iterator<Item = SharedFile>) {
        let mut draft = ChunkBuilder::default();
        files.for_each(|file| draft.push(&file));
        self.push_all(draft.entries().collect());
    }

    /// Appends files that are ordered by name and behind all that are here.
    fn push_all(&mut self, files: Vec<ChunkEntry<'_>>) {
        let bytes = |files: &[ChunkEntry<'_>]| files.iter().map(ChunkEntry::len).sum::<usize>();
        let more = bytes(&files);
        let is_small = |last: &mut Arc<FileChunk>| {
            last.len() + files.len() <= MAX_FILES / 2 && last.text_bytes() + more <= MAX_TEXT_BYTES / 2
        };
        let small = self.0.pop_if(is_small);
        let joined: Vec<_> = small.iter().flat_map(|small| small.entries()).chain(files).collect();
        let bytes = bytes(&joined);
        // All of about the same size: none is full at once.
        let pieces = joined.len().div_ceil(MAX_FILES).max(bytes.div_ceil(MAX_TEXT_BYTES)).max(1);
        let (most, most_bytes) = (joined.len().div_ceil(pieces), bytes.div_ceil(pieces));
        let (mut draft, mut count, mut bytes) = (ChunkBuilder::default(), 0, 0);
        for entry in &joined {
            if count > 0 && (count == most || bytes + entry.len() / 2 > most_bytes) {
                self.0.push(Arc::new(std::mem::take(&mut draft).finish()));
                (count, bytes) = (0, 0);
            }
            draft.push_entry(entry);
            (count, bytes) = (count + 1, bytes + entry.len());
        }
        if count > 0 {
            self.0.push(Arc::new(draft.finish()));
        }
    }
}

impl FileQuery {
    pub(super) fn new(wanted: &FindCriterion) -> Self {
        Self(match wanted {
            FindCriterion::Hash(hash) => QueryKind::Hash(HashQuery::new(hash)),
            FindCriterion::Words(words) => QueryKind::Words(words.folded().collect()),
        })
    }
}

impl From<FileListBuilder> for FileList {
    fn from(FileListBuilder(chunks): FileListBuilder) -> Self {
        let sum = |of: fn(&FileChunk) -> usize| chunks.iter().map(|chunk| of(chunk)).sum();
        let (count, text_bytes) = (sum(FileChunk::len), sum(FileChunk::text_bytes));
        // With what refers to the chunks.
        let bytes = sum(FileChunk::bytes) + chunks.len() * size_of::<Arc<FileChunk>>();
        Self { chunks: chunks.into(), count, bytes, text_bytes }
    }
}
