//! Input of secrets from a terminal that doesn't show it.

use std::io;

use parking_lot::Mutex;
use rustix::termios::{LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr};

use super::job_control;

/// The terminal's modes before the input was hidden; `None` while it isn't hidden. Global, so that a signal's handling
/// can restore them.
static SAVED_MODES: Mutex<Option<Termios>> = Mutex::new(None);

/// The treatment of input that was typed before the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeAheadPolicy {
    /// Discards it: it was meant for something else.
    Discard,
    /// Keeps it: it answers a question that follows another one directly.
    Keep,
}

/// Discards input that was typed and not read.
pub fn discard_typed_ahead() -> io::Result<()> {
    Ok(tcflush(job_control::open_terminal()?, QueueSelector::IFlush)?)
}

/// A guard that hides typed input, and delivers it key by key, until it is dropped.
#[derive(Debug)]
pub struct HiddenInputGuard(());

impl HiddenInputGuard {
    /// Hides the input, and discards or keeps earlier input.
    pub fn start(typed_ahead: TypeAheadPolicy) -> io::Result<Self> {
        let terminal = job_control::open_terminal()?;
        let modes = tcgetattr(&terminal)?;
        let mut hidden = modes.clone();
        // Without ISIG, Ctrl-C arrives as a byte: the reader restores the terminal before it ends.
        hidden.local_modes -= LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        // Saved before the change, so that a signal between the two finds the modes to restore.
        *SAVED_MODES.lock() = Some(modes);
        let when = match typed_ahead {
            TypeAheadPolicy::Discard => OptionalActions::Flush,
            TypeAheadPolicy::Keep => OptionalActions::Now,
        };
        tcsetattr(&terminal, when, &hidden)?;
        Ok(Self(()))
    }
}

impl Drop for HiddenInputGuard {
    fn drop(&mut self) {
        restore_echo();
    }
}

/// Shows typed input again if it was hidden.
pub fn restore_echo() {
    let before = SAVED_MODES.lock().take();
    // In the background, tcsetattr would stop this process. The shell has restored the terminal by then.
    if let (Some(modes), Ok(terminal)) = (before, job_control::open_terminal())
        && !job_control::is_controlled_by_others(&terminal, true)
    {
        let _ = tcsetattr(&terminal, OptionalActions::Now, &modes);
    }
}
