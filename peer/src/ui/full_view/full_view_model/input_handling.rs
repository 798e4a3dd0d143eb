//! The effect of keys on the full view. Pure.

use std::time::Instant;

use super::FullViewModel;
use crate::ui::composer::ComposerAction;
use crate::ui::full_view::pane_layout::FocusedPane;
use crate::ui::full_view::view_overlay::ViewOverlay;
use crate::ui::line_editor::EditCommand;
use crate::ui::view::ViewCommand;
use crate::ui::view_input::{InputAction, unreadable_notice};

impl FullViewModel {
    pub(in crate::ui::full_view) fn handle_input(&mut self, press: &InputAction, now: Instant) -> Vec<ViewCommand> {
        // With the next key, the user has seen the notice.
        self.notice = None;
        match press {
            InputAction::Interrupt => return self.handle_interrupt(now),
            InputAction::Suspend => return vec![ViewCommand::Suspend],
            InputAction::Unreadable => {
                if self.chat.is_first_unreadable() {
                    self.show_notice(&unreadable_notice(), true);
                }
                return Vec::new();
            }
            _ => {}
        }
        if self.overlay.is_some() {
            return self.handle_overlay_input(press, now);
        }
        if self.focus == FocusedPane::Conversation
            && let Some(wishes) = self.handle_conversation_input(press, now)
        {
            return wishes;
        }
        match press {
            InputAction::EndOfInput => vec![ViewCommand::EndOfInput],
            InputAction::Help => self.open_overlay(ViewOverlay::Help { scroll_down: 0 }),
            InputAction::Tab => self.cycle_focus(1),
            InputAction::BackTab => self.cycle_focus(-1),
            InputAction::Escape => self.focus_pane(FocusedPane::Users),
            // Not in the conversation, where it was taken as text above.
            InputAction::Edit(EditCommand::Insert(text)) if text == "?" => {
                self.open_overlay(ViewOverlay::Help { scroll_down: 0 })
            }
            // Text typed in any pane goes into the conversation's input line.
            InputAction::Edit(EditCommand::Insert(_)) | InputAction::Paste(_) if self.selected.is_some() => {
                let mut wishes = self.focus_pane(FocusedPane::Conversation);
                wishes.extend(self.handle_conversation_input(press, now).into_iter().flatten());
                wishes
            }
            press => self.handle_pane_input(press),
        }
    }

    /// Handles a key in the conversation; `None` if it has no meaning there.
    fn handle_conversation_input(&mut self, press: &InputAction, now: Instant) -> Option<Vec<ViewCommand>> {
        let with = self.selected.clone()?;
        let (columns, page) = self.conversation_size().unwrap_or((1, 1));
        let theme = self.theme;
        // Before the key moves them: rows that came since the last drawing.
        self.pane_mut(&with).clamp_scroll(theme, columns, page);
        let page = page.saturating_sub(1).max(1);
        // A page overlaps by one row, so that the reader keeps the context.
        match press {
            InputAction::PageUp => self.pane_mut(&with).scroll_back += page,
            InputAction::PageDown => {
                let pane = self.pane_mut(&with);
                pane.scroll_back = pane.scroll_back.saturating_sub(page);
                return Some(self.reach_end(&with));
            }
            _ => match self.chat.handle_line_input(&with, press, now) {
                ComposerAction::Nothing => {}
                ComposerAction::Command(wish) => {
                    // Only Enter scrolls to the end: typing notices and completion requests are commands,
                    // too.
                    let comes_back =
                        *press == InputAction::Submit && std::mem::take(&mut self.pane_mut(&with).scroll_back) > 0;
                    let mut wishes = if comes_back { self.reach_end(&with) } else { Vec::new() };
                    wishes.push(wish);
                    return Some(wishes);
                }
                ComposerAction::Listing(ViewCommand::ListUsers) => return Some(self.focus_pane(FocusedPane::Users)),
                ComposerAction::Listing(wish) => {
                    self.focus = FocusedPane::Files;
                    return Some(vec![wish]);
                }
                // Pages are loaded while scrolling, so the range of `/history` doesn't matter here.
                ComposerAction::LookBack(_) => self.pane_mut(&with).scroll_back += page,
                ComposerAction::Members => self.show_members(),
                ComposerAction::Topic => self.show_topic(),
                ComposerAction::Help => return Some(self.open_overlay(ViewOverlay::Help { scroll_down: 0 })),
                ComposerAction::Problem(what) => self.pane_mut(&with).add_problem(&what),
                ComposerAction::Unhandled => return None,
            },
        }
        Some(self.load_older())
    }

