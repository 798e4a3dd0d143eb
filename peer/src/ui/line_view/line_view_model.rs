//! The line view's model: turns keys and updates into scrollback items and [`ViewCommand`]s. Pure.

mod message_updates;
mod query_results;
mod room_updates;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use localization::tr;
use ratatui_core::text::Line;
use shared::UserName;
use shared::peer::MessageId;

use super::catch_up_buffer::{CatchUpBuffer, HeldMessage, MessageSource};
use super::shown_messages::ShownMessages;
use super::status_line::status_line;
use crate::engine::chat::{ConversationName, MessageDirection, StoredMessage};
use crate::engine::node::UserSummary;
use crate::engine::node_event::NodeEvent;
use crate::engine::room_values::{RoomNews, RoomNewsKind, RoomOverview};
use crate::ui::chat_model::ChatModel;
use crate::ui::composer::{ComposerAction, DraftLine, MessageComposer};
use crate::ui::conversation_item::{ConversationItem, rule_row, unread_heading};
use crate::ui::event_text::{event_line, request_note};
use crate::ui::human_format::hour_and_minute;
use crate::ui::inline_screen::ScrollbackRowId;
use crate::ui::message_entry::{MessageEntry, delivery_mark};
use crate::ui::poll_backoff::PollBackoff;
use crate::ui::slash_command::HistoryRange;
use crate::ui::text_rows::TextRow;
use crate::ui::theme::{DeliveryMark, TerminalTheme};
use crate::ui::view::{RequestFailure, ViewCommand, ViewUpdate};
use crate::ui::view_input::{InputAction, unreadable_notice};

/// The longest pause between two polls of the user list.
const MAX_USERS_POLL_INTERVAL: Duration = Duration::from_secs(300);
/// The longest pause between two attempts to load missed messages.
const MAX_CATCH_UP_INTERVAL: Duration = Duration::from_secs(30);
const MAX_TRANSFER_ROWS: usize = 3;
/// Lines without a message that are kept while another process has the terminal, the latest ones.
const MAX_SUSPENDED_LINES: usize = 500;

/// The state of the line view: one conversation, printed line by line.
#[derive(Debug)]
pub struct LineViewModel {
    pub(super) theme: TerminalTheme,
    pub(super) with: ConversationName,
    pub(super) chat: ChatModel,
    /// Shown own messages without an ack: their marks still change.
    marked_messages: HashMap<MessageId, MarkedMessage>,
    pending_items: Vec<ScrollbackItem>,
    day: String,
    /// Requested lists that are to be printed on arrival.
    pending_listings: PendingListings,
    /// The lowest sequence number shown; every message from there on is shown.
    first_seq: Option<i64>,
    shown: ShownMessages,
    /// The first unread message, if it is older than any shown message. While set, nothing is marked as read.
    first_unseen: Option<i64>,
    /// Events held while missed messages are being loaded.
    catch_up: Option<CatchUpBuffer>,
    /// The time of the next catch-up, if the last one failed.
    catch_up_poll: PollBackoff,
    /// True after the reason for that was shown.
    has_reported_gap: bool,
    account: AccountState,
    /// True while another process has the terminal: nothing is printed, and nothing counts as seen.
    is_suspended: bool,
}

/// The tracker's answer on whether the user has an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AccountState {
    Unknown,
    Requested,
    Exists,
    /// The tracker knows no account of this name.
    Missing,
}

#[derive(Debug, Default)]
struct PendingListings {
    /// The prefixes of the requested lists of files.
    files: Vec<String>,
    users: bool,
    /// The requested ranges, which tell whether fewer messages than requested arrived. Only the first is under way: where
    /// the next one begins is known after its answer.
    history: VecDeque<HistoryRange>,
}

impl PendingListings {
    /// Returns true, once, if a list with this prefix was requested.
    fn take_files(&mut self, prefix: &str) -> bool {
        let requested = self.files.iter().position(|requested| requested == prefix);
        requested.map(|place| self.files.remove(place)).is_some()
    }
}

#[derive(Debug, Clone, Copy)]
struct MarkedMessage {
    /// `None` before the message is printed.
    row: Option<ScrollbackRowId>,
    seq: i64,
    ts: i64,
    /// The cells of its mark on a wide screen.
    cells: usize,
}

