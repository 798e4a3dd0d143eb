//! What a process has used, as Linux counts it.

use std::io::Write;
use std::time::Duration;

/// Ticks of the processor times in `/proc`, a second. Linux shows them to programs as 100 on every machine.
const TICKS: u64 = 100;

/// Returns the processor time of a process, with that of its threads that ended.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // The name of the program, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let [user, system] = [11, 12].map(|field| fields[field].parse::<u64>().expect("a number"));
    Duration::from_millis((user + system) * 1000 / TICKS)
}

/// Returns the memory of a process, in KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:")
}

/// Returns the greatest memory of a process since its start, or since [`reset_peak`], in KiB.
pub(crate) fn peak_kib(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:")
}

/// Makes the greatest memory of a process be the present one.
pub(crate) fn reset_peak(pid: u32) {
    let peak = std::fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/clear_refs"));
    peak.and_then(|mut peak| peak.write_all(b"5")).expect("it runs");
}

fn status_kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
