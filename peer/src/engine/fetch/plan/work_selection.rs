//! Selection of the next request of a source: among groups that no source was asked for, in the window of a stream, and
//! in the end game.

use std::time::{Duration, Instant};

use super::{FetchPlan, FileNo, FilePhase, InFlightRun, SourceNo, WorkItem, bit, index, ranges_where};

/// The longest run, in bytes.
const RUN_BYTES: u64 = 8 << 20;
/// A run is no longer than its stream should deliver in this time, at the source's measured rate.
const RUN_TIME: Duration = Duration::from_millis(500);
/// A stream is asked for no more than it should deliver in this time: a source that joins later must find work.
const AHEAD_TIME: Duration = Duration::from_secs(1);
/// Upper bound of that in bytes, more than a LAN holds in flight.
pub(super) const AHEAD_BYTES: u64 = 16 << 20;
/// Bytes requested from a stream whose source has no measured rate yet.
pub(super) const INITIAL_BYTES: u64 = 1 << 20;
/// The age, or the expected time left, from which a run counts as late and others may take it over.
pub(super) const LATE_AFTER: Duration = Duration::from_millis(500);
/// The window behind the first missing group, in bytes.
const WINDOW_BYTES: u64 = 8 << 20;
/// The least groups in the window, however large they are: with one, nothing is sent while the next request travels.
const MIN_WINDOW_GROUPS: u32 = 2;
/// The weight that earlier deliveries keep at each new one.
const DECAY: f64 = 0.8;

/// Groups that can be requested, all in one range of the file's `unrequested`.
#[derive(Debug, Clone, Copy)]
struct AvailableRange {
    /// Index of that range.
    index: usize,
    start: u32,
    end: u32,
}

/// A source's rate over its last few deliveries.
///
/// Bytes and time are summed separately: groups of two streams arrive in pairs, and a mean of the rates between
/// deliveries would depend on the shortest gap alone.
#[derive(Debug)]
pub(super) struct DeliveryRate {
    bytes: f64,
    seconds: f64,
    last: Instant,
}

impl DeliveryRate {
    /// Returns a rate without deliveries.
    pub(super) const fn new(now: Instant) -> Self {
        Self { bytes: 0.0, seconds: 0.0, last: now }
    }

    /// Restarts the clock: the source had nothing to do until now.
    pub(super) const fn restart_clock(&mut self, now: Instant) {
        self.last = now;
    }

    /// Adds a delivery.
    pub(super) fn record_delivery(&mut self, bytes: u64, now: Instant) {
        #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
        let bytes = bytes as f64;
        self.bytes = self.bytes * DECAY + bytes;
        self.seconds = self.seconds * DECAY + now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
    }

    /// Returns bytes per second; 0 before the first delivery.
    pub(super) fn bytes_per_second(&self) -> f64 {
        // Two groups that are read at once have no time between them.
        self.bytes / self.seconds.max(1e-6)
    }
}

impl FetchPlan {
    /// Returns the next request for `source`; `None` if there is nothing for it now.
    pub(in crate::engine::fetch) fn next_work(&mut self, source: SourceNo, now: Instant) -> Option<WorkItem> {
        if !self.is_usable(source) {
            return None;
        }
        let takeable = |(position, no): (usize, &FileNo)| self.next_range(source, *no).map(|range| (position, range));
        // Open files first: to finish them frees descriptors and lets others be opened.
        if let Some((position, range)) = self.ready.iter().enumerate().find_map(takeable) {
            return self.take_run(position, range, source, now);
        }
        if let Some(no) = self.first_waiting(source)
            && let Some(work) = self.begin_file(no, source, now)
        {
            return Some(work);
        }
        // In order, duplicates compete with a source's own groups for the window; only an idle one takes them.
        if self.in_order && self.has_in_flight(source) {
            return None;
        }
        self.duplicate_late_work(source, now)
    }

    /// Returns the bytes that each stream of `source` is asked for ahead of its deliveries.
    pub(in crate::engine::fetch) fn bytes_ahead(&self, source: SourceNo) -> u64 {
        let requested = self.in_flight.iter().filter(|run| run.source == source);
        let largest_group = requested.map(|run| self.files[run.file].layout.group_bytes()).max().unwrap_or_default();
        // More than one group, so that the source has something to send while the next request travels.
        let least = largest_group.max(INITIAL_BYTES) + 1;
        let promised = self.expected_bytes(source, AHEAD_TIME);
        promised.map_or(INITIAL_BYTES, |bytes| bytes.min(AHEAD_BYTES).max(least))
    }

