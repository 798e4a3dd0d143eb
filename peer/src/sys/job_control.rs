//! Job control: the foreground process of a terminal, and signals of a process that may be stopped.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::process::{Signal, getpgid, getpgrp, getpid, getppid, getsid, kill_process};
use rustix::termios::tcgetpgrp;
use signal_hook::flag;
use signal_hook::low_level::emulate_default_handler;

/// Asks a process to stop; the terminal sends it for Ctrl-Z.
pub const STOP_SIGNAL: i32 = Signal::TSTP.as_raw();
/// Lets a stopped process continue.
pub const CONTINUE_SIGNAL: i32 = Signal::CONT.as_raw();
/// Ends a process because its terminal is gone.
pub const HANG_UP_SIGNAL: i32 = Signal::HUP.as_raw();
/// Sent by the terminal for Ctrl-C.
pub const INTERRUPT_SIGNAL: i32 = Signal::INT.as_raw();
/// Asks a process to end.
pub const TERMINATE_SIGNAL: i32 = Signal::TERM.as_raw();
/// Signals that end the process without an orderly shutdown. The terminal must be restored even then.
pub const FATAL_SIGNALS: [i32; 6] = [
    Signal::QUIT.as_raw(),
    Signal::ABORT.as_raw(),
    Signal::USR1.as_raw(),
    Signal::USR2.as_raw(),
    Signal::ALARM.as_raw(),
    Signal::VTALARM.as_raw(),
];

/// True after this process was stopped for using the terminal from the background, until its next successful write.
static STOPPED_IN_BACKGROUND: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// The signal that asked this process to end; 0 before.
static TERMINATION_REQUEST: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Records signals that ask this process to end, at once and on any thread, even during a wait that blocks everything
/// else. Fails with the error of installing a handler.
pub fn watch_termination_signals(signals: &[i32]) -> io::Result<()> {
    let asked = TERMINATION_REQUEST.get_or_init(Arc::default);
    for signal in signals {
        // The handler only stores a number, which is safe at any point of the program.
        flag::register_usize(*signal, asked.clone(), usize::try_from(*signal).unwrap_or(0))?;
    }
    Ok(())
}

/// Forgets the last request to end. Its receiver decides what follows.
pub fn clear_termination_request() {
    if let Some(asked) = TERMINATION_REQUEST.get() {
        asked.store(0, Ordering::Relaxed);
    }
}

/// Returns the signal that asked this process to end; `None` if none did.
pub fn requested_termination() -> Option<u8> {
    let signal = TERMINATION_REQUEST.get()?.load(Ordering::Relaxed);
    u8::try_from(signal).ok().filter(|signal| *signal != 0)
}

/// Stops this process. Returns when it continues.
pub fn stop_process() -> io::Result<()> {
    // SIGSTOP, since SIGTSTP has a handler in this process.
    Ok(kill_process(getpid(), Signal::STOP)?)
}

/// Returns true if no shell could continue this process after it stopped, because its parent is in another session or
/// in the same process group.
pub fn is_orphaned() -> bool {
    let session = getsid(None).ok();
    getppid().is_none_or(|parent| getsid(Some(parent)).ok() != session || getpgid(Some(parent)).ok() == Some(getpgrp()))
}

/// Makes this process check its terminal's size, as if the size had changed.
pub fn raise_resize_signal() -> io::Result<()> {
    Ok(kill_process(getpid(), Signal::WINCH)?)
}

/// Returns true if the terminal on standard input or output is in use by another process group, so that using it would
/// stop this process.
pub fn is_in_background() -> bool {
    let (input, output) = (io::stdin(), io::stdout());
    is_controlled_by_others(input.as_fd(), input.is_terminal())
        || is_controlled_by_others(output.as_fd(), output.is_terminal())
}

/// Returns true if another process group is in the foreground of `terminal`. Returns false without job control.
pub(crate) fn is_controlled_by_others(terminal: impl AsFd, is_terminal: bool) -> bool {
    // Fails with ENOTTY for a terminal that isn't the controlling one.
    is_terminal && tcgetpgrp(terminal).is_ok_and(|front| front != getpgrp())
}

/// Returns true if the parent made this process ignore `signal`, as `nohup` and scripts do. Returns false if the system
/// doesn't tell.
pub fn is_signal_ignored(signal: i32) -> bool {
    // Read once: it is asked for each signal at each start, and a handler of this process ends what the parent set.
    static IGNORED_BY_PARENT: OnceLock<u64> = OnceLock::new();
    let mask = *IGNORED_BY_PARENT.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        // Bit n - 1 of the mask stands for signal n (proc_pid_status(5)).
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    });
    u32::try_from(signal - 1).is_ok_and(|bit| bit < 64 && mask & (1 << bit) != 0)
}

/// Lets SIGTERM end a process that was stopped for using the terminal from the background. When such a process
/// continues, the kernel repeats the call that stopped it before any of the program's code runs, so an orderly end
/// never gets its turn. Fails with the error of installing a handler.
pub fn allow_termination_while_stopped() -> io::Result<()> {
    let stopped = STOPPED_IN_BACKGROUND.get_or_init(Arc::default);
    let always = Arc::new(AtomicBool::new(true));
    for signal in [Signal::TTIN.as_raw(), Signal::TTOU.as_raw()] {
        // An ignored signal doesn't stop this process, and a handler would change that.
        if is_signal_ignored(signal) {
            continue;
        }
        // Handlers run in the order of registration: the flag is set before the default action stops the process.
        flag::register(signal, stopped.clone())?;
        flag::register_conditional_default(signal, always.clone())?;
    }
    flag::register_conditional_default(TERMINATE_SIGNAL, stopped.clone())?;
    Ok(())
}

/// Records that the terminal accepted output, so that this process is no longer stopped for using it.
pub fn clear_stopped() {
    if let Some(stopped) = STOPPED_IN_BACKGROUND.get() {
        stopped.store(false, Ordering::Relaxed);
    }
}

/// Ends this process by the default action of `signal`.
pub fn terminate_by_signal(signal: i32) {
    // It returns only if the system refuses.
    let _ = emulate_default_handler(signal);
}

/// Opens the terminal to read keys from: standard input, or else the controlling terminal. Fails with the system's
/// error if there is no terminal.
pub fn open_terminal() -> io::Result<File> {
    let input = io::stdin();
    if input.is_terminal() {
        // A duplicate, because dropping a `File` on descriptor 0 would close standard input.
        return Ok(File::from(input.as_fd().try_clone_to_owned()?));
    }
    File::open("/dev/tty")
}
