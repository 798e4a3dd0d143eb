//! What the user of a view wishes, and who sees to it.

use std::path::PathBuf;
use std::time::Instant;

use shared::UserName;
use shared::safe_text::safe_path;

use super::ending::How;
use super::{Asked, Session, beside};
use crate::engine::chat::HistoryQuery;
use crate::engine::node::control::Action;
use crate::engine::{Error, now_ms};
use crate::ui::{CAUGHT_UP_AT_ONCE, FOUND_AT_ONCE, News, View, Wish};

impl<V: View> Session<'_, V> {
    pub(super) fn see_to(&mut self, wishes: Vec<Wish>) -> Result<(), Error> {
        for wish in wishes {
            match wish {
                Wish::Say { to, text } => {
                    #[cfg(debug_assertions)]
                    panic_if_told(&text);
                    self.say(to, &text)?;
                }
                Wish::Typing { to } => drop(self.ask(Action::Typing { to }, Asked::Quiet)),
                Wish::People => drop(self.ask(Action::People, Asked::People)),
                Wish::History { with, before, age, limit } => {
                    let since = age.map(|age| now_ms().saturating_sub(age));
                    let query = HistoryQuery { before, since, ..HistoryQuery::with(&with, limit) };
                    self.ask(Action::History(query), Asked::History { with, before });
                }
                Wish::CatchUp { with, after } => {
                    let query = HistoryQuery {
                        after: Some(after),
                        earliest: true,
                        ..HistoryQuery::with(&with, CAUGHT_UP_AT_ONCE)
                    };
                    self.ask(Action::History(query), Asked::CatchUp { with });
                }
                Wish::Block { .. } | Wish::Accept { .. } | Wish::Search { .. } if !self.connection.is_there() => {
                    let what = "there is no node at the moment: try again when there is".to_owned();
                    self.view.news(&News::Problem(what), Instant::now())?;
                }
                Wish::Search { with, words } => {
                    let query =
                        HistoryQuery { search: Some(words.clone()), ..HistoryQuery::with(&with, FOUND_AT_ONCE) };
                    self.ask(Action::History(query), Asked::Found { with, words });
                }
                Wish::MarkRead { with, up_to } => {
                    let seen = self.seen.entry(with).or_insert(up_to);
                    *seen = up_to.max(*seen);
                }
                Wish::Block { user, blocked } => {
                    let asked = Asked::Block { user: user.clone(), blocked };
                    let action = if blocked { Action::Block { user } } else { Action::Unblock { user } };
                    self.ask(action, asked);
                }
                Wish::Accept { user } => {
                    self.ask(Action::Accept { user: user.clone() }, Asked::Accept { user });
                }
                Wish::Get { from, name } => {
                    let begun = self.fetches.start(&from, &name);
                    self.complain(begun)?;
                }
                Wish::Stop { from, name } => {
                    let stopped = self.fetches.stop(&from, name.as_deref());
                    self.complain(stopped)?;
                }
                Wish::Offer { to, paths } => self.offer(to, paths),
                Wish::Account { of } => drop(self.jobs.spawn(beside::account(self.me.clone(), of))),
                Wish::Files { of, start } => drop(self.jobs.spawn(beside::files(self.me.clone(), of, start))),
                Wish::Paths { start } => drop(self.jobs.spawn(beside::paths(start))),
                Wish::Suspend => self.suspend()?,
                Wish::Leave => self.leave(How::Left),
                // The second one.
                Wish::Interrupt if self.leaving.is_some() => self.at_once = true,
                Wish::Interrupt => self.leave_unless_busy(How::Interrupted)?,
                Wish::EndOfInput => self.leave_unless_busy(How::Left)?,
            }
        }
        self.tell_what_was_seen();
        if self.view.open() != self.open.as_ref() && self.connection.is_there() {
            self.watch();
        }
        Ok(())
    }

    pub(super) fn offer(&mut self, to: UserName, paths: Vec<PathBuf>) {
        self.offers += 1;
        let what = paths.iter().map(safe_path).collect::<Vec<_>>();
        self.offering.insert(self.offers, what.join(", "));
        self.jobs.spawn(beside::offer(self.me.clone(), self.offers, to, paths, self.fetches.teller()));
    }

    pub(super) fn complain(&mut self, done: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = done {
            self.view.news(&News::Problem(error.to_string()), Instant::now())?;
        }
        Ok(())
    }

    /// Leaves, but not with the first Ctrl-C or Ctrl-D while something is on its way that would end with that.
    fn leave_unless_busy(&mut self, how: How) -> Result<(), Error> {
        let (fetches, offers) = (self.fetches.running(), self.offering.len());
        let uploads = self.uploads.words(Instant::now()).filter(|_| self.connection.owns_node());
        if self.is_warned || (fetches + offers == 0 && uploads.is_none()) {
            self.leave(how);
            return Ok(());
        }
        self.is_warned = true;
        let ours = match (fetches, offers) {
            (0, 0) => None,
            (1, 0) => Some("a fetch is on its way".to_owned()),
            (fetches, 0) => Some(format!("{fetches} fetches are on their way")),
            (0, _) => Some("a file is being hashed to be offered".to_owned()),
            (fetches, _) => Some(format!("{} files are on their way", fetches + offers)),
        };
        let key = if how == How::Interrupted { "Ctrl-C" } else { "Ctrl-D" };
        self.news(&News::Note(match (ours, uploads) {
            (Some(ours), None) => {
                format!("{ours}: {key} again stops that and leaves, /stop stops a fetch alone")
            }
            (ours, uploads) => {
                let all: Vec<String> = uploads.into_iter().chain(ours).collect();
                format!("{}: {key} again leaves and stops that", all.join(", and "))
            }
        }))
    }

    /// Stops the process, unless its node would stop with it: then nobody would reach the user, and no other process of
    /// the profile the node.
    pub(super) fn suspend(&mut self) -> Result<(), Error> {
        if !self.connection.owns_node() {
            return Ok(self.view.suspend()?);
        }
        let user = &self.me.user;
        let why = format!("not suspended: this window keeps {user} online (`peer serve` in another one takes over)");
        self.view.news(&News::Note(why), Instant::now())?;
        Ok(())
    }

    pub(super) fn leave(&mut self, how: How) {
        self.fetches.cancel();
        self.leaving = Some(how);
    }

    pub(super) fn tell_what_was_seen(&mut self) {
        if self.connection.is_there() {
            for (with, up_to) in std::mem::take(&mut self.seen) {
                self.ask(Action::MarkRead { with, up_to: Some(up_to) }, Asked::Quiet);
            }
        }
    }
}

/// For the test of what becomes of the terminal; not in what people get.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "it is what it is for")]
fn panic_if_told(text: &str) {
    if std::env::var_os("VIZINHO_TEST_PANIC").is_some_and(|word| word == text) {
        panic!("this was asked for");
    }
}
