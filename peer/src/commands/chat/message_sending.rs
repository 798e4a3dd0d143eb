//! Sending of one message by `peer chat`, and functions that all commands without a view share.

use std::cell::Cell;
use std::time::Duration;

use serde_json::json;
use shared::UserName;
use shared::peer::ChatMessage;

use super::super::context::CommandContext;
use super::interrupted_send::report_interrupted_send;
use crate::engine::chat::{
    self, DeliveryReport, DirectDelivery, MessageState, RetryPolicy, StoredMessage, retry_policy,
};
use crate::engine::node::control::NodeClient;
use crate::engine::node::{expire_outbox, expiry_message};
use crate::engine::{Error, ErrorKind, LocalUser, run_blocking};

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
    let id = message.id;
    // True once the message may be stored.
    let is_begun = Cell::new(false);
    let delivering = async {
        let node = NodeClient::connect(&me.profile).await?;
        is_begun.set(true);
        match node {
            Some(mut node) => node.deliver(user, &message, now).await,
            None => deliver_without_node(context, me, user, message, now).await,
        }
    };
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
    context.output.note(&format!(
        "{why}: message queued. It is sent when {user} can be reached, as long as `peer serve` runs (see `peer outbox`)"
    ));
}

/// Delivers over a link of this process, together with everything else that waits for the user.
pub(in crate::commands) async fn deliver_without_node(
    context: &CommandContext,
    me: &LocalUser,
    user: &UserName,
    message: ChatMessage,
    now: bool,
) -> Result<DeliveryReport, Error> {
    // Without a node nobody else expires messages: an old one must not be sent along.
    for late in expire_outbox(me, Duration::ZERO).await? {
        context.output.warning(&format!("a message to {} was not delivered: {}", late.peer, expiry_message(&late)));
    }
    let StoredMessage { message, .. } = chat::store_outgoing(me, user, message, |_| {}).await?;
    let mut outcome = None;
    let id = message.id;
    let tried = async {
        let mut visit = DirectDelivery::open(me, user).await?;
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
    // The message's own outcome counts first: another message may have made the flush fail.
    match (outcome, tried) {
        (Some(settled), _) if settled.state == MessageState::Stored => {
            Ok(DeliveryReport { message, state: MessageState::Stored, why: None })
        }
        (Some(chat::SettledMessage { refusal: Some((_, why)), .. }), _) => {
            let (profile, to) = (me.profile.clone(), user.clone());
            run_blocking(move || chat::fail_messages(&profile, &to, vec![message], false)).await?;
            Err(Error::Relayed { kind: ErrorKind::Refused, message: format!("{user} refused it: {why}") })
        }
        (_, Err(error)) => {
            let met = chat::is_key_recorded(me, user).await?;
            if retry_policy(&error, met) == RetryPolicy::Retry
                && !now
                && chat::may_stay_queued(error.kind(), met, false)
            {
                return chat::queued_report(message, error.kind(), error.to_string());
            }
            let (profile, to) = (me.profile.clone(), user.clone());
            // Remove the message instead of keeping it as failed: the user may not exist.
            run_blocking(move || chat::fail_messages(&profile, &to, vec![message], !met)).await?;
            Err(chat::with_not_kept_hint(error))
        }
        // The flush did not see this message: another process of the profile has handled it.
        (_, Ok(())) => find_outcome(me, user, message).await,
    }
}

/// Returns what another process of the profile did with a message: delivered it, gave it up or removed it.
async fn find_outcome(me: &LocalUser, user: &UserName, message: ChatMessage) -> Result<DeliveryReport, Error> {
    let (profile, to, id) = (me.profile.clone(), user.clone(), message.id);
    match run_blocking(move || Ok(profile.outgoing_state(&to, id)?)).await? {
        Some(MessageState::Stored) => Ok(DeliveryReport { message, state: MessageState::Stored, why: None }),
        Some(state) if state.is_queued() => {
            chat::queued_report(message, ErrorKind::Unavailable, format!("{user} didn't take it yet"))
        }
        _ => Err(Error::Relayed {
            kind: ErrorKind::Unavailable,
            message: format!("the message to {user} was dropped by another command, or has expired"),
        }),
    }
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
    context.output.note(&format!("waiting for {user} or the tracker to answer"));
}
