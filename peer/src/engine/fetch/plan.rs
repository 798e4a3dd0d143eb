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

use shared::{GroupSet, Layout};

use super::FileNo;

mod asking;
#[doc(hidden)]
pub mod bench;
mod end_game;
mod in_order;
mod pace;

use pace::Pace;

/// Bytes of the longest run.
const RUN_BYTES: u64 = 8 << 20;
/// A run is no longer than its stream should deliver in this time.
const RUN_TIME: Duration = Duration::from_millis(500);
/// A stream is not asked for more than it should deliver in this time: who comes later must find something to do.
const AHEAD_TIME: Duration = Duration::from_secs(1);
/// Nor for more than this, which is more than a LAN holds in flight.
const AHEAD_BYTES: u64 = 16 << 20;
/// What a stream is asked for before anything is known of its rate.
const FIRST_BYTES: u64 = 1 << 20;
/// Files of several groups that are open at once.
const OPEN_FILES: usize = 16;
/// A run that others may take over is at least this old, or later than its source's rate promised.
const LATE: Duration = Duration::from_millis(500);

/// Most sources of one fetch: a bit each.
pub(super) const MAX_SOURCES: u32 = 64;

/// A source, by the order of [`Plan::add_source`].
pub(super) type SourceNo = u32;

/// Something to ask a source for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
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
pub(super) struct Plan {
    files: Vec<File>,
    sources: Vec<Source>,
    /// What those have who are still fetching a file; whoever else has it has all of it.
    partly: HashMap<(SourceNo, FileNo), GroupSet>,
    ready: VecDeque<FileNo>,
    flying: Vec<Flying>,
    /// Manifests that were asked for: of which file, from whom, when.
    manifests: Vec<(FileNo, SourceNo, Instant)>,
    open: usize,
    /// Files of several groups that may be open at once.
    open_at_most: usize,
    unsettled: usize,
    streams: u32,
    /// One file after another, group by group.
    in_order: bool,
}

#[derive(Debug)]
struct File {
    layout: Layout,
    stage: Stage,
    /// Sources that have it, a bit each.
    sources: u64,
    /// Half-open ranges of groups that nobody was asked for, the next one last.
    pending: Vec<(u32, u32)>,
    /// Groups that came and were not found wrong; empty before the first was asked for.
    arrived: Vec<bool>,
    /// No group before this one is missing.
    head: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It may come otherwise.
    Held,
    Waiting,
    Manifest,
    Opening,
    Fetching,
    Settled,
}

#[derive(Debug)]
struct Source {
    usable: bool,
    banned: bool,
    pace: Pace,
    /// Files that it has and nobody was asked for; those that somebody was asked for since are passed over.
    waiting: VecDeque<FileNo>,
}

/// A run that a source was asked for; `start` moves with what was delivered.
#[derive(Debug, Clone, Copy)]
struct Flying {
    source: SourceNo,
    file: FileNo,
    start: u32,
    end: u32,
    since: Instant,
}

impl Plan {
    /// A plan for files of these layouts over `streams` streams a source; `in_order` for one that is written as it
    /// comes.
    pub(super) fn new(layouts: impl IntoIterator<Item = Layout>, streams: usize, in_order: bool) -> Self {
        let file = |layout: Layout| File {
            layout,
            stage: Stage::Waiting,
            sources: 0,
            pending: Vec::new(),
            arrived: Vec::new(),
            head: 0,
        };
        let files: Vec<File> = layouts.into_iter().map(file).collect();
        Self {
            unsettled: files.len(),
            files,
            sources: Vec::new(),
            partly: HashMap::new(),
            ready: VecDeque::new(),
            flying: Vec::new(),
            manifests: Vec::new(),
            open: 0,
            open_at_most: if in_order { 1 } else { OPEN_FILES },
            streams: u32::try_from(streams).unwrap_or(u32::MAX).max(1),
            in_order,
        }
    }

