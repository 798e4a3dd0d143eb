//! The present users by origin and login: for limits, and for short lists that are fair to all origins.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use shared::UserName;

use super::SessionId;
use crate::quota_table::{QuotaLimits, QuotaTable};
use crate::rate_limits::ClientOrigin;

/// Origins that take turns in one list, those with the latest logins. It bounds the work for a list of 4 KiB.
const MAX_ROUND_ROBIN_ORIGINS: usize = 256;

/// The logins of present users by origin, in the order of the logins.
#[derive(Debug, Default)]
pub(super) struct RecentLogins {
    by_origin: HashMap<ClientOrigin, BTreeMap<SessionId, UserName>>,
    counts: QuotaTable,
    /// The newest login of each origin.
    newest: BTreeSet<(SessionId, ClientOrigin)>,
}

impl RecentLogins {
    pub(super) fn add(&mut self, from: ClientOrigin, session: SessionId, user: UserName) {
        // Session ids increase with time: the last key is the newest login.
        let logins = self.by_origin.entry(from).or_default();
        if let Some((newest, _)) = logins.last_key_value() {
            self.newest.remove(&(*newest, from));
        }
        if logins.insert(session, user).is_none() {
            self.counts.add(from, 1);
        }
        if let Some((newest, _)) = logins.last_key_value() {
            self.newest.insert((*newest, from));
        }
    }

    pub(super) fn remove(&mut self, from: ClientOrigin, session: SessionId) {
        let Some(logins) = self.by_origin.get_mut(&from) else { return };
        let newest = logins.last_key_value().map(|(newest, _)| *newest);
        if logins.remove(&session).is_none() {
            return;
        }
        if let Some(newest) = newest {
            self.newest.remove(&(newest, from));
        }
        if let Some((newest, _)) = logins.last_key_value() {
            self.newest.insert((*newest, from));
        } else {
            // Empty entries would pile up: an IPv6 network has no end of origins.
            self.by_origin.remove(&from);
        }
        self.counts.subtract(from, 1);
    }

    /// True if one more user may be present from this origin.
    pub(super) fn has_room_for(&self, from: ClientOrigin, limits: QuotaLimits) -> bool {
        self.counts.check(from, 1, limits).is_ok()
    }

    /// Iterates over the newest user of each origin, then the next of each, and so on: an origin with many accounts
    /// can't push the others out of a list that is too short for all.
    pub(super) fn round_robin(&self) -> impl Iterator<Item = &UserName> {
        let origins =
            self.newest.iter().rev().take(MAX_ROUND_ROBIN_ORIGINS).filter_map(|(_, from)| self.by_origin.get(from));
        let mut turns: std::collections::VecDeque<_> = origins.map(|logins| logins.values().rev()).collect();
        std::iter::from_fn(move || {
            while let Some(mut logins) = turns.pop_front() {
                if let Some(user) = logins.next() {
                    turns.push_back(logins);
                    return Some(user);
                }
            }
            None
        })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_origin.values().map(BTreeMap::len).sum()
    }
}
