//! A view, the node it shows, and what the user wishes: they meet here.
//!
//! Keys come before everything else, and what happens is drawn at most sixty times a second: a flood of events makes
//! neither wait.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use shared::peer::MessageId;
use shared::{FileName, UserName};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Context;
use super::background_fetch::{BackgroundFetches, FromFetch};
use super::paths;
use super::station::Station;
use crate::engine::chat::HistoryQuery;
use crate::engine::event::Event;
use crate::engine::node::control::{Action, FromNode, Outcome};
use crate::engine::{Error, Me, blocking, browse, contacts, offers};
use crate::sys::job;
use crate::ui::{Key, News, View, Wish};

/// Between two pictures.
const FRAME: Duration = Duration::from_millis(16);
/// For what is said to arrive before the node it goes through ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// Messages that a search shows.
const FOUND: usize = 20;

/// How a view ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The user left; so many messages still wait.
    Left {
        /// How many.
        waiting: usize,
    },
    /// The user broke it off, or the terminal is gone.
    Interrupted,
}

/// What a reply of the node is to.
#[derive(Debug)]
enum Asked {
    Say,
    People,
    History { with: UserName, before: Option<i64> },
    Found { with: UserName, words: String },
    Block { user: UserName, blocked: bool },
    Quiet,
}

/// Says what is left to say when a view has ended.
///
/// # Errors
/// [`Error::Interrupted`] when it was.
pub(super) fn say_goodbye(context: &Context, ended: &Ended) -> Result<(), Error> {
    match ended {
        Ended::Interrupted => Err(Error::Interrupted),
        Ended::Left { waiting: 0 } => Ok(()),
        Ended::Left { waiting } => {
            let what = if *waiting == 1 { "1 message waits".to_owned() } else { format!("{waiting} messages wait") };
            context
                .output
                .note(&format!("{what} and will go while a node of this profile runs (`peer serve`, `peer chat`)"));
            Ok(())
        }
    }
}

/// What came of something that was done beside the view.
enum Done {
    News(News),
    /// Files are among what somebody may get, and they are to be told so.
    Offered {
        to: UserName,
        names: Vec<FileName>,
    },
}

struct Session<'a, V> {
    context: &'a Context,
    me: &'a Me,
    view: &'a mut V,
    station: &'a mut Station,
    asked: HashMap<u64, Asked>,
    jobs: JoinSet<Done>,
    fetches: BackgroundFetches,
    /// What was said here and is not stored over there.
    under_way: HashSet<MessageId>,
    saying: usize,
    seen: HashSet<UserName>,
    leaving: Option<Ended>,
}

/// Runs a view until its user leaves.
///
/// # Errors
/// [`Error`]: the terminal fails, or the node is gone and no other can be had.
pub(super) async fn attend<V: View>(
    context: &Context,
    me: &Me,
    view: &mut V,
    keys: &mut mpsc::Receiver<Key>,
    station: &mut Station,
) -> Result<Ended, Error> {
    let (fetches, told) = BackgroundFetches::new(me.clone());
    let mut session = Session {
        context,
        me,
        view,
        station,
        asked: HashMap::new(),
        jobs: JoinSet::new(),
        fetches,
        under_way: HashSet::new(),
        saying: 0,
        seen: HashSet::new(),
        leaving: None,
    };
    let ended = session.run(keys, told).await;
    session.jobs.shutdown().await;
    ended
}

