//! What a source is asked for that another was asked for already, when there is nothing else.

use std::time::{Duration, Instant};

use super::{FileNo, Flying, LATE, Plan, SourceNo, Work, bit, ranges_where};

impl Plan {
    /// The end game: of the run that another source will be latest with, the later half of what nobody else was asked
    /// for as well; in order, the earlier half.
    pub(super) fn double(&mut self, source: SourceNo, now: Instant) -> Option<Work> {
        let is_late = |(no, asked, since): &(FileNo, SourceNo, Instant)| {
            let has = self.files[*no].sources & bit(source) != 0;
            let alone = !self.manifests.iter().any(|other| (other.0, other.1) == (*no, source));
            has && alone && *asked != source && now.saturating_duration_since(*since) >= LATE
        };
        if let Some((no, ..)) = self.manifests.iter().copied().find(is_late) {
            self.manifests.push((no, source, now));
            return Some(Work::Manifest(no));
        }
        let late = |run: &&Flying| {
            let age = now.saturating_duration_since(run.since);
            // In order, everybody waits for it.
            let patience = if self.in_order { LATE.min(2 * self.time_for(source, run)) } else { LATE };
            run.source != source
                && self.files[run.file].sources & bit(source) != 0
                && (age >= LATE || self.time_left(run) >= patience)
        };
        let mut candidates: Vec<Flying> = self.flying.iter().filter(late).copied().collect();
        if self.in_order {
            candidates.sort_by_key(|run| run.start);
        } else {
            candidates.sort_by_key(|run| std::cmp::Reverse(self.time_left(run)));
        }
        let (file, start, end) = candidates.iter().find_map(|run| {
            let needed = self.ranges_needed(run.file, run.start, run.end, Some(run.source));
            let mut had = needed
                .into_iter()
                .flat_map(|(start, end)| ranges_where(start, end, |group| self.has(source, run.file, group)));
            if self.in_order {
                return had.next().map(|(start, end)| (run.file, start, end - (end - start) / 2));
            }
            had.last().map(|(start, end)| (run.file, start + (end - start) / 2, end))
        })?;
        Some(self.fly(source, file, start, end, now))
    }

    /// How long its source will still need for a run.
    fn time_left(&self, run: &Flying) -> Duration {
        self.time_for(run.source, run)
    }

    /// How long a source would need for it.
    fn time_for(&self, source: SourceNo, run: &Flying) -> Duration {
        const UNKNOWN: f64 = 3600.0;
        let rate = self.rate(source);
        #[expect(clippy::cast_precision_loss, reason = "a time to come is an estimate")]
        let bytes = self.files[run.file].layout.len_of_range(run.start, run.end) as f64;
        Duration::from_secs_f64(if rate > 0.0 { (bytes / rate).min(UNKNOWN) } else { UNKNOWN })
    }
}
