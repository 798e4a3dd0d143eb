//! The line being written to somebody, with what belongs to it: completion, the question before many lines are sent.
//! Pure, and the same in both views.

use std::time::{Duration, Instant};

use ratatui_core::text::{Line, Span};
use shared::UserName;
use shared::limits::CHAT_TEXT_BYTES;
use shared::safe_text::safe_line;
use unicode_width::UnicodeWidthStr;

use super::catalogue::Catalogue;
use super::complete::{self, Completed, Wanted};
use super::keys::Press;
use super::line_editor::{Edit, LineEditor, Shown};
use super::look::Look;
use super::slash::{self, Back, Slash};
use super::view::Wish;
use super::wrap::wrap;

/// How often the other one is told that they are being written to.
const TELL_TYPING: Duration = Duration::from_secs(4);
/// Rows of what Tab found.
const FOUND_ROWS: usize = 5;
/// What stands before the line.
pub(super) const PROMPT: &str = "> ";

/// A line to somebody.
#[derive(Debug, Default)]
pub(super) struct Composer {
    editor: LineEditor,
    catalogue: Catalogue,
    beside: Beside,
    told_typing: Option<Instant>,
    /// All that the other one shares was listed.
    is_listed: bool,
    /// The number of a file to fetch as soon as that is so.
    wanted: Option<String>,
}

/// The line being written, as it is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct WrittenLine {
    /// What stands before the cursor.
    pub(super) before: String,
    pub(super) after: String,
}

/// What is shown beside the line.
#[derive(Debug, Default)]
enum Beside {
    #[default]
    Nothing,
    /// What to complete when it is known.
    Completing(Wanted),
    /// What Tab found.
    Found(Vec<String>),
    /// A pasted text that is not sent without a word.
    Pasted(String),
}

/// What a key came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Composed {
    /// The line may have changed.
    Nothing,
    Wish(Wish),
    /// A wish whose answer is to be looked at.
    Listing(Wish),
    Help,
    /// To look further back.
    Back(Back),
    Problem(String),
    /// The key is not for the line.
    NotMine,
}

impl Composer {
    pub(super) fn press(&mut self, press: &Press, with: &UserName, online: bool, now: Instant) -> Composed {
        if let Beside::Pasted(text) = &self.beside {
            let text = text.clone();
            return self.answer(press, text, with);
        }
        let had_found = matches!(self.beside, Beside::Found(_));
        if !matches!(press, Press::Tab) {
            self.beside = Beside::Nothing;
        }
        match press {
            Press::Edit(edit) => {
                self.editor.apply(edit);
                self.tell_typing(edit, with, online, now)
            }
            Press::Submit => self.submit(with),
            Press::Tab => self.tab(with),
            Press::Paste(text) => {
                self.paste(text);
                Composed::Nothing
            }
            Press::EndOfInput if !self.editor.is_empty() => {
                self.editor.apply(&Edit::Delete);
                Composed::Nothing
            }
            // Ctrl-Y brings it back.
            Press::Interrupt if !self.editor.is_empty() => {
                self.editor.clear();
                Composed::Nothing
            }
            Press::Escape | Press::Interrupt if had_found => Composed::Nothing,
            _ => Composed::NotMine,
        }
    }

    /// Paths that were asked for.
    pub(super) fn paths(&mut self, paths: &[String]) {
        self.go_on(Some(paths));
    }

    /// The other one's files.
    pub(super) const fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The same, to learn more of them.
    pub(super) const fn catalogue_mut(&mut self) -> &mut Catalogue {
        &mut self.catalogue
    }

    /// More is known of the other one's files, or all of them: Tab may have waited for that, or a fetch.
    pub(super) fn names_known(&mut self, with: &UserName, are_all: bool) -> Option<Wish> {
        self.is_listed |= are_all;
        if matches!(self.beside, Beside::Completing(Wanted::Name { .. })) {
            self.go_on(None);
        }
        let wanted = self.wanted.take_if(|_| are_all)?;
        self.catalogue.find(Some(&wanted)).ok().map(|name| Wish::Get { from: with.clone(), name })
    }

