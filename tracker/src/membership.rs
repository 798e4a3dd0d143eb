//! Rooms as the tracker knows them: who may do what, and the records of it. Pure, with the time as an argument.
//!
//! A change is planned by [`RoomState`] from what is stored, and carried out by the store in one transaction, together
//! with the records that [`RecordSigner`] signs. Members verify records and have no rules of their own, so the roles of
//! members with a key are at each time those that follow from the records.
//!
//! A client of the exercise has no key and no record. If it made the room it is the *founder*: its owner in the store,
//! beside whom the owner by the records has the rights of a moderator.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | rooms | [`MAX_ROOMS`] | refused |
//! | rooms made by one account | [`MAX_NEW_ROOMS`] within [`NEW_ROOMS_PERIOD`] | refused for a while |
//! | rooms of one account | [`MAX_ROOMS_PER_USER`] | refused |
//! | members of a room | [`MAX_MEMBERS`] with a key, as many without | refused |
//! | a member's own joins and leaves in a room | [`MAX_OWN_CHANGES`] within a day | joins are refused for a while |
//! | other changes by one member in a room | [`MAX_CHANGES`] within a day | refused for a while |
//! | records of a room | [`MAX_ORDINARY_RECORDS`], in all [`MAX_RECORDS`] | only ends of memberships, then nothing |
//! | invitations, kicks and bans of a room | [`MAX_STANDINGS`] | invitations and bans of others are refused; the oldest kick is forgotten |
//! | deleted rooms | [`MAX_DELETED_ROOMS`], for [`DELETED_ROOM_LIFETIME`] | the oldest is forgotten |

mod record_signer;
mod room_policy;
mod room_refusal;
mod room_state;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use record_signer::RecordSigner;
pub use room_policy::{Admission, RoomEdit, RoomPlan, RoomSubject, StandingKind, check_new_name};
pub use room_refusal::RoomRefusal;
pub use room_state::{RoomMembership, RoomState};
use rooms::MAX_RECORDS;

/// Most rooms.
pub const MAX_ROOMS: usize = 1000;
/// Most rooms that an account makes within [`NEW_ROOMS_PERIOD`].
pub const MAX_NEW_ROOMS: usize = 10;
/// The period of [`MAX_NEW_ROOMS`].
pub const NEW_ROOMS_PERIOD: Duration = Duration::from_secs(60 * 60);
/// Most rooms of which one account is a member.
pub const MAX_ROOMS_PER_USER: usize = 100;
/// Most members of a room with a key, and most without.
pub const MAX_MEMBERS: usize = 500;
/// The period of [`MAX_OWN_CHANGES`] and [`MAX_CHANGES`].
pub const CHANGES_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);
/// Most joins and leaves of one account in a room; records are kept for ever.
pub const MAX_OWN_CHANGES: usize = 20;
/// Most other records that one account causes in a room.
pub const MAX_CHANGES: usize = 200;
/// Records of a room beyond which only memberships end.
pub const MAX_ORDINARY_RECORDS: usize = MAX_RECORDS - 4096;
/// Most invitations, kicks and bans that a room remembers.
pub const MAX_STANDINGS: usize = 1000;
/// Most deleted rooms that are remembered.
pub const MAX_DELETED_ROOMS: usize = 1000;
/// The time for which members of a deleted room can learn of its end.
pub const DELETED_ROOM_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
