//! The command `peer outbox`.

use clap::{Args, Subcommand};
use localization::tr;
use serde_json::json;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::message_delivery::cancel_message;
use crate::engine::chat::delivery_state::time_left;
use crate::engine::chat::{QueuedMessage, StoredMessage};
use crate::engine::event_json::message_json;
use crate::engine::{Error, LocalUser, now_ms};
use crate::profile::{Access, Audience};
use crate::ui::{date_and_time, message_line};

/// Digits of a message's id that are shown and suffice to name it.
pub(super) const SHORT_ID_DIGITS: usize = 8;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer outbox
  peer outbox drop 3f2a",
    notes: "\
Queued messages are sent while `peer serve` runs. One that can't be delivered for 14 days expires, and you are \
told; the days of a machine that is off count two at a time.

A message to a room is queued until one member has it, who passes it on to the others. It is signed, and can't be \
dropped.",
};

/// Show queued messages, or drop one.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct OutboxArgs {
    #[command(subcommand)]
    command: Option<OutboxCommand>,
}

#[derive(Debug, Subcommand)]
enum OutboxCommand {
    /// Drop a queued message: it is not sent.
    #[command(after_help = HELP.examples)]
    Drop {
        /// Its id, or the beginning of it.
        id: String,
    },
}

pub(super) async fn run(context: &CommandContext, args: OutboxArgs) -> Result<(), Error> {
    match args.command {
        Some(OutboxCommand::Drop { id }) => drop_queued(context, &id).await,
        None => print_outbox(context),
    }
}

/// Prints the queued messages.
fn print_outbox(context: &CommandContext) -> Result<(), Error> {
    let me = context.me(Access::Look)?;
    let (waiting, now) = (me.profile.outbox()?, me.profile.outbox_now(now_ms())?);
    for QueuedMessage { stored, since, frozen } in &waiting {
        let left = time_left(*since, now);
        if context.output.is_json() {
            let mut object = message_json(stored, &me.user);
            object["frozen"] = json!(frozen);
            object["expires_in_s"] = json!(left.as_secs());
            context.output.print_object("outbox", &object)?;
            continue;
        }
        let id = &stored.message.id.to_string()[..SHORT_ID_DIGITS];
        let remark = match frozen {
            true => format!("  {}", tr!("(held back: the key of {user} changed)", user = stored.peer)),
            false => String::new(),
        };
        let line = message_line(&tr!("to {name}", name = stored.peer), &stored.message.text);
        // Rounded up: a message with hours left is not at its end.
        let days = left.as_secs().div_ceil(24 * 3600);
        let left = tr!("{days} d left", days = format_args!("{days:>2}"));
        context.output.print_data(&format!("{id}  {}  {left}  {line}{remark}", date_and_time(stored.at)))?;
    }
    let undelivered = me.profile.undelivered_room_messages()?;
    for stored in &undelivered {
        print_undelivered(context, &me, stored)?;
    }
    if waiting.is_empty() && undelivered.is_empty() {
        context.output.note(&tr!("the outbox is empty"));
    }
    Ok(())
}

/// Prints a message to a room that no other member has yet.
fn print_undelivered(context: &CommandContext, me: &LocalUser, stored: &StoredMessage) -> Result<(), Error> {
    if context.output.is_json() {
        return Ok(context.output.print_object("outbox", &message_json(stored, &me.user))?);
    }
    let id = &stored.message.id.to_string()[..SHORT_ID_DIGITS];
    let line = message_line(&tr!("to {name}", name = stored.conversation()), &stored.message.text);
    Ok(context.output.print_data(&format!("{id}  {}            {line}", date_and_time(stored.at)))?)
}

/// Drops the queued message whose id begins like this.
async fn drop_queued(context: &CommandContext, id: &str) -> Result<(), Error> {
    let me = context.me(Access::Use)?;
    // Ids have small digits, and may be typed in large ones.
    let id = id.to_ascii_lowercase();
    if id.is_empty() {
        return Err(Error::Usage(tr!("which one? `peer outbox` shows the id of each")));
    }
    let waiting = me.profile.outbox()?;
    // Ids are shown by their first digits, so a start suffices as long as it is unique.
    let mut named = waiting.iter().filter(|waiting| waiting.stored.message.id.to_string().starts_with(&id));
    let found = match (named.next(), named.next()) {
        (Some(only), None) => &only.stored,
        (None, _) => return Err(Error::Usage(no_such_message(&me, &id)?)),
        (Some(_), Some(_)) => return Err(Error::Usage(tr!("{id} begins more than one: give more of it", id))),
    };
    if !cancel_message(&me, &found.peer, found.message.id).await? {
        return Err(Error::Usage(tr!("it was delivered just now")));
    }
    let to = &found.peer;
    context.output.note(&match &found.message.offer {
        Some(offer) if me.profile.share(&Audience::Person(to.clone()), &offer.name)?.is_none() => {
            tr!("dropped the message to {to}: it is not sent, and its offer is withdrawn", to)
        }
        _ => tr!("dropped the message to {to}: it is not sent", to),
    });
    Ok(())
}

/// Returns the words for an id that no message to a user has.
fn no_such_message(me: &LocalUser, id: &str) -> Result<String, Error> {
    let is_named = |stored: &StoredMessage| stored.message.id.to_string().starts_with(id);
    Ok(match me.profile.undelivered_room_messages()?.into_iter().find(is_named) {
        Some(stored) => tr!("a message to {name} is signed and stays", name = stored.conversation()),
        None => tr!("no queued message {id} — see `peer outbox`", id),
    })
}
