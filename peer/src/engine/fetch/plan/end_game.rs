//! End game: a source without other work is asked for groups that another source is late with.

use std::time::{Duration, Instant};

use super::{FetchPlan, FileNo, InFlightRun, LATE_AFTER, SourceNo, WorkItem, bit, ranges_where};

impl FetchPlan {
    /// Returns work that another source is late with. Of the run that will take longest, this is the later half of the
    /// groups that no third source was asked for; in order, the earlier half of the first late run.
    pub(super) fn duplicate_late_work(&mut self, source: SourceNo, now: Instant) -> Option<WorkItem> {
        let is_late = |(no, asked, since): &(FileNo, SourceNo, Instant)| {
            let has = self.files[*no].source_bits & bit(source) != 0;
            let alone = !self.manifests.iter().any(|other| (other.0, other.1) == (*no, source));
            has && alone && *asked != source && now.saturating_duration_since(*since) >= LATE_AFTER
        };
        // Manifests first: without one, no group of the file can be requested.
        if let Some((no, ..)) = self.manifests.iter().copied().find(is_late) {
            self.manifests.push((no, source, now));
            return Some(WorkItem::Manifest(no));
        }
        let late = |run: &&InFlightRun| {
            let age = now.saturating_duration_since(run.since);
            // In order, every later group waits for this one, so less delay counts as late.
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
            // The late source delivers from the front: from the back, the two meet and little comes twice.
            had.last().map(|(start, end)| (run.file, start + (end - start) / 2, end))
        })?;
        Some(self.start_run(source, file, start, end, now))
    }

    /// Estimates the time that the run's own source still needs.
    fn time_left(&self, run: &InFlightRun) -> Duration {
        self.delivery_time(run.source, run)
    }

    /// Estimates the time that a source needs for a run; an hour for a source without a rate.
    fn delivery_time(&self, source: SourceNo, run: &InFlightRun) -> Duration {
        const UNKNOWN: f64 = 3600.0;
        let rate = self.rate(source);
        #[expect(clippy::cast_precision_loss, reason = "a time to come is an estimate")]
        let bytes = self.files[run.file].layout.range_len(run.start, run.end) as f64;
        Duration::from_secs_f64(if rate > 0.0 { (bytes / rate).min(UNKNOWN) } else { UNKNOWN })
    }
}
