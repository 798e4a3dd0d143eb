//! Answers to the user's queries, printed into the scrollback: files, users, search results, history. Pure.

use localization::tr;
use shared::UserName;
use shared::names::name_encoding::display_name;
use shared::safe_text::safe_line;

use super::{AccountState, LineViewModel, ScrollbackItem};
use crate::engine::chat::{ConversationName, MessageDirection, StoredMessage};
use crate::engine::node::UserSummary;
use crate::ui::conversation_item::ConversationItem;
use crate::ui::human_format::format_size;
use crate::ui::line_view::status_line;
use crate::ui::slash_command::{HistoryRange, MAX_MESSAGES_BACK, help_rows, slash_commands};
use crate::ui::view::{MAX_SEARCH_RESULTS, ViewCommand};

/// Files printed per list.
const MAX_LISTED: usize = 200;
/// Search results printed, the latest ones.
const MAX_FOUND_SHOWN: usize = 20;

impl LineViewModel {
    pub(super) fn show_offer(&mut self, name: &str, bytes: u64) {
        let number = self.composer_mut().files_mut().add(name, bytes, true);
        let (name, size) = (display_name(name), format_size(bytes));
        self.add_note(tr!("/get {number} fetches {name} ({size})", number, name, size));
    }

    pub(super) fn show_stored_offer(&mut self, stored: &StoredMessage) {
        // The user's own offers are nothing to fetch.
        if let Some(offer) = stored.message.offer.as_ref().filter(|_| stored.direction == MessageDirection::In) {
            self.show_offer(offer.name.as_str(), offer.size);
        }
    }

    pub(super) fn list_files(&mut self, start: &str) {
        let files = self.composer_mut().files();
        let mut fitting = files.iter().filter(|(_, name, _)| name.starts_with(start));
        let listed: Vec<String> = fitting
            .by_ref()
            .take(MAX_LISTED)
            .map(|(number, name, bytes)| format!("{number:>3}  {:>9}  {}", format_size(bytes), display_name(name)))
            .collect();
        let more = fitting.count();
        if listed.is_empty() {
            return self.add_note(match (&self.with, start.is_empty()) {
                (ConversationName::Person(user), true) => tr!("{user} shares nothing", user),
                (ConversationName::Person(user), false) => tr!("{user} shares nothing under that name", user),
                (ConversationName::Room(_), true) => {
                    tr!("nobody who is online shares anything with {room}", room = self.with)
                }
                (ConversationName::Room(_), false) => {
                    tr!("nobody who is online shares anything under that name with {room}", room = self.with)
                }
            });
        }
        self.add_note(listed.join("\n"));
        self.add_note(match more {
            0 => tr!("/get NUMBER fetches one"),
            more => tr!("and {count} more: /files START; /get NUMBER fetches one", count = more),
        });
    }

    pub(super) fn list_users(&mut self, people: &[UserSummary]) {
        let lines: Vec<String> = people.iter().map(|person| status_line::user_line(person, self.theme)).collect();
        self.add_note(if lines.is_empty() { tr!("nobody but you") } else { lines.join("\n") });
    }

    pub(super) fn show_found(&mut self, words: &str, messages: &[StoredMessage]) {
        let words = safe_line(words);
        if messages.is_empty() {
            return self.add_note(tr!("no results for \"{words}\"", words));
        }
        self.add_rule(tr!("found: {words}", words));
        let left = messages.len().saturating_sub(MAX_FOUND_SHOWN);
        if left > 0 {
            // The search ends at its bound, so there may be still more.
            let is_all = messages.len() < MAX_SEARCH_RESULTS;
            let with = match &self.with {
                ConversationName::Person(user) => user.to_string(),
                // In a shell, a word that begins with `#` is a comment.
                ConversationName::Room(room) => format!("'#{room}'"),
            };
            self.add_note(match is_all {
                true => tr!("{left} more before these: `peer history {with} --search WORDS`", left, with),
                false => tr!("at least {left} more before these: `peer history {with} --search WORDS`", left, with),
            });
        }
        self.show_past(&messages[left..]);
        self.add_rule(tr!("now"));
    }