    /// Fewer files of several groups are open at once where there are few descriptors.
    pub(super) fn limit_open_files(&mut self, at_most: usize) {
        self.open_at_most = self.open_at_most.min(at_most).max(1);
    }

    /// A source of the files that `has` says; `None` when there are too many sources.
    pub(super) fn add_source(&mut self, has: impl Fn(FileNo) -> bool, now: Instant) -> Option<SourceNo> {
        let source = u32::try_from(self.sources.len()).ok().filter(|source| *source < MAX_SOURCES)?;
        let mut waiting = VecDeque::new();
        for (no, file) in self.files.iter_mut().enumerate().filter(|(no, _)| has(*no)) {
            file.sources |= bit(source);
            if file.stage == Stage::Waiting {
                waiting.push_back(no);
            }
        }
        self.sources.push(Source { usable: true, banned: false, pace: Pace::new(now), waiting });
        Some(source)
    }

    /// Nobody is asked for a file that nobody was asked for yet, until it is released.
    pub(super) fn hold(&mut self, no: FileNo) {
        if self.files[no].stage == Stage::Waiting {
            self.files[no].stage = Stage::Held;
        }
    }

    /// A file that was held is to be asked for.
    pub(super) fn release(&mut self, no: FileNo) {
        if self.files[no].stage == Stage::Held {
            self.files[no].stage = Stage::Waiting;
            for (source, state) in (0..).zip(&mut self.sources) {
                if self.files[no].sources & bit(source) != 0 {
                    state.waiting.push_back(no);
                }
            }
        }
    }

    /// What `source` should be asked for next; `None` when there is nothing for it now.
    pub(super) fn next(&mut self, source: SourceNo, now: Instant) -> Option<Work> {
        if !self.is_usable(source) {
            return None;
        }
        let takeable = |(position, no): (usize, &FileNo)| self.next_range(source, *no).map(|range| (position, range));
        if let Some((position, range)) = self.ready.iter().enumerate().find_map(takeable) {
            return self.take_run(position, range, source, now);
        }
        if let Some(no) = self.first_waiting(source)
            && let Some(work) = self.begin(no, source, now)
        {
            return Some(work);
        }
        if self.in_order && self.is_asked(source) {
            return None;
        }
        self.double(source, now)
    }

    /// A source has these groups of a file, or these by now; when all of them, it no longer matters how it came by them.
    pub(super) fn has_groups(&mut self, source: SourceNo, no: FileNo, groups: GroupSet) {
        if groups.is_all() {
            self.partly.remove(&(source, no));
        } else {
            self.partly.insert((source, no), groups);
        }
    }

    /// The files of which a source has only some groups.
    pub(super) fn has_partly(&self, source: SourceNo) -> Vec<FileNo> {
        self.partly.keys().filter(|(of, _)| *of == source).map(|(_, no)| *no).collect()
    }

    /// Bytes that each stream of `source` should be asked for ahead of what it delivers.
    pub(super) fn ahead(&self, source: SourceNo) -> u64 {
        // Always more than one group, so that there is something to send while the next question travels.
        let promised = self.promised(source, AHEAD_TIME);
        promised.map_or(FIRST_BYTES, |bytes| bytes.clamp(FIRST_BYTES + 1, AHEAD_BYTES))
    }

    /// A file's manifest came and is right. True when its partial is to be opened now: it may come twice.
    pub(super) fn manifest_came(&mut self, no: FileNo) -> bool {
        if self.files[no].stage != Stage::Manifest {
            return false;
        }
        self.files[no].stage = Stage::Opening;
        self.manifests.retain(|(file, ..)| *file != no);
        true
    }

    /// A file's partial is open, with the groups that `present` flags already there.
    pub(super) fn opened(&mut self, no: FileNo, present: &[bool]) {
        let file = &mut self.files[no];
        if file.stage != Stage::Opening {
            return;
        }
        file.stage = Stage::Fetching;
        file.arrived = present.to_vec();
        file.arrived.resize(index(file.layout.groups()), false);
        file.move_head();
        file.pending = ranges_where(0, file.layout.groups(), |group| !file.arrived[index(group)]);
        file.pending.reverse();
        if !file.pending.is_empty() {
            self.ready.push_back(no);
        }
    }

