//! The command line in Portuguese: the texts of the program by its catalogue, clap's own words by ours.

use clap::builder::{PossibleValue, StyledStr};
use clap::{Arg, ArgAction, Command};
use localization::{Catalogue, Language, current_language, tr};

/// The context of names of values, such as `USER` in a usage line.
pub const VALUE_CONTEXT: &str = "value";

/// The heading of examples below the options; the commands under it are the same in each language.
const EXAMPLES: &str = "Examples:";

/// Below those that a program orders itself.
const LAST: usize = 999;

/// Takes a context and an English text, and returns the translation.
pub type TextMapping<'a> = dyn FnMut(Option<&'static str>, &str) -> String + 'a;

/// Translates the texts of a command and of those below it, if the language isn't English.
///
/// Whatever completes the texts afterwards has to translate by itself, and [`with_translated_words`] comes last.
pub fn with_translated_texts(command: Command, texts: &Catalogue) -> Command {
    match current_language() {
        Language::English => command,
        Language::Portuguese => {
            let mut find =
                |context: Option<&'static str>, text: &str| texts.find(context, text).unwrap_or(text).to_owned();
            map_texts(command, &mut find)
        }
    }
}

/// Puts other texts in place of those of a command and of those below it.
pub fn map_texts(command: Command, map: &mut TextMapping<'_>) -> Command {
    let about = command.get_about().map(|text| map(None, &text.to_string()));
    let long_about = command.get_long_about().map(|text| map_long(&text.to_string(), command.get_about(), map));
    let after = command.get_after_help().map(|text| map_paragraphs(&text.to_string(), map));
    let after_long = command.get_after_long_help().map(|text| map_paragraphs(&text.to_string(), map));
    let heading = command.get_subcommand_help_heading().map(|text| map(None, text));
    let mut command = command.mut_args(|arg| map_argument(arg, map)).mut_subcommands(|command| map_texts(command, map));
    if let Some(about) = about {
        command = command.about(about);
    }
    if let Some(about) = long_about {
        command = command.long_about(about);
    }
    if let Some(after) = after {
        command = command.after_help(after);
    }
    if let Some(after) = after_long {
        command = command.after_long_help(after);
    }
    match heading {
        Some(heading) => command.subcommand_help_heading(heading),
        None => command,
    }
}

fn map_argument(arg: Arg, map: &mut TextMapping<'_>) -> Arg {
    let help = arg.get_help().map(|text| map(None, &text.to_string()));
    let long_help = arg.get_long_help().map(|text| map_long(&text.to_string(), arg.get_help(), map));
    let heading = arg.get_help_heading().map(|text| map(None, text));
    // Flags have names as well, which are never shown.
    let names: Option<Vec<String>> = arg
        .get_value_names()
        .filter(|_| arg.get_action().takes_values())
        .map(|names| names.iter().map(|name| map(Some(VALUE_CONTEXT), name)).collect());
    for value in arg.get_possible_values() {
        // Shown by `with_translated_words`, which finds it by itself.
        let _ = value.get_help().map(|text| map(None, &text.to_string()));
    }
    let mut arg = arg;
    if let Some(help) = help {
        arg = arg.help(help);
    }
    if let Some(help) = long_help {
        arg = arg.long_help(help);
    }
    if let Some(heading) = heading {
        arg = arg.help_heading(heading);
    }
    match names {
        Some(names) => arg.value_names(names),
        None => arg,
    }
}

