//! What both programs have in common on their command line: its language, and errors that are safe to print.
//!
//! clap quotes the argument that is wrong, and an argument may hold anything.

#![warn(missing_docs)]

mod command_translation;
mod early_options;
mod error_translation;

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use localization::tr;
use shared::safe_text::{safe_line, safe_styled};

pub use command_translation::{
    TextMapping, VALUE_CONTEXT, map_texts, with_translated_headings, with_translated_texts, with_translated_words,
};
pub use early_options::{chosen_language, early_value, has_early_flag};
pub use error_translation::{error_reason, error_text, is_color_forbidden, print_error};

/// Lets the library crates find their translations.
pub fn use_library_translations() {
    localization::use_catalogue!(&localization::LIBRARY_TEXTS);
    shared::use_translations();
    certs::use_translations();
}

/// Prepares an error for the terminal: what it quotes of `args` is escaped, and an argument that isn't text is named,
/// which clap leaves out.
pub fn safe_error(command: &mut clap::Command, error: clap::Error, args: &[OsString]) -> clap::Error {
    let not_text = || args.iter().enumerate().find(|(_, arg)| arg.to_str().is_none());
    match error.kind() {
        ErrorKind::InvalidUtf8 if let Some((number, arg)) = not_text() => {
            // Escaped as bytes: no character stands for those that are not UTF-8.
            let shown = arg.as_encoded_bytes().escape_ascii();
            let why = tr!(
                "argument {number}, \"{shown}\", is not UTF-8 text: a path may be anything, the rest is text",
                number,
                shown
            );
            command.error(ErrorKind::InvalidUtf8, why + "\n")
        }
        _ => escape_quotes(error),
    }
}

fn escape_quotes(mut error: clap::Error) -> clap::Error {
    let safe = |(kind, value): (ContextKind, &ContextValue)| {
        let value = match value {
            ContextValue::String(text) => ContextValue::String(safe_line(text).into_owned()),
            ContextValue::Strings(texts) => {
                ContextValue::Strings(texts.iter().map(|text| safe_line(text).into_owned()).collect())
            }
            // Tips repeat the argument as well: "to pass 'X' as a value, use '-- X'".
            ContextValue::StyledStrs(tips) => ContextValue::StyledStrs(tips.iter().map(safe_tip).collect()),
            _ => return None,
        };
        Some((kind, value))
    };
    for (kind, value) in error.context().filter_map(safe).collect::<Vec<_>>() {
        error.insert(kind, value);
    }
    error
}

/// Escapes a tip, which is one line with colours of clap's.
fn safe_tip(tip: &StyledStr) -> StyledStr {
    // `safe_styled` lets line breaks pass, with which an argument could forge a line of ours.
    safe_styled(&tip.ansi().to_string()).replace('\n', "␊").into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use clap::{Arg, Command, value_parser};

    use super::*;

    const TRICKS: &str = "\u{1b}]0;x\u{7}\u{1b}[2J\r\nerror: no\u{202e}";

    fn command() -> Command {
        let level = Arg::new("level").long("level").value_parser(["low", "high"]);
        let count = Arg::new("count").long("count").value_parser(value_parser!(u8));
        Command::new("it").args([level, count]).subcommand(Command::new("run").arg(Arg::new("what")))
    }

    fn refusal(args: &[OsString]) -> String {
        let words = [OsString::from("it")].into_iter().chain(args.iter().cloned());
        let error = command().try_get_matches_from(words.clone()).unwrap_err();
        safe_error(&mut command(), error, &words.collect::<Vec<_>>()).render().ansi().to_string()
    }

    #[test]
    fn no_argument_controls_the_terminal() {
        let words =
            |words: &[&str]| -> Vec<OsString> { words.iter().map(|word| word.replace('@', TRICKS).into()).collect() };
        for args in [
            words(&["@"]),
            words(&["--@"]),
            words(&["-@"]),
            words(&["--level", "@"]),
            words(&["--level=@"]),
            words(&["--count", "@"]),
            words(&["--level", "low", "--level@"]),
            words(&["run", "--@"]),
            words(&["run", "x", "@"]),
            words(&["run", "x", "--help=@"]),
        ] {
            let said = refusal(&args);
            assert_eq!(safe_styled(&said), said, "{args:?}");
            assert!(said.contains('␛'), "{args:?}: {said:?}");
            assert!(!said.lines().any(|line| line.starts_with("error: no")), "{args:?}: {said}");
        }
    }

    #[test]
    fn an_argument_that_is_not_text_is_named() {
        let said = refusal(&["--level".into(), OsString::from_vec(b"\xff\x1b[2J".to_vec())]);
        assert!(said.contains("argument 2, \"\\xff\\x1b[2J\", is not UTF-8 text"), "{said:?}");
    }
}
