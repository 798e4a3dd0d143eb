//! From arguments to a command, and from its result to an exit code. The one place that does either.

mod args;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::args::{Args, Configured};
use crate::commands;
use crate::engine::{Error, ErrorKind};
use crate::ui::{ColorChoice, LogLine, Output, OutputOptions};

const SIGINT: u8 = 2;
const SIGTERM: u8 = 15;
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
    let Configured { context, command } = match args.configure(output.clone(), cancel.clone()) {
        Ok(configured) => configured,
        Err(error) => return report(&output, &error, 0),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&output, &error.into(), 0),
    };
    let signalled = Arc::new(AtomicU8::new(0));
    let result = runtime.block_on(async {
        // Before anything runs: a prompt must not be left with a terminal that doesn't echo.
        let signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // Once handled, a file over the limit is an error of its write (EFBIG) and no longer the process's end.
        let _over_the_limit = signal(SignalKind::from_raw(SIGXFSZ));
        tokio::select! {
            result = commands::run(&context, command) => result,
            second = second_signal(signals, &cancel, &signalled) => second,
        }
    });
    // What still blocks a thread, such as a read of standard input, ends with the process.
    runtime.shutdown_timeout(Duration::ZERO);
    match result.and_then(|()| Ok(output.close()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&output, &error, signalled.load(Ordering::Relaxed)),
    }
}

/// Prints help, the version, or what is wrong with the arguments.
fn explain(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    match printed {
        // Help and version are data, and lost like any other.
        Err(why) if !error.use_stderr() => {
            let plain = OutputOptions { json: false, quiet: false, color: ColorChoice::Auto };
            report(&Output::new(plain), &why.into(), 0)
        }
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)),
    }
}

/// The first signal asks for an orderly end; the second gives up on it.
async fn second_signal(
    (mut interrupt, mut terminate): (Signal, Signal),
    cancel: &CancellationToken,
    signalled: &AtomicU8,
) -> Result<(), Error> {
    for _ in 0..2 {
        let number = tokio::select! {
            _ = interrupt.recv() => SIGINT,
            _ = terminate.recv() => SIGTERM,
        };
        signalled.store(number, Ordering::Relaxed);
        cancel.cancel();
    }
    Err(Error::Interrupted)
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
        // Nobody reads it when the pipe is closed.
        let _ = output.object("error", &json!({ "code": kind.as_str(), "message": error.to_string() }));
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
        ErrorKind::Interrupted if signalled == SIGTERM => SIGNALLED + SIGTERM,
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
