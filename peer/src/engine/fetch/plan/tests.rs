//! Tests of the plan against simulated sources.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::work_selection::{AHEAD_BYTES, INITIAL_BYTES, LATE_AFTER};
use super::*;

fn layout(groups: u64) -> GroupLayout {
    GroupLayout::of(groups << 20).unwrap()
}

fn all(_: FileNo) -> bool {
    true
}

#[test]
fn a_small_file_is_one_run_and_a_large_one_starts_with_its_manifest() {
    let now = Instant::now();
    let mut plan = FetchPlan::new([layout(1), layout(40)], 2, false);
    let source = plan.add_source(all, now).unwrap();
    assert_eq!(plan.next_work(source, now), Some(WorkItem::Run { file: 0, start: 0, end: 1 }));
    assert_eq!(plan.next_work(source, now), Some(WorkItem::Manifest(1)));
    assert_eq!(plan.next_work(source, now), None);
    plan.manifest_arrived(1);
    assert_eq!(plan.next_work(source, now), None);
    plan.file_opened(1, &[true, true]);
    assert_eq!(plan.next_work(source, now), Some(WorkItem::Run { file: 1, start: 2, end: 3 }));
}

#[test]
fn runs_grow_with_the_rate_and_the_first_source_leaves_something_for_others() {
    let begin = Instant::now();
    let mut plan = FetchPlan::new([layout(1_000)], 2, false);
    let source = plan.add_source(all, begin).unwrap();
    plan.next_work(source, begin);
    plan.manifest_arrived(0);
    plan.file_opened(0, &[]);
    assert_eq!(plan.bytes_ahead(source), INITIAL_BYTES);
    assert_eq!(plan.next_work(source, begin), Some(WorkItem::Run { file: 0, start: 0, end: 1 }));
    let mut later = begin + Duration::from_secs(1);
    plan.group_delivered(source, 0, 0, later);
    // A megabyte a second: each of two streams is kept busy, and no more than that.
    assert_eq!(plan.next_work(source, later), Some(WorkItem::Run { file: 0, start: 1, end: 2 }));
    assert_eq!(plan.bytes_ahead(source), INITIAL_BYTES + 1);
    for group in 1..30 {
        later += Duration::from_millis(10);
        plan.group_delivered(source, 0, group, later);
    }
    // A hundred.
    let Some(WorkItem::Run { start: 2, end, .. }) = plan.next_work(source, later) else { panic!("a run") };
    assert_eq!(end, 2 + 8);
    assert_eq!(plan.bytes_ahead(source), AHEAD_BYTES);
}

#[test]
fn a_slow_source_has_a_request_ahead_however_large_the_groups_are() {
    let mut now = Instant::now();
    for gibibytes in [33, 1 << 10, 1 << 20] {
        let layout = GroupLayout::of(gibibytes << 30).unwrap();
        let mut plan = FetchPlan::new([layout], 1, false);
        let source = plan.add_source(all, now).unwrap();
        plan.next_work(source, now);
        plan.manifest_arrived(0);
        plan.file_opened(0, &[]);
        assert_eq!(plan.next_work(source, now), Some(WorkItem::Run { file: 0, start: 0, end: 1 }));
        now += Duration::from_secs(100);
        plan.group_delivered(source, 0, 0, now);
        assert_eq!(plan.next_work(source, now), Some(WorkItem::Run { file: 0, start: 1, end: 2 }));
        assert!(plan.bytes_ahead(source) > layout.group_bytes(), "groups of {}", layout.group_bytes());
    }
}

#[test]
fn a_file_that_is_held_is_asked_for_when_it_is_released() {
    let now = Instant::now();
    let mut plan = FetchPlan::new([layout(1), layout(1), layout(1)], 1, false);
    plan.hold(0);
    plan.hold(1);
    let source = plan.add_source(all, now).unwrap();
    assert_eq!(plan.next_work(source, now), Some(WorkItem::Run { file: 2, start: 0, end: 1 }));
    assert_eq!(plan.next_work(source, now), None);
    plan.release(1);
    let late = plan.add_source(all, now).unwrap();
    assert_eq!(plan.next_work(late, now), Some(WorkItem::Run { file: 1, start: 0, end: 1 }));
    plan.lose_source(source);
    plan.lose_source(late);
    assert_eq!(plan.stranded([]), [1, 2], "what is held may come otherwise");
    plan.settle(0);
    plan.settle(1);
    plan.settle(2);
    assert!(plan.is_done());
}

