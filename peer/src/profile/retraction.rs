//! Retraction of messages to users who don't exist, and of offers that were never announced.

use rusqlite::{OptionalExtension, TransactionBehavior, params};
use shared::UserName;
use shared::peer::{FileOffer, MessageId};

use super::message_deletion::delete_messages;
use super::outgoing_sends;
use super::{Audience, MessageState, Profile, ProfileError};

impl Profile {
    /// Removes messages of ours to `to`, as if they had never been written; returns those that existed.
    ///
    /// # Errors
    /// [`ProfileError`]; then none is removed.
    pub fn retract_messages(&self, to: &UserName, ids: &[MessageId]) -> Result<Vec<MessageId>, ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let mut forgotten = Vec::with_capacity(ids.len());
            for id in ids {
                let found = transaction.query_row(
                    "SELECT seq FROM message WHERE peer = ?1 AND direction = 'out' AND id = ?2",
                    params![to.as_str(), id.to_string()],
                    |row| row.get::<_, i64>(0),
                );
                let Some(seq) = found.optional()? else { continue };
                transaction.execute("DELETE FROM outbox WHERE seq = ?1", [seq])?;
                delete_messages(transaction, [seq])?;
                outgoing_sends::fail(transaction, *id)?;
                forgotten.push(*id);
            }
            if !forgotten.is_empty() {
                // Without a message left, the user must not show up among the known people.
                transaction.execute(
                    "DELETE FROM conversation WHERE peer = ?1 AND NOT EXISTS (SELECT 1 FROM message WHERE peer = ?1)",
                    [to.as_str()],
                )?;
            }
            Ok(forgotten)
        })
    }

    /// Removes an offer that was never announced to `to` and won't be; returns false if it was, or may be.
    pub fn withdraw_undelivered_offer(&self, to: &UserName, offer: &FileOffer) -> Result<bool, ProfileError> {
        let told: Vec<(String, String)> = self.query_all(
            self.message_reader()?,
            "SELECT offer, state FROM message WHERE peer = ?1 AND direction = 'out' AND offer IS NOT NULL",
            [to.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let is_about_it = |(about, state): &(String, String)| {
            let is_heard = MessageState::parse(state).is_some_and(|state| !state.is_given_up());
            is_heard && serde_json::from_str::<FileOffer>(about).is_ok_and(|about| about == *offer)
        };
        if told.iter().any(is_about_it) {
            return Ok(false);
        }
        // A newer offer of the same name with another content is not touched.
        let audience = Audience::Person(to.clone());
        let is_this = self.share(&audience, &offer.name)?.is_some_and(|share| share.hash == offer.hash);
        Ok(is_this && self.remove_shares(&audience, [&offer.name])? > 0)
    }
}

#[cfg(test)]
mod tests {
    use shared::peer::ChatMessage;

    use super::*;
    use crate::profile::{HistoryQuery, StoreOutcome};

    fn message(byte: u8, text: &str) -> ChatMessage {
        ChatMessage { id: MessageId::from_bytes([byte; 16]), ts: 5, text: text.into(), offer: None, send: None }
    }

    #[test]
    fn what_is_forgotten_was_never_written_and_its_place_is_not_given_again() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let (bob, nobody): (UserName, UserName) = ("bob".parse().unwrap(), "nobody".parse().unwrap());
        assert_eq!(profile.store_outgoing(&bob, &message(1, "one"), 1).unwrap(), StoreOutcome::New(1));
        assert_eq!(profile.store_outgoing(&nobody, &message(2, "orçamento"), 1).unwrap(), StoreOutcome::New(2));
        let id = message(2, "").id;
        assert_eq!(profile.retract_messages(&nobody, &[id]).unwrap(), [id]);
        assert_eq!(profile.retract_messages(&nobody, &[id]).unwrap(), []);
        let all = || profile.history(&HistoryQuery::last(9)).unwrap();
        assert_eq!(all().len(), 1);
        let words = HistoryQuery { search: Some("orcamento".into()), ..HistoryQuery::last(9) };
        assert!(profile.history(&words).unwrap().is_empty());
        assert_eq!(profile.outbox().unwrap().len(), 1);
        assert_eq!(profile.outgoing_state(&nobody, id).unwrap(), None);
        assert_eq!(profile.store_incoming(&bob, &[message(3, "three")], 1).unwrap(), [StoreOutcome::New(3)]);
        assert_eq!(all().last().unwrap().seq, 3);
        assert_eq!(profile.store_outgoing(&nobody, &message(2, "again"), 1).unwrap(), StoreOutcome::New(4));
    }
}