impl<V: View> Session<'_, V> {
    async fn run(
        &mut self,
        keys: &mut mpsc::Receiver<Key>,
        mut told: mpsc::UnboundedReceiver<FromFetch>,
    ) -> Result<Ended, Error> {
        let mut stop = signal(SignalKind::from_raw(job::STOP))?;
        let mut go_on = signal(SignalKind::from_raw(job::GO_ON))?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.ask(Action::Watch, Asked::Quiet).await?;
        let wishes = self.view.begin();
        self.see_to(wishes).await?;
        self.view.draw()?;
        let mut drawn = tokio::time::Instant::now();
        let mut changed = false;
        let mut farewell = None;
        loop {
            if let Some(ended) = &self.leaving {
                let by = *farewell.get_or_insert_with(|| tokio::time::Instant::now() + FAREWELL);
                let is_done = self.has_said_all() && self.fetches.is_idle();
                if is_done || tokio::time::Instant::now() >= by {
                    return Ok(match ended {
                        Ended::Left { .. } => Ended::Left { waiting: self.under_way.len() },
                        Ended::Interrupted => Ended::Interrupted,
                    });
                }
            }
            tokio::select! {
                biased;
                () = self.context.cancel.cancelled() => return Ok(Ended::Interrupted),
                _ = hang_up.recv() => return Ok(Ended::Interrupted),
                key = keys.recv(), if self.leaving.is_none() => {
                    let Some(key) = key else { return Ok(Ended::Interrupted) };
                    let mut wishes = self.view.key(&key, Instant::now())?;
                    while let Ok(key) = keys.try_recv() {
                        wishes.extend(self.view.key(&key, Instant::now())?);
                    }
                    self.see_to(wishes).await?;
                    self.view.draw()?;
                    drawn = tokio::time::Instant::now();
                    changed = false;
                }
                _ = stop.recv() => self.view.suspend()?,
                _ = go_on.recv() => self.news(News::Resumed).await?,
                () = tokio::time::sleep_until(drawn + FRAME), if changed => {
                    self.tell_what_was_seen().await?;
                    self.view.draw()?;
                    drawn = tokio::time::Instant::now();
                    changed = false;
                }
                Some(from) = told.recv() => {
                    self.take_from_fetch(from).await?;
                    changed = true;
                }
                Some(done) = self.jobs.join_next() => {
                    let done = done.unwrap_or_else(|failure| Done::News(News::Problem(failure.to_string())));
                    self.take_done(done).await?;
                    changed = true;
                }
                from = self.station.client.next() => {
                    match from {
                        Ok(from) => self.take_from_node(from).await?,
                        Err(error) => self.reconnect(error).await?,
                    }
                    changed = true;
                }
                _ = tick.tick() => {
                    self.news(News::Tick).await?;
                    changed = true;
                }
                () = until(farewell), if farewell.is_some() => {}
            }
        }
    }

    /// Whether nothing that was said is lost with our own node.
    fn has_said_all(&self) -> bool {
        self.saying == 0 && (!self.station.owns_node() || self.under_way.is_empty())
    }

    async fn news(&mut self, news: News) -> Result<(), Error> {
        let wishes = self.view.news(&news, Instant::now())?;
        self.see_to(wishes).await
    }

    async fn see_to(&mut self, wishes: Vec<Wish>) -> Result<(), Error> {
        for wish in wishes {
            match wish {
                Wish::Say { to, text } => {
                    self.saying += 1;
                    self.ask(Action::Say { to, text }, Asked::Say).await?;
                }
                Wish::Typing { to } => self.ask(Action::Typing { to }, Asked::Quiet).await?,
                Wish::People => self.ask(Action::People, Asked::People).await?,
                Wish::History { with, before, limit } => {
                    let query = HistoryQuery { before, ..HistoryQuery::with(&with, limit) };
                    self.ask(Action::History(query), Asked::History { with, before }).await?;
                }
                Wish::Search { with, words } => {
                    let query = HistoryQuery { search: Some(words.clone()), ..HistoryQuery::with(&with, FOUND) };
                    self.ask(Action::History(query), Asked::Found { with, words }).await?;
                }
                Wish::MarkRead { with } => {
                    self.seen.insert(with);
                }
                Wish::Block { user, blocked } => {
                    let asked = Asked::Block { user: user.clone(), blocked };
                    let action = if blocked { Action::Block { user } } else { Action::Unblock { user } };
                    self.ask(action, asked).await?;
                }
                Wish::Get { from, name } => self.get(&from, &name)?,
                Wish::Offer { to, paths } => {
                    self.jobs.spawn(offer(self.me.clone(), to, paths));
                }
                Wish::Files { of, start } => {
                    self.jobs.spawn(files(self.me.clone(), of, start));
                }
                Wish::Paths { start } => {
                    self.jobs.spawn(async { Done::News(paths::complete(start).await) });
                }
                Wish::Suspend => self.view.suspend()?,
                Wish::Leave => self.leave(),
                Wish::Interrupt => self.leaving = Some(Ended::Interrupted),
            }
        }
        self.tell_what_was_seen().await
    }

    async fn ask(&mut self, action: Action, asked: Asked) -> Result<(), Error> {
        // A node that is gone shows when the next thing is read from it.
        if let Ok(id) = self.station.client.send(action).await {
            self.asked.insert(id, asked);
        }
        Ok(())
    }

    async fn tell_what_was_seen(&mut self) -> Result<(), Error> {
        for with in std::mem::take(&mut self.seen) {
            self.ask(Action::MarkRead { with, up_to: None }, Asked::Quiet).await?;
        }
        Ok(())
    }

    async fn take_from_node(&mut self, from: FromNode) -> Result<(), Error> {
        let reply = match from {
            FromNode::Event(event) => {
                self.follow(&event);
                return self.news(News::Event(event)).await;
            }
            FromNode::Reply(reply) => reply,
        };
        let Some(asked) = self.asked.remove(&reply.id) else { return Ok(()) };
        if matches!(asked, Asked::Say) {
            self.saying = self.saying.saturating_sub(1);
        }
        let value = match reply.outcome {
            Outcome::Ok(value) => value,
            Outcome::Error { message, .. } => {
                let what = if matches!(asked, Asked::Say) { "not sent: " } else { "" };
                return self.news(News::Problem(format!("{what}{message}"))).await;
            }
        };
        let wrong = |why: serde_json::Error| Error::Internal(format!("the node's answer: {why}"));
        let news = match asked {
            Asked::People => News::People(serde_json::from_value(value).map_err(wrong)?),
            Asked::History { with, before } => {
                News::History { with, before, messages: serde_json::from_value(value).map_err(wrong)? }
            }
            Asked::Found { with, words } => {
                News::Found { with, words, messages: serde_json::from_value(value).map_err(wrong)? }
            }
            Asked::Block { user, blocked: true } => {
                News::Note(format!("nothing more is taken from {user}; /unignore takes it back"))
            }
            Asked::Block { user, blocked: false } => News::Note(format!("{user} is heard again")),
            Asked::Say | Asked::Quiet => return Ok(()),
        };
        self.news(news).await
    }

    /// What is on its way when the user leaves.
    fn follow(&mut self, event: &Event) {
        match event {
            Event::Said { message, .. } => {
                self.under_way.insert(message.id);
            }
            Event::State { id, state, .. } if !state.is_open() => {
                self.under_way.remove(id);
            }
            // It won't get there before the farewell is over.
            Event::Held { .. } if self.leaving.is_some() => self.saying = 0,
            _ => {}
        }
    }

    fn leave(&mut self) {
        self.fetches.cancel();
        self.leaving = Some(Ended::Left { waiting: 0 });
    }

    fn get(&mut self, from: &UserName, name: &str) -> Result<(), Error> {
        if let Err(error) = self.fetches.start(from, name) {
            self.problem(&error.to_string())?;
        }
        Ok(())
    }

    fn problem(&mut self, what: &str) -> Result<(), Error> {
        self.view.news(&News::Problem(what.to_owned()), Instant::now())?;
        Ok(())
    }

    async fn take_done(&mut self, done: Done) -> Result<(), Error> {
        match done {
            Done::News(news) => self.news(news).await,
            Done::Offered { to, names } => {
                for name in names {
                    self.ask(Action::Offer { to: to.clone(), name, wait: false }, Asked::Quiet).await?;
                }
                Ok(())
            }
        }
    }

    async fn take_from_fetch(&mut self, from: FromFetch) -> Result<(), Error> {
        match from {
            // It comes back as an event, to all views alike.
            FromFetch::Transfer(transfer) => {
                let _ = self.station.client.send(Action::Transfer(transfer)).await;
                Ok(())
            }
            FromFetch::Note(text) => self.news(News::Note(text)).await,
            FromFetch::Problem(text) => self.news(News::Problem(text)).await,
            FromFetch::Ended => {
                self.fetches.ended();
                Ok(())
            }
        }
    }

    /// The node that was there has ended: another one, or one of our own.
    async fn reconnect(&mut self, why: Error) -> Result<(), Error> {
        if self.station.owns_node() || self.leaving.is_some() {
            return Err(why);
        }
        self.asked.clear();
        self.saying = 0;
        *self.station = Station::open(self.context, self.me).await?;
        self.ask(Action::Watch, Asked::Quiet).await?;
        self.ask(Action::People, Asked::People).await?;
        self.news(News::Note("the node that was running has ended: this view goes on with its own".to_owned())).await
    }
}

async fn until(when: Option<tokio::time::Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// What somebody shares, by asking them.
async fn files(me: Me, of: UserName, start: String) -> Done {
    let found = async {
        let target = contacts::find(&me, &of).await?;
        browse::files(&me, &target, &start).await
    };
    Done::News(match found.await {
        Ok(files) => News::Files { of, start, files },
        Err(error) => News::Problem(error.to_string()),
    })
}

/// Puts files among what somebody may get.
async fn offer(me: Me, to: UserName, written: Vec<PathBuf>) -> Done {
    let user = to.clone();
    let put = blocking(move || {
        let paths: Vec<PathBuf> = written.iter().map(|path| paths::expanded(path)).collect();
        offers::put(&me.profile, &user, &paths, None, &mut |_| {})
    });
    match put.await {
        Ok(offered) => Done::Offered { to, names: offered.into_iter().map(|offer| offer.name).collect() },
        Err(error) => Done::News(News::Problem(error.to_string())),
    }
}
