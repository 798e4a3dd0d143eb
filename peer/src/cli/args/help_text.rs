//! Texts of the help and of errors that add to clap's own.

use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::CliArgs;

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0 done            3 not logged in, wrong password   8 data was not what it claimed to be
  1 something else  4 user unknown or offline         9 local disk or file
  2 usage           5 that file is not shared        10 the destination exists
                    6 refused by the other side      11 an identity changed
                    7 network, time-out, tracker     12 some of several failed
  129, 130 and 143: the terminal is gone, interrupted, terminated";

pub(super) const FETCH_EXAMPLES: &str = "\
Examples:
  peer fetch bob report.pdf
  peer fetch bob photos/ '*.iso' -o ~/from-bob
  peer fetch bob backup.tar -o - | tar x";

pub(super) const SHARE_EXAMPLES: &str = "\
Examples:
  peer share report.pdf ~/photos
  peer share build/out.iso --as debian.iso";

pub(super) const CHAT_EXAMPLES: &str = "\
Examples:
  peer chat bob
  peer chat bob \"lunch?\"
  uptime | peer chat bob
  peer chat bob \"$(cat letter.txt)\"    all of it as one message, with its blank lines";

/// Commands of other programs with the equivalent of this one.
pub(super) const FOREIGN_COMMANDS: [(&str, &str); 14] = [
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
    ("stop", "peer logout"),
];

/// Adds facts that clap leaves out: the argument that isn't text, or this program's name for a foreign command.
pub(super) fn explain_error(error: clap::Error, args: &[OsString]) -> clap::Error {
    match error.kind() {
        ErrorKind::InvalidUtf8 => {
            let is_wrong = |(_, arg): &(usize, &OsString)| arg.to_str().is_none();
            let Some((number, arg)) = args.iter().enumerate().find(is_wrong) else { return error };
            // Escaped: the bytes may be anything, control codes of the terminal included.
            let shown = arg.as_encoded_bytes().escape_ascii();
            let why = format!(
                "argument {number}, \"{shown}\", is not UTF-8 text: a path may be anything, the rest is text\n"
            );
            CliArgs::command().error(ErrorKind::InvalidUtf8, why)
        }
        ErrorKind::InvalidSubcommand => {
            let Some(ContextValue::String(tried)) = error.get(ContextKind::InvalidSubcommand) else { return error };
            let Some((_, ours)) = FOREIGN_COMMANDS.iter().find(|(theirs, _)| theirs == tried) else { return error };
            let why = format!("there is no `peer {tried}`: you may mean `{ours}`; `peer --help` lists all commands\n");
            CliArgs::command().error(ErrorKind::InvalidSubcommand, why)
        }
        _ => error,
    }
}
