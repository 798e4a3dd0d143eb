//! The rules of rooms, alone and against what members make of the records.

use std::collections::HashMap;

use certs::Identity;
use proptest::prelude::*;
use rooms::{HistoryVisibility, MemberRole, Membership, MembershipRecord, RoomChange, SignedRecord, VerifyingKey};
use shared::room::RecordHash;
use shared::tracker::room_request::{GrantedRole, RequestedChange};
use shared::{Fingerprint, RoomId, UserName};

use super::*;

/// Users with an even number have a key.
const USERS: u8 = 6;

fn user(number: u8) -> UserName {
    format!("u{number}").parse().unwrap()
}

fn key(number: u8) -> Option<Fingerprint> {
    number.is_multiple_of(2).then(|| Fingerprint::from_bytes([number + 1; 32]))
}

/// A room as the store would keep it, beside the membership that follows from its records.
struct RoomWorld {
    state: RoomState,
    standings: HashMap<UserName, StandingKind>,
    members: Membership,
    signer: RecordSigner,
    is_deleted: bool,
}

impl RoomWorld {
    fn new(creator: u8) -> Self {
        let id = RoomId::from_bytes([7; 16]);
        let state = RoomState {
            id,
            name: "lab".parse().unwrap(),
            topic: Default::default(),
            history: HistoryVisibility::Shared,
            invite_only: false,
            password_hash: None,
            members: Vec::new(),
            record_count: 0,
            epoch: 0,
            head: RecordHash::from_bytes([0; 32]),
        };
        let signer = RecordSigner::new(&Identity::generate().unwrap()).unwrap();
        let mut world =
            Self { state, standings: HashMap::new(), members: Membership::new(id), signer, is_deleted: false };
        let creator = world.subject(creator);
        world.carry_out(RoomPlan::create(&world.state.name.clone(), HistoryVisibility::Shared, &creator));
        world
    }

    fn subject(&self, number: u8) -> RoomSubject {
        let user = user(number);
        let standing = self.standings.get(&user).copied();
        RoomSubject { user, key: key(number), standing }
    }

    fn join(&mut self, number: u8) -> Result<(), RoomRefusal> {
        let plan = self.state.join(&self.subject(number), false)?;
        self.carry_out(plan);
        Ok(())
    }

    fn leave(&mut self, number: u8) -> Result<(), RoomRefusal> {
        let plan = self.state.leave(&user(number), None)?;
        self.carry_out(plan);
        Ok(())
    }

    fn change(&mut self, actor: u8, change: &RequestedChange) -> Result<(), RoomRefusal> {
        let named = match change {
            RequestedChange::Invite { user } | RequestedChange::Ban { user, .. } | RequestedChange::Unban { user } => {
                Some(self.subject(user.as_str()[1..].parse().unwrap()))
            }
            _ => None,
        };
        let plan = self.state.change(&user(actor), change, named.as_ref())?;
        self.carry_out(plan);
        Ok(())
    }

    fn carry_out(&mut self, plan: RoomPlan) {
        for edit in plan.edits {
            match edit {
                RoomEdit::Admit(member) => self.state.members.push(member),
                RoomEdit::Dismiss { user } => self.state.members.retain(|member| member.user != user),
                RoomEdit::SetRole { user, role } => {
                    self.state.members.iter_mut().find(|member| member.user == user).unwrap().role = role;
                }
                RoomEdit::SetStanding { user, standing } => {
                    self.standings.remove(&user);
                    self.standings.extend(standing.map(|standing| (user, standing)));
                }
                RoomEdit::SetTopic { topic } => self.state.topic = topic,
                RoomEdit::CloseCut { .. } => {}
                RoomEdit::Delete => self.is_deleted = true,
            }
        }
        for change in plan.records {
            let previous = (self.state.epoch > 0).then_some(self.state.head);
            let record =
                MembershipRecord { room: self.state.id, epoch: self.state.epoch + 1, previous, time: 1, change };
            let signed: SignedRecord = self.signer.sign(record);
            (self.state.epoch, self.state.head) = (self.state.epoch + 1, signed.hash());
            self.members.insert(signed).unwrap();
            self.state.record_count += 1;
        }
    }

    fn role(&self, number: u8) -> Option<MemberRole> {
        self.state.rights(&user(number))
    }

    /// Asserts that members see what is stored, and that somebody owns the room.
    fn check(&self) {
        let stored: HashMap<_, _> = self
            .state
            .members
            .iter()
            .filter_map(|member| Some((member.key?, (member.user.clone(), member.role))))
            .collect();
        let seen: HashMap<_, _> =
            self.members.members().iter().map(|(key, member)| (*key, (member.user.clone(), member.role))).collect();
        assert_eq!(stored, seen);
        assert_eq!(self.members.is_deleted(), self.is_deleted);
        if self.is_deleted {
            return;
        }
        let owners = |keyed: bool| {
            let owns = |member: &&RoomMembership| member.key.is_some() == keyed && member.role == MemberRole::Owner;
            self.state.members.iter().filter(owns).count()
        };
        assert_eq!(owners(true), usize::from(!stored.is_empty()), "the records have one owner");
        assert!(owners(false) <= 1);
        let full = self.state.members.iter().filter(|one| self.state.rights(&one.user) == Some(MemberRole::Owner));
        assert_eq!(full.count(), 1, "exactly one member has all rights");
    }
}