/// An entry for the scrollback, or a change to one that is there.
#[derive(Debug, Clone)]
pub(in crate::ui) enum ScrollbackItem {
    Item(ConversationItem),
    /// A separator: a new day, or the first unread message.
    Rule(String),
    /// A new delivery mark for an own message; `row` is the message's row, if it was printed, and `ts` its time.
    Mark {
        mark: DeliveryMark,
        row: Option<ScrollbackRowId>,
        ts: i64,
        /// The cells of the mark on a wide screen.
        cells: usize,
    },
}

impl LineViewModel {
    /// Creates the model from the node's lists of users and rooms, and the latest stored messages (`before`).
    /// `unread_from` is the sequence number of the first unread message.
    pub fn new(
        theme: TerminalTheme,
        me: &UserName,
        with: &ConversationName,
        (people, rooms): (&[UserSummary], &[RoomOverview]),
        before: &[StoredMessage],
        unread_from: Option<i64>,
    ) -> Self {
        let mut view = Self {
            theme,
            with: with.clone(),
            chat: ChatModel::new(me, MAX_USERS_POLL_INTERVAL),
            marked_messages: HashMap::new(),
            pending_items: Vec::new(),
            day: String::new(),
            pending_listings: PendingListings::default(),
            first_seq: None,
            shown: ShownMessages::default(),
            first_unseen: None,
            catch_up: None,
            catch_up_poll: PollBackoff::new(MAX_CATCH_UP_INTERVAL),
            has_reported_gap: false,
            account: AccountState::Unknown,
            is_suspended: false,
        };
        // The entries below need the members of the room for their marks.
        view.chat.update_rooms(rooms);
        view.chat.update_users(people, with.person());
        let unread = view.chat.unread_count(with);
        let is_theirs = |stored: &&StoredMessage| stored.direction == MessageDirection::In;
        view.first_seq = before.first().map(|stored| stored.seq);
        for stored in before {
            let entry = view.chat.entry(stored);
            if unread_from == Some(stored.seq) {
                view.start_day(&entry);
                view.add_rule(unread_heading(unread));
            }
            let entry = view.with_send_number(entry);
            let has_send = entry.send.is_some();
            view.show_entry(entry);
            if !has_send {
                view.show_stored_offer(stored);
            }
        }
        if let Some(last) = before.iter().map(|stored| stored.seq).max() {
            view.shown.complete(last);
        }
        // After the shown messages, which the node's counts include.
        view.chat.update_users(people, with.person());
        view.chat.update_rooms(rooms);
        match with {
            ConversationName::Person(_) => {
                view.add_note(tr!("talking to {user}; /help shows what there is, Ctrl-D leaves", user = with));
            }
            ConversationName::Room(room) => view.introduce_room(room),
        }
        if let Some(person) = view.person().filter(|person| person.request) {
            let note = request_note(&person.user);
            view.add_note(note);
        }
        view.first_unseen = unread_from.filter(|unread| before.iter().all(|stored| stored.seq != *unread));
        if view.first_unseen.is_some() {
            let left = unread.saturating_sub(before.iter().filter(is_theirs).count());
            view.add_note(tr!(
                "{n} unread, {left} of them not shown: /history goes back to them, or `peer inbox`"
                    | "{n} unread, {left} of them not shown: /history goes back to them, or `peer inbox`" % unread,
                left
            ));
        }
        view
    }

    pub(super) const fn look(&self) -> TerminalTheme {
        self.theme
    }

    pub(in crate::ui) const fn with(&self) -> &ConversationName {
        &self.with
    }

    /// Returns the conversation, if it is on the screen.
    pub(super) fn open_conversation(&self) -> Option<&ConversationName> {
        Some(&self.with).filter(|_| !self.is_suspended)
    }

    /// Begins a time in which nothing is printed. Messages that come are loaded after it, so that none has to be kept.
    pub(super) const fn suspend(&mut self) {
        self.is_suspended = true;
    }

    /// Ends it.
    pub(super) fn resume(&mut self) -> Vec<ViewCommand> {
        if !std::mem::take(&mut self.is_suspended) {
            return Vec::new();
        }
        let mut wishes = self.mark_read();
        if self.shown.has_gap() {
            wishes.extend(self.request_catch_up());
        }
        wishes
    }

