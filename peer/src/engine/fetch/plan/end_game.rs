//! What a source is asked for that another was asked for already, when there is nothing else.

use std::time::{Duration, Instant};

use super::{FetchPlan, FileNo, InFlightRun, LATE_AFTER, SourceNo, WorkItem, bit, ranges_where};

impl FetchPlan {
    /// The end game: of the run that another source will be latest with, the later half of what nobody else was asked
    /// for as well; in order, the earlier half.
    pub(super) fn duplicate_late_work(&mut self, source: SourceNo, now: Instant) -> Option<WorkItem> {
        let is_late = |(no, asked, since): &(FileNo, SourceNo, Instant)| {
            let has = self.files[*no].source_bits & bit(source) != 0;
            let alone = !self.manifests.iter().any(|other| (other.0, other.1) == (*no, source));
            has && alone && *asked != source && now.saturating_duration_since(*since) >= LATE_AFTER
        };
        if let Some((no, ..)) = self.manifests.iter().copied().find(is_late) {
            self.manifests.push((no, source, now));
            return Some(WorkItem::Manifest(no));
        }
        let late = |run: &&InFlightRun| {
            let age = now.saturating_duration_since(run.since);
            // In order, everybody waits for it.
            let patience = if self.in_order { LATE_AFTER.min(2 * self.delivery_time(source, run)) } else { LATE_AFTER };
            run.source != source
                && self.files[run.file].source_bits & bit(source) != 0
                && (age >= LATE_AFTER || self.time_left(run) >= patience)
        };
        let mut candidates: Vec<InFlightRun> = self.in_flight.iter().filter(late).copied().collect();
        if self.in_order {
            candidates.sort_by_key(|run| run.start);
        } else {
            candidates.sort_by_key(|run| std::cmp::Reverse(self.time_left(run)));
        }
        let (file, start, end) = candidates.iter().find_map(|run| {
            let needed = self.ranges_needed(run.file, run.start, run.end, Some(run.source));
            let mut had = needed
                .into_iter()
                .flat_map(|(start, end)| ranges_where(start, end, |group| self.has_group(source, run.file, group)));
            if self.in_order {
                return had.next().map(|(start, end)| (run.file, start, end - (end - start) / 2));
            }
            had.last().map(|(start, end)| (run.file, start + (end - start) / 2, end))
        })?;
        Some(self.start_run(source, file, start, end, now))
    }

    /// How long its source will still need for a run.
    fn time_left(&self, run: &InFlightRun) -> Duration {
        self.delivery_time(run.source, run)
    }

    /// How long a source would need for it.
    fn delivery_time(&self, source: SourceNo, run: &InFlightRun) -> Duration {
        const UNKNOWN: f64 = 3600.0;
        let rate = self.rate(source);
        #[expect(clippy::cast_precision_loss, reason = "a time to come is an estimate")]
        let bytes = self.files[run.file].layout.range_len(run.start, run.end) as f64;
        Duration::from_secs_f64(if rate > 0.0 { (bytes / rate).min(UNKNOWN) } else { UNKNOWN })
    }
}
