//! The messages that a view has shown, and up to which place none is missing. Pure.

use std::collections::BTreeSet;

/// The places of the shown messages.
#[derive(Debug, Default)]
pub(super) struct ShownMessages {
    /// Every message up to here is shown, or is older than the shown part.
    complete_up_to: i64,
    /// The shown messages beyond.
    beyond: BTreeSet<i64>,
    /// True if messages were stored of which no event told, until they are loaded.
    has_gap: bool,
}

impl ShownMessages {
    pub(super) fn contains(&self, seq: i64) -> bool {
        seq <= self.complete_up_to || self.beyond.contains(&seq)
    }

    pub(super) fn add(&mut self, seq: i64) {
        if seq > self.complete_up_to {
            self.beyond.insert(seq);
        }
    }

    /// Returns the place up to which none is missing.
    pub(super) const fn complete_up_to(&self) -> i64 {
        self.complete_up_to
    }

    /// Records that none is missing up to a place.
    pub(super) fn complete(&mut self, up_to: i64) {
        if up_to > self.complete_up_to {
            self.complete_up_to = up_to;
            self.beyond = self.beyond.split_off(&(up_to + 1));
        }
    }

    /// Records that the node's event of a message came: events come in the order of places, so that without a gap before
    /// it none is missing.
    pub(super) fn complete_by_event(&mut self, seq: i64) {
        if !self.has_gap {
            self.complete(seq);
        }
    }

    pub(super) const fn has_gap(&self) -> bool {
        self.has_gap
    }

    pub(super) const fn set_gap(&mut self, has_gap: bool) {
        self.has_gap = has_gap;
    }
}
