//! Pausing sends: the shares of a paused one belong to an audience of their own, to which nobody is.

use rusqlite::{Transaction, TransactionBehavior, params};

use super::{Audience, OutgoingSend, Profile, ProfileError, SendState};

impl OutgoingSend {
    /// Returns the audience that its shares have now.
    pub fn share_audience(&self) -> Audience {
        if self.is_paused { Audience::Paused(self.number) } else { self.audience.clone() }
    }
}

impl Profile {
    /// Takes what a send shares from its receivers, or gives it back to them. Shares that were there before the send stay
    /// with them. Returns false if the send is over, or was paused or resumed already.
    pub fn set_send_paused(&self, number: i64, paused: bool) -> Result<bool, ProfileError> {
        let Some(send) = self.send(number)? else { return Ok(false) };
        if send.state != SendState::Waiting || send.is_paused == paused {
            return Ok(false);
        }
        let (lively, paused_audience) = (send.audience.to_string(), Audience::Paused(number).to_string());
        let (from, to) = if paused { (lively, paused_audience) } else { (paused_audience, lively) };
        let prefix = send.send.name_prefix();
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            // The state stands in the condition again: the send may have been settled since it was read.
            let changed = transaction.execute(
                "UPDATE outgoing_send SET is_paused = ?2 WHERE number = ?1 AND state = 'waiting' AND is_paused <> ?2",
                params![number, paused],
            )?;
            if changed > 0 && !send.keeps_shares {
                for table in ["share", "folder"] {
                    move_names(transaction, table, (&from, &to), (send.send.name.as_str(), &prefix))?;
                }
            }
            Ok(changed > 0)
        })
    }
}

/// Moves a name, and the names that begin with the prefix, to another audience. What that audience has by the same name is
/// newer, and stays.
fn move_names(
    transaction: &Transaction<'_>,
    table: &str,
    (from, to): (&str, &str),
    (name, prefix): (&str, &str),
) -> rusqlite::Result<()> {
    // `substr`, not LIKE: names may hold `%` and `_`, and their case counts.
    let is_meant = "audience = ?1 AND (name = ?2 OR substr(name, 1, length(?3)) = ?3 AND ?2 <> ?3)";
    let values = params![from, name, prefix];
    transaction.execute(
        &format!("UPDATE OR IGNORE {table} SET audience = ?4 WHERE {is_meant}"),
        params![from, name, prefix, to],
    )?;
    transaction.execute(&format!("DELETE FROM {table} WHERE {is_meant}"), values).map(|_| ())
}
