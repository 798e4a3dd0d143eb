//! The actions on rooms at the tracker ([`shared::tracker::room_request`]): by a room's name, with errors that say what
//! to do next.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | membership records of a room | 65,536 ([`rooms::MAX_RECORDS`]) | the list fails |

use localization::tr;
use rooms::{MAX_RECORDS, MemberRole, Membership, MembershipRecord, RoomChange, SignedRecord, VerifyingKey};
use shared::tracker::room_reply::{ListedRole, ListedRoom, RoomChangeReply, RoomMembersReply, SignedRecordText};
use shared::tracker::room_request::{NewRoom, PasswordChange, RequestedChange, RoomCut, RoomReference, RoomRequest};
use shared::tracker::{Password, TrackerErrorCode, TrackerRequest};
use shared::{Fingerprint, RoomName, UserName};

use super::Error;
use super::peer_lookup::TrackerClient;
use super::room_action_error::{RoomActionError, RoomAdvice};
use super::tracker_account::call_repeatedly;
use super::tracker_search::search_rooms;
use crate::net::TrackerError;

/// A change of a room's entry: who may join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomEntryChange {
    /// The password.
    pub password: PasswordChange,
    /// Joining takes an invitation; `None` leaves it as it is.
    pub invite_only: Option<bool>,
}

/// The members of a room, as its tracker tells them.
#[derive(Debug, Clone)]
pub struct RoomRoster {
    /// Members with a key: owner first, then moderators, each by name.
    pub members: Vec<RosterMember>,
    /// Members without a key, who get no messages.
    pub keyless: Vec<UserName>,
}

/// A member with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterMember {
    /// The account.
    pub user: UserName,
    /// The key that messages are signed with.
    pub key: Fingerprint,
    /// The rights.
    pub role: MemberRole,
}

/// The room after its member left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomDeparture {
    /// Somebody else owned it.
    Left,
    /// The user owned it, and this member follows.
    PassedTo(UserName),
    /// Nobody is left, so the room is gone.
    Ended,
}

/// Returns the room with this name, in any case of letters. Fails with [`RoomActionError::UnknownRoom`],
/// [`RoomActionError::NoRooms`] or [`Error::Tracker`].
pub async fn find_room(tracker: &mut impl TrackerClient, name: &RoomName) -> Result<ListedRoom, Error> {
    // The tracker lists rooms behind a cursor. One letter less skips all but a few of those before the room.
    let cut = &name.as_str()[..name.as_str().len() - 1];
    let (cursor, mut found) = (cut.parse().ok(), None);
    let is_wanted = |room: &ListedRoom| room.name.as_str().eq_ignore_ascii_case(name.as_str());
    search_rooms(tracker, cursor, |room| {
        if is_wanted(&room) {
            found = Some(room);
        }
        found.is_none()
    })
    .await
    .map_err(without_rooms)?;
    found.ok_or_else(|| RoomActionError::UnknownRoom(name.clone()).into())
}

/// Returns the room with this name, of which the user is a member. Fails with [`RoomActionError::NotAMember`], and as
/// [`find_room`].
pub async fn find_own_room(tracker: &mut impl TrackerClient, name: &RoomName) -> Result<ListedRoom, Error> {
    let room = find_room(tracker, name).await?;
    if room.role.is_none() {
        return Err(RoomActionError::NotAMember(room.name).into());
    }
    Ok(room)
}

/// Returns all rooms, ordered by name. Fails with [`RoomActionError::NoRooms`] or [`Error::Tracker`].
pub async fn list_rooms(tracker: &mut impl TrackerClient) -> Result<Vec<ListedRoom>, Error> {
    let mut rooms = Vec::new();
    let listed = search_rooms(tracker, None, |room| {
        rooms.push(room);
        true
    });
    listed.await.map_err(without_rooms)?;
    Ok(rooms)
}

/// Makes a room that the user owns. Fails with [`RoomActionError::Refused`], [`RoomActionError::NoRooms`] or
/// [`Error::Tracker`].
pub async fn create_room(tracker: &mut impl TrackerClient, new: NewRoom) -> Result<RoomChangeReply, Error> {
    let name = new.name.clone();
    // The request has a key, so that a repetition makes no second room.
    let made = call_repeatedly(tracker, &TrackerRequest::Room(RoomRequest::Create(new))).await;
    made.map_err(|error| {
        explain(error, &name, |code| match code {
            TrackerErrorCode::UserExists => RoomAdvice::Join(name.clone()),
            _ => RoomAdvice::Nothing,
        })
    })
}

