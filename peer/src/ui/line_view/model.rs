//! What the line view knows and what it makes of keys and news. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use ratatui_core::text::Line;
use shared::UserName;
use shared::peer::{ChatMessage, MessageId};
use shared::safe_text::{safe_block, safe_line};

use super::late::Late;
use super::status;
use crate::engine::chat::StoredMessage;
use crate::engine::event::Event;
use crate::engine::node::control::Person;
use crate::ui::composer::{Composed, Composer};
use crate::ui::entry::{Entry, mark};
use crate::ui::events::event_line;
use crate::ui::inline::RowId;
use crate::ui::keys::Press;
use crate::ui::look::{Look, Mark};
use crate::ui::slash::COMMANDS;
use crate::ui::text::{hour, size};
use crate::ui::transfers::Transfers;
use crate::ui::view::{CAUGHT_UP_AT_ONCE, News, Wish};
use crate::ui::wrap::{cut, wrap};

/// How long somebody who typed is taken to go on.
const TYPING: Duration = Duration::from_secs(7);
/// Rows of transfers.
const TRANSFER_ROWS: usize = 3;
/// Files of a list.
const LISTED: usize = 200;

/// The conversation with one person, line by line.
#[derive(Debug)]
pub struct LineView {
    pub(super) look: Look,
    pub(super) with: UserName,
    pub(super) online: Option<bool>,
    pub(super) typing: Option<Instant>,
    pub(super) frozen: bool,
    /// Unread messages of others.
    pub(super) elsewhere: BTreeMap<UserName, usize>,
    pub(super) transfers: Transfers,
    /// Messages of ours that are not stored over there, and where they stand above.
    open: HashMap<MessageId, Open>,
    /// The same, from before what was shown.
    pub(super) open_before: usize,
    composer: Composer,
    items: Vec<Item>,
    day: String,
    /// What was asked for to be looked at, and is on its way.
    asked: Asked,
    /// The place of the last message that is shown.
    last: i64,
    /// Something was missed, and is on its way.
    late: Option<Late>,
}

#[derive(Debug, Default)]
struct Asked {
    files: bool,
    people: bool,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    row: Option<RowId>,
    ts: i64,
    seq: i64,
}

/// Something to be put above, or a mark to be drawn over.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Entry(Entry),
    /// Between two days, or before what is new.
    Rule(String),
    Note(String),
    Problem(String),
    /// A message of ours, of then, is marked so: above, where it may still be seen.
    Mark {
        mark: Mark,
        row: Option<RowId>,
        ts: i64,
    },
}

impl LineView {
    /// The conversation with `with`, as the node knows them, and what was said `before`.
    pub fn new(look: Look, with: &UserName, people: &[Person], before: &[StoredMessage]) -> Self {
        let mut view = Self {
            look,
            with: with.clone(),
            online: None,
            typing: None,
            frozen: false,
            elsewhere: BTreeMap::new(),
            transfers: Transfers::default(),
            open: HashMap::new(),
            open_before: 0,
            composer: Composer::default(),
            items: Vec::new(),
            day: String::new(),
            asked: Asked::default(),
            last: 0,
            late: None,
        };
        let (unread, waiting) = view.meet(people);
        let first_unread =
            before.iter().rev().filter(|stored| Entry::stored(stored).mark == Mark::None).nth(unread.saturating_sub(1));
        for stored in before {
            if unread > 0 && first_unread.is_some_and(|first| first.seq == stored.seq) {
                view.items.push(Item::Rule(if unread == 1 { "1 new".to_owned() } else { format!("{unread} new") }));
            }
            view.show(Entry::stored(stored));
            view.list_offer(stored);
        }
        view.open_before = waiting.saturating_sub(view.open.len());
        view.note(format!("talking to {with}; /help shows what there is, Ctrl-D leaves"));
        view
    }

    pub(super) const fn look(&self) -> Look {
        self.look
    }

    /// What came since the past was looked at is told by nobody else.
    pub(super) fn begin(&mut self) -> Vec<Wish> {
        vec![self.catch_up()]
    }

