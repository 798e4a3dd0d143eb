//! Making room for a stranger's first words.
//!
//! When what strangers may leave is used up, whoever left most gives way to somebody who leaves less; of several, the one
//! whose words are oldest. So however many accounts one person makes, none of them keeps others from saying who they are,
//! and the words of who says little give way last.

use rusqlite::{OptionalExtension, Transaction, params};
use shared::UserName;

use super::message_deletion::{delete_messages, recount_conversation};
use super::sql_integer::sql_integer;

/// Forgets all that somebody left who left more than `bytes`, and is neither accepted nor blocked nor `newcomer`; returns how
/// many bytes that were. `None` when there is nobody.
pub(super) fn evict_largest_request(
    transaction: &Transaction<'_>,
    newcomer: &UserName,
    bytes: usize,
) -> rusqlite::Result<Option<usize>> {
    // By the maximum, not sorted by size: only those who left that much have their oldest words looked up.
    let largest = transaction
        .prepare_cached(
            "SELECT peer, request_bytes FROM conversation
             WHERE accepted = 0 AND peer <> ?1 AND peer NOT IN (SELECT user FROM blocked) AND request_bytes > ?2
             AND request_bytes = (SELECT max(request_bytes) FROM conversation
                                  WHERE accepted = 0 AND peer <> ?1 AND peer NOT IN (SELECT user FROM blocked))
             ORDER BY (SELECT min(seq) FROM message WHERE message.peer = conversation.peer) LIMIT 1",
        )?
        .query_row(params![newcomer.as_str(), sql_integer(bytes)], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })
        .optional()?;
    let Some((peer, freed)) = largest else { return Ok(None) };
    let left: Vec<i64> = transaction
        .prepare_cached("SELECT seq FROM message WHERE peer = ?1 AND direction = 'in'")?
        .query_map([&peer], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    delete_messages(transaction, left)?;
    recount_conversation(transaction, &peer)?;
    // However many strangers come and go, they don't fill the table. What the user decided about them stays.
    transaction.execute(
        "DELETE FROM conversation WHERE peer = ?1 AND frozen = 0 AND muted = 0
         AND NOT EXISTS (SELECT 1 FROM message WHERE peer = ?1)",
        [&peer],
    )?;
    Ok(Some(usize::try_from(freed).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use shared::limits::MAX_BYTES_OF_STRANGERS;
    use shared::peer::{ChatMessage, MessageId};

    use super::*;
    use crate::profile::{ConversationStatus, HistoryQuery, Profile, StoreOutcome};

    fn message(number: usize, bytes: usize) -> ChatMessage {
        let id = MessageId::from_bytes((number as u128).to_be_bytes());
        ChatMessage { id, ts: 0, text: "x".repeat(bytes).into(), offer: None, send: None }
    }

    fn user(text: &str) -> UserName {
        text.parse().unwrap()
    }

    fn is_kept(profile: &Profile, from: &UserName, message: &ChatMessage) -> bool {
        matches!(profile.store_incoming(from, std::slice::from_ref(message), 1).unwrap()[..], [StoreOutcome::New(_)])
    }

    /// A profile in which others left all there may be: three hundred a little, two friends nothing, and two very much.
    fn full_profile(home: &std::path::Path) -> Profile {
        let profile = Profile::open(home).unwrap();
        for number in 0..300 {
            assert!(is_kept(&profile, &user(&format!("syb{number}")), &message(number, 3000)));
        }
        for (place, greedy) in ["greedy1", "greedy2"].into_iter().enumerate() {
            for number in 0..20 {
                assert!(is_kept(&profile, &user(greedy), &message(1000 * (place + 1) + number, 16 << 10)));
            }
        }
        let sum = "(SELECT sum(request_bytes) FROM conversation)";
        let rest = format!("UPDATE conversation SET request_bytes = request_bytes + {MAX_BYTES_OF_STRANGERS} - {sum}");
        profile.writer().unwrap().execute(&format!("{rest} WHERE peer = 'greedy2'"), []).unwrap();
        profile
    }

    #[test]
    fn whoever_left_most_gives_way_to_first_words() {
        let home = tempfile::tempdir().unwrap();
        let profile = full_profile(home.path());
        assert!(is_kept(&profile, &user("alice"), &message(1, 200)), "she says who she is");
        assert_eq!(profile.conversation_status(&user("greedy2")).unwrap(), ConversationStatus::Request(0));
        assert_eq!(profile.conversation_status(&user("greedy1")).unwrap(), ConversationStatus::Request(20));
        assert_eq!(profile.conversation_status(&user("syb0")).unwrap(), ConversationStatus::Request(1));
        let found = |with: &str| {
            let query = HistoryQuery::with(user(with), 100);
            profile.history(&query).unwrap().len()
        };
        assert_eq!((found("greedy2"), found("greedy1"), found("alice")), (0, 20, 1));
        let count = "SELECT count(*) FROM conversation";
        let rows: i64 = profile.writer().unwrap().query_row(count, [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 302, "nothing is kept of who left nothing");
    }

    #[test]
    fn nobody_gives_way_to_one_who_leaves_as_much() {
        let home = tempfile::tempdir().unwrap();
        let profile = full_profile(home.path());
        profile.block(&user("greedy1"), 1).unwrap();
        profile.accept(&user("greedy2")).unwrap();
        let share = MAX_BYTES_OF_STRANGERS / 299 + 1;
        profile.writer().unwrap().execute("UPDATE conversation SET request_bytes = ?1", [sql_integer(share)]).unwrap();
        profile
            .writer()
            .unwrap()
            .execute("UPDATE conversation SET request_bytes = 4090 WHERE peer = 'syb5'", [])
            .unwrap();
        let at = |peer: &str| profile.conversation_status(&user(peer)).unwrap();
        // All but one left far more: the oldest of these is the one.
        assert!(is_kept(&profile, &user("alice"), &message(1, 200)));
        assert_eq!(
            (at("syb0"), at("syb1"), at("syb5")),
            (ConversationStatus::Request(0), ConversationStatus::Request(1), ConversationStatus::Request(1))
        );
        profile.writer().unwrap().execute("UPDATE conversation SET request_bytes = 1000", []).unwrap();
        profile
            .writer()
            .unwrap()
            .execute(
                "UPDATE conversation SET request_bytes = ?1 WHERE peer = 'alice'",
                [sql_integer(MAX_BYTES_OF_STRANGERS)],
            )
            .unwrap();
        let outcome = profile.store_incoming(&user("alice"), &[message(9, 10)], 1).unwrap();
        assert_eq!(outcome, [StoreOutcome::StrangerQuotaFull], "nor to more of one's own");
    }
}
