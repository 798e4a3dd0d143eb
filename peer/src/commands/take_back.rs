//! A message whose sending was interrupted: with `--now` it is taken back, else the user learns that it is queued.

use std::time::Duration;

use serde_json::json;
use shared::UserName;
use shared::peer::MessageId;
use tokio::time::{Instant, sleep, timeout};

use super::{Context, ledger};
use crate::engine::chat::{self, MessageState};
use crate::engine::{Error, Me, blocking};

/// Longest time for a message to be taken back; a node that is stopped says so within two seconds.
const PATIENCE: Duration = Duration::from_secs(4);
/// Longest time for a message that was handed over to be stored.
const STORING: Duration = Duration::from_secs(1);
/// Between two looks whether it is stored.
const LOOK: Duration = Duration::from_millis(20);

/// What became of an interrupted message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It was never stored, or was given up before.
    NotSent,
    /// It waits in the outbox.
    Queued,
    /// It was taken out of the outbox.
    TakenBack {
        /// It was on its way before.
        was_sent: bool,
    },
    /// The other side has it.
    Delivered,
}

/// Takes an interrupted message back if it was to go `now`, tells what became of it, and returns the error to end with.
pub(super) async fn interrupted(context: &Context, me: &Me, to: &UserName, id: MessageId, now: bool) -> Error {
    let short: String = id.to_string().chars().take(ledger::SHORT_ID).collect();
    let outcome = timeout(PATIENCE, outcome(me, to, id, now)).await;
    let (words, state) = match outcome {
        Ok(Ok(Outcome::NotSent)) => ("interrupted: the message was not sent".to_owned(), None),
        Ok(Ok(Outcome::Queued)) => {
            let words = format!("interrupted: the message stays queued (`peer outbox drop {short}` takes it out)");
            (words, Some(MessageState::Waiting))
        }
        Ok(Ok(Outcome::TakenBack { was_sent: false })) => {
            ("interrupted: the message was given up".to_owned(), Some(MessageState::Dropped))
        }
        Ok(Ok(Outcome::TakenBack { was_sent: true })) => {
            let words = format!("interrupted: the message was given up, but {to} may have it: it was on its way");
            (words, Some(MessageState::Dropped))
        }
        Ok(Ok(Outcome::Delivered)) => {
            (format!("interrupted: {to} has the message already"), Some(MessageState::Stored))
        }
        Ok(Err(why)) => (format!("interrupted: {why}; `peer outbox drop {short}` takes the message out"), None),
        Err(_) => (format!("interrupted: `peer outbox drop {short}` takes the message out"), None),
    };
    if context.output.is_json()
        && let Some(state) = state
    {
        let ack = json!({ "to": to, "peer": to, "id": id, "state": state, "why": words });
        // The process ends with an error in any case.
        let _ = context.output.object("ack", &ack);
    }
    context.output.note(&words);
    Error::Interrupted
}

async fn outcome(me: &Me, to: &UserName, id: MessageId, now: bool) -> Result<Outcome, Error> {
    let begun = Instant::now();
    loop {
        let (profile, user) = (me.profile.clone(), to.clone());
        match blocking(move || Ok(profile.state_of_ours(&user, id)?)).await? {
            // What was handed over may be stored at any moment.
            None if begun.elapsed() >= STORING => return Ok(Outcome::NotSent),
            None => sleep(LOOK).await,
            Some(state) if state.is_given_up() => return Ok(Outcome::NotSent),
            Some(state) if !state.is_open() => return Ok(Outcome::Delivered),
            Some(_) if !now => return Ok(Outcome::Queued),
            Some(state) => {
                let taken = match ledger::take_out(me, to, id).await {
                    Ok(taken) => taken,
                    // Whoever has the node, the outbox is the profile's.
                    Err(why) => {
                        tracing::debug!("the node doesn't take the message out: {why}");
                        chat::take_out(me, to, id).await?
                    }
                };
                if taken {
                    return Ok(Outcome::TakenBack { was_sent: state == MessageState::Sent });
                }
            }
        }
    }
}
