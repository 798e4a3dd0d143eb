//! `peer chat`.

use std::io::IsTerminal;

use shared::UserName;

use super::session;
use super::station::Station;
use super::{Context, filter, say};
use crate::engine::chat::{HistoryQuery, StoredMessage};
use crate::engine::node::control::{Lifetime, NodeClient};
use crate::engine::{Error, Me};
use crate::sys::job;
use crate::ui::{LineTerminal, LineView, PlainTerminal, input_lines};

/// Messages of the past that a conversation begins with.
const SHOWN_BEFORE: usize = 20;
/// From the first unread one on, at most.
const UNREAD_SHOWN: usize = 500;

pub(super) async fn run(context: &Context, user: &UserName, text: Option<&str>, now: bool) -> Result<(), Error> {
    let me = context.me()?;
    if *user == me.user {
        return Err(Error::Usage("that is you".to_owned()));
    }
    match text {
        Some(text) => Box::pin(say::one(context, &me, user, text, now)).await,
        None if !now && is_interactive(context) => {
            refuse_in_background(&format!("chat {user}"), &format!("`peer chat {user} TEXT` sends one message"))?;
            converse(context, &me, user).await
        }
        None => filter::run(context, &me, user, now).await,
    }
}

/// Whether a person reads and writes: on a terminal, whatever that can do.
pub(super) fn is_interactive(context: &Context) -> bool {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    is_terminal && !context.no_input && !context.output.is_json()
}

/// Whether a view can be drawn: on a terminal that can move its cursor.
pub(super) fn is_for_people(context: &Context) -> bool {
    let is_unknown = std::env::var_os("TERM").is_none_or(|term| term.is_empty());
    is_interactive(context) && !is_unknown && !context.output.is_plain()
}

/// A view in the background would be stopped as soon as it touched the terminal, and with it a node that it owns.
///
/// # Errors
/// [`Error::Usage`] when others have the terminal.
pub(super) fn refuse_in_background(command: &str, instead: &str) -> Result<(), Error> {
    if job::is_in_background() {
        let why = format!(
            "`peer {command}` wants the terminal and was started in the background: run it in the foreground; {instead}"
        );
        return Err(Error::Usage(why));
    }
    Ok(())
}

async fn cancellable<T>(context: &Context, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::select! {
        () = context.cancel.cancelled() => Err(Error::Interrupted),
        done = work => done,
    }
}

/// A conversation in the terminal, over the running node or one of its own.
async fn converse(context: &Context, me: &Me, user: &UserName) -> Result<(), Error> {
    let mut station = Station::open(context, me, Lifetime::View).await?;
    let model = match begin(context, user, &mut station).await {
        Ok(model) => model,
        Err(error) => {
            station.close().await?;
            return Err(error);
        }
    };
    let ended = if is_for_people(context) {
        match LineTerminal::open(model) {
            Ok((view, keys)) => session::attend(context, me, view, keys, station).await?,
            Err(why) => return station.close().await.and(Err(why.into())),
        }
    } else {
        let open = |lines| PlainTerminal::open(model, user, context.output.clone(), lines, &context.interrupts);
        match input_lines().and_then(open) {
            Ok((view, keys)) => session::attend(context, me, view, keys, station).await?,
            Err(why) => return station.close().await.and(Err(why.into())),
        }
    };
    session::say_goodbye(context, &ended)
}

async fn begin(context: &Context, user: &UserName, station: &mut Station) -> Result<LineView, Error> {
    let client = &mut station.client;
    let people = cancellable(context, client.people()).await?;
    let (before, unread_from) = cancellable(context, past(client, user)).await?;
    Ok(LineView::new(context.output.look(), user, &people, &before, unread_from))
}

/// What a conversation begins with: what is unread, or the end of it, and a little before that; and where the unread
/// begins, which is before all of it when there is too much.
async fn past(client: &mut NodeClient, user: &UserName) -> Result<(Vec<StoredMessage>, Option<i64>), Error> {
    let first = HistoryQuery { unread: true, earliest: true, ..HistoryQuery::with(user, 1) };
    let unread_from = client.history(first).await?.first().map(|stored| stored.seq);
    let Some(unread_from) = unread_from else {
        return Ok((client.history(HistoryQuery::with(user, SHOWN_BEFORE)).await?, None));
    };
    let unread = HistoryQuery { after: Some(unread_from - 1), ..HistoryQuery::with(user, UNREAD_SHOWN) };
    let unread = client.history(unread).await?;
    if unread.first().is_none_or(|stored| stored.seq > unread_from) {
        return Ok((unread, Some(unread_from)));
    }
    let before = HistoryQuery { before: Some(unread_from), ..HistoryQuery::with(user, SHOWN_BEFORE) };
    let mut before = client.history(before).await?;
    before.extend(unread);
    Ok((before, Some(unread_from)))
}