fn kick(number: u8) -> RequestedChange {
    RequestedChange::Kick { user: user(number), cut: None }
}

fn ban(number: u8) -> RequestedChange {
    RequestedChange::Ban { user: user(number), cut: None }
}

fn invite(number: u8) -> RequestedChange {
    RequestedChange::Invite { user: user(number) }
}

fn moderator(number: u8) -> RequestedChange {
    RequestedChange::SetRole { user: user(number), role: GrantedRole::Moderator }
}

#[test]
fn after_a_kick_one_needs_an_invitation_and_after_a_ban_an_end_of_it() {
    let mut room = RoomWorld::new(0);
    room.join(2).unwrap();
    assert_eq!(room.change(2, &kick(0)), Err(RoomRefusal::NeedsModerator));
    assert_eq!(room.change(4, &kick(2)), Err(RoomRefusal::NotAMember));
    room.change(0, &kick(2)).unwrap();
    assert_eq!(room.join(2), Err(RoomRefusal::NeedsInvitation));
    room.change(0, &invite(2)).unwrap();
    room.join(2).unwrap();
    assert_eq!(room.change(0, &invite(2)), Err(RoomRefusal::AlreadyMember(user(2))));
    room.change(0, &ban(2)).unwrap();
    assert_eq!(room.join(2), Err(RoomRefusal::Banned));
    assert_eq!(room.change(0, &invite(2)), Err(RoomRefusal::UserBanned(user(2))));
    room.change(0, &RequestedChange::Unban { user: user(2) }).unwrap();
    room.join(2).unwrap();
    // The invitation was for one time.
    room.leave(2).unwrap();
    room.state.invite_only = true;
    assert_eq!(room.join(2), Err(RoomRefusal::NeedsInvitation));
    room.check();
}

#[test]
fn moderators_send_members_away_and_the_owner_moderators() {
    let mut room = RoomWorld::new(0);
    [2, 4, 1].into_iter().for_each(|number| room.join(number).unwrap());
    room.change(0, &moderator(2)).unwrap();
    assert_eq!(room.change(0, &moderator(1)), Err(RoomRefusal::NoKey(user(1))));
    assert_eq!(room.change(2, &moderator(4)), Err(RoomRefusal::NeedsOwner));
    assert_eq!(room.change(2, &kick(0)), Err(RoomRefusal::OwnerStays(user(0))));
    room.change(2, &kick(4)).unwrap();
    room.change(2, &kick(1)).unwrap();
    room.change(0, &RequestedChange::PassOn { user: user(2) }).unwrap();
    assert_eq!((room.role(0), room.role(2)), (Some(MemberRole::Moderator), Some(MemberRole::Owner)));
    room.change(2, &kick(0)).unwrap();
    room.check();
}

#[test]
fn when_the_owner_goes_the_longest_moderator_follows_and_the_last_one_ends_the_room() {
    let mut room = RoomWorld::new(0);
    room.join(2).unwrap();
    room.join(4).unwrap();
    room.change(0, &moderator(4)).unwrap();
    room.leave(0).unwrap();
    assert_eq!(room.role(4), Some(MemberRole::Owner));
    room.leave(4).unwrap();
    assert_eq!(room.role(2), Some(MemberRole::Owner));
    room.check();
    room.leave(2).unwrap();
    assert!(room.is_deleted);
    room.check();
}

#[test]
fn a_room_of_a_client_without_a_key_stays_its_own() {
    let mut room = RoomWorld::new(1);
    room.join(2).unwrap();
    room.join(4).unwrap();
    // By the records 2 owns it; beside the founder with the rights of a moderator.
    assert_eq!((room.role(1), room.role(2)), (Some(MemberRole::Owner), Some(MemberRole::Moderator)));
    assert_eq!(room.change(2, &RequestedChange::Delete), Err(RoomRefusal::NeedsOwner));
    assert_eq!(room.change(2, &kick(1)), Err(RoomRefusal::OwnerStays(user(1))));
    room.change(1, &kick(4)).unwrap();
    room.check();
    assert_eq!(room.state.names_owner_first(), [user(1), user(2)]);
    // The founder's account was bound to a key: it may come back as a member.
    room.leave(1).unwrap();
    assert_eq!(room.role(2), Some(MemberRole::Owner));
    room.check();
}

#[test]
fn a_password_is_needed_unless_one_is_invited() {
    let mut room = RoomWorld::new(0);
    room.state.password_hash = Some("phc".to_owned());
    let subject = room.subject(2);
    assert_eq!(room.state.admission(&subject), Ok(Admission::WithPassword));
    assert_eq!(room.join(2), Err(RoomRefusal::NeedsPassword));
    assert!(room.state.join(&subject, true).is_ok());
    room.change(0, &invite(2)).unwrap();
    room.join(2).unwrap();
    assert_eq!(room.state.admission(&room.subject(2)), Ok(Admission::Member));
}

