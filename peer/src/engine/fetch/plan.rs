//! Plan of a fetch: decides which source is asked for which groups next. Pure: events and times are arguments.
//!
//! A file goes through `Waiting → (AwaitingManifest → Opening →) Fetching → Settled`. A file of one group needs no
//! manifest: its content hash proves it. The `ready` queue holds only files in `Fetching` with groups that no source
//! was asked for, so that finding work takes no search.
//!
//! Sources come, go and come back. Groups that a source was asked for and didn't deliver return to the queue when its
//! stream ends. A source without other work is given groups that others are late with (the end game), so that the
//! slowest source never decides when a file is done.
//!
//! A source that is still fetching a file itself has only some of its groups, and gets more over time. It is asked for
//! those it has; as long as it gets more, the file isn't given up.
//!
//! A copy of another file of the fetch is held until that one is placed or failed.
//!
//! A stream destination needs groups in order. They come from all sources as well, out of a window that begins at the
//! first missing group: groups that arrive early wait in memory.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use shared::{GroupLayout, GroupSet};

use super::FileNo;

#[doc(hidden)]
pub mod plan_bench;
mod shared_plan;
mod source_availability;
#[cfg(test)]
mod tests;
mod work_selection;

pub(super) use shared_plan::SharedPlan;
use work_selection::DeliveryRate;

/// Files of several groups that are open at once: each holds descriptors and a manifest.
const MAX_OPEN_FILES: usize = 16;
/// The most sources of one fetch: each has a bit in `source_bits`.
pub(super) const MAX_SOURCES: u32 = 64;

/// The number of a source, in the order of [`FetchPlan::add_source`].
pub(super) type SourceNo = u32;

/// A unit of work for one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WorkItem {
    /// The file's manifest.
    Manifest(FileNo),
    /// The groups `start..end` of a file.
    Run {
        /// The file's number.
        file: FileNo,
        /// The first group.
        start: u32,
        /// The end of the range, exclusive.
        end: u32,
    },
}

/// The plan of one round: files, sources, and requests in flight.
#[derive(Debug)]
pub(super) struct FetchPlan {
    files: Vec<PlannedFile>,
    sources: Vec<PlannedSource>,
    /// The groups of sources that have a file in part. A source without an entry has all of the files in its bits.
    partial_sources: HashMap<(SourceNo, FileNo), GroupSet>,
    ready: VecDeque<FileNo>,
    in_flight: Vec<InFlightRun>,
    /// Manifests in flight: file, source, time of the request.
    manifests: Vec<(FileNo, SourceNo, Instant)>,
    open_files: usize,
    /// Limit of `open_files`; only files of several groups wait for it, unless the fetch is in order.
    max_open_files: usize,
    unsettled: usize,
    streams: u32,
    /// The destination is a stream: one file after another, group by group.
    in_order: bool,
}

#[derive(Debug)]
struct PlannedFile {
    layout: GroupLayout,
    phase: FilePhase,
    /// Sources that have the file, one bit each.
    source_bits: u64,
    /// Half-open ranges of groups that no source was asked for, in reverse: the next one is last.
    unrequested: Vec<(u32, u32)>,
    /// Groups that arrived and were not found corrupt; empty before the file is open.
    arrived: Vec<bool>,
    /// All groups before this one have arrived.
    head: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FilePhase {
    /// It may be copied from another file.
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
    /// Waiting files that it has. Files that began since stay in the queue and are skipped.
    waiting: VecDeque<FileNo>,
}

/// A requested run; `start` advances with each delivered group.
#[derive(Debug, Clone, Copy)]
struct InFlightRun {
    source: SourceNo,
    file: FileNo,
    start: u32,
    end: u32,
    since: Instant,
}

impl FetchPlan {
    /// Builds a plan for files of these layouts over `streams` streams per source; `in_order` for a stream destination.
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

    /// Lowers the number of open files where there are few descriptors.
    pub(super) fn limit_open_files(&mut self, at_most: usize) {
        self.max_open_files = self.max_open_files.min(at_most).max(1);
    }

    /// Holds a waiting file: no source is asked for it until it is released.
    pub(super) fn hold(&mut self, no: FileNo) {
        if self.files[no].phase == FilePhase::Waiting {
            self.files[no].phase = FilePhase::Held;
        }
    }

    /// Makes a held file available for requests.
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

