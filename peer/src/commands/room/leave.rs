//! The command `peer room leave`.

use clap::Args;
use localization::tr;
use serde_json::json;

use super::{OwnRoom, RoomOperand, known_cut, print_change};
use crate::commands::command_help::CommandHelp;
use crate::commands::context::CommandContext;
use crate::engine::Error;
use crate::engine::room_actions::{RoomDeparture, leave_room};
use crate::engine::room_contacts::record_departure;
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer room leave lab
  peer room leave '#lab'",
    notes: "\
When the owner leaves, the moderator who is there longest owns the room, or else the member who is. The last one \
takes the room along.",
};

/// Leave a room; its messages stay in your history.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct RoomLeaveArgs {
    #[command(flatten)]
    operand: RoomOperand,
}

pub(super) async fn run(context: &CommandContext, args: RoomLeaveArgs) -> Result<(), Error> {
    let OwnRoom { me, mut tracker, room } = OwnRoom::open(context, &args.operand, Access::Use).await?;
    // Asked for first: the record of the leave holds it.
    let cut = known_cut(&me, &room.name, &me.user).await;
    let departure = leave_room(&mut tracker, &room, cut).await?;
    record_departure(&me, room.id).await?;
    let (name, id) = (&room.name, room.id);
    let (text, fields) = match departure {
        RoomDeparture::Left => (tr!("left #{name}", name), json!({ "id": id, "user": me.user })),
        RoomDeparture::PassedTo(owner) => {
            let text = tr!("left #{name}; {owner} owns it now", name, owner);
            (text, json!({ "id": id, "user": me.user, "owner": owner }))
        }
        RoomDeparture::Ended => {
            let text = tr!("left #{name}; nobody is left, so it is gone", name);
            (text, json!({ "id": id, "user": me.user, "deleted": true }))
        }
    };
    print_change(context, name, "left", fields, &text)
}
