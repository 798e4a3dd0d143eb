//! Who fetches what next. Pure: it is told what happened, and when, and says what to do.
//!
//! A file goes through `Waiting → (Manifest → Opening →) Fetching → Settled`; one of a single group needs no manifest,
//! its content hash is enough. Only files in `Fetching` with groups that nobody was asked for are in the `ready` queue,
//! so that finding work takes no search.
//!
//! Sources come, go and come back. What a source was asked for and did not deliver goes back into the queue when it is
//! lost. A source that has nothing else to do is given groups that others are late with (the end game), so that the
//! slowest one never decides when a file is done.
//!
//! A source that is still fetching a file itself has only some of its groups, and more of them from time to time: it is
//! asked for those, and as long as it gets more it may get any.
//!
//! A file that is a copy of another one is held until it is known whether that one came.
//!
//! What must come in order comes from all sources as well, out of a window that begins at the first group that is still
//! missing: whatever comes too early has to wait in memory.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use shared::{GroupLayout, GroupSet};

use super::FileNo;

mod delivery_rate;
mod end_game;
mod in_order;
#[doc(hidden)]
pub mod plan_bench;
mod work_selection;

use delivery_rate::DeliveryRate;

/// Bytes of the longest run.
const RUN_BYTES: u64 = 8 << 20;
/// A run is no longer than its stream should deliver in this time.
const RUN_TIME: Duration = Duration::from_millis(500);
/// A stream is not asked for more than it should deliver in this time: who comes later must find something to do.
const AHEAD_TIME: Duration = Duration::from_secs(1);
/// Nor for more than this, which is more than a LAN holds in flight.
const AHEAD_BYTES: u64 = 16 << 20;
/// What a stream is asked for before anything is known of its rate.
const INITIAL_BYTES: u64 = 1 << 20;
/// Files of several groups that are open at once.
const MAX_OPEN_FILES: usize = 16;
/// A run that others may take over is at least this old, or later than its source's rate promised.
const LATE_AFTER: Duration = Duration::from_millis(500);

/// Most sources of one fetch: a bit each.
pub(super) const MAX_SOURCES: u32 = 64;

/// A source, by the order of [`Plan::add_source`].
pub(super) type SourceNo = u32;

/// Something to ask a source for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WorkItem {
    /// The file's manifest.
    Manifest(FileNo),
    /// The groups `start..end` of a file.
    Run {
        /// Which file.
        file: FileNo,
        /// The first group.
        start: u32,
        /// Behind the last group.
        end: u32,
    },
}

/// The whole fetch.
#[derive(Debug)]
pub(super) struct FetchPlan {
    files: Vec<PlannedFile>,
    sources: Vec<PlannedSource>,
    /// What those have who are still fetching a file; whoever else has it has all of it.
    partial_sources: HashMap<(SourceNo, FileNo), GroupSet>,
    ready: VecDeque<FileNo>,
    in_flight: Vec<InFlightRun>,
    /// Manifests that were asked for: of which file, from whom, when.
    manifests: Vec<(FileNo, SourceNo, Instant)>,
    open_files: usize,
    /// Files of several groups that may be open at once.
    max_open_files: usize,
    unsettled: usize,
    streams: u32,
    /// One file after another, group by group.
    in_order: bool,
}

#[derive(Debug)]
struct PlannedFile {
    layout: GroupLayout,
    phase: FilePhase,
    /// Sources that have it, a bit each.
    source_bits: u64,
    /// Half-open ranges of groups that nobody was asked for, the next one last.
    unrequested: Vec<(u32, u32)>,
    /// Groups that came and were not found wrong; empty before the first was asked for.
    arrived: Vec<bool>,
    /// No group before this one is missing.
    head: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FilePhase {
    /// It may come otherwise.
    Held,
    Waiting,
    AwaitingManifest,
    Opening,
    Fetching,
    Settled,
}

#[derive(Debug)]
struct PlannedSource {
    is_usable: bool,
    is_banned: bool,
    rate: DeliveryRate,
    /// Files that it has and nobody was asked for; those that somebody was asked for since are passed over.
    waiting: VecDeque<FileNo>,
}

/// A run that a source was asked for; `start` moves with what was delivered.
#[derive(Debug, Clone, Copy)]
struct InFlightRun {
    source: SourceNo,
    file: FileNo,
    start: u32,
    end: u32,
    since: Instant,
}

impl FetchPlan {
    /// A plan for files of these layouts over `streams` streams a source; `in_order` for one that is written as it
    /// comes.
    pub(super) fn new(layouts: impl IntoIterator<Item = GroupLayout>, streams: usize, in_order: bool) -> Self {
        let file = |layout: GroupLayout| PlannedFile {
            layout,
            phase: FilePhase::Waiting,
            source_bits: 0,
            unrequested: Vec::new(),
            arrived: Vec::new(),
            head: 0,
        };
        let files: Vec<PlannedFile> = layouts.into_iter().map(file).collect();
        Self {
            unsettled: files.len(),
            files,
            sources: Vec::new(),
            partial_sources: HashMap::new(),
            ready: VecDeque::new(),
            in_flight: Vec::new(),
            manifests: Vec::new(),
            open_files: 0,
            max_open_files: if in_order { 1 } else { MAX_OPEN_FILES },
            streams: u32::try_from(streams).unwrap_or(u32::MAX).max(1),
            in_order,
        }
    }

