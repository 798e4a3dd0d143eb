//! The command `peer room delete`.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::tracker::room_request::RequestedChange;

use super::{OwnRoom, RoomOperand, print_change};
use crate::commands::command_help::CommandHelp;
use crate::commands::context::CommandContext;
use crate::commands::questions::{ask_yes_no, require_answerer};
use crate::engine::Error;
use crate::engine::room_actions::change_room;
use crate::engine::room_contacts::record_departure;
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer room delete lab
  peer room delete '#lab'",
    notes: "\
Nobody can write there any more, and its name is free. What was written stays in each member's history. To go and \
leave the room to the others, `peer room leave lab`.",
};

/// End a room for everybody.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct RoomDeleteArgs {
    #[command(flatten)]
    operand: RoomOperand,
    /// Delete without a question.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(context: &CommandContext, args: RoomDeleteArgs) -> Result<(), Error> {
    let OwnRoom { me, room, .. } = OwnRoom::open(context, &args.operand, Access::Use).await?;
    let name = &room.name;
    if !args.yes {
        let again = || tr!("nobody can be asked here: `peer room delete {name} --yes` deletes it", name);
        require_answerer(context, again)?;
        let members = room.members + room.keyless;
        let question = tr!(
            "Delete #{name}, with {n} members, for everybody?"
                | "Delete #{name}, with {n} members, for everybody?" % members,
            name
        );
        if !ask_yes_no(context, &question).await? {
            context.output.note(&tr!("nothing was changed"));
            return Ok(());
        }
    }
    // Over a new connection: the first one may have ended while the question stood there.
    let mut tracker = me.connect_tracker().await?;
    let deleted = change_room(&mut tracker, &room, RequestedChange::Delete).await?;
    record_departure(&me, room.id).await?;
    let fields = json!({ "id": deleted.id, "epoch": deleted.epoch });
    print_change(
        context,
        name,
        "deleted",
        fields,
        &tr!("deleted #{name}; what was written stays in each history", name),
    )
}
