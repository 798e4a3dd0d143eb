//! Pages of conversations, their requests and failures, in the full view; what of them is read. Pure.

use std::time::Instant;

use super::{FullViewModel, MAX_LOAD_INTERVAL, StatusNotice};
use crate::engine::chat::{ConversationName, MessageDirection, StoredMessage};
use crate::ui::full_view::conversation_pane::ConversationPane;
use crate::ui::full_view::pane_layout::FocusedPane;
use crate::ui::message_entry::MessageEntry;
use crate::ui::poll_backoff::PollBackoff;
use crate::ui::view::{RequestFailure, ViewCommand};

/// Messages loaded per page.
const PAGE_MESSAGES: usize = 100;

impl FullViewModel {
    /// Requests a page if one is due: the newest one, or if `further`, the one before the loaded messages.
    pub(super) fn request_history(&mut self, with: &ConversationName, further: bool) -> Option<ViewCommand> {
        let before = self.pane_mut(with).request_page(further)?;
        Some(ViewCommand::LoadHistory { with: with.clone(), before, age: None, limit: PAGE_MESSAGES })
    }

    /// Takes a page over, unless it is not the one that was requested.
    pub(super) fn insert_history(
        &mut self,
        with: &ConversationName,
        before: Option<i64>,
        messages: &[StoredMessage],
    ) -> Vec<ViewCommand> {
        if !self.pane_mut(with).expects_page(before) {
            return Vec::new();
        }
        // An older page has no offer that is the latest one.
        let is_newest = before.is_none();
        let theirs = messages.iter().filter(|stored| stored.direction == MessageDirection::In);
        for offer in theirs.filter_map(|stored| stored.message.offer.as_ref()) {
            let files = self.chat.conversation_mut(with).composer.files_mut();
            files.add(offer.name.as_str(), offer.size, is_newest);
        }
        let page: Vec<MessageEntry> = messages.iter().map(|stored| self.chat.entry(stored)).collect();
        let page = page.into_iter().map(|entry| self.with_send_number(with, entry, is_newest)).collect();
        self.pane_mut(with).insert_page(before, page, PAGE_MESSAGES);
        self.load_poll = PollBackoff::new(MAX_LOAD_INTERVAL);
        self.has_reported_load = false;
        let mut wishes = self.mark_read(with);
        // Events may have been missed since the request.
        if self.selected.as_ref() == Some(with) {
            wishes.extend(self.request_history(with, false));
        }
        wishes
    }

    /// Handles the failure of a request. The newest page is requested again after a while.
    pub(super) fn handle_history_failure(
        &mut self,
        with: &ConversationName,
        before: Option<i64>,
        why: &RequestFailure,
    ) {
        self.pane_mut(with).release_page(before);
        match why {
            // The user's own wish, who looks back.
            why if before.is_some() => self.notice = Some(StatusNotice { text: why.words(), is_problem: true }),
            RequestFailure::Error(words) if !std::mem::replace(&mut self.has_reported_load, true) => {
                self.show_notice(words, true);
            }
            _ => {}
        }
    }

    /// Marks the received messages of `with` as read, if their end is on the screen and all unread ones are loaded.
    pub(super) fn mark_read(&mut self, with: &ConversationName) -> Vec<ViewCommand> {
        if !self.is_visible(with) {
            return Vec::new();
        }
        let unread = self.chat.unread_count(with);
        // Unread messages before the loaded part have not been seen.
        if !self.pane_mut(with).has_received(unread) {
            return Vec::new();
        }
        if unread > 0 {
            self.chat.clear_unread(with);
        }
        let last = self.panes.get(with).and_then(ConversationPane::last_seq);
        last.map(|up_to| ViewCommand::MarkRead { with: with.clone(), up_to }).into_iter().collect()
    }

    /// True if the end of the conversation with `with` is on the screen.
    pub(super) fn is_visible(&self, with: &ConversationName) -> bool {
        let is_shown =
            self.focus == FocusedPane::Conversation && self.overlay.is_none() && self.selected.as_ref() == Some(with);
        !self.is_suspended && is_shown && self.panes.get(with).is_none_or(|pane| pane.scroll_back == 0)
    }

    /// Requests the first page and the files of the selected user.
    pub(super) fn load_selected(&mut self) -> Vec<ViewCommand> {
        let Some(with) = self.selected.clone() else { return Vec::new() };
        // A hidden pane requests nothing: browsing the list would query every user.
        let is_seen = self.layout().files.is_some();
        let mut wishes: Vec<ViewCommand> = self.request_history(&with, false).into_iter().collect();
        if is_seen {
            wishes.extend(self.request_files(false));
        }
        wishes
    }

    pub(super) fn load_older(&mut self) -> Vec<ViewCommand> {
        let Some(with) = self.selected.clone() else { return Vec::new() };
        let Some((columns, rows)) = self.conversation_size() else { return Vec::new() };
        let theme = self.theme;
        let pane = self.pane_mut(&with);
        // More is requested only if the first loaded row is on the screen.
        let is_at_the_end = pane.scroll_back > 0 && pane.clamp_scroll(theme, columns, rows);
        if is_at_the_end { self.request_history(&with, true).into_iter().collect() } else { Vec::new() }
    }

    /// Requests the selected conversation again, if that failed.
    pub(super) fn retry_load(&mut self, now: Instant) -> Option<ViewCommand> {
        let with = self.selected.clone()?;
        let is_due = self.pane_mut(&with).is_page_due() && self.load_poll.try_poll(now);
        if is_due { self.request_history(&with, false) } else { None }
    }

    /// Handles the arrival of the user at the end of the conversation.
    pub(super) fn reach_end(&mut self, with: &ConversationName) -> Vec<ViewCommand> {
        let mut wishes = self.mark_read(with);
        // What was not loaded again while they looked back.
        wishes.extend(self.request_history(with, false));
        wishes
    }
}
