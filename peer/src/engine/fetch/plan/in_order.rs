//! What a source may be asked for of a file that is written as it comes.

use super::{FetchPlan, FileNo, SourceNo, bit};

/// Bytes behind the first missing group that may be asked for.
const WINDOW_BYTES: u64 = 8 << 20;
/// Groups that may be, however large they are: one would leave nothing to send while the next question travels.
const MIN_WINDOW_GROUPS: u32 = 2;

impl FetchPlan {
    /// Behind the last group that `source` may be asked for now; `None` when it has enough to do.
    pub(super) fn window_end(&self, source: SourceNo, no: FileNo) -> Option<u32> {
        let end = self.files[no].head.saturating_add(self.window_groups(no));
        (self.window_left(source, no) > 0).then_some(end)
    }

    /// Groups that `source` may be asked for beside those that it was: the faster it is, the more of the window.
    pub(super) fn window_left(&self, source: SourceNo, no: FileNo) -> u32 {
        let asked: u32 = self.in_flight.iter().filter(|run| run.source == source).map(|run| run.end - run.start).sum();
        self.window_share(source, no).saturating_sub(asked)
    }

    fn window_groups(&self, no: FileNo) -> u32 {
        let groups = WINDOW_BYTES / self.files[no].layout.group_bytes();
        u32::try_from(groups).unwrap_or(u32::MAX).max(MIN_WINDOW_GROUPS)
    }

    /// By its rate; one so slow beside the others that it would hold them up has no share, unless none of them could
    /// go on without it.
    fn window_share(&self, source: SourceNo, no: FileNo) -> u32 {
        let (window, own, head) = (self.window_groups(no), self.rate(source), self.files[no].head);
        let having = self.files[no].source_bits & self.usable_bits();
        let having = (0..).zip(&self.sources).filter(|(other, _)| having & bit(*other) != 0);
        let rates: Vec<(SourceNo, f64)> = having.map(|(other, state)| (other, state.rate.bytes_per_second())).collect();
        let share = if rates.iter().any(|(_, rate)| *rate <= 0.0) {
            window / u32::try_from(rates.len()).unwrap_or(u32::MAX).max(1)
        } else {
            let sum: f64 = rates.iter().map(|(_, rate)| rate).sum();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no more than the window")]
            let share = (f64::from(window) * own / sum).round() as u32;
            share
        };
        let can_do_without = rates.iter().any(|(other, rate)| *rate > own && self.has_group(*other, no, head));
        share.max(u32::from(own <= 0.0 || !can_do_without))
    }
}
