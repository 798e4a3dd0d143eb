//! Job control: who has the terminal, and what signals mean to a process that may be stopped.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::process::{Signal, getpgid, getpgrp, getpid, getppid, getsid, kill_process};
use rustix::termios::tcgetpgrp;
use signal_hook::flag;
use signal_hook::low_level::emulate_default_handler;

/// The signal that asks a process to stop, as a terminal sends it for Ctrl-Z.
pub const STOP_SIGNAL: i32 = Signal::TSTP.as_raw();
/// The signal that lets it go on.
pub const CONTINUE_SIGNAL: i32 = Signal::CONT.as_raw();
/// Ends the process because its terminal is gone.
pub const HANG_UP_SIGNAL: i32 = Signal::HUP.as_raw();
/// The signal of Ctrl-C.
pub const INTERRUPT_SIGNAL: i32 = Signal::INT.as_raw();
/// The signal that asks a process to end.
pub const TERMINATE_SIGNAL: i32 = Signal::TERM.as_raw();
/// Signals that nobody sends for an orderly end, and after which a terminal has to be put in order all the same.
pub const FATAL_SIGNALS: [i32; 6] = [
    Signal::QUIT.as_raw(),
    Signal::ABORT.as_raw(),
    Signal::USR1.as_raw(),
    Signal::USR2.as_raw(),
    Signal::ALARM.as_raw(),
    Signal::VTALARM.as_raw(),
];

/// Set while this process was stopped for touching the terminal of others, and has not written anything since.
static STOPPED_IN_BACKGROUND: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// The signal by which this process was asked to end, 0 before that.
static TERMINATION_REQUEST: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Takes note of signals that ask this process to end, at once and wherever it is: in the middle of a wait that holds up
/// everything else as well.
///
/// # Errors
/// As the system says.
pub fn watch_termination_signals(signals: &[i32]) -> io::Result<()> {
    let asked = TERMINATION_REQUEST.get_or_init(Arc::default);
    for signal in signals {
        flag::register_usize(*signal, asked.clone(), usize::try_from(*signal).unwrap_or(0))?;
    }
    Ok(())
}

/// Takes no note of the last request: whoever it was told to decides.
pub fn clear_termination_request() {
    if let Some(asked) = TERMINATION_REQUEST.get() {
        asked.store(0, Ordering::Relaxed);
    }
}

/// The signal by which this process was asked to end, if it was.
pub fn requested_termination() -> Option<u8> {
    let signal = TERMINATION_REQUEST.get()?.load(Ordering::Relaxed);
    u8::try_from(signal).ok().filter(|signal| *signal != 0)
}

/// Stops this process; returns when it goes on.
///
/// # Errors
/// As the system says.
pub fn stop_process() -> io::Result<()> {
    Ok(kill_process(getpid(), Signal::STOP)?)
}

/// Whether there is no shell that could let this process go on after it stopped: whoever started it is in another
/// session, or in its own group.
pub fn is_orphaned() -> bool {
    let session = getsid(None).ok();
    getppid().is_none_or(|parent| getsid(Some(parent)).ok() != session || getpgid(Some(parent)).ok() == Some(getpgrp()))
}

/// Lets this process look at its terminal's size, as if that had changed.
///
/// # Errors
/// As the system says.
pub fn raise_resize_signal() -> io::Result<()> {
    Ok(kill_process(getpid(), Signal::WINCH)?)
}

/// Returns whether the terminal on standard input or output is in use by others: touching it would stop this process.
pub fn is_in_background() -> bool {
    let (input, output) = (io::stdin(), io::stdout());
    is_controlled_by_others(input.as_fd(), input.is_terminal())
        || is_controlled_by_others(output.as_fd(), output.is_terminal())
}

/// Returns whether the process group in front on this terminal is another one. Without job control there is none.
pub(crate) fn is_controlled_by_others(terminal: impl AsFd, is_terminal: bool) -> bool {
    is_terminal && tcgetpgrp(terminal).is_ok_and(|front| front != getpgrp())
}

/// Returns whether whoever started this process had it ignore the signal, as `nohup` and scripts do. Where the system
/// doesn't tell, nothing was ignored.
pub fn is_signal_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    u32::try_from(signal - 1).is_ok_and(|bit| bit < 64 && mask & (1 << bit) != 0)
}

/// Lets SIGTERM end a process that was stopped because it touched the terminal from the background. The system repeats
/// the call that stopped it whenever it goes on, before any of our code runs: an orderly end never gets its turn.
///
/// # Errors
/// As the system says.
pub fn allow_termination_while_stopped() -> io::Result<()> {
    let stopped = STOPPED_IN_BACKGROUND.get_or_init(Arc::default);
    let always = Arc::new(AtomicBool::new(true));
    for signal in [Signal::TTIN.as_raw(), Signal::TTOU.as_raw()] {
        if is_signal_ignored(signal) {
            continue;
        }
        flag::register(signal, stopped.clone())?;
        flag::register_conditional_default(signal, always.clone())?;
    }
    flag::register_conditional_default(TERMINATE_SIGNAL, stopped.clone())?;
    Ok(())
}

/// The terminal took something: this process isn't stopped for it any more.
pub fn clear_stopped() {
    if let Some(stopped) = STOPPED_IN_BACKGROUND.get() {
        stopped.store(false, Ordering::Relaxed);
    }
}

/// Ends this process as the signal does by itself.
pub fn terminate_by_signal(signal: i32) {
    // It returns only where the system refuses to.
    let _ = emulate_default_handler(signal);
}

/// The terminal to read keys from: standard input, else the one this process belongs to.
///
/// # Errors
/// When there is none.
pub fn open_terminal() -> io::Result<File> {
    let input = io::stdin();
    if input.is_terminal() {
        return Ok(File::from(input.as_fd().try_clone_to_owned()?));
    }
    File::open("/dev/tty")
}
