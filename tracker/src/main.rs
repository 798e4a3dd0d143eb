//! The `tracker` command: the one place that prints errors and picks the exit code.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tracker::daemon::{self, Args};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(usage) => {
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_max_level(args.log_level())
        .with_target(false)
        .init();
    let Some(config) = args.into_config() else {
        return failed("there is no home folder to keep the accounts in: choose a folder with --data-dir");
    };
    match daemon::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => failed(&why.to_string()),
    }
}

fn failed(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "tracker: {}", shared::safe_text::safe_line(why));
    ExitCode::FAILURE
}
