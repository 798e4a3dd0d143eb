//! Interrupted sending of a message: with `--now` the message is withdrawn, else the user learns that it is queued.

use std::time::Duration;

use localization::tr;
use serde_json::json;
use shared::UserName;
use shared::peer::MessageId;
use tokio::time::{Instant, sleep, timeout};

use super::super::context::CommandContext;
use super::super::message_delivery::cancel_message;
use super::super::outbox::SHORT_ID_DIGITS;
use crate::engine::chat::MessageState;
use crate::engine::node::NodeHandle;
use crate::engine::{Error, LocalUser, run_blocking};

/// Time for a message to be withdrawn; a node whose process is stopped reports that within two seconds.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(4);
/// Time for the node to store a message that it was given.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between two checks whether the message is stored.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The outcome of an interrupted message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InterruptedSend {
    /// Never stored, or given up before.
    NotSent,
    /// Waiting in the outbox.
    Queued,
    /// Removed from the outbox.
    Cancelled {
        /// True if the message had been sent without an ack, so that the recipient may have it.
        was_sent: bool,
    },
    /// Stored at the recipient.
    Delivered,
}

/// Withdraws an interrupted message if it was sent with `now`, prints its outcome and returns the error to end with.
pub(super) async fn report_interrupted_send(
    context: &CommandContext,
    me: &LocalUser,
    to: &UserName,
    id: MessageId,
    now: bool,
) -> Error {
    let short: String = id.to_string().chars().take(SHORT_ID_DIGITS).collect();
    let outcome = timeout(CANCEL_TIMEOUT, settle_interrupted_send(me, to, id, now)).await;
    let (words, state) = match outcome {
        Ok(Ok(InterruptedSend::NotSent)) => (tr!("interrupted: the message was not sent"), None),
        Ok(Ok(InterruptedSend::Queued)) => {
            let words = tr!("interrupted: the message stays queued (`peer outbox drop {short}` drops it)", short);
            (words, Some(MessageState::Waiting))
        }
        Ok(Ok(InterruptedSend::Cancelled { was_sent: false })) => {
            (tr!("interrupted: the message was dropped"), Some(MessageState::Dropped))
        }
        Ok(Ok(InterruptedSend::Cancelled { was_sent: true })) => {
            let words = tr!("interrupted: the message was dropped, but {to} may have it: it was on its way", to);
            (words, Some(MessageState::Dropped))
        }
        Ok(Ok(InterruptedSend::Delivered)) => {
            (tr!("interrupted: {to} has the message already", to), Some(MessageState::Stored))
        }
        Ok(Err(why)) => (tr!("interrupted: {why}; `peer outbox drop {short}` drops the message", why, short), None),
        Err(_) => (tr!("interrupted: `peer outbox drop {short}` drops the message", short), None),
    };
    if context.output.is_json()
        && let Some(state) = state
    {
        let ack = json!({ "to": to, "peer": to, "id": id, "state": state, "why": words });
        // Ignored: the process ends with an error in any case.
        let _ = context.output.print_object("ack", &ack);
    }
    context.output.note(&words);
    Error::Interrupted
}

async fn settle_interrupted_send(
    me: &LocalUser,
    to: &UserName,
    id: MessageId,
    now: bool,
) -> Result<InterruptedSend, Error> {
    let begun = Instant::now();
    loop {
        let (profile, user) = (me.profile.clone(), to.clone());
        match run_blocking(move || Ok(profile.outgoing_state(&user, id)?)).await? {
            // The node has the message and may store it at any moment.
            None if begun.elapsed() >= STORE_TIMEOUT => return Ok(InterruptedSend::NotSent),
            None => sleep(POLL_INTERVAL).await,
            Some(state) if state.is_given_up() => return Ok(InterruptedSend::NotSent),
            Some(state) if !state.is_queued() => return Ok(InterruptedSend::Delivered),
            Some(_) if !now => return Ok(InterruptedSend::Queued),
            Some(state) => {
                let taken = match cancel_message(me, to, id).await {
                    Ok(taken) => taken,
                    // The outbox belongs to the profile: it can be changed without the node's help.
                    Err(why) => {
                        tracing::debug!("the node doesn't take the message out: {why}");
                        NodeHandle::transient(me).cancel(to, id).await?
                    }
                };
                // If it was not removed, its state changed in between: look again.
                if taken {
                    return Ok(InterruptedSend::Cancelled { was_sent: state == MessageState::Sent });
                }
            }
        }
    }
}
