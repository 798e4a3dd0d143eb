//! Errors in the arguments: they name the wrong one, or this program's name for another one's command.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use arguments::safe_error;
use clap::error::{ContextKind, ContextValue, ErrorKind as ClapErrorKind};
use serde_json::json;

use super::exit_code::report_error;
use crate::engine::ErrorKind;
use crate::ui::{ColorChoice, CommandOutput, OutputOptions};

/// Commands of other programs with the equivalent of this one.
pub(super) const FOREIGN_COMMANDS: &[(&str, &str)] = &[
    ("get", "peer fetch USER NAME"),
    ("download", "peer fetch USER NAME"),
    ("send", "peer offer USER FILE"),
    ("put", "peer offer USER FILE"),
    ("upload", "peer share PATH"),
    ("ls", "peer files USER"),
    ("who", "peer list"),
    ("users", "peer list"),
    ("peers", "peer list"),
    ("msg", "peer chat USER TEXT"),
    ("message", "peer chat USER TEXT"),
    ("status", "peer whoami"),
    ("search", "peer find WORDS"),
    ("quit", "peer stop"),
    ("offline", "peer stop"),
    ("online", "peer serve"),
    ("join", "peer room join ROOM"),
    ("leave", "peer room leave ROOM"),
    ("invite", "peer room invite ROOM USER"),
    ("kick", "peer room kick ROOM USER"),
];

/// Makes the error safe to print and adds what clap leaves out, such as this program's name for a foreign command.
pub(super) fn explain_error(mut command: clap::Command, error: clap::Error, args: &[OsString]) -> clap::Error {
    let mut error = safe_error(&mut command, error, args);
    match error.kind() {
        ClapErrorKind::InvalidSubcommand => {
            let Some(ContextValue::String(tried)) = error.get(ContextKind::InvalidSubcommand) else { return error };
            let Some((_, ours)) = FOREIGN_COMMANDS.iter().find(|(theirs, _)| theirs == tried) else { return error };
            let why = format!("there is no `peer {tried}`: you may mean `{ours}`; `peer --help` lists all commands\n");
            command.error(ClapErrorKind::InvalidSubcommand, why)
        }
        ClapErrorKind::MissingRequiredArgument => {
            let missing = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
            if missing.contains("ROOM") || missing.contains("USER") {
                let tip = "a shell takes #lab for a comment: quote it, '#lab', or write lab after `peer room`";
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
            }
            error
        }
        _ => error,
    }
}

/// Prints help, the version, or the error in the arguments.
pub(super) fn print_clap_error(error: &clap::Error) -> ExitCode {
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
