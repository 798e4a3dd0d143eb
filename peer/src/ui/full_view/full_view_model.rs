//! The full view's model: turns updates into panes and [`ViewCommand`]s; keys are in `input_handling`. Pure.

mod file_selection;
mod history_updates;
mod input_handling;
mod room_updates;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use localization::tr;
use ratatui_core::layout::{Rect, Size};
use ratatui_core::text::Line;
use shared::{FileName, UserName};

use super::conversation_pane::{ConversationPane, FileListState};
use super::pane_layout::{FocusedPane, PaneLayout};
use super::view_overlay::ViewOverlay;
use crate::engine::Notice;
use crate::engine::chat::{ConversationName, StoredMessage};
use crate::engine::node::UserSummary;
use crate::engine::node_event::NodeEvent;
use crate::engine::room_values::RoomOverview;
use crate::ui::chat_model::{ChatModel, Conversation};
use crate::ui::event_text::{event_line, request_note};
use crate::ui::message_entry::{MessageEntry, delivery_mark};
use crate::ui::poll_backoff::PollBackoff;
use crate::ui::text_wrap::wrap_text;
use crate::ui::theme::TerminalTheme;
use crate::ui::view::{RequestFailure, ViewCommand, ViewUpdate};

/// The longest pause between two polls of the user list.
const MAX_USERS_POLL_INTERVAL: Duration = Duration::from_secs(60);
/// The longest pause between two attempts to load a conversation.
const MAX_LOAD_INTERVAL: Duration = Duration::from_secs(30);

/// The state of the full view.
#[derive(Debug)]
pub struct FullViewModel {
    pub(super) theme: TerminalTheme,
    pub(super) chat: ChatModel,
    pub(super) selected: Option<ConversationName>,
    panes: HashMap<ConversationName, ConversationPane>,
    pub(super) focus: FocusedPane,
    pub(super) overlay: Option<ViewOverlay>,
    /// The file that is marked; a name, since the list is loaded again while it is shown.
    selected_file: Option<FileName>,
    /// The latest notice, shown in the help row until the next key.
    pub(super) notice: Option<StatusNotice>,
    /// The time of the next attempt to load the selected conversation, if the last one failed.
    load_poll: PollBackoff,
    /// True after the reason for that was shown.
    has_reported_load: bool,
    /// True while another process has the terminal: nothing counts as seen.
    is_suspended: bool,
    size: Size,
}

#[derive(Debug)]
pub(super) struct StatusNotice {
    pub(super) text: String,
    pub(super) is_problem: bool,
}

impl FullViewModel {
    /// Creates the model from the node's lists of users and rooms.
    pub fn new(theme: TerminalTheme, me: &UserName, people: &[UserSummary], rooms: &[RoomOverview]) -> Self {
        let mut view = Self {
            theme,
            chat: ChatModel::new(me, MAX_USERS_POLL_INTERVAL),
            selected: None,
            panes: HashMap::new(),
            focus: FocusedPane::Users,
            overlay: None,
            selected_file: None,
            notice: None,
            load_poll: PollBackoff::new(MAX_LOAD_INTERVAL),
            has_reported_load: false,
            is_suspended: false,
            size: Size::new(80, 24),
        };
        // Before the users, whose list makes the first conversation the selected one: rooms stand on top.
        view.chat.update_rooms(rooms);
        view.update_users(people);
        view
    }

    pub(super) fn start(&mut self) -> Vec<ViewCommand> {
        self.load_selected()
    }

    /// Adapts scroll positions and the selected file to the screen's size.
    pub(super) fn resize(&mut self, size: Size) {
        self.size = size;
        self.clamp_overlay();
        // The file that is drawn as the marked one is the one that Enter fetches.
        self.mark_file(self.selected_file_index());
        let Some(with) = self.selected.clone() else { return };
        let (theme, shown) = (self.theme, self.conversation_size());
        let pane = self.pane_mut(&with);
        // A pane that isn't shown keeps its position.
        if let Some((columns, rows)) = shown {
            pane.clamp_scroll(theme, columns, rows);
        }
    }

    fn clamp_overlay(&mut self) {
        if let Some(overlay) = &mut self.overlay {
            overlay.clamp_scroll(self.size, self.theme, self.selected.as_ref());
        }
    }

