//! Who fetches what next. Pure: it is told what happened and says what to do.
//!
//! A file goes through `Waiting → (Manifest → Opening →) Fetching → Settled`; one of a single group needs no manifest,
//! its content hash is enough. Only files in `Fetching` with groups that nobody was asked for are in the `ready` queue,
//! so that finding work takes no search.

use std::collections::VecDeque;

use shared::Layout;

use super::FileNo;

/// Bytes of the longest run.
const RUN_BYTES: u64 = 8 << 20;
/// Files of several groups that are open at once.
const OPEN_FILES: usize = 16;

/// A source, by the order of [`Plan::add_source`]; at most 64.
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
    sources: u32,
    /// Sources that may still be asked, a bit each.
    usable: u64,
    waiting: VecDeque<FileNo>,
    ready: VecDeque<FileNo>,
    open: usize,
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
    unverified: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Manifest,
    Opening,
    Fetching,
    Settled,
}

impl Plan {
    /// A plan for files of these layouts over `streams` streams; `in_order` for one that is written as it comes.
    pub(super) fn new(layouts: impl IntoIterator<Item = Layout>, streams: usize, in_order: bool) -> Self {
        let files: Vec<File> = layouts
            .into_iter()
            .map(|layout| File {
                layout,
                stage: Stage::Waiting,
                sources: 0,
                pending: Vec::new(),
                unverified: layout.groups(),
            })
            .collect();
        Self {
            waiting: (0..files.len()).collect(),
            unsettled: files.len(),
            files,
            sources: 0,
            usable: 0,
            ready: VecDeque::new(),
            open: 0,
            streams: u32::try_from(streams).unwrap_or(u32::MAX).max(1),
            in_order,
        }
    }

    /// A source that has all the files.
    pub(super) fn add_source(&mut self) -> SourceNo {
        let source = self.sources;
        self.sources += 1;
        self.usable |= bit(source);
        for file in &mut self.files {
            file.sources |= bit(source);
        }
        source
    }

    /// What `source` should be asked for next; `None` when there is nothing for it now.
    pub(super) fn next(&mut self, source: SourceNo) -> Option<Work> {
        if self.usable & bit(source) == 0 {
            return None;
        }
        if let Some(position) = self.ready.iter().position(|no| self.files[*no].sources & bit(source) != 0) {
            return self.take_run(position);
        }
        let limit = if self.in_order { 1 } else { OPEN_FILES };
        let position = self.waiting.iter().position(|no| self.files[*no].sources & bit(source) != 0)?;
        let no = *self.waiting.get(position)?;
        let single = self.files[no].layout.groups() == 1;
        if self.open >= limit && (!single || self.in_order) {
            return None;
        }
        self.waiting.remove(position);
        self.open += 1;
        let file = &mut self.files[no];
        if single {
            file.stage = Stage::Fetching;
            return Some(Work::Run { file: no, start: 0, end: 1 });
        }
        file.stage = Stage::Manifest;
        Some(Work::Manifest(no))
    }

    /// A file's manifest came and is right; its partial is being opened.
    pub(super) fn manifest_came(&mut self, no: FileNo) {
        if self.files[no].stage == Stage::Manifest {
            self.files[no].stage = Stage::Opening;
        }
    }

    /// A file's partial is open, with the groups that `present` flags already there.
    pub(super) fn opened(&mut self, no: FileNo, present: &[bool]) {
        let file = &mut self.files[no];
        if file.stage != Stage::Opening {
            return;
        }
        file.stage = Stage::Fetching;
        file.pending = missing_ranges(present, file.layout.groups());
        file.unverified = file.pending.iter().map(|(start, end)| end - start).sum();
        if !file.pending.is_empty() {
            self.ready.push_back(no);
        }
    }

    /// A group came, is right and is written. True when it was the file's last.
    pub(super) fn verified(&mut self, no: FileNo) -> bool {
        let file = &mut self.files[no];
        file.unverified = file.unverified.saturating_sub(1);
        file.unverified == 0
    }

    /// Work that a source was given and did not do.
    pub(super) fn give_back(&mut self, work: &Work) {
        match *work {
            Work::Manifest(no) if self.files[no].stage == Stage::Manifest => {
                self.files[no].stage = Stage::Waiting;
                self.open -= 1;
                self.waiting.push_front(no);
            }
            Work::Run { file: no, start, end } if self.files[no].stage == Stage::Fetching && start < end => {
                let file = &mut self.files[no];
                if file.pending.is_empty() {
                    self.ready.push_front(no);
                }
                file.pending.push((start, end));
            }
            _ => {}
        }
    }

    /// A source turned out not to have a file. True when nobody else has it.
    pub(super) fn unavailable(&mut self, source: SourceNo, no: FileNo) -> bool {
        self.files[no].sources &= !bit(source);
        self.files[no].sources & self.usable == 0
    }

    /// A source is gone or not to be trusted.
    pub(super) fn drop_source(&mut self, source: SourceNo) {
        self.usable &= !bit(source);
    }

    /// Nothing more is to be done for a file.
    pub(super) fn settle(&mut self, no: FileNo) {
        let file = &mut self.files[no];
        if file.stage == Stage::Settled {
            return;
        }
        match file.stage {
            Stage::Waiting => self.waiting.retain(|waiting| *waiting != no),
            _ => self.open -= 1,
        }
        if !file.pending.is_empty() {
            self.ready.retain(|ready| *ready != no);
            file.pending = Vec::new();
        }
        file.stage = Stage::Settled;
        self.unsettled -= 1;
    }