    /// Fewer files of several groups are open at once where there are few descriptors.
    pub(super) fn limit_open_files(&mut self, at_most: usize) {
        self.max_open_files = self.max_open_files.min(at_most).max(1);
    }

    /// A source of the files that `has` says; `None` when there are too many sources.
    pub(super) fn add_source(&mut self, has: impl Fn(FileNo) -> bool, now: Instant) -> Option<SourceNo> {
        let source = u32::try_from(self.sources.len()).ok().filter(|source| *source < MAX_SOURCES)?;
        let mut waiting = VecDeque::new();
        for (no, file) in self.files.iter_mut().enumerate().filter(|(no, _)| has(*no)) {
            file.source_bits |= bit(source);
            if file.phase == FilePhase::Waiting {
                waiting.push_back(no);
            }
        }
        self.sources.push(PlannedSource { is_usable: true, is_banned: false, rate: DeliveryRate::new(now), waiting });
        Some(source)
    }

    /// Nobody is asked for a file that nobody was asked for yet, until it is released.
    pub(super) fn hold(&mut self, no: FileNo) {
        if self.files[no].phase == FilePhase::Waiting {
            self.files[no].phase = FilePhase::Held;
        }
    }

    /// A file that was held is to be asked for.
    pub(super) fn release(&mut self, no: FileNo) {
        if self.files[no].phase == FilePhase::Held {
            self.files[no].phase = FilePhase::Waiting;
            for (source, state) in (0..).zip(&mut self.sources) {
                if self.files[no].source_bits & bit(source) != 0 {
                    state.waiting.push_back(no);
                }
            }
        }
    }

    /// What `source` should be asked for next; `None` when there is nothing for it now.
    pub(super) fn next_work(&mut self, source: SourceNo, now: Instant) -> Option<WorkItem> {
        if !self.is_usable(source) {
            return None;
        }
        let takeable = |(position, no): (usize, &FileNo)| self.next_range(source, *no).map(|range| (position, range));
        if let Some((position, range)) = self.ready.iter().enumerate().find_map(takeable) {
            return self.take_run(position, range, source, now);
        }
        if let Some(no) = self.first_waiting(source)
            && let Some(work) = self.begin_file(no, source, now)
        {
            return Some(work);
        }
        if self.in_order && self.has_in_flight(source) {
            return None;
        }
        self.duplicate_late_work(source, now)
    }

    /// A source has these groups of a file, or these by now; when all of them, it no longer matters how it came by them.
    pub(super) fn set_groups(&mut self, source: SourceNo, no: FileNo, groups: GroupSet) {
        if groups.is_full() {
            self.partial_sources.remove(&(source, no));
        } else {
            self.partial_sources.insert((source, no), groups);
        }
    }

    /// The files of which a source has only some groups.
    pub(super) fn partial_files(&self, source: SourceNo) -> Vec<FileNo> {
        self.partial_sources.keys().filter(|(of, _)| *of == source).map(|(_, no)| *no).collect()
    }

    /// Bytes that each stream of `source` should be asked for ahead of what it delivers.
    pub(super) fn bytes_ahead(&self, source: SourceNo) -> u64 {
        // Always more than one group, so that there is something to send while the next question travels.
        let promised = self.expected_bytes(source, AHEAD_TIME);
        promised.map_or(INITIAL_BYTES, |bytes| bytes.clamp(INITIAL_BYTES + 1, AHEAD_BYTES))
    }

    /// A file's manifest came and is right. True when its partial is to be opened now: it may come twice.
    pub(super) fn manifest_arrived(&mut self, no: FileNo) -> bool {
        if self.files[no].phase != FilePhase::AwaitingManifest {
            return false;
        }
        self.files[no].phase = FilePhase::Opening;
        self.manifests.retain(|(file, ..)| *file != no);
        true
    }

