//! `peer chat` with one message, and what all messages without a view have in common.

use std::cell::Cell;
use std::time::Duration;

use serde_json::json;
use shared::UserName;
use shared::peer::ChatMessage;

use super::Context;
use super::take_back::interrupted;
use crate::engine::chat::{self, MessageState, Prospect, StoredMessage, Visit, prospect};
use crate::engine::node::control::{Delivery, NodeClient};
use crate::engine::node::{expire, expired_words};
use crate::engine::{Error, ErrorKind, Me, blocking};

/// What is done within this time needs no word in between.
pub(super) const MOMENT: Duration = Duration::from_secs(2);

/// Says one thing; what can't go now waits, unless it is to go `now` or not at all. An interruption takes it back then.
pub(super) async fn one(context: &Context, me: &Me, user: &UserName, text: &str, now: bool) -> Result<(), Error> {
    let message = chat::compose(text)?;
    let id = message.id;
    // Whether the message may be stored by now.
    let is_begun = Cell::new(false);
    let delivering = async {
        let node = NodeClient::connect(&me.profile).await?;
        is_begun.set(true);
        match node {
            Some(mut node) => node.deliver(user, &message, now).await,
            None => visit(context, me, user, message, now).await,
        }
    };
    let delivery = tokio::select! {
        () = context.cancel.cancelled() => None,
        delivery = patiently(context, user, delivering) => Some(delivery?),
    };
    match delivery {
        Some(delivery) => tell(context, user, &delivery),
        None if is_begun.get() => Err(interrupted(context, me, user, id, now).await),
        None => Err(Error::Interrupted),
    }
}

pub(super) fn tell(context: &Context, user: &UserName, delivery: &Delivery) -> Result<(), Error> {
    let Delivery { message, state, why } = delivery;
    if context.output.is_json() {
        let ack = json!({ "to": user, "peer": user, "id": message.id, "ts": message.ts, "state": state, "why": why });
        context.output.object("ack", &ack)?;
    }
    if let Some(why) = why {
        say_it_waits(context, user, why);
    }
    Ok(())
}

pub(super) fn say_it_waits(context: &Context, user: &UserName, why: &str) {
    context.output.note(&format!(
        "{why}: message queued. It goes when {user} can be reached, as long as `peer serve` runs (see `peer outbox`)"
    ));
}

/// Without a node: over a link of our own, together with whatever else waits for them.
pub(super) async fn visit(
    context: &Context,
    me: &Me,
    user: &UserName,
    message: ChatMessage,
    now: bool,
) -> Result<Delivery, Error> {
    for late in expire(me, Duration::ZERO).await? {
        context.output.warning(&format!("a message to {} was given up: {}", late.peer, expired_words(&late)));
    }
    let StoredMessage { message, .. } = chat::store_ours(me, user, message, |_| {}).await?;
    let mut outcome = None;
    let id = message.id;
    let tried = async {
        let mut visit = Visit::open(me, user).await?;
        let flushed = visit
            .flush(&mut |settled| {
                if settled.id == id {
                    outcome = Some(settled);
                }
            })
            .await;
        visit.close().await;
        flushed
    }
    .await;
    match (outcome, tried) {
        (Some(settled), _) if settled.state == MessageState::Stored => {
            Ok(Delivery { message, state: MessageState::Stored, why: None })
        }
        (Some(chat::Settled { refused: Some((_, why)), .. }), _) => {
            let (profile, to) = (me.profile.clone(), user.clone());
            blocking(move || chat::give_up(&profile, &to, vec![message], false)).await?;
            Err(Error::Told { kind: ErrorKind::Refused, message: format!("{user} refused it: {why}") })
        }
        (_, Err(error)) => {
            let met = chat::is_met(me, user).await?;
            if prospect(&error, met) == Prospect::Later && !now && chat::may_wait(error.kind(), met, false) {
                return chat::waits(message, error.kind(), error.to_string());
            }
            let (profile, to) = (me.profile.clone(), user.clone());
            // Nothing was said to somebody who was never met.
            blocking(move || chat::give_up(&profile, &to, vec![message], !met)).await?;
            Err(chat::not_kept(error))
        }
        (_, Ok(())) => settled_elsewhere(me, user, message).await,
    }
}

/// Tells what another process of the profile did with a message: delivered it, gave it up or took it out.
async fn settled_elsewhere(me: &Me, user: &UserName, message: ChatMessage) -> Result<Delivery, Error> {
    let (profile, to, id) = (me.profile.clone(), user.clone(), message.id);
    match blocking(move || Ok(profile.state_of_ours(&to, id)?)).await? {
        Some(MessageState::Stored) => Ok(Delivery { message, state: MessageState::Stored, why: None }),
        Some(state) if state.is_open() => {
            chat::waits(message, ErrorKind::Unavailable, format!("{user} didn't take it yet"))
        }
        _ => Err(Error::Told {
            kind: ErrorKind::Unavailable,
            message: format!("the message to {user} was given up or taken out by another command"),
        }),
    }
}

/// Says what is waited for when that takes longer than a moment.
pub(super) async fn patiently<T>(context: &Context, user: &UserName, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = tokio::time::sleep(MOMENT) => {}
    }
    say_what_is_waited_for(context, user);
    work.await
}

pub(super) fn say_what_is_waited_for(context: &Context, user: &UserName) {
    context.output.note(&format!("waiting for {user} or the tracker to answer"));
}
