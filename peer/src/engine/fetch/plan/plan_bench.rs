//! Simulation of the plan without network and disk, for the micro-benchmarks only.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use shared::GroupLayout;

use super::{FetchPlan, WorkItem, index};

/// Requests that each source has open at a time.
const OPEN_QUESTIONS: usize = 16;
/// The time that a source takes to deliver a group.
const GROUP_TIME: Duration = Duration::from_micros(500);

/// Simulates a fetch of files of these layouts from `sources` sources that have all of them and answer in order.
/// Returns the number of different groups delivered: fewer than there are if the plan got stuck.
pub fn simulate(layouts: impl IntoIterator<Item = GroupLayout>, sources: u32, start: Instant) -> usize {
    let layouts: Vec<GroupLayout> = layouts.into_iter().collect();
    let mut plan = FetchPlan::new(layouts.iter().copied(), OPEN_QUESTIONS, false);
    let mut open: Vec<_> =
        (0..sources).filter_map(|_| Some((plan.add_source(|_| true, start)?, VecDeque::new()))).collect();
    let mut missing: Vec<usize> = layouts.iter().map(|layout| index(layout.group_count())).collect();
    let (mut now, mut delivered) = (start, 0);
    while !plan.is_done() {
        let mut is_stuck = true;
        for (source, questions) in &mut open {
            while questions.len() < OPEN_QUESTIONS
                && let Some(work) = plan.next_work(*source, now)
            {
                questions.push_back(work);
            }
            now += GROUP_TIME;
            let question = questions.pop_front();
            is_stuck &= question.is_none();
            match question {
                Some(WorkItem::Manifest(no)) if plan.manifest_arrived(no) => plan.file_opened(no, &[]),
                Some(WorkItem::Run { file, start, end }) => {
                    let is_new = |group: &u32| plan.files[file].arrived.get(index(*group)) == Some(&false);
                    let new = (start..end).filter(is_new).count();
                    for group in start..end {
                        plan.group_delivered(*source, file, group, now);
                    }
                    delivered += new;
                    missing[file] -= new;
                    if new > 0 && missing[file] == 0 {
                        plan.settle(file);
                    }
                }
                Some(WorkItem::Manifest(_)) | None => {}
            }
        }
        if is_stuck {
            break;
        }
    }
    delivered
}
