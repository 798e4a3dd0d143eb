//! The line being written in a conversation, with completion and the confirmation of multi-line pastes. Pure, and
//! shared by both views.

use std::time::{Duration, Instant};

use localization::tr;
use ratatui_core::text::{Line, Span};
use shared::limits::MAX_CHAT_TEXT_BYTES;
use shared::safe_text::safe_line;
use shared::tracker::room_request::RequestedChange;
use shared::{RoomName, UserName};
use unicode_width::UnicodeWidthStr;

use super::completion::{self, CompletionResult, CompletionTarget};
use super::line_editor::{EditCommand, LineEditor, VisibleText};
use super::numbered_files::NumberedFiles;
use super::slash_command::{
    self, FileSlashCommand, HistoryRange, PersonCommand, RoomSlashCommand, SlashCommand, slash_commands,
};
use super::text_wrap::wrap_text;
use super::theme::TerminalTheme;
use super::view::ViewCommand;
use super::view_input::InputAction;
use crate::engine::chat::ConversationName;

/// Time between two typing notices to the same user.
const TYPING_INTERVAL: Duration = Duration::from_secs(4);
/// Rows of completion candidates.
const MAX_CANDIDATE_ROWS: usize = 5;
/// The prompt in front of the line.
pub(super) const PROMPT: &str = "> ";

/// The state of one conversation's input line.
#[derive(Debug, Default)]
pub(super) struct MessageComposer {
    editor: LineEditor,
    files: NumberedFiles,
    popup: ComposerPopup,
    last_typing_notice: Option<Instant>,
    /// The complete list of shares has arrived.
    is_listed: bool,
    /// The number given to `/get` before the share list was known; fetched once it is.
    deferred_get: Option<String>,
    /// The names of a room's other members.
    members: Vec<String>,
}

/// The visible part of the line, split at the cursor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct DraftLine {
    pub(super) before: String,
    pub(super) after: String,
}

/// The rows shown below the line.
#[derive(Debug, Default)]
enum ComposerPopup {
    #[default]
    Hidden,
    /// A completion that waits for names or paths.
    Completing(CompletionTarget),
    /// Completions of the word before the cursor.
    Candidates(Vec<String>),
    /// A multi-line paste that waits for the user's confirmation.
    Pasted(String),
}

/// The effect of a key on the composer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ComposerAction {
    /// At most the line has changed.
    Nothing,
    Command(ViewCommand),
    /// A command whose answer the user wants to see listed.
    Listing(ViewCommand),
    Help,
    /// The user asked for the members of the room.
    Members,
    /// The user asked for the topic of the room.
    Topic,
    /// The user asked for older messages.
    LookBack(HistoryRange),
    Problem(String),
    /// The key has no meaning for the line.
    Unhandled,
}

impl MessageComposer {
    pub(super) fn handle_input(
        &mut self,
        press: &InputAction,
        with: &ConversationName,
        online: bool,
        now: Instant,
    ) -> ComposerAction {
        if let ComposerPopup::Pasted(text) = &self.popup {
            // A copy: the answer may replace the popup that owns it.
            let text = text.clone();
            return self.answer_paste(press, text, with);
        }
        let had_found = matches!(self.popup, ComposerPopup::Candidates(_));
        // Tab keeps the popup: a second press must not hide the candidates.
        if !matches!(press, InputAction::Tab) {
            self.popup = ComposerPopup::Hidden;
        }
        match press {
            InputAction::Edit(edit) => {
                self.editor.apply(edit);
                self.typing_notice(edit, with, online, now)
            }
            InputAction::Submit => self.submit(with),
            InputAction::Tab => self.complete(with),
            InputAction::Paste(text) => {
                self.paste(text);
                ComposerAction::Nothing
            }
            // Ctrl-D deletes forward as in a shell; on an empty line it is left to the view, which leaves.
            InputAction::EndOfInput if !self.editor.is_empty() => {
                self.editor.apply(&EditCommand::Delete);
                ComposerAction::Nothing
            }
            // The cleared line can be pasted back with Ctrl-Y.
            InputAction::Interrupt if !self.editor.is_empty() => {
                self.editor.clear();
                ComposerAction::Nothing
            }
            // The key has closed the candidates; the view must not act on it as well.
            InputAction::Escape | InputAction::Interrupt if had_found => ComposerAction::Nothing,
            _ => ComposerAction::Unhandled,
        }
    }