    /// Returns the first command: messages stored since `before` was read are announced by no event.
    pub(in crate::ui) fn start(&mut self) -> Vec<ViewCommand> {
        self.request_catch_up().into_iter().collect()
    }

    pub(in crate::ui) fn take_items(&mut self) -> Vec<ScrollbackItem> {
        std::mem::take(&mut self.pending_items)
    }

    /// Removes and returns the first items, at most `most`.
    pub(super) fn take_first_items(&mut self, most: usize) -> Vec<ScrollbackItem> {
        self.pending_items.drain(..most.min(self.pending_items.len())).collect()
    }

    pub(super) const fn has_items(&self) -> bool {
        !self.pending_items.is_empty()
    }

    /// True if the tracker knows no such account.
    fn is_unknown_user(&self) -> bool {
        self.account == AccountState::Missing
    }

    fn online(&self) -> Option<bool> {
        self.person().and_then(|person| person.online)
    }

    /// Returns what is known of the other user.
    fn person(&self) -> Option<&UserSummary> {
        self.chat.summary(self.with.person()?)
    }

    fn composer_mut(&mut self) -> &mut MessageComposer {
        &mut self.chat.conversation_mut(&self.with).composer
    }

    /// Remembers the row of a message, so that its mark can be changed later.
    pub(super) fn set_row(&mut self, id: MessageId, row: ScrollbackRowId) {
        if let Some(message) = self.marked_messages.get_mut(&id) {
            message.row = Some(row);
        }
    }

    pub(in crate::ui) fn handle_input(&mut self, press: &InputAction, now: Instant) -> Vec<ViewCommand> {
        match self.chat.handle_line_input(&self.with, press, now) {
            ComposerAction::Nothing => {}
            ComposerAction::Command(wish) => return vec![wish],
            ComposerAction::Listing(wish) => {
                // Remembered, because its answer is printed only if it was asked for: views also list by themselves.
                match wish {
                    ViewCommand::ListFiles { ref prefix, .. } => self.pending_listings.files.push(prefix.clone()),
                    _ => self.pending_listings.users = true,
                }
                return vec![wish];
            }
            ComposerAction::Help => self.show_help(),
            ComposerAction::Members => self.show_members(),
            ComposerAction::Topic => self.show_topic(),
            ComposerAction::LookBack(back) => return self.request_history(back),
            ComposerAction::Problem(what) => self.add_problem(what),
            ComposerAction::Unhandled => match press {
                InputAction::Help => self.show_help(),
                InputAction::Interrupt => return vec![ViewCommand::Interrupt],
                InputAction::EndOfInput => return vec![ViewCommand::EndOfInput],
                InputAction::Suspend => return vec![ViewCommand::Suspend],
                InputAction::Unreadable if self.chat.is_first_unreadable() => {
                    self.add_problem(unreadable_notice());
                }
                _ => {}
            },
        }
        Vec::new()
    }

