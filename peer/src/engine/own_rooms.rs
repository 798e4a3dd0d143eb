//! Changes of the rooms of which the user is a member, by the node's knowledge and the tracker's word.

use localization::tr;
use shared::tracker::Password;
use shared::tracker::room_reply::RoomChangeReply;
use shared::tracker::room_request::{NewRoom, RequestedChange, RoomCut};
use shared::{RoomName, RoomTopic, UserName};

use super::node::NodeApi;
use super::room_actions::{RoomDeparture, change_room, create_room, find_own_room, find_room, join_room, leave_room};
use super::room_contacts::record_departure;
use super::tracker_key::TrackerKeyCheck;
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
        RequestedChange::Ban { user, .. } => {
            let cut = known_cut(node, room, &user).await;
            (RequestedChange::Ban { user, cut }, None)
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

/// Makes a room that the user owns, with its topic.
///
/// # Errors
/// [`Error::TrackerKeyUnconfirmed`] if there is a password and the tracker's key isn't confirmed, or its refusal.
pub async fn create_own_room(me: &LocalUser, new: NewRoom, topic: Option<RoomTopic>) -> Result<(), Error> {
    if new.password.is_some() {
        require_confirmed_tracker(me, &format!("room create {} --ask-password", new.name)).await?;
    }
    create_with_topic(me, new, topic).await.map(|_| ())
}

/// Makes a room as [`create_own_room`] does, whose password may go to the tracker.
///
/// # Errors
/// The tracker's refusal.
pub async fn create_with_topic(
    me: &LocalUser,
    new: NewRoom,
    topic: Option<RoomTopic>,
) -> Result<RoomChangeReply, Error> {
    let (name, mut tracker) = (new.name.clone(), me.connect_tracker().await?);
    let made = create_room(&mut tracker, new).await?;
    if let Some(topic) = topic {
        let room = find_own_room(&mut tracker, &name).await?;
        change_room(&mut tracker, &room, RequestedChange::SetTopic { topic }).await?;
    }
    Ok(made)
}

/// Joins a room; a member stays one.
///
/// # Errors
/// As [`create_own_room`].
pub async fn join_by_name(me: &LocalUser, room: &RoomName, password: Option<Password>) -> Result<(), Error> {
    if password.is_some() {
        require_confirmed_tracker(me, &format!("room join {room}")).await?;
    }
    let mut tracker = me.connect_tracker().await?;
    let listed = find_room(&mut tracker, room).await?;
    if listed.role.is_none() {
        // An invitation stands for the password.
        join_room(&mut tracker, &listed, password.filter(|_| listed.password && !listed.invited)).await?;
    }
    Ok(())
}

/// Fails if the tracker's key isn't confirmed: a password goes to no other. `again` is the command that confirms it.
async fn require_confirmed_tracker(me: &LocalUser, again: &str) -> Result<(), Error> {
    let check = TrackerKeyCheck { profile: &me.profile, address: &me.tracker, announced: None, policy: me.key_policy };
    match check.unconfirmed_key(&me.notify).await? {
        None => Ok(()),
        Some(fingerprint) => {
            let (address, again) = (me.tracker.to_string(), again.to_owned());
            Err(Error::TrackerKeyUnconfirmed { address, fingerprint, again })
        }
    }
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
