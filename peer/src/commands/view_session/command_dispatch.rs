//! Execution of the commands that a view returns.

use std::path::PathBuf;
use std::time::Instant;

use localization::tr;
use shared::safe_text::safe_path;

use super::ViewSession;
use super::background_jobs::{self, JobOutcome};
use super::view_exit::ExitReason;
use crate::engine::chat::{ConversationName, HistoryQuery};
use crate::engine::{Error, now_ms};
use crate::ui::{MAX_CATCH_UP_MESSAGES, MAX_SEARCH_RESULTS, RequestFailure, TerminalView, ViewCommand, ViewUpdate};

impl<V: TerminalView> ViewSession<'_, V> {
    pub(super) fn dispatch(&mut self, wishes: Vec<ViewCommand>) -> Result<(), Error> {
        for wish in wishes {
            match wish {
                ViewCommand::Send { to, text } => {
                    #[cfg(debug_assertions)]
                    panic_if_requested(&text);
                    match to {
                        ConversationName::Person(to) => self.submit_text(to, &text)?,
                        ConversationName::Room(room) => self.submit_post(room, &text)?,
                    }
                }
                ViewCommand::Typing { to } => {
                    self.ask(|node| async move { node.typing(&to).await.map(|()| JobOutcome::Nothing) });
                }
                ViewCommand::ListUsers => self.list_users()?,
                ViewCommand::LoadHistory { with, before, age, limit } => {
                    self.load_history(with, before, age, limit)?;
                }
                ViewCommand::CatchUp { with, after, before } => self.load_missed(with, after, before)?,
                ViewCommand::Block { .. } | ViewCommand::Accept { .. } if !self.connection.is_connected() => {
                    self.view.handle_update(&ViewUpdate::Problem(RequestFailure::NoNode.words()), Instant::now())?;
                }
                ViewCommand::Search { with, words } => self.search(with, words)?,
                ViewCommand::MarkRead { with, up_to } => self.keep_read_mark(with, up_to),
                ViewCommand::Block { user, blocked: true } => {
                    self.act_at_node(format!("/ignore {user}"), |node| async move {
                        node.block(&user).await?;
                        let words = tr!("{user} is ignored; /unignore undoes it", user);
                        Ok(JobOutcome::ListsChanged(ViewUpdate::Note(words)))
                    });
                }
                ViewCommand::Block { user, blocked: false } => {
                    self.act_at_node(format!("/unignore {user}"), |node| async move {
                        node.unblock(&user).await?;
                        let words = tr!("{user} is no longer ignored", user);
                        Ok(JobOutcome::ListsChanged(ViewUpdate::Note(words)))
                    });
                }
                ViewCommand::Accept { user } => {
                    self.act_at_node(format!("/accept {user}"), |node| async move {
                        node.accept(&user).await?;
                        let words = tr!("{user} is accepted; /ignore refuses their messages", user);
                        Ok(JobOutcome::Update(ViewUpdate::Note(words)))
                    });
                }
                ViewCommand::ChangeRoom { room, change } => self.change_room(room, change),
                ViewCommand::LeaveRoom { room } => self.leave_room(room),
                ViewCommand::Mute { with, muted } => self.mute(with, muted),
                ViewCommand::Fetch { from, name } => {
                    let begun = self.fetches.start(&from, &name).map(drop);
                    self.show_error(begun)?;
                }
                ViewCommand::StopFetch { from, name } => {
                    let stopped = self.fetches.stop(&from, name.as_deref());
                    self.show_error(stopped)?;
                }
                ViewCommand::Offer { to, paths } => self.start_offer(to, paths),
                ViewCommand::FindAccount { user: of } => {
                    drop(self.jobs.spawn(background_jobs::find_account(self.me.clone(), of)));
                }
                ViewCommand::ListFiles { of, prefix: start } => {
                    drop(self.jobs.spawn(background_jobs::list_files(self.me.clone(), of, start)));
                }
                ViewCommand::CompletePath { start } => drop(self.jobs.spawn(background_jobs::complete_path(start))),
                ViewCommand::Suspend => self.suspend()?,
                ViewCommand::Leave => self.leave(ExitReason::Left),
                // The second interrupt.
                ViewCommand::Interrupt if self.exit_reason.is_some() => self.is_exit_forced = true,
                ViewCommand::Interrupt => self.leave_unless_busy(ExitReason::Interrupted)?,
                ViewCommand::EndOfInput => self.leave_unless_busy(ExitReason::Left)?,
            }
        }
        self.send_read_marks();
        // The node slows transfers for the open conversation, so it has to know every change.
        if self.view.open_conversation() != self.announced_open.as_ref() && self.connection.is_connected() {
            self.announce_open_conversation();
        }
        Ok(())
    }

    fn load_history(
        &mut self,
        with: ConversationName,
        before: Option<i64>,
        age: Option<i64>,
        limit: usize,
    ) -> Result<(), Error> {
        let since = age.map(|age| now_ms().saturating_sub(age));
        let query = HistoryQuery { before, since, ..HistoryQuery::with(&with, limit) };
        let asked = with.clone();
        self.request(
            |node| async move { Ok(ViewUpdate::History { with, before, messages: node.history(query).await? }) },
            move |why| ViewUpdate::HistoryFailed { with: asked, before, why },
        )
    }

    fn load_missed(&mut self, with: ConversationName, after: i64, before: Option<i64>) -> Result<(), Error> {
        let earliest = with.person().is_some();
        let page = HistoryQuery::with(&with, MAX_CATCH_UP_MESSAGES);
        let query = HistoryQuery { after: Some(after), before, earliest, ..page };
        let asked = with.clone();
        self.request(
            |node| async move { Ok(ViewUpdate::CaughtUp { with, messages: node.history(query).await? }) },
            move |why| ViewUpdate::CatchUpFailed { with: asked, why },
        )
    }

    fn search(&mut self, with: ConversationName, words: String) -> Result<(), Error> {
        let query = HistoryQuery { search: Some(words.clone()), ..HistoryQuery::with(&with, MAX_SEARCH_RESULTS) };
        self.request(
            |node| async move { Ok(ViewUpdate::SearchResults { with, words, messages: node.history(query).await? }) },
            |why| ViewUpdate::Problem(why.words()),
        )
    }

    pub(super) fn start_offer(&mut self, to: ConversationName, paths: Vec<PathBuf>) {
        self.offer_count += 1;
        let what = paths.iter().map(safe_path).collect::<Vec<_>>();
        self.hashing_offers.insert(self.offer_count, what.join(", "));
        self.jobs.spawn(background_jobs::hash_offer(
            self.me.clone(),
            self.offer_count,
            to,
            paths,
            self.fetches.event_sender(),
            self.offer_cancel.clone(),
        ));
    }

    pub(super) fn show_error(&mut self, done: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = done {
            self.view.handle_update(&ViewUpdate::Problem(error.to_string()), Instant::now())?;
        }
        Ok(())
    }

    /// Leaves, except for the first Ctrl-C or Ctrl-D while transfers run that would end with this process.
    fn leave_unless_busy(&mut self, how: ExitReason) -> Result<(), Error> {
        let (fetches, offers) = (self.fetches.unfinished_count(), self.hashing_offers.len());
        // Uploads go on in another process's node.
        let uploads = self.uploads.describe(Instant::now()).filter(|_| self.connection.owns_node());
        if self.has_warned_busy || (fetches + offers == 0 && uploads.is_none()) {
            self.leave(how);
            return Ok(());
        }
        self.has_warned_busy = true;
        let ours = match (fetches, offers) {
            (0, 0) => None,
            (fetches, 0) => Some(tr!("a download is running" | "{n} downloads are running" % fetches)),
            (0, _) => Some(tr!("a file is being hashed to be offered")),
            (fetches, _) => {
                let count = fetches + offers;
                Some(tr!("{count} files are being downloaded or offered", count))
            }
        };
        let key = if how == ExitReason::Interrupted { "Ctrl-C" } else { "Ctrl-D" };
        self.update_view(&ViewUpdate::Note(match (ours, uploads) {
            (Some(ours), None) => {
                tr!("{ours}: {key} again stops and leaves, /stop stops one download", ours, key)
            }
            (Some(ours), Some(uploads)) => {
                tr!("{uploads}, and {ours}: {key} again stops and leaves", uploads, ours, key)
            }
            (None, uploads) => {
                let uploads = uploads.unwrap_or_default();
                tr!("{uploads}: {key} again stops and leaves", uploads, key)
            }
        }))
    }

    /// Suspends the process, unless it runs the node: a suspended node would be unreachable for peers and for other
    /// processes of the profile.
    pub(super) fn suspend(&mut self) -> Result<(), Error> {
        if !self.connection.owns_node() {
            return Ok(self.view.suspend()?);
        }
        let user = &self.me.user;
        let why = tr!("not suspended: this window keeps {user} online (`peer serve` in another one takes over)", user);
        self.view.handle_update(&ViewUpdate::Note(why), Instant::now())?;
        Ok(())
    }

    pub(super) fn leave(&mut self, how: ExitReason) {
        // At once, so that fetches store their state while messages are still being flushed.
        self.fetches.cancel();
        self.exit_reason = Some(how);
    }

    pub(super) fn send_read_marks(&mut self) {
        if self.connection.is_connected() {
            for (with, up_to) in std::mem::take(&mut self.read_marks) {
                self.ask(|node| async move {
                    match node.mark_read(&with, Some(up_to)).await {
                        Err(Error::NodeGone { .. }) => Ok(JobOutcome::ReadMarkLost { with, up_to }),
                        marked => marked.map(|()| JobOutcome::Nothing),
                    }
                });
            }
        }
    }

    /// Keeps a mark until there is a node: only the newest one of each conversation counts.
    pub(super) fn keep_read_mark(&mut self, with: ConversationName, up_to: i64) {
        let seen = self.read_marks.entry(with).or_insert(up_to);
        *seen = up_to.max(*seen);
    }
}

/// Panics on a given message, for the test that the terminal is restored; only in debug builds.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "it is what it is for")]
fn panic_if_requested(text: &str) {
    if std::env::var_os("VIZINHO_TEST_PANIC").is_some_and(|word| word == text) {
        panic!("this was asked for");
    }
}