    pub(super) fn take_items(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.items)
    }

    /// The first of them, at most `most`.
    pub(super) fn take_some(&mut self, most: usize) -> Vec<Item> {
        self.items.drain(..most.min(self.items.len())).collect()
    }

    pub(super) const fn has_items(&self) -> bool {
        !self.items.is_empty()
    }

    /// How many messages of ours are not stored over there.
    pub(super) fn waiting(&self) -> usize {
        self.open.len() + self.open_before
    }

    /// Where a message stands above, so that its mark can be drawn over.
    pub(super) fn placed(&mut self, id: MessageId, row: RowId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.row = Some(row);
        }
    }

    pub(super) fn press(&mut self, press: &Press, now: Instant) -> Vec<Wish> {
        match self.composer.press(press, &self.with, self.online == Some(true), now) {
            Composed::Nothing => {}
            Composed::Wish(wish) => return vec![wish],
            Composed::Listing(wish) => {
                match wish {
                    Wish::Files { .. } => self.asked.files = true,
                    _ => self.asked.people = true,
                }
                return vec![wish];
            }
            Composed::Help => self.help(),
            Composed::Problem(what) => self.items.push(Item::Problem(what)),
            Composed::NotMine => match press {
                Press::Help => self.help(),
                Press::Interrupt => return vec![Wish::Interrupt],
                Press::EndOfInput => return vec![Wish::Leave],
                Press::Suspend => return vec![Wish::Suspend],
                _ => {}
            },
        }
        Vec::new()
    }

    pub(super) fn news(&mut self, news: &News, now: Instant) -> Vec<Wish> {
        match news {
            News::Event(event) => return self.event(event, now),
            News::People(people) => {
                self.meet(people);
                if std::mem::take(&mut self.asked.people) {
                    self.who(people);
                }
            }
            News::CaughtUp { messages, .. } => return self.caught_up(messages),
            News::Found { words, messages, .. } => self.found(words, messages),
            News::Files { files, start, .. } => {
                self.composer.catalogue_mut().learn(files);
                self.composer.names_known();
                if std::mem::take(&mut self.asked.files) {
                    self.list_files(start);
                }
            }
            News::Paths { paths, .. } => self.composer.paths(paths),
            News::Note(text) => self.note(text.clone()),
            News::Problem(text) => self.items.push(Item::Problem(text.clone())),
            News::Tick => {
                self.typing = self.typing.filter(|until| *until > now);
                self.transfers.expire(now);
                // A node that has just begun doesn't know yet.
                if self.online.is_none() {
                    return vec![Wish::People];
                }
            }
            News::History { .. } | News::Resumed => {}
        }
        Vec::new()
    }

    /// The rows below, and in which column of the first the cursor is.
    pub(super) fn below(&self, columns: usize, screen_rows: usize) -> (Vec<Line<'static>>, u16) {
        let (line, cursor) = self.composer.row(self.look, columns);
        let most = screen_rows.saturating_sub(3);
        let mut rows = vec![line];
        let beside = self.composer.rows_beside(self.look, columns, most);
        if beside.is_empty() {
            rows.extend(self.transfers.rows(self.look, columns, TRANSFER_ROWS.min(most)));
        }
        rows.extend(beside);
        if screen_rows > rows.len() {
            rows.push(status::line(self, columns));
        }
        (rows, u16::try_from(cursor).unwrap_or(u16::MAX))
    }

    /// What an item looks like above.
    pub(super) fn rows_of(&self, item: &Item, columns: usize) -> Vec<Line<'static>> {
        let plain = |text: &str, style| {
            let rows = wrap(&safe_block(text).replace('\t', "    "), columns.saturating_sub(2));
            rows.into_iter().map(|row| Line::styled(format!("  {row}"), style)).collect()
        };
        match item {
            Item::Entry(entry) => entry.rows(&self.with, self.look, columns),
            Item::Rule(text) => {
                let dash = if self.look.unicode { "──" } else { "--" };
                vec![Line::styled(cut(&format!("{dash} {text} {dash}"), columns, ""), self.look.dim())]
            }
            Item::Note(text) => plain(text, self.look.dim()),
            Item::Problem(text) => plain(&format!("! {text}"), self.look.problem()),
            Item::Mark { .. } => Vec::new(),
        }
    }

    /// Says that messages arrived whose marks can't be seen any more.
    pub(super) fn late_note(&self, late: &[i64]) -> Option<Item> {
        let ts = late.first()?;
        let what = if late.len() == 1 { "your message".to_owned() } else { format!("{} messages", late.len()) };
        Some(Item::Note(format!("{} delivered: {what} of {}", self.look.mark(Mark::Stored), hour(*ts))))
    }

    fn event(&mut self, event: &Event, now: Instant) -> Vec<Wish> {
        self.transfers.hear(event, now);
        match event {
            Event::Received { from, message, seq } if *from == self.with => {
                self.typing = None;
                return self.comes(Entry::received(message, *seq), message);
            }
            Event::Received { from, .. } => {
                *self.elsewhere.entry(from.clone()).or_default() += 1;
            }
            Event::Read { with } => {
                self.elsewhere.remove(with);
            }
            Event::Said { to, message, seq } if *to == self.with => {
                return self.comes(Entry::said(message, *seq), message);
            }
            Event::State { to, id, state, why } if *to == self.with => self.settle(*id, mark(*state), why.as_deref()),
            Event::Typing { from } if *from == self.with => self.typing = Some(now + TYPING),
            Event::Presence { user, online } if *user == self.with && self.online.replace(*online) != Some(*online) => {
                self.tell(event);
            }
            // That somebody is offline can be seen below; that their key changed has to be said.
            Event::Held { user, frozen: true, .. }
                if *user == self.with && !std::mem::replace(&mut self.frozen, true) =>
            {
                self.tell(event);
            }
            Event::Fetched { by, .. } if *by == self.with => self.tell(event),
            Event::Missed { .. } => return vec![self.catch_up(), Wish::People],
            Event::TrackerLost { .. } | Event::Notice(_) => self.tell(event),
            _ => {}
        }
        Vec::new()
    }

    /// A message of this conversation: behind what was missed, if something was.
    fn comes(&mut self, entry: Entry, message: &ChatMessage) -> Vec<Wish> {
        if let Some(late) = &mut self.late {
            late.hold(entry, message);
            return Vec::new();
        }
        if entry.seq <= self.last {
            return Vec::new();
        }
        let is_theirs = !entry.mine;
        self.put(entry, message);
        if is_theirs { self.seen() } else { Vec::new() }
    }

    fn put(&mut self, entry: Entry, message: &ChatMessage) {
        let is_theirs = !entry.mine;
        self.show(entry);
        if let Some(offer) = message.offer.as_ref().filter(|_| is_theirs) {
            self.offered(offer.name.as_str(), offer.size);
        }
    }

    fn seen(&self) -> Vec<Wish> {
        vec![Wish::MarkRead { with: self.with.clone(), up_to: self.last }]
    }

    /// Asks for what was said and not shown, and for what became of what was on its way.
    fn catch_up(&mut self) -> Wish {
        self.late.get_or_insert_default();
        let open = self.open.values().map(|open| open.seq - 1).min();
        Wish::CatchUp { with: self.with.clone(), after: open.map_or(self.last, |open| open.min(self.last)) }
    }

    fn caught_up(&mut self, messages: &[StoredMessage]) -> Vec<Wish> {
        // Of two answers, the first one told it all.
        let Some(late) = self.late.take() else { return Vec::new() };
        for stored in messages {
            let entry = late.newest(Entry::stored(stored));
            if entry.seq > self.last {
                self.put(entry, &stored.message);
            } else if self.open.contains_key(&entry.id) {
                self.settle(entry.id, entry.mark, None);
            }
        }
        if let (true, Some(last)) = (messages.len() >= CAUGHT_UP_AT_ONCE, messages.last()) {
            self.late = Some(late);
            return vec![Wish::CatchUp { with: self.with.clone(), after: last.seq }];
        }
        for (entry, message) in late.rest(self.last) {
            self.put(entry, &message);
        }
        self.seen()
    }

    /// Learns how things stand with everybody; tells how much is unread from the other one, and waits for them.
    fn meet(&mut self, people: &[Person]) -> (usize, usize) {
        let others = people.iter().filter(|person| person.user != self.with && person.unread > 0);
        self.elsewhere = others.map(|person| (person.user.clone(), person.unread)).collect();
        let Some(other) = people.iter().find(|person| person.user == self.with) else { return (0, 0) };
        self.online = other.online;
        self.frozen = other.frozen;
        (other.unread, other.waiting)
    }

    fn show(&mut self, entry: Entry) {
        let day = entry.day();
        if day != self.day {
            self.items.push(Item::Rule(day.clone()));
            self.day = day;
        }
        if matches!(entry.mark, Mark::Waiting | Mark::Sent) {
            self.open.insert(entry.id, Open { row: None, ts: entry.ts, seq: entry.seq });
        }
        self.last = self.last.max(entry.seq);
        self.items.push(Item::Entry(entry));
    }

    fn settle(&mut self, id: MessageId, mark: Mark, why: Option<&str>) {
        if let Some(late) = &mut self.late {
            late.mark(id, mark);
        }
        let is_open = matches!(mark, Mark::Waiting | Mark::Sent);
        let known = if is_open { self.open.get(&id).copied() } else { self.open.remove(&id) };
        match known {
            Some(open) => self.remark(id, mark, open),
            None if !is_open => self.open_before = self.open_before.saturating_sub(1),
            None => {}
        }
        if mark == Mark::Failed {
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            self.items.push(Item::Problem(format!("not delivered{why}")));
        } else if mark == Mark::Stored {
            self.frozen = false;
        }
    }

    /// Changes a mark: before its message is put above, or over it afterwards.
    fn remark(&mut self, id: MessageId, mark: Mark, Open { row, ts, .. }: Open) {
        let pending = self.items.iter_mut().find_map(|item| match item {
            Item::Entry(entry) if entry.id == id => Some(entry),
            _ => None,
        });
        match pending {
            Some(entry) => entry.mark = mark,
            None => self.items.push(Item::Mark { mark, row, ts }),
        }
    }

    fn offered(&mut self, name: &str, bytes: u64) {
        let number = self.composer.catalogue_mut().add(name, bytes, true);
        self.note(format!("/get {number} fetches {} ({})", safe_line(name), size(bytes)));
    }

    fn list_offer(&mut self, stored: &StoredMessage) {
        if let Some(offer) = stored.message.offer.as_ref().filter(|_| Entry::stored(stored).mark == Mark::None) {
            self.offered(offer.name.as_str(), offer.size);
        }
    }

    fn list_files(&mut self, start: &str) {
        let mut fitting = self.composer.catalogue().iter().filter(|(_, name, _)| name.starts_with(start));
        let listed: Vec<String> = fitting
            .by_ref()
            .take(LISTED)
            .map(|(number, name, bytes)| format!("{number:>3}  {:>9}  {}", size(bytes), safe_line(name)))
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

    fn who(&mut self, people: &[Person]) {
        let lines: Vec<String> = people.iter().map(|person| status::person(person, self.look)).collect();
        self.note(if lines.is_empty() { "nobody but you".to_owned() } else { lines.join("\n") });
    }

    fn found(&mut self, words: &str, messages: &[StoredMessage]) {
        if messages.is_empty() {
            return self.note(format!("nothing with {}", safe_line(words)));
        }
        self.items.push(Item::Rule(format!("found: {}", safe_line(words))));
        let mut day = String::new();
        for stored in messages {
            let entry = Entry::stored(stored);
            if entry.day() != day {
                day = entry.day();
                self.items.push(Item::Rule(day.clone()));
            }
            self.items.push(Item::Entry(entry));
        }
        self.items.push(Item::Rule("now".to_owned()));
    }

    fn help(&mut self) {
        let commands = COMMANDS.map(|(name, argument, what)| format!("{:<16} {what}", format!("{name} {argument}")));
        self.note(format!(
            "{}\n{:<16} a line that begins with /\nTab completes; Ctrl-A E W U K Y, Alt-B F D edit; Up and Down go back; \
             Ctrl-Z stops, Ctrl-D leaves",
            commands.join("\n"),
            "//"
        ));
    }

    fn tell(&mut self, event: &Event) {
        if let Some(line) = event_line(event) {
            self.note(line);
        }
    }

    fn note(&mut self, text: String) {
        self.items.push(Item::Note(text));
    }
}
