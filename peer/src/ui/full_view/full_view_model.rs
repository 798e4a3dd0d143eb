//! The full view's model: turns updates into panes and [`ViewCommand`]s; keys are in `input_handling`. Pure.

mod input_handling;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ratatui_core::layout::{Rect, Size};
use shared::UserName;

use super::conversation_pane::{ConversationPane, FileListState};
use super::renderer::{self, PaneLayout};
use crate::engine::Notice;
use crate::engine::chat::StoredMessage;
use crate::engine::node::control::UserSummary;
use crate::engine::node_event::NodeEvent;
use crate::ui::event_text::{event_line, request_note};
use crate::ui::message_entry::{MessageEntry, delivery_mark};
use crate::ui::poll_backoff::PollBackoff;
use crate::ui::theme::TerminalTheme;
use crate::ui::transfer_list::TransferList;
use crate::ui::view::{ViewCommand, ViewUpdate};

/// Messages loaded per page.
const PAGE_MESSAGES: usize = 100;
/// Time after which a typing notice counts as outdated.
const TYPING_TIMEOUT: Duration = Duration::from_secs(7);
/// The longest pause between two polls of the user list.
const MAX_USERS_POLL_INTERVAL: Duration = Duration::from_secs(60);

/// The state of the full view.
#[derive(Debug)]
pub struct FullViewModel {
    pub(super) theme: TerminalTheme,
    pub(super) me: UserName,
    pub(super) users: Vec<UserSummary>,
    pub(super) selected_user: Option<UserName>,
    pub(super) conversations: HashMap<UserName, ConversationPane>,
    pub(super) transfers: TransferList,
    pub(super) focus: FocusedPane,
    pub(super) overlay: Option<ViewOverlay>,
    /// The index of the selected file.
    pub(super) selected_file: usize,
    /// The latest notice, shown in the help row until the next key.
    pub(super) notice: Option<StatusNotice>,
    users_poll: PollBackoff,
    /// True after the first [`NodeEvent::NotStored`] was shown; reset by a received message.
    has_reported_not_stored: bool,
    /// True after the first unreadable input was reported.
    has_reported_unreadable: bool,
    size: Size,
}

/// The pane that gets the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FocusedPane {
    Users,
    Conversation,
    Files,
    Transfers,
}

/// A page shown over the panes.
#[derive(Debug)]
pub(super) enum ViewOverlay {
    Help {
        /// The number of rows scrolled off at the top.
        scroll_down: usize,
    },
    Found {
        with: UserName,
        words: String,
        entries: Vec<MessageEntry>,
        scroll_back: usize,
    },
}

#[derive(Debug)]
pub(super) struct StatusNotice {
    pub(super) text: String,
    pub(super) is_problem: bool,
}

impl FullViewModel {
    /// Creates the model from the node's user list.
    pub fn new(theme: TerminalTheme, me: &UserName, people: &[UserSummary]) -> Self {
        let mut view = Self {
            theme,
            me: me.clone(),
            users: Vec::new(),
            selected_user: None,
            conversations: HashMap::new(),
            transfers: TransferList::default(),
            focus: FocusedPane::Users,
            overlay: None,
            selected_file: 0,
            notice: None,
            users_poll: PollBackoff::new(MAX_USERS_POLL_INTERVAL),
            has_reported_not_stored: false,
            has_reported_unreadable: false,
            size: Size::new(80, 24),
        };
        view.update_users(people);
        view
    }

    pub(super) fn start(&mut self) -> Vec<ViewCommand> {
        self.load_selected()
    }

    /// Adapts scroll positions and the selected file to the screen's size.
    pub(super) fn resize(&mut self, size: Size) {
        self.size = size;
        let Some(with) = self.selected_user.clone() else { return };
        let (theme, Some((columns, rows))) = (self.theme, renderer::conversation_size(self, self.area())) else {
            return;
        };
        let talk = self.conversations.entry(with.clone()).or_default();
        talk.clamp_scroll(&with, theme, columns, rows);
        let files = if let FileListState::Listed { files, .. } = &talk.files { files.len() } else { 0 };
        self.selected_file = self.selected_file.min(files.saturating_sub(1));
        match &mut self.overlay {
            Some(ViewOverlay::Help { scroll_down: down }) => {
                *down = (*down).min(renderer::help_rows(size, theme).saturating_sub(1));
            }
            Some(ViewOverlay::Found { .. }) | None => {}
        }
    }

    pub(super) fn layout(&self) -> PaneLayout {
        PaneLayout::arrange(self.area(), self.focus, self.transfers.running_count())
    }

    pub(super) fn selected_summary(&self) -> Option<&UserSummary> {
        self.users.iter().find(|person| Some(&person.user) == self.selected_user.as_ref())
    }

