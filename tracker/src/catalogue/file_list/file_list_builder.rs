//! A list of files under construction: files and chunks are added in the order of the names.

use std::sync::Arc;

use shared::tracker::SharedFile;

use super::FileList;
use super::file_chunk::{ChunkBuilder, ChunkEntry, FileChunk, MAX_TEXT_BYTES};

/// Files in one chunk.
pub(super) const MAX_FILES: usize = 512;

/// A list of chunks under construction, ordered by name.
#[derive(Debug, Default)]
pub(super) struct FileListBuilder(pub(super) Vec<Arc<FileChunk>>);

impl FileListBuilder {
    /// As [`FileListBuilder::push_all`], for files that are not in a chunk yet.
    pub(super) fn push_files(&mut self, files: impl Iterator<Item = SharedFile>) {
        let mut draft = ChunkBuilder::default();
        files.for_each(|file| draft.push(&file));
        self.push_all(draft.entries().collect());
    }

    /// Appends files that are sorted and behind all others. They join the last chunk if it is small, and are divided
    /// into chunks.
    pub(super) fn push_all(&mut self, files: Vec<ChunkEntry<'_>>) {
        let bytes = |files: &[ChunkEntry<'_>]| files.iter().map(ChunkEntry::len).sum::<usize>();
        let more = bytes(&files);
        // At most half full, so that a joined chunk leaves room for later additions.
        let is_small = |last: &mut Arc<FileChunk>| {
            last.len() + files.len() <= MAX_FILES / 2 && last.text_bytes() + more <= MAX_TEXT_BYTES / 2
        };
        let small = self.0.pop_if(is_small);
        let joined: Vec<_> = small.iter().flat_map(|small| small.entries()).chain(files).collect();
        let bytes = bytes(&joined);
        // Chunks of equal size instead of full ones: a full chunk would be divided by the next added file.
        let pieces = joined.len().div_ceil(MAX_FILES).max(bytes.div_ceil(MAX_TEXT_BYTES)).max(1);
        let (most, most_bytes) = (joined.len().div_ceil(pieces), bytes.div_ceil(pieces));
        let (mut draft, mut count, mut bytes) = (ChunkBuilder::default(), 0, 0);
        for entry in &joined {
            // An entry on the border goes where more than half of it fits.
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

impl From<FileListBuilder> for FileList {
    fn from(FileListBuilder(chunks): FileListBuilder) -> Self {
        let sum = |of: fn(&FileChunk) -> usize| chunks.iter().map(|chunk| of(chunk)).sum();
        let (count, text_bytes) = (sum(FileChunk::len), sum(FileChunk::text_bytes));
        // The references to the chunks count as well.
        let bytes = sum(FileChunk::bytes) + chunks.len() * size_of::<Arc<FileChunk>>();
        Self { chunks: chunks.into(), count, bytes, text_bytes }
    }
}
