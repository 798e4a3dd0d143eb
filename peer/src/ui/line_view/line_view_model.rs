//! The line view's model: turns keys and updates into scrollback items and [`ViewCommand`]s. Pure.

mod message_updates;
mod query_results;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use ratatui_core::text::{Line, Span};
use shared::UserName;
use shared::peer::MessageId;
use shared::safe_text::safe_block;

use super::catch_up_buffer::CatchUpBuffer;
use super::status_line;
use crate::engine::chat::{MessageDirection, StoredMessage};
use crate::engine::node::control::UserSummary;
use crate::engine::node_event::NodeEvent;
use crate::ui::composer::{ComposerAction, DraftLine, MessageComposer};
use crate::ui::event_text::{event_line, request_note};
use crate::ui::human_format::hour_and_minute;
use crate::ui::inline_screen::ScrollbackRowId;
use crate::ui::message_entry::{MessageEntry, delivery_mark};
use crate::ui::poll_backoff::PollBackoff;
use crate::ui::slash_command::HistoryRange;
use crate::ui::text_rows::{TextRow, WrapOptions, layout_rows};
use crate::ui::text_wrap::truncate;
use crate::ui::theme::{DeliveryMark, TerminalTheme};
use crate::ui::transfer_list::TransferList;
use crate::ui::view::{ViewCommand, ViewUpdate};
use crate::ui::view_input::{InputAction, UNREADABLE_NOTICE};

/// Time after which a typing notice counts as outdated.
const TYPING_TIMEOUT: Duration = Duration::from_secs(7);
/// The longest pause between two polls of the user list.
const MAX_USERS_POLL_INTERVAL: Duration = Duration::from_secs(300);
const MAX_TRANSFER_ROWS: usize = 3;

/// The state of the line view: one conversation, printed line by line.
#[derive(Debug)]
pub struct LineViewModel {
    pub(super) theme: TerminalTheme,
    pub(super) with: UserName,
    pub(super) online: Option<bool>,
    pub(super) typing_until: Option<Instant>,
    pub(super) frozen: bool,
    /// The user is blocked.
    pub(super) blocked: bool,
    /// The user's message request is open: neither accepted nor ignored.
    pub(super) request: bool,
    /// The number of unread messages in each other conversation.
    pub(super) unread_elsewhere: BTreeMap<UserName, usize>,
    pub(super) transfers: TransferList,
    /// Own messages without an ack that were shown here.
    undelivered: HashMap<MessageId, UndeliveredMessage>,
    /// The number of own messages without an ack that are older than any shown message.
    pub(super) undelivered_before: usize,
    composer: MessageComposer,
    pending_items: Vec<ScrollbackItem>,
    day: String,
    /// Requested lists that are to be printed on arrival.
    pending_listings: PendingListings,
    /// The lowest sequence number shown; every message from there on is shown.
    first_seq: Option<i64>,
    /// The highest sequence number shown.
    last_seq: i64,
    /// The first unread message, if it is older than any shown message. While set, nothing is marked as read.
    first_unseen: Option<i64>,
    /// Events held while missed messages are being loaded.
    catch_up: Option<CatchUpBuffer>,
    account: AccountState,
    users_poll: PollBackoff,
    /// True after the first [`NodeEvent::NotStored`] was shown; reset by a received message.
    has_reported_not_stored: bool,
    /// True after the first unreadable input was reported.
    has_reported_unreadable: bool,
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
    files: bool,
    users: bool,
    /// The requested range; it tells whether fewer messages than requested arrived.
    history: Option<HistoryRange>,
}

#[derive(Debug, Clone, Copy)]
struct UndeliveredMessage {
    row: Option<ScrollbackRowId>,
    ts: i64,
    seq: i64,
}

/// An entry for the scrollback, or a change to one that is there.
#[derive(Debug, Clone)]
pub(in crate::ui) enum ScrollbackItem {
    Entry(MessageEntry),
    /// A separator: a new day, or the first unread message.
    Rule(String),
    Note(String),
    Problem(String),
    /// A new delivery mark for an own message; `row` is the message's row, if it was printed, and `ts` its time.
    Mark {
        mark: DeliveryMark,
        row: Option<ScrollbackRowId>,
        ts: i64,
    },
}

