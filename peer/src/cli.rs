//! Command line entry: parses the arguments, runs the command, and maps its result to an exit code.

mod args;
mod argument_error;
mod command_overview;
mod completion_request;
mod config_file;
mod exit_code;
mod exit_signals;
mod help_screens;
#[cfg(test)]
mod man_pages;
mod translations;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use arguments::with_translated_headings;
use localization::{EnglishFormat, Language, set_language};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Format;

use self::args::{CliArgs, command_line};
use self::argument_error::print_clap_error;
use self::completion_request::CompletionRequest;
use self::exit_code::report_error;
use self::exit_signals::{ExitSignals, terminating_signal};
use self::translations::{TEXTS, language_of, use_translations};
use crate::net::TRACKER_WAIT_NOTIFIER;
use crate::profile::LOCK_WAIT_NOTIFIER;
use crate::sys::TIME_ZONE_NOTIFIER;
use crate::ui::{LinePriority, LogWriter};

/// Time for work on other threads to end, such as a write to the profile: its last handle puts the database's
/// write-ahead log away. A thread that waits for a disk or a name server must not hold the process for longer.
const BLOCKING_WORK_TIMEOUT: Duration = Duration::from_secs(1);

/// Signal number of an exceeded file size limit, equal on Linux and macOS.
const SIGXFSZ: i32 = 25;

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    use_translations();
    // Before anything is parsed: errors and help have the language as well.
    set_language(language_of(&words));
    if let Some(request) = CompletionRequest::from_args(&words) {
        return request.answer(with_translated_headings(command_line(), &TEXTS));
    }
    let in_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let args = match CliArgs::read(words, in_terminal) {
        Ok(args) => args,
        Err(error) => return print_clap_error(&error),
    };
    if args.is_for_programs() {
        set_language(Language::English);
    }
    start_log(args.verbosity());
    let cancel = CancellationToken::new();
    let output = args.output();
    let told = output.clone();
    // A wait for the database may begin while the profile is opened, before there is a runtime.
    LOCK_WAIT_NOTIFIER.set(move |words| told.note(words));
    let told = output.clone();
    TIME_ZONE_NOTIFIER.set(move |words| told.warning(words));
    let (context, command) = match args.configure(output.clone(), cancel.clone()) {
        Ok(configured) => configured,
        Err(error) => return report_error(&output, &error, 0),
    };
    if !command.tells_waits() {
        let told = output.clone();
        TRACKER_WAIT_NOTIFIER.set(move |words| told.note(words));
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report_error(&output, &error.into(), 0),
    };
    let signalled = Arc::new(AtomicU8::new(0));
    let mut patience = BLOCKING_WORK_TIMEOUT;
    let result = runtime.block_on(async {
        // First: Ctrl-C at a password prompt must not leave the terminal without echo.
        let signals = ExitSignals::install()?;
        // With a handler installed, a write over the file size limit fails with EFBIG instead of ending the process.
        let _over_the_limit = signal(SignalKind::from_raw(SIGXFSZ));
        tokio::select! {
            result = command.run(&context) => result,
            second = signals.await_second_signal(&context, &signalled) => {
                // Whoever asks twice waits for nothing.
                patience = Duration::ZERO;
                second
            }
        }
    });
    runtime.shutdown_timeout(patience);
    match result.and_then(|()| Ok(output.close()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report_error(&output, &error, terminating_signal(&signalled)),
    }
}

/// The writers of log records, each with the priority of its record.
struct LogRecords;

impl<'a> MakeWriter<'a> for LogRecords {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        LogWriter::new(LinePriority::Info)
    }

    fn make_writer_for(&'a self, record: &tracing::Metadata<'_>) -> LogWriter {
        LogWriter::new(record.level().into())
    }
}

fn start_log(verbosity: u8) {
    let level = match verbosity {
        0 => tracing::Level::ERROR,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    // A maximum level instead of a filter by target: the filter's parser costs start-up time.
    let format = EnglishFormat(Format::default().with_ansi(false).without_time());
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(LogRecords)
        .with_ansi(false)
        .event_format(format)
        .init();
}
