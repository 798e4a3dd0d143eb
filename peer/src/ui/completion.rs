//! Tab completion. Pure: the names and paths it needs are requested and arrive later.

use shared::names::matching_key;

use super::line_editor::LineEditor;
use super::view::ViewCommand;
use crate::engine::chat::ConversationName;
use crate::util::shell_words::{escape_word, split_words};

/// The word to complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CompletionTarget {
    /// A command; it begins with the line.
    Command { start: String },
    /// A member of the room, behind an `@` or as the argument of a command; it begins at the byte `at` of the line.
    Member { start: String, at: usize },
    /// A share or offer of the conversation; it begins at the byte `at` of the line.
    Name { start: String, at: usize },
    /// A local path; it begins at the byte `at` of the line.
    Path { start: String, at: usize },
}

/// The result of a completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CompletionResult {
    NoMatch,
    /// The line was extended.
    Changed,
    /// Several candidates without a longer common beginning.
    Several(Vec<String>),
}

/// Returns the completable word before the cursor.
pub(super) fn completion_target(line: &LineEditor) -> Option<CompletionTarget> {
    let before = line.before_cursor();
    // A doubled slash begins a message, not a command.
    if !before.starts_with('/') || before.starts_with("//") {
        let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
        let start = word.strip_prefix('@')?;
        return Some(CompletionTarget::Member { start: start.to_owned(), at: before.len() - start.len() });
    }
    let Some((command, rest)) = before.split_once(' ') else {
        return Some(CompletionTarget::Command { start: before.to_owned() });
    };
    let at = command.len() + 1;
    match command {
        "/kick" => Some(CompletionTarget::Member { start: rest.to_owned(), at }),
        "/get" | "/files" | "/stop" => Some(CompletionTarget::Name {
            start: rest.trim_start().to_owned(),
            at: before.len() - rest.trim_start().len(),
        }),
        "/offer" => {
            // A blank behind the word ends it, unless it is escaped.
            let word = split_words(rest).pop().filter(|_| !rest.ends_with(' ') || rest.ends_with("\\ "));
            let (start, from) = word.map_or((String::new(), rest.len()), |word| (word.text, word.start));
            Some(CompletionTarget::Path { start, at: at + from })
        }
        _ => None,
    }
}

impl CompletionTarget {
    /// Returns the command that requests the candidates.
    pub(super) fn lookup_command(&self, with: &ConversationName) -> Option<ViewCommand> {
        match self {
            Self::Command { .. } | Self::Member { .. } => None,
            Self::Name { .. } => Some(ViewCommand::ListFiles { of: with.clone(), prefix: String::new() }),
            Self::Path { start, .. } => Some(ViewCommand::CompletePath { start: start.clone() }),
        }
    }

    /// Completes the word, given all candidates.
    pub(super) fn complete<'a>(&self, line: &mut LineEditor, there: impl Iterator<Item = &'a str>) -> CompletionResult {
        match self {
            Self::Command { start } => complete_word(line, 0, start, there, str::to_owned, " "),
            Self::Member { start, at } => complete_word(line, *at, start, there, str::to_owned, " "),
            // A name may hold blanks, so that one behind it would end nothing.
            Self::Name { start, at } => complete_word(line, *at, start, there, str::to_owned, ""),
            Self::Path { start, at } => complete_word(line, *at, start, there, escape_word, " "),
        }
    }
}

fn complete_word<'a>(
    line: &mut LineEditor,
    at: usize,
    start: &str,
    there: impl Iterator<Item = &'a str>,
    written: impl Fn(&str) -> String,
    end: &str,
) -> CompletionResult {
    let there: Vec<&str> = there.collect();
    let mut fitting: Vec<&str> = there.iter().copied().filter(|one| one.starts_with(start)).collect();
    let key = matching_key(start);
    if fitting.is_empty() {
        // Tries again by matching key: keys are equal for names that look alike on a screen.
        fitting.extend(there.into_iter().filter(|one| matching_key(one).starts_with(&*key)));
    }
    let Some(first) = fitting.first() else { return CompletionResult::NoMatch };
    let common = fitting.iter().fold(*first, |common, one| common_start(common, one));
    let is_only = fitting.len() == 1;
    // Compared as keys: a beginning that only differs in its normal form would replace text and complete nothing.
    if !is_only && (common.len() == start.len() || matching_key(common).len() <= key.len()) {
        return CompletionResult::Several(fitting.into_iter().map(str::to_owned).collect());
    }
    // A folder's slash stays open, so that the next Tab goes on inside it.
    let is_whole = is_only && !common.ends_with('/');
    line.replace_before_cursor(at, &format!("{}{}", written(common), if is_whole { end } else { "" }));
    CompletionResult::Changed
}