    /// As much of the line as fits, around the cursor.
    pub(super) fn line(&self, columns: usize) -> WrittenLine {
        let Shown { before, after } = self.editor.view(columns.saturating_sub(2));
        WrittenLine { before, after }
    }

    /// The line as a row, and in which column the cursor is.
    pub(super) fn row(&self, look: Look, columns: usize) -> (Line<'static>, usize) {
        let WrittenLine { before, after } = self.line(columns);
        let cursor = PROMPT.width() + before.width();
        (Line::from(vec![Span::styled(PROMPT, look.bold()), Span::raw(before + &after)]), cursor)
    }

    /// What is asked, or was found, in at most so many rows; none when there is nothing.
    pub(super) fn rows_beside(&self, look: Look, columns: usize, most: usize) -> Vec<Line<'static>> {
        let (text, most, style) = match &self.beside {
            Beside::Nothing | Beside::Completing(_) => return Vec::new(),
            Beside::Pasted(text) => (question(text), most.max(1), look.bold()),
            Beside::Found(found) => (found.join("  "), FOUND_ROWS.min(most), look.dim()),
        };
        wrap(&text, columns).into_iter().take(most).map(|row| Line::styled(row, style)).collect()
    }

    fn submit(&mut self, with: &UserName) -> Composed {
        let line = slash::parse(self.editor.text());
        if let slash::Line::Text(text) = &line
            && text.len() > CHAT_TEXT_BYTES
        {
            return Composed::Problem(too_long(text.len()));
        }
        self.editor.take();
        (self.told_typing, self.wanted) = (None, None);
        match line {
            slash::Line::Nothing => Composed::Nothing,
            slash::Line::Text(text) => Composed::Wish(Wish::Say { to: with.clone(), text }),
            slash::Line::Mistake(what) => Composed::Problem(what),
            slash::Line::Command(command) => self.command(command, with.clone()),
        }
    }

    fn command(&mut self, command: Slash, with: UserName) -> Composed {
        Composed::Wish(match command {
            Slash::Get(Some(which)) if !self.is_listed && self.catalogue.is_unknown_number(&which) => {
                self.wanted = Some(which);
                Wish::Files { of: with, start: String::new() }
            }
            Slash::Stop(which) => {
                // Without a name, it is the only one that goes on.
                let name = which.and_then(|which| self.catalogue.find(Some(&which)).ok());
                Wish::Stop { from: with, name }
            }
            Slash::History(back) => return Composed::Back(back),
            Slash::Get(which) => match self.catalogue.find(which.as_deref()) {
                Ok(name) => Wish::Get { from: with, name },
                Err(why) => return Composed::Problem(why),
            },
            Slash::Offer(paths) => Wish::Offer { to: with, paths },
            Slash::Files(start) => return Composed::Listing(Wish::Files { of: with, start }),
            Slash::Who => return Composed::Listing(Wish::People),
            Slash::Search(words) => Wish::Search { with, words },
            Slash::Accept => Wish::Accept { user: with },
            Slash::Ignore => Wish::Block { user: with, blocked: true },
            Slash::Unignore => Wish::Block { user: with, blocked: false },
            Slash::Quit => Wish::Leave,
            Slash::Help => return Composed::Help,
        })
    }

    fn tab(&mut self, with: &UserName) -> Composed {
        self.wanted = None;
        let Some(wanted) = complete::wanted(&self.editor) else { return Composed::NotMine };
        let needs_asking = match &wanted {
            Wanted::Path { .. } => true,
            Wanted::Name { .. } => !self.is_listed,
            Wanted::Command { .. } => false,
        };
        let wish = wanted.wish(with).filter(|_| needs_asking);
        self.beside = Beside::Completing(wanted);
        if let Some(wish) = wish {
            return Composed::Wish(wish);
        }
        self.go_on(None);
        Composed::Nothing
    }

    /// Completes what Tab was pressed for, now that it is known how it may go on.
    fn go_on(&mut self, paths: Option<&[String]>) {
        let Beside::Completing(wanted) = std::mem::take(&mut self.beside) else { return };
        // The line may be another one by now.
        if complete::wanted(&self.editor).as_ref() != Some(&wanted) {
            return;
        }
        let completed = match paths {
            Some(paths) => wanted.complete(&mut self.editor, paths.iter().map(String::as_str)),
            None => wanted.complete(&mut self.editor, self.catalogue.names()),
        };
        if let Completed::Several(several) = completed {
            self.beside = Beside::Found(several.iter().map(|one| safe_line(one).into_owned()).collect());
        }
    }

    fn paste(&mut self, text: &str) {
        let text = text.trim_end_matches('\n');
        if text.contains('\n') {
            self.beside = Beside::Pasted(text.to_owned());
        } else {
            self.editor.apply(&Edit::Insert(text.to_owned()));
        }
    }

    /// What becomes of a pasted text.
    fn answer(&mut self, press: &Press, text: String, with: &UserName) -> Composed {
        match press {
            Press::Suspend | Press::Redraw | Press::Resized(_) | Press::Unreadable => return Composed::NotMine,
            Press::Paste(_) => return Composed::Nothing,
            // Whatever else is pressed, nothing is sent.
            _ => self.beside = Beside::Nothing,
        }
        match press {
            Press::Submit if text.len() > CHAT_TEXT_BYTES => Composed::Problem(too_long(text.len())),
            Press::Submit => Composed::Wish(Wish::Say { to: with.clone(), text }),
            Press::Edit(Edit::Insert(keys)) => {
                let mut keys = keys.chars();
                if keys.next().is_some_and(|key| key.eq_ignore_ascii_case(&'e')) {
                    self.editor.apply(&Edit::Insert(text));
                }
                // What was typed behind the answer is no part of it.
                self.editor.apply(&Edit::Insert(keys.as_str().to_owned()));
                Composed::Nothing
            }
            _ => Composed::Nothing,
        }
    }

    fn tell_typing(&mut self, edit: &Edit, with: &UserName, online: bool, now: Instant) -> Composed {
        let is_text = matches!(edit, Edit::Insert(_)) && !self.editor.text().starts_with('/');
        let is_due = self.told_typing.is_none_or(|told| now.saturating_duration_since(told) >= TELL_TYPING);
        if !is_text || !is_due || !online {
            return Composed::Nothing;
        }
        self.told_typing = Some(now);
        Composed::Wish(Wish::Typing { to: with.clone() })
    }
}

