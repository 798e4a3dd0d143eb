//! Pages of conversations, their requests and failures, in the full view. Pure.

use super::{FullViewModel, MAX_LOAD_INTERVAL, StatusNotice};
use crate::engine::chat::{ConversationName, MessageDirection, StoredMessage};
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
}