    fn handle_pane_input(&mut self, press: &InputAction) -> Vec<ViewCommand> {
        match (self.focus, press) {
            (FocusedPane::Users, InputAction::Edit(EditCommand::Older)) => self.select_user(-1),
            (FocusedPane::Users, InputAction::Edit(EditCommand::Newer)) => self.select_user(1),
            (FocusedPane::Users, InputAction::Submit) if self.selected.is_some() => {
                self.focus_pane(FocusedPane::Conversation)
            }
            (FocusedPane::Users, InputAction::Reload) => vec![ViewCommand::ListUsers],
            (FocusedPane::Files, InputAction::Edit(EditCommand::Older)) => self.move_file_selection(-1),
            (FocusedPane::Files, InputAction::Edit(EditCommand::Newer)) => self.move_file_selection(1),
            (FocusedPane::Files, InputAction::PageUp) => self.move_file_selection(-10),
            (FocusedPane::Files, InputAction::PageDown) => self.move_file_selection(10),
            (FocusedPane::Files, InputAction::Submit) => self.fetch_selected(),
            (FocusedPane::Files, InputAction::Reload | InputAction::Edit(EditCommand::Backspace)) => {
                self.request_files(true)
            }
            _ => Vec::new(),
        }
    }

    /// Handles Ctrl-C: closes an overlay, else clears the input line, else leaves.
    fn handle_interrupt(&mut self, now: Instant) -> Vec<ViewCommand> {
        if self.overlay.is_some() {
            return self.handle_overlay_input(&InputAction::Interrupt, now);
        }
        let Some(with) = self.selected.clone() else { return vec![ViewCommand::Interrupt] };
        match self.chat.handle_line_input(&with, &InputAction::Interrupt, now) {
            ComposerAction::Unhandled => vec![ViewCommand::Interrupt],
            _ => Vec::new(),
        }
    }

    fn handle_overlay_input(&mut self, press: &InputAction, now: Instant) -> Vec<ViewCommand> {
        let step = usize::from(self.size.height / 2).max(1);
        let by = match press {
            InputAction::PageUp => -step.cast_signed(),
            InputAction::PageDown => step.cast_signed(),
            InputAction::Edit(EditCommand::Older) => -1,
            InputAction::Edit(EditCommand::Newer) => 1,
            _ => {
                self.overlay = None;
                let mut wishes = self.selected.clone().map(|with| self.mark_read(&with)).unwrap_or_default();
                // The first key closes the overlay; keys typed after it in the same read go to the pane
                // below.
                if let InputAction::Edit(EditCommand::Insert(keys)) = press
                    && let Some((at, _)) = keys.char_indices().nth(1)
                {
                    wishes
                        .extend(self.handle_input(&InputAction::Edit(EditCommand::Insert(keys[at..].to_owned())), now));
                }
                return wishes;
            }
        };
        match &mut self.overlay {
            Some(ViewOverlay::Help { scroll_down: down }) => *down = down.saturating_add_signed(by),
            Some(ViewOverlay::Found { scroll_back: back, .. }) => *back = back.saturating_add_signed(-by),
            None => {}
        }
        // Here as well: a burst of keys is drawn once.
        self.clamp_overlay();
        Vec::new()
    }
}