    /// Records that a verified manifest arrived. True if the partial
    /// file must be opened now: the manifest may come twice.
    pub(super) fn manifest_arrived(&mut self, no: FileNo) -> bool {
        if self.files[no].phase != FilePhase::AwaitingManifest {
            return false;
        }
        self.files[no].phase = FilePhase::Opening;
        self.manifests.retain(|(file, ..)| *file != no);
        true
    }

    /// Records that the partial file is open, with the groups flagged in `present`.
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
        // The next range is taken from the end, which is cheap in a vector.
        file.unrequested.reverse();
        if !file.unrequested.is_empty() {
            self.ready.push_back(no);
        }
    }

    /// Records the delivery of a group; it isn't verified yet.
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
            // The groups of a run come in order: what is left begins behind this one.
            run.start = group + 1;
            if run.start == run.end {
                self.in_flight.swap_remove(position);
            }
        }
    }

    /// Takes back a group that was found corrupt; it is requested again.
    pub(super) fn group_corrupt(&mut self, no: FileNo, group: u32) {
        if let Some(arrived) = self.files[no].arrived.get_mut(index(group)) {
            *arrived = false;
            let head = &mut self.files[no].head;
            // The window of a fetch in order begins at the head: it must move back, or the group is never requested.
            *head = group.min(*head);
        }
        self.requeue(no, group, group + 1);
    }

    /// Takes back work that a source didn't finish.
    pub(super) fn return_work(&mut self, source: SourceNo, work: &WorkItem) {
        match *work {
            WorkItem::Manifest(no) if self.files[no].phase == FilePhase::AwaitingManifest => {
                self.manifests.retain(|asked| (asked.0, asked.1) != (no, source));
                // Another source was asked for the same manifest and can still deliver it.
                if self.manifests.iter().any(|(file, ..)| *file == no) {
                    return;
                }
                self.files[no].phase = FilePhase::Waiting;
                self.open_files -= 1;
                for (other, state) in (0..).zip(&mut self.sources) {
                    if self.files[no].source_bits & bit(other) != 0 {
                        // At the front: its turn had come.
                        state.waiting.push_front(no);
                    }
                }
            }
            WorkItem::Run { file, start, end } => {
                // Found by its end: `start` has moved with what was delivered.
                let same = |run: &InFlightRun| run.source == source && run.file == file && run.end == end;
                if let Some(position) = self.in_flight.iter().position(same) {
                    self.in_flight.swap_remove(position);
                }
                self.requeue(file, start, end);
            }
            WorkItem::Manifest(_) => {}
        }
    }

    /// Settles a file: it needs no more work, whatever is still in flight.
    pub(super) fn settle(&mut self, no: FileNo) {
        let file = &mut self.files[no];
        match file.phase {
            FilePhase::Settled => return,
            // Still in the queues of its sources, which skip files that no longer wait.
            FilePhase::Held | FilePhase::Waiting => {}
            FilePhase::AwaitingManifest | FilePhase::Opening | FilePhase::Fetching => self.open_files -= 1,
        }
        if !file.unrequested.is_empty() {
            self.ready.retain(|ready| *ready != no);
            file.unrequested = Vec::new();
        }
        // Freed, as a fetch may have 100,000 files.
        file.arrived = Vec::new();
        file.phase = FilePhase::Settled;
        self.in_flight.retain(|run| run.file != no);
        self.manifests.retain(|(file, ..)| *file != no);
        self.unsettled -= 1;
    }

    /// True if the file needs no more work.
    pub(super) fn is_settled(&self, no: FileNo) -> bool {
        self.files[no].phase == FilePhase::Settled
    }

    /// True if all files are settled.
    pub(super) const fn is_done(&self) -> bool {
        self.unsettled == 0
    }

    /// Returns the ranges of `start..end` that haven't arrived and that no source but `except` was asked for.
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
        // In the end game another source may have delivered the groups already, or still be asked for them.
        let needed = self.ranges_needed(no, start, end, None);
        if needed.is_empty() {
            return;
        }
        let file = &mut self.files[no];
        if file.unrequested.is_empty() {
            // At the front: a file that was begun is finished before others.
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

    /// True if groups are missing and no source in `hopeful` has the file.
    fn is_stranded(&self, hopeful: u64) -> bool {
        // A file whose last group is still being verified or written needs no source.
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

/// Returns the ranges of `start..end` for whose groups `wanted` holds, in ascending order.
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
