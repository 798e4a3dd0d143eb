//! Sending of one message by `peer chat`, and functions that all commands without a view share.

use std::cell::Cell;
use std::time::Duration;

use localization::tr;
use serde_json::json;
use shared::UserName;

use super::super::context::CommandContext;
use super::interrupted_send::report_interrupted_send;
use crate::engine::chat::{self, DeliveryReport};
use crate::engine::node::{NodeHandle, NodeNeed};
use crate::engine::{Error, LocalUser};

/// Time after which a command says that it is waiting.
pub(super) const WAIT_NOTICE_DELAY: Duration = Duration::from_secs(2);

/// Sends one message. If it can't be delivered now it is queued, or fails with `now`; an interruption then withdraws
/// it.
pub(super) async fn send_message(
    context: &CommandContext,
    me: &LocalUser,
    user: &UserName,
    text: &str,
    now: bool,
) -> Result<(), Error> {
    let message = chat::compose(text)?;
    // An interrupted message is withdrawn by its id.
    let id = message.id;
    // True once the message may be stored.
    let is_begun = Cell::new(false);
    let delivering = NodeHandle::perform_act(me, NodeNeed::Links, async |node| {
        is_begun.set(true);
        node.deliver(user, message, now).await
    });
    let delivery = tokio::select! {
        () = context.cancel.cancelled() => None,
        delivery = with_wait_notice(context, user, delivering) => Some(delivery?),
    };
    match delivery {
        Some(delivery) => print_delivery(context, user, &delivery),
        None if is_begun.get() => Err(report_interrupted_send(context, me, user, id, now).await),
        None => Err(Error::Interrupted),
    }
}

pub(in crate::commands) fn print_delivery(
    context: &CommandContext,
    user: &UserName,
    delivery: &DeliveryReport,
) -> Result<(), Error> {
    let DeliveryReport { message, state, why } = delivery;
    if context.output.is_json() {
        let ack = json!({ "to": user, "peer": user, "id": message.id, "ts": message.ts, "state": state, "why": why });
        context.output.print_object("ack", &ack)?;
    }
    if let Some(why) = why {
        note_queued(context, user, why);
    }
    Ok(())
}

pub(super) fn note_queued(context: &CommandContext, user: &UserName, why: &str) {
    context.output.note(&tr!(
        "{why}: message queued. It is sent when {user} can be reached, as long as `peer serve` runs (see `peer outbox`)",
        why,
        user
    ));
}

/// Runs `work`, and says that it waits if that takes longer than [`WAIT_NOTICE_DELAY`].
pub(in crate::commands) async fn with_wait_notice<T>(
    context: &CommandContext,
    user: &UserName,
    work: impl Future<Output = T>,
) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = tokio::time::sleep(WAIT_NOTICE_DELAY) => {}
    }
    note_waiting(context, user);
    work.await
}

pub(super) fn note_waiting(context: &CommandContext, user: &UserName) {
    context.output.note(&tr!("waiting for {user} or the tracker to answer", user));
}
