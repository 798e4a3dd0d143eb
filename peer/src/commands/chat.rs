//! `peer chat`.

use std::collections::HashSet;
use std::io::{BufRead, IsTerminal};

use serde_json::json;
use shared::UserName;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Context;
use crate::engine::chat::Visit;
use crate::engine::event::Events;
use crate::engine::node::control::{Action, FromNode, NodeClient, Outcome};
use crate::engine::node::{Node, Place};
use crate::engine::serve::Limits;
use crate::engine::{Error, Me};
use crate::ui::{ChatView, RawTerminal, Wish};

/// Messages of the past that a conversation begins with.
const SHOWN_BEFORE: usize = 20;

pub(super) async fn run(context: &Context, user: &UserName, text: Option<&str>) -> Result<(), Error> {
    let me = context.me()?;
    if *user == me.user {
        return Err(Error::Usage("that is you".to_owned()));
    }
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !context.no_input;
    match text {
        Some(text) => cancellable(context, say_all(context, &me, user, Lines::One(text.to_owned()))).await,
        None if terminal && !context.output.is_json() => converse(context, &me, user).await,
        None => cancellable(context, say_all(context, &me, user, Lines::Stdin(stdin_lines()?))).await,
    }
}

async fn cancellable(context: &Context, work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::select! {
        () = context.cancel.cancelled() => Err(Error::Interrupted),
        done = work => done,
    }
}

/// What is to be said.
enum Lines {
    One(String),
    Stdin(mpsc::Receiver<std::io::Result<String>>),
}

impl Lines {
    async fn next(&mut self) -> Result<Option<String>, Error> {
        match self {
            Self::One(text) => Ok(Some(std::mem::take(text)).filter(|text| !text.is_empty())),
            Self::Stdin(lines) => Ok(lines.recv().await.transpose()?),
        }
    }
}

/// Says one thing after another, each stored by the other side before the next.
async fn say_all(context: &Context, me: &Me, user: &UserName, mut lines: Lines) -> Result<(), Error> {
    let mut speaker = None;
    let mut said = 0;
    while let Some(text) = lines.next().await? {
        if text.trim().is_empty() {
            continue;
        }
        let speaker = match &mut speaker {
            Some(speaker) => speaker,
            none => none.insert(Speaker::open(me, user).await?),
        };
        let message = speaker.say(user, &text).await?;
        said += 1;
        if context.output.is_json() {
            context.output.object("ack", &json!({ "to": user, "id": message.id, "ts": message.ts }))?;
        }
    }
    if let Some(Speaker::Visit(visit)) = speaker {
        visit.close().await;
    }
    if said == 0 { Err(Error::Usage("there is nothing to send".to_owned())) } else { Ok(()) }
}

/// Who carries the messages: the running node, or a link of our own.
enum Speaker {
    Node(NodeClient),
    Visit(Box<Visit>),
}

impl Speaker {
    async fn open(me: &Me, user: &UserName) -> Result<Self, Error> {
        Ok(match NodeClient::connect(&me.profile).await? {
            Some(node) => Self::Node(node),
            None => Self::Visit(Box::new(Visit::open(me, user).await?)),
        })
    }

    async fn say(&mut self, user: &UserName, text: &str) -> Result<shared::peer::ChatMessage, Error> {
        match self {
            Self::Node(node) => node.say(user, text).await,
            Self::Visit(visit) => visit.say(text).await,
        }
    }
}

/// A conversation in the terminal, over the running node or one of its own.
async fn converse(context: &Context, me: &Me, user: &UserName) -> Result<(), Error> {
    let mut own_node = JoinSet::new();
    let mut stop = None;
    let mut client = match NodeClient::connect(&me.profile).await? {
        Some(client) => client,
        None => {
            let node = cancellable_node(context, me).await?;
            stop = Some(node.stop_token());
            own_node.spawn(node.run());
            NodeClient::connect(&me.profile)
                .await?
                .ok_or_else(|| Error::Internal("the node did not start".to_owned()))?
        }
    };
    let before = me.profile.last_messages(user, SHOWN_BEFORE)?;
    let outcome = {
        let (terminal, mut keys) = RawTerminal::enter()?;
        let mut view = ChatView::open(&context.output, user, &before)?;
        let outcome = attend(context, user, &mut client, &mut view, &mut keys).await;
        view.close()?;
        drop(terminal);
        outcome
    };
    if let Some(stop) = stop {
        stop.cancel();
        while let Some(ended) = own_node.join_next().await {
            ended.map_err(|failure| Error::Internal(failure.to_string()))??;
        }
    }
    outcome
}

async fn cancellable_node(context: &Context, me: &Me) -> Result<Node, Error> {
    tokio::select! {
        () = context.cancel.cancelled() => Err(Error::Interrupted),
        node = Node::start(me, Place::default(), Limits::default(), Events::new()) => node,
    }
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

/// The lines of standard input, read where reading may block.
fn stdin_lines() -> Result<mpsc::Receiver<std::io::Result<String>>, Error> {
    let (lines, receiver) = mpsc::channel(16);
    // It ends with the input or with the process: a blocked read can't be called off.
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}