/// Maps a long text, whose first paragraph is usually the short text and a full stop.
fn map_long(long: &str, short: Option<&StyledStr>, map: &mut TextMapping<'_>) -> String {
    let short = short.map(ToString::to_string).unwrap_or_default();
    let paragraphs = long.split("\n\n").map(|paragraph| match paragraph.strip_suffix('.') {
        Some(same) if same == short => map(None, same) + ".",
        _ => map(None, paragraph),
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

fn map_paragraphs(text: &str, map: &mut TextMapping<'_>) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| match paragraph.strip_prefix(EXAMPLES) {
        Some(commands) if commands.starts_with('\n') => map(None, EXAMPLES) + commands,
        _ => map(None, paragraph),
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Puts Portuguese in place of the words that clap adds to help by itself, if that is the language. The command is built
/// then.
pub fn with_translated_words(command: Command, texts: &Catalogue) -> Command {
    if current_language() == Language::English {
        return command;
    }
    let mut command = with_translated_headings(command, texts);
    command.build();
    translate_usage(&mut command);
    command
}

/// Like [`with_translated_words`], for what describes a command line without running it: it is not built.
pub fn with_translated_headings(command: Command, texts: &Catalogue) -> Command {
    if current_language() == Language::English {
        return command;
    }
    let mut command = with_own_flags(command);
    let (options, arguments) = (tr!("Options"), tr!("Arguments"));
    let mut place = 0;
    command = command.mut_args(|arg| {
        let arg = match (arg.get_help_heading(), arg.is_positional()) {
            (Some(_), _) => arg,
            // Below a heading of its own, clap would put them in the order of their names.
            (None, true) => {
                place += 1;
                arg.help_heading(arguments.clone()).display_order(place)
            }
            (None, false) => arg.help_heading(options.clone()),
        };
        with_translated_hints(arg, texts)
    });
    // Headings stand in the order in which their arguments do; clap's own have a fixed one.
    let named: Vec<_> =
        command.get_arguments().filter(|arg| !arg.is_positional()).map(|arg| arg.get_id().clone()).collect();
    for id in named {
        // Moves the argument to the end.
        command = command.mut_arg(id.as_str(), |arg| arg);
    }
    if command.get_subcommand_help_heading().is_none() {
        command = command.subcommand_help_heading(tr!("Commands"));
    }
    command
        .subcommand_value_name(tr!("value" => "COMMAND"))
        .mut_subcommands(|command| with_translated_headings(command, texts))
}

/// Adds the flags that clap would add, with translated help.
fn with_own_flags(mut command: Command) -> Command {
    // Explicit: else they would have the heading of the arguments before them.
    let heading = tr!("Options");
    if !command.is_disable_help_flag_set() {
        let help = Arg::new("help")
            .short('h')
            .long("help")
            .action(ArgAction::Help)
            .display_order(LAST)
            .help_heading(heading.clone());
        command = command.disable_help_flag(true).arg(help.help(tr!("Print help; --help prints more than -h")));
    }
    if command.get_version().is_some() && !command.is_disable_version_flag_set() {
        let version = Arg::new("version")
            .short('V')
            .long("version")
            .action(ArgAction::Version)
            .display_order(LAST)
            .help_heading(heading);
        command = command.disable_version_flag(true).arg(version.help(tr!("Print version")));
    }
    command.mut_args(|arg| match arg.get_action() {
        // That of a program, whose text is one of clap's.
        ArgAction::HelpShort if arg.get_id() == "help" => arg.help(tr!("Print this help")),
        _ => arg,
    })
}

/// Adds to the help of an argument what clap would add: its variable, its default and its possible values.
fn with_translated_hints(arg: Arg, texts: &Catalogue) -> Arg {
    let takes_values = arg.get_action().takes_values();
    let mut hints = Vec::new();
    if let Some(variable) = arg.get_env().filter(|_| !arg.is_hide_env_set()) {
        hints.push(tr!("[env: {variable}]", variable = variable.to_string_lossy()));
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes_values && !defaults.is_empty() && !arg.is_hide_default_value_set() {
        hints.push(tr!("[default: {value}]", value = defaults.join(", ")));
    }
    let values: Vec<PossibleValue> = match takes_values && !arg.is_hide_possible_values_set() {
        true => arg.get_possible_values().into_iter().filter(|value| !value.is_hide_set()).collect(),
        false => Vec::new(),
    };
    let described = values.iter().any(|value| value.get_help().is_some());
    let names: Vec<&str> = values.iter().map(PossibleValue::get_name).collect();
    // A value that is named by what it can be needs no list.
    let is_told = arg.get_value_names().is_some_and(|shown| *shown == [names.join("|")]);
    let named = (!names.is_empty() && !is_told).then(|| tr!("[possible values: {names}]", names = names.join(", ")));
    let short = with_hints(arg.get_help(), hints.iter().chain(&named));
    let long = match described {
        true => {
            let listed: Vec<String> = values.iter().map(|value| described_value(value, texts)).collect();
            let long = with_hints(arg.get_long_help().or(arg.get_help()), &hints);
            Some(format!("{long}\n\n{}\n{}", tr!("Possible values:"), listed.join("\n")))
        }
        false => arg.get_long_help().map(|long| with_hints(Some(long), hints.iter().chain(&named))),
    };
    let arg = arg.hide_env(true).help(short);
    // Meant for values only.
    let arg = if takes_values { arg.hide_default_value(true).hide_possible_values(true) } else { arg };
    match long {
        Some(long) => arg.long_help(long),
        None => arg,
    }
}

fn with_hints<'a>(help: Option<&StyledStr>, hints: impl IntoIterator<Item = &'a String>) -> String {
    let texts = help.map(ToString::to_string).into_iter().chain(hints.into_iter().cloned());
    texts.collect::<Vec<_>>().join(" ")
}

fn described_value(value: &PossibleValue, texts: &Catalogue) -> String {
    let help = value.get_help().map(ToString::to_string);
    match help {
        Some(help) => format!("- {}: {}", value.get_name(), texts.translate(&help)),
        None => format!("- {}", value.get_name()),
    }
}

/// Translates the usage lines of a command that is built, and of those below it.
fn translate_usage(command: &mut Command) {
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim_start().replace("[OPTIONS]", &tr!("[OPTIONS]"));
    // clap's setters take a command by value, and here it is borrowed.
    let mut translated = std::mem::take(command).override_usage(usage);
    if translated.get_name() == "help" {
        translated = translated.about(tr!("Print this message or the help of a command"));
    }
    translated.get_subcommands_mut().for_each(translate_usage);
    *command = translated;
}

#[cfg(test)]
mod tests {
    use localization::in_language;

    use super::*;

    fn program() -> Command {
        let level = Arg::new("level").long("level").value_name("LEVEL").default_value("low").help("How much");
        let level = level.value_parser([PossibleValue::new("low").help("Little"), PossibleValue::new("high")]);
        let (what, how) = (Arg::new("what").help("The thing"), Arg::new("how"));
        let run = Command::new("run").about("Run it").args([level, what, how]);
        let run = run.after_help("Examples:\n  it run\n\nMore words.");
        Command::new("it").about("A program").long_about("A program.\n\nIt runs.").version("1").subcommand(run)
    }

    fn help_in(language: Language, args: &[&str]) -> String {
        static NONE: Catalogue = Catalogue::new(&[]);
        crate::use_library_translations();
        in_language(language, || {
            let command = with_translated_words(with_translated_texts(program(), &NONE), &NONE);
            let error = command.try_get_matches_from(args).unwrap_err();
            crate::error_text(&error).to_string()
        })
    }

    #[test]
    fn every_text_is_mapped_once_for_each_place() {
        let mut texts = Vec::new();
        let mapped = map_texts(program(), &mut |context, text| {
            texts.push((context, text.to_owned()));
            text.to_uppercase()
        });
        let plain = |text: &str| (None, text.to_owned());
        let expected = [
            plain("A program"),
            plain("A program"),
            plain("It runs."),
            plain("Run it"),
            plain("Examples:"),
            plain("More words."),
            plain("How much"),
            (Some(VALUE_CONTEXT), "LEVEL".to_owned()),
            plain("Little"),
            plain("The thing"),
        ];
        assert_eq!(texts, expected);
        assert_eq!(mapped.get_long_about().unwrap().to_string(), "A PROGRAM.\n\nIT RUNS.");
        let run = mapped.find_subcommand("run").unwrap();
        assert_eq!(run.get_after_help().unwrap().to_string(), "EXAMPLES:\n  it run\n\nMORE WORDS.");
    }

    #[test]
    fn no_word_of_claps_is_left() {
        for args in [
            &["it", "-h"] as &[&str],
            &["it", "--help"],
            &["it", "run", "-h"],
            &["it", "run", "--help"],
            &["it", "help", "run"],
        ] {
            let translated = help_in(Language::Portuguese, args);
            for word in ["Usage", "Options:", "[OPTIONS]", "COMMAND", "Print", "default", "Possible", "Arguments"] {
                assert!(!translated.contains(word), "{word}: {translated}");
            }
            assert!(help_in(Language::English, args).contains("Usage:"));
        }
        let long = help_in(Language::Portuguese, &["it", "run", "--help"]);
        assert!(long.contains("How much [padrão: low]") && long.contains("- low: Little"), "{long}");
        let order = ["Argumentos:", "[what]", "[how]", "Opções:"].map(|word| long.rfind(word));
        assert!(order.is_sorted() && order.iter().all(Option::is_some), "{long}");
    }
}
