//! What the full view knows and what it makes of news. Pure.

mod pressed;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ratatui_core::layout::{Rect, Size};
use shared::UserName;

use super::draw::{self, Layout};
use super::talk::{Files, Talk};
use crate::engine::Notice;
use crate::engine::chat::StoredMessage;
use crate::engine::event::Event;
use crate::engine::node::control::Person;
use crate::ui::asking::Asking;
use crate::ui::entry::{Entry, mark};
use crate::ui::events::{event_line, request_note};
use crate::ui::look::Look;
use crate::ui::transfers::Transfers;
use crate::ui::view::{News, Wish};

/// Messages of a page of the past.
const PAGE: usize = 100;
/// How long somebody who typed is taken to go on.
const TYPING: Duration = Duration::from_secs(7);
/// Between two questions who is online, at most.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Everybody, and the conversation with one of them.
#[derive(Debug)]
pub struct FullView {
    pub(super) look: Look,
    pub(super) me: UserName,
    pub(super) people: Vec<Person>,
    pub(super) chosen: Option<UserName>,
    pub(super) talks: HashMap<UserName, Talk>,
    pub(super) transfers: Transfers,
    pub(super) focus: Focus,
    pub(super) overlay: Option<Overlay>,
    /// Which file is selected.
    pub(super) file: usize,
    /// What was said last that belongs to no conversation.
    pub(super) notice: Option<Said>,
    /// When it was asked last who is online, and how long until it is asked again.
    asking_people: Asking,
    /// A message could not be stored here; it was said.
    not_stored: bool,
    /// Something was typed that is no text; it was said.
    unreadable: bool,
    size: Size,
}

/// Which pane has the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Focus {
    People,
    Talk,
    Files,
    Transfers,
}

/// Something that is looked at for a moment.
#[derive(Debug)]
pub(super) enum Overlay {
    Help {
        /// Rows that are scrolled off above.
        down: usize,
    },
    Found {
        with: UserName,
        words: String,
        entries: Vec<Entry>,
        back: usize,
    },
}

#[derive(Debug)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) is_problem: bool,
}

impl FullView {
    /// Everybody that `me` knows of.
    pub fn new(look: Look, me: &UserName, people: &[Person]) -> Self {
        let mut view = Self {
            look,
            me: me.clone(),
            people: Vec::new(),
            chosen: None,
            talks: HashMap::new(),
            transfers: Transfers::default(),
            focus: Focus::People,
            overlay: None,
            file: 0,
            notice: None,
            asking_people: Asking::new(ASK_AGAIN),
            not_stored: false,
            unreadable: false,
            size: Size::new(80, 24),
        };
        view.meet(people);
        view
    }

    pub(super) fn begin(&mut self) -> Vec<Wish> {
        self.look_at_chosen()
    }

    /// The screen has this size now.
    pub(super) fn fit(&mut self, size: Size) {
        self.size = size;
        let Some(with) = self.chosen.clone() else { return };
        let (look, Some((columns, rows))) = (self.look, draw::talk_size(self, self.area())) else { return };
        let talk = self.talks.entry(with.clone()).or_default();
        talk.clamp(&with, look, columns, rows);
        let files = if let Files::Known { files, .. } = &talk.files { files.len() } else { 0 };
        self.file = self.file.min(files.saturating_sub(1));
        match &mut self.overlay {
            Some(Overlay::Help { down }) => *down = (*down).min(draw::help_rows(size, look).saturating_sub(1)),
            Some(Overlay::Found { .. }) | None => {}
        }
    }

    pub(super) fn layout(&self) -> Layout {
        Layout::of(self.area(), self.focus, self.transfers.running())
    }

    pub(super) fn chosen_person(&self) -> Option<&Person> {
        self.people.iter().find(|person| Some(&person.user) == self.chosen.as_ref())
    }

    pub(super) fn chosen_talk(&self) -> Option<&Talk> {
        self.talks.get(self.chosen.as_ref()?)
    }

