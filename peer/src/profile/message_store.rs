//! Messages of all conversations: each is stored once, in the order of arrival.

use std::time::Duration;

use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};
use shared::UserName;
use shared::limits::{MAX_MESSAGES_PER_USER, MAX_UNREAD_BYTES_PER_USER};
use shared::peer::{ChatMessage, MessageId};

use super::incoming_sends;
use super::message_deletion::next_seq;
use super::message_requests::{self, RequestQuota};
use super::sql_integer::sql_integer;
use super::steady_clock::load_steady_clock;
use super::stored_message::{MessageDirection, MessageState, charged_bytes};
use super::{Profile, ProfileError};

/// The result of storing a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOutcome {
    /// Stored under this place.
    New(i64),
    /// Stored earlier, or forgotten since.
    Duplicate,
    /// Rejected: the outbox, or the unread messages of its author, are at their quota.
    Full,
    /// Rejected: the quota of a stranger's message request is used up.
    StrangerQuotaFull,
}

impl Profile {
    /// Stores a message of ours and puts it into the outbox. Writing to a stranger accepts them.
    pub fn store_outgoing(
        &self,
        to: &UserName,
        message: &ChatMessage,
        now_ms: i64,
    ) -> Result<StoreOutcome, ProfileError> {
        // Immediate: counting first and writing later would fail at once if another process writes in
        // between.
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let waiting: i64 =
                transaction
                    .query_row("SELECT count(*) FROM outbox WHERE peer = ?1", [to.as_str()], |row| row.get(0))?;
            if waiting >= MAX_MESSAGES_PER_USER.cast_signed().try_into().unwrap_or(i64::MAX) {
                return Ok(StoreOutcome::Full);
            }
            if is_forgotten(transaction, to, MessageDirection::Out, message.id)? {
                return Ok(StoreOutcome::Duplicate);
            }
            let Some(seq) = insert(transaction, to, MessageDirection::Out, message, now_ms)? else {
                return Ok(StoreOutcome::Duplicate);
            };
            // By the steady clock, so that a jump of the machine's clock doesn't expire the message.
            let since = load_steady_clock(transaction, now_ms)?.advance(now_ms, Duration::ZERO).now_ms();
            transaction
                .prepare_cached("INSERT INTO outbox (seq, peer, since) VALUES (?1, ?2, ?3)")?
                .execute(params![seq, to.as_str(), since])?;
            message_requests::accept(transaction, to)?;
            Ok(StoreOutcome::New(seq))
        })
    }

    /// Stores messages of another user in one transaction. The first without room ends it: later ones are not stored
    /// either, so that none overtakes it.
    ///
    /// # Errors
    /// [`ProfileError`]; then none of them is stored.
    pub fn store_incoming(
        &self,
        from: &UserName,
        messages: &[ChatMessage],
        now_ms: i64,
    ) -> Result<Vec<StoreOutcome>, ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let (mut unread, mut bytes) = unread_totals(transaction, from)?;
            let mut request = RequestQuota::load(transaction, from)?;
            let mut kept = Vec::with_capacity(messages.len());
            for message in messages {
                if is_forgotten(transaction, from, MessageDirection::In, message.id)? {
                    kept.push(StoreOutcome::Duplicate);
                    continue;
                }
                let is_full = unread >= MAX_MESSAGES_PER_USER || bytes >= MAX_UNREAD_BYTES_PER_USER;
                let refusal = match &request {
                    Some(quota) if !quota.can_admit(message) => Some(StoreOutcome::StrangerQuotaFull),
                    _ => is_full.then_some(StoreOutcome::Full),
                };
                // A duplicate needs no room: it has to be acked, or its author would send it for ever.
                if let Some(refusal) = refusal
                    && !is_known(transaction, from, message.id)?
                {
                    let has_made_space = match &mut request {
                        Some(quota) if refusal == StoreOutcome::StrangerQuotaFull && !is_full => {
                            quota.make_space(transaction, from, message)?
                        }
                        _ => false,
                    };
                    if !has_made_space {
                        kept.push(refusal);
                        break;
                    }
                }
                kept.push(match insert(transaction, from, MessageDirection::In, message, now_ms)? {
                    Some(seq) => {
                        if let Some(send) = &message.send {
                            incoming_sends::insert(transaction, from, message.id, send, now_ms)?;
                        }
                        unread += 1;
                        bytes += charged_bytes(message);
                        if let Some(quota) = &mut request {
                            quota.add(message);
                        }
                        StoreOutcome::New(seq)
                    }
                    None => StoreOutcome::Duplicate,
                });
            }
            if kept.iter().any(|kept| matches!(kept, StoreOutcome::New(_))) {
                // Counters in one row: counting the unread messages anew for each batch would get slower with
                // every message.
                transaction.execute(
                    "INSERT INTO conversation (peer, unread, unread_bytes) VALUES (?1, ?2, ?3)
                 ON CONFLICT (peer) DO UPDATE SET unread = ?2, unread_bytes = ?3",
                    params![from.as_str(), sql_integer(unread), sql_integer(bytes)],
                )?;
                if let Some(quota) = request {
                    quota.store(transaction, from)?;
                }
            }
            Ok(kept)
        })
    }
}

