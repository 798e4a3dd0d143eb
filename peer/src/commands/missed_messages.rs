//! Messages, and outcomes of own ones, whose events were missed: the history has them.

use std::collections::HashMap;

use shared::peer::MessageId;

use crate::engine::chat::{ConversationName, HistoryQuery, MessageDirection, StoredMessage};
use crate::engine::{Error, run_blocking};
use crate::profile::Profile;

/// Own messages whose outcome was not told yet, each with a place at which it is stored or before that.
#[derive(Debug, Default)]
pub(super) struct UndeliveredMessages(HashMap<MessageId, i64>);

/// A message of which no event told.
#[derive(Debug)]
pub(super) enum MissedMessage {
    /// It was stored since.
    New(StoredMessage),
    /// One of the undelivered messages has its outcome.
    Settled(StoredMessage),
}

/// Returns the place of the last message in the history.
pub(super) fn last_seq(profile: &Profile) -> Result<i64, Error> {
    Ok(profile.history(&HistoryQuery::last(1))?.last().map_or(0, |stored| stored.seq))
}

impl UndeliveredMessages {
    /// Adds a message that is not stored before the place `first_seq`.
    pub(super) fn add(&mut self, id: MessageId, first_seq: i64) {
        // A message that is given to another node keeps its place.
        self.0.entry(id).or_insert(first_seq);
    }

    /// Removes a message whose outcome is told; returns false if that was done, or it isn't one of these.
    pub(super) fn settle(&mut self, id: MessageId) -> bool {
        self.0.remove(&id).is_some()
    }

    /// Returns from the history what came after `last_seq`, and the outcomes of these messages, which are settled then.
    pub(super) async fn read_missed(
        &mut self,
        profile: &Profile,
        with: Option<ConversationName>,
        last_seq: i64,
    ) -> Result<Vec<MissedMessage>, Error> {
        // From the oldest message without an outcome: its state may have changed in between.
        let first_open = self.0.values().map(|seq| seq - 1).min();
        let after = first_open.map_or(last_seq, |first| first.min(last_seq));
        let (profile, query) =
            (profile.clone(), HistoryQuery { with, after: Some(after), ..HistoryQuery::last(usize::MAX) });
        let found = run_blocking(move || Ok(profile.history(&query)?)).await?;
        let missed = found.into_iter().filter_map(|stored| {
            let is_settled = stored.direction == MessageDirection::Out && !stored.state.is_queued();
            if is_settled && self.settle(stored.message.id) {
                return Some(MissedMessage::Settled(stored));
            }
            (stored.seq > last_seq).then_some(MissedMessage::New(stored))
        });
        Ok(missed.collect())
    }
}

#[cfg(test)]
mod tests {
    use shared::UserName;
    use shared::peer::ChatMessage;

    use super::*;
    use crate::engine::chat::MessageState;

    fn message(byte: u8) -> ChatMessage {
        ChatMessage { id: MessageId::from_bytes([byte; 16]), ts: 0, text: "hi".into(), offer: None, send: None }
    }

    #[tokio::test]
    async fn an_outcome_is_found_before_the_last_message_and_told_once() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        let mut undelivered = UndeliveredMessages::default();
        let first = last_seq(&profile).unwrap() + 1;
        for byte in 1..=3 {
            undelivered.add(message(byte).id, first);
            profile.store_outgoing(&bob, &message(byte), 1).unwrap();
        }
        // Bob's message is printed, and then events are lost.
        profile.store_incoming(&bob, &[message(4)], 1).unwrap();
        let last = last_seq(&profile).unwrap();
        let outcomes = [(message(1).id, MessageState::Expired), (message(2).id, MessageState::Stored)];
        profile.record_delivery_states(&bob, &outcomes).unwrap();
        profile.store_incoming(&bob, &[message(5)], 1).unwrap();

        let with = || Some(ConversationName::Person(bob.clone()));
        let missed = undelivered.read_missed(&profile, with(), last).await.unwrap();
        let told: Vec<_> = missed
            .iter()
            .map(|missed| match missed {
                MissedMessage::New(stored) => (stored.message.id, None),
                MissedMessage::Settled(stored) => (stored.message.id, Some(stored.state)),
            })
            .collect();
        let [settled_1, settled_2] = outcomes.map(|(id, state)| (id, Some(state)));
        assert_eq!(told, [settled_1, settled_2, (message(5).id, None)]);
        assert!(!undelivered.settle(message(1).id), "its event comes after all");
        let last = last_seq(&profile).unwrap();
        assert!(undelivered.read_missed(&profile, with(), last).await.unwrap().is_empty());
        assert!(undelivered.settle(message(3).id), "it waits");
    }
}
