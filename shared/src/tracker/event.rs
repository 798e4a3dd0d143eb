//! What a subscriber is told: one line of JSON an event, numbered without gaps.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{Fingerprint, UserName};

/// One numbered event: `{"seq": n, "event": "...", ...}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackerEvent {
    /// One more than the event before.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: TrackerEventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TrackerEventKind {
    /// A user became present, or present elsewhere.
    Online {
        /// Who.
        user: UserName,
        /// Where its socket came from.
        ip: IpAddr,
        /// Its port, if it gave one.
        port: Option<u16>,
        /// Further candidates.
        #[serde(default)]
        addresses: Vec<SocketAddr>,
        /// The key it is bound to, if it is.
        fingerprint: Option<Fingerprint>,
    },
    /// A user is no longer present.
    Offline {
        /// Who.
        user: UserName,
    },
    /// A user shares other files than before.
    Files {
        /// Who.
        user: UserName,
        /// How many now.
        count: usize,
    },
    /// An account is bound to another key than before, or to none any more.
    KeyChanged {
        /// Whose.
        user: UserName,
        /// The new key; none after the administrator unbound or removed the account.
        fingerprint: Option<Fingerprint>,
    },
    /// Events were left out: ask for the whole state again.
    Resync {},
    /// Something newer than this version.
    #[serde(other)]
    Unknown,
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
        golden(
            TrackerEventKind::KeyChanged { user: user.clone(), fingerprint: None },
            r#"{"seq":7,"event":"key_changed","user":"bob","fingerprint":null}"#,
        );
        let online = TrackerEventKind::Online {
            user,
            ip: [10, 0, 0, 1].into(),
            port: Some(4000),
            addresses: vec!["10.0.0.2:4000".parse().unwrap()],
            fingerprint: None,
        };
        golden(
            online,
            r#"{"seq":7,"event":"online","user":"bob","ip":"10.0.0.1","port":4000,"addresses":["10.0.0.2:4000"],"fingerprint":null}"#,
        );
        let newer = serde_json::from_str::<TrackerEvent>(r#"{"event":"moved","seq":8,"user":"bob"}"#).unwrap();
        assert_eq!(newer, TrackerEvent { seq: 8, kind: TrackerEventKind::Unknown });
    }
}
