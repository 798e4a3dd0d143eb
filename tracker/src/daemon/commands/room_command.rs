//! The commands `tracker room list` and `tracker room delete`.

use std::path::Path;

use localization::tr;
use shared::tracker::room_reply::ListedRoom;

use super::{CommandError, print_json, print_text};
use crate::admin::{self, AdminRequest};
use crate::daemon::args::RoomCommand;

pub(super) fn run_room_command(folder: &Path, command: &RoomCommand) -> Result<(), CommandError> {
    match command {
        RoomCommand::List { json } => {
            let rooms = admin::send_request(folder, &AdminRequest::Rooms {})?;
            if *json { print_json(&rooms) } else { print_rooms(&serde_json::from_value::<Vec<ListedRoom>>(rooms)?) }
        }
        RoomCommand::Delete { name } => {
            admin::send_request(folder, &AdminRequest::DeleteRoom { room: name.clone() })?;
            Ok(())
        }
    }
}

fn print_rooms(rooms: &[ListedRoom]) -> Result<(), CommandError> {
    if rooms.is_empty() {
        return Ok(());
    }
    print_text(&rooms.iter().map(room_line).collect::<Vec<_>>().join("\n"))
}

fn room_line(room: &ListedRoom) -> String {
    let members = room.members + room.keyless;
    let noun = tr!("member" | "members" % members);
    let entry = match (room.invite_only, room.password) {
        (true, _) => tr!("by invitation"),
        (false, true) => tr!("password"),
        (false, false) => tr!("open"),
    };
    let line = format!(
        "{:<33} {:<32} {members:>4} {noun:<7} {entry:<13} {}",
        format!("#{}", room.name),
        room.owner,
        room.topic.as_str()
    );
    line.trim_end().to_owned()
}
