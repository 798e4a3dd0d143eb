//! Deletion of stored messages, with all that is kept about them elsewhere in the database.

use rusqlite::{OptionalExtension, Transaction, params};
use shared::limits::MESSAGE_OVERHEAD_BYTES;

use super::settings::PUT_SETTING;
use super::sql_integer::sql_integer;
use super::stored_message::CHARGED_BYTES;

/// The setting with the highest place of a deleted message; places up to it are never used again.
const SEQ_FLOOR_KEY: &str = "message_floor";

/// Returns the place of the next message. None is used twice, even if the last message is deleted: readers continue after
/// the last they saw.
pub(super) fn next_seq(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    let mut query = transaction.prepare_cached(
        "SELECT 1 + max(
             coalesce((SELECT max(seq) FROM message), 0),
             coalesce((SELECT CAST(value AS INTEGER) FROM setting WHERE key = ?1), 0)
         )",
    )?;
    query.query_row([SEQ_FLOOR_KEY], |row| row.get(0))
}

/// Deletes the messages at these places, their words in the full-text index, the signed bytes of those of rooms, and
/// what is on record about files that were sent with them. Their
/// places are not used again.
pub(super) fn delete_messages(
    transaction: &Transaction<'_>,
    seqs: impl IntoIterator<Item = i64>,
) -> rusqlite::Result<()> {
    // The index keeps no copy of the text (external content), so it needs the text to remove its words.
    let mut unindex = transaction.prepare_cached(
        "INSERT INTO message_words (message_words, rowid, text) SELECT 'delete', seq, text FROM message WHERE seq = ?1",
    )?;
    let mut remove_signed = transaction.prepare_cached("DELETE FROM room_message WHERE seq = ?1")?;
    let mut remove_incoming = transaction.prepare_cached(
        "DELETE FROM incoming_send WHERE (peer, id) IN
             (SELECT peer, id FROM message WHERE seq = ?1 AND direction = 'in' AND send IS NOT NULL)",
    )?;
    // A send that is not cleared stays: its row leads to the shares and the copy that are to go.
    let mut remove_outgoing = transaction.prepare_cached(
        "DELETE FROM outgoing_send WHERE is_cleared AND id IN
             (SELECT id FROM message WHERE seq = ?1 AND direction = 'out' AND send IS NOT NULL)",
    )?;
    let mut delete = transaction.prepare_cached("DELETE FROM message WHERE seq = ?1")?;
    let mut last = None;
    for seq in seqs {
        unindex.execute([seq])?;
        remove_signed.execute([seq])?;
        remove_incoming.execute([seq])?;
        remove_outgoing.execute([seq])?;
        // Last: the other statements find their rows by this one.
        delete.execute([seq])?;
        last = last.max(Some(seq));
    }
    last.map_or(Ok(()), |last| raise_seq_floor(transaction, last))
}

/// Recounts the unread messages and the used quota of a message request.
pub(super) fn recount_conversation(transaction: &Transaction<'_>, peer: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(&format!(
            "UPDATE conversation SET
                 unread = (SELECT count(*) FROM message WHERE peer = ?1 AND direction = 'in' AND seq > read_up_to),
                 unread_bytes = (SELECT coalesce(sum({CHARGED_BYTES}), 0) FROM message
                                 WHERE peer = ?1 AND direction = 'in' AND seq > read_up_to),
                 request_count = CASE accepted WHEN 1 THEN 0 ELSE
                     (SELECT count(*) FROM message WHERE peer = ?1 AND direction = 'in') END,
                 request_bytes = CASE accepted WHEN 1 THEN 0 ELSE
                     (SELECT coalesce(sum({CHARGED_BYTES} + ?2), 0) FROM message
                      WHERE peer = ?1 AND direction = 'in') END
             WHERE peer = ?1"
        ))?
        .execute(params![peer, sql_integer(MESSAGE_OVERHEAD_BYTES)])
        .map(|_| ())
}

/// Raises the floor of places: a reader that continues after a place would miss a message that got a used one.
fn raise_seq_floor(transaction: &Transaction<'_>, last: i64) -> rusqlite::Result<()> {
    let floor: Option<String> = transaction
        .query_row("SELECT value FROM setting WHERE key = ?1", [SEQ_FLOOR_KEY], |row| row.get(0))
        .optional()?;
    let floor = floor.and_then(|text| text.parse().ok()).unwrap_or(0).max(last);
    transaction.execute(PUT_SETTING, [SEQ_FLOOR_KEY, &floor.to_string()]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use rusqlite::TransactionBehavior;
    use shared::ContentHash;
    use shared::peer::{ChatMessage, FileOffer, FileSend, MessageId, SendKind};

    use super::*;
    use crate::profile::Profile;

    #[test]
    fn a_message_costs_after_a_recount_what_it_cost_before() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob: shared::UserName = "bob".parse().unwrap();
        let (name, hash) = ("orçamento \"2\".pdf".parse::<shared::FileName>().unwrap(), ContentHash::of(b"x"));
        let message = |byte| {
            let id = MessageId::from_bytes([byte; 16]);
            ChatMessage { id, ts: 0, text: "olá".into(), offer: None, send: None }
        };
        let offer = Some(FileOffer { name: name.clone(), size: 1, hash });
        let send = Some(FileSend { name, kind: SendKind::File, files: 1, size: 1, hash });
        let all = [message(1), ChatMessage { offer, ..message(2) }, ChatMessage { send, ..message(3) }];
        profile.store_incoming(&bob, &all, 1).unwrap();
        let counts = || {
            let sql = "SELECT unread, unread_bytes, request_count, request_bytes FROM conversation";
            let read = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]);
            profile.reader().query_row(sql, [], read).unwrap()
        };
        let stored: [i64; 4] = counts();
        profile.in_transaction(TransactionBehavior::Immediate, |it| recount_conversation(it, "bob")).unwrap();
        assert_eq!(counts(), stored, "recounted");
        profile.mark_read(&bob, Some(0)).unwrap();
        assert_eq!(counts(), stored, "nothing of it is read");
    }
}