    pub(in crate::ui) fn handle_update(&mut self, news: &ViewUpdate, now: Instant) -> Vec<ViewCommand> {
        match news {
            ViewUpdate::Event(event) => return self.handle_event(event, MessageSource::Node, now),
            ViewUpdate::StoredHere(event) => return self.handle_event(event, MessageSource::ThisView, now),
            ViewUpdate::Users(people) => {
                self.chat.update_users(people, self.with.person());
                if std::mem::take(&mut self.pending_listings.users) {
                    self.list_users(people);
                }
                return self.request_account();
            }
            ViewUpdate::Rooms(rooms) => self.chat.update_rooms(rooms),
            ViewUpdate::Account { user: of, exists, similar: like } if self.with == *of => {
                self.show_account(*exists, like);
            }
            ViewUpdate::UsersFailed(why) => {
                let is_asked = std::mem::take(&mut self.pending_listings.users);
                // Otherwise the view lists by itself, and will again.
                if is_asked || *why != RequestFailure::NoNode {
                    self.add_problem(why.words());
                }
            }
            ViewUpdate::CaughtUp { messages, .. } => return self.handle_catch_up(messages),
            ViewUpdate::CatchUpFailed { why, .. } => self.handle_catch_up_failed(why),
            ViewUpdate::SearchResults { words, messages, .. } => self.show_found(words, messages),
            ViewUpdate::Files { of, files, prefix: start } => {
                let wish = self.chat.handle_files(of, start, files);
                if self.pending_listings.take_files(start) {
                    self.list_files(start);
                }
                return wish.into_iter().collect();
            }
            ViewUpdate::FilesFailed { prefix, why, .. } => {
                self.pending_listings.take_files(prefix);
                self.composer_mut().handle_files_failed();
                self.add_problem(why.clone());
            }
            ViewUpdate::Paths { start, paths } => self.composer_mut().handle_paths(start, paths),
            ViewUpdate::Note(text) => self.add_note(text.clone()),
            ViewUpdate::Problem(text) => self.add_problem(text.clone()),
            ViewUpdate::Tick => {
                self.chat.expire(now);
                // With growing pauses: while the presence is unknown, and in a room, whose members' presence is told by
                // events only where it changes.
                let poll = if self.online().is_none() { self.chat.poll_users(now) } else { None };
                return poll.into_iter().chain(self.retry_catch_up(now)).collect();
            }
            ViewUpdate::Hashing(file) => self.chat.transfers.update_hashing(file, now),
            ViewUpdate::History { messages, .. } => return self.show_history(messages),
            ViewUpdate::HistoryFailed { why, .. } => {
                self.pending_listings.history.clear();
                self.add_problem(why.words());
            }
            ViewUpdate::Account { .. } | ViewUpdate::Resumed => {}
        }
        Vec::new()
    }

    /// Returns the line being written, and the live rows below it.
    pub(super) fn rows_below(&self, columns: usize, screen_rows: usize) -> (DraftLine, Vec<Line<'static>>) {
        let composer = self.chat.conversation(&self.with).map(|talk| &talk.composer);
        let line = composer.map(|composer| composer.visible_line(columns)).unwrap_or_default();
        // One row each for the line itself, the status line and at least one message above.
        let most = screen_rows.saturating_sub(3);
        let popup = composer.map(|composer| composer.popup_rows(self.theme, columns, most));
        let mut rows = popup.unwrap_or_default();
        // A popup replaces the transfers, which keeps the live rows few.
        if rows.is_empty() {
            rows.extend(self.chat.transfers.rows(self.theme, columns, MAX_TRANSFER_ROWS.min(most)));
        }
        if screen_rows > rows.len() + 1 {
            rows.push(status_line(&self.chat, &self.with, self.is_unknown_user(), self.theme, columns));
        }
        (line, rows)
    }

    /// Lays out an item as rows.
    pub(in crate::ui) fn rows_of(&self, item: &ScrollbackItem, columns: usize) -> Vec<TextRow> {
        match item {
            ScrollbackItem::Item(item) => item.rows(self.theme, columns, true),
            ScrollbackItem::Rule(text) => vec![rule_row(text, self.theme, columns)],
            ScrollbackItem::Mark { .. } => Vec::new(),
        }
    }

    /// Returns a note about acked messages whose marks have left the screen.
    pub(super) fn delivered_note(&self, late: &[i64]) -> Option<ScrollbackItem> {
        let ts = late.first()?;
        let (mark, time) = (self.theme.mark(DeliveryMark::Stored), hour_and_minute(*ts));
        Some(note(tr!(
            "{mark} delivered: your message of {time}" | "{mark} delivered: {n} messages of {time}" % late.len(),
            mark,
            time
        )))
    }