/// Makes the user a member of a room. Fails as [`create_room`].
pub async fn join_room(
    tracker: &mut impl TrackerClient,
    room: &ListedRoom,
    password: Option<Password>,
) -> Result<RoomChangeReply, Error> {
    let join = RoomRequest::Join { room: RoomReference::Id(room.id), password };
    let joined = tracker.call(&TrackerRequest::Room(join)).await;
    joined.map_err(|error| {
        explain(error, &room.name, |code| match code {
            TrackerErrorCode::AuthFailed | TrackerErrorCode::Forbidden => RoomAdvice::AskOwner(room.owner.clone()),
            _ => RoomAdvice::Nothing,
        })
    })
}

/// Ends the user's membership. `cut` is the user's last message there; without it a moderator sets that. Fails as
/// [`create_room`].
pub async fn leave_room(
    tracker: &mut impl TrackerClient,
    room: &ListedRoom,
    cut: Option<RoomCut>,
) -> Result<RoomDeparture, Error> {
    let leave = RoomRequest::Leave { room: RoomReference::Id(room.id), cut };
    let left: Result<RoomChangeReply, _> = tracker.call(&TrackerRequest::Room(leave)).await;
    let left = left.map_err(|error| explain(error, &room.name, |_| RoomAdvice::Nothing))?;
    let mut departure = RoomDeparture::Left;
    // Only for a sentence: a record that can't be read changes nothing for anybody.
    for record in left.records.iter().filter_map(|record| MembershipRecord::parse(&record.signed).ok()) {
        match record.change {
            RoomChange::Owner { user, .. } => departure = RoomDeparture::PassedTo(user),
            RoomChange::Delete => departure = RoomDeparture::Ended,
            _ => {}
        }
    }
    Ok(departure)
}

/// Changes a room of which the user is a member. Fails as [`create_room`].
pub async fn change_room(
    tracker: &mut impl TrackerClient,
    room: &ListedRoom,
    change: RequestedChange,
) -> Result<RoomChangeReply, Error> {
    let (needed, needs_member) = (needed_role(&change), needs_member(&change));
    let request = RoomRequest::Change { room: RoomReference::Id(room.id), change };
    call_as(tracker, room, needed, needs_member, request).await
}

/// Changes who may join a room. Fails as [`create_room`].
pub async fn change_entry(
    tracker: &mut impl TrackerClient,
    room: &ListedRoom,
    change: RoomEntryChange,
) -> Result<RoomChangeReply, Error> {
    let RoomEntryChange { password, invite_only } = change;
    let request = RoomRequest::Passwd { room: RoomReference::Id(room.id), password, invite_only };
    call_as(tracker, room, ListedRole::Owner, false, request).await
}

/// Returns the members of a room, from records signed by `key`. Fails with [`RoomActionError::BadRecords`] if that key
/// didn't sign them, and as [`create_room`].
pub async fn read_roster(
    tracker: &mut impl TrackerClient,
    key: &VerifyingKey,
    room: &ListedRoom,
) -> Result<RoomRoster, Error> {
    let mut membership = Membership::new(room.id);
    let mut read = 0;
    let keyless = loop {
        let after = membership.head().into_iter().collect();
        let request = RoomRequest::Members { room: RoomReference::Id(room.id), after };
        let page: RoomMembersReply = tracker
            .call(&TrackerRequest::Room(request))
            .await
            .map_err(|error| explain(error, &room.name, |_| RoomAdvice::Nothing))?;
        read += page.records.len();
        // A tracker that promises more and sends nothing would be asked for ever.
        if read > MAX_RECORDS || (page.more && page.records.is_empty()) {
            return Err(bad_records(room, &tr!("they have no end")));
        }
        for SignedRecordText { signed, signature } in &page.records {
            let record = SignedRecord::verify(signed, signature, key).map_err(|why| bad_records(room, &why))?;
            membership.insert(record).map_err(|why| bad_records(room, &why))?;
        }
        if !page.more {
            break page.keyless;
        }
    };
    let present = membership.members().iter();
    let member = |(key, member): (&Fingerprint, &rooms::RoomMember)| RosterMember {
        user: member.user.clone(),
        key: *key,
        role: member.role,
    };
    let mut members: Vec<RosterMember> = present.map(member).collect();
    members.sort_by(|one, other| other.role.cmp(&one.role).then_with(|| one.user.cmp(&other.user)));
    Ok(RoomRoster { members, keyless })
}

