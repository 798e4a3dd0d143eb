//! The command `peer room create`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use localization::tr;
use serde_json::json;
use shared::RoomTopic;
use shared::tracker::room_request::NewRoom;

use super::{RoomOperand, confirm_tracker_for_password, print_change, print_entry_hint, warn_of_key};
use crate::commands::command_help::CommandHelp;
use crate::commands::context::CommandContext;
use crate::commands::password_prompt::{PasswordSource, read_new_password};
use crate::commands::value_parsers::parse_room_topic;
use crate::engine::Error;
use crate::engine::own_rooms::create_with_topic;
use crate::engine::tracker_account::new_idempotency_key;
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer room create lab
  peer room create lab --ask-password --topic 'Fridays at ten'
  peer room create board --invite-only --history none",
    notes: "",
};

/// Make a room, which you own.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct RoomCreateArgs {
    #[command(flatten)]
    name: RoomOperand,
    /// Ask for a password that people need to join.
    #[arg(long, conflicts_with = "password_file")]
    ask_password: bool,
    /// Read that password from the first line of a file; - is standard input.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Only people whom you or a moderator invited can join.
    #[arg(long)]
    invite_only: bool,
    /// The messages that newcomers read: those of the last 30 days, or none from before they joined.
    #[arg(long, value_name = "30d|none", default_value = "30d")]
    history: NewcomerHistory,
    /// The line above the conversation.
    #[arg(long, value_name = "TEXT", value_parser = parse_room_topic)]
    topic: Option<RoomTopic>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NewcomerHistory {
    #[value(name = "30d")]
    Month,
    None,
}

pub(super) async fn run(context: &CommandContext, args: RoomCreateArgs) -> Result<(), Error> {
    let RoomCreateArgs { name: RoomOperand { room: name }, ask_password, password_file, invite_only, history, topic } =
        args;
    let me = context.me(Access::Use)?;
    let password = if ask_password || password_file.is_some() {
        confirm_tracker_for_password(context, &me, &format!("room create {name} --ask-password")).await?;
        let source = PasswordSource::new(password_file);
        Some(read_new_password(context, &source, &tr!("Password of #{name}:", name)).await?)
    } else {
        None
    };
    let (has_password, is_shared) = (password.is_some(), history == NewcomerHistory::Month);
    let new =
        // By the key a repeated request has the answer of the first one, and isn't refused because the room exists.
        NewRoom { name: name.clone(), password, invite_only, history: is_shared, key: Some(new_idempotency_key()) };
    // Only now: a connection may end while a password is typed.
    let made = create_with_topic(&me, new, topic).await?;
    let fields = json!({
        "id": made.id,
        "epoch": made.epoch,
        "password": has_password,
        "invite_only": invite_only,
        "history": is_shared,
    });
    let text = match (invite_only, has_password) {
        (true, _) => tr!("made #{name}: only people you invite can join (`peer room invite {name} USER`)", name),
        (false, true) => tr!("made #{name}: people join with its password, or your invitation", name),
        (false, false) => tr!("made #{name}: everybody can join (`peer room join {name}`)", name),
    };
    print_change(context, &name, "created", fields, &text)?;
    print_entry_hint(context, &name, is_shared);
    warn_of_key(context, &me);
    Ok(())
}
