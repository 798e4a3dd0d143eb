//! The `tracker` command: the one place that prints errors and picks the exit code.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use arguments::print_error;
use localization::{EnglishFormat, current_language, in_language, set_language, tr};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};
use tracker::daemon::{
    self, JournalWriter, LogFormat, LogSetter, SettingsError, TrackerSettings, is_stderr_journal, language_of,
    use_translations,
};

/// Gives back the memory of long requests, which the system's allocator keeps.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit code for files and output that can't be written, the same as that of `peer`.
const DISK_EXIT_CODE: u8 = 9;

fn main() -> ExitCode {
    // A dump would hold passwords and the tracker's secret key.
    certs::forbid_core_dumps();
    let command_line: Vec<OsString> = std::env::args_os().collect();
    use_translations();
    // Before anything is parsed: errors and help have the language as well.
    set_language(language_of(&command_line));
    let settings = match TrackerSettings::resolve(&command_line) {
        Ok(settings) => settings,
        Err(SettingsError::Usage(usage)) => {
            // Help and version come here as well: they fail if standard output can't be written, except for a
            // closed pipe.
            let printed = print_error(&usage).and_then(|()| io::stdout().flush());
            if let Err(why) = printed
                && !usage.use_stderr()
                && why.kind() != io::ErrorKind::BrokenPipe
            {
                report_failure(&tr!("can't write to standard output: {why}", why));
                return ExitCode::from(DISK_EXIT_CODE);
            }
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
        Err(why) => {
            report_failure(&why.to_string());
            return ExitCode::from(2);
        }
    };
    if let Some(command) = &settings.args.command {
        return match daemon::command(command, &settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                let is_disk = why.is_disk_failure();
                let failure = report_failure(&why.to_string());
                if is_disk { ExitCode::from(DISK_EXIT_CODE) } else { failure }
            }
        };
    }
    let set_log = init_log(&settings);
    // The daemon itself goes over to English while it runs.
    let language = current_language();
    match daemon::run(settings, command_line, set_log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let failure = report_failure(&in_language(language, || why.to_string()));
            if why.is_disk_failure() { ExitCode::from(DISK_EXIT_CODE) } else { failure }
        }
    }
}

/// Starts logging to standard error. The returned function changes level and format.
fn init_log(settings: &TrackerSettings) -> LogSetter {
    let (level, level_handle) = reload::Layer::new(settings.args.log_level());
    let (lines, lines_handle) = reload::Layer::new(log_layer(settings.args.log_format()));
    tracing_subscriber::registry().with(lines).with(level).init();
    Box::new(move |level, format| {
        // A failed reload can't be logged anywhere.
        let _ = level_handle.reload(level);
        let _ = lines_handle.reload(log_layer(format));
    })
}

fn log_layer(format: LogFormat) -> Box<dyn Layer<Registry> + Send + Sync> {
    let writer = if is_stderr_journal() { BoxMakeWriter::new(JournalWriter) } else { BoxMakeWriter::new(io::stderr) };
    let lines = fmt::layer().with_writer(writer).with_target(false);
    match format {
        LogFormat::Text => lines.with_ansi(has_colours()).map_event_format(EnglishFormat).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).map_event_format(EnglishFormat).boxed(),
    }
}

fn has_colours() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stderr().is_terminal() && !arguments::is_color_forbidden() && !dumb
}

fn report_failure(why: &str) -> ExitCode {
    // Nothing is left on which to report that standard error is closed.
    let _ = writeln!(io::stderr(), "tracker: {}", shared::safe_text::safe_line(why));
    ExitCode::FAILURE
}