impl LineViewModel {
    /// Creates the model from the node's user list and the latest stored messages (`before`). `unread_from` is the
    /// sequence number of the first unread message.
    pub fn new(
        theme: TerminalTheme,
        with: &UserName,
        people: &[UserSummary],
        before: &[StoredMessage],
        unread_from: Option<i64>,
    ) -> Self {
        let mut view = Self {
            theme,
            with: with.clone(),
            online: None,
            typing_until: None,
            frozen: false,
            blocked: false,
            request: false,
            unread_elsewhere: BTreeMap::new(),
            transfers: TransferList::default(),
            undelivered: HashMap::new(),
            undelivered_before: 0,
            composer: MessageComposer::default(),
            pending_items: Vec::new(),
            day: String::new(),
            pending_listings: PendingListings::default(),
            first_seq: None,
            last_seq: 0,
            first_unseen: None,
            catch_up: None,
            account: AccountState::Unknown,
            users_poll: PollBackoff::new(MAX_USERS_POLL_INTERVAL),
            has_reported_not_stored: false,
            has_reported_unreadable: false,
        };
        let (unread, waiting) = view.update_users(people);
        let is_theirs = |stored: &&StoredMessage| stored.direction == MessageDirection::In;
        view.first_seq = before.first().map(|stored| stored.seq);
        for stored in before {
            let entry = MessageEntry::from_stored(stored);
            if unread_from == Some(stored.seq) {
                view.start_day(&entry);
                view.add_rule(format!("{unread} new"));
            }
            view.show_entry(entry);
            view.show_stored_offer(stored);
        }
        // The node counts all unacked messages; the shown ones are counted on their own.
        view.undelivered_before = waiting.saturating_sub(view.undelivered.len());
        view.add_note(format!("talking to {with}; /help shows what there is, Ctrl-D leaves"));
        if view.request {
            view.add_note(request_note(with));
        }
        view.first_unseen = unread_from.filter(|unread| view.first_seq.is_some_and(|first| *unread < first));
        if view.first_unseen.is_some() {
            let left = unread.saturating_sub(before.iter().filter(is_theirs).count());
            view.add_note(format!(
                "{unread} unread, {left} of them not shown: /history goes back to them, or `peer inbox`"
            ));
        }
        view
    }

    pub(super) const fn look(&self) -> TerminalTheme {
        self.theme
    }

    pub(in crate::ui) const fn with(&self) -> &UserName {
        &self.with
    }