    /// Returns with whom the conversation is that the user went to; one that is only shown beside the list is none: who
    /// is first on that is for others to say.
    pub(super) fn open(&self) -> Option<&UserName> {
        self.chosen.as_ref().filter(|_| self.focus == Focus::Talk)
    }

    pub(super) fn news(&mut self, news: &News, now: Instant) -> Vec<Wish> {
        match news {
            News::Event(event) => return self.event(event, now),
            News::People(people) => {
                let had_nobody = self.chosen.is_none();
                self.meet(people);
                if had_nobody {
                    return self.look_at_chosen();
                }
            }
            News::History { with, messages, .. } => {
                self.talk(with).take_page(messages, PAGE);
                return self.seen(with);
            }
            News::Found { with, words, messages } => self.found(with, words, messages),
            News::Files { of, start, files } => {
                let talk = self.talk(of);
                talk.composer.catalogue_mut().learn(files);
                talk.files = Files::Known { start: start.clone(), files: files.clone() };
                return talk.composer.names_known(of, start.is_empty()).into_iter().collect();
            }
            News::Paths { paths, .. } => {
                if let Some(with) = self.chosen.clone() {
                    self.talk(&with).composer.paths(paths);
                }
            }
            News::Note(text) => self.say(text, false),
            News::Problem(text) => self.say(text, true),
            News::Tick => {
                self.transfers.expire(now);
                for talk in self.talks.values_mut() {
                    talk.typing = talk.typing.filter(|until| *until > now);
                }
                // A node that has just begun doesn't know yet.
                let mut wishes = self.ask_people(now);
                if self.layout().files.is_some() {
                    wishes.extend(self.ask_files(false));
                }
                return wishes;
            }
            News::Hashing(file) => self.transfers.hash(file, now),
            News::CaughtUp { .. } | News::Account { .. } | News::Resumed => {}
        }
        Vec::new()
    }

    fn event(&mut self, event: &Event, now: Instant) -> Vec<Wish> {
        self.transfers.hear(event, now);
        match event {
            Event::Received { from, message, seq, at } => {
                let talk = self.talk(from);
                talk.typing = None;
                talk.add(Entry::received(message, *seq, *at));
                if let Some(offer) = &message.offer {
                    talk.composer.catalogue_mut().add(offer.name.as_str(), offer.size, true);
                    talk.files = Files::Unknown;
                }
                self.not_stored = false;
                match self.person(from) {
                    Some(person) => person.unread += 1,
                    None => return vec![Wish::People],
                }
                return self.seen(from);
            }
            Event::Request { from } => {
                self.talk(from).note(&request_note(from));
                match self.person(from) {
                    Some(person) => person.request = true,
                    None => return vec![Wish::People],
                }
            }
            Event::Accepted { user } => self.accepted(user),
            Event::Said { to, message, seq } => {
                self.accepted(to);
                self.talk(to).add(Entry::said(message, *seq));
                self.waits(to, 1);
            }
            Event::State { to, id, state, why, .. } => {
                self.talk(to).mark(*id, mark(*state));
                if !state.is_open() {
                    self.waits(to, -1);
                }
                if let (true, Some(why)) = (state.is_given_up(), why) {
                    self.talk(to).problem(&format!("not delivered: {why}"));
                }
            }
            Event::Read { with } => {
                if let Some(person) = self.person(with) {
                    person.unread = 0;
                }
            }
            Event::Typing { from } => self.talk(from).typing = Some(now + TYPING),
            Event::Presence { user, online } => match self.person(user) {
                Some(person) => {
                    person.online = Some(*online);
                    self.sort();
                }
                None => return vec![Wish::People],
            },
            Event::Held { user, frozen, why } => {
                if let Some(person) = self.person(user)
                    && std::mem::replace(&mut person.frozen, *frozen) != *frozen
                    && *frozen
                {
                    self.talk(user).problem(why);
                }
            }
            // It comes again and again until there is room: once is enough.
            Event::NotStored { from, .. } => {
                if !std::mem::replace(&mut self.not_stored, true)
                    && let Some(line) = event_line(event)
                {
                    self.talk(from).problem(&line);
                    self.notice = Some(Said { text: line, is_problem: true });
                }
            }
            Event::Transfer(_) => {}
            Event::Missed { .. } => {
                self.talks.values_mut().for_each(Talk::forget);
                let mut wishes = self.look_at_chosen();
                wishes.push(Wish::People);
                return wishes;
            }
            event => self.tell(event),
        }
        Vec::new()
    }

