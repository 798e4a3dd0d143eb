//! The state and command of another process.

use std::fs;

/// Longest command returned, in characters.
const COMMAND_CHARS: usize = 60;

/// Returns true if a process is stopped (Ctrl-Z, SIGSTOP, a debugger) and doesn't continue by itself; false if that is
/// unknown.
pub fn is_process_stopped(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        // T: stopped by a signal; t: by a debugger (proc_pid_stat(5)).
        .is_ok_and(|stat| matches!(parse_process_state(&stat), Some('T' | 't')))
}

/// Returns true if there is a process of this number.
pub fn is_process_running(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // One of another user exists as well.
    pid.is_some_and(|pid| !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}

/// Returns the command line of a process, without the folder of its program.
pub fn process_command(pid: u32) -> Option<String> {
    let text = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    // The kernel separates arguments by NUL (proc_pid_cmdline(5)).
    let words = text.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let (program, arguments) = words.split_first()?;
    let program = program.rsplit('/').next().unwrap_or(program);
    let whole = std::iter::once(program).chain(arguments.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    Some(whole.chars().take(COMMAND_CHARS).collect())
}

/// Returns the state in the text of `/proc/PID/stat`. It follows the program's name, which may contain any characters.
fn parse_process_state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_stands_behind_the_name() {
        assert_eq!(parse_process_state("12 (peer) S 1 12 12"), Some('S'));
        assert_eq!(parse_process_state("12 (a ) T) T 1 12 12"), Some('T'));
        assert_eq!(parse_process_state("12"), None);
        assert!(!is_process_stopped(std::process::id()));
        assert!(process_command(std::process::id()).is_some());
        assert_eq!(process_command(u32::MAX), None);
    }
}
