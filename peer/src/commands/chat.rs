//! `peer chat`.

use std::collections::HashSet;
use std::io::IsTerminal;

use shared::UserName;
use tokio::sync::mpsc;

use super::station::Station;
use super::{Context, say};
use crate::engine::chat::HistoryQuery;
use crate::engine::node::control::{Action, FromNode, NodeClient, Outcome};
use crate::engine::{Error, Me};
use crate::ui::{ChatView, RawTerminal, Wish};

/// Messages of the past that a conversation begins with.
const SHOWN_BEFORE: usize = 20;

pub(super) async fn run(context: &Context, user: &UserName, text: Option<&str>, now: bool) -> Result<(), Error> {
    let me = context.me()?;
    if *user == me.user {
        return Err(Error::Usage("that is you".to_owned()));
    }
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !context.no_input;
    match text {
        Some(text) => cancellable(context, say::one(context, &me, user, text, now)).await,
        None if terminal && !context.output.is_json() => converse(context, &me, user).await,
        None => say::lines(context, &me, user, now).await,
    }
}

async fn cancellable(context: &Context, work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::select! {
        () = context.cancel.cancelled() => Err(Error::Interrupted),
        done = work => done,
    }
}

/// A conversation in the terminal, over the running node or one of its own.
async fn converse(context: &Context, me: &Me, user: &UserName) -> Result<(), Error> {
    let mut station = Station::open(context, me).await?;
    let before = me.profile.history(&HistoryQuery::with(user, SHOWN_BEFORE))?;
    let outcome = {
        let (terminal, mut keys) = RawTerminal::enter()?;
        let mut view = ChatView::open(&context.output, user, &before)?;
        let outcome = attend(context, user, &mut station.client, &mut view, &mut keys).await;
        view.close()?;
        drop(terminal);
        outcome
    };
    station.close().await?;
    outcome
}

async fn attend(
    context: &Context,
    user: &UserName,
    client: &mut NodeClient,
    view: &mut ChatView,
    keys: &mut mpsc::Receiver<crate::ui::Key>,
) -> Result<(), Error> {
    client.send(Action::Watch).await?;
    // Messages that the other side has not stored yet; leaving waits for them.
    let mut under_way = HashSet::new();
    let mut leaving = false;
    loop {
        if leaving && under_way.is_empty() {
            return Ok(());
        }
        tokio::select! {
            () = context.cancel.cancelled() => return Err(Error::Interrupted),
            key = keys.recv(), if !leaving => match key.map(|key| view.key(&key)).transpose()? {
                Some(Wish::Nothing) => {}
                Some(Wish::Say(text)) => {
                    under_way.insert(client.send(Action::Say { to: user.clone(), text }).await?);
                }
                Some(Wish::Interrupt) => return Err(Error::Interrupted),
                Some(Wish::Leave) | None => leaving = true,
            },
            news = client.next() => match news? {
                FromNode::Event(event) => view.event(&event)?,
                FromNode::Reply(reply) => {
                    under_way.remove(&reply.id);
                    if let Outcome::Error { message, .. } = reply.outcome {
                        view.problem(&format!("not delivered: {message}"))?;
                    }
                }
            },
        }
    }
}
