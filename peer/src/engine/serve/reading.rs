//! Reading what is sent, ahead of the network and off its thread.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use shared::Layout;
use shared::peer::Code;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;

use super::pieces::Pieces;
use crate::profile::Share;
use crate::sys::{FileId, file_id};

/// Pieces read ahead of the network.
const READ_AHEAD: usize = 3;

/// A piece, or why there is none.
type Read = Result<Bytes, Code>;

/// A file that is being sent: some of its groups, in the order asked for.
#[derive(Debug)]
pub(super) struct OpenShare {
    /// The share as it was hashed.
    pub(super) share: Share,
    /// How it is cut.
    pub(super) layout: Layout,
    /// Bytes that will be sent in all.
    pub(super) bytes: u64,
    /// Its and the node's places among what is sent at once.
    pub(super) slots: (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>),
    pub(super) ranges: Ranges,
}

/// Parts of an open file that are still to be read.
#[derive(Debug)]
pub(super) struct Ranges {
    file: File,
    id: FileId,
    /// Half-open ranges of bytes, the next one first.
    left: VecDeque<(u64, u64)>,
    piece_bytes: u64,
    pieces: Pieces,
    /// Read while the file was being opened: of a small file, that is all.
    first: Option<Read>,
}

/// The pieces of an [`OpenShare`] as they are read.
#[derive(Debug)]
pub(super) struct ReadAhead {
    first: Option<Read>,
    rest: Option<(mpsc::Receiver<Read>, JoinHandle<()>)>,
}

impl Ranges {
    /// These ranges of `file` in pieces of `piece_bytes`; reads the first one. Blocking.
    pub(super) fn open(file: File, id: FileId, left: VecDeque<(u64, u64)>, piece_bytes: u64, pieces: Pieces) -> Self {
        let mut ranges = Self { file, id, left, piece_bytes, pieces, first: None };
        ranges.first = ranges.read();
        ranges
    }

    /// All pieces, the further ones read by a thread.
    pub(super) fn read_ahead(mut self) -> ReadAhead {
        let first = self.first.take();
        let rest = (!self.left.is_empty() && matches!(first, Some(Ok(_)))).then(|| {
            let (pieces, ready) = mpsc::channel(READ_AHEAD);
            let read_all = move || {
                while let Some(piece) = self.read() {
                    let last = piece.is_err();
                    if pieces.blocking_send(piece).is_err() || last {
                        return;
                    }
                }
            };
            (ready, tokio::task::spawn_blocking(read_all))
        });
        ReadAhead { first, rest }
    }

    /// The next bytes; [`Code::Stale`] when the file is no longer the one that was hashed.
    fn read(&mut self) -> Option<Read> {
        let (start, end) = self.left.front_mut()?;
        let len = self.piece_bytes.min(*end - *start);
        let offset = *start;
        *start += len;
        if start == end {
            self.left.pop_front();
        }
        let Ok(len) = usize::try_from(len) else { return Some(Err(Code::Internal)) };
        let piece = self.pieces.fill(len, |buffer| self.file.read_exact_at(buffer, offset).map_err(|_| Code::Stale));
        // Checked after the read: what was read before a change was noticed is never sent.
        Some(piece.and_then(|piece| if version(&self.file) == Some(self.id) { Ok(piece) } else { Err(Code::Stale) }))
    }
}

impl ReadAhead {
    /// The next piece; `None` behind the last.
    pub(super) async fn next(&mut self) -> Option<Read> {
        match (self.first.take(), &mut self.rest) {
            (None, Some((ready, _))) => ready.recv().await,
            (first, _) => first,
        }
    }

    /// Waits until nothing is read any more; false when the reader failed.
    pub(super) async fn end(self) -> bool {
        let Some((ready, reader)) = self.rest else { return true };
        drop(ready);
        reader.await.is_ok()
    }
}

/// What tells one version of a file from another; `None` for what isn't a file.
pub(super) fn version(file: &File) -> Option<FileId> {
    file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| file_id(&metadata))
}
