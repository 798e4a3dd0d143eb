//! Sends: files that the author of a message wants its receiver to have, and the receipts that tell what became of them.

use serde::{Deserialize, Deserializer, Serialize};

use super::MessageId;
use crate::content::ContentHash;
use crate::limits::MAX_FILE_SIZE;
use crate::names::FileName;
use crate::room::RoomId;

/// Capability: takes receipts, see [`SendReceipt`].
pub const RECEIPTS_CAPABILITY: &str = "receipts/1";

/// What its author sends with a message: a file, or the files of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSend {
    /// The name under which the receiver may get it: the file's, or the folder's without a slash at its end.
    pub name: FileName,
    /// File or folder.
    pub kind: SendKind,
    /// Number of files; 1 for a file.
    pub files: u32,
    /// Sum of their sizes in bytes.
    pub size: u64,
    /// BLAKE3 of the file's content; of a folder, its [`folder_hash`].
    pub hash: ContentHash,
}

/// The kind of a [`FileSend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendKind {
    /// One file; a stream that was read to its end is one as well.
    File,
    /// All files whose names begin with the folder's name and a slash.
    Folder,
}

/// A receiver's word on what became of a send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendReceipt {
    /// The message that announced the send; `None` if it was sent to a room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// The room to which it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomId>,
    /// [`FileSend::hash`] of what the receiver has, or declined.
    pub hash: ContentHash,
    /// What became of it.
    pub outcome: ReceiptOutcome,
}

/// What became of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptOutcome {
    /// The receiver has all of it, verified and in its place.
    Done,
    /// The receiver doesn't want it.
    Declined,
}

impl FileSend {
    /// Returns the start of the names of its files; for a file its whole name.
    pub fn name_prefix(&self) -> String {
        match self.kind {
            SendKind::File => self.name.as_str().to_owned(),
            // With the slash: `photos` is also the start of `photos2/a`.
            SendKind::Folder => format!("{}/", self.name.as_str()),
        }
    }

    /// True if a file of this name is, or would be, part of it.
    pub fn has_name(&self, name: &FileName) -> bool {
        match self.kind {
            SendKind::File => *name == self.name,
            SendKind::Folder => name.strip_folder(self.name.as_str()).is_some(),
        }
    }

    /// True if the fields fit each other.
    const fn is_consistent(&self) -> bool {
        let is_count_right = match self.kind {
            SendKind::File => self.files == 1,
            SendKind::Folder => self.files > 0,
        };
        // The sum of a folder's sizes has the bound of one file's: not every JSON reader holds a greater number exactly.
        is_count_right && self.size <= MAX_FILE_SIZE
    }

    /// Returns the hash of these files as a send of this one: of a file its content's, of a folder its [`folder_hash`].
    /// `None` if they aren't what is sent: other names, or another number.
    pub fn hash_of<'a>(&self, files: impl IntoIterator<Item = (&'a FileName, &'a ContentHash)>) -> Option<ContentHash> {
        let files: Vec<_> = files.into_iter().collect();
        let is_all = usize::try_from(self.files).is_ok_and(|count| count == files.len());
        // The hash of a single file says nothing of its name, so names and their number are compared first.
        if !is_all || !files.iter().all(|(name, _)| self.has_name(name)) {
            return None;
        }
        match (self.kind, files.as_slice()) {
            (SendKind::File, [(_, hash)]) => Some(**hash),
            (SendKind::File, _) => None,
            (SendKind::Folder, files) => Some(folder_hash(files.iter().copied())),
        }
    }
}

/// Returns the hash of the files of a folder: BLAKE3 over the files in the order of their names' bytes, for each its name's
/// length (u32, big-endian), its name and its content hash.
pub fn folder_hash<'a>(files: impl IntoIterator<Item = (&'a FileName, &'a ContentHash)>) -> ContentHash {
    let mut files: Vec<_> = files.into_iter().map(|(name, hash)| (name.as_str(), hash)).collect();
    files.sort_unstable_by_key(|(name, _)| *name);
    let mut hasher = blake3::Hasher::new();
    for (name, hash) in files {
        // The length keeps names and hashes apart: no other list of files hashes the same bytes.
        // Names have at most 1,024 bytes.
        hasher.update(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
        hasher.update(name.as_bytes());
        hasher.update(hash.as_bytes());
    }
    ContentHash::from_bytes(*hasher.finalize().as_bytes())
}

/// Deserializes a send; an invalid one is none, so that the message's text arrives all the same.
pub(super) fn lenient_send<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FileSend>, D::Error> {
    // Into a value first: the parser of the message must get past the send, whatever is wrong in it.
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok().filter(FileSend::is_consistent))
}

#[cfg(test)]
mod tests;
