//! Errors in the arguments, help and version as they are printed, in the language of the process.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use localization::{Language, current_language, tr};

/// Prints an error, or the help or version that was asked for.
///
/// # Errors
/// The stream can't be written.
pub fn print_error(error: &clap::Error) -> io::Result<()> {
    if current_language() == Language::English {
        return error.print();
    }
    let text = error_text(error);
    match error.use_stderr() {
        true => write_styled(io::stderr().lock(), io::stderr().is_terminal(), &text),
        false => write_styled(io::stdout().lock(), io::stdout().is_terminal(), &text),
    }
}

/// True if the environment forbids colours. As no-color.org has it, an empty variable counts as none.
pub fn is_color_forbidden() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

fn write_styled(mut stream: impl Write, is_terminal: bool, text: &StyledStr) -> io::Result<()> {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    match is_terminal && !is_color_forbidden() && !dumb {
        true => write!(stream, "{}", text.ansi()),
        false => write!(stream, "{text}"),
    }
}

/// Returns what an error says, without the words around it.
pub fn error_reason(error: &clap::Error) -> String {
    let text = error_text(error).to_string();
    // Further paragraphs are about the command line.
    let first = text.split("\n\n").next().unwrap_or_default();
    let prefix = tr!("error:");
    first.strip_prefix(&*prefix).unwrap_or(first).trim().to_owned()
}

/// Returns an error, or the help or version that was asked for, as text.
pub fn error_text(error: &clap::Error) -> StyledStr {
    if current_language() == Language::English {
        return error.render();
    }
    match described(error) {
        Some(what) => full_text(error, &what).into(),
        // Help, or an error whose text is ours: only the words around it are clap's.
        None => {
            let text = error.render().ansi().to_string();
            let text = text.replacen("error:", &tr!("error:"), usize::from(text.contains("error:") && is_error(error)));
            let text = text.replacen("Usage:", &tr!("Usage:"), 1);
            text.replacen("For more information, try '--help'.", &tr!("For more information, try '--help'."), 1).into()
        }
    }
}

fn is_error(error: &clap::Error) -> bool {
    error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

/// Returns what the error says, with its tips, its usage and the way to the help.
fn full_text(error: &clap::Error, what: &str) -> String {
    let mut text = format!("{} {what}\n", tr!("error:"));
    let tips = tips(error);
    if !tips.is_empty() {
        text.push('\n');
    }
    for tip in tips {
        text.push_str(&format!("  {} {tip}\n", tr!("tip:")));
    }
    if let Some(usage) = error.get(ContextKind::Usage) {
        let usage = usage.to_string();
        text.push_str(&format!("\n{}\n", usage.replacen("Usage:", &tr!("Usage:"), 1).trim_end()));
    }
    text.push_str(&format!("\n{}\n", tr!("For more information, try '--help'.")));
    text
}

/// Returns what is wrong in the words of clap's own errors; `None` for an error with a text of its own.
fn described(error: &clap::Error) -> Option<String> {
    let text = |kind| error.get(kind).map(ToString::to_string);
    let argument = || text(ContextKind::InvalidArg);
    let value = || text(ContextKind::InvalidValue);
    Some(match error.kind() {
        ErrorKind::ArgumentConflict => conflict(error)?,
        ErrorKind::InvalidValue if value()?.is_empty() => {
            tr!("a value is required for '{argument}' but none was supplied", argument = argument()?)
                + &listed(error, ContextKind::ValidValue)
        }
        ErrorKind::InvalidValue => {
            tr!("invalid value '{value}' for '{argument}'", value = value()?, argument = argument()?)
                + &listed(error, ContextKind::ValidValue)
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(|why| reason(&why.to_string()).into_owned())?;
            tr!("invalid value '{value}' for '{argument}': {why}", value = value()?, argument = argument()?, why)
        }
        ErrorKind::UnknownArgument => tr!("unexpected argument '{argument}' found", argument = argument()?),
        ErrorKind::InvalidSubcommand => {
            tr!("unrecognized subcommand '{name}'", name = text(ContextKind::InvalidSubcommand)?)
        }
        ErrorKind::MissingSubcommand => {
            tr!("'{name}' requires a subcommand but one was not provided", name = text(ContextKind::InvalidSubcommand)?)
                + &listed(error, ContextKind::ValidSubcommand)
        }
        ErrorKind::MissingRequiredArgument => {
            let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else { return None };
            let lines: String = missing.iter().map(|name| format!("\n  {name}")).collect();
            tr!("the following required arguments were not provided:") + &lines
        }
        ErrorKind::NoEquals => {
            tr!("equal sign is needed when assigning values to '{argument}'", argument = argument()?)
        }
        ErrorKind::TooManyValues => {
            tr!("unexpected value '{value}' for '{argument}' found", value = value()?, argument = argument()?)
        }
        ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            tr!("wrong number of values for '{argument}'", argument = argument()?)
        }
        _ => return None,
    })
}