    fn accepted(&mut self, user: &UserName) {
        if let Some(person) = self.person(user) {
            person.request = false;
        }
    }

    /// Tells what happened: in the conversation with whom it is about, else for a moment in the last row.
    fn tell(&mut self, event: &Event) {
        let Some(line) = event_line(event) else { return };
        match event {
            Event::Notice(Notice::NewFriend { user, .. }) | Event::Fetched { by: user, .. } => {
                self.talk(user).note(&line);
            }
            _ => self.notice = Some(Said { text: line, is_problem: false }),
        }
    }

    fn show(&mut self, overlay: Overlay) -> Vec<Wish> {
        self.overlay = Some(overlay);
        Vec::new()
    }

    fn turn(&mut self, step: isize) -> Vec<Wish> {
        let all = [Focus::People, Focus::Talk, Focus::Files, Focus::Transfers];
        let count = if self.transfers.is_empty() { 3 } else { 4 };
        let here = all.iter().position(|focus| *focus == self.focus).unwrap_or(0);
        let next = (here.cast_signed() + step).rem_euclid(count);
        self.go_to(all[next.cast_unsigned()])
    }

    fn go_to(&mut self, focus: Focus) -> Vec<Wish> {
        self.focus = focus;
        match (focus, self.chosen.clone()) {
            (Focus::Talk, Some(with)) => {
                let unread = self.person(&with).map_or(0, |person| person.unread);
                self.talk(&with).enter(unread);
                self.seen(&with)
            }
            (Focus::Files, Some(_)) => self.ask_files(false),
            // Somebody may have come, or been blocked elsewhere.
            (Focus::People, _) => vec![Wish::People],
            _ => Vec::new(),
        }
    }

    /// What somebody wrote is read as far as it is here, if it is looked at.
    fn seen(&mut self, with: &UserName) -> Vec<Wish> {
        if !self.is_looked_at(with) {
            return Vec::new();
        }
        let unread = self.person(with).map_or(0, |person| person.unread);
        // What is further back than what is here was not seen.
        if !self.talk(with).has_theirs(unread) {
            return Vec::new();
        }
        if let Some(person) = self.person(with) {
            person.unread = 0;
        }
        let last = self.talks.get(with).and_then(Talk::last);
        last.map(|up_to| Wish::MarkRead { with: with.clone(), up_to }).into_iter().collect()
    }

    /// Whether the end of the conversation with `with` is what is shown.
    fn is_looked_at(&self, with: &UserName) -> bool {
        let is_shown = self.focus == Focus::Talk && self.overlay.is_none() && self.chosen.as_ref() == Some(with);
        is_shown && self.talks.get(with).is_none_or(|talk| talk.back == 0)
    }

    fn choose(&mut self, step: isize) -> Vec<Wish> {
        let here = self.people.iter().position(|person| Some(&person.user) == self.chosen.as_ref());
        let last = self.people.len().saturating_sub(1);
        let next = here.map_or(0, |here| here.saturating_add_signed(step).min(last));
        self.chosen = self.people.get(next).map(|person| person.user.clone());
        self.file = 0;
        self.look_at_chosen()
    }

    /// Asks for what is to be shown of the one who is chosen.
    fn look_at_chosen(&mut self) -> Vec<Wish> {
        let Some(with) = self.chosen.clone() else { return Vec::new() };
        let is_seen = self.layout().files.is_some();
        let before = self.talk(&with).ask(false);
        let mut wishes: Vec<Wish> =
            before.map(|before| Wish::History { with, before, age: None, limit: PAGE }).into_iter().collect();
        if is_seen {
            wishes.extend(self.ask_files(false));
        }
        wishes
    }

