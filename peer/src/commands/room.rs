//! The command `peer room`: making rooms, joining and leaving them, and what their owners and moderators do.

mod create;
mod delete;
mod join;
mod leave;
mod members;
mod passwd;
mod topic;
mod user_changes;

use clap::{Args, Subcommand};
use localization::tr;
use serde_json::{Value, json};
use shared::tracker::room_reply::ListedRoom;
use shared::tracker::room_request::RoomCut;
use shared::{RoomName, UserName};

use self::user_changes::UserChange;
use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::tracker_confirmation::{TrackerChoice, confirm_tracker};
use super::value_parsers::parse_room_name;
use crate::engine::node::NodeHandle;
use crate::engine::room_actions::find_own_room;
use crate::engine::{Error, LocalUser};
use crate::net::tracker::TrackerConnection;
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer room create lab
  peer room invite lab bob carol
  peer room join lab
  peer chat '#lab'",
    notes: "\
The tracker keeps who is in a room; messages go from member to member, and whoever was away gets them from anybody who \
has them. A room's name is written lab, or '#lab' in quotes: a shell takes a bare # for a comment.",
};

/// Make, join and look after rooms, in which several people talk.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct RoomArgs {
    #[command(subcommand)]
    command: RoomCommand,
}

#[derive(Debug, Subcommand)]
enum RoomCommand {
    Create(create::RoomCreateArgs),
    Join(join::RoomJoinArgs),
    Leave(leave::RoomLeaveArgs),
    Members(members::RoomMembersArgs),
    Invite(user_changes::RoomInviteArgs),
    Kick(user_changes::RoomKickArgs),
    Ban(user_changes::RoomBanArgs),
    Unban(user_changes::RoomUnbanArgs),
    Moderator(user_changes::RoomModeratorArgs),
    Owner(user_changes::RoomOwnerArgs),
    Topic(topic::RoomTopicArgs),
    Passwd(passwd::RoomPasswdArgs),
    Delete(delete::RoomDeleteArgs),
}

/// A room, as an argument.
#[derive(Debug, Args)]
struct RoomOperand {
    /// The room: lab, or '#lab'.
    #[arg(value_name = "ROOM", value_parser = parse_room_name)]
    room: RoomName,
}

pub(super) async fn run(context: &CommandContext, args: RoomArgs) -> Result<(), Error> {
    let change = |operands, change| context.until_cancelled(user_changes::run(context, operands, change));
    match args.command {
        RoomCommand::Create(args) => context.until_cancelled(create::run(context, args)).await,
        RoomCommand::Join(args) => context.until_cancelled(join::run(context, args)).await,
        RoomCommand::Leave(args) => context.until_cancelled(leave::run(context, args)).await,
        RoomCommand::Members(args) => context.until_cancelled(members::run(context, args)).await,
        RoomCommand::Invite(args) => change(args.operands, UserChange::Invite).await,
        RoomCommand::Kick(args) => change(args.operands, UserChange::Kick).await,
        RoomCommand::Ban(args) => change(args.operands, UserChange::Ban).await,
        RoomCommand::Unban(args) => change(args.operands, UserChange::Unban).await,
        RoomCommand::Moderator(args) => {
            let direction = if args.remove { UserChange::RevokeModerator } else { UserChange::GrantModerator };
            change(args.operands, direction).await
        }
        RoomCommand::Owner(args) => change(args.into(), UserChange::PassOn).await,
        RoomCommand::Topic(args) => context.until_cancelled(topic::run(context, args)).await,
        RoomCommand::Passwd(args) => context.until_cancelled(passwd::run(context, args)).await,
        RoomCommand::Delete(args) => context.until_cancelled(delete::run(context, args)).await,
    }
}

/// A room of the user, and a connection to its tracker.
struct OwnRoom {
    me: LocalUser,
    tracker: TrackerConnection,
    room: ListedRoom,
}

impl OwnRoom {
    async fn open(context: &CommandContext, operand: &RoomOperand, access: Access) -> Result<Self, Error> {
        let me = context.me(access)?;
        let mut tracker = me.connect_tracker().await?;
        let room = find_own_room(&mut tracker, &operand.room).await?;
        Ok(Self { me, tracker, room })
    }
}

/// Returns the last message of a member, as the running node knows it: what follows it counts for nobody once the
/// membership has ended. Without a node to ask it is left open, and a moderator's node sets it.
async fn known_cut(me: &LocalUser, room: &RoomName, user: &UserName) -> Option<RoomCut> {
    // Nobody who knows it is no obstacle: a record may be without a cut.
    let node = NodeHandle::attach(&me.profile).await.ok()??;
    node.room_cut(room, user).await.ok()?
}

/// Prints a change of a room: `fields` beside the room and `kind` for programs, `text` for people.
fn print_change(
    context: &CommandContext,
    room: &RoomName,
    kind: &str,
    mut fields: Value,
    text: &str,
) -> Result<(), Error> {
    if context.output.is_json() {
        fields["room"] = json!(room);
        fields["kind"] = json!(kind);
        return Ok(context.output.print_object("room", &fields)?);
    }
    context.output.note(text);
    Ok(())
}

/// Makes sure that the tracker's key is confirmed, before a room's password is asked for.
async fn confirm_tracker_for_password(context: &CommandContext, me: &LocalUser, again: &str) -> Result<(), Error> {
    let choice = TrackerChoice { address: me.tracker.clone(), announced: None, policy: context.key_policy };
    confirm_tracker(context, &me.profile, &choice, again).await
}

/// Warns a user whose key can't sign messages of rooms.
fn warn_of_key(context: &CommandContext, me: &LocalUser) {
    if me.identity.ed25519_key_pair().is_none() {
        let (path, user) = (shared::safe_text::safe_path(me.profile.key_path()), &me.user);
        context.output.warning(&tr!(
            "your key is not Ed25519: you can read in rooms, not write. For a new key, move {path} away and run \
             `peer login {user} --rebind`",
            path,
            user
        ));
    }
}

/// Prints what newcomers of a room read, and how to open it.
fn print_entry_hint(context: &CommandContext, name: &RoomName, is_shared: bool) {
    context.output.note(&match is_shared {
        true => tr!("newcomers read the messages of the last 30 days; `peer chat '#{name}'` opens it", name),
        false => {
            tr!("newcomers read only messages that are written after they joined; `peer chat '#{name}'` opens it", name)
        }
    });
}
