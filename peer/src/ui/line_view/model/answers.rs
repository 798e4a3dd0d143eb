//! What was asked for, as it is listed above: files, people, what was found, the past. Pure.

use std::time::Instant;

use shared::UserName;
use shared::names::stand_in::shown;
use shared::safe_text::safe_line;

use super::{Account, Item, LineView};
use crate::engine::chat::StoredMessage;
use crate::engine::node::control::Person;
use crate::ui::entry::Entry;
use crate::ui::line_view::status;
use crate::ui::look::Mark;
use crate::ui::slash::{Back, COMMANDS, MOST_BACK};
use crate::ui::text::size;
use crate::ui::view::{FOUND_AT_ONCE, Wish};

/// Files of a list.
const LISTED: usize = 200;
/// Of what was found, the last ones that are shown.
const FOUND: usize = 20;

impl LineView {
    pub(super) fn offered(&mut self, name: &str, bytes: u64) {
        let number = self.composer.catalogue_mut().add(name, bytes, true);
        self.note(format!("/get {number} fetches {} ({})", shown(name), size(bytes)));
    }

    pub(super) fn list_offer(&mut self, stored: &StoredMessage) {
        if let Some(offer) = stored.message.offer.as_ref().filter(|_| Entry::stored(stored).mark == Mark::None) {
            self.offered(offer.name.as_str(), offer.size);
        }
    }

    pub(super) fn list_files(&mut self, start: &str) {
        let mut fitting = self.composer.catalogue().iter().filter(|(_, name, _)| name.starts_with(start));
        let listed: Vec<String> = fitting
            .by_ref()
            .take(LISTED)
            .map(|(number, name, bytes)| format!("{number:>3}  {:>9}  {}", size(bytes), shown(name)))
            .collect();
        let more = fitting.count();
        if listed.is_empty() {
            let with = &self.with;
            return self
                .note(format!("{with} shares nothing{}", if start.is_empty() { "" } else { " under that name" }));
        }
        self.note(listed.join("\n"));
        let hint = if more > 0 { format!("and {more} more: /files START; ") } else { String::new() };
        self.note(format!("{hint}/get NUMBER fetches one"));
    }

    pub(super) fn who(&mut self, people: &[Person]) {
        let lines: Vec<String> = people.iter().map(|person| status::person(person, self.look)).collect();
        self.note(if lines.is_empty() { "nobody but you".to_owned() } else { lines.join("\n") });
    }

    pub(super) fn found(&mut self, words: &str, messages: &[StoredMessage]) {
        let words = safe_line(words);
        if messages.is_empty() {
            return self.note(format!("no results for \"{words}\""));
        }
        self.rule(format!("found: {words}"));
        let left = messages.len().saturating_sub(FOUND);
        if left > 0 {
            let most = if messages.len() >= FOUND_AT_ONCE { "at least " } else { "" };
            let with = &self.with;
            self.note(format!("{most}{left} more before these: `peer history {with} --search WORDS`"));
        }
        self.past(&messages[left..]);
        self.rule("now".to_owned());
    }

    /// Asks for what was said before what is shown.
    pub(super) fn look_back(&mut self, back: Back) -> Vec<Wish> {
        self.asked.history = Some(back);
        let (limit, age) = match back {
            Back::Messages(count) => (count, None),
            Back::Age(age) => (MOST_BACK, Some(age)),
        };
        vec![Wish::History { with: self.with.clone(), before: self.first, age, limit }]
    }

    /// What was said before what is shown.
    pub(super) fn further_back(&mut self, messages: &[StoredMessage]) -> Vec<Wish> {
        let Some(back) = self.asked.history.take() else { return Vec::new() };
        let is_all = match back {
            Back::Messages(count) => messages.len() < count,
            Back::Age(_) => false,
        };
        if let Some(first) = messages.first() {
            self.first = Some(first.seq);
            self.rule("further back".to_owned());
            self.past(messages);
            self.rule("now".to_owned());
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
        self.note(format!("{count}{further}"));
        if is_all || self.unseen.is_some_and(|unseen| self.first.is_some_and(|first| first <= unseen)) {
            self.unseen = None;
        }
        self.seen()
    }

    /// Asks whether the other one has an account, once, when nobody has met them and they are not online.
    pub(super) fn ask_for_account(&mut self) -> Vec<Wish> {
        if self.online.is_some() || self.account != Account::Unknown {
            return Vec::new();
        }
        self.account = Account::Asked;
        vec![Wish::Account { of: self.with.clone() }]
    }

    pub(super) fn account(&mut self, exists: bool, like: &[UserName]) {
        if exists {
            self.account = Account::Exists;
            self.online.get_or_insert(false);
            return;
        }
        self.account = Account::Missing;
        let like: Vec<&str> = like.iter().map(UserName::as_str).collect();
        let meant = if like.is_empty() { String::new() } else { format!("; did you mean {}?", like.join(" or ")) };
        self.items.push(Item::Problem(format!("there is no user \"{}\"{meant}", self.with)));
    }

    /// Asks who is online when it isn't known of the other one: less and less often.
    pub(super) fn ask_for_people(&mut self, now: Instant) -> Vec<Wish> {
        if self.online.is_none() && self.asking_people.is_due(now) { vec![Wish::People] } else { Vec::new() }
    }

    /// Messages that are not the last ones.
    fn past(&mut self, messages: &[StoredMessage]) {
        let mut day = String::new();
        for stored in messages {
            let entry = Entry::stored(stored);
            if entry.day() != day {
                day = entry.day();
                self.rule(day.clone());
            }
            self.items.push(Item::Entry(entry));
        }
    }

    pub(super) fn help(&mut self) {
        let commands = COMMANDS.map(|(name, argument, what)| format!("{:<16} {what}", format!("{name} {argument}")));
        self.note(format!(
            "{}\n{:<16} a line that begins with /\nTab completes; Ctrl-A E W U K Y, Alt-B F D edit; Up and Down go back; \
             Ctrl-C clears the line, and leaves when it is empty; Ctrl-Z goes to the shell, Ctrl-D leaves",
            commands.join("\n"),
            "//"
        ));
    }
}
