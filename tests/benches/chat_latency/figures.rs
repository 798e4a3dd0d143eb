//! Percentiles, and what they should be.

use std::time::Duration;

/// The part of their full speed that files are to keep beside a chat.
const FILES_SHARE: f64 = 0.6;

/// What was measured of each message.
#[derive(Default)]
pub(crate) struct Series {
    pub(crate) acked: Vec<Duration>,
    pub(crate) answered: Vec<Duration>,
}

/// What the p99 of `acked` under load may be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// So many times the idle one.
    Ratio(f64),
    /// So much more than the path's round trip, which is next to nothing here.
    Above(Duration),
}

pub(crate) fn print_head() {
    println!(
        "{:10} {:9} {:7} {:>6} {:>8} {:>8} {:>8}   p99 loaded/idle",
        "path", "until", "", "count", "p50 ms", "p99 ms", "p99.9 ms"
    );
}

/// Prints the messages' figures, and the files' rates beside a chat and alone, in MB/s.
pub(crate) fn print_row(path: &str, idle: &mut Series, loaded: &mut Series, goal: Goal, [beside, alone]: [f64; 2]) {
    let pairs = [("acked", &mut idle.acked, &mut loaded.acked), ("answered", &mut idle.answered, &mut loaded.answered)];
    for (until, idle, loaded) in pairs {
        for (load, times) in [("idle", &mut *idle), ("loaded", &mut *loaded)] {
            times.sort_unstable();
            let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| millis(percentile(times, share)));
            print!("{path:10} {until:9} {load:7} {:6} {p50:8.2} {p99:8.2} {p999:8.2}", times.len());
            if load == "idle" {
                println!();
            }
        }
        let (before, now) = (percentile(idle, 0.99), percentile(loaded, 0.99));
        let ratio = now.as_secs_f64() / before.as_secs_f64();
        println!("   {ratio:.2}{}", if until == "acked" { verdict(goal, ratio, now) } else { String::new() });
    }
    let share = beside / alone;
    let verdict = if share >= FILES_SHARE { "met" } else { "MISSED" };
    println!(
        "{path:10} files: {beside:.0} MB/s, both ways together, {share:.2} of the {alone:.0} without a chat \
         (at least {FILES_SHARE}: {verdict})\n"
    );
}

fn verdict(goal: Goal, ratio: f64, p99: Duration) -> String {
    let (is_met, wanted) = match goal {
        Goal::Ratio(at_most) => (ratio <= at_most, format!("at most {at_most} times idle")),
        Goal::Above(at_most) => (p99 <= at_most, format!("at most {} ms", at_most.as_millis())),
    };
    format!(" ({wanted}: {})", if is_met { "met" } else { "MISSED" })
}

fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(place.max(1) - 1).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