    /// A file's partial is open, with the groups that `present` flags already there.
    pub(super) fn file_opened(&mut self, no: FileNo, present: &[bool]) {
        let file = &mut self.files[no];
        if file.phase != FilePhase::Opening {
            return;
        }
        file.phase = FilePhase::Fetching;
        file.arrived = present.to_vec();
        file.arrived.resize(index(file.layout.group_count()), false);
        file.advance_head();
        file.unrequested = ranges_where(0, file.layout.group_count(), |group| !file.arrived[index(group)]);
        file.unrequested.reverse();
        if !file.unrequested.is_empty() {
            self.ready.push_back(no);
        }
    }

    /// A source delivered a group of a run; whether it is right is not known yet.
    pub(super) fn group_delivered(&mut self, source: SourceNo, no: FileNo, group: u32, now: Instant) {
        let bytes = self.files[no].layout.group_len(group);
        if let Some(state) = self.source_mut(source) {
            state.rate.record_delivery(bytes, now);
        }
        if let Some(arrived) = self.files[no].arrived.get_mut(index(group)) {
            *arrived = true;
            self.files[no].advance_head();
        }
        let same = |run: &InFlightRun| run.source == source && run.file == no && run.start <= group && group < run.end;
        if let Some(position) = self.in_flight.iter().position(same) {
            let run = &mut self.in_flight[position];
            run.start = group + 1;
            if run.start == run.end {
                self.in_flight.swap_remove(position);
            }
        }
    }

    /// A group that came was wrong; somebody else must be asked.
    pub(super) fn group_corrupt(&mut self, no: FileNo, group: u32) {
        if let Some(arrived) = self.files[no].arrived.get_mut(index(group)) {
            *arrived = false;
            let head = &mut self.files[no].head;
            *head = group.min(*head);
        }
        self.requeue(no, group, group + 1);
    }

    /// Work that a source was given and did not do.
    pub(super) fn return_work(&mut self, source: SourceNo, work: &WorkItem) {
        match *work {
            WorkItem::Manifest(no) if self.files[no].phase == FilePhase::AwaitingManifest => {
                self.manifests.retain(|asked| (asked.0, asked.1) != (no, source));
                if self.manifests.iter().any(|(file, ..)| *file == no) {
                    return;
                }
                self.files[no].phase = FilePhase::Waiting;
                self.open_files -= 1;
                for (other, state) in (0..).zip(&mut self.sources) {
                    if self.files[no].source_bits & bit(other) != 0 {
                        state.waiting.push_front(no);
                    }
                }
            }
            WorkItem::Run { file, start, end } => {
                let same = |run: &InFlightRun| run.source == source && run.file == file && run.end == end;
                if let Some(position) = self.in_flight.iter().position(same) {
                    self.in_flight.swap_remove(position);
                }
                self.requeue(file, start, end);
            }
            WorkItem::Manifest(_) => {}
        }
    }

    /// A source turned out to have a file.
    pub(super) fn add_availability(&mut self, source: SourceNo, no: FileNo) {
        self.files[no].source_bits |= bit(source);
        if self.files[no].phase == FilePhase::Waiting
            && let Some(state) = self.source_mut(source)
        {
            state.waiting.push_back(no);
        }
    }

    /// A source turned out not to have a file. True when nobody usable has it.
    pub(super) fn remove_availability(&mut self, source: SourceNo, no: FileNo) -> bool {
        self.files[no].source_bits &= !bit(source);
        self.partial_sources.remove(&(source, no));
        self.files[no].source_bits & self.usable_bits() == 0
    }

    /// A source is gone; it may come back.
    pub(super) fn lose_source(&mut self, source: SourceNo) {
        if let Some(state) = self.source_mut(source) {
            state.is_usable = false;
        }
    }

    /// A source is back; one that was banned stays away, and false is returned.
    pub(super) fn restore_source(&mut self, source: SourceNo, now: Instant) -> bool {
        self.source_mut(source).is_some_and(|state| {
            state.is_usable = !state.is_banned;
            state.rate.restart_clock(now);
            state.is_usable
        })
    }

    /// A source told a lie: nothing is asked of it any more. True the first time.
    pub(super) fn ban_source(&mut self, source: SourceNo) -> bool {
        self.source_mut(source).is_some_and(|state| {
            state.is_usable = false;
            !std::mem::replace(&mut state.is_banned, true)
        })
    }

