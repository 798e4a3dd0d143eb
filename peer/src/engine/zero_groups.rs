//! Chaining values of zero groups, computed on several threads without reading anything.

use shared::GroupLayout;
use shared::content::ChainingValue;

/// Largest number of threads, so that a large machine keeps cores for other work.
const MAX_THREADS: usize = 8;
/// Bytes that are worth another thread.
const MIN_BYTES_PER_THREAD: u64 = 4 << 20;

/// Returns the chaining values of these groups of a file, in their order, if all of them hold only zeros.
pub(super) fn zero_values(layout: &GroupLayout, groups: &[u32]) -> Vec<ChainingValue> {
    let bytes = groups.iter().map(|group| layout.group_len(*group)).fold(0, u64::saturating_add);
    let worth = usize::try_from(bytes / MIN_BYTES_PER_THREAD).unwrap_or(usize::MAX);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(worth).max(1);
    let share = groups.len().div_ceil(threads).max(1);
    let values = |groups: &[u32]| groups.iter().map(|group| layout.zero_chaining_value(*group)).collect::<Vec<_>>();
    let Some((first, others)) = groups.split_at_checked(share).filter(|(_, others)| !others.is_empty()) else {
        return values(groups);
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = others
            .chunks(share)
            .map(|some| (some, std::thread::Builder::new().spawn_scoped(scope, move || values(some))))
            .collect();
        let mut all = values(first);
        for (some, thread) in others {
            // A thread that could not be started only helps less: its part is computed here.
            all.extend(thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(|| values(some)));
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_keep_the_order() {
        let layout = GroupLayout::of((40 << 20) + 5).unwrap();
        for count in [0, 1, 7, 41] {
            let groups: Vec<u32> = (0..count).collect();
            let alone: Vec<ChainingValue> = groups.iter().map(|group| layout.zero_chaining_value(*group)).collect();
            assert_eq!(zero_values(&layout, &groups), alone);
        }
    }
}