/// Stores a message; returns its place, or `None` if it is stored already.
fn insert(
    transaction: &Transaction<'_>,
    peer: &UserName,
    direction: MessageDirection,
    message: &ChatMessage,
    now_ms: i64,
) -> rusqlite::Result<Option<i64>> {
    let state = match direction {
        MessageDirection::In => MessageState::Received,
        MessageDirection::Out => MessageState::Waiting,
    };
    let offer = message.offer.as_ref().and_then(|offer| serde_json::to_string(offer).ok());
    let send = message.send.as_ref().and_then(|send| serde_json::to_string(send).ok());
    // A sender that missed the ack sends the message again: the conflict is the everyday case, not an error.
    let mut insert = transaction.prepare_cached(
        "INSERT INTO message (seq, peer, direction, id, ts, text, state, at, offer, send)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (peer, direction, id) DO NOTHING RETURNING seq",
    )?;
    let row = params![
        next_seq(transaction)?,
        peer.as_str(),
        direction.as_str(),
        message.id.to_string(),
        message.ts,
        message.text.as_received(),
        state.as_str(),
        now_ms,
        offer,
        send,
    ];
    insert.query_row(row, |row| row.get(0)).optional()
}

fn is_known(transaction: &Transaction<'_>, from: &UserName, id: MessageId) -> rusqlite::Result<bool> {
    let mut query =
        transaction.prepare_cached("SELECT 1 FROM message WHERE peer = ?1 AND direction = 'in' AND id = ?2")?;
    query.exists(params![from.as_str(), id.to_string()])
}

/// True if a message was stored once and then forgotten.
fn is_forgotten(
    transaction: &Transaction<'_>,
    peer: &UserName,
    direction: MessageDirection,
    id: MessageId,
) -> rusqlite::Result<bool> {
    let mut query =
        transaction.prepare_cached("SELECT 1 FROM forgotten WHERE peer = ?1 AND direction = ?2 AND id = ?3")?;
    query.exists(params![peer.as_str(), direction.as_str(), id.to_string()])
}

/// Returns the number and the bytes of a user's unread messages.
fn unread_totals(transaction: &Transaction<'_>, from: &UserName) -> rusqlite::Result<(usize, usize)> {
    let mut query = transaction.prepare_cached("SELECT unread, unread_bytes FROM conversation WHERE peer = ?1")?;
    let found =
        query.query_row([from.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).optional()?;
    let (unread, bytes) = found.unwrap_or_default();
    Ok((usize::try_from(unread).unwrap_or(0), usize::try_from(bytes).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::HistoryQuery;

    fn message(byte: u8, text: &str) -> ChatMessage {
        ChatMessage { id: MessageId::from_bytes([byte; 16]), ts: 5, text: text.into(), offer: None, send: None }
    }

    #[test]
    fn a_message_is_kept_once() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        let (one, again) = (message(1, "one"), message(1, "again"));
        assert_eq!(
            profile.store_incoming(&bob, &[one, again], 6).unwrap(),
            [StoreOutcome::New(1), StoreOutcome::Duplicate]
        );
        assert_eq!(profile.store_outgoing(&bob, &message(1, "two"), 7).unwrap(), StoreOutcome::New(2));
        assert_eq!(profile.store_outgoing(&bob, &message(1, "two"), 7).unwrap(), StoreOutcome::Duplicate);
        profile.record_delivery_states(&bob, &[(message(1, "").id, MessageState::Stored)]).unwrap();
        let kept = profile.history(&HistoryQuery::with(bob, 10)).unwrap();
        let texts: Vec<_> = kept.iter().map(|m| (m.message.text.as_received(), m.state, m.at)).collect();
        assert_eq!(texts, [("one", MessageState::Received, 6), ("two", MessageState::Stored, 7)]);
    }

    #[test]
    fn nobody_fills_the_disk() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        profile.accept(&bob).unwrap();
        let numbered = |number: u32| ChatMessage {
            id: MessageId::from_bytes(u128::from(number).to_be_bytes()),
            ..message(0, &"x".repeat(16 * 1024))
        };
        let all: Vec<_> = (0..1100).map(numbered).collect();
        let kept = profile.store_incoming(&bob, &all, 1).unwrap();
        assert_eq!(kept.len(), MAX_UNREAD_BYTES_PER_USER / (16 * 1024) + 1);
        assert_eq!(kept.last(), Some(&StoreOutcome::Full));
        // A duplicate is recognised even then, and reading makes room.
        assert_eq!(profile.store_incoming(&bob, &all[5..6], 1).unwrap(), [StoreOutcome::Duplicate]);
        profile.mark_read(&bob, None).unwrap();
        assert!(matches!(profile.store_incoming(&bob, &all[1050..1051], 1).unwrap()[0], StoreOutcome::New(_)));
    }
}
