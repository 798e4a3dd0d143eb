//! The rules of rooms: from a requested change to its edits of the store and its records.

use std::cmp::Reverse;

use rooms::{Cut, MemberRole, RoomChange};
use shared::tracker::room_request::{GrantedRole, RequestedChange, RoomCut};
use shared::{Fingerprint, RoomName, RoomTopic, UserName};

use super::room_refusal::RoomRefusal;
use super::room_state::{RoomMembership, RoomState};
use super::{MAX_MEMBERS, MAX_ORDINARY_RECORDS};

/// A planned change: the store carries it out in one transaction, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomPlan {
    /// Edits of the stored room, in order.
    pub edits: Vec<RoomEdit>,
    /// Records to sign, in order.
    pub records: Vec<RoomChange>,
}

/// An edit of a stored room.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all")]
pub enum RoomEdit {
    Admit(RoomMembership),
    Dismiss { user: UserName },
    SetRole { user: UserName, role: MemberRole },
    SetStanding { user: UserName, standing: Option<StandingKind> },
    SetTopic { topic: RoomTopic },
    CloseCut { key: Fingerprint, ended_at: u64 },
    Delete,
}

/// The standing of an account that is no member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandingKind {
    /// May join once.
    Invited,
    /// Needs an invitation to come back.
    Kicked,
    /// May not join.
    Banned,
}

/// An account that a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSubject {
    /// The account.
    pub user: UserName,
    /// The key that it is bound to.
    pub key: Option<Fingerprint>,
    /// Its standing in the room.
    pub standing: Option<StandingKind>,
}

/// The condition of a join that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The account is a member already.
    Member,
    /// Nothing more is needed.
    Free,
    /// The room's password is needed.
    WithPassword,
}

type PolicyResult = Result<RoomPlan, RoomRefusal>;

/// Refuses a name that looks like an option or a path. Fails with [`RoomRefusal::UnusableName`].
pub fn check_new_name(name: &RoomName) -> Result<(), RoomRefusal> {
    let text = name.as_str();
    let is_usable = text.starts_with(|first: char| first.is_ascii_alphanumeric()) && !text.contains("..");
    if is_usable { Ok(()) } else { Err(RoomRefusal::UnusableName(name.clone())) }
}

impl RoomPlan {
    /// Plans a new room: its creator owns it.
    pub fn create(name: &RoomName, history: rooms::HistoryVisibility, creator: &RoomSubject) -> Self {
        let mut plan = Self::default();
        plan.records.push(RoomChange::Create { room_name: name.clone(), history });
        plan.admit(creator, MemberRole::Owner);
        plan
    }

    fn admit(&mut self, joiner: &RoomSubject, role: MemberRole) {
        let RoomSubject { user, key, .. } = joiner;
        self.edits.push(RoomEdit::Admit(RoomMembership { user: user.clone(), key: *key, role }));
        self.records.extend(key.map(|key| RoomChange::Join { user: user.clone(), key }));
    }

    fn of(edit: RoomEdit, record: RoomChange) -> Self {
        Self { edits: vec![edit], records: vec![record] }
    }

    fn without_record(edit: RoomEdit) -> Self {
        Self { edits: vec![edit], records: Vec::new() }
    }
}

impl RoomState {
    /// Decides what a join takes. Fails with [`RoomRefusal`] when the account can't join, whatever password it sends.
    pub fn admission(&self, joiner: &RoomSubject) -> Result<Admission, RoomRefusal> {
        if self.member(&joiner.user).is_some() {
            return Ok(Admission::Member);
        }
        match joiner.standing {
            Some(StandingKind::Banned) => return Err(RoomRefusal::Banned),
            Some(StandingKind::Kicked) => return Err(RoomRefusal::NeedsInvitation),
            None if self.invite_only => return Err(RoomRefusal::NeedsInvitation),
            None | Some(StandingKind::Invited) => {}
        }
        // Members without a key have no part in the records and count apart: they can't keep out the others.
        let like = |member: &&RoomMembership| member.key.is_some() == joiner.key.is_some();
        if self.members.iter().filter(like).count() >= MAX_MEMBERS {
            return Err(RoomRefusal::RoomFull);
        }
        self.check_record_count()?;
        let needs_password = self.password_hash.is_some() && joiner.standing != Some(StandingKind::Invited);
        Ok(if needs_password { Admission::WithPassword } else { Admission::Free })
    }

    /// Plans a join. `has_password` tells if the room's password was checked.
    pub fn join(&self, joiner: &RoomSubject, has_password: bool) -> PolicyResult {
        let mut plan = RoomPlan::default();
        match self.admission(joiner)? {
            Admission::Member => return Ok(plan),
            Admission::WithPassword if !has_password => return Err(RoomRefusal::NeedsPassword),
            Admission::WithPassword | Admission::Free => {}
        }
        // An invitation lets somebody in once.
        if joiner.standing.is_some() {
            plan.edits.push(RoomEdit::SetStanding { user: joiner.user.clone(), standing: None });
        }
        // As members see it: the first of them with a key owns the room.
        let is_first = joiner.key.is_some() && self.members.iter().all(|member| member.key.is_none());
        plan.admit(joiner, if is_first { MemberRole::Owner } else { MemberRole::Member });
        Ok(plan)
    }

