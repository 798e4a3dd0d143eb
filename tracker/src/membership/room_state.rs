//! A room as it is stored, and what follows from it.

use rooms::{HistoryVisibility, MemberRole};
use shared::room::RecordHash;
use shared::{Fingerprint, RoomId, RoomName, RoomTopic, UserName};

/// A room as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomState {
    /// The id.
    pub id: RoomId,
    /// The name.
    pub name: RoomName,
    /// The line above the conversation.
    pub topic: RoomTopic,
    /// The messages that a new member may read.
    pub history: HistoryVisibility,
    /// Joining takes an invitation.
    pub invite_only: bool,
    /// The password's hash, a PHC string.
    pub password_hash: Option<String>,
    /// The members in the order of their joins.
    pub members: Vec<RoomMembership>,
    /// Number of records.
    pub record_count: usize,
    /// The epoch of the newest record.
    pub epoch: u64,
    /// The hash of the newest record.
    pub head: RecordHash,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomMembership {
    /// The account.
    pub user: UserName,
    /// The key that the membership is of; `None` for a client of the exercise.
    pub key: Option<Fingerprint>,
    /// The role: by the records for a member with a key; owner or member without.
    pub role: MemberRole,
}

impl RoomState {
    /// Returns the membership of a user.
    pub fn member(&self, user: &UserName) -> Option<&RoomMembership> {
        self.members.iter().find(|member| member.user == *user)
    }

    /// Returns the rights of a member; `None` for others.
    pub fn rights(&self, user: &UserName) -> Option<MemberRole> {
        let member = self.member(user)?;
        let is_beside_founder = member.key.is_some() && self.founder().is_some();
        Some(if is_beside_founder { member.role.min(MemberRole::Moderator) } else { member.role })
    }

    /// Returns the names of the members, the owner first.
    pub fn names_owner_first(&self) -> Vec<UserName> {
        let is_owner = |member: &&RoomMembership| member.role == MemberRole::Owner;
        let owner = self.founder().or_else(|| self.members.iter().find(is_owner)).map(|owner| &owner.user);
        let others = self.members.iter().map(|member| &member.user).filter(|user| Some(*user) != owner);
        owner.into_iter().chain(others).cloned().collect()
    }

    /// Returns the owner without a key, if there is one.
    pub(super) fn founder(&self) -> Option<&RoomMembership> {
        self.members.iter().find(|member| member.key.is_none() && member.role == MemberRole::Owner)
    }
}