#[test]
fn in_order_means_one_file_after_another() {
    let now = Instant::now();
    let mut plan = FetchPlan::new([layout(1), layout(1)], 1, true);
    let source = plan.add_source(all, now).unwrap();
    assert!(plan.next_work(source, now).is_some());
    assert_eq!(plan.next_work(source, now), None);
    plan.settle(0);
    assert_eq!(plan.next_work(source, now), Some(WorkItem::Run { file: 1, start: 0, end: 1 }));
}

/// Builds a plan for one file in order, with its partial file open.
fn in_order(groups: u64, sources: u32, now: Instant) -> FetchPlan {
    let mut plan = FetchPlan::new([layout(groups)], 1, true);
    for _ in 0..sources {
        plan.add_source(all, now).unwrap();
    }
    assert_eq!(plan.next_work(0, now), Some(WorkItem::Manifest(0)));
    plan.manifest_arrived(0);
    plan.file_opened(0, &[]);
    plan
}

/// Returns the groups that a source is asked for when it asks as far ahead as it can.
fn asked(plan: &mut FetchPlan, source: SourceNo, now: Instant) -> Vec<u32> {
    let runs = std::iter::from_fn(|| match plan.next_work(source, now)? {
        WorkItem::Run { start, end, .. } => Some(start..end),
        WorkItem::Manifest(_) => panic!("a manifest"),
    });
    runs.flatten().collect()
}

#[test]
fn in_order_nothing_is_asked_for_that_would_have_to_wait_long() {
    let now = Instant::now();
    let mut plan = in_order(100, 1, now);
    assert_eq!(asked(&mut plan, 0, now), [0, 1, 2, 3, 4, 5, 6, 7]);
    plan.group_delivered(0, 0, 1, now);
    assert_eq!(asked(&mut plan, 0, now), [0; 0], "the first is still missing");
    plan.group_delivered(0, 0, 0, now);
    assert_eq!(asked(&mut plan, 0, now), [8, 9]);
}

#[test]
fn in_order_sources_share_the_window_by_their_rates() {
    let begin = Instant::now();
    let mut plan = in_order(100, 2, begin);
    let (one, other) = (asked(&mut plan, 0, begin), asked(&mut plan, 1, begin));
    assert_eq!((one.len(), other.len()), (4, 4));
    // Three times as fast as the other.
    let at = |ms| begin + Duration::from_millis(ms);
    (1..).zip(&one).for_each(|(no, group)| plan.group_delivered(0, 0, *group, at(no * 10)));
    (1..).zip(&other).for_each(|(no, group)| plan.group_delivered(1, 0, *group, at(no * 30)));
    let (one, other) = (asked(&mut plan, 0, at(120)), asked(&mut plan, 1, at(120)));
    assert_eq!((one.len(), other.len()), (6, 2));
}

#[test]
fn in_order_nobody_waits_for_one_that_is_much_slower() {
    let begin = Instant::now();
    let mut plan = in_order(100, 2, begin);
    let (quick, slow) = (asked(&mut plan, 0, begin), asked(&mut plan, 1, begin));
    let at = |ms| begin + Duration::from_millis(ms);
    assert_eq!((quick.as_slice(), slow.as_slice()), ([0, 1, 2, 3].as_slice(), [4, 5, 6, 7].as_slice()));
    (1..).zip(&quick).for_each(|(no, group)| plan.group_delivered(0, 0, *group, at(no)));
    let further = asked(&mut plan, 0, at(5));
    assert_eq!(further, [8, 9, 10, 11], "to the end of the window");
    (6..).zip(&further).for_each(|(ms, group)| plan.group_delivered(0, 0, *group, at(ms)));
    assert_eq!(asked(&mut plan, 0, at(10)), [4], "what everybody waits for comes first");
    plan.group_delivered(0, 0, 4, at(11));
    assert_eq!(asked(&mut plan, 0, at(12)), [12], "the window went on");
    slow.iter().for_each(|group| plan.group_delivered(1, 0, *group, at(400)));
    assert_eq!(asked(&mut plan, 1, at(401)), [0; 0], "it would only hold the other up");
    assert_eq!(asked(&mut plan, 0, at(401)), [13, 14, 15, 16, 17, 18, 19]);
    plan.lose_source(0);
    (12..20).for_each(|group| plan.return_work(0, &WorkItem::Run { file: 0, start: group, end: group + 1 }));
    assert!(asked(&mut plan, 1, at(402)).contains(&12), "better slow than not at all");
}

