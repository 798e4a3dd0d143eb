//! `peer fetch --follow`: begins a follow, and shows what it does until Ctrl-C.

use std::path::PathBuf;

use localization::tr;
use serde_json::json;
use shared::names::name_encoding::display_name;
use shared::safe_text::safe_path;
use shared::{FileName, UserName};

use crate::commands::context::CommandContext;
use crate::commands::follows::follow_json;
use crate::engine::follow::{FollowOrder, begin_follow};
use crate::engine::follow_news::{FollowChange, FollowNews, FollowState};
use crate::engine::node::{NodeHandle, NodeLifetime, announce_follows};
use crate::engine::node_connection::{open_node, open_replacement};
use crate::engine::node_event::NodeEvent;
use crate::engine::{Error, ErrorKind, LocalUser, run_blocking};
use crate::profile::{ConversationName, Follow};
use crate::ui::{event_line, follow_change_line};

/// So many changes are shown without a summary.
const FEW_CHANGES: usize = 20;
/// Characters that make a name a pattern.
const WILDCARDS: [char; 4] = ['*', '?', '[', '{'];

/// Reads what is to be followed from the arguments.
///
/// # Errors
/// [`Error::Usage`] unless it is one folder of one user.
pub(super) fn parse_order(
    from: ConversationName,
    names: &[String],
    output: PathBuf,
    deletes: bool,
) -> Result<FollowOrder, Error> {
    let ConversationName::Person(user) = from else {
        return Err(Error::Usage(tr!("--follow keeps a copy of one user's folder: name the user and not the room")));
    };
    let [name] = names else {
        return Err(Error::Usage(tr!(
            "--follow takes one folder, such as `peer fetch {user} photos/ --follow`: run it once for each",
            user
        )));
    };
    let name = name.trim_start_matches("./");
    if name.contains(WILDCARDS) {
        return Err(Error::Usage(tr!("--follow takes a folder, such as photos/, and no pattern")));
    }
    let folder = name.trim_end_matches('/');
    let folder = match folder {
        "" | "." if !name.is_empty() => None,
        folder => {
            let parsed = folder.parse::<FileName>().or_else(|_| FileName::from_raw(folder.as_bytes()));
            let why = |error| {
                Error::Usage(tr!("{folder} can't be a folder's name: {error}", folder = display_name(folder), error))
            };
            Some(parsed.map_err(why)?)
        }
    };
    Ok(FollowOrder { user, folder, output, deletes })
}

/// Begins a follow, and shows what it does.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C, which ends the showing; the reason why it can't begin, or is over.
pub(super) async fn follow_folder(context: &CommandContext, me: &LocalUser, order: FollowOrder) -> Result<(), Error> {
    let (with, wanted) = (me.clone(), order.clone());
    let follow = run_blocking(move || begin_follow(&with, &wanted)).await?;
    let opened = open_node(&context.cancel, me, NodeLifetime::View).await;
    let mut node = match opened {
        Ok(node) => node,
        Err(error) => {
            // It is on record: the next node goes on with it.
            me.profile.set_follow_paused(follow.number, false)?;
            return Err(error);
        }
    };
    let shown = FollowDisplay { context, me, number: follow.number, is_in_step: false }.run(&mut node, &follow).await;
    // In order: a node of this process leaves the tracker, and puts away what it has.
    node.close().await.and(shown)
}

/// The showing of one follow.
struct FollowDisplay<'a> {
    context: &'a CommandContext,
    me: &'a LocalUser,
    number: i64,
    /// True if the last state that was shown is that the copy is in step.
    is_in_step: bool,
}