fn too_long(len: usize) -> String {
    format!("a message has at most {CHAT_TEXT_BYTES} bytes, this one has {len}: /offer it as a file")
}

fn question(text: &str) -> String {
    let (lines, characters) = (text.split('\n').count(), text.chars().count());
    format!("{lines} lines pasted, {characters} characters. Enter: send as one message  e: edit first  Esc: don't")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bob() -> UserName {
        "bob".parse().unwrap()
    }

    fn press(composer: &mut Composer, press: &Press) -> Composed {
        composer.press(press, &bob(), false, Instant::now())
    }

    fn write(composer: &mut Composer, text: &str) {
        press(composer, &Press::Edit(Edit::Insert(text.to_owned())));
    }

    fn said(text: &str) -> Composed {
        Composed::Wish(Wish::Say { to: bob(), text: text.to_owned() })
    }

    #[test]
    fn many_lines_are_not_sent_without_a_word() {
        let paste = Press::Paste("one\ntwo\n".to_owned());
        let mut composer = Composer::default();
        assert_eq!(press(&mut composer, &paste), Composed::Nothing);
        let look = Look { color: false, unicode: true };
        assert!(composer.rows_beside(look, 100, 3)[0].to_string().starts_with("2 lines pasted, 7 characters"));
        assert_eq!(press(&mut composer, &Press::Submit), said("one\ntwo"));
        press(&mut composer, &paste);
        assert_eq!(press(&mut composer, &Press::Escape), Composed::Nothing);
        assert_eq!(press(&mut composer, &Press::Submit), Composed::Nothing);
        press(&mut composer, &paste);
        write(&mut composer, "e");
        assert_eq!(composer.row(look, 80).0.to_string(), "> one␊two");
        assert_eq!(press(&mut composer, &Press::Submit), said("one\ntwo"));
        press(&mut composer, &Press::Paste("just one\n".to_owned()));
        assert_eq!(press(&mut composer, &Press::Submit), said("just one"));
    }

    #[test]
    fn what_is_too_long_stays_to_be_shortened() {
        let mut composer = Composer::default();
        write(&mut composer, &"x".repeat(CHAT_TEXT_BYTES + 1));
        assert!(matches!(press(&mut composer, &Press::Submit), Composed::Problem(_)));
        press(&mut composer, &Press::Edit(Edit::Backspace));
        assert_eq!(press(&mut composer, &Press::Submit), said(&"x".repeat(CHAT_TEXT_BYTES)));
    }

    #[test]
    fn typing_is_told_now_and_then() {
        let mut composer = Composer::default();
        let begun = Instant::now();
        let mut write = |text: &str, after: u64| {
            let insert = Press::Edit(Edit::Insert(text.to_owned()));
            composer.press(&insert, &bob(), true, begun + Duration::from_secs(after)) != Composed::Nothing
        };
        assert!(write("h", 0));
        assert!(!write("i", 1));
        assert!(write("!", 4));
        let mut command = Composer::default();
        let insert = Press::Edit(Edit::Insert("/".to_owned()));
        assert_eq!(command.press(&insert, &bob(), true, begun), Composed::Nothing, "a command is nobody's business");
    }

    #[test]
    fn a_number_that_is_not_known_is_asked_for_before_it_is_fetched() {
        let files = Composed::Wish(Wish::Files { of: bob(), start: String::new() });
        let mut composer = Composer::default();
        write(&mut composer, "/get 1");
        assert_eq!(press(&mut composer, &Press::Submit), files);
        composer.catalogue_mut().add("report.pdf", 5, false);
        let get = |name: &str| Wish::Get { from: bob(), name: name.to_owned() };
        assert_eq!(composer.names_known(&bob(), false), None, "these are not all of them");
        assert_eq!(composer.names_known(&bob(), true), Some(get("report.pdf")));
        assert_eq!(composer.names_known(&bob(), true), None);
        write(&mut composer, "/get 2");
        assert_eq!(press(&mut composer, &Press::Submit), Composed::Wish(get("2")), "a file may be called so");
        write(&mut composer, "/stop 1");
        let stop = Wish::Stop { from: bob(), name: Some("report.pdf".to_owned()) };
        assert_eq!(press(&mut composer, &Press::Submit), Composed::Wish(stop));
    }

    #[test]
    fn tabs_stay_what_they_are() {
        let mut composer = Composer::default();
        press(&mut composer, &Press::Paste("all:\n\tcc x.c\n".to_owned()));
        assert_eq!(press(&mut composer, &Press::Submit), said("all:\n\tcc x.c"));
        press(&mut composer, &Press::Paste("a\tb".to_owned()));
        let look = Look { color: false, unicode: true };
        assert_eq!(composer.row(look, 80).0.to_string(), "> a    b");
        assert_eq!(press(&mut composer, &Press::Submit), said("a\tb"));
    }

    #[test]
    fn names_are_asked_for_once() {
        let mut composer = Composer::default();
        write(&mut composer, "/get re");
        assert_eq!(press(&mut composer, &Press::Tab), Composed::Wish(Wish::Files { of: bob(), start: String::new() }));
        composer.catalogue_mut().add("report.pdf", 5, false);
        composer.names_known(&bob(), true);
        assert_eq!(
            press(&mut composer, &Press::Submit),
            Composed::Wish(Wish::Get { from: bob(), name: "report.pdf".to_owned() })
        );
    }
}
