//! The bounds of what guests of links leave.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | conversations of a link, and of one network in it | 500, and 64 | refused |
//! | messages of a guest before the user answers | 100, and 512 KiB | refused until then |
//! | messages of a guest | 1,000, and 2 MiB | refused |
//! | messages of one network, and of all guests of a link | 4 MiB, and 16 MiB | refused |
//!
//! A message counts its text and 1 KiB of overhead. The user's answers are not bounded.

use rusqlite::{Row, Transaction, params};
use shared::limits::MESSAGE_OVERHEAD_BYTES;

use super::sql_integer::sql_integer;

const MAX_CONVERSATIONS: i64 = 500;
const MAX_CONVERSATIONS_OF_NETWORK: i64 = 64;
const UNANSWERED_LIMIT: UsedSpace = UsedSpace { count: 100, bytes: 512 << 10 };
const GUEST_LIMIT: UsedSpace = UsedSpace { count: 1000, bytes: 2 << 20 };
const MAX_BYTES_OF_NETWORK: i64 = 4 << 20;
const MAX_BYTES_OF_LINK: i64 = 16 << 20;

/// The bound that keeps a guest's message out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestChatBound {
    /// The link has too many conversations.
    Conversations,
    /// The user has not answered, and the guest has left what it may until then.
    Unanswered,
    /// The conversation, or the link, is full.
    Full,
}

/// Messages and bytes that are in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct UsedSpace {
    pub(super) count: i64,
    pub(super) bytes: i64,
}

impl UsedSpace {
    const fn admits(self, used: Self, cost: i64) -> bool {
        used.count < self.count && used.bytes + cost <= self.bytes
    }
}

/// Returns the bytes that a message counts.
pub(super) fn charged_space(text: &str) -> i64 {
    sql_integer(text.len() + MESSAGE_OVERHEAD_BYTES)
}

/// Returns the bound that a message from a network would exceed; `known` is the state of its conversation, if it has one:
/// whether the user answered, and what the guest has left.
pub(super) fn reached_bound(
    transaction: &Transaction<'_>,
    (link, network): (i64, &str),
    known: Option<(bool, UsedSpace)>,
    cost: i64,
) -> rusqlite::Result<Option<GuestChatBound>> {
    // Conversations keep the sums of their messages, so that a few hundred rows are read and not all that was written.
    let sums = "SELECT count(*), coalesce(sum(bytes), 0), coalesce(sum(network = ?2), 0),
             coalesce(sum(CASE WHEN network = ?2 THEN bytes ELSE 0 END), 0)
         FROM guest_conversation WHERE link = ?1";
    let read = |row: &Row<'_>| {
        let of_all = UsedSpace { count: row.get(0)?, bytes: row.get(1)? };
        Ok((of_all, UsedSpace { count: row.get(2)?, bytes: row.get(3)? }))
    };
    let (of_all, of_network) = transaction.query_row(sums, params![link, network], read)?;
    let has_place = of_all.count < MAX_CONVERSATIONS && of_network.count < MAX_CONVERSATIONS_OF_NETWORK;
    if known.is_none() && !has_place {
        return Ok(Some(GuestChatBound::Conversations));
    }
    let (is_answered, used) = known.unwrap_or_default();
    if !is_answered && !UNANSWERED_LIMIT.admits(used, cost) {
        return Ok(Some(GuestChatBound::Unanswered));
    }
    let has_space = GUEST_LIMIT.admits(used, cost)
        && of_network.bytes + cost <= MAX_BYTES_OF_NETWORK
        && of_all.bytes + cost <= MAX_BYTES_OF_LINK;
    Ok((!has_space).then_some(GuestChatBound::Full))
}
