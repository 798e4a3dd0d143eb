//! The commands of owners and moderators about a user: `peer room invite|kick|ban|unban|moderator|owner`.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::tracker::room_reply::ListedRoom;
use shared::tracker::room_request::{GrantedRole, RequestedChange, RoomCut};
use shared::{RoomName, UserName};

use super::{OwnRoom, RoomOperand, known_cut, print_change};
use crate::commands::context::CommandContext;
use crate::commands::user_resolution::{LookupScope, resolve_arguments};
use crate::engine::room_actions::change_room;
use crate::engine::{Error, LocalUser};
use crate::net::tracker::TrackerConnection;
use crate::profile::Access;

/// A room, and users.
#[derive(Debug, Args)]
pub(super) struct RoomUserOperands {
    #[command(flatten)]
    room: RoomOperand,
    /// Who.
    #[arg(required = true, value_name = "USER")]
    users: Vec<UserName>,
}

/// Let people join, without the password.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  peer room invite lab bob carol\n  peer room invite '#lab' bob")]
pub(super) struct RoomInviteArgs {
    #[command(flatten)]
    pub(super) operands: RoomUserOperands,
}

/// Send members away; to come back they need an invitation.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  peer room kick lab mallory\n  peer room kick '#lab' mallory eve")]
pub(super) struct RoomKickArgs {
    #[command(flatten)]
    pub(super) operands: RoomUserOperands,
}

/// Send people away for good, whether they are members or not.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  peer room ban lab mallory\n  peer room ban '#lab' mallory eve")]
pub(super) struct RoomBanArgs {
    #[command(flatten)]
    pub(super) operands: RoomUserOperands,
}

/// Let people join again whom you banned or kicked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  peer room unban lab mallory\n  peer room unban '#lab' mallory")]
pub(super) struct RoomUnbanArgs {
    #[command(flatten)]
    pub(super) operands: RoomUserOperands,
}

/// Make members moderators: they invite, kick, ban and set the topic.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  peer room moderator lab bob\n  peer room moderator lab bob --remove")]
pub(super) struct RoomModeratorArgs {
    #[command(flatten)]
    pub(super) operands: RoomUserOperands,
    /// Take that away again.
    #[arg(long)]
    pub(super) remove: bool,
}

/// Give the room to a member; you stay as a moderator.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  peer room owner lab bob\n  peer room owner '#lab' bob")]
pub(super) struct RoomOwnerArgs {
    #[command(flatten)]
    room: RoomOperand,
    /// The next owner.
    user: UserName,
}

/// A change that is about one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UserChange {
    Invite,
    Kick,
    Ban,
    Unban,
    GrantModerator,
    RevokeModerator,
    PassOn,
}

pub(super) async fn run(context: &CommandContext, operands: RoomUserOperands, change: UserChange) -> Result<(), Error> {
    let RoomUserOperands { room, mut users } = operands;
    let OwnRoom { me, mut tracker, room } = OwnRoom::open(context, &room, Access::Use).await?;
    resolve_arguments(context, &me, LookupScope::Tracker, &mut users).await?;
    // The failure of a single one is the command's own error.
    if let [user] = users.as_slice() {
        return perform(context, &me, &mut tracker, &room, change, user).await;
    }
    let (total, mut failed) = (users.len(), 0);
    for user in &users {
        match perform(context, &me, &mut tracker, &room, change, user).await {
            // Any other failure meets the rest as well.
            Err(error @ Error::Room(_)) => {
                context.output.error(&format!("{user}: {error}"));
                failed += 1;
            }
            done => done?,
        }
    }
    if failed > 0 { Err(Error::SomeFailed { failed, total }) } else { Ok(()) }
}

async fn perform(
    context: &CommandContext,
    me: &LocalUser,
    tracker: &mut TrackerConnection,
    room: &ListedRoom,
    change: UserChange,
    user: &UserName,
) -> Result<(), Error> {
    let cut = match change {
        // What they write afterwards is to count for nobody.
        UserChange::Kick | UserChange::Ban => known_cut(me, &room.name, user).await,
        _ => None,
    };
    let changed = change_room(tracker, room, change.request(user.clone(), cut)).await?;
    let fields = json!({ "id": changed.id, "epoch": changed.epoch, "user": user });
    print_change(context, &room.name, change.kind(), fields, &change.sentence(&room.name, user))
}

impl From<RoomOwnerArgs> for RoomUserOperands {
    fn from(args: RoomOwnerArgs) -> Self {
        Self { room: args.room, users: vec![args.user] }
    }
}

impl UserChange {
    fn request(self, user: UserName, cut: Option<RoomCut>) -> RequestedChange {
        match self {
            Self::Invite => RequestedChange::Invite { user },
            Self::Kick => RequestedChange::Kick { user, cut },
            Self::Ban => RequestedChange::Ban { user, cut },
            Self::Unban => RequestedChange::Unban { user },
            Self::GrantModerator => RequestedChange::SetRole { user, role: GrantedRole::Moderator },
            Self::RevokeModerator => RequestedChange::SetRole { user, role: GrantedRole::Member },
            Self::PassOn => RequestedChange::PassOn { user },
        }
    }

    /// Returns the name of the change in JSON.
    const fn kind(self) -> &'static str {
        match self {
            Self::Invite => "invited",
            Self::Kick => "kicked",
            Self::Ban => "banned",
            Self::Unban => "unbanned",
            Self::GrantModerator => "moderator",
            Self::RevokeModerator => "member",
            Self::PassOn => "owner",
        }
    }

    fn sentence(self, room: &RoomName, user: &UserName) -> String {
        match self {
            Self::Invite => tr!("invited {user}: `peer room join {room}` there, without a password", user, room),
            Self::Kick => tr!("kicked {user} from #{room}: to come back takes an invitation", user, room),
            Self::Ban => tr!("banned {user} from #{room}; `peer room unban {room} {user}` ends that", user, room),
            Self::Unban => tr!("{user} is no longer kept out of #{room}", user, room),
            Self::GrantModerator => tr!("{user} is a moderator of #{room} now", user, room),
            Self::RevokeModerator => tr!("{user} is a moderator of #{room} no longer", user, room),
            Self::PassOn => tr!("{user} owns #{room} now, and you are a moderator", user, room),
        }
    }
}
