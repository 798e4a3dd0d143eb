//! Notices to the user that are no errors.

use std::sync::Arc;

use crate::util::TranslatedText;
use serde::{Deserialize, Serialize};
use shared::{Fingerprint, UserName};

/// A notice while a command goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// A tracker was met for the first time, and its key recorded.
    NewTracker {
        /// The tracker's address.
        address: String,
        /// The tracker's key.
        fingerprint: Fingerprint,
    },
    /// A user was met for the first time, and the key pinned.
    NewFriend {
        /// The new user.
        user: UserName,
        /// The pinned key.
        fingerprint: Fingerprint,
    },
    /// Nobody has the given name; the one user whose name differs in case only is meant.
    OtherLetters {
        /// The name as given.
        asked: UserName,
        /// The user who is meant.
        user: UserName,
    },
    /// An unreadable key was moved aside for a new one.
    KeyPutAside {
        /// The path of the old key.
        path: String,
    },
    /// The tracker can't be asked; recorded addresses are used.
    WithoutTracker {
        /// The error of the tracker.
        why: TranslatedText,
    },
    /// A queued message is given up.
    MessageExpired {
        /// The recipient.
        to: UserName,
        /// The time that it waited, and the beginning of its text.
        why: TranslatedText,
    },
    /// Not all changes in shared folders are reported by the system, so they are looked through at intervals as well.
    FoldersPolled {
        /// The path of the first such folder.
        folder: String,
        /// The reason.
        reason: PollReason,
    },
}

/// The reason why a shared folder is looked through at intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PollReason {
    /// It is on a network or FUSE file system, where others can change it.
    FileSystem,
    /// The system watches no more folders for this user.
    WatchLimit,
    /// The system watches nothing for one more process of this user.
    InstanceLimit,
}

/// A function that receives notices.
pub type NoticeHandler = Arc<dyn Fn(Notice) + Send + Sync>;