    /// Completes with the paths that [`ViewCommand::CompletePath`] asked for, which begin with `start`.
    pub(super) fn handle_paths(&mut self, start: &str, paths: &[String]) {
        // The word may be another one by now, and even no path.
        if matches!(&self.popup, ComposerPopup::Completing(CompletionTarget::Path { start: asked, .. }) if asked == start)
        {
            self.finish_completion(Some(paths));
        }
    }

    pub(super) const fn files(&self) -> &NumberedFiles {
        &self.files
    }

    pub(super) const fn files_mut(&mut self) -> &mut NumberedFiles {
        &mut self.files
    }

    /// Replaces the names that `@` completes.
    pub(super) fn set_members(&mut self, names: Vec<String>) {
        self.members = names;
    }

    /// Completes or fetches what waited for names; `are_all` is true if the list is complete.
    pub(super) fn handle_files_listed(&mut self, with: &ConversationName, are_all: bool) -> Option<ViewCommand> {
        self.is_listed |= are_all;
        if are_all && matches!(self.popup, ComposerPopup::Completing(CompletionTarget::Name { .. })) {
            self.finish_completion(None);
        }
        let wanted = self.deferred_get.take_if(|_| are_all)?;
        self.files.find(Some(&wanted)).ok().map(|name| ViewCommand::Fetch { from: with.clone(), name })
    }

    /// Forgets what waited for names: the list of files could not be loaded.
    pub(super) fn handle_files_failed(&mut self) {
        self.deferred_get = None;
        if matches!(self.popup, ComposerPopup::Completing(CompletionTarget::Name { .. })) {
            self.popup = ComposerPopup::Hidden;
        }
    }

    /// Returns the part of the line around the cursor that fits into `columns`.
    pub(super) fn visible_line(&self, columns: usize) -> DraftLine {
        let VisibleText { before, after } = self.editor.visible_text(columns.saturating_sub(2));
        DraftLine { before, after }
    }

    /// Returns the line as a row, and the cursor's column.
    pub(super) fn render(&self, theme: TerminalTheme, columns: usize) -> (Line<'static>, usize) {
        let DraftLine { before, after } = self.visible_line(columns);
        let cursor = PROMPT.width() + before.width();
        (Line::from(vec![Span::styled(PROMPT, theme.bold()), Span::raw(before + &after)]), cursor)
    }

