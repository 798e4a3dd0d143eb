//! The messages of all conversations.

use rusqlite::params;
use shared::UserName;
use shared::peer::{ChatMessage, MessageId};

use super::{Profile, ProfileError};

/// Who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The other one.
    In,
    /// This profile.
    Out,
}

/// What became of a message so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// Ours, not yet stored by the other side.
    Waiting,
    /// Ours, stored by the other side.
    Stored,
    /// Ours, given up: it is not sent again.
    Failed,
    /// Theirs.
    Received,
}

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Who wrote it.
    pub direction: Direction,
    /// What was written.
    pub message: ChatMessage,
    /// What became of it.
    pub state: MessageState,
}

impl Direction {
    const fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

impl MessageState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Stored => "stored",
            Self::Failed => "failed",
            Self::Received => "received",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Waiting, Self::Stored, Self::Failed, Self::Received].into_iter().find(|state| state.as_str() == text)
    }
}

impl Profile {
    /// Keeps a message; false when it was there already.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn store_message(
        &self,
        peer: &UserName,
        direction: Direction,
        message: &ChatMessage,
    ) -> Result<bool, ProfileError> {
        let state = match direction {
            Direction::In => MessageState::Received,
            Direction::Out => MessageState::Waiting,
        };
        let inserted = self.database().execute(
            "INSERT INTO message (peer, direction, id, ts, text, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (peer, direction, id) DO NOTHING",
            params![
                peer.as_str(),
                direction.as_str(),
                message.id.to_string(),
                message.ts,
                message.text,
                state.as_str()
            ],
        );
        self.sql(inserted).map(|rows| rows == 1)
    }

    /// Records what became of one of our messages.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn set_message_state(&self, peer: &UserName, id: MessageId, state: MessageState) -> Result<(), ProfileError> {
        let changed = self.database().execute(
            "UPDATE message SET state = ?3 WHERE peer = ?1 AND direction = 'out' AND id = ?2",
            params![peer.as_str(), id.to_string(), state.as_str()],
        );
        self.sql(changed).map(|_| ())
    }

    /// The last `limit` messages with `peer`, oldest first.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn last_messages(&self, peer: &UserName, limit: usize) -> Result<Vec<StoredMessage>, ProfileError> {
        let rows: Vec<(String, String, i64, String, String)> = {
            let database = self.database();
            let mut query = self.sql(database.prepare_cached(
                "SELECT direction, id, ts, text, state FROM message WHERE peer = ?1 ORDER BY seq DESC LIMIT ?2",
            ))?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = query.query_map(params![peer.as_str(), limit], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            });
            self.sql(self.sql(rows)?.collect())?
        };
        let check = |(direction, id, ts, text, state): (String, String, i64, String, String)| {
            let damaged = || self.damaged(format!("the message {id:?}"));
            Ok(StoredMessage {
                direction: if direction == "in" { Direction::In } else { Direction::Out },
                state: MessageState::parse(&state).ok_or_else(damaged)?,
                message: ChatMessage { id: id.parse().map_err(|_| damaged())?, ts, text, room: None },
            })
        };
        rows.into_iter().rev().map(check).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_kept_once() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        let message = |byte, text: &str| ChatMessage {
            id: MessageId::from_bytes([byte; 16]),
            ts: 5,
            text: text.into(),
            room: None,
        };
        assert!(profile.store_message(&bob, Direction::In, &message(1, "one")).unwrap());
        assert!(!profile.store_message(&bob, Direction::In, &message(1, "again")).unwrap());
        assert!(profile.store_message(&bob, Direction::Out, &message(1, "two")).unwrap());
        profile.set_message_state(&bob, message(1, "").id, MessageState::Stored).unwrap();
        let kept = profile.last_messages(&bob, 10).unwrap();
        let texts: Vec<_> = kept.iter().map(|m| (m.message.text.as_str(), m.state)).collect();
        assert_eq!(texts, [("one", MessageState::Received), ("two", MessageState::Stored)]);
        assert_eq!(profile.last_messages(&bob, 1).unwrap()[0].message.text, "two");
    }
}
