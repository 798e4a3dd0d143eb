//! Request window of a file that is written in order.

use super::{FetchPlan, FileNo, SourceNo, bit};

/// The window behind the first missing group, in bytes.
const WINDOW_BYTES: u64 = 8 << 20;
/// The least groups in the window, however large they are: with one, nothing is sent while the next request travels.
const MIN_WINDOW_GROUPS: u32 = 2;

impl FetchPlan {
    /// Returns the end of the groups that `source` may be asked for now; `None` if it has enough in flight.
    pub(super) fn window_end(&self, source: SourceNo, no: FileNo) -> Option<u32> {
        let end = self.files[no].head.saturating_add(self.window_groups(no));
        (self.window_left(source, no) > 0).then_some(end)
    }

    /// Returns the groups that `source` may be asked for beyond those
    /// in flight: a faster source gets more of the window.
    pub(super) fn window_left(&self, source: SourceNo, no: FileNo) -> u32 {
        let asked: u32 = self.in_flight.iter().filter(|run| run.source == source).map(|run| run.end - run.start).sum();
        self.window_share(source, no).saturating_sub(asked)
    }

    fn window_groups(&self, no: FileNo) -> u32 {
        let groups = WINDOW_BYTES / self.files[no].layout.group_bytes();
        u32::try_from(groups).unwrap_or(u32::MAX).max(MIN_WINDOW_GROUPS)
    }

    /// Returns a source's share of the window, by its rate. A source so slow that it would hold up the others has no
    /// share, unless they can't go on without it.
    fn window_share(&self, source: SourceNo, no: FileNo) -> u32 {
        let (window, own, head) = (self.window_groups(no), self.rate(source), self.files[no].head);
        let having = self.files[no].source_bits & self.usable_bits();
        let having = (0..).zip(&self.sources).filter(|(other, _)| having & bit(*other) != 0);
        let rates: Vec<(SourceNo, f64)> = having.map(|(other, state)| (other, state.rate.bytes_per_second())).collect();
        // Without a measured rate for each source, the window is divided equally.
        let share = if rates.iter().any(|(_, rate)| *rate <= 0.0) {
            window / u32::try_from(rates.len()).unwrap_or(u32::MAX).max(1)
        } else {
            let sum: f64 = rates.iter().map(|(_, rate)| rate).sum();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no more than the window")]
            let share = (f64::from(window) * own / sum).round() as u32;
            share
        };
        // The head is the group that all wait for: a slow source
        // keeps a share if no faster one has that group.
        let can_do_without = rates.iter().any(|(other, rate)| *rate > own && self.has_group(*other, no, head));
        share.max(u32::from(own <= 0.0 || !can_do_without))
    }
}
