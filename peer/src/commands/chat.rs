//! The command `peer chat`.

use std::io::IsTerminal;

use shared::UserName;

use super::node_handle::NodeHandle;
use super::view_session;
use super::{CommandContext, chat_filter, message_sending};
use crate::engine::chat::{HistoryQuery, StoredMessage};
use crate::engine::node::control::{NodeClient, NodeLifetime};
use crate::engine::{Error, LocalUser};
use crate::sys::job_control;
use crate::ui::{LineViewModel, LineViewTerminal, PlainViewTerminal, spawn_line_reader};

/// Messages shown before the first unread one, or at the end of the history if all are read.
const READ_MESSAGES_SHOWN: usize = 20;
/// Largest number of unread messages shown, the latest of them.
const MAX_UNREAD_SHOWN: usize = 500;

pub(super) async fn run(context: &CommandContext, user: &UserName, text: Option<&str>, now: bool) -> Result<(), Error> {
    let me = context.me()?;
    if *user == me.user {
        return Err(Error::Usage("you can't message yourself".to_owned()));
    }
    match text {
        // Boxed because of its size.
        Some(text) => Box::pin(message_sending::send_message(context, &me, user, text, now)).await,
        None if !now && is_interactive(context) => {
            refuse_in_background(&format!("chat {user}"), &format!("`peer chat {user} TEXT` sends one message"))?;
            run_conversation(context, &me, user).await
        }
        None => chat_filter::run(context, &me, user, now).await,
    }
}

/// True if a person reads and writes, on a terminal of any kind.
pub(super) fn is_interactive(context: &CommandContext) -> bool {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    is_terminal && !context.no_input && !context.output.is_json()
}

/// True if the terminal can move its cursor, so that a view can be drawn.
pub(super) fn can_draw_view(context: &CommandContext) -> bool {
    let is_unknown = std::env::var_os("TERM").is_none_or(|term| term.is_empty());
    is_interactive(context) && !is_unknown && !context.output.is_plain()
}

/// Rejects a view in the background: the kernel would stop it as soon as it touched the terminal, and its node with it.
///
/// # Errors
/// [`Error::Usage`] if another process group has the terminal.
pub(super) fn refuse_in_background(command: &str, instead: &str) -> Result<(), Error> {
    if job_control::is_in_background() {
        let why = format!(
            "`peer {command}` needs the terminal and was started in the background: run it in the foreground; {instead}"
        );
        return Err(Error::Usage(why));
    }
    Ok(())
}

async fn unless_cancelled<T>(
    context: &CommandContext,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        () = context.cancel.cancelled() => Err(Error::Interrupted),
        done = work => done,
    }
}

/// Runs a conversation in the terminal, with the running node or one of its own.
async fn run_conversation(context: &CommandContext, me: &LocalUser, user: &UserName) -> Result<(), Error> {
    let mut station = NodeHandle::open(context, me, NodeLifetime::View).await?;
    let model = match load_line_view(context, user, &mut station).await {
        Ok(model) => model,
        Err(error) => {
            // A node of our own must leave the tracker before the error is printed.
            station.close().await?;
            return Err(error);
        }
    };
    let ended = if can_draw_view(context) {
        match LineViewTerminal::open(model) {
            Ok((view, keys)) => view_session::run_view(context, me, view, keys, station).await?,
            Err(why) => return station.close().await.and(Err(why.into())),
        }
    } else {
        let open = |lines| PlainViewTerminal::open(model, user, context.output.clone(), lines, &context.interrupts);
        match spawn_line_reader().and_then(open) {
            Ok((view, keys)) => view_session::run_view(context, me, view, keys, station).await?,
            Err(why) => return station.close().await.and(Err(why.into())),
        }
    };
    view_session::report_exit(context, &ended)
}

async fn load_line_view(
    context: &CommandContext,
    user: &UserName,
    station: &mut NodeHandle,
) -> Result<LineViewModel, Error> {
    let client = &mut station.client;
    let people = unless_cancelled(context, client.people()).await?;
    let (before, unread_from) = unless_cancelled(context, load_recent_messages(client, user)).await?;
    Ok(LineViewModel::new(context.output.theme(), user, &people, &before, unread_from))
}

/// Returns the messages that a conversation begins with, and the place of the first unread one. That place lies before
/// all of them if there are more than [`MAX_UNREAD_SHOWN`].
async fn load_recent_messages(
    client: &mut NodeClient,
    user: &UserName,
) -> Result<(Vec<StoredMessage>, Option<i64>), Error> {
    let first = HistoryQuery { unread: true, earliest: true, ..HistoryQuery::with(user, 1) };
    let unread_from = client.history(first).await?.first().map(|stored| stored.seq);
    let Some(unread_from) = unread_from else {
        return Ok((client.history(HistoryQuery::with(user, READ_MESSAGES_SHOWN)).await?, None));
    };
    let unread = HistoryQuery { after: Some(unread_from - 1), ..HistoryQuery::with(user, MAX_UNREAD_SHOWN) };
    let unread = client.history(unread).await?;
    // The first unread message is cut off: no earlier context fits before the gap.
    if unread.first().is_none_or(|stored| stored.seq > unread_from) {
        return Ok((unread, Some(unread_from)));
    }
    let before = HistoryQuery { before: Some(unread_from), ..HistoryQuery::with(user, READ_MESSAGES_SHOWN) };
    let mut before = client.history(before).await?;
    before.extend(unread);
    Ok((before, Some(unread_from)))
}