    /// Plans the end of a membership by the member, or because the account or its key went. Fails with
    /// [`RoomRefusal::NotAMember`].
    pub fn leave(&self, user: &UserName, cut: Option<RoomCut>) -> PolicyResult {
        let member = self.member(user).ok_or(RoomRefusal::NotAMember)?;
        let record = member.key.map(|key| RoomChange::Leave { user: user.clone(), key, cut: cut.map(record_cut) });
        Ok(self.end_membership(member, record))
    }

    /// Plans a change by `actor`. `subject` is the account that the change names, if it names one.
    pub fn change(&self, actor: &UserName, change: &RequestedChange, subject: Option<&RoomSubject>) -> PolicyResult {
        let rights = self.rights(actor).ok_or(RoomRefusal::NotAMember)?;
        let demand = |least: MemberRole| match least {
            _ if rights >= least => Ok(()),
            MemberRole::Owner => Err(RoomRefusal::NeedsOwner),
            MemberRole::Moderator | MemberRole::Member => Err(RoomRefusal::NeedsModerator),
        };
        match change {
            RequestedChange::PassOn { .. } | RequestedChange::SetRole { .. } | RequestedChange::Delete => {
                demand(MemberRole::Owner)?;
            }
            _ => demand(MemberRole::Moderator)?,
        }
        match change {
            // A room that has all the records it may have can still be cleaned up and deleted.
            RequestedChange::Kick { .. } | RequestedChange::Ban { .. } | RequestedChange::Delete => {}
            _ => self.check_record_count()?,
        }
        match change {
            RequestedChange::Invite { user } => self.invite(user, subject),
            RequestedChange::Kick { user, cut } => {
                let member = self.member(user).ok_or_else(|| RoomRefusal::NoSuchMember(user.clone()))?;
                self.dismiss(actor, rights, member, StandingKind::Kicked, *cut)
            }
            RequestedChange::Ban { user, cut } => match self.member(user) {
                Some(member) => self.dismiss(actor, rights, member, StandingKind::Banned, *cut),
                None => {
                    subject.ok_or_else(|| RoomRefusal::NoSuchUser(user.clone()))?;
                    Ok(set_standing(user, Some(StandingKind::Banned)))
                }
            },
            RequestedChange::Unban { user } => match subject.and_then(|subject| subject.standing) {
                Some(StandingKind::Banned | StandingKind::Kicked) => Ok(set_standing(user, None)),
                // An invitation is nothing that could be lifted, so it stays.
                Some(StandingKind::Invited) | None => Ok(RoomPlan::default()),
            },
            RequestedChange::SetCut { key, ended_at, cut } => {
                let (key, ended_at, cut) = (*key, *ended_at, record_cut(*cut));
                Ok(RoomPlan::of(RoomEdit::CloseCut { key, ended_at }, RoomChange::SetCut { key, ended_at, cut }))
            }
            RequestedChange::SetRole { user, role } => self.grant(user, *role),
            // Records are bounded and never removed: a change that changes nothing makes none.
            RequestedChange::SetTopic { topic } if *topic == self.topic => Ok(RoomPlan::default()),
            RequestedChange::SetTopic { topic } => {
                let topic = topic.clone();
                Ok(RoomPlan::of(RoomEdit::SetTopic { topic: topic.clone() }, RoomChange::Topic { topic }))
            }
            RequestedChange::PassOn { user } => self.pass_on(actor, user),
            RequestedChange::Delete => Ok(Self::delete()),
        }
    }

    /// Plans the room's end.
    pub fn delete() -> RoomPlan {
        RoomPlan::of(RoomEdit::Delete, RoomChange::Delete)
    }

    fn invite(&self, user: &UserName, subject: Option<&RoomSubject>) -> PolicyResult {
        let subject = subject.ok_or_else(|| RoomRefusal::NoSuchUser(user.clone()))?;
        match subject.standing {
            _ if self.member(user).is_some() => Err(RoomRefusal::AlreadyMember(user.clone())),
            Some(StandingKind::Banned) => Err(RoomRefusal::UserBanned(user.clone())),
            Some(StandingKind::Invited) => Ok(RoomPlan::default()),
            Some(StandingKind::Kicked) | None => Ok(set_standing(user, Some(StandingKind::Invited))),
        }
    }

