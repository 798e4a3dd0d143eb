//! The help of the program and of each command: one screen for `-h` and `--help`, all of it for `peer help`,
//! `peer help COMMAND` and the man pages.
//!
//! The options that all commands have fill a screen by themselves, so only `peer help` shows them.

use clap::{Arg, ArgAction};
use localization::tr;

use super::command_overview::{SCREEN_COLUMNS, command_names, described_commands};
use crate::ui::wrap_text;

/// The short help ends with what both forms have; the long one adds the options behind the rest.
const PROGRAM_TEMPLATE: &str = "{about-with-newline}\n{usage-heading} {usage}{after-help}\n{options}";

/// Examples on the screen: the first of the command's.
const EXAMPLES_SHOWN: usize = 2;

/// Makes the help of the program and of each of its commands fit one screen.
pub(super) fn one_screen_each(program: clap::Command) -> clap::Command {
    let program = program.mut_args(|arg| if arg.is_global_set() { arg.hide_short_help(true) } else { arg });
    let (names, described) = (command_names(&program), described_commands(&program));
    let long = program.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    // Instead of clap's own flags, whose help is in English only.
    let version = Arg::new("version").short('V').long("version").action(ArgAction::Version);
    program
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(help_arg())
        .arg(version.help(tr!("Print the version")).hide_short_help(true))
        .help_template(PROGRAM_TEMPLATE)
        .after_help(format!("{names}\n{}", program_screen()))
        .after_long_help(format!("{described}\n\n{long}\n\n{}", tr!("Options of all commands:")))
        .mut_subcommands(|command| one_screen(command, "", ""))
}

/// Returns what the screen of the program has below its commands.
fn program_screen() -> String {
    let codes = tr!(
        "Exit codes: 0 done, 1 something else, 2 usage, 3 not logged in, 4 user unknown or offline, 5 not shared, \
         6 refused, 7 network or tracker, 8 wrong data, 9 disk, 10 exists, 11 an identity changed, 12 some failed, \
         130 interrupted"
    );
    let codes = wrap_text(&codes, SCREEN_COLUMNS - 2);
    let codes = codes.iter().map(|row| row.trim_end()).collect::<Vec<_>>().join("\n  ");
    let (examples, more) = (tr!("Examples:"), tr!("`peer COMMAND --help` explains a command, `peer help` the rest."));
    format!(
        "{examples}\n  peer register bob\n  peer share report.pdf ~/photos\n  peer fetch bob report.pdf\n\n\
         {codes}\n\n{more}"
    )
}

/// Returns the option that shows the screen, in both its forms.
fn help_arg() -> Arg {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort);
    help.help(tr!("Print this help")).hide_short_help(true)
}

/// Makes the help of a command, and of those below it, fit one screen. One without examples has those of the command
/// above it.
fn one_screen(command: clap::Command, above: &str, examples: &str) -> clap::Command {
    let path = format!("{above}{} ", command.get_name());
    let whole =
        tr!("More: `peer help {command}`. The options of all commands: `peer help`.", command = path.trim_end());
    let shown = command.get_after_help().map_or_else(|| examples.to_owned(), ToString::to_string);
    let long = command.get_after_long_help().or(command.get_after_help()).cloned().unwrap_or_default();
    command
        .disable_help_flag(true)
        // `peer help room create` is the one way.
        .disable_help_subcommand(true)
        .after_long_help(long)
        .arg(help_arg())
        .after_help(format!("{}\n{whole}", first_examples(&shown)))
        .mut_subcommands(|command| one_screen(command, &path, &shown))
}

/// Returns the heading and the first examples.
fn first_examples(examples: &str) -> String {
    examples.lines().take(1 + EXAMPLES_SHOWN).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use arguments::{error_text, with_translated_words};
    use localization::{Language, in_language, tr};

    use super::super::args::{CliArgs, command_line};
    use super::super::translations::{TEXTS, use_translations};
    use super::EXAMPLES_SHOWN;

    /// Lines of a terminal of 24 rows that are left when the prompt has its own.
    const ROWS: usize = 23;
    const COLUMNS: usize = 80;

    fn check(command: &clap::Command, above: &str, faults: &mut Vec<String>) {
        let path = format!("{above} {}", command.get_name());
        let text = command.clone().term_width(COLUMNS).render_help().to_string();
        let rows = text.lines().count();
        if rows > ROWS {
            faults.push(format!("{path} has {rows} lines:\n{text}"));
        }
        faults.extend(
            text.lines()
                .filter(|line| line.chars().count() > COLUMNS)
                .map(|line| format!("{path} is too wide: {line}")),
        );
        let examples = text.lines().skip_while(|line| *line != tr!("Examples:")).skip(1);
        let count = examples.take_while(|line| line.starts_with("  ")).filter(|line| line.contains("peer ")).count();
        if count != EXAMPLES_SHOWN {
            faults.push(format!("{path} shows {count} examples, not {EXAMPLES_SHOWN}"));
        }
        command.get_subcommands().filter(|command| command.get_name() != "help").for_each(|command| {
            check(command, &path, faults);
        });
    }

    #[test]
    fn the_help_of_each_command_is_one_screen_with_two_examples() {
        use_translations();
        for language in Language::ALL {
            let faults = in_language(language, || {
                let mut command = with_translated_words(command_line(), &TEXTS);
                command.build();
                let mut faults = Vec::new();
                for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
                    check(command, "peer", &mut faults);
                }
                faults
            });
            assert!(faults.is_empty(), "{}", faults.join("\n\n"));
        }
    }

    #[test]
    fn the_help_of_the_program_is_one_screen_with_every_command() {
        let shown =
            |args: &[&str]| command_line().term_width(COLUMNS).try_get_matches_from(args).unwrap_err().to_string();
        let screen = shown(&["peer", "--help"]);
        assert_eq!(screen, shown(&["peer", "-h"]));
        assert!(screen.lines().count() <= ROWS, "it has {} lines:\n{screen}", screen.lines().count());
        assert!(screen.lines().all(|line| line.chars().count() <= COLUMNS), "{screen}");
        let whole = shown(&["peer", "help"]);
        assert!(
            whole.contains("--tracker-key") && whole.contains("VIZINHO_HOME") && whole.contains("129, 130"),
            "{whole}"
        );
        for command in command_line().get_subcommands().filter(|command| command.get_name() != "help") {
            let name = command.get_name();
            let count = screen.lines().take_while(|line| *line != "Examples:").flat_map(str::split_whitespace);
            assert_eq!(count.filter(|word| *word == name).count(), 1, "{name} in:\n{screen}");
            assert!(whole.contains(&format!("  {name} ")), "{name} in:\n{whole}");
        }
    }

    #[test]
    fn both_ways_to_ask_show_the_same_screen() {
        use_translations();
        let shown = |words: &[&str]| error_text(&CliArgs::read(words, false).unwrap_err()).to_string();
        for (language, word) in [(Language::English, "Resuming:"), (Language::Portuguese, "Retomada:")] {
            in_language(language, || {
                assert_eq!(shown(&["peer", "fetch", "-h"]), shown(&["peer", "fetch", "--help"]));
                let whole = shown(&["peer", "help", "fetch"]);
                assert!(whole.contains(word) && whole.contains("--tracker-key"), "{whole}");
            });
        }
    }
}
