//! What the line view knows and what it makes of keys and news. Pure.

mod answers;
mod coming;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use ratatui_core::text::{Line, Span};
use shared::UserName;
use shared::peer::MessageId;
use shared::safe_text::safe_block;

use super::late::Late;
use super::status;
use crate::engine::chat::{Direction, StoredMessage};
use crate::engine::event::Event;
use crate::engine::node::control::Person;
use crate::ui::asking::Asking;
use crate::ui::composer::{Composed, Composer, WrittenLine};
use crate::ui::entry::{Entry, mark};
use crate::ui::events::{event_line, request_note};
use crate::ui::inline::RowId;
use crate::ui::keys::{Press, UNREADABLE};
use crate::ui::look::{Look, Mark};
use crate::ui::rows::{TextRow, Wrapping, rows};
use crate::ui::slash::Back;
use crate::ui::text::hour;
use crate::ui::transfers::Transfers;
use crate::ui::view::{News, Wish};
use crate::ui::wrap::cut;

/// How long somebody who typed is taken to go on.
const TYPING: Duration = Duration::from_secs(7);
/// Between two questions who is online, at most.
const ASK_AGAIN: Duration = Duration::from_secs(300);
/// Rows of transfers.
const TRANSFER_ROWS: usize = 3;

/// The conversation with one person, line by line.
#[derive(Debug)]
pub struct LineView {
    pub(super) look: Look,
    pub(super) with: UserName,
    pub(super) online: Option<bool>,
    pub(super) typing: Option<Instant>,
    pub(super) frozen: bool,
    /// Nothing is taken from them.
    pub(super) blocked: bool,
    /// They wrote, and were neither accepted nor ignored.
    pub(super) request: bool,
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
    /// The place of the earliest message that is shown; all from there on are.
    first: Option<i64>,
    /// The place of the last message that is shown.
    last: i64,
    /// The first unread message, when it is before what is shown: nothing is marked as read while that is so.
    unseen: Option<i64>,
    /// Something was missed, and is on its way.
    late: Option<Late>,
    account: Account,
    /// When it was asked last who is online, and how long until it is asked again.
    asking_people: Asking,
    /// Somebody's message could not be stored here; it was said.
    not_stored: bool,
    /// Something was typed that is no text; it was said.
    unreadable: bool,
}

/// Whether the other one has an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    Unknown,
    Asked,
    Exists,
    /// Nobody is called so.
    Missing,
}

#[derive(Debug, Default)]
struct Asked {
    files: bool,
    people: bool,
    /// So many messages of the past; an age has no number.
    history: Option<Back>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    row: Option<RowId>,
    ts: i64,
    seq: i64,
}

/// Something to be put above, or a mark to be drawn over.
#[derive(Debug, Clone)]
pub(in crate::ui) enum Item {
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
    /// The conversation with `with`, as the node knows them, and what was said `before`; the first message that is
    /// unread has the place `unread_from`.
    pub fn new(
        look: Look,
        with: &UserName,
        people: &[Person],
        before: &[StoredMessage],
        unread_from: Option<i64>,
    ) -> Self {
        let mut view = Self {
            look,
            with: with.clone(),
            online: None,
            typing: None,
            frozen: false,
            blocked: false,
            request: false,
            elsewhere: BTreeMap::new(),
            transfers: Transfers::default(),
            open: HashMap::new(),
            open_before: 0,
            composer: Composer::default(),
            items: Vec::new(),
            day: String::new(),
            asked: Asked::default(),
            first: None,
            last: 0,
            unseen: None,
            late: None,
            account: Account::Unknown,
            asking_people: Asking::new(ASK_AGAIN),
            not_stored: false,
            unreadable: false,
        };
        let (unread, waiting) = view.meet(people);
        let is_theirs = |stored: &&StoredMessage| stored.direction == Direction::In;
        view.first = before.first().map(|stored| stored.seq);
        for stored in before {
            let entry = Entry::stored(stored);
            if unread_from == Some(stored.seq) {
                view.turn_day(&entry);
                view.rule(format!("{unread} new"));
            }
            view.show(entry);
            view.list_offer(stored);
        }
        view.open_before = waiting.saturating_sub(view.open.len());
        view.note(format!("talking to {with}; /help shows what there is, Ctrl-D leaves"));
        if view.request {
            view.note(request_note(with));
        }
        view.unseen = unread_from.filter(|unread| view.first.is_some_and(|first| *unread < first));
        if view.unseen.is_some() {
            let left = unread.saturating_sub(before.iter().filter(is_theirs).count());
            view.note(format!(
                "{unread} unread, {left} of them not shown: /history goes back to them, or `peer inbox`"
            ));
        }
        view
    }

