//! The bounds of a log in age and bytes.

use shared::Fingerprint;
use shared::room::MessageHash;

use super::author_log::{Floor, Predecessor};
use super::{LogChange, RoomLog};

/// How much a log keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Longest time since the receipt, in milliseconds.
    pub age: u64,
    /// Most signed bytes.
    pub bytes: u64,
}

impl RoomLog {
    /// Removes what is beyond `retention`. The floors grow; what is below them is never taken again.
    pub fn prune(&mut self, retention: Retention, now: u64) -> LogChange {
        let mut change = LogChange::default();
        let authors: Vec<Fingerprint> = self.authors.keys().copied().collect();
        for author in authors {
            while self.first_level(&author).is_some_and(|level| {
                // The floor rises by whole numbers, so one stays until all its contents are old.
                level.iter().all(|hash| {
                    self.index.get(hash).is_none_or(|info| now.saturating_sub(info.received) > retention.age)
                })
            }) {
                self.raise_floor(&author, &mut change);
            }
        }
        while self.index.bytes() > retention.bytes {
            // The author with most bytes pays, so a flood costs the flooder his own messages.
            let Some(author) = self.authors.iter().max_by_key(|(_, log)| log.bytes).map(|(author, _)| *author) else {
                break;
            };
            if self.first_level(&author).is_none() {
                break;
            }
            self.raise_floor(&author, &mut change);
        }
        change
    }

    fn first_level(&self, author: &Fingerprint) -> Option<&Vec<MessageHash>> {
        self.authors.get(author)?.levels.first_key_value().map(|(_, contents)| contents)
    }

    fn raise_floor(&mut self, author: &Fingerprint, change: &mut LogChange) {
        let Some(log) = self.authors.get_mut(author) else { return };
        let Some((number, contents)) = log.levels.pop_first() else { return };
        let last = contents.iter().filter_map(|hash| {
            let info = self.index.get(hash)?;
            Some(Predecessor { hash: *hash, depth: info.depth, epoch: info.epoch })
        });
        log.floor = Floor { number, contents: last.collect() };
        for hash in contents {
            self.remove_entry(&hash);
            change.pruned.push(hash);
        }
    }
}