#[test]
fn bounds_of_members_and_records() {
    let mut room = RoomWorld::new(0);
    let member = |number: usize, key| RoomMembership {
        user: format!("m{number}").parse().unwrap(),
        key,
        role: MemberRole::Member,
    };
    room.state.members.extend((1..MAX_MEMBERS).map(|number| member(number, key(0))));
    assert_eq!(room.state.join(&room.subject(2), false), Err(RoomRefusal::RoomFull));
    assert!(room.state.join(&room.subject(1), false).is_ok(), "those without a key are counted apart");
    room.state.members.extend((0..MAX_MEMBERS).map(|number| member(1000 + number, None)));
    assert_eq!(room.state.join(&room.subject(1), false), Err(RoomRefusal::RoomFull));
    room.state.members.truncate(2);
    room.state.record_count = MAX_ORDINARY_RECORDS;
    assert_eq!(room.state.join(&room.subject(2), false), Err(RoomRefusal::TooManyRecords));
    let kick = RequestedChange::Kick { user: "m1".parse().unwrap(), cut: None };
    assert!(room.state.change(&user(0), &kick, None).is_ok(), "memberships can still end");
    let topic = RequestedChange::SetTopic { topic: "x".parse().unwrap() };
    assert_eq!(room.state.change(&user(0), &topic, None), Err(RoomRefusal::TooManyRecords));
}

#[test]
fn names_that_look_like_options_or_paths_are_not_made() {
    for (name, is_usable) in
        [("lab", true), ("1.b_", true), ("--help", false), ("..", false), (".x", false), ("a..b", false)]
    {
        assert_eq!(check_new_name(&name.parse().unwrap()).is_ok(), is_usable, "{name}");
    }
}

#[test]
fn records_are_verified_with_the_tracker_s_key() {
    let identity = Identity::generate().unwrap();
    let signer = RecordSigner::new(&identity).unwrap();
    let change = RoomChange::Create { room_name: "lab".parse().unwrap(), history: HistoryVisibility::Shared };
    let record = MembershipRecord { room: RoomId::from_bytes([1; 16]), epoch: 1, previous: None, time: 0, change };
    let signed = signer.sign(record);
    assert_eq!(signer.sign_bytes(signed.signed()), *signed.signature());
    let raw: [u8; 32] =
        aws_lc_rs::signature::KeyPair::public_key(&identity.ed25519_key_pair().unwrap()).as_ref().try_into().unwrap();
    let key = VerifyingKey::from_raw(raw);
    assert_eq!(key.fingerprint(), identity.fingerprint());
    assert!(SignedRecord::verify(signed.signed(), signed.signature(), &key).is_ok());
}

#[derive(Debug, Clone)]
enum Deed {
    Join(u8),
    Leave(u8),
    Change(u8, RequestedChange),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let who = || 0..USERS;
    let change = prop_oneof![
        who().prop_map(kick),
        who().prop_map(ban),
        who().prop_map(invite),
        who().prop_map(moderator),
        who().prop_map(|number| RequestedChange::SetRole { user: user(number), role: GrantedRole::Member }),
        who().prop_map(|number| RequestedChange::Unban { user: user(number) }),
        who().prop_map(|number| RequestedChange::PassOn { user: user(number) }),
        "[a-z]{0,3}".prop_map(|topic| RequestedChange::SetTopic { topic: topic.parse().unwrap() }),
    ];
    let deed = prop_oneof![
        3 => who().prop_map(Deed::Join),
        1 => who().prop_map(Deed::Leave),
        3 => (who(), change).prop_map(|(actor, change)| Deed::Change(actor, change)),
    ];
    proptest::collection::vec(deed, 0..60)
}

proptest! {
    #[test]
    fn members_see_what_is_stored_and_nobody_acts_without_the_right(creator in 0..USERS, deeds in deeds()) {
        let mut room = RoomWorld::new(creator);
        room.check();
        for deed in deeds {
            let (before, rights) = (room.state.clone(), |room: &RoomWorld, number| room.role(number));
            match &deed {
                Deed::Join(number) => {
                    let standing = room.subject(*number).standing;
                    let joined = room.join(*number);
                    let is_shut_out = matches!(standing, Some(StandingKind::Kicked | StandingKind::Banned));
                    prop_assert!(joined.is_err() || !is_shut_out || before.member(&user(*number)).is_some());
                }
                Deed::Leave(number) => drop(room.leave(*number)),
                Deed::Change(actor, change) => {
                    let held = rights(&room, *actor);
                    if room.change(*actor, change).is_ok() {
                        prop_assert!(held >= Some(MemberRole::Moderator), "{deed:?}");
                    } else {
                        prop_assert_eq!(&before, &room.state);
                    }
                }
            }
            room.check();
            if room.is_deleted {
                break;
            }
        }
    }
}