    /// Returns the first waiting file that `source` has.
    fn first_waiting(&mut self, source: SourceNo) -> Option<FileNo> {
        let (files, state) = (&self.files, self.sources.get_mut(index(source))?);
        let is_waiting =
            |no: &FileNo| files[*no].phase == FilePhase::Waiting && files[*no].source_bits & bit(source) != 0;
        // Stale entries are dropped here, when they come to the front: removal from all queues at each start
        // would cost a search of every source's queue.
        while state.waiting.front().is_some_and(|no| !is_waiting(no)) {
            state.waiting.pop_front();
        }
        state.waiting.front().copied()
    }

    /// Begins a waiting file, unless too many files are open.
    fn begin_file(&mut self, no: FileNo, source: SourceNo, now: Instant) -> Option<WorkItem> {
        let single = self.files[no].layout.group_count() == 1;
        let limit = self.max_open_files;
        // A file of one group is written in one piece: it counts as open, but never waits for others.
        if self.open_files >= limit && (!single || self.in_order) {
            return None;
        }
        self.open_files += 1;
        if single {
            self.files[no].phase = FilePhase::Fetching;
            // Without a manifest nothing opens the file, so its only group is marked as missing here.
            self.files[no].arrived = vec![false];
            return Some(self.start_run(source, no, 0, 1, now));
        }
        self.files[no].phase = FilePhase::AwaitingManifest;
        self.manifests.push((no, source, now));
        Some(WorkItem::Manifest(no))
    }

    /// True if a source of a file has this group of it.
    fn has_group(&self, source: SourceNo, no: FileNo, group: u32) -> bool {
        self.partial_sources.get(&(source, no)).is_none_or(|groups| groups.contains(group))
    }

    /// Returns the first unrequested groups of a file that `source` has.
    fn next_range(&self, source: SourceNo, no: FileNo) -> Option<AvailableRange> {
        let file = &self.files[no];
        if file.source_bits & bit(source) == 0 {
            return None;
        }
        let has = |group: u32| self.has_group(source, no, group);
        let horizon = if self.in_order { self.window_end(source, no)? } else { u32::MAX };
        file.unrequested.iter().enumerate().rev().find_map(|(place, &(first, last))| {
            let last = last.min(horizon);
            let start = (first..last).find(|group| has(*group))?;
            // A source of the whole file needs no look at each group.
            let end = if self.partial_sources.contains_key(&(source, no)) {
                (start..last).find(|group| !has(*group)).unwrap_or(last)
            } else {
                last
            };
            Some(AvailableRange { index: place, start, end })
        })
    }

    fn take_run(&mut self, position: usize, range: AvailableRange, source: SourceNo, now: Instant) -> Option<WorkItem> {
        let no = *self.ready.get(position)?;
        let longest = if self.in_order { self.window_left(source, no) } else { self.max_run_groups(source, no) };
        let sharers = self.streams * self.usable_bits().count_ones().max(1);
        let file = &mut self.files[no];
        let AvailableRange { index: place, start, end } = range;
        // Shorter near the end, so that all streams finish together; in order, near the end of the window.
        let left: u32 =
            if self.in_order { end - start } else { file.unrequested.iter().map(|(start, end)| end - start).sum() };
        // Half of an equal share: rates differ, and a last long run would decide when the file is done.
        let fair = (left / (sharers * 2)).max(1);
        let cut = start + (end - start).min(longest).min(fair);
        let (first, last) = *file.unrequested.get(place)?;
        // Reversed like `unrequested`: the remainder before the run comes last and is the next one to be taken.
        let rest = [(cut, last), (first, start)].into_iter().filter(|(start, end)| start < end);
        file.unrequested.splice(place..=place, rest);
        if file.unrequested.is_empty() {
            self.ready.remove(position);
        }
        Some(self.start_run(source, no, start, cut, now))
    }

    /// Returns the length of a run in groups: long runs cost the least, but a run takes no longer than [`RUN_TIME`], so
    /// that others can take over soon.
    fn max_run_groups(&self, source: SourceNo, no: FileNo) -> u32 {
        let group_bytes = self.files[no].layout.group_bytes();
        let bytes = self.expected_bytes(source, RUN_TIME).unwrap_or(INITIAL_BYTES).min(RUN_BYTES);
        u32::try_from(bytes / group_bytes).unwrap_or(u32::MAX).max(1)
    }

