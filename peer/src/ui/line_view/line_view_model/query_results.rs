//! Answers to the user's queries, printed into the scrollback: files, users, search results, history. Pure.

use shared::UserName;
use shared::names::name_encoding::display_name;
use shared::safe_text::safe_line;

use super::{AccountState, LineViewModel, ScrollbackItem};
use crate::engine::chat::{ConversationName, MessageDirection, StoredMessage};
use crate::engine::node::UserSummary;
use crate::ui::conversation_item::ConversationItem;
use crate::ui::human_format::format_size;
use crate::ui::line_view::status_line;
use crate::ui::slash_command::{HistoryRange, MAX_MESSAGES_BACK, slash_commands};
use crate::ui::view::{MAX_SEARCH_RESULTS, ViewCommand};

/// Files printed per list.
const MAX_LISTED: usize = 200;
/// Search results printed, the latest ones.
const MAX_FOUND_SHOWN: usize = 20;

impl LineViewModel {
    pub(super) fn show_offer(&mut self, name: &str, bytes: u64) {
        let number = self.composer_mut().files_mut().add(name, bytes, true);
        self.add_note(format!("/get {number} fetches {} ({})", display_name(name), format_size(bytes)));
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
            let name = if start.is_empty() { "" } else { " under that name" };
            return self.add_note(match &self.with {
                ConversationName::Person(user) => format!("{user} shares nothing{name}"),
                ConversationName::Room(room) => format!("nobody who is online shares anything{name} with #{room}"),
            });
        }
        self.add_note(listed.join("\n"));
        let hint = if more > 0 { format!("and {more} more: /files START; ") } else { String::new() };
        self.add_note(format!("{hint}/get NUMBER fetches one"));
    }

    pub(super) fn list_users(&mut self, people: &[UserSummary]) {
        let lines: Vec<String> = people.iter().map(|person| status_line::user_line(person, self.theme)).collect();
        self.add_note(if lines.is_empty() { "nobody but you".to_owned() } else { lines.join("\n") });
    }

    pub(super) fn show_found(&mut self, words: &str, messages: &[StoredMessage]) {
        let words = safe_line(words);
        if messages.is_empty() {
            return self.add_note(format!("no results for \"{words}\""));
        }
        self.add_rule(format!("found: {words}"));
        let left = messages.len().saturating_sub(MAX_FOUND_SHOWN);
        if left > 0 {
            // The search ends at its bound, so there may be still more.
            let most = if messages.len() >= MAX_SEARCH_RESULTS { "at least " } else { "" };
            let with = match &self.with {
                ConversationName::Person(user) => user.to_string(),
                // In a shell, a word that begins with `#` is a comment.
                ConversationName::Room(room) => format!("'#{room}'"),
            };
            self.add_note(format!("{most}{left} more before these: `peer history {with} --search WORDS`"));
        }
        self.show_past(&messages[left..]);
        self.add_rule("now".to_owned());
    }

    /// Requests messages older than the shown ones.
    pub(super) fn request_history(&mut self, back: HistoryRange) -> Vec<ViewCommand> {
        self.pending_listings.history = Some(back);
        let (limit, age) = match back {
            HistoryRange::Messages(count) => (count, None),
            HistoryRange::Age(age) => (MAX_MESSAGES_BACK, Some(age)),
        };
        vec![ViewCommand::LoadHistory { with: self.with.clone(), before: self.first_seq, age, limit }]
    }

    /// Prints messages older than the shown ones.
    pub(super) fn show_history(&mut self, messages: &[StoredMessage]) -> Vec<ViewCommand> {
        let Some(back) = self.pending_listings.history.take() else { return Vec::new() };
        let is_all = match back {
            // By age, a short answer doesn't mean that the conversation begins there.
            HistoryRange::Messages(count) => messages.len() < count,
            HistoryRange::Age(_) => false,
        };
        if let Some(first) = messages.first() {
            self.first_seq = Some(first.seq);
            self.add_rule("further back".to_owned());
            self.show_past(messages);
            self.add_rule("now".to_owned());
        }
        let count = match messages.len() {
            0 => "nothing before what is shown".to_owned(),
            1 => "1 message".to_owned(),
            count => format!("{count} messages"),
        };
        let further = match () {
            () if is_all => "; that's the beginning of the conversation",
            () if messages.is_empty() => "",
            () => "; /history goes further back",
        };
        self.add_note(format!("{count}{further}"));
        if is_all || self.first_unseen.is_some_and(|unseen| messages.iter().any(|stored| stored.seq == unseen)) {
            self.first_unseen = None;
        }
        self.mark_read()
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
        let like: Vec<&str> = like.iter().map(UserName::as_str).collect();
        let meant = if like.is_empty() { String::new() } else { format!("; did you mean {}?", like.join(" or ")) };
        self.add_problem(format!("there is no user \"{}\"{meant}", self.with));
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
        let commands: Vec<String> = slash_commands(&self.with)
            .iter()
            .map(|(name, argument, what)| format!("{:<16} {what}", format!("{name} {argument}")))
            .collect();
        self.add_note(format!(
            "{}\n{:<16} a line that begins with /\nTab completes; Ctrl-A E W U K Y, Alt-B F D edit; Up and Down go back; \
             Ctrl-C clears the line, and leaves when it is empty; Ctrl-Z goes to the shell, Ctrl-D leaves",
            commands.join("\n"),
            "//"
        ));
    }
}
