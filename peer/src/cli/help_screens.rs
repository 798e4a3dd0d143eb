//! The help of each command: one screen for `-h` and `--help`, all of it for `peer help COMMAND` and the man pages.
//!
//! The options that all commands have fill a screen by themselves, so only the help of `peer` shows them.

use clap::{Arg, ArgAction};

/// Examples on the screen: the first of the command's.
const EXAMPLES_SHOWN: usize = 2;

/// Makes the help of each command of the program fit one screen.
pub(super) fn one_screen_each(program: clap::Command) -> clap::Command {
    let program = program.mut_args(|arg| if arg.is_global_set() { arg.hide_short_help(true) } else { arg });
    program.mut_subcommands(|command| one_screen(command, ""))
}

/// Makes the help of a command, and of those below it, fit one screen.
fn one_screen(command: clap::Command, above: &str) -> clap::Command {
    let path = format!("{above}{} ", command.get_name());
    let whole = format!("More: `peer help {}`. The options of all commands: `peer help`.", path.trim_end());
    let shown = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let help = Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::HelpShort)
        .help("Print this help")
        .hide_short_help(true);
    let long = command.get_after_long_help().or(command.get_after_help()).cloned().unwrap_or_default();
    command
        .disable_help_flag(true)
        // `peer help room create` is the one way.
        .disable_help_subcommand(true)
        .after_long_help(long)
        .arg(help)
        .after_help(format!("{}\n{whole}", first_examples(&shown)))
        .mut_subcommands(|command| one_screen(command, &path))
}

/// Returns the heading and the first examples.
fn first_examples(examples: &str) -> String {
    examples.lines().take(1 + EXAMPLES_SHOWN).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::args::command_line;
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
        let examples = text.lines().skip_while(|line| *line != "Examples:").skip(1);
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
        let mut command = command_line();
        command.build();
        let mut faults = Vec::new();
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            check(command, "peer", &mut faults);
        }
        assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    }

    #[test]
    fn both_ways_to_ask_show_the_same_screen() {
        let shown = |word| command_line().try_get_matches_from(["peer", "fetch", word]).unwrap_err().to_string();
        assert_eq!(shown("-h"), shown("--help"));
        let whole = command_line().try_get_matches_from(["peer", "help", "fetch"]).unwrap_err().to_string();
        assert!(whole.contains("Resuming:") && whole.contains("--tracker-key"), "{whole}");
    }
}
