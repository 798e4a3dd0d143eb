//! Descriptions of shared files and folders, and the lists of them.

use serde::{Deserialize, Serialize};

use crate::content::{ContentHash, GroupLayout};
use crate::names::FileName;
use crate::untrusted_text::UntrustedText;

/// An entry of a list from a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ListEntry<T> {
    // serde tries the variants of an untagged enum in order, so this one must come first.
    /// An entry of the expected form.
    Valid(T),
    /// Any other JSON value.
    Invalid(serde_json::Value),
}

/// A shared file, as its owner describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// The name under which it is shared.
    pub name: FileName,
    /// Size in bytes.
    pub size: u64,
    /// BLAKE3 of the content.
    pub hash: ContentHash,
    /// Size of a group in bytes, a power of two.
    pub group_size: u64,
    /// Last modification, in seconds since 1970.
    #[serde(default)]
    pub mtime: i64,
    /// Nanoseconds of the last modification beyond `mtime`, 0 to 999,999,999.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub mtime_ns: u32,
    /// True if its owner may execute it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
    /// True if only its owner may read it on the sharing machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owner_only: bool,
    /// True if it is not shared with everybody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restricted: bool,
    /// True if the sharing peer is still fetching it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// True if it changed since it was hashed; only in lists.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// Number of its bytes in groups of zeros, as its manifest tells.
    #[serde(default, skip_serializing_if = "is_no_bytes")]
    pub zero_bytes: u64,
}

/// A shared folder, as its owner describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderTime {
    /// The name under which it is shared.
    pub name: FileName,
    /// Last modification, in seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds of the last modification beyond `mtime`, 0 to 999,999,999.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub mtime_ns: u32,
}

impl FileStat {
    /// Describes a complete file by its content alone: without a time, not executable, readable by all.
    pub const fn new(name: FileName, hash: ContentHash, layout: &GroupLayout) -> Self {
        Self {
            name,
            size: layout.size(),
            hash,
            group_size: layout.group_bytes(),
            mtime: 0,
            mtime_ns: 0,
            executable: false,
            owner_only: false,
            restricted: false,
            partial: false,
            stale: false,
            zero_bytes: 0,
        }
    }

    /// Returns the number of bytes to transfer and store if the description is right.
    pub const fn data_bytes(&self) -> u64 {
        // The number of zeros is a peer's claim, which may be greater than the size.
        self.size.saturating_sub(self.zero_bytes)
    }
}

impl<T> ListEntry<T> {
    /// Returns the entry.
    ///
    /// # Errors
    /// Returns the name that an invalid entry has, or an empty text.
    pub fn into_result(self) -> Result<T, UntrustedText> {
        match self {
            Self::Valid(entry) => Ok(entry),
            // Entries of folder lists are bare names, all others objects with a `name`.
            Self::Invalid(serde_json::Value::String(name)) => Err(name.into()),
            // Indexing a `Value` of any kind by a name gives null where there is no such field, and never panics.
            Self::Invalid(entry) => Err(entry["name"].as_str().unwrap_or_default().into()),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_nothing(ns: &u32) -> bool {
    *ns == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_no_bytes(bytes: &u64) -> bool {
    *bytes == 0
}