    fn look_further_back(&mut self) -> Vec<Wish> {
        let Some(with) = self.chosen.clone() else { return Vec::new() };
        let Some((columns, rows)) = draw::talk_size(self, self.area()) else { return Vec::new() };
        let look = self.look;
        let talk = self.talk(&with);
        let is_at_the_end = talk.back > 0 && talk.clamp(&with, look, columns, rows);
        let before = if is_at_the_end { talk.ask(true) } else { None };
        before.map(|before| Wish::History { with, before, age: None, limit: PAGE }).into_iter().collect()
    }

    /// Asks what the one who is chosen shares: again, or only if it isn't known.
    fn ask_files(&mut self, again: bool) -> Vec<Wish> {
        let Some(person) = self.chosen_person() else { return Vec::new() };
        let (of, is_there) = (person.user.clone(), person.online == Some(true));
        let talk = self.talk(&of);
        if !is_there || (!again && !matches!(talk.files, Files::Unknown)) {
            return Vec::new();
        }
        talk.files = Files::Asked;
        vec![Wish::Files { of, start: String::new() }]
    }

    /// Asks who is online when that isn't known: less and less often.
    fn ask_people(&mut self, now: Instant) -> Vec<Wish> {
        let is_known = self.people.iter().all(|person| person.online.is_some());
        if !is_known && self.asking_people.is_due(now) { vec![Wish::People] } else { Vec::new() }
    }

    fn move_file(&mut self, step: isize) -> Vec<Wish> {
        // How many there are is looked at when it is drawn.
        self.file = self.file.saturating_add_signed(step);
        Vec::new()
    }

    fn get(&self) -> Vec<Wish> {
        let (Some(from), Some(talk)) = (self.chosen.clone(), self.chosen_talk()) else { return Vec::new() };
        let Files::Known { files, .. } = &talk.files else { return Vec::new() };
        let wish = |name: String| Wish::Get { from, name };
        files.get(self.file).map(|file| file.name.as_str().to_owned()).map(wish).into_iter().collect()
    }

    fn found(&mut self, with: &UserName, words: &str, messages: &[StoredMessage]) {
        let entries = messages.iter().map(Entry::stored).collect();
        self.overlay = Some(Overlay::Found { with: with.clone(), words: words.to_owned(), entries, back: 0 });
    }

    fn meet(&mut self, people: &[Person]) {
        people.clone_into(&mut self.people);
        if let Some(with) = self.chosen.clone()
            && let Some(unread) = self.person(&with).map(|person| person.unread)
            && self.is_looked_at(&with)
            && self.talk(&with).has_theirs(unread)
            && let Some(person) = self.person(&with)
        {
            person.unread = 0;
        }
        self.sort();
        if self.chosen.is_none() {
            self.chosen = self.people.first().map(|person| person.user.clone());
        }
    }

    /// Those who are there first.
    fn sort(&mut self) {
        self.people.sort_by(|one, other| {
            let key = |person: &Person| (person.online != Some(true), person.blocked);
            key(one).cmp(&key(other)).then_with(|| one.user.as_str().cmp(other.user.as_str()))
        });
    }

    fn say(&mut self, text: &str, is_problem: bool) {
        self.notice = Some(Said { text: text.to_owned(), is_problem });
        let Some(with) = self.chosen.clone() else { return };
        let talk = self.talk(&with);
        match is_problem {
            true => talk.problem(text),
            false => talk.note(text),
        }
        // Asking for files may have been what failed.
        if is_problem && matches!(talk.files, Files::Asked) {
            talk.files = Files::Failed;
        }
    }

    fn waits(&mut self, user: &UserName, change: isize) {
        if let Some(person) = self.person(user) {
            person.waiting = person.waiting.saturating_add_signed(change);
        }
    }

    fn person(&mut self, user: &UserName) -> Option<&mut Person> {
        self.people.iter_mut().find(|person| person.user == *user)
    }

    fn talk(&mut self, with: &UserName) -> &mut Talk {
        self.talks.entry(with.clone()).or_default()
    }

    const fn area(&self) -> Rect {
        Rect::new(0, 0, self.size.width, self.size.height)
    }
}