fn common_start<'a>(one: &'a str, other: &str) -> &'a str {
    let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    &one[..same]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::line_editor::EditCommand;
    use crate::ui::slash_command::slash_commands;

    fn tab(text: &str, there: &[&str]) -> (CompletionResult, String) {
        let mut line = LineEditor::default();
        line.apply(&EditCommand::Insert(text.to_owned()));
        let Some(wanted) = completion_target(&line) else { return (CompletionResult::NoMatch, text.to_owned()) };
        let completed = wanted.complete(&mut line, there.iter().copied());
        (completed, line.text().to_owned())
    }

    #[test]
    fn commands() {
        let of = |with: &str| slash_commands(&with.parse().unwrap()).iter().map(|(name, ..)| *name).collect::<Vec<_>>();
        let (person, room) = (of("bob"), of("#lab"));
        assert_eq!(tab("/o", &person), (CompletionResult::Changed, "/offer ".to_owned()));
        assert_eq!(tab("/o", &room).1, "/offer ");
        assert_eq!(tab("/ac", &room).0, CompletionResult::NoMatch);
        assert_eq!(tab("/le", &room).1, "/leave ");
        assert_eq!(tab("/", &person).1, "/");
        assert!(matches!(tab("/", &person).0, CompletionResult::Several(all) if all.len() == person.len()));
        assert_eq!(tab("/nosuch", &person).0, CompletionResult::NoMatch);
        assert_eq!(tab("say /o", &person).0, CompletionResult::NoMatch);
        assert_eq!(tab("//o", &person).0, CompletionResult::NoMatch);
    }

    #[test]
    fn members() {
        let there = ["bob", "carol", "caroline"];
        assert_eq!(tab("ask @b", &there), (CompletionResult::Changed, "ask @bob ".to_owned()));
        assert_eq!(tab("@ca", &there).1, "@carol");
        assert_eq!(tab("/kick bo", &there).1, "/kick bob ");
        assert_eq!(tab("mail bob@b", &there).0, CompletionResult::NoMatch);
    }

    #[test]
    fn names() {
        let names = ["docs/a.pdf", "docs/b.pdf", "my film.mkv"];
        assert_eq!(tab("/get d", &names), (CompletionResult::Changed, "/get docs/".to_owned()));
        assert_eq!(tab("/get my", &names), (CompletionResult::Changed, "/get my film.mkv".to_owned()));
        assert_eq!(
            tab("/get docs/", &names).0,
            CompletionResult::Several(vec!["docs/a.pdf".to_owned(), "docs/b.pdf".to_owned()])
        );
        assert_eq!(tab("/get x", &names).0, CompletionResult::NoMatch);
        assert_eq!(tab("/get caf\u{e9}", &["cafe\u{301}.txt"]).1, "/get cafe\u{301}.txt");
    }

    #[test]
    fn paths_with_blanks_are_quoted() {
        let there = ["~/my files/", "~/mail"];
        assert_eq!(tab("/offer a ~/my", &there), (CompletionResult::Changed, r"/offer a ~/my\ files/".to_owned()));
        let there = ["~/my files/x y.pdf"];
        assert_eq!(
            tab(r"/offer ~/my\ files/x", &there),
            (CompletionResult::Changed, r"/offer ~/my\ files/x\ y.pdf ".to_owned())
        );
        assert_eq!(tab(r#"/offer "~/my files/x"#, &there).1, r"/offer ~/my\ files/x\ y.pdf ");
        assert_eq!(tab("/offer ~/my ", &["a", "b"]).0, CompletionResult::Several(vec!["a".to_owned(), "b".to_owned()]));
    }
}
