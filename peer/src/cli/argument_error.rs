//! Errors in the arguments: they name the wrong one, or this program's name for another one's command.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use arguments::{error_reason, print_error, safe_error};
use clap::error::{ContextKind, ContextValue, ErrorKind as ClapErrorKind};
use localization::{in_english, tr};
use serde_json::json;
use shared::safe_text::safe_line;

use super::exit_code::report_error;
use crate::commands::command_help::room_quoting;
use crate::engine::ErrorKind;
use crate::ui::{ColorChoice, CommandOutput, OutputOptions};
use crate::util::shell_words::shell_quote;

/// Commands of other programs with the equivalent of this one.
pub(super) const FOREIGN_COMMANDS: &[(&str, &str)] = &[
    ("get", "peer fetch USER NAME"),
    ("download", "peer fetch USER NAME"),
    ("put", "peer send USER PATH"),
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
            let why =
                tr!("there is no `peer {tried}`: you may mean `{ours}`; `peer --help` lists all commands", tried, ours);
            command.error(ClapErrorKind::InvalidSubcommand, why + "\n")
        }
        ClapErrorKind::UnknownArgument => {
            add_dash_tip(&mut error, args);
            error
        }
        ClapErrorKind::MissingRequiredArgument => {
            let missing = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
            if [tr!("value" => "ROOM"), tr!("value" => "USER")].iter().any(|name| missing.contains(&**name)) {
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![room_quoting().into()]));
            }
            error
        }
        ClapErrorKind::InvalidValue if is_room_missing(&error) => {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![room_quoting().into()]));
            error
        }
        _ => error,
    }
}

/// Returns true if an option lacks the room that it takes.
fn is_room_missing(error: &clap::Error) -> bool {
    let takes_room =
        error.get(ContextKind::InvalidArg).is_some_and(|arg| arg.to_string().contains(&*tr!("value" => "ROOM")));
    let value = error.get(ContextKind::InvalidValue);
    takes_room && value.is_none_or(|value| matches!(value, ContextValue::String(value) if value.is_empty()))
}

/// Says how an argument that begins with a dash is passed: clap names its first letter only.
fn add_dash_tip(error: &mut clap::Error, args: &[OsString]) {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg).cloned() else { return };
    let texts = args.iter().skip(1).filter_map(|arg| arg.to_str());
    let mut given = texts.filter(|arg| arg.starts_with('-') && !arg.starts_with("--") && arg.starts_with(&*unknown));
    if let Some(given) = given.find(|arg| arg.chars().count() > 2) {
        let name = shell_quote(&[&*safe_line(given)]);
        let tip = tr!("a name that begins with a dash follows --: `{name}`", name);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
}

/// Prints help, the version, or the error in the arguments.
pub(super) fn print_clap_error(error: &clap::Error) -> ExitCode {
    let printed = print_error(error).and_then(|()| std::io::stdout().flush());
    // The arguments were not parsed, so look for `--json` in their text.
    let for_programs = || std::env::args_os().take_while(|argument| argument != "--").any(|word| word == "--json");
    if error.use_stderr() && for_programs() {
        let options = OutputOptions { json: true, quiet: false, plain: false, color: ColorChoice::Never };
        let (output, message) = (CommandOutput::new(options), in_english(|| error_reason(error)));
        let message = message.lines().next().unwrap_or_default();
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
