//! Completion of a command line on behalf of a shell: what the scripts of `peer completions` ask for.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueHint;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, complete};
use shared::safe_text::safe_line;

use super::args::default_home;
use crate::commands::completions::{CompletionLookup, CompletionShell, NameKind};
use crate::util::shell_words::{shell_quote, split_words};

/// The option with which a script asks.
const REQUEST_OPTION: &str = "--of";
/// The candidate that stands for the file names that the shell knows itself.
const FILES_MARK: &str = "\u{1}";

/// A command line to be completed at its last word.
#[derive(Debug)]
pub(super) struct CompletionRequest {
    shell: CompletionShell,
    /// The words up to the cursor, the program's name first.
    words: Vec<OsString>,
    /// True if the shell takes the word as it is: it is in quotes, or the shell quotes what it inserts.
    is_quoted: bool,
}

impl CompletionRequest {
    /// Reads the request of a script; `None` for any other command line.
    pub(super) fn from_args(args: &[OsString]) -> Option<Self> {
        let [_, command, option, shell, dashes, words @ ..] = args else { return None };
        if command != "completions" || option != REQUEST_OPTION || dashes != "--" {
            return None;
        }
        let shell = <CompletionShell as clap::ValueEnum>::from_str(shell.to_str()?, false).ok()?;
        let text = |word: &OsString| word.to_string_lossy().into_owned();
        let (words, is_quoted) = match shell {
            CompletionShell::Bash => split_bash_line(&text(words.first()?)),
            CompletionShell::Zsh => (words.to_vec(), true),
            // The last word is as it was typed, with its quotes.
            CompletionShell::Fish => {
                let (last, before) = words.split_last()?;
                let (mut typed, _) = split_bash_line(&text(last));
                (before.iter().cloned().chain(typed.pop()).collect(), true)
            }
        };
        Some(Self { shell, words, is_quoted })
    }

    /// Prints the answer. Nothing that fails is told: the shell would show it in the middle of a line.
    pub(super) fn answer(self, command: clap::Command) -> ExitCode {
        let lookup = CompletionLookup { home: self.home().unwrap_or_default(), user: self.named_user() };
        let mut command = with_names(command, "", &lookup);
        let last = self.words.len().saturating_sub(1);
        let current_folder = std::env::current_dir().ok();
        let found = complete(&mut command, self.words.clone(), last, current_folder.as_deref()).unwrap_or_default();
        let text = self.answer_text(&found);
        match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        }
    }

    fn answer_text(&self, found: &[CompletionCandidate]) -> String {
        let current = self.words.last().map(|word| word.to_string_lossy()).unwrap_or_default();
        let kind = if found.iter().any(|candidate| candidate.get_value() == FILES_MARK) { "files" } else { "words" };
        let mut lines = vec![kind.to_owned()];
        for candidate in found {
            let Some(value) = candidate.get_value().to_str() else { continue };
            // Options only for a word that begins as one: they would hide the names.
            let is_unasked = value.starts_with('-') && !current.starts_with('-');
            // A name with a control character could break the line.
            if is_unasked || value == FILES_MARK || value.contains(char::is_control) {
                continue;
            }
            lines.push(match self.shell {
                CompletionShell::Bash => self.bash_word(value, &current),
                CompletionShell::Zsh | CompletionShell::Fish => match candidate.get_help() {
                    Some(help) => {
                        let help = help.to_string();
                        format!("{value}\t{}", safe_line(help.lines().next().unwrap_or_default()))
                    }
                    None => value.to_owned(),
                },
            });
        }
        lines.push(String::new());
        lines.join("\n")
    }

    /// Returns the word as bash puts it into the line: without the part before its last `=` or `:`, where its own words
    /// begin, and quoted unless it is in quotes already.
    fn bash_word(&self, value: &str, current: &str) -> String {
        if self.is_quoted {
            return value.to_owned();
        }
        let begin = current.rfind(['=', ':']).map_or(0, |at| at + 1);
        let rest = value.get(begin..).filter(|_| value.starts_with(&current[..begin])).unwrap_or(value);
        if rest.starts_with('-') { rest.to_owned() } else { shell_quote(&[rest]) }
    }

    /// Returns the profile's folder: that of `--home` on the line, of the environment, or the usual one.
    fn home(&self) -> Option<PathBuf> {
        let mut words = self.words.iter();
        let mut named = None;
        while let Some(word) = words.next() {
            if word == "--home" {
                named = words.next().map(PathBuf::from);
            } else if let Some(home) = word.to_str().and_then(|word| word.strip_prefix("--home=")) {
                named = Some(home.into());
            }
        }
        let named = named.or_else(|| std::env::var_os("VIZINHO_HOME").filter(|home| !home.is_empty()).map(Into::into));
        // As typed: no shell has expanded it.
        let expand = |home: PathBuf| match home.strip_prefix("~") {
            Ok(rest) => std::env::home_dir().map_or_else(|| home.clone(), |own| own.join(rest)),
            Err(_) => home,
        };
        named.map(expand).or_else(|| default_home().ok())
    }

    /// Returns the last word before the current one that could be a user's name, behind the command.
    fn named_user(&self) -> Option<shared::UserName> {
        let command = self.words.iter().position(|word| word == "fetch" || word == "files")?;
        let before = self.words.get(command + 1..self.words.len().saturating_sub(1))?;
        before.iter().find(|word| !word.to_string_lossy().starts_with('-'))?.to_str()?.parse().ok()
    }
}