#[test]
fn a_file_that_nobody_has_is_stranded_unless_somebody_may_come_back() {
    let now = Instant::now();
    let mut plan = FetchPlan::new([layout(1), layout(2)], 1, false);
    let (one, two) = (plan.add_source(all, now).unwrap(), plan.add_source(all, now).unwrap());
    assert!(!plan.remove_availability(one, 0));
    assert!(plan.stranded([]).is_empty());
    plan.lose_source(two);
    assert_eq!(plan.stranded([]), [0]);
    assert!(plan.stranded([two]).is_empty());
    assert_eq!(plan.next_work(two, now), None);
    assert_eq!(plan.next_work(one, now), Some(WorkItem::Manifest(1)));
    assert!(plan.restore_source(two, now));
    assert_eq!(plan.next_work(two, now), Some(WorkItem::Run { file: 0, start: 0, end: 1 }));
    assert!(plan.ban_source(two));
    assert!(!plan.ban_source(two));
    assert!(!plan.restore_source(two, now));
}

#[test]
fn a_file_that_came_whole_waits_for_nobody() {
    let now = Instant::now();
    let mut plan = FetchPlan::new([layout(1), layout(1)], 1, false);
    let source = plan.add_source(all, now).unwrap();
    for no in [0, 1] {
        assert_eq!(plan.next_work(source, now), Some(WorkItem::Run { file: no, start: 0, end: 1 }));
    }
    plan.group_delivered(source, 0, 0, now);
    plan.lose_source(source);
    assert_eq!(plan.stranded([]), [1]);
    assert!(!plan.is_stranded(0, []));
    plan.group_corrupt(0, 0);
    assert!(plan.is_stranded(0, []));
}

#[test]
fn one_that_has_only_the_last_file_is_asked_for_it_at_once() {
    let now = Instant::now();
    let mut plan = FetchPlan::new([layout(1), layout(2), layout(3)], 1, false);
    let one = plan.add_source(|no| no == 2, now).unwrap();
    let other = plan.add_source(all, now).unwrap();
    assert_eq!(plan.next_work(one, now), Some(WorkItem::Manifest(2)));
    assert_eq!(plan.next_work(other, now), Some(WorkItem::Run { file: 0, start: 0, end: 1 }));
    plan.return_work(one, &WorkItem::Manifest(2));
    assert_eq!(plan.next_work(other, now), Some(WorkItem::Manifest(2)));
    assert_eq!(plan.next_work(one, now), None);
    assert_eq!(plan.next_work(other, now), Some(WorkItem::Manifest(1)));
}

#[test]
fn one_that_is_still_fetching_is_asked_for_what_it_has() {
    let now = Instant::now();
    let mut plan = FetchPlan::new([layout(12)], 1, false);
    let source = plan.add_source(all, now).unwrap();
    let mut has = GroupSet::empty(12);
    [2, 3, 7].into_iter().for_each(|group| has.insert(group));
    plan.set_groups(source, 0, has.clone());
    assert_eq!(plan.partial_files(source), [0]);
    assert_eq!(plan.next_work(source, now), Some(WorkItem::Manifest(0)));
    plan.manifest_arrived(0);
    plan.file_opened(0, &[]);
    let mut groups = Vec::new();
    let mut ask = |plan: &mut FetchPlan| {
        while let Some(WorkItem::Run { start, end, .. }) = plan.next_work(source, now) {
            groups.extend(start..end);
            (start..end).for_each(|group| plan.group_delivered(source, 0, group, now));
        }
        std::mem::take(&mut groups)
    };
    assert_eq!(ask(&mut plan), [2, 3, 7]);
    assert!(plan.stranded([]).is_empty(), "it may get more");
    has.insert(0);
    plan.set_groups(source, 0, has);
    assert_eq!(ask(&mut plan), [0]);
    plan.set_groups(source, 0, GroupSet::full(12));
    assert!(plan.partial_files(source).is_empty());
    assert_eq!(ask(&mut plan), [1, 4, 5, 6, 8, 9, 10, 11]);
    plan.lose_source(source);
    plan.settle(0);
    assert!(plan.ready.is_empty() && plan.in_flight.is_empty());
}

#[test]
fn an_idle_source_takes_over_what_another_is_late_with() {
    let begin = Instant::now();
    let mut plan = FetchPlan::new([layout(8)], 1, false);
    let slow = plan.add_source(all, begin).unwrap();
    plan.next_work(slow, begin);
    plan.manifest_arrived(0);
    plan.file_opened(0, &[]);
    while plan.next_work(slow, begin).is_some() {}
    let quick = plan.add_source(all, begin).unwrap();
    let mut now = begin + LATE_AFTER;
    let mut got = HashSet::new();
    while let Some(WorkItem::Run { start, end, .. }) = plan.next_work(quick, now) {
        for group in start..end {
            assert!(got.insert(group), "nobody is asked twice for what arrived");
            now += Duration::from_millis(1);
            plan.group_delivered(quick, 0, group, now);
            if got.len() == 8 {
                plan.settle(0);
            }
        }
    }
    assert!(plan.is_done());
    assert_eq!(got.len(), 8);
}

