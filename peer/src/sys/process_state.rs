//! Another process, as the system shows it.

use std::fs;

/// Longest command that is shown.
const COMMAND_CHARS: usize = 60;

/// Whether a process was stopped (Ctrl-Z, SIGSTOP, a debugger) and doesn't go on by itself; false when that can't be told.
pub fn is_process_stopped(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| matches!(parse_process_state(&stat), Some('T' | 't')))
}

/// The command that a process runs, without the folder of its program.
pub fn process_command(pid: u32) -> Option<String> {
    let text = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = text.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let (program, arguments) = words.split_first()?;
    let program = program.rsplit('/').next().unwrap_or(program);
    let whole = std::iter::once(program).chain(arguments.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    Some(whole.chars().take(COMMAND_CHARS).collect())
}

/// The state in the text of `/proc/PID/stat`: behind the program's name, which may have anything in it.
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
