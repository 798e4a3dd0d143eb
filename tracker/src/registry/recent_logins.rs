//! The present users by origin and login: for limits, and for short lists that are fair to all origins.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use shared::UserName;

use super::SessionId;
use crate::rate_limits::ClientOrigin;
use shared::Ipv6Network;

/// Origins that take turns in one list, those with the latest logins. It bounds the work for a list of 4 KiB.
const MAX_ROUND_ROBIN_ORIGINS: usize = 256;

/// The logins of present users by origin, in the order of the logins.
#[derive(Debug, Default)]
pub(super) struct RecentLogins {
    by_origin: HashMap<ClientOrigin, BTreeMap<SessionId, UserName>>,
    by_network: HashMap<Ipv6Network, usize>,
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
        logins.insert(session, user);
        if let Some((newest, _)) = logins.last_key_value() {
            self.newest.insert((*newest, from));
        }
        if let Some(network) = from.network() {
            *self.by_network.entry(network).or_default() += 1;
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
        if let Some(network) = from.network()
            && let Some(count) = self.by_network.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                self.by_network.remove(&network);
            }
        }
    }

    /// Returns the number of users present from this origin.
    pub(super) fn count_at(&self, from: ClientOrigin) -> usize {
        self.by_origin.get(&from).map_or(0, BTreeMap::len)
    }

    /// Returns the number of users present from this network.
    pub(super) fn count_in_network(&self, network: Ipv6Network) -> usize {
        self.by_network.get(&network).copied().unwrap_or_default()
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
