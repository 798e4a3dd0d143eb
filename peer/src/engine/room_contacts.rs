//! Rooms by name, and their contacts: the members who are online now, and where they can be dialled.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use shared::tracker::{ListPeersRequest, ListedPeer};
use shared::{Fingerprint, RoomId, RoomName, UserName};

use super::local_user::is_unreachable;
use super::peer_lookup::{TrackerClient, candidate_from_entry, target_from_record};
use super::room_actions::{find_own_room, read_roster};
use super::tracker_search::search_users;
use super::{Error, LocalUser, Notice, RoomActionError, run_blocking};
use crate::net::link::DialTarget;
use crate::profile::Audience;
use crate::util::TranslatedText;

/// A room of the user, with the other members who are online.
#[derive(Debug)]
pub struct RoomContacts {
    /// The room.
    pub id: RoomId,
    /// Its name, as the tracker spells it.
    pub name: RoomName,
    /// The members who are online with the key that joined, in the tracker's order.
    pub members: Vec<RoomContact>,
}

/// A member who is online.
#[derive(Debug)]
pub struct RoomContact {
    /// The member.
    pub user: UserName,
    /// Where the member can be dialled, or the reason why not.
    pub target: Result<DialTarget, Error>,
    /// True if the member's key is on record.
    pub is_known: bool,
    /// The address from which the tracker sees the member.
    pub seen_at: IpAddr,
}

/// Returns the audience of a room of which the user is a member: by the tracker's word, or by the profile's record if the
/// tracker can't be asked. Fails with [`Error::Room`] if the user isn't a member, or [`Error::Tracker`].
pub async fn find_room_audience(me: &LocalUser, room: &RoomName) -> Result<Audience, Error> {
    let asked = async {
        let mut tracker = me.connect_tracker().await?;
        let listed = find_own_room(&mut tracker, room).await?;
        Ok((listed.id, listed.name, tracker.verifying_key()))
    };
    let asked: Result<_, Error> = asked.await;
    let (profile, room) = (me.profile.clone(), room.clone());
    run_blocking(move || match asked {
        Ok((id, name, key)) => {
            // So that the share's room has a name, also before a node was told of the room.
            if let Some(key) = key.filter(|_| !profile.is_read_only()) {
                profile.add_room(id, &name, key)?;
            }
            Ok(Audience::Room(id))
        }
        Err(error) if is_unreachable(&error) => match profile.room_named(&room)? {
            Some(known) if known.is_member => Ok(Audience::Room(known.id)),
            _ => Err(error),
        },
        Err(error) => Err(error),
    })
    .await
}

/// Records in the profile that the user left a room, or that it is deleted: no node may run that would hear of it.
pub async fn record_departure(me: &LocalUser, room: RoomId) -> Result<(), Error> {
    let profile = me.profile.clone();
    run_blocking(move || Ok(profile.record_departure(room)?)).await
}

/// Returns the room of this name, of which the user is a member, with the members who are online. If the tracker can't be
/// asked, those of the profile's records who were met before. Fails with [`Error::Room`] if the user isn't a member, or
/// [`Error::Tracker`].
pub async fn find_room_contacts(me: &LocalUser, room: &RoomName) -> Result<RoomContacts, Error> {
    match online_contacts(me, room).await {
        Err(error) if is_unreachable(&error) => {
            let (of, room) = (me.clone(), room.clone());
            let Some(recorded) = run_blocking(move || recorded_contacts(&of, &room)).await? else { return Err(error) };
            (me.notify)(Notice::WithoutTracker { why: TranslatedText::of(&error) });
            Ok(recorded)
        }
        found => found,
    }
}

async fn online_contacts(me: &LocalUser, room: &RoomName) -> Result<RoomContacts, Error> {
    let mut tracker = me.connect_tracker().await?;
    let listed = find_own_room(&mut tracker, room).await?;
    let key = tracker.verifying_key().ok_or(RoomActionError::NoRooms)?;
    let roster = read_roster(&mut tracker, &key, &listed).await?;
    let keys: HashMap<UserName, Fingerprint> =
        roster.members.into_iter().map(|member| (member.user, member.key)).collect();
    // Without the lists of files, which may be large.
    let wanted = ListPeersRequest { with_files: Some(false), ..ListPeersRequest::default() };
    let mut online: Vec<ListedPeer> = Vec::new();
    search_users(&mut tracker, wanted, usize::MAX, |peer| {
        // A name that is bound to another key by now is not the member.
        if peer.user != me.user && peer.fingerprint.is_some() && peer.fingerprint.as_ref() == keys.get(&peer.user) {
            online.push(peer);
        }
        Ok(())
    })
    .await?;
    let (me, local) = (me.clone(), TrackerClient::local_address(&tracker));
    let members = run_blocking(move || {
        let contact = |peer: ListedPeer| {
            let target = candidate_from_entry(&me, &peer, local);
            // After the target: at the first meeting that records nothing.
            let is_known = me.profile.known_user(&peer.user)?.is_some();
            Ok(RoomContact { user: peer.user, target, is_known, seen_at: peer.ip })
        };
        online.into_iter().map(contact).collect::<Result<Vec<_>, Error>>()
    });
    Ok(RoomContacts { id: listed.id, name: listed.name, members: members.await? })
}

/// Returns a room with the members who were met before, by the profile's records. Blocking.
fn recorded_contacts(me: &LocalUser, room: &RoomName) -> Result<Option<RoomContacts>, Error> {
    let Some(known) = me.profile.room_named(room)?.filter(|known| known.is_member) else { return Ok(None) };
    let Some(loaded) = me.profile.load_room(known.id)? else { return Ok(None) };
    let mut members = Vec::new();
    for (key, member) in loaded.members.members() {
        // A record with another key than the member's tells nothing about the member.
        let Some(friend) = me.profile.known_user(&member.user)?.filter(|friend| friend.fingerprint == *key) else {
            continue;
        };
        if let Some(seen_at) = friend.addresses.first().map(SocketAddr::ip).filter(|_| member.user != me.user) {
            let (user, target) = (member.user.clone(), Ok(target_from_record(friend)));
            members.push(RoomContact { user, target, is_known: true, seen_at });
        }
    }
    Ok(Some(RoomContacts { id: known.id, name: known.name, members }))
}