async fn call_as(
    tracker: &mut impl TrackerClient,
    room: &ListedRoom,
    needed: ListedRole,
    needs_member: bool,
    request: RoomRequest,
) -> Result<RoomChangeReply, Error> {
    let changed = tracker.call(&TrackerRequest::Room(request)).await;
    changed.map_err(|error| {
        explain(error, &room.name, |code| match code {
            // With that role the reason is another, which the tracker's words tell.
            TrackerErrorCode::Forbidden if room.role < Some(needed) => RoomAdvice::ShowMembers(room.name.clone()),
            TrackerErrorCode::NotFound if needs_member => RoomAdvice::ShowMembers(room.name.clone()),
            _ => RoomAdvice::Nothing,
        })
    })
}

/// Returns the least role that the tracker demands for a change.
const fn needed_role(change: &RequestedChange) -> ListedRole {
    match change {
        RequestedChange::SetRole { .. } | RequestedChange::PassOn { .. } | RequestedChange::Delete => ListedRole::Owner,
        RequestedChange::Invite { .. }
        | RequestedChange::Kick { .. }
        | RequestedChange::Ban { .. }
        | RequestedChange::Unban { .. }
        | RequestedChange::SetCut { .. }
        | RequestedChange::SetTopic { .. } => ListedRole::Moderator,
    }
}

/// Returns true if a change is about a member, so that `not_found` means nobody else.
const fn needs_member(change: &RequestedChange) -> bool {
    matches!(change, RequestedChange::Kick { .. } | RequestedChange::SetRole { .. } | RequestedChange::PassOn { .. })
}

fn bad_records(room: &ListedRoom, why: &dyn std::fmt::Display) -> Error {
    RoomActionError::BadRecords { room: room.name.clone(), why: why.to_string() }.into()
}

/// Adds the room and the next step to a refusal that is about the room.
fn explain(error: TrackerError, room: &RoomName, advice: impl FnOnce(TrackerErrorCode) -> RoomAdvice) -> Error {
    match error {
        TrackerError::Refused { refusal, .. } if RoomActionError::is_about_room(refusal.code) => {
            let advice = advice(refusal.code);
            RoomActionError::Refused { room: room.clone(), refusal, advice }.into()
        }
        error => without_rooms(error.into()),
    }
}