    /// Requests messages older than the shown ones.
    pub(super) fn request_history(&mut self, back: HistoryRange) -> Vec<ViewCommand> {
        self.pending_listings.history.push_back(back);
        if self.pending_listings.history.len() == 1 { self.load_history(back) } else { Vec::new() }
    }

    fn load_history(&self, back: HistoryRange) -> Vec<ViewCommand> {
        let (limit, age) = match back {
            HistoryRange::Messages(count) => (count, None),
            HistoryRange::Age(age) => (MAX_MESSAGES_BACK, Some(age)),
        };
        vec![ViewCommand::LoadHistory { with: self.with.clone(), before: self.first_seq, age, limit }]
    }

    /// Prints messages older than the shown ones.
    pub(super) fn show_history(&mut self, messages: &[StoredMessage]) -> Vec<ViewCommand> {
        let Some(back) = self.pending_listings.history.pop_front() else { return Vec::new() };
        let is_all = match back {
            // By age, a short answer doesn't mean that the conversation begins there.
            HistoryRange::Messages(count) => messages.len() < count,
            HistoryRange::Age(_) => false,
        };
        if let Some(first) = messages.first() {
            self.first_seq = Some(first.seq);
            self.add_rule(tr!("further back"));
            self.show_past(messages);
            self.add_rule(tr!("now"));
        }
        self.add_note(match (messages.len(), is_all) {
            (0, true) => tr!("nothing before what is shown; that's the beginning of the conversation"),
            (0, false) => tr!("nothing before what is shown"),
            (count, true) => tr!("{n} message; that's the beginning of the conversation"
                | "{n} messages; that's the beginning of the conversation" % count),
            (count, false) => {
                tr!("{n} message; /history goes further back" | "{n} messages; /history goes further back" % count)
            }
        });
        if is_all || self.first_unseen.is_some_and(|unseen| messages.iter().any(|stored| stored.seq == unseen)) {
            self.first_unseen = None;
        }
        let mut wishes = self.mark_read();
        wishes.extend(
            self.pending_listings.history.front().copied().into_iter().flat_map(|next| self.load_history(next)),
        );
        wishes
    }

    /// Asks whether the user has an account, once, if the node has no record of them and they are not online.
    pub(super) fn request_account(&mut self) -> Vec<ViewCommand> {
        let Some(user) = self.with.person().cloned() else { return Vec::new() };
        if self.online().is_some() || self.account != AccountState::Unknown {
            return Vec::new();
        }
        self.account = AccountState::Requested;
        vec![ViewCommand::FindAccount { user }]
    }

    pub(super) fn show_account(&mut self, exists: bool, like: &[UserName]) {
        if exists {
            self.account = AccountState::Exists;
            if let Some(user) = self.with.person() {
                // An event may have told more since the question.
                self.chat.summary_mut(user).online.get_or_insert(false);
            }
            return;
        }
        self.account = AccountState::Missing;
        let names = like.iter().map(ToString::to_string);
        let names = names.reduce(|names, last| tr!("{names} or {last}", names, last));
        self.add_problem(match names {
            Some(names) => tr!("there is no user \"{user}\"; did you mean {names}?", user = self.with, names),
            None => tr!("there is no user \"{user}\"", user = self.with),
        });
    }

    /// Prints messages out of order, under their own day separators.
    fn show_past(&mut self, messages: &[StoredMessage]) {
        let mut day = String::new();
        for stored in messages {
            let entry = self.chat.entry(stored);
            if entry.day() != day {
                day = entry.day();
                self.add_rule(day.clone());
            }
            self.pending_items.push(ScrollbackItem::Item(ConversationItem::Entry(entry)));
        }
    }

    pub(super) fn show_help(&mut self) {
        let mut entries: Vec<(String, String)> =
            slash_commands(&self.with).into_iter().map(|(_, head, what)| (head, what)).collect();
        entries.push(("//".to_owned(), tr!("a line that begins with /")));
        let keys = tr!("Tab completes; Ctrl-A E W U K Y, Alt-B F D edit; Up and Down go back; \
             Ctrl-C clears the line, and leaves when it is empty; Ctrl-Z goes to the shell, Ctrl-D leaves");
        self.add_note(format!("{}\n{keys}", help_rows(&entries).join("\n")));
    }
}