    pub(super) fn selected_conversation(&self) -> Option<&ConversationPane> {
        self.conversations.get(self.selected_user.as_ref()?)
    }

    /// Returns the conversation that has the focus. One that is merely shown beside the user list doesn't count: file
    /// transfers make room for an open conversation, and browsing the list must not slow them.
    pub(super) fn open_conversation(&self) -> Option<&UserName> {
        self.selected_user.as_ref().filter(|_| self.focus == FocusedPane::Conversation)
    }

    pub(super) fn handle_update(&mut self, news: &ViewUpdate, now: Instant) -> Vec<ViewCommand> {
        match news {
            ViewUpdate::Event(event) => return self.handle_event(event, now),
            ViewUpdate::Users(people) => {
                let had_nobody = self.selected_user.is_none();
                self.update_users(people);
                // The first user has just become the selected one.
                if had_nobody {
                    return self.load_selected();
                }
            }
            ViewUpdate::History { with, messages, .. } => {
                self.conversation_mut(with).insert_page(messages, PAGE_MESSAGES);
                return self.mark_read(with);
            }
            ViewUpdate::SearchResults { with, words, messages } => self.show_found(with, words, messages),
            ViewUpdate::Files { user: of, prefix: start, files } => {
                let talk = self.conversation_mut(of);
                talk.composer.files_mut().add_all(files);
                talk.files = FileListState::Listed { start: start.clone(), files: files.clone() };
                return talk.composer.handle_files_listed(of, start.is_empty()).into_iter().collect();
            }
            ViewUpdate::Paths { paths, .. } => {
                if let Some(with) = self.selected_user.clone() {
                    self.conversation_mut(&with).composer.handle_paths(paths);
                }
            }
            ViewUpdate::Note(text) => self.show_notice(text, false),
            ViewUpdate::Problem(text) => self.show_notice(text, true),
            ViewUpdate::Tick => {
                self.transfers.expire(now);
                for talk in self.conversations.values_mut() {
                    talk.typing_until = talk.typing_until.filter(|until| *until > now);
                }
                // A node that has just started doesn't know any presence yet.
                let mut wishes = self.poll_users(now);
                if self.layout().files.is_some() {
                    wishes.extend(self.request_files(false));
                }
                return wishes;
            }
            ViewUpdate::Hashing(file) => self.transfers.update_hashing(file, now),
            ViewUpdate::CaughtUp { .. } | ViewUpdate::Account { .. } | ViewUpdate::Resumed => {}
        }
        Vec::new()
    }

    fn handle_event(&mut self, event: &NodeEvent, now: Instant) -> Vec<ViewCommand> {
        self.transfers.handle_event(event, now);
        match event {
            NodeEvent::Received { from, message, seq, at } => {
                let talk = self.conversation_mut(from);
                talk.typing_until = None;
                talk.add(MessageEntry::from_received(message, *seq, *at));
                if let Some(offer) = &message.offer {
                    talk.composer.files_mut().add(offer.name.as_str(), offer.size, true);
                    // An offer extends the list of files, so the list is requested again.
                    talk.files = FileListState::Unknown;
                }
                self.has_reported_not_stored = false;
                match self.summary_mut(from) {
                    Some(person) => person.unread += 1,
                    None => return vec![ViewCommand::ListUsers],
                }
                return self.mark_read(from);
            }
            NodeEvent::ContactRequest { from } => {
                self.conversation_mut(from).add_note(&request_note(from));
                match self.summary_mut(from) {
                    Some(person) => person.request = true,
                    None => return vec![ViewCommand::ListUsers],
                }
            }
            NodeEvent::Accepted { user } => self.clear_request(user),
            NodeEvent::MessageQueued { to, message, seq } => {
                self.clear_request(to);
                self.conversation_mut(to).add(MessageEntry::from_sent(message, *seq));
                self.adjust_waiting(to, 1);
            }
            NodeEvent::MessageStateChanged { to, id, state, why, .. } => {
                self.conversation_mut(to).set_mark(*id, delivery_mark(*state));
                if !state.is_queued() {
                    self.adjust_waiting(to, -1);
                }
                if let (true, Some(why)) = (state.is_given_up(), why) {
                    self.conversation_mut(to).add_problem(&format!("not delivered: {why}"));
                }
            }
            NodeEvent::Read { with } => {
                if let Some(person) = self.summary_mut(with) {
                    person.unread = 0;
                }
            }
            NodeEvent::Typing { from } => self.conversation_mut(from).typing_until = Some(now + TYPING_TIMEOUT),
            NodeEvent::Presence { user, online } => match self.summary_mut(user) {
                Some(person) => {
                    person.online = Some(*online);
                    self.sort();
                }
                None => return vec![ViewCommand::ListUsers],
            },
            NodeEvent::DeliveryHeld { user, frozen, why } => {
                if let Some(person) = self.summary_mut(user)
                    && std::mem::replace(&mut person.frozen, *frozen) != *frozen
                    && *frozen
                {
                    self.conversation_mut(user).add_problem(why);
                }
            }
            // The sender repeats the message until it can be stored; one report is enough.
            NodeEvent::NotStored { from, .. } => {
                if !std::mem::replace(&mut self.has_reported_not_stored, true)
                    && let Some(line) = event_line(event)
                {
                    self.conversation_mut(from).add_problem(&line);
                    self.notice = Some(StatusNotice { text: line, is_problem: true });
                }
            }
            NodeEvent::Transfer(_) => {}
            NodeEvent::EventsMissed { .. } => {
                // Missed events may have changed every conversation; all are loaded again.
                self.conversations.values_mut().for_each(ConversationPane::forget);
                let mut wishes = self.load_selected();
                wishes.push(ViewCommand::ListUsers);
                return wishes;
            }
            event => self.show_event(event),
        }
        Vec::new()
    }

