//! Reading what is sent, ahead of the network and off its thread.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use shared::content::Manifest;
use shared::peer::Code;
use shared::{ContentHash, FileName, Layout};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::pieces::Pieces;
use crate::sys::{FileId, file_id};

/// Pieces read ahead of the network.
const READ_AHEAD: usize = 3;

/// A piece, or why there is none.
pub(super) type Read = Result<Bytes, Code>;

/// A file that is being sent: some of its groups, in the order asked for.
#[derive(Debug)]
pub(super) struct OpenShare {
    /// The name it is offered under.
    pub(super) name: FileName,
    pub(super) hash: ContentHash,
    /// Whether all of it is here.
    pub(super) is_whole: bool,
    /// How it is cut.
    pub(super) layout: Layout,
    /// Bytes that will be sent in all.
    pub(super) bytes: u64,
    pub(super) pieces: ReadAhead,
}

/// What proves that what was read is what is offered.
#[derive(Debug)]
pub(super) enum Proof {
    /// The file is still the one that was hashed.
    Version(FileId),
    /// Each group is hashed again; for a file that is being written to.
    Groups(Layout, Manifest),
}

/// Parts of an open file that are still to be read.
#[derive(Debug)]
pub(super) struct Ranges {
    file: File,
    proof: Proof,
    /// Half-open ranges of bytes, each of whole groups, the next one first.
    left: VecDeque<(u64, u64)>,
    piece_bytes: u64,
    buffers: Pieces,
}

/// The pieces of an [`OpenShare`] as they are read.
#[derive(Debug)]
pub(super) struct ReadAhead {
    /// Read while the file was being opened: of a small file, that is all.
    first: Option<Read>,
    rest: Rest,
}

/// What comes behind the first piece.
#[derive(Debug)]
enum Rest {
    Nothing,
    Unread(Ranges),
    /// A thread reads.
    Reading(mpsc::Receiver<Read>, JoinHandle<()>),
}

impl Ranges {
    /// These ranges of `file` in pieces of `piece_bytes`.
    pub(super) const fn new(
        file: File,
        proof: Proof,
        left: VecDeque<(u64, u64)>,
        piece_bytes: u64,
        buffers: Pieces,
    ) -> Self {
        Self { file, proof, left, piece_bytes, buffers }
    }

    /// The next bytes; [`Code::Stale`] when they are not what is offered.
    pub(super) fn read(&mut self) -> Option<Read> {
        let (start, end) = self.left.front_mut()?;
        let piece_bytes = match &self.proof {
            Proof::Version(_) => self.piece_bytes,
            Proof::Groups(layout, _) => layout.group_bytes(),
        };
        let len = piece_bytes.min(*end - *start);
        let offset = *start;
        *start += len;
        if start == end {
            self.left.pop_front();
        }
        let Ok(len) = usize::try_from(len) else { return Some(Err(Code::Internal)) };
        let piece = self.buffers.fill(len, |buffer| self.file.read_exact_at(buffer, offset).map_err(|_| Code::Stale));
        // Checked after the read: what was read before a change was noticed is never sent.
        Some(piece.and_then(|piece| if self.is_proven(offset, &piece) { Ok(piece) } else { Err(Code::Stale) }))
    }

    fn is_proven(&self, offset: u64, piece: &[u8]) -> bool {
        match &self.proof {
            Proof::Version(id) => version(&self.file) == Some(*id),
            Proof::Groups(layout, manifest) => u32::try_from(offset / layout.group_bytes())
                .is_ok_and(|group| manifest.value(group) == Some(&layout.value_of(group, piece))),
        }
    }
}

impl ReadAhead {
    /// `first` and then what is left of `rest`.
    pub(super) fn new(first: Option<Read>, rest: Ranges) -> Self {
        let goes_on = !rest.left.is_empty() && matches!(first, Some(Ok(_)));
        Self { first, rest: if goes_on { Rest::Unread(rest) } else { Rest::Nothing } }
    }

    /// Whether nothing is left to be read.
    pub(super) const fn is_all_here(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// The next piece; `None` behind the last. A thread reads the further ones from the first call on.
    pub(super) async fn next(&mut self) -> Option<Read> {
        self.rest = match std::mem::replace(&mut self.rest, Rest::Nothing) {
            Rest::Unread(ranges) => read_on(ranges),
            other => other,
        };
        match (self.first.take(), &mut self.rest) {
            (None, Rest::Reading(ready, _)) => ready.recv().await,
            (first, _) => first,
        }
    }

    /// Waits until nothing is read any more; false when the reader failed.
    pub(super) async fn end(self) -> bool {
        let Rest::Reading(ready, reader) = self.rest else { return true };
        drop(ready);
        reader.await.is_ok()
    }
}

fn read_on(mut ranges: Ranges) -> Rest {
    let (pieces, ready) = mpsc::channel(READ_AHEAD);
    let reader = tokio::task::spawn_blocking(move || {
        while let Some(piece) = ranges.read() {
            let last = piece.is_err();
            if pieces.blocking_send(piece).is_err() || last {
                return;
            }
        }
    });
    Rest::Reading(ready, reader)
}

/// What tells one version of a file from another; `None` for what isn't a file.
pub(super) fn version(file: &File) -> Option<FileId> {
    file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| file_id(&metadata))
}
