//! Events for subscribers: one line of JSON per event, numbered without gaps.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::room::RecordHash;
use crate::{Fingerprint, RoomId, UserName};

/// One numbered event: `{"seq": n, "event": "...", ...}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackerEvent {
    /// One more than the number of the event before; in `room` the number of the latest one.
    pub seq: u64,
    /// The kind and its fields.
    #[serde(flatten)]
    pub kind: TrackerEventKind,
}

/// An event without its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TrackerEventKind {
    /// A user became present.
    Online(UserLocation),
    /// A user who is present logged in again, perhaps at other addresses. An event of its own: subscribers of the first
    /// version would take a second `online` for a second coming, and ignore events that they don't know.
    Moved(UserLocation),
    /// A user is no longer present.
    Offline {
        /// The user.
        user: UserName,
    },
    /// A user's shared files changed.
    Files {
        /// The user.
        user: UserName,
        /// Number of files the user shares now.
        count: usize,
    },
    /// An account's binding changed or was removed.
    KeyChanged {
        /// The account.
        user: UserName,
        /// The new key; `None` after the administrator unbound or removed the account.
        fingerprint: Option<Fingerprint>,
    },
    /// One of the subscriber's rooms changed, or the subscriber is invited to it or no longer a member. It has no number
    /// of its own.
    Room {
        /// The room.
        id: RoomId,
        /// The epoch of the room's newest record.
        epoch: u64,
        /// The hash of that record.
        head: RecordHash,
    },
    /// Events were dropped: the subscriber must request the whole state again.
    Resync {},
    /// An event newer than this version.
    #[serde(other)]
    Unknown,
}

/// A present user's addresses and key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLocation {
    /// The user.
    pub user: UserName,
    /// The address from which the tracker sees the user.
    pub ip: IpAddr,
    /// The user's UDP port for peers, if there is one.
    pub port: Option<u16>,
    /// Further candidate addresses.
    #[serde(default)]
    pub addresses: Vec<SocketAddr>,
    /// The key the account is bound to, if any.
    pub fingerprint: Option<Fingerprint>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(kind: TrackerEventKind, text: &str) {
        let event = TrackerEvent { seq: 7, kind };
        assert_eq!(serde_json::to_string(&event).unwrap(), text);
        assert_eq!(serde_json::from_str::<TrackerEvent>(text).unwrap(), event);
    }

    #[test]
    fn golden_events() {
        let user: UserName = "bob".parse().unwrap();
        golden(TrackerEventKind::Offline { user: user.clone() }, r#"{"seq":7,"event":"offline","user":"bob"}"#);
        golden(
            TrackerEventKind::Files { user: user.clone(), count: 3 },
            r#"{"seq":7,"event":"files","user":"bob","count":3}"#,
        );
        golden(TrackerEventKind::Resync {}, r#"{"seq":7,"event":"resync"}"#);
        let (id, head) = (RoomId::from_bytes([1; 16]), RecordHash::from_bytes([2; 32]));
        let text =
            format!(r#"{{"seq":7,"event":"room","id":"{}","epoch":9,"head":"{}"}}"#, "01".repeat(16), "02".repeat(32));
        golden(TrackerEventKind::Room { id, epoch: 9, head }, &text);
        golden(
            TrackerEventKind::KeyChanged { user: user.clone(), fingerprint: None },
            r#"{"seq":7,"event":"key_changed","user":"bob","fingerprint":null}"#,
        );
        let (ip, port, fingerprint) = ([10, 0, 0, 1].into(), Some(4000), None);
        let addresses = vec!["10.0.0.2:4000".parse().unwrap()];
        let location = UserLocation { user, ip, port, addresses, fingerprint };
        golden(
            TrackerEventKind::Online(location.clone()),
            r#"{"seq":7,"event":"online","user":"bob","ip":"10.0.0.1","port":4000,"addresses":["10.0.0.2:4000"],"fingerprint":null}"#,
        );
        golden(
            TrackerEventKind::Moved(location),
            r#"{"seq":7,"event":"moved","user":"bob","ip":"10.0.0.1","port":4000,"addresses":["10.0.0.2:4000"],"fingerprint":null}"#,
        );
        let newer = serde_json::from_str::<TrackerEvent>(r#"{"event":"renamed","seq":8,"user":"bob"}"#).unwrap();
        assert_eq!(newer, TrackerEvent { seq: 8, kind: TrackerEventKind::Unknown });
    }
}