    /// Returns the popup's rows, at most `most`; empty without a popup.
    pub(super) fn popup_rows(&self, theme: TerminalTheme, columns: usize, most: usize) -> Vec<Line<'static>> {
        let (text, most, style) = match &self.popup {
            ComposerPopup::Hidden | ComposerPopup::Completing(_) => return Vec::new(),
            // A question is shown even on a screen without room for other popups.
            ComposerPopup::Pasted(text) => (paste_question(text), most.max(1), theme.bold()),
            ComposerPopup::Candidates(found) => (found.join("  "), MAX_CANDIDATE_ROWS.min(most), theme.dim()),
        };
        wrap_text(&text, columns).into_iter().take(most).map(|row| Line::styled(row, style)).collect()
    }

    fn submit(&mut self, with: &ConversationName) -> ComposerAction {
        let line = slash_command::parse_line(self.editor.text());
        if let slash_command::ParsedLine::Text(text) = &line
            // The line stays, so that the text can still be cut down to size.
            && text.len() > MAX_CHAT_TEXT_BYTES
        {
            return ComposerAction::Problem(too_long(text.len()));
        }
        self.editor.take_line();
        // The next message is announced from its first letter on.
        (self.last_typing_notice, self.deferred_get) = (None, None);
        match line {
            slash_command::ParsedLine::Empty => ComposerAction::Nothing,
            slash_command::ParsedLine::Text(text) => {
                ComposerAction::Command(ViewCommand::Send { to: with.clone(), text })
            }
            slash_command::ParsedLine::Invalid(what) => ComposerAction::Problem(what),
            slash_command::ParsedLine::Command(command) => self.command(command, with),
        }
    }

    fn command(&mut self, command: SlashCommand, with: &ConversationName) -> ComposerAction {
        match (command, with) {
            (SlashCommand::History(back), _) => ComposerAction::LookBack(back),
            (SlashCommand::Who, _) => ComposerAction::Listing(ViewCommand::ListUsers),
            (SlashCommand::Search(words), with) => {
                ComposerAction::Command(ViewCommand::Search { with: with.clone(), words })
            }
            (SlashCommand::Quit, _) => ComposerAction::Command(ViewCommand::Leave),
            (SlashCommand::Help, _) => ComposerAction::Help,
            (SlashCommand::Mute(muted), with) => {
                ComposerAction::Command(ViewCommand::Mute { with: with.clone(), muted })
            }
            (SlashCommand::Files(command), with) => self.file_command(command, with.clone()),
            (SlashCommand::Person(command), ConversationName::Person(user)) => person_command(command, user.clone()),
            (SlashCommand::Person(_), ConversationName::Room(_)) => ComposerAction::Problem(tr!(
                "that is for a conversation with one person: `peer block USER` ignores somebody"
            )),
            (SlashCommand::Room(command), ConversationName::Room(room)) => room_command(command, room.clone()),
            (SlashCommand::Room(_), ConversationName::Person(_)) => {
                ComposerAction::Problem(tr!("that is for a room: `peer rooms` shows which there are"))
            }
        }
    }

    fn file_command(&mut self, command: FileSlashCommand, with: ConversationName) -> ComposerAction {
        ComposerAction::Command(match command {
            // `/get 12` before anything was listed: the numbers are assigned by the list, so it is requested
            // first.
            FileSlashCommand::Get(Some(which)) if !self.is_listed && self.files.is_unknown_number(&which) => {
                self.deferred_get = Some(which);
                ViewCommand::ListFiles { of: with, prefix: String::new() }
            }
            FileSlashCommand::Stop(which) => {
                // `None` means the only running download.
                let name = which.and_then(|which| self.files.find(Some(&which)).ok());
                ViewCommand::StopFetch { from: with, name }
            }
            FileSlashCommand::Get(which) => match self.files.find(which.as_deref()) {
                Ok(name) => ViewCommand::Fetch { from: with, name },
                Err(why) => return ComposerAction::Problem(why),
            },
            FileSlashCommand::Offer(paths) => ViewCommand::Offer { to: with, paths },
            FileSlashCommand::List(prefix) => {
                return ComposerAction::Listing(ViewCommand::ListFiles { of: with, prefix });
            }
        })
    }

    fn complete(&mut self, with: &ConversationName) -> ComposerAction {
        self.deferred_get = None;
        let Some(wanted) = completion::completion_target(&self.editor) else { return ComposerAction::Unhandled };
        let needs_asking = match &wanted {
            CompletionTarget::Path { .. } => true,
            CompletionTarget::Name { .. } => !self.is_listed,
            CompletionTarget::Command { .. } => {
                let names = slash_commands(with);
                let found = wanted.complete(&mut self.editor, names.iter().map(|(name, ..)| *name));
                self.show_candidates(found);
                return ComposerAction::Nothing;
            }
            // Elsewhere an `@` is a letter like any other, and Tab goes to the next pane.
            CompletionTarget::Member { .. } if with.room().is_none() => return ComposerAction::Unhandled,
            CompletionTarget::Member { .. } => {
                let found = wanted.complete(&mut self.editor, self.members.iter().map(String::as_str));
                self.show_candidates(found);
                return ComposerAction::Nothing;
            }
        };
        let wish = wanted.lookup_command(with).filter(|_| needs_asking);
        self.popup = ComposerPopup::Completing(wanted);
        if let Some(wish) = wish {
            return ComposerAction::Command(wish);
        }
        self.finish_completion(None);
        ComposerAction::Nothing
    }

    /// Completes the word for which Tab was pressed, after names or paths have arrived.
    fn finish_completion(&mut self, paths: Option<&[String]>) {
        let ComposerPopup::Completing(wanted) = std::mem::take(&mut self.popup) else { return };
        // The user may have edited the line while the answer was on its way.
        if completion::completion_target(&self.editor).as_ref() != Some(&wanted) {
            return;
        }
        let completed = match paths {
            Some(paths) => wanted.complete(&mut self.editor, paths.iter().map(String::as_str)),
            None => wanted.complete(&mut self.editor, self.files.names()),
        };
        self.show_candidates(completed);
    }

    fn show_candidates(&mut self, completed: CompletionResult) {
        self.popup = match completed {
            // The names come from the other side.
            CompletionResult::Several(several) => {
                ComposerPopup::Candidates(several.iter().map(|one| safe_line(one).into_owned()).collect())
            }
            CompletionResult::NoMatch | CompletionResult::Changed => ComposerPopup::Hidden,
        };
    }

    fn paste(&mut self, text: &str) {
        // A copied line usually includes its line end and is still one line.
        let text = text.trim_end_matches('\n');
        if text.contains('\n') {
            // A line end in a paste would act as Enter and send each line as its own message: ask first.
            self.popup = ComposerPopup::Pasted(text.to_owned());
        } else {
            self.editor.apply(&EditCommand::Insert(text.to_owned()));
        }
    }

    /// Handles the answer to the paste question.
    fn answer_paste(&mut self, press: &InputAction, text: String, with: &ConversationName) -> ComposerAction {
        match press {
            // No answers either: the question stays while the view handles them.
            InputAction::Suspend | InputAction::Redraw | InputAction::Resized(_) | InputAction::Unreadable => {
                return ComposerAction::Unhandled;
            }
            // A second paste is no answer; taking it as one could send unseen text.
            InputAction::Paste(_) => return ComposerAction::Nothing,
            // Any key but Enter and `e` cancels: nothing is sent by accident.
            _ => self.popup = ComposerPopup::Hidden,
        }
        match press {
            InputAction::Submit if text.len() > MAX_CHAT_TEXT_BYTES => ComposerAction::Problem(too_long(text.len())),
            InputAction::Submit => ComposerAction::Command(ViewCommand::Send { to: with.clone(), text }),
            InputAction::Edit(EditCommand::Insert(keys)) => {
                let mut keys = keys.chars();
                if keys.next().is_some_and(|key| key.eq_ignore_ascii_case(&'e')) {
                    self.editor.apply(&EditCommand::Insert(text));
                }
                // Keys typed behind the answer arrive in the same insert; they belong to the line.
                self.editor.apply(&EditCommand::Insert(keys.as_str().to_owned()));
                ComposerAction::Nothing
            }
            _ => ComposerAction::Nothing,
        }
    }

    fn typing_notice(
        &mut self,
        edit: &EditCommand,
        with: &ConversationName,
        online: bool,
        now: Instant,
    ) -> ComposerAction {
        let ConversationName::Person(to) = with else { return ComposerAction::Nothing };
        // A command is not a message in the making.
        let is_text = matches!(edit, EditCommand::Insert(_)) && !self.editor.text().starts_with('/');
        let is_due = self.last_typing_notice.is_none_or(|told| now.saturating_duration_since(told) >= TYPING_INTERVAL);
        if !is_text || !is_due || !online {
            return ComposerAction::Nothing;
        }
        self.last_typing_notice = Some(now);
        ComposerAction::Command(ViewCommand::Typing { to: to.clone() })
    }
}

