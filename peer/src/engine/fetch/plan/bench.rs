//! The plan without network and disk, for the micro-benchmarks and nobody else.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use shared::Layout;

use super::{Plan, Work, index};

/// Questions that each source has open at a time.
const OPEN_QUESTIONS: usize = 16;
/// How long a source takes to deliver a group.
const GROUP_TIME: Duration = Duration::from_micros(500);

/// Plays a fetch of files of these layouts from `sources` sources that have them all and answer in order. Says how
/// many different groups came: fewer than there are when the plan got stuck.
pub fn play(layouts: impl IntoIterator<Item = Layout>, sources: u32, start: Instant) -> usize {
    let layouts: Vec<Layout> = layouts.into_iter().collect();
    let mut plan = Plan::new(layouts.iter().copied(), OPEN_QUESTIONS, false);
    let mut open: Vec<_> =
        (0..sources).filter_map(|_| Some((plan.add_source(|_| true, start)?, VecDeque::new()))).collect();
    let mut missing: Vec<usize> = layouts.iter().map(|layout| index(layout.groups())).collect();
    let (mut now, mut delivered) = (start, 0);
    while !plan.is_done() {
        let mut is_stuck = true;
        for (source, questions) in &mut open {
            while questions.len() < OPEN_QUESTIONS
                && let Some(work) = plan.next(*source, now)
            {
                questions.push_back(work);
            }
            now += GROUP_TIME;
            let question = questions.pop_front();
            is_stuck &= question.is_none();
            match question {
                Some(Work::Manifest(no)) if plan.manifest_came(no) => plan.opened(no, &[]),
                Some(Work::Run { file, start, end }) => {
                    let is_new = |group: &u32| plan.files[file].arrived.get(index(*group)) == Some(&false);
                    let new = (start..end).filter(is_new).count();
                    for group in start..end {
                        plan.delivered(*source, file, group, now);
                    }
                    delivered += new;
                    missing[file] -= new;
                    if new > 0 && missing[file] == 0 {
                        plan.settle(file);
                    }
                }
                Some(Work::Manifest(_)) | None => {}
            }
        }
        if is_stuck {
            break;
        }
    }
    delivered
}
