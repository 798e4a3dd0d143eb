//! Command line entry: parses arguments into a command, and maps its result to an exit code. Nothing else does either.

mod args;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::args::{CliArgs, ConfiguredCommand};
use crate::commands::{self, CommandContext};
use crate::engine::{Error, ErrorKind};
use crate::net::set_tracker_wait_notifier;
use crate::profile::set_wait_notifier;
use crate::sys::{job_control, set_zone_notifier};
use crate::ui::{ColorChoice, CommandOutput, LogWriter, OutputOptions, restore_terminal};

const SIGINT: u8 = 2;
/// Signal number of an exceeded file size limit, equal on Linux and macOS.
const SIGXFSZ: i32 = 25;
/// Base of the exit code for a signal, as in shells.
const SIGNAL_EXIT_BASE: u8 = 128;

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let in_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let args = match CliArgs::read(std::env::args_os(), in_terminal) {
        Ok(args) => args,
        Err(error) => {
            return print_clap_error(&error);
        }
    };
    start_log(args.verbosity());
    let cancel = CancellationToken::new();
    let output = args.output();
    let told = output.clone();
    // A wait for the database may begin while the profile is opened, before there is a runtime.
    set_wait_notifier(move |words| told.note(words));
    let told = output.clone();
    set_zone_notifier(move |words| told.warning(words));
    let ConfiguredCommand { context, command } = match args.configure(output.clone(), cancel.clone()) {
        Ok(configured) => configured,
        Err(error) => return report_error(&output, &error, 0),
    };
    if !command.tells_waits() {
        let told = output.clone();
        set_tracker_wait_notifier(move |words| told.note(words));
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report_error(&output, &error.into(), 0),
    };
    let signalled = Arc::new(AtomicU8::new(0));
    let result = runtime.block_on(async {
        // First: Ctrl-C at a password prompt must not leave the terminal without echo.
        let signals = ExitSignals::install()?;
        // With a handler installed, a write over the file size limit fails with EFBIG instead of ending the
        // process.
        let _over_the_limit = signal(SignalKind::from_raw(SIGXFSZ));
        tokio::select! {
            result = commands::run(&context, command) => result,
            second = signals.await_second_signal(&context, &signalled) => second,
        }
    });
    // A thread that blocks, such as in a read of standard input, can't be joined: it ends with the process.
    runtime.shutdown_timeout(Duration::ZERO);
    match result.and_then(|()| Ok(output.close()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report_error(&output, &error, terminating_signal(&signalled)),
    }
}

/// Returns the signal that ended the command, or one that arrived while the only thread waited for the database.
fn terminating_signal(heard: &AtomicU8) -> u8 {
    match heard.load(Ordering::Relaxed) {
        0 => job_control::requested_termination().unwrap_or(0),
        heard => heard,
    }
}

/// Prints help, the version, or the error in the arguments.
fn print_clap_error(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    // The arguments were not parsed, so look for `--json` in their text.
    let for_programs = || std::env::args_os().take_while(|argument| argument != "--").any(|word| word == "--json");
    if error.use_stderr() && for_programs() {
        let options = OutputOptions { json: true, quiet: false, plain: false, color: ColorChoice::Never };
        let (output, message) = (CommandOutput::new(options), error.to_string());
        let message = message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        // Ignored: with a closed pipe nobody reads the error.
        let _ = output.print_object("error", &json!({ "code": ErrorKind::Usage.as_str(), "message": message }));
        let _ = output.close();
    }
    match printed {
        // Help and version are the requested output: losing them is an error.
        Err(why) if !error.use_stderr() => {
            let options = OutputOptions { json: false, quiet: false, plain: false, color: ColorChoice::Auto };
            report_error(&CommandOutput::new(options), &why.into(), 0)
        }
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)),
    }
}

/// Handlers of the signals that end a command.
struct ExitSignals {
    orderly: Vec<(i32, Signal)>,
    fatal: Vec<(i32, Signal)>,
}

impl ExitSignals {
    /// Installs the handlers. Signals ignored by `nohup` stay ignored. SIGINT is handled even where a script's
    /// background job ignores it, because it is the way to stop a node there.
    fn install() -> std::io::Result<Self> {
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
    async fn await_second_signal(self, context: &CommandContext, signalled: &AtomicU8) -> Result<(), Error> {
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
            signalled.store(u8::try_from(number).unwrap_or(0), Ordering::Relaxed);
            context.cancel.cancel();
        }
        waiting.abort_all();
        Err(Error::Interrupted)
    }
}

/// Prints the error and returns the exit code.
fn report_error(output: &CommandOutput, error: &Error, signalled: u8) -> ExitCode {
    // The reader of a pipe has had enough (`| head`): that is success.
    if error.is_closed_pipe() {
        return ExitCode::SUCCESS;
    }
    let kind = error.kind();
    // An interrupted command has printed its last line itself.
    if kind != ErrorKind::Interrupted {
        output.error(&error.to_string());
    }
    if output.is_json() {
        let mut fields = json!({ "code": kind.as_str(), "message": error.to_string() });
        if let Error::TrackerKeyUnconfirmed { address, fingerprint, .. } = error {
            fields["tracker"] = json!(address);
            fields["fingerprint"] = json!(fingerprint);
        }
        // Ignored: with a closed pipe nobody reads the error.
        let _ = output.print_object("error", &fields);
        let _ = output.close();
    }
    // Scripts depend on these numbers; the help lists them (`help_text::EXIT_CODES`).
    ExitCode::from(match kind {
        ErrorKind::Other => 1,
        ErrorKind::Usage => 2,
        ErrorKind::NotLoggedIn => 3,
        ErrorKind::Unavailable => 4,
        ErrorKind::NotShared => 5,
        ErrorKind::Refused => 6,
        ErrorKind::Network => 7,
        ErrorKind::Integrity => 8,
        ErrorKind::Disk => 9,
        ErrorKind::Exists => 10,
        ErrorKind::IdentityChanged => 11,
        ErrorKind::Partial => 12,
        ErrorKind::Interrupted if signalled > 0 => SIGNAL_EXIT_BASE + signalled,
        ErrorKind::Interrupted => SIGNAL_EXIT_BASE + SIGINT,
    })
}

fn start_log(verbosity: u8) {
    let level = match verbosity {
        0 => tracing::Level::ERROR,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    // A maximum level instead of a filter by target: the filter's parser costs start-up time.
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(LogWriter::default)
        .with_ansi(false)
        .without_time()
        .init();
}
