//! The command `peer room members`.

use std::collections::BTreeSet;

use clap::Args;
use localization::tr;
use rooms::MemberRole;
use serde_json::json;
use shared::UserName;

use super::{OwnRoom, RoomOperand};
use crate::commands::command_help::CommandHelp;
use crate::commands::context::CommandContext;
use crate::engine::room_actions::{RoomRoster, read_roster};
use crate::engine::{Error, RoomActionError, tracker_search};
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer room members lab
  peer room members '#lab'",
    notes: "\
Owner and moderators invite, kick, ban and set the topic. Members with an old client are listed, but get and send no \
messages.",
};

/// Show who is in a room.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct RoomMembersArgs {
    #[command(flatten)]
    operand: RoomOperand,
}

pub(super) async fn run(context: &CommandContext, args: RoomMembersArgs) -> Result<(), Error> {
    let OwnRoom { me, mut tracker, room } = OwnRoom::open(context, &args.operand, Access::Look).await?;
    // Records are signed with the key of the connection.
    let key = tracker.verifying_key().ok_or(RoomActionError::NoRooms)?;
    let RoomRoster { members, keyless } = read_roster(&mut tracker, &key, &room).await?;
    let online: BTreeSet<UserName> = tracker_search::online_names(&mut tracker).await?.into_iter().collect();
    let names = members.iter().map(|member| &member.user).chain(&keyless);
    let width = names.map(|user| user.as_str().len()).max().unwrap_or(0);
    let print = |user: &UserName, role: &str, is_keyless: bool, key| {
        let (is_online, is_me) = (online.contains(user), *user == me.user);
        if context.output.is_json() {
            let fields = json!({
                "room": room.name, "user": user, "role": role, "fingerprint": key, "online": is_online, "me": is_me,
            });
            return context.output.print_object("member", &fields);
        }
        let remarks = [
            is_online.then(|| tr!("member of a room" => "online")),
            is_me.then(|| tr!("(you)")),
            is_keyless.then(|| tr!("(an old client: no messages)")),
        ];
        let remarks: Vec<String> = remarks.into_iter().flatten().collect();
        let role = role_words(role);
        context.output.print_data(format!("{user:width$}  {role:9}  {}", remarks.join(" ")).trim_end())
    };
    for member in &members {
        print(&member.user, role_name(member.role), false, Some(member.key))?;
    }
    for user in &keyless {
        print(user, if *user == room.owner { "owner" } else { "member" }, true, None)?;
    }
    Ok(())
}

/// Returns a role for people; a plain member has none.
fn role_words(role: &str) -> String {
    match role {
        "owner" => tr!("role in a room" => "owner"),
        "moderator" => tr!("role in a room" => "moderator"),
        _ => String::new(),
    }
}

const fn role_name(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Member => "member",
        MemberRole::Moderator => "moderator",
        MemberRole::Owner => "owner",
    }
}