fn person_command(command: PersonCommand, user: UserName) -> ComposerAction {
    ComposerAction::Command(match command {
        PersonCommand::Accept => ViewCommand::Accept { user },
        PersonCommand::Ignore => ViewCommand::Block { user, blocked: true },
        PersonCommand::Unignore => ViewCommand::Block { user, blocked: false },
    })
}

fn room_command(command: RoomSlashCommand, room: RoomName) -> ComposerAction {
    let change = |room, change| ComposerAction::Command(ViewCommand::ChangeRoom { room, change });
    match command {
        RoomSlashCommand::Members => ComposerAction::Members,
        RoomSlashCommand::Topic(None) => ComposerAction::Topic,
        RoomSlashCommand::Topic(Some(topic)) => change(room, RequestedChange::SetTopic { topic }),
        RoomSlashCommand::Invite(user) => change(room, RequestedChange::Invite { user }),
        RoomSlashCommand::Kick(user) => change(room, RequestedChange::Kick { user, cut: None }),
        RoomSlashCommand::Leave => ComposerAction::Command(ViewCommand::LeaveRoom { room }),
    }
}

fn too_long(len: usize) -> String {
    tr!(
        "a message has at most {limit} bytes, this one has {len}: /offer it as a file",
        limit = MAX_CHAT_TEXT_BYTES,
        len
    )
}

