//! The delivery of messages by commands without a view: what is said of it, and how a message is withdrawn.

use std::time::Duration;

use localization::tr;
use serde_json::json;
use shared::UserName;
use shared::peer::MessageId;

use super::context::CommandContext;
use crate::engine::chat::DeliveryReport;
use crate::engine::node::{NodeHandle, NodeNeed};
use crate::engine::{Error, LocalUser};

/// Time after which a command says that it is waiting.
pub(super) const WAIT_NOTICE_DELAY: Duration = Duration::from_secs(2);

pub(super) fn print_delivery(
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
pub(super) async fn with_wait_notice<T>(context: &CommandContext, user: &UserName, work: impl Future<Output = T>) -> T {
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

/// Removes a message from the outbox, through the node if one runs, so that views are told. Returns false if the
/// message no longer waits.
pub(super) async fn cancel_message(me: &LocalUser, to: &UserName, id: MessageId) -> Result<bool, Error> {
    NodeHandle::perform_act(me, NodeNeed::Links, async |node| node.cancel(to, id).await).await
}