/// Splits what stands before the cursor into words, the last of them empty after a blank, and tells whether that one
/// begins with a quote.
fn split_bash_line(line: &str) -> (Vec<OsString>, bool) {
    const CURSOR: char = '\u{2}';
    // With a mark at the cursor, a blank before it begins an empty word, as the shell sees it.
    let marked = format!("{line}{CURSOR}");
    let mut words = split_words(&marked);
    let mut is_quoted = false;
    if let Some(last) = words.last_mut() {
        last.text = last.text.replace(CURSOR, "");
        is_quoted = marked[last.start..].starts_with(['"', '\'']);
    }
    (words.into_iter().map(|word| word.text.into()).collect(), is_quoted)
}

/// Gives the arguments that are names their lookup, and those that are paths to the shell.
/// `above` is the command above it.
fn with_names(command: clap::Command, above: &str, lookup: &CompletionLookup) -> clap::Command {
    let name = command.get_name().to_owned();
    command
        .mut_args(|arg| {
            let kind = name_kind(above, &name, &arg);
            let is_path = matches!(arg.get_value_hint(), ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath);
            if let Some(kind) = kind {
                let lookup = lookup.clone();
                let find = move |current: &OsStr| {
                    let found = lookup.names(kind, current.to_str().unwrap_or_default());
                    found.into_iter().map(CompletionCandidate::new).collect()
                };
                arg.add(ArgValueCompleter::new(find))
            } else if is_path {
                arg.add(ArgValueCompleter::new(|_: &OsStr| vec![CompletionCandidate::new(FILES_MARK)]))
            } else {
                arg
            }
        })
        .mut_subcommands(|command| with_names(command, &name, lookup))
}

/// Returns the kind of name that an argument takes, told from its value's name in the help.
fn name_kind(above: &str, command: &str, arg: &clap::Arg) -> Option<NameKind> {
    // These name an account that is new here.
    if matches!(command, "register" | "login" | "create") {
        return None;
    }
    let shown: String = arg.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    match (command, arg.get_id().as_str(), shown.as_str()) {
        ("fetch", "names", _) | ("files", "prefix", _) => Some(NameKind::SharedByUser),
        ("unshare", "names", _) => Some(NameKind::OwnShare),
        (_, "which", _) => match above {
            "sends" => Some(NameKind::OwnSend),
            "accepts" => Some(NameKind::AcceptedUser),
            "wishes" => Some(NameKind::OwnWish),
            _ => None,
        },
        (_, _, "USER|#ROOM") => Some(NameKind::UserOrRoom),
        (_, _, "ROOM") => Some(NameKind::Room),
        (_, id, shown) if shown.starts_with("USER") || matches!(id, "user" | "users") => Some(NameKind::User),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn words(line: &str) -> (Vec<String>, bool) {
        let (words, is_quoted) = split_bash_line(line);
        (words.into_iter().map(|word| word.into_string().unwrap()).collect(), is_quoted)
    }

    #[test]
    fn the_last_word_is_the_one_at_the_cursor() {
        assert_eq!(words("peer chat b"), (vec!["peer".into(), "chat".into(), "b".into()], false));
        assert_eq!(words("peer chat "), (vec!["peer".into(), "chat".into(), String::new()], false));
        assert_eq!(words("peer chat '#l"), (vec!["peer".into(), "chat".into(), "#l".into()], true));
        assert_eq!(words("peer share 'a b"), (vec!["peer".into(), "share".into(), "a b".into()], true));
    }

    fn request(line: &str) -> CompletionRequest {
        let args = ["peer", "completions", "--of", "bash", "--", line].map(OsString::from);
        CompletionRequest::from_args(&args).unwrap()
    }

    #[test]
    fn bash_gets_only_what_follows_its_own_word_break() {
        let request = request("peer --color=al");
        assert_eq!(request.bash_word("--color=always", "--color=al"), "always");
        assert_eq!(request.bash_word("#lab", "#l"), "'#lab'");
        assert_eq!(request.bash_word("a b.txt", "a"), "'a b.txt'");
        assert_eq!(request.bash_word("--color", "--co"), "--color");
    }

    #[test]
    fn the_line_says_whose_names_are_meant() {
        assert_eq!(request("peer --home /x fetch bob ").named_user().unwrap().as_str(), "bob");
        assert_eq!(request("peer fetch b").named_user(), None);
        assert_eq!(request("peer --home /x fetch bob ").home(), Some(Path::new("/x").to_owned()));
        assert_eq!(request("peer fetch bob --home=/y").home(), Some(Path::new("/y").to_owned()));
    }

    #[test]
    fn any_other_line_is_none() {
        for line in [&["peer"][..], &["peer", "completions", "bash"], &["peer", "completions", "--of", "tcsh", "--"]] {
            let args: Vec<OsString> = line.iter().map(OsString::from).collect();
            assert!(CompletionRequest::from_args(&args).is_none());
        }
    }
}
