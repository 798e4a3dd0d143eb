//! Parser for the input line: a message, or a command that begins with `/`. Pure.

use std::path::PathBuf;

use localization::tr;
use shared::limits::MAX_ROOM_TOPIC_BYTES;
use shared::{RoomTopic, UserName};
use unicode_width::UnicodeWidthStr;

use super::human_format::parse_age;
use crate::engine::chat::ConversationName;
use crate::util::shell_words::split_words;

/// Messages shown by `/history` without an argument.
const DEFAULT_MESSAGES_BACK: usize = 50;
/// Messages shown by one `/history`, at most.
pub(super) const MAX_MESSAGES_BACK: usize = 1000;

/// A command of the input line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SlashCommand {
    Who,
    Search(String),
    /// `/history`: older messages.
    History(HistoryRange),
    Quit,
    Help,
    /// `/mute` with true, `/unmute`.
    Mute(bool),
    Files(FileSlashCommand),
    Person(PersonCommand),
    Room(RoomSlashCommand),
}

/// A command about the files of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileSlashCommand {
    /// `/get`: by number or name; `None`: the latest offer.
    Get(Option<String>),
    /// `/offer`: to the other user, or to the room.
    Offer(Vec<PathBuf>),
    /// `/files`: the shares with this prefix.
    List(String),
    /// `/stop`: by number or name; `None`: the only download.
    Stop(Option<String>),
}

/// A command about the other user of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PersonCommand {
    Accept,
    Ignore,
    Unignore,
}

/// A command about the room of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RoomSlashCommand {
    Members,
    Invite(UserName),
    Kick(UserName),
    /// `None` shows the topic.
    Topic(Option<RoomTopic>),
    Leave,
}

/// The range of a `/history`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HistoryRange {
    /// The number of messages.
    Messages(usize),
    /// The age in milliseconds.
    Age(i64),
}

/// A parsed input line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ParsedLine {
    Empty,
    Text(String),
    Command(SlashCommand),
    /// Holds the error message.
    Invalid(String),
}

