//! Waiting for what no event tells.

use std::time::{Duration, Instant};

use crate::PATIENCE;

/// The pause between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Looks again and again until it finds something, and returns that. `late` says what never came.
///
/// # Panics
/// When that takes longer than [`PATIENCE`].
#[track_caller]
pub fn poll_until<T>(look: impl FnMut() -> Option<T>, late: impl Fn() -> String) -> T {
    poll_for(PATIENCE, look, late)
}

/// As [`poll_until`], for something that may take longer or must come sooner.
///
/// # Panics
/// When it takes longer than `patience`.
#[track_caller]
pub fn poll_for<T>(patience: Duration, mut look: impl FnMut() -> Option<T>, late: impl Fn() -> String) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{}", late());
        std::thread::sleep(LOOK_INTERVAL);
    }
}
