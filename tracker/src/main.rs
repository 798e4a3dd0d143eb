//! The `tracker` command: the one place that prints errors and picks the exit code.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, reload};
use tracker::daemon::{self, LogFormat, LogLevel, Settings, SettingsError};

fn main() -> ExitCode {
    let command_line: Vec<OsString> = std::env::args_os().collect();
    let settings = match Settings::resolve(&command_line) {
        Ok(settings) => settings,
        Err(SettingsError::Usage(usage)) => {
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
        Err(why) => {
            failed(&why.to_string());
            return ExitCode::from(2);
        }
    };
    if let Some(command) = &settings.args.command {
        return match daemon::command(command, &settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => failed(&why.to_string()),
        };
    }
    let set_log_level = begin_log(&settings);
    match daemon::run(&settings, command_line, set_log_level) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => failed(&why.to_string()),
    }
}

/// Begins to log to standard error; what is returned changes how much.
fn begin_log(settings: &Settings) -> LogLevel {
    let (level, handle) = reload::Layer::new(settings.args.log_level());
    let lines = fmt::layer().with_writer(io::stderr).with_target(false);
    let lines = match settings.args.log_format() {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(level)).init();
    Box::new(move |level| {
        // Without a log there is nobody to tell.
        let _ = handle.reload(level);
    })
}

fn failed(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "tracker: {}", shared::safe_text::safe_line(why));
    ExitCode::FAILURE
}