    /// A source delivered a group of a run; whether it is right is not known yet.
    pub(super) fn delivered(&mut self, source: SourceNo, no: FileNo, group: u32, now: Instant) {
        let bytes = self.files[no].layout.len_of(group);
        if let Some(state) = self.source_mut(source) {
            state.pace.delivered(bytes, now);
        }
        if let Some(arrived) = self.files[no].arrived.get_mut(index(group)) {
            *arrived = true;
            self.files[no].move_head();
        }
        let same = |run: &Flying| run.source == source && run.file == no && run.start <= group && group < run.end;
        if let Some(position) = self.flying.iter().position(same) {
            let run = &mut self.flying[position];
            run.start = group + 1;
            if run.start == run.end {
                self.flying.swap_remove(position);
            }
        }
    }

    /// A group that came was wrong; somebody else must be asked.
    pub(super) fn wrong(&mut self, no: FileNo, group: u32) {
        if let Some(arrived) = self.files[no].arrived.get_mut(index(group)) {
            *arrived = false;
            let head = &mut self.files[no].head;
            *head = group.min(*head);
        }
        self.put_back(no, group, group + 1);
    }

    /// Work that a source was given and did not do.
    pub(super) fn give_back(&mut self, source: SourceNo, work: &Work) {
        match *work {
            Work::Manifest(no) if self.files[no].stage == Stage::Manifest => {
                self.manifests.retain(|asked| (asked.0, asked.1) != (no, source));
                if self.manifests.iter().any(|(file, ..)| *file == no) {
                    return;
                }
                self.files[no].stage = Stage::Waiting;
                self.open -= 1;
                for (other, state) in (0..).zip(&mut self.sources) {
                    if self.files[no].sources & bit(other) != 0 {
                        state.waiting.push_front(no);
                    }
                }
            }
            Work::Run { file, start, end } => {
                let same = |run: &Flying| run.source == source && run.file == file && run.end == end;
                if let Some(position) = self.flying.iter().position(same) {
                    self.flying.swap_remove(position);
                }
                self.put_back(file, start, end);
            }
            Work::Manifest(_) => {}
        }
    }

    /// A source turned out to have a file.
    pub(super) fn available(&mut self, source: SourceNo, no: FileNo) {
        self.files[no].sources |= bit(source);
        if self.files[no].stage == Stage::Waiting
            && let Some(state) = self.source_mut(source)
        {
            state.waiting.push_back(no);
        }
    }

    /// A source turned out not to have a file. True when nobody usable has it.
    pub(super) fn unavailable(&mut self, source: SourceNo, no: FileNo) -> bool {
        self.files[no].sources &= !bit(source);
        self.partly.remove(&(source, no));
        self.files[no].sources & self.usable() == 0
    }

    /// A source is gone; it may come back.
    pub(super) fn lose_source(&mut self, source: SourceNo) {
        if let Some(state) = self.source_mut(source) {
            state.usable = false;
        }
    }

    /// A source is back; one that was banned stays away, and false is returned.
    pub(super) fn restore_source(&mut self, source: SourceNo, now: Instant) -> bool {
        self.source_mut(source).is_some_and(|state| {
            state.usable = !state.banned;
            state.pace.begin(now);
            state.usable
        })
    }

    /// A source told a lie: nothing is asked of it any more. True the first time.
    pub(super) fn ban_source(&mut self, source: SourceNo) -> bool {
        self.source_mut(source).is_some_and(|state| {
            state.usable = false;
            !std::mem::replace(&mut state.banned, true)
        })
    }