fn paste_question(text: &str) -> String {
    let (lines, characters) = (text.split('\n').count(), text.chars().count());
    tr!(
        "{lines} lines pasted, {characters} characters. Enter: send as one message  e: edit first  Esc: don't",
        lines,
        characters
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bob() -> UserName {
        "bob".parse().unwrap()
    }

    fn press(composer: &mut MessageComposer, press: &InputAction) -> ComposerAction {
        composer.handle_input(press, &bob().into(), false, Instant::now())
    }

    fn write(composer: &mut MessageComposer, text: &str) {
        press(composer, &InputAction::Edit(EditCommand::Insert(text.to_owned())));
    }

    fn said(text: &str) -> ComposerAction {
        ComposerAction::Command(ViewCommand::Send { to: bob().into(), text: text.to_owned() })
    }

    #[test]
    fn paths_complete_the_path_that_was_asked_for() {
        let mut composer = MessageComposer::default();
        write(&mut composer, "/offer ~/a");
        let asked = ComposerAction::Command(ViewCommand::CompletePath { start: "~/a".to_owned() });
        assert_eq!(press(&mut composer, &InputAction::Tab), asked);
        composer.handle_paths("~/b", &["~/before".to_owned()]);
        composer.handle_paths("~/a", &["~/after".to_owned()]);
        assert_eq!(composer.visible_line(80).before, "/offer ~/after ");
        press(&mut composer, &InputAction::Edit(EditCommand::CutToStart));
        write(&mut composer, "/get b");
        press(&mut composer, &InputAction::Tab);
        composer.handle_paths("b", &["before".to_owned()]);
        composer.handle_files_failed();
        assert_eq!(composer.visible_line(80).before, "/get b");
    }

    #[test]
    fn many_lines_are_not_sent_without_a_word() {
        let paste = InputAction::Paste("one\ntwo\n".to_owned());
        let mut composer = MessageComposer::default();
        assert_eq!(press(&mut composer, &paste), ComposerAction::Nothing);
        let theme = TerminalTheme { color: false, unicode: true };
        assert!(composer.popup_rows(theme, 100, 3)[0].to_string().starts_with("2 lines pasted, 7 characters"));
        assert_eq!(press(&mut composer, &InputAction::Submit), said("one\ntwo"));
        press(&mut composer, &paste);
        assert_eq!(press(&mut composer, &InputAction::Escape), ComposerAction::Nothing);
        assert_eq!(press(&mut composer, &InputAction::Submit), ComposerAction::Nothing);
        press(&mut composer, &paste);
        write(&mut composer, "e");
        assert_eq!(composer.render(theme, 80).0.to_string(), "> one␊two");
        assert_eq!(press(&mut composer, &InputAction::Submit), said("one\ntwo"));
        press(&mut composer, &InputAction::Paste("just one\n".to_owned()));
        assert_eq!(press(&mut composer, &InputAction::Submit), said("just one"));
    }

    #[test]
    fn what_is_too_long_stays_to_be_shortened() {
        let mut composer = MessageComposer::default();
        write(&mut composer, &"x".repeat(MAX_CHAT_TEXT_BYTES + 1));
        assert!(matches!(press(&mut composer, &InputAction::Submit), ComposerAction::Problem(_)));
        press(&mut composer, &InputAction::Edit(EditCommand::Backspace));
        assert_eq!(press(&mut composer, &InputAction::Submit), said(&"x".repeat(MAX_CHAT_TEXT_BYTES)));
    }

    #[test]
    fn typing_is_told_now_and_then() {
        let mut composer = MessageComposer::default();
        let begun = Instant::now();
        let mut write = |text: &str, after: u64| {
            let insert = InputAction::Edit(EditCommand::Insert(text.to_owned()));
            composer.handle_input(&insert, &bob().into(), true, begun + Duration::from_secs(after))
                != ComposerAction::Nothing
        };
        assert!(write("h", 0));
        assert!(!write("i", 1));
        assert!(write("!", 4));
        let mut command = MessageComposer::default();
        let insert = InputAction::Edit(EditCommand::Insert("/".to_owned()));
        assert_eq!(
            command.handle_input(&insert, &bob().into(), true, begun),
            ComposerAction::Nothing,
            "a command is nobody's business"
        );
    }

    #[test]
    fn a_number_that_is_not_known_is_asked_for_before_it_is_fetched() {
        let files = ComposerAction::Command(ViewCommand::ListFiles { of: bob().into(), prefix: String::new() });
        let mut composer = MessageComposer::default();
        write(&mut composer, "/get 1");
        assert_eq!(press(&mut composer, &InputAction::Submit), files);
        composer.files_mut().add("report.pdf", 5, false);
        let get = |name: &str| ViewCommand::Fetch { from: bob().into(), name: name.to_owned() };
        assert_eq!(composer.handle_files_listed(&bob().into(), false), None, "these are not all of them");
        assert_eq!(composer.handle_files_listed(&bob().into(), true), Some(get("report.pdf")));
        assert_eq!(composer.handle_files_listed(&bob().into(), true), None);
        write(&mut composer, "/get 2");
        assert_eq!(
            press(&mut composer, &InputAction::Submit),
            ComposerAction::Command(get("2")),
            "a file may be called so"
        );
        write(&mut composer, "/stop 1");
        let stop = ViewCommand::StopFetch { from: bob().into(), name: Some("report.pdf".to_owned()) };
        assert_eq!(press(&mut composer, &InputAction::Submit), ComposerAction::Command(stop));
    }

    #[test]
    fn tabs_stay_what_they_are() {
        let mut composer = MessageComposer::default();
        press(&mut composer, &InputAction::Paste("all:\n\tcc x.c\n".to_owned()));
        assert_eq!(press(&mut composer, &InputAction::Submit), said("all:\n\tcc x.c"));
        press(&mut composer, &InputAction::Paste("a\tb".to_owned()));
        let theme = TerminalTheme { color: false, unicode: true };
        assert_eq!(composer.render(theme, 80).0.to_string(), "> a    b");
        assert_eq!(press(&mut composer, &InputAction::Submit), said("a\tb"));
    }

    #[test]
    fn names_are_asked_for_once() {
        let mut composer = MessageComposer::default();
        write(&mut composer, "/get re");
        assert_eq!(
            press(&mut composer, &InputAction::Tab),
            ComposerAction::Command(ViewCommand::ListFiles { of: bob().into(), prefix: String::new() })
        );
        composer.files_mut().add("report.pdf", 5, false);
        composer.handle_files_listed(&bob().into(), true);
        assert_eq!(
            press(&mut composer, &InputAction::Submit),
            ComposerAction::Command(ViewCommand::Fetch { from: bob().into(), name: "report.pdf".to_owned() })
        );
    }
}