    /// Whether a file may still come to something.
    pub(super) fn is_settled(&self, no: FileNo) -> bool {
        self.files[no].stage == Stage::Settled
    }

    /// Whether all files are settled.
    pub(super) const fn is_done(&self) -> bool {
        self.unsettled == 0
    }

    /// The files that are not settled and that nobody usable has.
    pub(super) fn stranded(&self) -> Vec<FileNo> {
        let is_stranded = |file: &File| file.stage != Stage::Settled && file.sources & self.usable == 0;
        self.files.iter().enumerate().filter(|(_, file)| is_stranded(file)).map(|(no, _)| no).collect()
    }

    fn take_run(&mut self, position: usize) -> Option<Work> {
        let no = *self.ready.get(position)?;
        let file = &mut self.files[no];
        let (start, end) = file.pending.pop()?;
        // Long runs cost the least; shorter ones near the end let all streams finish together.
        let longest = u32::try_from(RUN_BYTES / file.layout.group_bytes()).unwrap_or(u32::MAX).max(1);
        let left: u32 = file.pending.iter().map(|(start, end)| end - start).sum::<u32>() + (end - start);
        let fair = (left / (self.streams * 2)).max(1);
        let cut = start + (end - start).min(longest).min(fair);
        if cut < end {
            file.pending.push((cut, end));
        }
        if file.pending.is_empty() {
            self.ready.remove(position);
        }
        Some(Work::Run { file: no, start, end: cut })
    }
}

fn bit(source: SourceNo) -> u64 {
    1_u64.checked_shl(source).unwrap_or(0)
}

/// The ranges of groups that are not flagged, the first one last.
fn missing_ranges(present: &[bool], groups: u32) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for group in 0..groups {
        if usize::try_from(group).ok().and_then(|index| present.get(index)).copied().unwrap_or(false) {
            continue;
        }
        match ranges.last_mut() {
            Some((_, end)) if *end == group => *end += 1,
            _ => ranges.push((group, group + 1)),
        }
    }
    ranges.reverse();
    ranges
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn layout(groups: u64) -> Layout {
        Layout::of(groups << 20).unwrap()
    }

    #[test]
    fn a_small_file_is_one_run_and_a_large_one_starts_with_its_manifest() {
        let mut plan = Plan::new([layout(1), layout(40)], 2, false);
        let source = plan.add_source();
        assert_eq!(plan.next(source), Some(Work::Run { file: 0, start: 0, end: 1 }));
        assert_eq!(plan.next(source), Some(Work::Manifest(1)));
        assert_eq!(plan.next(source), None);
        plan.manifest_came(1);
        assert_eq!(plan.next(source), None);
        plan.opened(1, &[true, true]);
        assert_eq!(plan.next(source), Some(Work::Run { file: 1, start: 2, end: 10 }));
    }

    #[test]
    fn in_order_means_one_file_after_another() {
        let mut plan = Plan::new([layout(1), layout(1)], 1, true);
        let source = plan.add_source();
        assert!(plan.next(source).is_some());
        assert_eq!(plan.next(source), None);
        plan.settle(0);
        assert_eq!(plan.next(source), Some(Work::Run { file: 1, start: 0, end: 1 }));
    }

    #[test]
    fn a_file_that_nobody_has_is_stranded() {
        let mut plan = Plan::new([layout(1), layout(2)], 1, false);
        let (one, two) = (plan.add_source(), plan.add_source());
        assert!(!plan.unavailable(one, 0));
        assert!(plan.stranded().is_empty());
        plan.drop_source(two);
        assert_eq!(plan.stranded(), [0]);
        assert_eq!(plan.next(two), None);
        assert_eq!(plan.next(one), Some(Work::Manifest(1)));
    }

    proptest! {
        /// Sources that do their work, give it back, or lose a file: every group is verified once, or the file failed
        /// because nobody had it.
        #[test]
        fn everything_is_fetched_once(
            groups in proptest::collection::vec(1_u64..40, 1..8),
            choices in proptest::collection::vec((0_u32..3, 0_u8..10), 0..400),
            streams in 1_usize..5,
            in_order: bool,
        ) {
            let mut plan = Plan::new(groups.iter().map(|groups| layout(*groups)), streams, in_order);
            for _ in 0..3 {
                plan.add_source();
            }
            let mut seen = HashSet::new();
            let mut failed = HashSet::new();
            let mut choices = choices.into_iter().chain((0..3).cycle().map(|source| (source, 9)));
            let mut steps = 0;
            while !plan.is_done() {
                steps += 1;
                prop_assert!(steps < 20_000, "it must end: {plan:?}");
                let (source, what) = choices.next().unwrap();
                let Some(work) = plan.next(source) else { continue };
                match (work.clone(), what) {
                    (_, 0) => plan.give_back(&work),
                    (Work::Manifest(no) | Work::Run { file: no, .. }, 1) => {
                        plan.give_back(&work);
                        if plan.unavailable(source, no) {
                            plan.settle(no);
                            failed.insert(no);
                        }
                    }
                    (Work::Manifest(no), _) => {
                        plan.manifest_came(no);
                        plan.opened(no, &[]);
                    }
                    (Work::Run { file, start, end }, _) => {
                        prop_assert!(start < end);
                        for group in start..end {
                            prop_assert!(seen.insert((file, group)), "asked twice");
                            if plan.verified(file) {
                                plan.settle(file);
                            }
                        }
                    }
                }
            }
            for (no, groups) in groups.iter().enumerate() {
                let got = seen.iter().filter(|(file, _)| *file == no).count() as u64;
                prop_assert!(got == *groups || failed.contains(&no));
            }
            prop_assert_eq!(plan.open, 0);
        }
    }
}