    /// Nothing more is to be done for a file.
    pub(super) fn settle(&mut self, no: FileNo) {
        let file = &mut self.files[no];
        match file.stage {
            Stage::Settled => return,
            // The queues of those who have it pass it over.
            Stage::Held | Stage::Waiting => {}
            Stage::Manifest | Stage::Opening | Stage::Fetching => self.open -= 1,
        }
        if !file.pending.is_empty() {
            self.ready.retain(|ready| *ready != no);
            file.pending = Vec::new();
        }
        file.arrived = Vec::new();
        file.stage = Stage::Settled;
        self.flying.retain(|run| run.file != no);
        self.manifests.retain(|(file, ..)| *file != no);
        self.unsettled -= 1;
    }

    /// Whether nothing more is to be done for a file.
    pub(super) fn is_settled(&self, no: FileNo) -> bool {
        self.files[no].stage == Stage::Settled
    }

    /// Whether all files are settled.
    pub(super) const fn is_done(&self) -> bool {
        self.unsettled == 0
    }

    /// Whether a source may be asked.
    pub(super) fn is_usable(&self, source: SourceNo) -> bool {
        self.sources.get(index(source)).is_some_and(|source| source.usable)
    }

    /// The files that still lack groups and that none of the usable sources, nor of `coming`, has.
    pub(super) fn stranded(&self, coming: impl IntoIterator<Item = SourceNo>) -> Vec<FileNo> {
        let hopeful = self.hopeful(coming);
        (0..self.files.len()).filter(|no| self.files[*no].is_stranded(hopeful)).collect()
    }

    /// Whether [`Plan::stranded`] has this file.
    pub(super) fn is_stranded(&self, no: FileNo, coming: impl IntoIterator<Item = SourceNo>) -> bool {
        self.files[no].is_stranded(self.hopeful(coming))
    }

    /// Whether a source was asked for something that is still to come.
    fn is_asked(&self, source: SourceNo) -> bool {
        self.flying.iter().any(|run| run.source == source) || self.manifests.iter().any(|asked| asked.1 == source)
    }

    fn hopeful(&self, coming: impl IntoIterator<Item = SourceNo>) -> u64 {
        coming.into_iter().map(bit).fold(self.usable(), |all, one| all | one)
    }

    fn source_mut(&mut self, source: SourceNo) -> Option<&mut Source> {
        self.sources.get_mut(index(source))
    }

    fn usable(&self) -> u64 {
        let bits = (0..).zip(&self.sources).filter(|(_, source)| source.usable).map(|(no, _)| bit(no));
        bits.fold(0, |all, one| all | one)
    }

    fn rate(&self, source: SourceNo) -> f64 {
        self.sources.get(index(source)).map_or(0.0, |source| source.pace.rate())
    }

    /// Of `start..end`, what has not arrived and nobody but `except` was asked for.
    fn ranges_needed(&self, no: FileNo, start: u32, end: u32, except: Option<SourceNo>) -> Vec<(u32, u32)> {
        let file = &self.files[no];
        let asked = |group: u32| {
            let same =
                |run: &Flying| Some(run.source) != except && run.file == no && (run.start..run.end).contains(&group);
            self.flying.iter().any(same)
        };
        ranges_where(start, end, |group| !file.arrived.get(index(group)).copied().unwrap_or(true) && !asked(group))
    }

    fn put_back(&mut self, no: FileNo, start: u32, end: u32) {
        if self.files[no].stage != Stage::Fetching {
            return;
        }
        let needed = self.ranges_needed(no, start, end, None);
        if needed.is_empty() {
            return;
        }
        let file = &mut self.files[no];
        if file.pending.is_empty() {
            self.ready.push_front(no);
        }
        file.pending.extend(needed.into_iter().rev());
    }
}

impl File {
    fn move_head(&mut self) {
        while self.arrived.get(index(self.head)) == Some(&true) {
            self.head += 1;
        }
    }

    /// Whether groups are missing that none of the sources in `hopeful` has.
    fn is_stranded(&self, hopeful: u64) -> bool {
        let all_came = !self.arrived.is_empty() && self.arrived.iter().all(|came| *came);
        !matches!(self.stage, Stage::Settled | Stage::Held) && self.sources & hopeful == 0 && !all_came
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