fn conflict(error: &clap::Error) -> Option<String> {
    let argument = error.get(ContextKind::InvalidArg).or(error.get(ContextKind::InvalidSubcommand))?.to_string();
    Some(match error.get(ContextKind::PriorArg) {
        Some(ContextValue::String(prior)) if *prior == argument => {
            tr!("the argument '{argument}' cannot be used multiple times", argument)
        }
        Some(ContextValue::String(prior)) => {
            tr!("the argument '{argument}' cannot be used with '{prior}'", argument, prior)
        }
        Some(ContextValue::Strings(prior)) => {
            let lines: String = prior.iter().map(|name| format!("\n  {name}")).collect();
            tr!("the argument '{argument}' cannot be used with:", argument) + &lines
        }
        _ => return None,
    })
}

fn listed(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::Strings(names)) if !names.is_empty() => {
            format!("\n  {}", tr!("[possible values: {names}]", names = names.join(", ")))
        }
        _ => String::new(),
    }
}

fn tips(error: &clap::Error) -> Vec<String> {
    let quoted = |names: &[String]| names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let similar = |kind| match error.get(kind) {
        Some(ContextValue::String(name)) => Some(quoted(std::slice::from_ref(name))),
        Some(ContextValue::Strings(names)) if !names.is_empty() => Some(quoted(names)),
        _ => None,
    };
    let mut tips = Vec::new();
    tips.extend(
        similar(ContextKind::SuggestedSubcommand).map(|names| tr!("there is a similar command: {names}", names)),
    );
    tips.extend(similar(ContextKind::SuggestedArg).map(|names| tr!("there is a similar argument: {names}", names)));
    tips.extend(similar(ContextKind::SuggestedValue).map(|names| tr!("there is a similar value: {names}", names)));
    if let Some(ContextValue::StyledStrs(suggested)) = error.get(ContextKind::Suggested) {
        tips.extend(suggested.iter().map(|tip| translated_tip(&tip.to_string())));
    }
    tips
}

/// Translates a tip of clap's; one of the program is translated already.
fn translated_tip(tip: &str) -> String {
    let as_value = tip.strip_prefix("to pass '").and_then(|rest| rest.split_once("' as a value, use '"));
    match as_value {
        Some((value, line)) => {
            tr!("to pass '{value}' as a value, use '{line}'", value, line = line.trim_end_matches('\''))
        }
        None => tip.to_owned(),
    }
}

/// Translates what the standard library and clap say of a number; a text of the program is translated already.
fn reason(why: &str) -> Cow<'_, str> {
    let translated = match why {
        "invalid digit found in string" => tr!("not a number"),
        "cannot parse integer from empty string" => tr!("a number is missing"),
        "number too large to fit in target type" => tr!("the number is too large"),
        "number too small to fit in target type" => tr!("the number is too small"),
        _ => match why.split_once(" is not in ") {
            Some((number, range)) => tr!("{number} is not in {range}", number, range),
            None => return why.into(),
        },
    };
    translated.into()
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command, value_parser};
    use localization::in_language;

    use super::*;

    fn command() -> Command {
        let level = Arg::new("level").long("level").value_parser(["low", "high"]);
        let count = Arg::new("count").long("count").value_parser(value_parser!(u8).range(1..9)).conflicts_with("level");
        let run = Command::new("run").arg(Arg::new("what").required(true));
        Command::new("it").args([level, count]).subcommand(run).subcommand_required(true)
    }

    #[test]
    fn every_error_is_in_the_language() {
        crate::use_library_translations();
        for (words, said) in [
            ("it", "'it' exige um comando"),
            ("it rum", "não existe o comando 'rum'"),
            ("it rum", "dica:"),
            ("it --level", "falta um valor para '--level <level>'"),
            ("it --level lo run x", "valor inválido 'lo' para '--level <level>'"),
            ("it --level lo run x", "[valores possíveis: low, high]"),
            ("it --count x", "não é um número"),
            ("it --count 10", "10 não está em 1..9"),
            ("it --count 1 --level low run x", "não pode ser usado com '--level <level>'"),
            ("it --count 1 --count 2 run x", "não pode ser usado mais de uma vez"),
            ("it --cont 1", "argumento inesperado '--cont'"),
            ("it --cont 1", "há um argumento parecido: '--count'"),
            ("it run", "faltam argumentos obrigatórios"),
            ("it run x y", "argumento inesperado 'y'"),
            ("it run --x", "para passar '--x' como valor, use '-- --x'"),
        ] {
            let error = command().try_get_matches_from(words.split(' ')).unwrap_err();
            let text = in_language(Language::Portuguese, || error_text(&error)).to_string();
            assert!(text.contains(said), "{words}: {text}");
            assert!(text.starts_with("erro:") && text.contains("tente '--help'"), "{text}");
            for word in ["error", "tip:", "Usage", "For more"] {
                assert!(!text.contains(word), "{words}, {word}: {text}");
            }
            assert_eq!(in_language(Language::English, || error_text(&error)).to_string(), error.to_string());
        }
    }

    #[test]
    fn an_error_with_a_text_of_its_own_keeps_it() {
        crate::use_library_translations();
        let error = command().error(ErrorKind::ValueValidation, "the text\n");
        let text = in_language(Language::Portuguese, || error_text(&error)).to_string();
        assert!(text.starts_with("erro: the text"), "{text}");
    }
}
