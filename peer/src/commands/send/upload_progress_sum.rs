//! The progress of a send, summed up from the transfers of its files. Pure.

use std::collections::HashMap;

use shared::FileName;
use shared::peer::FileSend;

use crate::engine::node_event::{FileTransfer, TransferDirection, TransferState};

/// The bytes of a send that its receiver has fetched.
#[derive(Debug)]
pub(super) struct UploadProgressSum {
    send: FileSend,
    /// Bytes of the files that are under way; those of whole files are in `done`.
    running: HashMap<FileName, u64>,
    done: u64,
    done_files: HashMap<FileName, u64>,
}

impl UploadProgressSum {
    pub(super) fn new(send: &FileSend) -> Self {
        Self { send: send.clone(), running: HashMap::new(), done: 0, done_files: HashMap::new() }
    }

    /// Takes a transfer into account; false if it isn't about this send.
    pub(super) fn handle_transfer(&mut self, transfer: &FileTransfer) -> bool {
        let is_ours = transfer.direction == TransferDirection::Up && self.send.has_name(&transfer.name);
        if !is_ours {
            return false;
        }
        match transfer.state {
            TransferState::Done => {
                self.running.remove(&transfer.name);
                if self.done_files.insert(transfer.name.clone(), transfer.size).is_none() {
                    self.done = self.done.saturating_add(transfer.size);
                }
            }
            // What was fetched is kept there: it isn't taken back.
            TransferState::Running | TransferState::Failed if !self.done_files.contains_key(&transfer.name) => {
                let bytes = self.running.entry(transfer.name.clone()).or_default();
                // A fetch that begins again counts from 0, and no bar goes back.
                *bytes = transfer.bytes.max(*bytes);
            }
            TransferState::Running | TransferState::Failed => {}
        }
        true
    }

    /// True if all files were fetched.
    pub(super) fn is_all(&self) -> bool {
        // Bytes alone would be all of an empty file from the beginning.
        self.done >= self.send.size && u32::try_from(self.done_files.len()).is_ok_and(|files| files >= self.send.files)
    }

    /// Returns the bytes that were fetched.
    pub(super) fn bytes(&self) -> u64 {
        self.running.values().fold(self.done, |sum, bytes| sum.saturating_add(*bytes)).min(self.send.size)
    }
}

#[cfg(test)]
mod tests {
    use shared::ContentHash;
    use shared::peer::SendKind;

    use super::*;

    #[test]
    fn files_are_summed_up_and_never_taken_back() {
        let send = FileSend {
            name: "f".parse().unwrap(),
            kind: SendKind::Folder,
            files: 2,
            size: 30,
            hash: ContentHash::from_bytes([1; 32]),
        };
        let mut sum = UploadProgressSum::new(&send);
        let mut tell = |name: &str, direction, bytes, state| {
            let (peer, name) = ("bob".parse().unwrap(), name.parse().unwrap());
            let told = sum.handle_transfer(&FileTransfer { peer, name, direction, bytes, size: 20, state });
            (told.then(|| sum.bytes()), sum.is_all())
        };
        use TransferDirection::{Down, Up};
        use TransferState::{Done, Failed, Running};
        assert_eq!(tell("f/a", Up, 5, Running), (Some(5), false));
        assert_eq!(tell("f/b", Up, 7, Running), (Some(12), false));
        assert_eq!(tell("f/b", Up, 3, Failed), (Some(12), false));
        assert_eq!(tell("other", Up, 9, Running), (None, false));
        assert_eq!(tell("f/a", Down, 9, Running), (None, false));
        assert_eq!(tell("f/a", Up, 20, Done), (Some(27), false));
        assert_eq!(tell("f/a", Up, 20, Done), (Some(27), false));
        assert_eq!(tell("f/b", Up, 20, Done), (Some(30), true));
    }
}