/// Names the cause of an action that the tracker doesn't know.
fn without_rooms(error: Error) -> Error {
    match error {
        Error::Tracker(error) if error.code() == Some(TrackerErrorCode::UnknownAction) => {
            RoomActionError::NoRooms.into()
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};
    use shared::tracker::TrackerRefusal;

    use super::*;

    /// Gives out these replies, one after another, and keeps the requests.
    struct ScriptedTracker(Vec<Result<Value, (TrackerErrorCode, &'static str)>>, Vec<Value>);

    impl TrackerClient for ScriptedTracker {
        async fn call<T: DeserializeOwned + Send>(&mut self, request: &TrackerRequest) -> Result<T, TrackerError> {
            self.1.push(serde_json::to_value(request).unwrap());
            match self.0.remove(0) {
                Ok(reply) => Ok(serde_json::from_value(reply).unwrap()),
                Err((code, message)) => Err(refused(code, message)),
            }
        }

        fn local_address(&self) -> Option<std::net::SocketAddr> {
            None
        }
    }

    fn refused(code: TrackerErrorCode, message: &str) -> TrackerError {
        let refusal = TrackerRefusal { code, message: message.into(), moved_for_s: None };
        TrackerError::Refused { refusal, retry_after: None }
    }

    fn listed(name: &str, role: Option<&str>) -> Value {
        json!({ "id": "01".repeat(16), "name": name, "owner": "alice", "members": 1, "history": true, "role": role })
    }

    fn name(text: &str) -> RoomName {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_room_is_found_in_any_case_of_letters_from_just_before_it() {
        let page = json!({ "rooms": [listed("La", None), listed("Lab", Some("owner")), listed("zoo", None)] });
        let mut tracker = ScriptedTracker(vec![Ok(page)], Vec::new());
        assert_eq!(find_room(&mut tracker, &name("lab")).await.unwrap().name, name("Lab"));
        assert_eq!(tracker.1[0]["cursor"], "la");
        let pages = [json!({ "rooms": [listed("a", None)], "next": "a" }), json!({ "rooms": [listed("L", None)] })];
        let mut tracker = ScriptedTracker(pages.into_iter().map(Ok).collect(), Vec::new());
        let error = find_own_room(&mut tracker, &name("l")).await.unwrap_err().to_string();
        assert_eq!(error, "you are not in #L: `peer room join L`");
        assert_eq!((&tracker.1[0]["cursor"], &tracker.1[1]["cursor"]), (&Value::Null, &json!("a")));
        let mut tracker = ScriptedTracker(vec![Ok(json!({ "rooms": [] }))], Vec::new());
        let error = find_room(&mut tracker, &name("lab")).await.unwrap_err().to_string();
        assert!(error.starts_with("there is no room #lab"), "{error}");
    }

    #[tokio::test]
    async fn refusals_name_the_next_step() {
        use TrackerErrorCode::{AuthFailed, Forbidden, NotFound, TooLarge, UnknownAction, UserExists};
        let room: ListedRoom = serde_json::from_value(listed("lab", Some("moderator"))).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        let refusing = |code, words| ScriptedTracker(vec![Err((code, words))], Vec::new());
        for (code, advice) in [
            (AuthFailed, "#lab: no; ask alice, who owns it"),
            (Forbidden, "#lab: no; ask alice, who owns it"),
            (TooLarge, "#lab: no"),
        ] {
            let error = join_room(&mut refusing(code, "no"), &room, None).await.unwrap_err();
            assert_eq!(error.to_string(), advice);
        }
        let to_owner = RequestedChange::PassOn { user: bob.clone() };
        let kick = RequestedChange::Kick { user: bob.clone(), cut: None };
        let invite = RequestedChange::Invite { user: bob };
        for (change, code, is_advised) in [
            (to_owner.clone(), Forbidden, true),
            (to_owner, NotFound, true),
            (kick.clone(), NotFound, true),
            (kick, Forbidden, false),
            (invite, NotFound, false),
        ] {
            let error = change_room(&mut refusing(code, "no"), &room, change).await.unwrap_err().to_string();
            assert_eq!(error.contains("`peer room members lab`"), is_advised, "{error}");
        }
        let new = NewRoom { name: name("lab"), password: None, invite_only: false, history: true, key: None };
        let error = create_room(&mut refusing(UserExists, "taken"), new.clone()).await.unwrap_err().to_string();
        assert_eq!(error, "#lab: taken; `peer room join lab`, or choose another name");
        let error = create_room(&mut refusing(UnknownAction, "what?"), new).await.unwrap_err().to_string();
        assert!(error.starts_with("this tracker keeps no rooms"), "{error}");
        let error = list_rooms(&mut refusing(UnknownAction, "what?")).await.unwrap_err().to_string();
        assert!(error.starts_with("this tracker keeps no rooms"), "{error}");
    }

    #[tokio::test]
    async fn a_refusal_that_is_about_the_account_stays_one() {
        let mut tracker = ScriptedTracker(vec![Err((TrackerErrorCode::NotLoggedIn, "who?"))], Vec::new());
        let room: ListedRoom = serde_json::from_value(listed("lab", None)).unwrap();
        let error = join_room(&mut tracker, &room, None).await.unwrap_err();
        assert!(matches!(error, Error::Tracker(_)), "{error}");
    }

    #[tokio::test]
    async fn records_that_the_tracker_did_not_sign_are_refused() {
        let record = MembershipRecord {
            room: shared::RoomId::from_bytes([1; 16]),
            epoch: 1,
            previous: None,
            time: 0,
            change: RoomChange::Create { room_name: name("lab"), history: rooms::HistoryVisibility::Shared },
        };
        let text = SignedRecordText { signed: record.encode(), signature: [0; 64] };
        let head = "00".repeat(32);
        let page = json!({ "id": "01".repeat(16), "epoch": 1, "head": head, "records": [text], "more": false });
        let mut tracker = ScriptedTracker(vec![Ok(page)], Vec::new());
        let room: ListedRoom = serde_json::from_value(listed("lab", Some("owner"))).unwrap();
        let error = read_roster(&mut tracker, &VerifyingKey::from_raw([7; 32]), &room).await.unwrap_err();
        assert!(error.to_string().contains("didn't sign"), "{error}");
    }
}
