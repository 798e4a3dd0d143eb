//! The command `peer room topic`.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::safe_text::safe_line;
use shared::tracker::room_request::RequestedChange;

use super::{OwnRoom, RoomOperand, print_change};
use crate::commands::command_help::CommandHelp;
use crate::commands::context::CommandContext;
use crate::commands::value_parsers::parse_room_topic;
use crate::engine::Error;
use crate::engine::room_actions::change_room;
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer room topic lab
  peer room topic lab Fridays at ten
  peer room topic lab ''",
    notes: "",
};

/// Show or set the line above a room's conversation; '' takes it away.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct RoomTopicArgs {
    #[command(flatten)]
    operand: RoomOperand,
    /// The new topic.
    #[arg(value_name = "TEXT")]
    words: Vec<String>,
}

pub(super) async fn run(context: &CommandContext, args: RoomTopicArgs) -> Result<(), Error> {
    let RoomTopicArgs { operand, words } = args;
    if words.is_empty() {
        return print_topic(context, &operand).await;
    }
    let topic = parse_room_topic(&words.join(" ")).map_err(Error::Usage)?;
    let OwnRoom { mut tracker, room, .. } = OwnRoom::open(context, &operand, Access::Use).await?;
    let changed = change_room(&mut tracker, &room, RequestedChange::SetTopic { topic: topic.clone() }).await?;
    let fields = json!({ "id": changed.id, "epoch": changed.epoch, "topic": topic });
    let text = match topic.as_str() {
        "" => tr!("#{name} has no topic now", name = room.name),
        topic => tr!("the topic of #{name} is now: {topic}", name = room.name, topic = safe_line(topic)),
    };
    print_change(context, &room.name, "topic", fields, &text)
}

async fn print_topic(context: &CommandContext, operand: &RoomOperand) -> Result<(), Error> {
    let OwnRoom { room, .. } = OwnRoom::open(context, operand, Access::Look).await?;
    if context.output.is_json() {
        let fields = json!({ "room": room.name, "id": room.id, "topic": room.topic });
        return Ok(context.output.print_object("room_topic", &fields)?);
    }
    match room.topic.as_str() {
        "" => {
            let name = &room.name;
            context.output.note(&tr!("#{name} has no topic: `peer room topic {name} TEXT` sets one", name));
        }
        topic => context.output.print_data(&safe_line(topic))?,
    }
    Ok(())
}