    /// Returns the first command: messages stored since `before` was read are announced by no event.
    pub(in crate::ui) fn start(&mut self) -> Vec<ViewCommand> {
        vec![self.request_catch_up()]
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
    pub(super) fn is_unknown_user(&self) -> bool {
        self.account == AccountState::Missing
    }

    /// Returns the number of own messages without an ack.
    pub(super) fn undelivered_count(&self) -> usize {
        self.undelivered.len() + self.undelivered_before
    }

    /// Remembers the row of a message, so that its mark can be changed later.
    pub(super) fn set_row(&mut self, id: MessageId, row: ScrollbackRowId) {
        if let Some(open) = self.undelivered.get_mut(&id) {
            open.row = Some(row);
        }
    }

    pub(in crate::ui) fn handle_input(&mut self, press: &InputAction, now: Instant) -> Vec<ViewCommand> {
        match self.composer.handle_input(press, &self.with, self.online == Some(true), now) {
            ComposerAction::Nothing => {}
            ComposerAction::Command(wish) => return vec![wish],
            ComposerAction::Listing(wish) => {
                match wish {
                    ViewCommand::ListFiles { .. } => self.pending_listings.files = true,
                    _ => self.pending_listings.users = true,
                }
                return vec![wish];
            }
            ComposerAction::Help => self.show_help(),
            ComposerAction::LookBack(back) => return self.request_history(back),
            ComposerAction::Problem(what) => self.pending_items.push(ScrollbackItem::Problem(what)),
            ComposerAction::Unhandled => match press {
                InputAction::Help => self.show_help(),
                InputAction::Interrupt => return vec![ViewCommand::Interrupt],
                InputAction::EndOfInput => return vec![ViewCommand::EndOfInput],
                InputAction::Suspend => return vec![ViewCommand::Suspend],
                InputAction::Unreadable if !std::mem::replace(&mut self.has_reported_unreadable, true) => {
                    self.pending_items.push(ScrollbackItem::Problem(UNREADABLE_NOTICE.to_owned()));
                }
                _ => {}
            },
        }
        Vec::new()
    }

    pub(in crate::ui) fn handle_update(&mut self, news: &ViewUpdate, now: Instant) -> Vec<ViewCommand> {
        match news {
            ViewUpdate::Event(event) => return self.handle_event(event, now),
            ViewUpdate::Users(people) => {
                let (_, waiting) = self.update_users(people);
                self.undelivered_before = waiting.saturating_sub(self.undelivered.len());
                if std::mem::take(&mut self.pending_listings.users) {
                    self.list_users(people);
                }
                return self.request_account();
            }
            ViewUpdate::Account { user: of, exists, similar: like } if *of == self.with => {
                self.show_account(*exists, like);
            }
            ViewUpdate::CaughtUp { messages, .. } => return self.handle_catch_up(messages),
            ViewUpdate::SearchResults { words, messages, .. } => self.show_found(words, messages),
            ViewUpdate::Files { files, prefix: start, .. } => {
                self.composer.files_mut().add_all(files);
                let wish = self.composer.handle_files_listed(&self.with, start.is_empty());
                if std::mem::take(&mut self.pending_listings.files) {
                    self.list_files(start);
                }
                return wish.into_iter().collect();
            }
            ViewUpdate::Paths { paths, .. } => self.composer.handle_paths(paths),
            ViewUpdate::Note(text) => self.add_note(text.clone()),
            ViewUpdate::Problem(text) => self.pending_items.push(ScrollbackItem::Problem(text.clone())),
            ViewUpdate::Tick => {
                self.typing_until = self.typing_until.filter(|until| *until > now);
                self.transfers.expire(now);
                return self.poll_users(now);
            }
            ViewUpdate::Hashing(file) => self.transfers.update_hashing(file, now),
            ViewUpdate::History { messages, .. } => return self.show_history(messages),
            ViewUpdate::Account { .. } | ViewUpdate::Resumed => {}
        }
        Vec::new()
    }

    /// Returns the line being written, and the live rows below it.
    pub(super) fn rows_below(&self, columns: usize, screen_rows: usize) -> (DraftLine, Vec<Line<'static>>) {
        let line = self.composer.visible_line(columns);
        // One row each for the line itself, the status line and at least one message above.
        let most = screen_rows.saturating_sub(3);
        let mut rows = self.composer.popup_rows(self.theme, columns, most);
        // A popup replaces the transfers, which keeps the live rows few.
        if rows.is_empty() {
            rows.extend(self.transfers.rows(self.theme, columns, MAX_TRANSFER_ROWS.min(most)));
        }
        if screen_rows > rows.len() + 1 {
            rows.push(status_line::status_line(self, columns));
        }
        (line, rows)
    }

    /// Lays out an item as rows.
    pub(in crate::ui) fn rows_of(&self, item: &ScrollbackItem, columns: usize) -> Vec<TextRow> {
        // Further rows are indented, so that no line of a note can pass for a message.
        let plain = |text: &str, style| {
            let wrapping = WrapOptions { columns, indent: 2, joins_words: true };
            layout_rows(vec![Span::raw("  ")], &safe_block(text).replace('\t', "    "), style, wrapping)
        };
        match item {
            ScrollbackItem::Entry(entry) => entry.rows(&self.with, self.theme, columns, true),
            ScrollbackItem::Rule(text) => {
                let dash = if self.theme.unicode { "──" } else { "--" };
                vec![Line::styled(truncate(&format!("{dash} {text} {dash}"), columns, ""), self.theme.dim()).into()]
            }
            ScrollbackItem::Note(text) => plain(text, self.theme.dim()),
            ScrollbackItem::Problem(text) => plain(&format!("! {text}"), self.theme.problem()),
            ScrollbackItem::Mark { .. } => Vec::new(),
        }
    }

    /// Returns a note about acked messages whose marks have left the screen.
    pub(super) fn delivered_note(&self, late: &[i64]) -> Option<ScrollbackItem> {
        let ts = late.first()?;
        let what = if late.len() == 1 { "your message".to_owned() } else { format!("{} messages", late.len()) };
        Some(ScrollbackItem::Note(format!(
            "{} delivered: {what} of {}",
            self.theme.mark(DeliveryMark::Stored),
            hour_and_minute(*ts)
        )))
    }

    fn handle_event(&mut self, event: &NodeEvent, now: Instant) -> Vec<ViewCommand> {
        self.transfers.handle_event(event, now);
        match event {
            NodeEvent::Received { from, message, seq, at } if *from == self.with => {
                (self.typing_until, self.has_reported_not_stored) = (None, false);
                return self.receive_message(MessageEntry::from_received(message, *seq, *at), message);
            }
            NodeEvent::Received { from, .. } => {
                *self.unread_elsewhere.entry(from.clone()).or_default() += 1;
            }
            NodeEvent::Read { with } if *with == self.with => self.first_unseen = None,
            NodeEvent::Read { with } => {
                self.unread_elsewhere.remove(with);
            }
            NodeEvent::ContactRequest { from } if *from == self.with && !std::mem::replace(&mut self.request, true) => {
                self.add_note(request_note(from));
            }
            NodeEvent::Accepted { user } if *user == self.with => self.request = false,
            NodeEvent::MessageQueued { to, message, seq } if *to == self.with => {
                self.request = false;
                return self.receive_message(MessageEntry::from_sent(message, *seq), message);
            }
            NodeEvent::MessageStateChanged { to, id, state, why, .. } if *to == self.with => {
                self.settle(*id, delivery_mark(*state), why.as_deref());
            }
            NodeEvent::Typing { from } if *from == self.with => self.typing_until = Some(now + TYPING_TIMEOUT),
            // Presence may be announced more than once; only a change is shown.
            NodeEvent::Presence { user, online }
                if *user == self.with && self.online.replace(*online) != Some(*online) =>
            {
                self.show_event(event);
            }
            // The status line shows that a user is offline, but a changed key needs its instructions printed.
            NodeEvent::DeliveryHeld { user, frozen: true, .. }
                if *user == self.with && !std::mem::replace(&mut self.frozen, true) =>
            {
                self.show_event(event);
            }
            NodeEvent::Fetched { by, .. } if *by == self.with => self.show_event(event),
            // The node dropped events that this view was too slow to take; everything they said is loaded
            // again.
            NodeEvent::EventsMissed { .. } => return vec![self.request_catch_up(), ViewCommand::ListUsers],
            // The sender repeats the message until it can be stored; one report is enough.
            NodeEvent::NotStored { .. } if !std::mem::replace(&mut self.has_reported_not_stored, true) => {
                self.pending_items.extend(event_line(event).map(ScrollbackItem::Problem));
            }
            NodeEvent::TrackerLost { .. }
            | NodeEvent::SharesRefused { .. }
            | NodeEvent::Displaced(_)
            | NodeEvent::Notice(_) => {
                self.show_event(event);
            }
            _ => {}
        }
        Vec::new()
    }

    /// Takes the user list over. Returns the numbers of unread and of unacked messages of this conversation.
    fn update_users(&mut self, people: &[UserSummary]) -> (usize, usize) {
        let others = people.iter().filter(|person| person.user != self.with && person.unread > 0);
        self.unread_elsewhere = others.map(|person| (person.user.clone(), person.unread)).collect();
        let Some(other) = people.iter().find(|person| person.user == self.with) else { return (0, 0) };
        self.online = other.online;
        (self.frozen, self.blocked, self.request) = (other.frozen, other.blocked, other.request);
        (other.unread, other.waiting)
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
        // Only unacked messages are remembered, as only their marks still change.
        if matches!(entry.mark, DeliveryMark::Waiting | DeliveryMark::Sent) {
            self.undelivered.insert(entry.id, UndeliveredMessage { row: None, ts: entry.at, seq: entry.seq });
        }
        self.last_seq = self.last_seq.max(entry.seq);
        self.first_seq.get_or_insert(entry.seq);
        self.pending_items.push(ScrollbackItem::Entry(entry));
    }

    fn show_event(&mut self, event: &NodeEvent) {
        if let Some(line) = event_line(event) {
            self.add_note(line);
        }
    }

    fn add_rule(&mut self, text: String) {
        self.pending_items.push(ScrollbackItem::Rule(text));
    }

    fn add_note(&mut self, text: String) {
        self.pending_items.push(ScrollbackItem::Note(text));
    }
}
