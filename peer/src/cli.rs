//! From arguments to a command, and from its result to an exit code. The one place that does either.

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

use self::args::{Args, Configured};
use crate::commands::{self, Context};
use crate::engine::{Error, ErrorKind};
use crate::net::tell_tracker_waits_with;
use crate::profile::tell_waits_with;
use crate::sys::{job, tell_unknown_zone_with};
use crate::ui::{ColorChoice, LogLine, Output, OutputOptions, give_back};

const SIGINT: u8 = 2;
/// On Linux and macOS alike.
const SIGXFSZ: i32 = 25;
/// Added to a signal's number, as shells do.
const SIGNALLED: u8 = 128;

/// Runs the command that the arguments say.
pub fn main() -> ExitCode {
    let in_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let args = match Args::read(std::env::args_os(), in_terminal) {
        Ok(args) => args,
        Err(error) => {
            return explain(&error);
        }
    };
    start_log(args.verbosity());
    let cancel = CancellationToken::new();
    let output = args.output();
    let told = output.clone();
    tell_waits_with(move |words| told.note(words));
    let told = output.clone();
    tell_unknown_zone_with(move |words| told.warning(words));
    let Configured { context, command } = match args.configure(output.clone(), cancel.clone()) {
        Ok(configured) => configured,
        Err(error) => return report(&output, &error, 0),
    };
    if !command.tells_waits() {
        let told = output.clone();
        tell_tracker_waits_with(move |words| told.note(words));
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&output, &error.into(), 0),
    };
    let signalled = Arc::new(AtomicU8::new(0));
    let result = runtime.block_on(async {
        // Before anything runs: a prompt must not be left with a terminal that doesn't echo.
        let signals = Signals::handle()?;
        // Once handled, a file over the limit is an error of its write (EFBIG) and no longer the process's end.
        let _over_the_limit = signal(SignalKind::from_raw(SIGXFSZ));
        tokio::select! {
            result = commands::run(&context, command) => result,
            second = signals.second(&context, &signalled) => second,
        }
    });
    // What still blocks a thread, such as a read of standard input, ends with the process.
    runtime.shutdown_timeout(Duration::ZERO);
    match result.and_then(|()| Ok(output.close()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&output, &error, signalled_by(&signalled)),
    }
}

/// The signal that ended the command; one that came while everything waited was heard by nobody else.
fn signalled_by(heard: &AtomicU8) -> u8 {
    match heard.load(Ordering::Relaxed) {
        0 => job::asked_to_end().unwrap_or(0),
        heard => heard,
    }
}

/// Prints help, the version, or what is wrong with the arguments.
fn explain(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    let for_programs = || std::env::args_os().take_while(|argument| argument != "--").any(|word| word == "--json");
    if error.use_stderr() && for_programs() {
        let options = OutputOptions { json: true, quiet: false, plain: false, color: ColorChoice::Never };
        let (output, message) = (Output::new(options), error.to_string());
        let message = message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        // Nobody reads it when the pipe is closed.
        let _ = output.object("error", &json!({ "code": ErrorKind::Usage.as_str(), "message": message }));
        let _ = output.close();
    }
    match printed {
        // Help and version are data, and lost like any other.
        Err(why) if !error.use_stderr() => {
            let options = OutputOptions { json: false, quiet: false, plain: false, color: ColorChoice::Auto };
            report(&Output::new(options), &why.into(), 0)
        }
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)),
    }
}

/// The signals that end a command.
struct Signals {
    orderly: Vec<(i32, Signal)>,
    fatal: Vec<(i32, Signal)>,
}

impl Signals {
    /// Handles them from now on. What `nohup` has ignored stays ignored; SIGINT, which a script has ignored in whatever it
    /// starts in the background, is the way to end a node there all the same.
    fn handle() -> std::io::Result<Self> {
        job::end_when_stopped()?;
        let is_wanted = |number: i32| number == job::INTERRUPT || !job::is_ignored(number);
        let handled = |numbers: &[i32]| {
            let wanted = numbers.iter().filter(|number| is_wanted(**number));
            wanted.map(|number| Ok((*number, signal(SignalKind::from_raw(*number))?))).collect::<std::io::Result<_>>()
        };
        let orderly: Vec<(i32, Signal)> = handled(&[job::INTERRUPT, job::TERMINATE, job::HANG_UP])?;
        job::note_requests_to_end(&orderly.iter().map(|(number, _)| *number).collect::<Vec<_>>())?;
        Ok(Self { orderly, fatal: handled(&job::FATAL)? })
    }

    /// The first signal asks for an orderly end; the second gives up on it. Ctrl-C asks a view first, if there is one that
    /// wants to know. A signal that is fatal ends the process as it does by itself, once the terminal is as it was before.
    async fn second(self, context: &Context, signalled: &AtomicU8) -> Result<(), Error> {
        let (tell, mut told) = mpsc::unbounded_channel();
        let is_fatal = |number: i32| job::FATAL.contains(&number);
        let waiting = self.orderly.into_iter().chain(self.fatal).map(|(number, mut signal)| {
            let tell = tell.clone();
            async move {
                while signal.recv().await.is_some() {
                    // The other end is there for as long as this is waited for.
                    let _ = tell.send(number);
                }
            }
        });
        let mut waiting: tokio::task::JoinSet<()> = waiting.collect();
        let mut asked = 0;
        while asked < 2 {
            let Some(number) = told.recv().await else { break };
            if is_fatal(number) {
                give_back();
                job::end_by(number);
            }
            if number == job::INTERRUPT && context.interrupts.tell() {
                job::goes_on_after_all();
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

/// Says what went wrong and picks the exit code.
fn report(output: &Output, error: &Error, signalled: u8) -> ExitCode {
    if error.is_closed_pipe() {
        return ExitCode::SUCCESS;
    }
    let kind = error.kind();
    if kind != ErrorKind::Interrupted {
        output.error(&error.to_string());
    }
    if output.is_json() {
        let mut fields = json!({ "code": kind.as_str(), "message": error.to_string() });
        if let Error::KeyToConfirm { address, fingerprint, .. } = error {
            fields["tracker"] = json!(address);
            fields["fingerprint"] = json!(fingerprint);
        }
        // Nobody reads it when the pipe is closed.
        let _ = output.object("error", &fields);
        let _ = output.close();
    }
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
        ErrorKind::Interrupted if signalled > 0 => SIGNALLED + signalled,
        ErrorKind::Interrupted => SIGNALLED + SIGINT,
    })
}

fn start_log(verbosity: u8) {
    let level = match verbosity {
        0 => tracing::Level::ERROR,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    // A level and not a filter of targets: cheap at start-up.
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(LogLine::default)
        .with_ansi(false)
        .without_time()
        .init();
}