/// True if all groups of a file are among those that came.
fn is_whole(came: &HashSet<(FileNo, u32)>, groups: &[u64], no: FileNo) -> bool {
    came.iter().filter(|(file, _)| *file == no).count() as u64 == groups[no]
}

/// Returns the groups of a source that has fetched `count` groups of a file, the last ones first.
fn fetched_so_far(groups: u64, count: u64) -> GroupSet {
    let groups = u32::try_from(groups).unwrap();
    let mut set = GroupSet::empty(groups);
    (0..groups).rev().take(usize::try_from(count).unwrap()).for_each(|group| set.insert(group));
    set
}

/// A source of the simulation.
#[derive(Debug, Clone)]
struct Simulated {
    /// Milliseconds per group; the two values alternate every `changes`; 0 never answers.
    paces: [u64; 2],
    /// Milliseconds between two changes of pace.
    changes: u64,
    /// Start and end of its absence, in milliseconds.
    away: (u64, u64),
    /// It sends false data for every group whose number this divides; 0 never.
    lies: u32,
    /// Milliseconds in which it fetches a further group of each file; 0 has all from the beginning.
    gets: u64,
}

impl Simulated {
    fn pace(&self, ms: u64) -> u64 {
        self.paces[usize::from(ms / self.changes % 2 == 1)]
    }
}

fn sources() -> impl Strategy<Value = Vec<Simulated>> {
    let pace = || prop_oneof![Just(0_u64), 1..40_u64, Just(5_000)];
    let one = (
        [pace(), pace()],
        1..2_000_u64,
        0..2_000_u64,
        0..3_000_u64,
        prop_oneof![Just(0_u32), 1..9_u32],
        prop_oneof![Just(0_u64), 1..200_u64],
    )
        .prop_map(|(paces, changes, from, time, lies, gets)| Simulated {
            paces,
            changes,
            away: (from, from + time),
            lies,
            gets,
        });
    proptest::collection::vec(one, 0..4).prop_map(|mut sources| {
        // One that is honest and stays, so that it must end well.
        sources.push(Simulated { paces: [3, 3], changes: 1, away: (u64::MAX, u64::MAX), lies: 0, gets: 0 });
        sources
    })
}

