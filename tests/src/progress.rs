//! How far a fetch with `--json` has come, and when.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Process;

/// When how many bytes were verified: one entry for each report that was further than the one before.
pub type Steps = Vec<(Instant, u64)>;

/// The bytes that were verified by the last of these reports. What is looked at again doesn't count before all of it was.
pub fn verified_bytes(said: &str) -> u64 {
    let lines = said.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let fetching = |line: &Value| line["type"] == "progress" && line["phase"] == "fetching";
    lines.filter(fetching).find_map(|line| line["bytes"].as_u64()).unwrap_or(0)
}

/// Waits until at least so many bytes are verified; tells how many are.
///
/// # Panics
/// When that doesn't come.
#[track_caller]
pub fn wait_for_bytes(fetching: &Process, bytes: u64) -> u64 {
    fetching.wait_until(&format!("{bytes} verified bytes"), |said| {
        Some(verified_bytes(said)).filter(|verified| *verified >= bytes)
    })
}

/// Follows it to its summary, or its end. The steps begin at `since`, when something happened that may have kept it
/// waiting.
///
/// # Panics
/// When neither comes.
#[track_caller]
pub fn follow(fetching: &Process, since: Instant) -> Steps {
    let mut steps = vec![(since, 0)];
    fetching.wait_until("a summary", |said| {
        let verified = verified_bytes(said);
        if steps.last().is_some_and(|(_, last)| verified > *last) {
            steps.push((Instant::now(), verified));
        }
        said.contains(r#""type":"summary""#).then_some(())
    });
    steps
}

/// The longest time without progress.
pub fn longest_pause(steps: &[(Instant, u64)]) -> Duration {
    steps.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap_or_default()
}
