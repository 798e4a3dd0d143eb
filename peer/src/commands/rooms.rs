//! The command `peer rooms`.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::safe_text::safe_line;
use shared::tracker::room_reply::{ListedRole, ListedRoom};

use super::command_help::CommandHelp;
use super::context::CommandContext;
use crate::engine::Error;
use crate::engine::room_actions::list_rooms;
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer rooms
  peer rooms --mine",
    notes: "",
};

/// Show the rooms there are, yours first.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct RoomsArgs {
    /// Only those in which you are, or to which you are invited.
    #[arg(long)]
    mine: bool,
}

pub(super) async fn run(context: &CommandContext, args: RoomsArgs) -> Result<(), Error> {
    let me = context.me(Access::Look)?;
    let mut rooms = list_rooms(&mut me.connect_tracker().await?).await?;
    // Stable: each group stays in the order of names.
    rooms.sort_by_key(|room| (room.role.is_none(), !room.invited));
    if args.mine {
        rooms.retain(|room| room.role.is_some() || room.invited);
    }
    let (unread, muted) = (me.profile.unread_counts()?, me.profile.muted()?);
    let width = rooms.iter().map(|room| room.name.as_str().len() + 1).max().unwrap_or(0);
    for room in &rooms {
        let unread = unread.iter().find(|unread| unread.with == room.name).map_or(0, |unread| unread.count);
        let is_muted = muted.iter().any(|with| *with == room.name);
        print_room(context, room, (unread, is_muted), width)?;
    }
    match (rooms.is_empty(), args.mine) {
        (true, true) => context.output.note(&tr!("you are in no room: `peer rooms` shows all")),
        (true, false) => context.output.note(&tr!("there are no rooms: `peer room create NAME` makes one")),
        (false, _) => {}
    }
    Ok(())
}

fn print_room(
    context: &CommandContext,
    room: &ListedRoom,
    (unread, is_muted): (usize, bool),
    width: usize,
) -> Result<(), Error> {
    if context.output.is_json() {
        let fields = json!({
            "room": room.name,
            "id": room.id,
            "topic": room.topic,
            "owner": room.owner,
            "members": room.members,
            "keyless": room.keyless,
            "password": room.password,
            "invite_only": room.invite_only,
            "history": room.history,
            "role": room.role,
            "invited": room.invited,
            "unread": unread,
            "muted": is_muted,
        });
        return Ok(context.output.print_object("listed_room", &fields)?);
    }
    let count = room.members + room.keyless;
    let noun = tr!("member" | "members" % count);
    let (name, topic) = (format!("#{}", room.name), safe_line(room.topic.as_str()));
    let unread = match unread {
        0 => String::new(),
        unread => format!("{}  ", tr!("({n} unread)" | "({n} unread)" % unread)),
    };
    let muted = if is_muted { format!("{}  ", tr!("(muted)")) } else { String::new() };
    let line = format!("{name:width$}  {:13}  {count:>3} {noun:7}  {unread}{muted}{topic}", standing(room));
    Ok(context.output.print_data(line.trim_end())?)
}

/// Returns the user's place in the room, or what joining takes.
fn standing(room: &ListedRoom) -> String {
    match room.role {
        Some(ListedRole::Owner) => tr!("place in a room" => "yours"),
        Some(ListedRole::Moderator) => tr!("place in a room" => "moderator"),
        Some(ListedRole::Member | ListedRole::Unknown) => tr!("place in a room" => "member"),
        None if room.invited => tr!("place in a room" => "you can join"),
        None if room.invite_only => tr!("place in a room" => "by invitation"),
        None if room.password => tr!("place in a room" => "by password"),
        None => tr!("place in a room" => "open"),
    }
}