impl FollowDisplay<'_> {
    async fn run(&mut self, node: &mut NodeHandle, follow: &Follow) -> Result<(), Error> {
        // Before it is looked at, so that no news is missed.
        let mut events = self.context.until_cancelled(node.watch(None)).await?;
        self.me.profile.set_follow_paused(self.number, false)?;
        self.introduce(&Follow { is_paused: false, ..follow.clone() }, node.owns_node())?;
        self.context.until_cancelled(announce_follows(&self.me.profile)).await?;
        loop {
            let event = tokio::select! {
                () = self.context.cancel.cancelled() => return self.say_how_it_goes_on(&follow.of.user, node.owns_node()),
                event = events.next() => event,
            };
            match event {
                Some(NodeEvent::Follow(news)) if news.number == self.number => {
                    self.print(&news)?;
                    if let Some(ended) = ending(&news) {
                        return ended;
                    }
                }
                Some(NodeEvent::EventsMissed { count }) => {
                    self.context
                        .output
                        .note(&tr!("({n} events were not shown)" | "({n} events were not shown)" % count));
                }
                Some(NodeEvent::AccountMoved { user, since }) => return Err(Error::AccountMoved { user, since }),
                Some(NodeEvent::Notice(notice)) if node.owns_node() => (self.me.notify)(notice),
                Some(event @ (NodeEvent::Displaced(_) | NodeEvent::TrackerLost { .. })) if node.owns_node() => {
                    event_line(&event, &self.me.user).iter().for_each(|line| self.context.output.note(line));
                }
                Some(_) => {}
                // The node of another process has ended: the one after it, or one of this process, goes on.
                None => {
                    *node = open_replacement(&self.context.cancel, self.me, NodeLifetime::View).await?;
                    events = self.context.until_cancelled(node.watch(None)).await?;
                }
            }
        }
    }

    fn introduce(&self, follow: &Follow, is_own_node: bool) -> Result<(), Error> {
        if self.context.output.is_json() {
            return Ok(self.context.output.print_object("follow", &follow_json(follow))?);
        }
        let Follow { number, of, .. } = follow;
        let what = of.folder.as_ref().map_or_else(
            || tr!("all that {user} shares", user = of.user),
            |folder| {
                let folder = display_name(folder.as_str());
                tr!("{user}'s {folder}", user = of.user, folder = format_args!("{folder}/"))
            },
        );
        let (output, copy) = (&self.context.output, safe_path(&of.root));
        output.note(&tr!("{what} is kept in step in {copy}", what, copy));
        if of.deletes {
            output.note(&tr!("what {user} removes goes to .vizinho-trash in that folder, for 30 days", user = of.user));
        }
        output.note(&if is_own_node {
            tr!(
                "it goes on while this or `peer serve` runs: Ctrl-C ends the showing, `peer follows end {number}` ends it",
                number
            )
        } else {
            tr!("the node that runs here goes on with it after Ctrl-C; `peer follows end {number}` ends it", number)
        });
        Ok(())
    }

    fn print(&mut self, news: &FollowNews) -> Result<(), Error> {
        if self.context.output.is_json() {
            return Ok(self.context.output.print_object("follow_change", &json!(news))?);
        }
        // A few changes of a copy that is in step are a line each, and no more.
        if let FollowChange::State { state, count, totals, .. } = &news.change {
            let changes = count + totals.fetched + totals.moved + totals.removed;
            let is_passing = matches!(state, FollowState::Fetching | FollowState::InStep) && changes <= FEW_CHANGES;
            if self.is_in_step && is_passing {
                return Ok(());
            }
            self.is_in_step = *state == FollowState::InStep;
        }
        // The error with which the command ends says it.
        if ending(news).is_none_or(|ended| ended.is_ok()) {
            self.context.output.print_data(&follow_change_line(news))?;
        }
        Ok(())
    }

    fn say_how_it_goes_on(&self, user: &UserName, is_own_node: bool) -> Result<(), Error> {
        let number = self.number;
        self.context.output.note(&if is_own_node {
            tr!(
                "the folder of {user} is followed again when `peer serve` runs; `peer follows end {number}` ends it",
                user,
                number
            )
        } else {
            tr!("the folder of {user} is followed on; `peer follows end {number}` ends it", user, number)
        });
        Err(Error::Interrupted)
    }
}

/// Returns the outcome of the command if the news are the last.
fn ending(news: &FollowNews) -> Option<Result<(), Error>> {
    match &news.change {
        FollowChange::Ended | FollowChange::Paused => Some(Ok(())),
        FollowChange::State { state: FollowState::KeyChanged, why, .. } => {
            let number = news.number;
            let message = tr!("{why}\nAfter that, `peer follows resume {number}` goes on", why, number);
            Some(Err(Error::Relayed { kind: ErrorKind::IdentityChanged, message }))
        }
        _ => None,
    }
}
