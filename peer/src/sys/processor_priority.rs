//! The processor priority of this process.

use rustix::io::Errno;
use rustix::process::{Pid, getpriority_process, setpriority_process};

/// The nice value of a process that leaves the processor to others: beside a usual one it gets a tenth (sched(7)).
const YIELDING_NICENESS: i32 = 10;

/// Leaves the processor to other processes first, from now on: only a privileged process gets back what it gave up
/// (setpriority(2)).
pub fn lower_process_priority() {
    // Linux has a value for each thread, which the threads that it starts inherit; elsewhere it is the process's.
    #[cfg(target_os = "linux")]
    let threads = own_threads();
    #[cfg(not(target_os = "linux"))]
    let threads: [Option<Pid>; 1] = [None];
    for thread in threads {
        match lower(thread) {
            // A thread that has ended meanwhile.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(why) => tracing::debug!("the priority stays: {why}"),
        }
    }
}

/// Returns the threads of this process; the calling one alone where they aren't listed.
#[cfg(target_os = "linux")]
fn own_threads() -> Vec<Option<Pid>> {
    let Ok(entries) = std::fs::read_dir("/proc/self/task") else { return vec![None] };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.map(Pid::from_raw).collect()
}

fn lower(thread: Option<Pid>) -> Result<(), Errno> {
    // A lower priority that the user chose stays.
    if getpriority_process(thread)? < YIELDING_NICENESS {
        setpriority_process(thread, YIELDING_NICENESS)?;
    }
    Ok(())
}
