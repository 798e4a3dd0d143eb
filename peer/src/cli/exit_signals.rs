//! Signals that end a command: the first asks it to end in order, the second ends it at once.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::commands::context::CommandContext;
use crate::engine::Error;
use crate::sys::job_control;
use crate::ui::restore_terminal;

/// Handlers of the signals that end a command.
pub(super) struct ExitSignals {
    orderly: Vec<(i32, Signal)>,
    fatal: Vec<(i32, Signal)>,
}

impl ExitSignals {
    /// Installs the handlers. Signals ignored by `nohup` stay ignored. SIGINT is handled even where a script's
    /// background job ignores it, because it is the way to stop a node there.
    pub(super) fn install() -> std::io::Result<Self> {
        job_control::allow_termination_while_stopped()?;
        let is_wanted =
            |number: i32| number == job_control::INTERRUPT_SIGNAL || !job_control::is_signal_ignored(number);
        let handled = |numbers: &[i32]| {
            let wanted = numbers.iter().filter(|number| is_wanted(**number));
            wanted.map(|number| Ok((*number, signal(SignalKind::from_raw(*number))?))).collect::<std::io::Result<_>>()
        };
        let orderly: Vec<(i32, Signal)> =
            handled(&[job_control::INTERRUPT_SIGNAL, job_control::TERMINATE_SIGNAL, job_control::HANG_UP_SIGNAL])?;
        // Also outside the runtime: the only thread may block in a wait for the database.
        job_control::watch_termination_signals(&orderly.iter().map(|(number, _)| *number).collect::<Vec<_>>())?;
        Ok(Self { orderly, fatal: handled(&job_control::FATAL_SIGNALS)? })
    }

    /// Cancels the command at the first signal and returns at the second. A view may take Ctrl-C as a key instead. A
    /// fatal signal ends the process with its default action, after the terminal is restored.
    pub(super) async fn await_second_signal(self, context: &CommandContext, signalled: &AtomicU8) -> Result<(), Error> {
        let (tell, mut told) = mpsc::unbounded_channel();
        let is_fatal = |number: i32| job_control::FATAL_SIGNALS.contains(&number);
        let waiting = self.orderly.into_iter().chain(self.fatal).map(|(number, mut signal)| {
            let tell = tell.clone();
            async move {
                while signal.recv().await.is_some() {
                    // The receiver lives as long as this function is polled.
                    let _ = tell.send(number);
                }
            }
        });
        let mut waiting: tokio::task::JoinSet<()> = waiting.collect();
        let mut asked = 0;
        while asked < 2 {
            let Some(number) = told.recv().await else { break };
            if is_fatal(number) {
                restore_terminal();
                job_control::terminate_by_signal(number);
            }
            if number == job_control::INTERRUPT_SIGNAL && context.interrupts.forward() {
                // The view has taken this Ctrl-C: a later wait for the database must not end because of it.
                job_control::clear_termination_request();
                continue;
            }
            asked += 1;
            // Before the cancellation: whoever sees that asks for the signal.
            signalled.store(u8::try_from(number).unwrap_or(0), Ordering::Relaxed);
            context.cancel.cancel();
        }
        waiting.abort_all();
        Err(Error::Interrupted)
    }
}

/// Returns the signal that ended the command, or one that arrived while the only thread waited for the database.
pub(super) fn terminating_signal(heard: &AtomicU8) -> u8 {
    match heard.load(Ordering::Relaxed) {
        0 => job_control::requested_termination().unwrap_or(0),
        heard => heard,
    }
}
