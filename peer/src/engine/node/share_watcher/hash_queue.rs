//! The queue of files that are to be hashed. Small ones have a lane of their own, so that a large one delays nobody.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | files that wait | the shares that a profile may have | left out by the walk |
//! | small files hashed together | `BATCH_FILES`, `BATCH_BYTES` | the next batch |
//! | files remembered that hold a secret | `MAX_REFUSED` | all are forgotten, and hashed once more |

use std::collections::{BTreeMap, HashMap};

use shared::FileName;

use super::change_schedule::PlaceId;
use crate::engine::share::HashJob;
use crate::sys::FileVersion;

/// The largest file in the lane of the small ones.
const SMALL_BYTES: u64 = 16 << 20;
const BATCH_FILES: usize = 256;
const BATCH_BYTES: u64 = 64 << 20;
const MAX_REFUSED: usize = 4096;

/// A lane, in which one batch is hashed at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HashLane {
    Small,
    Large,
}

/// The queue: each name of a place once, as it was found last.
#[derive(Debug, Default)]
pub(super) struct HashQueue {
    small: LaneQueue,
    large: LaneQueue,
    /// Files that hold a secret, as they were: each walk finds them again.
    refused: HashMap<(PlaceId, FileName), FileVersion>,
}

#[derive(Debug, Default)]
struct LaneQueue {
    waiting: BTreeMap<(PlaceId, FileName), HashJob>,
    is_running: bool,
}

impl HashQueue {
    /// Adds files of a place.
    pub(super) fn add(&mut self, place: PlaceId, jobs: Vec<HashJob>) {
        for job in jobs {
            let key = (place, job.name.clone());
            if self.refused.get(&key) == Some(&job.version) {
                continue;
            }
            let (lane, other) = if job.version.size <= SMALL_BYTES {
                (&mut self.small, &mut self.large)
            } else {
                (&mut self.large, &mut self.small)
            };
            // The file may have changed its size since, and with it the lane.
            other.waiting.remove(&key);
            lane.waiting.insert(key, job);
        }
    }

    /// Takes the next files of one place, unless the lane is busy.
    pub(super) fn take_batch(&mut self, lane: HashLane) -> Option<(PlaceId, Vec<HashJob>)> {
        let queue = self.lane(lane);
        let (place, _) = queue.waiting.keys().next().filter(|_| !queue.is_running)?.clone();
        queue.is_running = true;
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        let most = if lane == HashLane::Small { BATCH_FILES } else { 1 };
        while jobs.len() < most && bytes < BATCH_BYTES {
            let Some(next) = queue.waiting.first_entry().filter(|next| next.key().0 == place) else { break };
            let job = next.remove();
            bytes += job.version.size;
            jobs.push(job);
        }
        Some((place, jobs))
    }

    /// Records that a lane is free again.
    pub(super) fn note_finished(&mut self, lane: HashLane) {
        self.lane(lane).is_running = false;
    }

    /// Remembers files that hold a secret.
    pub(super) fn note_refused(&mut self, place: PlaceId, jobs: Vec<HashJob>) {
        if self.refused.len() + jobs.len() > MAX_REFUSED {
            self.refused.clear();
        }
        self.refused.extend(jobs.into_iter().take(MAX_REFUSED).map(|job| ((place, job.name), job.version)));
    }

    /// Removes the files of a place.
    pub(super) fn remove_place(&mut self, place: PlaceId) {
        for lane in [&mut self.small, &mut self.large] {
            lane.waiting.retain(|(of, _), _| *of != place);
        }
        self.refused.retain(|(of, _), _| *of != place);
    }

    const fn lane(&mut self, lane: HashLane) -> &mut LaneQueue {
        match lane {
            HashLane::Small => &mut self.small,
            HashLane::Large => &mut self.large,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str, size: u64) -> HashJob {
        let version = FileVersion { size, mtime_ns: 1, ctime_ns: 1, inode: 1 };
        HashJob { name: name.parse().unwrap(), path: name.into(), relative: name.into(), version }
    }

    #[test]
    fn what_holds_a_secret_is_hashed_again_only_when_it_is_another() {
        let (mut queue, place) = (HashQueue::default(), PlaceId(1));
        queue.note_refused(place, vec![job("key", 10)]);
        queue.add(place, vec![job("key", 10)]);
        assert_eq!(queue.take_batch(HashLane::Small), None);
        queue.add(place, vec![job("key", 11)]);
        assert!(queue.take_batch(HashLane::Small).is_some());
        for number in 0..MAX_REFUSED * 2 {
            queue.note_refused(place, vec![job(&format!("{number}"), 1)]);
        }
        assert!(queue.refused.len() <= MAX_REFUSED);
    }

    #[test]
    fn small_files_go_together_and_large_ones_alone() {
        let mut queue = HashQueue::default();
        let (one, two) = (PlaceId(1), PlaceId(2));
        queue.add(one, (0..300).map(|number| job(&format!("{number:03}"), 10)).collect());
        queue.add(two, vec![job("x", 1), job("film", 1 << 30), job("other film", 1 << 30)]);
        let (place, jobs) = queue.take_batch(HashLane::Small).unwrap();
        assert_eq!((place, jobs.len()), (one, BATCH_FILES));
        assert_eq!(queue.take_batch(HashLane::Small), None, "one batch at a time");
        assert_eq!(queue.take_batch(HashLane::Large), Some((two, vec![job("film", 1 << 30)])));
        queue.note_finished(HashLane::Small);
        assert_eq!(queue.take_batch(HashLane::Small).unwrap().1.len(), 300 - BATCH_FILES, "of one place");
        // It grew meanwhile, or became small.
        queue.add(two, vec![job("x", 1 << 30), job("other film", 5)]);
        queue.note_finished(HashLane::Small);
        assert_eq!(queue.take_batch(HashLane::Small), Some((two, vec![job("other film", 5)])));
        queue.remove_place(two);
        queue.note_finished(HashLane::Large);
        assert_eq!(queue.take_batch(HashLane::Large), None);
    }
}
