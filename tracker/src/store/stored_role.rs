//! Roles and standings as databases hold them.

use rooms::MemberRole;
use shared::tracker::room_reply::ListedRole;

use crate::membership::StandingKind;

/// Returns the role that a number stands for.
pub(super) const fn role_of(stored: i16) -> MemberRole {
    match stored {
        0 => MemberRole::Member,
        1 => MemberRole::Moderator,
        _ => MemberRole::Owner,
    }
}

/// Returns the standing that a number stands for.
pub(super) const fn standing_of(stored: i16) -> StandingKind {
    match stored {
        0 => StandingKind::Invited,
        1 => StandingKind::Kicked,
        _ => StandingKind::Banned,
    }
}

/// Returns a role as lists of rooms show it.
pub(super) const fn listed_role(role: MemberRole) -> ListedRole {
    match role {
        MemberRole::Member => ListedRole::Member,
        MemberRole::Moderator => ListedRole::Moderator,
        MemberRole::Owner => ListedRole::Owner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_types() {
        for role in [MemberRole::Member, MemberRole::Moderator, MemberRole::Owner] {
            assert_eq!(role_of(role as i16), role);
        }
        for standing in [StandingKind::Invited, StandingKind::Kicked, StandingKind::Banned] {
            assert_eq!(standing_of(standing as i16), standing);
        }
    }
}