proptest! {
    /// Sources that are slow, silent, changing, absent for a while, lying, or still fetching the files themselves: the
    /// fetch ends with every group verified exactly once, and no group is fetched more often than there are sources.
    #[test]
    fn it_always_ends_with_the_right_bytes(
        groups in proptest::collection::vec(1_u64..24, 1..6),
        sources in sources(),
        streams in 1_usize..4,
        in_order: bool,
    ) {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut plan = FetchPlan::new(groups.iter().map(|groups| layout(*groups)), streams, in_order);
        for _ in &sources {
            plan.add_source(all, begin).unwrap();
        }
        // What each source is doing: its work, and when the next group of it comes.
        let mut busy: BTreeMap<SourceNo, (WorkItem, u64)> = BTreeMap::new();
        let mut right: HashSet<(FileNo, u32)> = HashSet::new();
        let mut delivered: BTreeMap<(FileNo, u32), usize> = BTreeMap::new();
        let mut ms = 0;
        while !plan.is_done() {
            ms += 1;
            prop_assert!(ms < 60_000, "it must end: {plan:?}");
            for (no, source) in (0..).zip(&sources) {
                for (file, groups) in groups.iter().enumerate().filter(|_| source.gets > 0 && ms % 50 == 1) {
                    // A file of one group is never shared in part.
                    if *groups == 1 {
                        continue;
                    }
                    plan.set_groups(no, file, fetched_so_far(*groups, ms / source.gets));
                }
                let away = (source.away.0..source.away.1).contains(&ms);
                if away {
                    if let Some((work, _)) = busy.remove(&no) {
                        plan.lose_source(no);
                        plan.return_work(no, &work);
                    }
                    continue;
                }
                if ms == source.away.1 {
                    plan.restore_source(no, at(ms));
                }
                let Some((work, due)) = busy.get(&no).cloned() else {
                    if let Some(work) = plan.next_work(no, at(ms)) {
                        busy.insert(no, (work, ms + source.pace(ms)));
                    }
                    continue;
                };
                if source.pace(ms) == 0 || ms < due {
                    continue;
                }
                match work {
                    WorkItem::Manifest(file) => {
                        busy.remove(&no);
                        if plan.manifest_arrived(file) {
                            plan.file_opened(file, &[]);
                        }
                    }
                    WorkItem::Run { file, start, end } => {
                        let all = source.gets == 0 || groups[file] == 1;
                        let had = all || fetched_so_far(groups[file], ms / source.gets).contains(start);
                        prop_assert!(had, "asked for what it doesn't have");
                        plan.group_delivered(no, file, start, at(ms));
                        let first_missing = (0..).find(|group| !right.contains(&(file, *group))).unwrap();
                        prop_assert!(!in_order || start < first_missing + 2 * 8, "far too early");
                        if start + 1 < end {
                            busy.insert(no, (WorkItem::Run { file, start: start + 1, end }, ms + source.pace(ms)));
                        } else {
                            busy.remove(&no);
                        }
                        if plan.is_settled(file) {
                            continue;
                        }
                        if source.lies != 0 && start % source.lies == 0 {
                            plan.ban_source(no);
                            plan.group_corrupt(file, start);
                            if let Some((rest, _)) = busy.remove(&no) {
                                plan.return_work(no, &rest);
                            }
                        } else {
                            *delivered.entry((file, start)).or_default() += 1;
                            if right.insert((file, start)) && is_whole(&right, &groups, file) {
                                plan.settle(file);
                            }
                        }
                    }
                }
            }
        }
        for (no, groups) in groups.iter().enumerate() {
            let got = right.iter().filter(|(file, _)| *file == no).count() as u64;
            prop_assert_eq!(got, *groups);
        }
        prop_assert!(delivered.values().all(|times| *times <= sources.len()));
        prop_assert_eq!(plan.open_files, 0);
        prop_assert!(plan.in_flight.is_empty());
    }

    /// Sources that return work, lose files, go, come back, or lie: every group is requested until it is verified, or
    /// its file failed because no source had it.
    #[test]
    fn it_always_ends_with_an_account_of_what_is_missing(
        groups in proptest::collection::vec(1_u64..40, 1..8),
        choices in proptest::collection::vec((0_u32..3, 0_u8..10), 0..400),
        streams in 1_usize..5,
        in_order: bool,
    ) {
        let now = Instant::now();
        let mut plan = FetchPlan::new(groups.iter().map(|groups| layout(*groups)), streams, in_order);
        for _ in 0..3 {
            plan.add_source(all, now).unwrap();
        }
        let mut seen = HashSet::new();
        let mut failed = HashSet::new();
        let mut choices = choices.into_iter().chain((0..3).cycle().map(|source| (source, 9)));
        let mut steps = 0;
        while !plan.is_done() {
            steps += 1;
            prop_assert!(steps < 20_000, "it must end: {plan:?}");
            let (source, what) = choices.next().unwrap();
            if what == 4 {
                plan.restore_source(source, now);
            }
            let Some(work) = plan.next_work(source, now) else { continue };
            match (work.clone(), what) {
                (_, 2) => {
                    plan.lose_source(source);
                    plan.return_work(source, &work);
                }
                (_, 3) => {
                    prop_assert!(plan.ban_source(source), "it was asked for nothing since it lied");
                    plan.return_work(source, &work);
                }
                (_, 0) => plan.return_work(source, &work),
                (WorkItem::Manifest(no) | WorkItem::Run { file: no, .. }, 1) => {
                    plan.return_work(source, &work);
                    if plan.remove_availability(source, no) {
                        plan.settle(no);
                        failed.insert(no);
                    }
                }
                (WorkItem::Manifest(no), _) => {
                    plan.manifest_arrived(no);
                    plan.file_opened(no, &[]);
                }
                (WorkItem::Run { file, start, end }, _) => {
                    prop_assert!(start < end);
                    for group in start..end {
                        prop_assert!(seen.insert((file, group)), "asked twice");
                        plan.group_delivered(source, file, group, now);
                        if is_whole(&seen, &groups, file) {
                            plan.settle(file);
                        }
                    }
                }
            }
            for no in plan.stranded([]) {
                plan.settle(no);
                failed.insert(no);
            }
        }
        for (no, groups) in groups.iter().enumerate() {
            let got = seen.iter().filter(|(file, _)| *file == no).count() as u64;
            prop_assert!(got == *groups || failed.contains(&no));
        }
        prop_assert_eq!(plan.open_files, 0);
    }
}
