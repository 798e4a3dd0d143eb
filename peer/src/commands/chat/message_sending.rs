//! Sending of one message by `peer chat`.

use std::cell::Cell;

use shared::UserName;

use super::super::context::CommandContext;
use super::super::message_delivery::{print_delivery, with_wait_notice};
use super::interrupted_send::report_interrupted_send;
use crate::engine::chat;
use crate::engine::node::{NodeHandle, NodeNeed};
use crate::engine::{Error, LocalUser};

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