    pub(super) fn layout(&self) -> PaneLayout {
        PaneLayout::arrange(self.area(), self.focus, self.chat.transfers.running_count())
    }

    /// Returns the columns and rows of the conversation's messages, without title and input line; `None` if it isn't
    /// shown.
    pub(super) fn conversation_size(&self) -> Option<(usize, usize)> {
        let pane = self.layout().conversation?;
        let columns = usize::from(pane.width);
        Some((columns, usize::from(pane.height).saturating_sub(2 + self.popup_rows(columns).len())))
    }

    /// Returns the rows below the input line: the composer's popup, or else a message request.
    pub(super) fn popup_rows(&self, columns: usize) -> Vec<Line<'static>> {
        let talk = self.selected_conversation();
        let asked = talk.map(|talk| talk.composer.popup_rows(self.theme, columns, 3)).unwrap_or_default();
        match self.selected_summary().filter(|person| person.request && asked.is_empty()) {
            // The title may be truncated, and the request would be lost with it.
            Some(person) => {
                let rows = wrap_text(&request_note(&person.user), columns).into_iter().take(2);
                rows.map(|row| Line::styled(row, self.theme.bold())).collect()
            }
            None => asked,
        }
    }

    pub(super) fn selected_summary(&self) -> Option<&UserSummary> {
        self.chat.summary(self.selected.as_ref()?.person()?)
    }

    pub(super) fn selected_conversation(&self) -> Option<&Conversation> {
        self.chat.conversation(self.selected.as_ref()?)
    }

    pub(super) fn selected_pane(&self) -> Option<&ConversationPane> {
        self.panes.get(self.selected.as_ref()?)
    }

    /// Returns the conversation that has the focus. One that is merely shown beside the user list doesn't count: file
    /// transfers make room for an open conversation, and browsing the list must not slow them.
    pub(super) fn open_conversation(&self) -> Option<&ConversationName> {
        self.selected.as_ref().filter(|_| self.focus == FocusedPane::Conversation && !self.is_suspended)
    }

    /// Begins a time in which nothing is drawn.
    pub(super) const fn suspend(&mut self) {
        self.is_suspended = true;
    }

    /// Ends it: what came meanwhile is seen now.
    pub(super) fn resume(&mut self) -> Vec<ViewCommand> {
        self.is_suspended = false;
        self.selected.clone().map(|with| self.mark_read(&with)).unwrap_or_default()
    }

    pub(super) fn handle_update(&mut self, news: &ViewUpdate, now: Instant) -> Vec<ViewCommand> {
        match news {
            ViewUpdate::StoredHere(event) => {
                if let NodeEvent::MessageQueued { to, message, seq } = event {
                    self.pane_mut(&to.into()).add_stored_here(MessageEntry::from_sent(message, *seq));
                }
                return self.handle_event(event, now);
            }
            ViewUpdate::Event(event) => return self.handle_event(event, now),
            ViewUpdate::Users(people) => {
                let had_nobody = self.selected.is_none();
                self.update_users(people);
                // The first user has just become the selected one.
                if had_nobody {
                    return self.load_selected();
                }
            }
            ViewUpdate::Rooms(rooms) => {
                self.chat.update_rooms(rooms);
                self.count_visible_as_read();
            }
            ViewUpdate::History { with, before, messages } => return self.insert_history(with, *before, messages),
            ViewUpdate::HistoryFailed { with, before, why } => self.handle_history_failure(with, *before, why),
            // The user may be in another conversation by now.
            ViewUpdate::SearchResults { with, words, messages } if self.selected.as_ref() == Some(with) => {
                self.show_found(words, messages);
            }
            ViewUpdate::Files { of, prefix: start, files } => {
                self.pane_mut(of).files = FileListState::Listed { start: start.clone(), files: files.clone() };
                return self.chat.handle_files(of, start, files).into_iter().collect();
            }
            ViewUpdate::FilesFailed { of, why, .. } => self.handle_files_failure(of, why),
            ViewUpdate::Paths { start, paths } => {
                if let Some(with) = self.selected.clone() {
                    self.chat.conversation_mut(&with).composer.handle_paths(start, paths);
                }
            }
            ViewUpdate::Note(text) => self.show_notice(text, false),
            ViewUpdate::Problem(text) => self.show_notice(text, true),
            ViewUpdate::Tick => return self.handle_tick(now),
            ViewUpdate::Hashing(file) => self.chat.transfers.update_hashing(file, now),
            ViewUpdate::UsersFailed(RequestFailure::Error(words)) => self.show_notice(words, true),
            // The list is requested again with the next node.
            ViewUpdate::UsersFailed(RequestFailure::NoNode)
            | ViewUpdate::SearchResults { .. }
            | ViewUpdate::CaughtUp { .. }
            | ViewUpdate::CatchUpFailed { .. }
            | ViewUpdate::Account { .. }
            | ViewUpdate::Resumed => {}
        }
        Vec::new()
    }

    fn handle_tick(&mut self, now: Instant) -> Vec<ViewCommand> {
        self.chat.expire(now);
        // With growing pauses: a node that has just started doesn't know any presence yet.
        let is_known = self.chat.users().iter().all(|person| person.online.is_some());
        let poll = if is_known { None } else { self.chat.poll_users(now) };
        let mut wishes: Vec<ViewCommand> = poll.into_iter().collect();
        if self.layout().files.is_some() {
            wishes.extend(self.request_files(false));
        }
        wishes.extend(self.retry_load(now));
        wishes
    }

    /// Gives what is sent with a message its number among the files that can be fetched.
    fn with_send_number(&mut self, with: &ConversationName, entry: MessageEntry, is_latest: bool) -> MessageEntry {
        let send = entry.send.as_ref().map(|send| (send.name_prefix(), send.size));
        let files = self.chat.conversation_mut(with).composer.files_mut();
        let number = send.map(|(name, size)| files.add(&name, size, is_latest));
        entry.with_send_number(number)
    }

    fn handle_event(&mut self, event: &NodeEvent, now: Instant) -> Vec<ViewCommand> {
        let is_news = self.chat.handle_event(event, now);
        let mut wishes = Vec::new();
        match event {
            NodeEvent::Received { from, message, seq, at } => {
                let with = from.into();
                let entry = MessageEntry::from_received(from, message, *seq, *at);
                let entry = self.with_send_number(&with, entry, true);
                self.pane_mut(&with).add(entry);
                if let Some(offer) = &message.offer {
                    self.chat.conversation_mut(&with).composer.files_mut().add(offer.name.as_str(), offer.size, true);
                    // An offer extends the list of files, so the list is requested again.
                    self.pane_mut(&with).files = FileListState::Unknown;
                }
                wishes.extend(self.mark_read(&with));
            }
            NodeEvent::MessageQueued { to, message, seq } => {
                self.pane_mut(&to.into()).add(MessageEntry::from_sent(message, *seq));
            }
            NodeEvent::MessageStateChanged { to, id, state, why, .. } => {
                let pane = self.pane_mut(&to.into());
                pane.set_mark(*id, delivery_mark(*state));
                if let (true, Some(why)) = (state.is_given_up(), why) {
                    pane.add_problem(&tr!("not delivered: {why}", why));
                }
            }
            NodeEvent::RoomMessage(post) => wishes.extend(self.receive_post(post)),
            NodeEvent::Room(news) => self.show_room_news(news),
            NodeEvent::ContactRequest { from } => self.pane_mut(&from.into()).add_note(&request_note(from)),
            // As much of guests as calls for attention: the rest is at their link.
            NodeEvent::GuestMessage(post) if post.message.is_answer || !(post.is_first || post.is_answered) => {}
            NodeEvent::DeliveryHeld { user, why, .. } if is_news => self.pane_mut(&user.into()).add_problem(why),
            NodeEvent::NotStored { from, .. } if is_news => {
                if let Some(line) = event_line(event, self.chat.me()) {
                    self.pane_mut(&from.into()).add_problem(&line);
                    self.notice = Some(StatusNotice { text: line, is_problem: true });
                }
            }
            NodeEvent::EventsMissed { .. } => {
                // Missed events may have changed every conversation; all are loaded again.
                self.panes.values_mut().for_each(ConversationPane::mark_stale);
                self.chat.forget_undelivered();
                wishes = self.load_selected();
                wishes.push(ViewCommand::ListUsers);
            }
            // The panes show the shared state.
            NodeEvent::Read { .. }
            | NodeEvent::Accepted { .. }
            | NodeEvent::Typing { .. }
            | NodeEvent::Presence { .. }
            | NodeEvent::DeliveryHeld { .. }
            | NodeEvent::NotStored { .. } => {}
            event => self.show_event(event),
        }
        wishes.extend(self.chat.request_unlisted());
        wishes
    }

    /// Shows an event in the conversation it belongs to, or else as a notice.
    fn show_event(&mut self, event: &NodeEvent) {
        let Some(line) = event_line(event, self.chat.me()) else { return };
        match event {
            NodeEvent::Notice(Notice::NewFriend { user, .. }) | NodeEvent::Fetched { by: user, .. } => {
                self.pane_mut(&user.into()).add_note(&line);
            }
            _ => self.notice = Some(StatusNotice { text: line, is_problem: false }),
        }
    }

    fn open_overlay(&mut self, overlay: ViewOverlay) -> Vec<ViewCommand> {
        self.overlay = Some(overlay);
        Vec::new()
    }

    fn cycle_focus(&mut self, step: isize) -> Vec<ViewCommand> {
        let all = [FocusedPane::Users, FocusedPane::Conversation, FocusedPane::Files, FocusedPane::Transfers];
        // Without transfers their pane, which hides the others, would be an empty screen.
        let count = if self.chat.transfers.is_empty() { 3 } else { 4 };
        let here = all.iter().position(|focus| *focus == self.focus).unwrap_or(0);
        let next = (here.cast_signed() + step).rem_euclid(count);
        self.focus_pane(all[next.cast_unsigned()])
    }

    fn focus_pane(&mut self, focus: FocusedPane) -> Vec<ViewCommand> {
        self.focus = focus;
        match (focus, self.selected.clone()) {
            (FocusedPane::Conversation, Some(with)) => {
                // Read here, because `mark_read` resets it.
                let unread = self.chat.unread_count(&with);
                self.pane_mut(&with).mark_unread(unread);
                self.mark_read(&with)
            }
            (FocusedPane::Files, Some(_)) => self.request_files(false),
            // Users may have come, or been blocked by another command.
            (FocusedPane::Users, _) => vec![ViewCommand::ListUsers],
            _ => Vec::new(),
        }
    }

    fn select_user(&mut self, step: isize) -> Vec<ViewCommand> {
        let all = self.conversations();
        let here = all.iter().position(|with| Some(with) == self.selected.as_ref());
        let last = all.len().saturating_sub(1);
        let next = here.map_or(0, |here| here.saturating_add_signed(step).min(last));
        self.selected = all.into_iter().nth(next);
        self.selected_file = None;
        self.load_selected()
    }

    fn show_found(&mut self, words: &str, messages: &[StoredMessage]) {
        let entries = messages.iter().map(|stored| self.chat.entry(stored)).collect();
        self.overlay = Some(ViewOverlay::Found { words: words.to_owned(), entries, scroll_back: 0 });
    }

    fn update_users(&mut self, people: &[UserSummary]) {
        self.chat.update_users(people, None);
        self.count_visible_as_read();
        if self.selected.is_none() {
            self.selected = self.conversations().into_iter().next();
        }
    }

    /// Drops the unread count of the visible conversation: the node's count may be older than what is on the screen.
    fn count_visible_as_read(&mut self) {
        let Some(with) = self.selected.clone() else { return };
        let unread = self.chat.unread_count(&with);
        if self.is_visible(&with) && self.pane_mut(&with).has_received(unread) {
            self.chat.clear_unread(&with);
        }
    }

    /// Returns all conversations of the list: rooms, then users.
    pub(super) fn conversations(&self) -> Vec<ConversationName> {
        let rooms = self.chat.rooms().iter().map(|room| (&room.room).into());
        rooms.chain(self.chat.users().iter().map(|person| (&person.user).into())).collect()
    }

    fn show_notice(&mut self, text: &str, is_problem: bool) {
        self.notice = Some(StatusNotice { text: text.to_owned(), is_problem });
        let Some(with) = self.selected.clone() else { return };
        let pane = self.pane_mut(&with);
        // In the conversation as well: the next key removes the notice.
        match is_problem {
            true => pane.add_problem(text),
            false => pane.add_note(text),
        }
    }

    fn pane_mut(&mut self, with: &ConversationName) -> &mut ConversationPane {
        self.panes.entry(with.clone()).or_default()
    }

    const fn area(&self) -> Rect {
        Rect::new(0, 0, self.size.width, self.size.height)
    }
}