    fn clear_request(&mut self, user: &UserName) {
        if let Some(person) = self.summary_mut(user) {
            person.request = false;
        }
    }

    /// Shows an event in the conversation it belongs to, or else as a notice.
    fn show_event(&mut self, event: &NodeEvent) {
        let Some(line) = event_line(event) else { return };
        match event {
            NodeEvent::Notice(Notice::NewFriend { user, .. }) | NodeEvent::Fetched { by: user, .. } => {
                self.conversation_mut(user).add_note(&line);
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
        let count = if self.transfers.is_empty() { 3 } else { 4 };
        let here = all.iter().position(|focus| *focus == self.focus).unwrap_or(0);
        let next = (here.cast_signed() + step).rem_euclid(count);
        self.focus_pane(all[next.cast_unsigned()])
    }

    fn focus_pane(&mut self, focus: FocusedPane) -> Vec<ViewCommand> {
        self.focus = focus;
        match (focus, self.selected_user.clone()) {
            (FocusedPane::Conversation, Some(with)) => {
                // Read here, because `mark_read` resets it.
                let unread = self.summary_mut(&with).map_or(0, |person| person.unread);
                self.conversation_mut(&with).mark_unread(unread);
                self.mark_read(&with)
            }
            (FocusedPane::Files, Some(_)) => self.request_files(false),
            // Users may have come, or been blocked by another command.
            (FocusedPane::Users, _) => vec![ViewCommand::ListUsers],
            _ => Vec::new(),
        }
    }

    /// Marks the received messages of `with` as read, if their end is on the screen and all unread ones are loaded.
    fn mark_read(&mut self, with: &UserName) -> Vec<ViewCommand> {
        if !self.is_visible(with) {
            return Vec::new();
        }
        let unread = self.summary_mut(with).map_or(0, |person| person.unread);
        // Unread messages before the loaded part have not been seen.
        if !self.conversation_mut(with).has_received(unread) {
            return Vec::new();
        }
        if let Some(person) = self.summary_mut(with) {
            person.unread = 0;
        }
        let last = self.conversations.get(with).and_then(ConversationPane::last_seq);
        last.map(|up_to| ViewCommand::MarkRead { with: with.clone(), up_to }).into_iter().collect()
    }

    /// True if the end of the conversation with `with` is on the screen.
    fn is_visible(&self, with: &UserName) -> bool {
        let is_shown = self.focus == FocusedPane::Conversation
            && self.overlay.is_none()
            && self.selected_user.as_ref() == Some(with);
        is_shown && self.conversations.get(with).is_none_or(|talk| talk.scroll_back == 0)
    }

    fn select_user(&mut self, step: isize) -> Vec<ViewCommand> {
        let here = self.users.iter().position(|person| Some(&person.user) == self.selected_user.as_ref());
        let last = self.users.len().saturating_sub(1);
        let next = here.map_or(0, |here| here.saturating_add_signed(step).min(last));
        self.selected_user = self.users.get(next).map(|person| person.user.clone());
        self.selected_file = 0;
        self.load_selected()
    }

    /// Requests the first page and the files of the selected user.
    fn load_selected(&mut self) -> Vec<ViewCommand> {
        let Some(with) = self.selected_user.clone() else { return Vec::new() };
        // A hidden pane requests nothing: browsing the list would query every user.
        let is_seen = self.layout().files.is_some();
        let before = self.conversation_mut(&with).request_page(false);
        let mut wishes: Vec<ViewCommand> = before
            .map(|before| ViewCommand::LoadHistory { with, before, age: None, limit: PAGE_MESSAGES })
            .into_iter()
            .collect();
        if is_seen {
            wishes.extend(self.request_files(false));
        }
        wishes
    }

    fn load_older(&mut self) -> Vec<ViewCommand> {
        let Some(with) = self.selected_user.clone() else { return Vec::new() };
        let Some((columns, rows)) = renderer::conversation_size(self, self.area()) else { return Vec::new() };
        let theme = self.theme;
        let talk = self.conversation_mut(&with);
        // More is requested only if the first loaded row is on the screen.
        let is_at_the_end = talk.scroll_back > 0 && talk.clamp_scroll(&with, theme, columns, rows);
        let before = if is_at_the_end { talk.request_page(true) } else { None };
        before
            .map(|before| ViewCommand::LoadHistory { with, before, age: None, limit: PAGE_MESSAGES })
            .into_iter()
            .collect()
    }

    /// Requests the selected user's files if they are online; a known list is requested only `again`.
    fn request_files(&mut self, again: bool) -> Vec<ViewCommand> {
        let Some(person) = self.selected_summary() else { return Vec::new() };
        let (of, is_there) = (person.user.clone(), person.online == Some(true));
        let talk = self.conversation_mut(&of);
        if !is_there || (!again && !matches!(talk.files, FileListState::Unknown)) {
            return Vec::new();
        }
        talk.files = FileListState::Requested;
        vec![ViewCommand::ListFiles { user: of, prefix: String::new() }]
    }

    /// Polls the user list while any presence is unknown, with growing pauses.
    fn poll_users(&mut self, now: Instant) -> Vec<ViewCommand> {
        let is_known = self.users.iter().all(|person| person.online.is_some());
        if !is_known && self.users_poll.try_poll(now) { vec![ViewCommand::ListUsers] } else { Vec::new() }
    }

    fn move_file_selection(&mut self, step: isize) -> Vec<ViewCommand> {
        // `resize` clamps it to the number of files before the next drawing.
        self.selected_file = self.selected_file.saturating_add_signed(step);
        Vec::new()
    }

    fn fetch_selected(&self) -> Vec<ViewCommand> {
        let (Some(from), Some(talk)) = (self.selected_user.clone(), self.selected_conversation()) else {
            return Vec::new();
        };
        let FileListState::Listed { files, .. } = &talk.files else { return Vec::new() };
        let wish = |name: String| ViewCommand::Fetch { from, name };
        files.get(self.selected_file).map(|file| file.name.as_str().to_owned()).map(wish).into_iter().collect()
    }

    fn show_found(&mut self, with: &UserName, words: &str, messages: &[StoredMessage]) {
        let entries = messages.iter().map(MessageEntry::from_stored).collect();
        self.overlay =
            Some(ViewOverlay::Found { with: with.clone(), words: words.to_owned(), entries, scroll_back: 0 });
    }

    fn update_users(&mut self, people: &[UserSummary]) {
        people.clone_into(&mut self.users);
        if let Some(with) = self.selected_user.clone()
            && let Some(unread) = self.summary_mut(&with).map(|person| person.unread)
            // The node's count may be older than what is on the screen.
            && self.is_visible(&with)
            && self.conversation_mut(&with).has_received(unread)
            && let Some(person) = self.summary_mut(&with)
        {
            person.unread = 0;
        }
        self.sort();
        if self.selected_user.is_none() {
            self.selected_user = self.users.first().map(|person| person.user.clone());
        }
    }

    /// Sorts online users first and blocked ones last in each group, then by name.
    fn sort(&mut self) {
        self.users.sort_by(|one, other| {
            let key = |person: &UserSummary| (person.online != Some(true), person.blocked);
            key(one).cmp(&key(other)).then_with(|| one.user.as_str().cmp(other.user.as_str()))
        });
    }

    fn show_notice(&mut self, text: &str, is_problem: bool) {
        self.notice = Some(StatusNotice { text: text.to_owned(), is_problem });
        let Some(with) = self.selected_user.clone() else { return };
        let talk = self.conversation_mut(&with);
        match is_problem {
            true => talk.add_problem(text),
            false => talk.add_note(text),
        }
        // The problem may be the answer to the request for files, which would otherwise stay pending.
        if is_problem && matches!(talk.files, FileListState::Requested) {
            talk.files = FileListState::Failed;
        }
    }

    fn adjust_waiting(&mut self, user: &UserName, change: isize) {
        if let Some(person) = self.summary_mut(user) {
            person.waiting = person.waiting.saturating_add_signed(change);
        }
    }

    fn summary_mut(&mut self, user: &UserName) -> Option<&mut UserSummary> {
        self.users.iter_mut().find(|person| person.user == *user)
    }

    fn conversation_mut(&mut self, with: &UserName) -> &mut ConversationPane {
        self.conversations.entry(with.clone()).or_default()
    }

    const fn area(&self) -> Rect {
        Rect::new(0, 0, self.size.width, self.size.height)
    }
}