    pub(super) const fn look(&self) -> Look {
        self.look
    }

    /// Returns the other side of the conversation.
    pub(in crate::ui) const fn with(&self) -> &UserName {
        &self.with
    }

    /// What came since the past was looked at is told by nobody else.
    pub(in crate::ui) fn begin(&mut self) -> Vec<Wish> {
        vec![self.catch_up()]
    }

    pub(in crate::ui) fn take_items(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.items)
    }

    /// The first of them, at most `most`.
    pub(super) fn take_some(&mut self, most: usize) -> Vec<Item> {
        self.items.drain(..most.min(self.items.len())).collect()
    }

    pub(super) const fn has_items(&self) -> bool {
        !self.items.is_empty()
    }

    /// Whether it is known that nobody is called so.
    pub(super) fn is_nobody(&self) -> bool {
        self.account == Account::Missing
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

    pub(in crate::ui) fn press(&mut self, press: &Press, now: Instant) -> Vec<Wish> {
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
            Composed::Back(back) => return self.look_back(back),
            Composed::Problem(what) => self.items.push(Item::Problem(what)),
            Composed::NotMine => match press {
                Press::Help => self.help(),
                Press::Interrupt => return vec![Wish::Interrupt],
                Press::EndOfInput => return vec![Wish::EndOfInput],
                Press::Suspend => return vec![Wish::Suspend],
                Press::Unreadable if !std::mem::replace(&mut self.unreadable, true) => {
                    self.items.push(Item::Problem(UNREADABLE.to_owned()));
                }
                _ => {}
            },
        }
        Vec::new()
    }

    pub(in crate::ui) fn news(&mut self, news: &News, now: Instant) -> Vec<Wish> {
        match news {
            News::Event(event) => return self.event(event, now),
            News::People(people) => {
                self.meet(people);
                if std::mem::take(&mut self.asked.people) {
                    self.who(people);
                }
                return self.ask_for_account();
            }
            News::Account { of, exists, like } if *of == self.with => self.account(*exists, like),
            News::CaughtUp { messages, .. } => return self.caught_up(messages),
            News::Found { words, messages, .. } => self.found(words, messages),
            News::Files { files, start, .. } => {
                self.composer.catalogue_mut().learn(files);
                let wish = self.composer.names_known(&self.with, start.is_empty());
                if std::mem::take(&mut self.asked.files) {
                    self.list_files(start);
                }
                return wish.into_iter().collect();
            }
            News::Paths { paths, .. } => self.composer.paths(paths),
            News::Note(text) => self.note(text.clone()),
            News::Problem(text) => self.items.push(Item::Problem(text.clone())),
            News::Tick => {
                self.typing = self.typing.filter(|until| *until > now);
                self.transfers.expire(now);
                return self.ask_for_people(now);
            }
            News::Hashing(file) => self.transfers.hash(file, now),
            News::History { messages, .. } => return self.further_back(messages),
            News::Account { .. } | News::Resumed => {}
        }
        Vec::new()
    }

    /// The line being written, and the rows below it.
    pub(super) fn below(&self, columns: usize, screen_rows: usize) -> (WrittenLine, Vec<Line<'static>>) {
        let line = self.composer.line(columns);
        let most = screen_rows.saturating_sub(3);
        let mut rows = self.composer.rows_beside(self.look, columns, most);
        if rows.is_empty() {
            rows.extend(self.transfers.rows(self.look, columns, TRANSFER_ROWS.min(most)));
        }
        if screen_rows > rows.len() + 1 {
            rows.push(status::line(self, columns));
        }
        (line, rows)
    }

    /// What an item looks like above.
    pub(in crate::ui) fn rows_of(&self, item: &Item, columns: usize) -> Vec<TextRow> {
        let plain = |text: &str, style| {
            let wrapping = Wrapping { columns, indent: 2, joins: true };
            rows(vec![Span::raw("  ")], &safe_block(text).replace('\t', "    "), style, wrapping)
        };
        match item {
            Item::Entry(entry) => entry.rows(&self.with, self.look, columns, true),
            Item::Rule(text) => {
                let dash = if self.look.unicode { "──" } else { "--" };
                vec![Line::styled(cut(&format!("{dash} {text} {dash}"), columns, ""), self.look.dim()).into()]
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
            Event::Received { from, message, seq, at } if *from == self.with => {
                (self.typing, self.not_stored) = (None, false);
                return self.comes(Entry::received(message, *seq, *at), message);
            }
            Event::Received { from, .. } => {
                *self.elsewhere.entry(from.clone()).or_default() += 1;
            }
            Event::Read { with } if *with == self.with => self.unseen = None,
            Event::Read { with } => {
                self.elsewhere.remove(with);
            }
            Event::Request { from } if *from == self.with && !std::mem::replace(&mut self.request, true) => {
                self.note(request_note(from));
            }
            Event::Accepted { user } if *user == self.with => self.request = false,
            Event::Said { to, message, seq } if *to == self.with => {
                self.request = false;
                return self.comes(Entry::said(message, *seq), message);
            }
            Event::State { to, id, state, why, .. } if *to == self.with => {
                self.settle(*id, mark(*state), why.as_deref());
            }
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
            // It comes again and again until there is room: once is enough.
            Event::NotStored { .. } if !std::mem::replace(&mut self.not_stored, true) => {
                self.items.extend(event_line(event).map(Item::Problem));
            }
            Event::TrackerLost { .. } | Event::SharesRefused { .. } | Event::Displaced(_) | Event::Notice(_) => {
                self.tell(event);
            }
            _ => {}
        }
        Vec::new()
    }

    /// Learns how things stand with everybody; tells how much is unread from the other one, and waits for them.
    fn meet(&mut self, people: &[Person]) -> (usize, usize) {
        let others = people.iter().filter(|person| person.user != self.with && person.unread > 0);
        self.elsewhere = others.map(|person| (person.user.clone(), person.unread)).collect();
        let Some(other) = people.iter().find(|person| person.user == self.with) else { return (0, 0) };
        self.online = other.online;
        (self.frozen, self.blocked, self.request) = (other.frozen, other.blocked, other.request);
        (other.unread, other.waiting)
    }

    fn turn_day(&mut self, entry: &Entry) {
        let day = entry.day();
        if day != self.day {
            self.rule(day.clone());
            self.day = day;
        }
    }

    fn show(&mut self, entry: Entry) {
        self.turn_day(&entry);
        if matches!(entry.mark, Mark::Waiting | Mark::Sent) {
            self.open.insert(entry.id, Open { row: None, ts: entry.at, seq: entry.seq });
        }
        self.last = self.last.max(entry.seq);
        self.first.get_or_insert(entry.seq);
        self.items.push(Item::Entry(entry));
    }

    fn tell(&mut self, event: &Event) {
        if let Some(line) = event_line(event) {
            self.note(line);
        }
    }

    fn rule(&mut self, text: String) {
        self.items.push(Item::Rule(text));
    }

    fn note(&mut self, text: String) {
        self.items.push(Item::Note(text));
    }
}
