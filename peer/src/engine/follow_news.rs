//! The news of follows, and the wish that they are looked at.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shared::{FileName, UserName};
use tokio::sync::Notify;

pub use crate::profile::FollowState;
use crate::util::TranslatedText;

/// News of a follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowNews {
    /// Its number in the profile.
    pub number: i64,
    /// The followed user.
    pub user: UserName,
    /// The followed folder's shared name; `None` for all that the user shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<FileName>,
    /// The change.
    #[serde(flatten)]
    pub change: FollowChange,
}

/// A change of a copy, or of the follow itself. Names are below the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum FollowChange {
    /// A file came, new or in a new version.
    Fetched {
        /// Its name.
        name: FileName,
        /// Its size in bytes.
        size: u64,
        /// True if it replaces an earlier version.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
    /// A file has another name.
    Moved {
        /// Its earlier name.
        from: FileName,
        /// Its name.
        name: FileName,
    },
    /// A file was removed, and lies in the trash.
    Removed {
        /// Its name.
        name: FileName,
    },
    /// A file that was changed here is kept under another name.
    Kept {
        /// Its name, which the source's version has now.
        name: FileName,
        /// The name under which it is kept.
        kept_as: FileName,
    },
    /// A file could not be fetched or placed; it is tried again.
    Failed {
        /// Its name.
        name: FileName,
        /// The reason.
        why: TranslatedText,
    },
    /// The state is another.
    State {
        /// The state.
        state: FollowState,
        /// Files that come, that failed, or that are to be removed.
        count: usize,
        /// The reason of a state that isn't well.
        #[serde(default, skip_serializing_if = "TranslatedText::is_empty")]
        why: TranslatedText,
        /// The changes since the copy was in step last.
        #[serde(default)]
        totals: FollowTotals,
    },
    /// It was paused.
    Paused,
    /// It was ended.
    Ended,
}

/// Numbers of changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowTotals {
    /// Files that came.
    pub fetched: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that have other names.
    pub moved: usize,
    /// Files that were removed.
    pub removed: usize,
}

/// Makes the node look at the follows of the profile. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct FollowWaker(Arc<Notify>);

impl FollowNews {
    /// Returns the followed folder as it is asked for: `photos/`, or `/` for all that the user shares.
    pub fn folder_text(&self) -> String {
        folder_text(self.folder.as_ref())
    }
}

/// Returns a followed folder as it is asked for.
pub fn folder_text(folder: Option<&FileName>) -> String {
    folder.map_or_else(|| "/".to_owned(), |folder| format!("{}/", folder.as_str()))
}

impl FollowWaker {
    /// Has the follows of the profile looked at.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Waits for the wish. Cancel-safe.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}