    /// Returns the bytes that one stream of a source should deliver in this time; `None` before its first delivery.
    fn expected_bytes(&self, source: SourceNo, time: Duration) -> Option<u64> {
        let rate = self.rate(source) / f64::from(self.streams);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is an estimate")]
        let bytes = (rate * time.as_secs_f64()) as u64;
        (rate > 0.0).then_some(bytes)
    }

    fn start_run(&mut self, source: SourceNo, file: FileNo, start: u32, end: u32, now: Instant) -> WorkItem {
        let was_idle = !self.in_flight.iter().any(|run| run.source == source);
        if let Some(state) = self.source_mut(source).filter(|_| was_idle) {
            // The time before this request was idle and must not count against the source's rate.
            state.rate.restart_clock(now);
        }
        self.in_flight.push(InFlightRun { source, file, start, end, since: now });
        WorkItem::Run { file, start, end }
    }

    /// True if a source has a run or a manifest in flight.
    fn has_in_flight(&self, source: SourceNo) -> bool {
        self.in_flight.iter().any(|run| run.source == source) || self.manifests.iter().any(|asked| asked.1 == source)
    }

    fn rate(&self, source: SourceNo) -> f64 {
        self.sources.get(index(source)).map_or(0.0, |source| source.rate.bytes_per_second())
    }
}

/// Requests in order, out of a window that begins at the first missing group.
impl FetchPlan {
    /// Returns the end of the groups that `source` may be asked for now; `None` if it has enough in flight.
    fn window_end(&self, source: SourceNo, no: FileNo) -> Option<u32> {
        let end = self.files[no].head.saturating_add(self.window_groups(no));
        (self.window_left(source, no) > 0).then_some(end)
    }

    /// Returns the groups that `source` may be asked for beyond those
    /// in flight: a faster source gets more of the window.
    fn window_left(&self, source: SourceNo, no: FileNo) -> u32 {
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
        // The head is the group that all wait for: a slow source keeps a share if no faster one has that group.
        let can_do_without = rates.iter().any(|(other, rate)| *rate > own && self.has_group(*other, no, head));
        share.max(u32::from(own <= 0.0 || !can_do_without))
    }
}

/// The end game: a source without other work is asked for groups that another source is late with.
impl FetchPlan {
    /// Returns work that another source is late with. Of the run that will take longest, this is the later half of the
    /// groups that no third source was asked for; in order, the earlier half of the first late run.
    fn duplicate_late_work(&mut self, source: SourceNo, now: Instant) -> Option<WorkItem> {
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
        // Bounded: of a rate near zero, the quotient is more than a `Duration` holds.
        Duration::from_secs_f64(if rate > 0.0 { (bytes / rate).min(UNKNOWN) } else { UNKNOWN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_in_pairs_are_as_fast_as_they_are() {
        let mut now = Instant::now();
        let mut pace = DeliveryRate::new(now);
        assert!(pace.bytes_per_second().abs() < f64::EPSILON);
        for _ in 0..20 {
            for gap in [699_999, 1] {
                now += Duration::from_micros(gap);
                pace.record_delivery(1_000_000, now);
            }
            let wanted = 2_000_000.0 / 0.7;
            assert!((pace.bytes_per_second() / wanted - 1.0).abs() < 0.2, "{}", pace.bytes_per_second());
        }
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut now = Instant::now();
        let mut pace = DeliveryRate::new(now);
        for rate in [1_000_000.0, 100_000_000.0] {
            for _ in 0..30 {
                now += Duration::from_secs_f64(1_000_000.0 / rate);
                pace.record_delivery(1_000_000, now);
            }
            assert!((pace.bytes_per_second() / rate - 1.0).abs() < 0.2, "{} of {rate}", pace.bytes_per_second());
        }
    }

    #[test]
    fn idle_time_does_not_count() {
        let mut now = Instant::now();
        let mut pace = DeliveryRate::new(now);
        now += Duration::from_secs(100);
        pace.restart_clock(now);
        pace.record_delivery(1_000_000, now + Duration::from_secs(1));
        assert!((pace.bytes_per_second() - 1_000_000.0).abs() < 1.0);
    }
}
