//! What a source is asked for next, of what nobody was asked for.

use std::time::{Duration, Instant};

use super::{FIRST_BYTES, FileNo, Flying, Plan, RUN_BYTES, RUN_TIME, SourceNo, Stage, Work, bit, index};

/// Groups that can be asked for, all of them in the same range of [`File::pending`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Takeable {
    /// The range's place.
    place: usize,
    start: u32,
    end: u32,
}

impl Plan {
    /// The first file that `source` has and nobody was asked for.
    pub(super) fn first_waiting(&mut self, source: SourceNo) -> Option<FileNo> {
        let (files, state) = (&self.files, self.sources.get_mut(index(source))?);
        let is_waiting = |no: &FileNo| files[*no].stage == Stage::Waiting && files[*no].sources & bit(source) != 0;
        while state.waiting.front().is_some_and(|no| !is_waiting(no)) {
            state.waiting.pop_front();
        }
        state.waiting.front().copied()
    }

    /// Begins a waiting file, unless enough files are open.
    pub(super) fn begin(&mut self, no: FileNo, source: SourceNo, now: Instant) -> Option<Work> {
        let single = self.files[no].layout.groups() == 1;
        let limit = self.open_at_most;
        if self.open >= limit && (!single || self.in_order) {
            return None;
        }
        self.open += 1;
        if single {
            self.files[no].stage = Stage::Fetching;
            self.files[no].arrived = vec![false];
            return Some(self.fly(source, no, 0, 1, now));
        }
        self.files[no].stage = Stage::Manifest;
        self.manifests.push((no, source, now));
        Some(Work::Manifest(no))
    }

    /// Whether a source has a group of a file that it has.
    pub(super) fn has(&self, source: SourceNo, no: FileNo, group: u32) -> bool {
        self.partly.get(&(source, no)).is_none_or(|groups| groups.contains(group))
    }

    /// Of what nobody was asked for of a file, the first that `source` has.
    pub(super) fn next_range(&self, source: SourceNo, no: FileNo) -> Option<Takeable> {
        let file = &self.files[no];
        if file.sources & bit(source) == 0 {
            return None;
        }
        let has = |group: u32| self.has(source, no, group);
        let horizon = if self.in_order { self.horizon(source, no)? } else { u32::MAX };
        file.pending.iter().enumerate().rev().find_map(|(place, &(first, last))| {
            let last = last.min(horizon);
            let start = (first..last).find(|group| has(*group))?;
            let end = if self.partly.contains_key(&(source, no)) {
                (start..last).find(|group| !has(*group)).unwrap_or(last)
            } else {
                last
            };
            Some(Takeable { place, start, end })
        })
    }

    pub(super) fn take_run(
        &mut self,
        position: usize,
        range: Takeable,
        source: SourceNo,
        now: Instant,
    ) -> Option<Work> {
        let no = *self.ready.get(position)?;
        let longest = if self.in_order { self.room_left(source, no) } else { self.longest_run(source, no) };
        let sharers = self.streams * self.usable().count_ones().max(1);
        let file = &mut self.files[no];
        let Takeable { place, start, end } = range;
        // Shorter near the end, so that all streams finish together; in order, that of the window.
        let left: u32 =
            if self.in_order { end - start } else { file.pending.iter().map(|(start, end)| end - start).sum() };
        let fair = (left / (sharers * 2)).max(1);
        let cut = start + (end - start).min(longest).min(fair);
        let (first, last) = *file.pending.get(place)?;
        let rest = [(cut, last), (first, start)].into_iter().filter(|(start, end)| start < end);
        file.pending.splice(place..=place, rest);
        if file.pending.is_empty() {
            self.ready.remove(position);
        }
        Some(self.fly(source, no, start, cut, now))
    }

    /// Groups of a file that a source should be asked for at once: long runs cost the least, but not longer than it
    /// delivers in a moment.
    fn longest_run(&self, source: SourceNo, no: FileNo) -> u32 {
        let group_bytes = self.files[no].layout.group_bytes();
        let bytes = self.promised(source, RUN_TIME).unwrap_or(FIRST_BYTES).min(RUN_BYTES);
        u32::try_from(bytes / group_bytes).unwrap_or(u32::MAX).max(1)
    }

    /// Bytes that one stream of a source should deliver in this time; `None` when nothing is known of it.
    pub(super) fn promised(&self, source: SourceNo, time: Duration) -> Option<u64> {
        let rate = self.rate(source) / f64::from(self.streams);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is an estimate")]
        let bytes = (rate * time.as_secs_f64()) as u64;
        (rate > 0.0).then_some(bytes)
    }

    pub(super) fn fly(&mut self, source: SourceNo, file: FileNo, start: u32, end: u32, now: Instant) -> Work {
        let was_idle = !self.flying.iter().any(|run| run.source == source);
        if let Some(state) = self.source_mut(source).filter(|_| was_idle) {
            // Its clock starts with the question, not with whatever it did before.
            state.pace.begin(now);
        }
        self.flying.push(Flying { source, file, start, end, since: now });
        Work::Run { file, start, end }
    }
}
