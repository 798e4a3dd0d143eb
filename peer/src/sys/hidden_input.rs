//! A terminal that doesn't show what is typed.

use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr};

use super::job_control;

/// How the terminal was, while it is hidden what is typed.
static SAVED_MODES: Mutex<Option<Termios>> = Mutex::new(None);

/// The fate of what was typed before it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeAheadPolicy {
    /// It was meant for something else.
    Discard,
    /// It is the answer to a question that follows another one at once.
    Keep,
}

/// Throws away what was typed and not read.
///
/// # Errors
/// As the terminal says.
pub fn discard_typed_ahead() -> io::Result<()> {
    Ok(tcflush(job_control::open_terminal()?, QueueSelector::IFlush)?)
}

/// What is typed isn't shown, and comes key by key, until this is dropped.
#[derive(Debug)]
pub struct HiddenInputGuard(());

impl HiddenInputGuard {
    /// Begins. What was typed before, and shown, is thrown away or kept.
    ///
    /// # Errors
    /// As the terminal says.
    pub fn start(typed_ahead: TypeAheadPolicy) -> io::Result<Self> {
        let terminal = job_control::open_terminal()?;
        let modes = tcgetattr(&terminal)?;
        let mut hidden = modes.clone();
        hidden.local_modes -= LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        *SAVED_MODES.lock().unwrap_or_else(PoisonError::into_inner) = Some(modes);
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

/// Shows again what is typed, if that was hidden.
pub fn restore_echo() {
    let before = SAVED_MODES.lock().unwrap_or_else(PoisonError::into_inner).take();
    // In the background it would stop this process; the shell has put its terminal in order by then.
    if let (Some(modes), Ok(terminal)) = (before, job_control::open_terminal())
        && !job_control::is_controlled_by_others(&terminal, true)
    {
        let _ = tcsetattr(&terminal, OptionalActions::Now, &modes);
    }
}