    /// Nothing more is to be done for a file.
    pub(super) fn settle(&mut self, no: FileNo) {
        let file = &mut self.files[no];
        match file.phase {
            FilePhase::Settled => return,
            // The queues of those who have it pass it over.
            FilePhase::Held | FilePhase::Waiting => {}
            FilePhase::AwaitingManifest | FilePhase::Opening | FilePhase::Fetching => self.open_files -= 1,
        }
        if !file.unrequested.is_empty() {
            self.ready.retain(|ready| *ready != no);
            file.unrequested = Vec::new();
        }
        file.arrived = Vec::new();
        file.phase = FilePhase::Settled;
        self.in_flight.retain(|run| run.file != no);
        self.manifests.retain(|(file, ..)| *file != no);
        self.unsettled -= 1;
    }

    /// Whether nothing more is to be done for a file.
    pub(super) fn is_settled(&self, no: FileNo) -> bool {
        self.files[no].phase == FilePhase::Settled
    }

    /// Whether all files are settled.
    pub(super) const fn is_done(&self) -> bool {
        self.unsettled == 0
    }

    /// Whether a source may be asked.
    pub(super) fn is_usable(&self, source: SourceNo) -> bool {
        self.sources.get(index(source)).is_some_and(|source| source.is_usable)
    }

    /// The files that still lack groups and that none of the usable sources, nor of `coming`, has.
    pub(super) fn stranded(&self, coming: impl IntoIterator<Item = SourceNo>) -> Vec<FileNo> {
        let hopeful = self.reachable_bits(coming);
        (0..self.files.len()).filter(|no| self.files[*no].is_stranded(hopeful)).collect()
    }

    /// Whether [`Plan::stranded`] has this file.
    pub(super) fn is_stranded(&self, no: FileNo, coming: impl IntoIterator<Item = SourceNo>) -> bool {
        self.files[no].is_stranded(self.reachable_bits(coming))
    }

    /// Whether a source was asked for something that is still to come.
    fn has_in_flight(&self, source: SourceNo) -> bool {
        self.in_flight.iter().any(|run| run.source == source) || self.manifests.iter().any(|asked| asked.1 == source)
    }

    fn reachable_bits(&self, coming: impl IntoIterator<Item = SourceNo>) -> u64 {
        coming.into_iter().map(bit).fold(self.usable_bits(), |all, one| all | one)
    }

    fn source_mut(&mut self, source: SourceNo) -> Option<&mut PlannedSource> {
        self.sources.get_mut(index(source))
    }

    fn usable_bits(&self) -> u64 {
        let bits = (0..).zip(&self.sources).filter(|(_, source)| source.is_usable).map(|(no, _)| bit(no));
        bits.fold(0, |all, one| all | one)
    }

    fn rate(&self, source: SourceNo) -> f64 {
        self.sources.get(index(source)).map_or(0.0, |source| source.rate.bytes_per_second())
    }

    /// Of `start..end`, what has not arrived and nobody but `except` was asked for.
    fn ranges_needed(&self, no: FileNo, start: u32, end: u32, except: Option<SourceNo>) -> Vec<(u32, u32)> {
        let file = &self.files[no];
        let asked = |group: u32| {
            let same = |run: &InFlightRun| {
                Some(run.source) != except && run.file == no && (run.start..run.end).contains(&group)
            };
            self.in_flight.iter().any(same)
        };
        ranges_where(start, end, |group| !file.arrived.get(index(group)).copied().unwrap_or(true) && !asked(group))
    }

    fn requeue(&mut self, no: FileNo, start: u32, end: u32) {
        if self.files[no].phase != FilePhase::Fetching {
            return;
        }
        let needed = self.ranges_needed(no, start, end, None);
        if needed.is_empty() {
            return;
        }
        let file = &mut self.files[no];
        if file.unrequested.is_empty() {
            self.ready.push_front(no);
        }
        file.unrequested.extend(needed.into_iter().rev());
    }
}

impl PlannedFile {
    fn advance_head(&mut self) {
        while self.arrived.get(index(self.head)) == Some(&true) {
            self.head += 1;
        }
    }

    /// Whether groups are missing that none of the sources in `hopeful` has.
    fn is_stranded(&self, hopeful: u64) -> bool {
        let all_came = !self.arrived.is_empty() && self.arrived.iter().all(|came| *came);
        !matches!(self.phase, FilePhase::Settled | FilePhase::Held) && self.source_bits & hopeful == 0 && !all_came
    }
}

fn bit(source: SourceNo) -> u64 {
    1_u64.checked_shl(source).unwrap_or(0)
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The ranges of `start..end` for whose groups `wanted` holds, the first one first.
fn ranges_where(start: u32, end: u32, wanted: impl Fn(u32) -> bool) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for group in (start..end).filter(|group| wanted(*group)) {
        match ranges.last_mut() {
            Some((_, end)) if *end == group => *end += 1,
            _ => ranges.push((group, group + 1)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests;
