//! Things worth saying that are no errors.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shared::{Fingerprint, UserName};

/// Something worth saying while a command goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// A tracker was met for the first time; its key is on record now.
    NewTracker {
        /// Where.
        address: String,
        /// Its key.
        fingerprint: Fingerprint,
    },
    /// A user was met for the first time; their key is on record now.
    NewFriend {
        /// Who.
        user: UserName,
        /// Their key.
        fingerprint: Fingerprint,
    },
    /// Nobody has the name that was asked for, and one user has it in other letters, who is meant.
    OtherLetters {
        /// The name that was asked for.
        asked: UserName,
        /// The user who is meant.
        user: UserName,
    },
    /// A key that can't be read is kept beside the new one that took its place.
    KeyPutAside {
        /// Where.
        path: String,
    },
    /// The tracker can't be asked; what is on record is used.
    WithoutTracker {
        /// Why.
        why: String,
    },
}

/// Where notices go.
pub type NoticeHandler = Arc<dyn Fn(Notice) + Send + Sync>;