    fn dismiss(
        &self,
        actor: &UserName,
        rights: MemberRole,
        member: &RoomMembership,
        standing: StandingKind,
        cut: Option<RoomCut>,
    ) -> PolicyResult {
        let user = &member.user;
        // By the rights and not by the role: beside a founder, the owner by the records is a moderator.
        match self.rights(user) {
            Some(MemberRole::Owner) => return Err(RoomRefusal::OwnerStays(user.clone())),
            Some(MemberRole::Moderator) if rights < MemberRole::Owner => return Err(RoomRefusal::NeedsOwner),
            _ => {}
        }
        let (by, cut) = (actor.clone(), cut.map(record_cut));
        let record = member.key.map(|key| RoomChange::Kick { user: user.clone(), key, by, cut });
        let mut plan = self.end_membership(member, record);
        plan.edits.push(RoomEdit::SetStanding { user: user.clone(), standing: Some(standing) });
        Ok(plan)
    }

    fn grant(&self, user: &UserName, role: GrantedRole) -> PolicyResult {
        let member = self.member(user).ok_or_else(|| RoomRefusal::NoSuchMember(user.clone()))?;
        let key = member.key.ok_or_else(|| RoomRefusal::NoKey(user.clone()))?;
        let (role, moderator) = match role {
            GrantedRole::Member => (MemberRole::Member, false),
            GrantedRole::Moderator => (MemberRole::Moderator, true),
        };
        match member.role {
            // By the records; its rights may be less beside a founder.
            MemberRole::Owner => Err(RoomRefusal::OwnerStays(user.clone())),
            held if held == role => Ok(RoomPlan::default()),
            _ => Ok(RoomPlan::of(
                RoomEdit::SetRole { user: user.clone(), role },
                RoomChange::SetRole { user: user.clone(), key, moderator },
            )),
        }
    }

    fn pass_on(&self, actor: &UserName, user: &UserName) -> PolicyResult {
        let member = self.member(user).ok_or_else(|| RoomRefusal::NoSuchMember(user.clone()))?;
        let key = member.key.ok_or_else(|| RoomRefusal::NoKey(user.clone()))?;
        if user == actor {
            return Ok(RoomPlan::default());
        }
        let mut plan = RoomPlan::default();
        if let Some(founder) = self.founder() {
            // A founder has no key, so no record names it.
            plan.edits.push(RoomEdit::SetRole { user: founder.user.clone(), role: MemberRole::Member });
        }
        self.promote(&mut plan, &member.user, key);
        Ok(plan)
    }

    /// Ends a membership. Where an owner goes, the next one is made before, so that members see one at each record.
    fn end_membership(&self, member: &RoomMembership, record: Option<RoomChange>) -> RoomPlan {
        let mut plan = RoomPlan::default();
        let rest = || self.members.iter().filter(|other| other.user != member.user);
        if member.role == MemberRole::Owner {
            let keyed = rest().filter(|other| other.key.is_some());
            // The members are in the order of their joins, and the first of equal ones is taken.
            let next = keyed.min_by_key(|other| Reverse(other.role));
            match (next, member.key) {
                (Some(next), Some(_)) => {
                    if let Some(key) = next.key {
                        self.promote(&mut plan, &next.user, key);
                    }
                }
                // Beside a founder the records have an owner already.
                (Some(_), None) => {}
                (None, _) if rest().any(|other| other.role == MemberRole::Owner) => {}
                // Nobody with a key is left, so the records have nobody to name.
                (None, _) => {
                    let founder = rest().next().map(|other| other.user.clone());
                    plan.edits.extend(founder.map(|user| RoomEdit::SetRole { user, role: MemberRole::Owner }));
                }
            }
        }
        plan.edits.push(RoomEdit::Dismiss { user: member.user.clone() });
        plan.records.extend(record);
        if rest().next().is_none() {
            plan.edits.push(RoomEdit::Delete);
            plan.records.push(RoomChange::Delete);
        }
        plan
    }

    /// Makes a member with a key the owner by the records; the one before stays as a moderator.
    fn promote(&self, plan: &mut RoomPlan, user: &UserName, key: Fingerprint) {
        let owns = |member: &&RoomMembership| member.key.is_some() && member.role == MemberRole::Owner;
        for before in self.members.iter().filter(owns) {
            // Without a record of its own: to members the record of the next owner says it.
            plan.edits.push(RoomEdit::SetRole { user: before.user.clone(), role: MemberRole::Moderator });
        }
        plan.edits.push(RoomEdit::SetRole { user: user.clone(), role: MemberRole::Owner });
        plan.records.push(RoomChange::Owner { user: user.clone(), key });
    }

    fn check_record_count(&self) -> Result<(), RoomRefusal> {
        if self.record_count >= MAX_ORDINARY_RECORDS { Err(RoomRefusal::TooManyRecords) } else { Ok(()) }
    }
}

fn set_standing(user: &UserName, standing: Option<StandingKind>) -> RoomPlan {
    RoomPlan::without_record(RoomEdit::SetStanding { user: user.clone(), standing })
}

fn record_cut(cut: RoomCut) -> Cut {
    Cut { number: cut.number, hash: cut.hash }
}
