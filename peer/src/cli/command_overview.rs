//! The commands of the program in groups: their names on the one screen of `peer --help`, with a line each in `peer help`.

use localization::tr;

use crate::ui::wrap_text;

/// A heading, and the commands below it.
type CommandGroup = (String, &'static [&'static str]);

fn command_groups() -> [CommandGroup; 6] {
    [
        (tr!("Account"), &["register", "login", "passwd", "logout", "whoami", "profile", "config"]),
        (
            tr!("node of a user" => "Node"),
            &["serve", "stop", "ui", "web", "link", "events", "notify", "doctor", "completions"],
        ),
        (
            tr!("People"),
            &["list", "chat", "history", "inbox", "outbox", "mute", "unmute", "block", "unblock", "trust", "verify"],
        ),
        (tr!("Rooms"), &["room", "rooms"]),
        (tr!("Files"), &["share", "unshare", "shares", "find", "files", "fetch", "follows", "wish", "wishes"]),
        (tr!("Sending"), &["send", "sends", "offer", "clip", "accept", "accepts"]),
    ]
}

/// Columns of the headings, and of the names of commands.
const HEADING_COLUMNS: usize = 9;
const NAME_COLUMNS: usize = 11;
pub(super) const SCREEN_COLUMNS: usize = 80;

/// Returns the groups that have commands, each with its commands, and last those that are in no group.
fn grouped(program: &clap::Command) -> Vec<(String, Vec<&clap::Command>)> {
    let groups = command_groups();
    let all = || program.get_subcommands().filter(|command| command.get_name() != "help");
    let find = |name: &&str| all().find(|command| command.get_name() == *name);
    let is_grouped = |name: &str| groups.iter().any(|(_, names)| names.contains(&name));
    // A command that no group names is still found.
    let rest: Vec<&clap::Command> = all().filter(|command| !is_grouped(command.get_name())).collect();
    let groups = groups.iter().map(|(heading, names)| (heading.clone(), names.iter().filter_map(find).collect()));
    let rest = (tr!("heading of commands" => "Further"), rest);
    groups.chain([rest]).filter(|(_, commands): &(_, Vec<_>)| !commands.is_empty()).collect()
}

/// Returns a line for each group, with the names of its commands.
pub(super) fn command_names(program: &clap::Command) -> String {
    let mut text = String::new();
    for (heading, commands) in grouped(program) {
        let mut line = format!("{heading:HEADING_COLUMNS$}");
        for command in commands {
            let name = command.get_name();
            if line.len() + 1 + name.len() > SCREEN_COLUMNS {
                text.push_str(&line);
                text.push('\n');
                line = " ".repeat(HEADING_COLUMNS);
            }
            line.push(' ');
            line.push_str(name);
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Returns a paragraph for each group, with a line for each of its commands.
pub(super) fn described_commands(program: &clap::Command) -> String {
    let paragraph = |(heading, commands): (String, Vec<&clap::Command>)| {
        let lines: Vec<String> = commands
            .iter()
            .map(|command| {
                let about = command.get_about().map(ToString::to_string).unwrap_or_default();
                let indent = 2 + NAME_COLUMNS + 1;
                let rows = wrap_text(&about, SCREEN_COLUMNS - indent);
                let about =
                    rows.iter().map(|row| row.trim_end()).collect::<Vec<_>>().join(&format!("\n{:indent$}", ""));
                format!("  {:NAME_COLUMNS$} {about}", command.get_name())
            })
            .collect();
        format!("{heading}:\n{}", lines.join("\n"))
    };
    grouped(program).into_iter().map(paragraph).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::super::args::command_line;
    use super::*;

    #[test]
    fn each_name_in_a_group_is_a_command() {
        let program = command_line();
        for name in command_groups().iter().flat_map(|(_, names)| *names) {
            assert!(program.find_subcommand(name).is_some(), "{name}");
        }
    }
}
