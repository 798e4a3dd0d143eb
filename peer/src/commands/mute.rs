//! The commands `peer mute` and `peer unmute`.

use clap::Args;
use localization::tr;
use serde_json::json;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::user_resolution::resolve_conversation;
use crate::engine::Error;
use crate::engine::chat::ConversationName;
use crate::engine::room_actions::find_own_room;
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer mute '#lab'
  peer mute bob
  peer mute",
    notes: "\
What is muted rings no bell and runs no `peer notify` program, a message with @you neither. It is received and counted \
as unread all the same. `peer block` refuses somebody's messages.",
};

/// Let somebody's messages, or those of a room, not ring; without a name show what is muted.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct MuteArgs {
    /// Who, or a room ('#lab').
    #[arg(value_name = "USER|#ROOM")]
    with: Option<ConversationName>,
}

/// Let messages ring again.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct UnmuteArgs {
    /// Who, or a room ('#lab').
    #[arg(value_name = "USER|#ROOM")]
    with: ConversationName,
}

pub(super) async fn mute(context: &CommandContext, args: MuteArgs) -> Result<(), Error> {
    match args.with {
        Some(with) => change(context, with, true).await,
        None => print_muted(context),
    }
}

pub(super) async fn unmute(context: &CommandContext, args: UnmuteArgs) -> Result<(), Error> {
    change(context, args.with, false).await
}

async fn change(context: &CommandContext, mut with: ConversationName, muted: bool) -> Result<(), Error> {
    let me = context.me(Access::Use)?;
    match &mut with {
        // Made or joined a moment ago, and no node heard of it yet.
        ConversationName::Room(room) if me.profile.room_named(room)?.is_none() => {
            *room = find_own_room(&mut me.connect_tracker().await?, room).await?.name;
        }
        with => resolve_conversation(context, &me, with).await?,
    }
    if with == me.user {
        return Err(Error::Usage(tr!("{with} is you: you have no messages of your own to mute", with)));
    }
    // A running node reads it anew for each message.
    if !me.profile.set_muted(&with, muted)? && !muted {
        return Err(Error::Usage(tr!("{with} is not muted: `peer mute` shows what is", with)));
    }
    context.output.note(&mute_words(&with, muted));
    Ok(())
}

fn print_muted(context: &CommandContext) -> Result<(), Error> {
    let muted = context.me(Access::Look)?.profile.muted()?;
    for with in &muted {
        if context.output.is_json() {
            context.output.print_object("muted", &json!({ "with": with }))?;
        } else {
            context.output.print_data(&with.to_string())?;
        }
    }
    if muted.is_empty() {
        context.output.note(&tr!("nothing is muted: `peer mute USER` or `peer mute '#ROOM'` does that"));
    }
    Ok(())
}

/// Returns the words for a conversation that was muted, or is no longer.
pub(super) fn mute_words(with: &ConversationName, muted: bool) -> String {
    match (with, muted) {
        (ConversationName::Room(_), true) => tr!("muted {with}: not even a message that calls you rings", with),
        (ConversationName::Room(_), false) => tr!("{with} rings again when a message calls you", with),
        (ConversationName::Person(_), true) => tr!("muted {with}: what {with} writes doesn't ring", with),
        (ConversationName::Person(_), false) => tr!("{with} rings again", with),
    }
}
