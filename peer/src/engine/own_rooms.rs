//! Changes of the rooms of which the user is a member, by the node's knowledge and the tracker's word.

use localization::tr;
use shared::tracker::room_request::{RequestedChange, RoomCut};
use shared::{RoomName, UserName};

use super::node::NodeApi;
use super::room_actions::{RoomDeparture, change_room, find_own_room, leave_room};
use super::room_contacts::record_departure;
use super::{Error, LocalUser};

/// Changes a room of the user at the tracker, with the cut that the node knows. Returns words for the user, unless an
/// event tells of the change.
///
/// # Errors
/// The user is no member, or the tracker's refusal.
pub async fn change_own_room(
    me: &LocalUser,
    node: Option<NodeApi>,
    room: &RoomName,
    change: RequestedChange,
) -> Result<Option<String>, Error> {
    let (change, words) = match change {
        RequestedChange::Kick { user, .. } => {
            let cut = known_cut(node, room, &user).await;
            (RequestedChange::Kick { user, cut }, None)
        }
        RequestedChange::Invite { user } => {
            let words = tr!("invited {user}: `peer room join {room}` there", user, room);
            (RequestedChange::Invite { user }, Some(words))
        }
        change => (change, None),
    };
    let mut tracker = me.connect_tracker().await?;
    let listed = find_own_room(&mut tracker, room).await?;
    change_room(&mut tracker, &listed, change).await?;
    Ok(words)
}

/// Leaves a room at the tracker and here. Returns words for the user.
///
/// # Errors
/// The user is no member, or the tracker's refusal.
pub async fn leave_own_room(me: &LocalUser, node: Option<NodeApi>, room: &RoomName) -> Result<Option<String>, Error> {
    let cut = known_cut(node, room, &me.user).await;
    let mut tracker = me.connect_tracker().await?;
    let listed = find_own_room(&mut tracker, room).await?;
    let departure = leave_room(&mut tracker, &listed, cut).await?;
    record_departure(me, listed.id).await?;
    Ok(Some(match departure {
        RoomDeparture::Left => tr!("you left #{room}; its messages stay in your history", room),
        RoomDeparture::PassedTo(owner) => tr!("you left #{room}; {owner} owns it now", room, owner),
        RoomDeparture::Ended => tr!("you left #{room}; nobody is left, so it is gone", room),
    }))
}

/// Returns the last message of a member as the node knows it; without it a moderator's node sets the cut.
async fn known_cut(node: Option<NodeApi>, room: &RoomName, user: &UserName) -> Option<RoomCut> {
    node?.room_cut(room, user).await.ok().flatten()
}
