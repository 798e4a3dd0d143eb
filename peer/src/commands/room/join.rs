//! The command `peer room join`.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::tracker::Password;
use shared::tracker::room_reply::{ListedRoom, RoomChangeReply};

use super::{RoomOperand, confirm_tracker_for_password, print_change, print_entry_hint, warn_of_key};
use crate::commands::command_help::CommandHelp;
use crate::commands::context::CommandContext;
use crate::commands::password_prompt::{PasswordArgs, read_password};
use crate::engine::room_actions::{find_room, join_room};
use crate::engine::{Error, LocalUser};
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer room join lab
  peer room join lab --password-file lab.txt",
    notes: "",
};

/// Join a room; its password is asked for where it is needed.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct RoomJoinArgs {
    #[command(flatten)]
    operand: RoomOperand,
    #[command(flatten)]
    password: PasswordArgs,
}

pub(super) async fn run(context: &CommandContext, args: RoomJoinArgs) -> Result<(), Error> {
    let RoomJoinArgs { operand, password } = args;
    let me = context.me(Access::Use)?;
    let room = find_room(&mut me.connect_tracker().await?, &operand.room).await?;
    let name = &room.name;
    if room.role.is_some() {
        let fields = json!({ "id": room.id, "user": me.user, "history": room.history });
        return print_change(context, name, "joined", fields, &tr!("you are in #{name} already", name));
    }
    // An invitation stands for the password.
    let joined = if room.password && !room.invited {
        confirm_tracker_for_password(context, &me, &format!("room join {name}")).await?;
        let passwords = read_password(context, &password.source(), &tr!("Password of #{name}:", name)).await?;
        passwords.try_each(async |password| join(&me, &room, Some(password)).await).await?
    } else {
        join(&me, &room, None).await?
    };
    let fields = json!({ "id": joined.id, "epoch": joined.epoch, "user": me.user, "history": room.history });
    // The room was listed before the user was one of them.
    let count = room.members + room.keyless + 1;
    let text = tr!(
        "joined #{name}: {n} members, owner {owner}" | "joined #{name}: {n} members, owner {owner}" % count,
        name,
        owner = room.owner
    );
    print_change(context, name, "joined", fields, &text)?;
    print_entry_hint(context, name, room.history);
    warn_of_key(context, &me);
    Ok(())
}

/// Joins over a new connection: the first one may have ended while the password was typed.
async fn join(me: &LocalUser, room: &ListedRoom, password: Option<Password>) -> Result<RoomChangeReply, Error> {
    join_room(&mut me.connect_tracker().await?, room, password).await
}