    fn handle_event(&mut self, event: &NodeEvent, source: MessageSource, now: Instant) -> Vec<ViewCommand> {
        let is_here = |user: &UserName| self.with == *user;
        let is_news = self.chat.handle_event(event, now);
        match event {
            NodeEvent::Received { from, message, seq, at } if is_here(from) => {
                let entry = MessageEntry::from_received(from, message, *seq, *at);
                return self.receive_message(HeldMessage { entry, offer: message.offer.clone(), source });
            }
            NodeEvent::MessageQueued { to, message, seq } if is_here(to) => {
                let entry = MessageEntry::from_sent(message, *seq);
                return self.receive_message(HeldMessage { entry, offer: None, source });
            }
            NodeEvent::MessageStateChanged { to, id, state, why, .. } if is_here(to) => {
                self.show_mark(*id, delivery_mark(*state), why.as_deref());
            }
            NodeEvent::RoomMessage(post) if self.with == post.room => {
                let others = self.chat.other_member_count(&post.room);
                let entry = MessageEntry::from_post(post, self.chat.me(), others);
                return self.receive_message(HeldMessage { entry, offer: None, source });
            }
            NodeEvent::Room(news) if self.with == news.room => self.show_room_news(news),
            NodeEvent::Room(RoomNews { kind: RoomNewsKind::Invited, .. }) => self.show_event(event),
            // Read in another view: nothing is left here to go back to.
            NodeEvent::Read { with } if *with == self.with => self.first_unseen = None,
            NodeEvent::ContactRequest { from } if is_news && is_here(from) => self.add_note(request_note(from)),
            // The status line shows that a user is offline, but a changed key needs its instructions printed.
            NodeEvent::Presence { user, .. } | NodeEvent::DeliveryHeld { user, .. } if is_news && is_here(user) => {
                self.show_event(event);
            }
            NodeEvent::Fetched { by, .. } if is_here(by) => self.show_event(event),
            NodeEvent::Follow(news) if is_here(&news.user) => self.show_event(event),
            NodeEvent::SendSettled { by: user, .. }
            | NodeEvent::SendAccepted { from: user, .. }
            | NodeEvent::SendHeld { from: user, .. }
            | NodeEvent::AcceptRuleEnded { user }
                if is_here(user) =>
            {
                self.show_event(event);
            }
            NodeEvent::NotStored { .. } if is_news => {
                event_line(event, self.chat.me()).into_iter().for_each(|line| self.add_problem(line));
            }
            // The node dropped events that this view was too slow to take; everything they said is loaded
            // again.
            NodeEvent::EventsMissed { .. } => {
                return self.request_catch_up().into_iter().chain([ViewCommand::ListUsers]).collect();
            }
            NodeEvent::TrackerLost { .. }
            | NodeEvent::SharesRefused { .. }
            | NodeEvent::Displaced(_)
            | NodeEvent::WishFound { .. }
            | NodeEvent::WishFetched { .. }
            | NodeEvent::Notice(_) => self.show_event(event),
            _ => {}
        }
        // The members of the room that is shown have to be known.
        let is_room = self.with.room().is_some();
        self.chat.request_unlisted().filter(|_| is_room).into_iter().collect()
    }

    fn start_day(&mut self, entry: &MessageEntry) {
        let day = entry.day();
        if day != self.day {
            self.add_rule(day.clone());
            self.day = day;
        }
    }

    fn show_entry(&mut self, entry: MessageEntry) {
        self.start_day(&entry);
        self.chat.track(&self.with, &entry);
        if !entry.mark.is_settled() {
            let (seq, ts, cells) = (entry.seq, entry.at, entry.room.map_or(1, |room| room.mark_cells));
            self.marked_messages.insert(entry.id, MarkedMessage { row: None, seq, ts, cells });
        }
        self.shown.add(entry.seq);
        self.first_seq.get_or_insert(entry.seq);
        self.push_item(ScrollbackItem::Item(ConversationItem::Entry(entry)));
    }

    fn show_event(&mut self, event: &NodeEvent) {
        if let Some(line) = event_line(event, self.chat.me()) {
            self.add_note(line);
        }
    }

    fn add_rule(&mut self, text: String) {
        self.push_item(ScrollbackItem::Rule(text));
    }

    fn add_note(&mut self, text: String) {
        self.push_item(note(text));
    }

    fn add_problem(&mut self, text: String) {
        self.push_item(ScrollbackItem::Item(ConversationItem::Problem(text)));
    }

    fn push_item(&mut self, item: ScrollbackItem) {
        let is_entry = |item: &ScrollbackItem| matches!(item, ScrollbackItem::Item(ConversationItem::Entry(_)));
        if self.is_suspended
            && self.pending_items.len() >= MAX_SUSPENDED_LINES
            && let Some(oldest) = self.pending_items.iter().position(|item| !is_entry(item))
        {
            self.pending_items.remove(oldest);
        }
        self.pending_items.push(item);
    }
}

const fn note(text: String) -> ScrollbackItem {
    ScrollbackItem::Item(ConversationItem::Note(text))
}
