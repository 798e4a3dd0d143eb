//! Selection of the next request among groups that no source was asked for.

use std::time::{Duration, Instant};

use super::{
    FetchPlan, FileNo, FilePhase, INITIAL_BYTES, InFlightRun, RUN_BYTES, RUN_TIME, SourceNo, WorkItem, bit, index,
};

/// Groups that can be requested, all in one range of the file's `unrequested`.
#[derive(Debug, Clone, Copy)]
pub(super) struct AvailableRange {
    /// Index of that range.
    index: usize,
    start: u32,
    end: u32,
}

impl FetchPlan {
    /// Returns the first waiting file that `source` has.
    pub(super) fn first_waiting(&mut self, source: SourceNo) -> Option<FileNo> {
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
    pub(super) fn begin_file(&mut self, no: FileNo, source: SourceNo, now: Instant) -> Option<WorkItem> {
        let single = self.files[no].layout.group_count() == 1;
        let limit = self.max_open_files;
        // A file of one group is written in one piece: it counts as open, but never waits for others.
        if self.open_files >= limit && (!single || self.in_order) {
            return None;
        }
        self.open_files += 1;
        if single {
            self.files[no].phase = FilePhase::Fetching;
            self.files[no].arrived = vec![false];
            return Some(self.start_run(source, no, 0, 1, now));
        }
        self.files[no].phase = FilePhase::AwaitingManifest;
        self.manifests.push((no, source, now));
        Some(WorkItem::Manifest(no))
    }

    /// True if a source of a file has this group of it.
    pub(super) fn has_group(&self, source: SourceNo, no: FileNo, group: u32) -> bool {
        self.partial_sources.get(&(source, no)).is_none_or(|groups| groups.contains(group))
    }

    /// Returns the first unrequested groups of a file that `source` has.
    pub(super) fn next_range(&self, source: SourceNo, no: FileNo) -> Option<AvailableRange> {
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

    pub(super) fn take_run(
        &mut self,
        position: usize,
        range: AvailableRange,
        source: SourceNo,
        now: Instant,
    ) -> Option<WorkItem> {
        let no = *self.ready.get(position)?;
        let longest = if self.in_order { self.window_left(source, no) } else { self.max_run_groups(source, no) };
        let sharers = self.streams * self.usable_bits().count_ones().max(1);
        let file = &mut self.files[no];
        let AvailableRange { index: place, start, end } = range;
        // Shorter near the end, so that all streams finish together; in order, near the end of the window.
        let left: u32 =
            if self.in_order { end - start } else { file.unrequested.iter().map(|(start, end)| end - start).sum() };
        let fair = (left / (sharers * 2)).max(1);
        let cut = start + (end - start).min(longest).min(fair);
        let (first, last) = *file.unrequested.get(place)?;
        // Reversed like `unrequested`: the remainder before the run
        // comes last and is the next one to be taken.
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
    pub(super) fn expected_bytes(&self, source: SourceNo, time: Duration) -> Option<u64> {
        let rate = self.rate(source) / f64::from(self.streams);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is an estimate")]
        let bytes = (rate * time.as_secs_f64()) as u64;
        (rate > 0.0).then_some(bytes)
    }

    pub(super) fn start_run(&mut self, source: SourceNo, file: FileNo, start: u32, end: u32, now: Instant) -> WorkItem {
        let was_idle = !self.in_flight.iter().any(|run| run.source == source);
        if let Some(state) = self.source_mut(source).filter(|_| was_idle) {
            // The time before this request was idle and must not count against the source's rate.
            state.rate.restart_clock(now);
        }
        self.in_flight.push(InFlightRun { source, file, start, end, since: now });
        WorkItem::Run { file, start, end }
    }
}