/// A command's name, the name with its argument, and its help text.
pub(super) type CommandEntry = (&'static str, String, String);

/// Narrowest column of commands and keys in help.
const MIN_HELP_HEAD_COLUMNS: usize = 16;

/// Returns the commands of a conversation.
pub(super) fn slash_commands(with: &ConversationName) -> Vec<CommandEntry> {
    match with {
        ConversationName::Person(_) => person_commands(),
        ConversationName::Room(_) => room_commands(),
    }
}

fn person_commands() -> Vec<CommandEntry> {
    vec![
        ("/get", tr!("/get N|NAME"), tr!("fetch a file that was offered or listed")),
        ("/stop", tr!("/stop [N|NAME]"), tr!("stop a download; /get resumes it")),
        ("/offer", tr!("/offer PATH…"), tr!("offer a file to this person alone")),
        ("/files", tr!("/files [START]"), tr!("list what this person shares")),
        ("/who", "/who".to_owned(), tr!("show who is online")),
        ("/search", tr!("/search WORDS"), tr!("search messages")),
        ("/history", tr!("/history [N|AGE]"), tr!("show older messages: a number of them, or 2d")),
        ("/accept", "/accept".to_owned(), tr!("accept this person's messages; an answer does, too")),
        ("/ignore", "/ignore".to_owned(), tr!("ignore this person (same as `peer block`)")),
        ("/unignore", "/unignore".to_owned(), tr!("no longer ignore this person")),
        ("/mute", "/mute".to_owned(), tr!("let this person's messages not ring")),
        ("/unmute", "/unmute".to_owned(), tr!("let them ring again")),
        ("/help", "/help".to_owned(), tr!("/help" => "this")),
        ("/quit", "/quit".to_owned(), tr!("leave; so does Ctrl-D")),
    ]
}

fn room_commands() -> Vec<CommandEntry> {
    vec![
        ("/members", "/members".to_owned(), tr!("show who is in the room")),
        ("/topic", tr!("/topic [TEXT]"), tr!("show or set the topic")),
        ("/invite", tr!("/invite USER"), tr!("let somebody join")),
        ("/kick", tr!("/kick USER"), tr!("send a member away")),
        ("/get", tr!("/get N|NAME"), tr!("fetch a file of the room")),
        ("/stop", tr!("/stop [N|NAME]"), tr!("stop a download; /get resumes it")),
        ("/offer", tr!("/offer PATH…"), tr!("share a file with the room alone, and say so")),
        ("/files", tr!("/files [START]"), tr!("list what members who are online share with the room")),
        ("/mute", "/mute".to_owned(), tr!("let no message of this room ring")),
        ("/unmute", "/unmute".to_owned(), tr!("let messages with @you ring again")),
        ("/leave", "/leave".to_owned(), tr!("leave the room; /quit only closes the view")),
        ("/who", "/who".to_owned(), tr!("show who is online")),
        ("/search", tr!("/search WORDS"), tr!("search messages")),
        ("/history", tr!("/history [N|AGE]"), tr!("show older messages: a number of them, or 2d")),
        ("/help", "/help".to_owned(), tr!("/help" => "this")),
        ("/quit", "/quit".to_owned(), tr!("close the view; so does Ctrl-D")),
    ]
}

/// Returns rows of help: keys or commands in a column, and behind it what they do.
pub(super) fn help_rows(entries: &[(String, String)]) -> Vec<String> {
    let longest = entries.iter().map(|(head, _)| head.width()).max().unwrap_or_default();
    let columns = longest.max(MIN_HELP_HEAD_COLUMNS);
    entries.iter().map(|(head, what)| format!("{head}{} {what}", " ".repeat(columns - head.width()))).collect()
}

/// Parses a name, which may contain blanks. Shell quoting applies only if it begins with a quote.
fn parse_name(rest: &str) -> Option<String> {
    let is_quoted = rest.starts_with(['\'', '"']);
    let mut words = if is_quoted { split_words(rest) } else { Vec::new() };
    // More than one word after a quoted one: the quotes are part of the name.
    let quoted = words.pop().filter(|_| words.is_empty()).map(|word| word.text);
    Some(quoted.unwrap_or_else(|| rest.to_owned())).filter(|name| !name.is_empty())
}

/// Parses `line`; a leading `//` stands for a message that begins with `/`.
pub(super) fn parse_line(line: &str) -> ParsedLine {
    let text = line.trim();
    if text.is_empty() {
        return ParsedLine::Empty;
    }
    if let Some(literal) = text.strip_prefix("//") {
        return ParsedLine::Text(format!("/{literal}"));
    }
    if !text.starts_with('/') {
        // Leading blanks stay: they may be an indentation.
        return ParsedLine::Text(line.trim_end().to_owned());
    }
    let (command, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    ParsedLine::Command(match command {
        "/who" => SlashCommand::Who,
        "/search" if rest.is_empty() => return ParsedLine::Invalid(tr!("{command} needs words to look for", command)),
        "/search" => SlashCommand::Search(rest.to_owned()),
        "/history" => match parse_history_range(rest) {
            Some(back) => SlashCommand::History(back),
            None => {
                return ParsedLine::Invalid(tr!(
                    "{command} needs a number of messages, or an age such as 12h or 2d",
                    command
                ));
            }
        },
        "/quit" | "/exit" => SlashCommand::Quit,
        "/help" => SlashCommand::Help,
        "/get" => SlashCommand::Files(FileSlashCommand::Get(parse_name(rest))),
        "/offer" => {
            let paths: Vec<PathBuf> = split_words(rest).into_iter().map(|word| PathBuf::from(word.text)).collect();
            if paths.is_empty() {
                return ParsedLine::Invalid(tr!("{command} needs the path of a file", command));
            }
            SlashCommand::Files(FileSlashCommand::Offer(paths))
        }
        "/files" => SlashCommand::Files(FileSlashCommand::List(rest.to_owned())),
        "/stop" => SlashCommand::Files(FileSlashCommand::Stop(parse_name(rest))),
        "/accept" => SlashCommand::Person(PersonCommand::Accept),
        "/ignore" => SlashCommand::Person(PersonCommand::Ignore),
        "/unignore" => SlashCommand::Person(PersonCommand::Unignore),
        "/members" => SlashCommand::Room(RoomSlashCommand::Members),
        "/invite" | "/kick" => {
            // In messages people are called by `@`: whoever types it here as well means the same.
            let Ok(user) = rest.trim_start_matches('@').parse() else {
                return ParsedLine::Invalid(tr!("{command} needs the name of one user", command));
            };
            let is_invitation = command == "/invite";
            let about = if is_invitation { RoomSlashCommand::Invite } else { RoomSlashCommand::Kick };
            SlashCommand::Room(about(user))
        }
        "/topic" if rest.is_empty() => SlashCommand::Room(RoomSlashCommand::Topic(None)),
        "/topic" => match rest.parse() {
            Ok(topic) => SlashCommand::Room(RoomSlashCommand::Topic(Some(topic))),
            Err(_) => {
                let limit = MAX_ROOM_TOPIC_BYTES;
                return ParsedLine::Invalid(tr!("{command} needs one line of at most {limit} bytes", command, limit));
            }
        },
        "/mute" => SlashCommand::Mute(true),
        "/unmute" => SlashCommand::Mute(false),
        "/leave" => SlashCommand::Room(RoomSlashCommand::Leave),
        other => {
            return ParsedLine::Invalid(tr!(
                "there is no {command}: /help shows what there is, // says a line with /",
                command = other
            ));
        }
    })
}

fn parse_history_range(text: &str) -> Option<HistoryRange> {
    if text.is_empty() {
        return Some(HistoryRange::Messages(DEFAULT_MESSAGES_BACK));
    }
    match text.parse::<usize>() {
        Ok(count) => (count > 0).then(|| HistoryRange::Messages(count.min(MAX_MESSAGES_BACK))),
        Err(_) => parse_age(text).ok().map(HistoryRange::Age),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> ParsedLine {
        ParsedLine::Text(text.to_owned())
    }

    fn files(command: FileSlashCommand) -> ParsedLine {
        ParsedLine::Command(SlashCommand::Files(command))
    }

    #[test]
    fn lines_mean() {
        assert_eq!(parse_line("  \n "), ParsedLine::Empty);
        assert_eq!(parse_line("hi there "), text("hi there"));
        assert_eq!(parse_line("  indented"), text("  indented"));
        assert_eq!(parse_line("//etc/hosts"), text("/etc/hosts"));
        assert_eq!(parse_line("/get"), files(FileSlashCommand::Get(None)));
        assert_eq!(parse_line("/get  my report.pdf "), files(FileSlashCommand::Get(Some("my report.pdf".to_owned()))));
        assert_eq!(parse_line("/search  olá mundo"), ParsedLine::Command(SlashCommand::Search("olá mundo".to_owned())));
        let paths = ["a b", "c d", "e"].map(PathBuf::from).to_vec();
        assert_eq!(parse_line(r#"/offer "a b" c\ d e"#), files(FileSlashCommand::Offer(paths)));
        assert_eq!(
            parse_line("/history"),
            ParsedLine::Command(SlashCommand::History(HistoryRange::Messages(DEFAULT_MESSAGES_BACK)))
        );
        assert_eq!(
            parse_line("/history 9999999"),
            ParsedLine::Command(SlashCommand::History(HistoryRange::Messages(MAX_MESSAGES_BACK)))
        );
        assert_eq!(parse_line("/history 2h"), ParsedLine::Command(SlashCommand::History(HistoryRange::Age(7_200_000))));
        assert_eq!(parse_line("/stop"), files(FileSlashCommand::Stop(None)));
        for wrong in ["/offer", "/search ", "/nosuch", "/", "/Get x", "/history 0", "/history x"] {
            assert!(matches!(parse_line(wrong), ParsedLine::Invalid(_)), "{wrong}");
        }
    }

    #[test]
    fn a_room_s_commands_name_a_user_or_a_topic() {
        let room = |command: RoomSlashCommand| ParsedLine::Command(SlashCommand::Room(command));
        let bob: UserName = "bob".parse().unwrap();
        assert_eq!(parse_line("/kick @bob"), room(RoomSlashCommand::Kick(bob.clone())));
        assert_eq!(parse_line("/invite bob"), room(RoomSlashCommand::Invite(bob)));
        assert_eq!(parse_line("/topic"), room(RoomSlashCommand::Topic(None)));
        let topic = "Fridays at ten".parse().unwrap();
        assert_eq!(parse_line("/topic Fridays at ten"), room(RoomSlashCommand::Topic(Some(topic))));
        for wrong in ["/kick", "/kick bob carol", &format!("/topic {}", "x".repeat(513))] {
            assert!(matches!(parse_line(wrong), ParsedLine::Invalid(_)), "{wrong}");
        }
    }

    #[test]
    fn every_command_is_understood() {
        for (name, head, _) in person_commands().into_iter().chain(room_commands()) {
            assert!(head.starts_with(name) && head.width() <= MIN_HELP_HEAD_COLUMNS, "{head}");
            let line = if head == name { name.to_owned() } else { format!("{name} 2") };
            assert!(matches!(parse_line(&line), ParsedLine::Command(_)), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_odd(line: String) {
            let _ = parse_line(&line);
        }
    }
}
