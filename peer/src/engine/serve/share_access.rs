//! Access to shares: the audiences to which a requester belongs at the moment of the request.
//!
//! A grant is to a user and a key. A name that is registered anew, or that was bound to another key, inherits nothing:
//! the key of a room's member is in the room's records, that of a person is the pinned one.

use std::fmt;

use shared::peer::ROOM_FILES_CAPABILITY;
use shared::{Fingerprint, RoomId, UserName};

use crate::net::link::Link;
use crate::profile::{Audience, Profile, ProfileError};

/// The members of rooms, as this node knows them.
pub trait RoomMembership: fmt::Debug + Send + Sync {
    /// Returns true if `user` is a member of the room now, with this key. False for everybody in a room that is not
    /// known, that was deleted, or that this node's user left.
    fn is_member(&self, room: RoomId, user: &UserName, key: &Fingerprint) -> bool;
}

/// The membership of a node without rooms: nobody is a member.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct NoRooms;

#[cfg(test)]
impl RoomMembership for NoRooms {
    fn is_member(&self, _: RoomId, _: &UserName, _: &Fingerprint) -> bool {
        false
    }
}

/// The peer that asks for files.
#[derive(Debug, Clone)]
pub struct FileRequester {
    pub(super) user: UserName,
    /// The key that its link proved.
    pub(super) key: Fingerprint,
    /// True if it can tell a room's files from others; only then it gets any.
    pub(super) knows_rooms: bool,
}

/// The audiences that one request may see, the most exact first: a name that several have is taken from the first.
#[derive(Debug, Clone)]
pub(super) struct ShareAccess {
    user: UserName,
    audiences: Vec<Audience>,
}

impl FileRequester {
    /// Returns the peer on the other side of a link.
    pub(super) fn of(link: &Link) -> Self {
        let knows_rooms = link.has_capability(ROOM_FILES_CAPABILITY);
        Self { user: link.user().clone(), key: link.fingerprint(), knows_rooms }
    }
}

impl ShareAccess {
    /// Returns the access of `requester` now: to all that it may have, or with `room` to what is shared with that room.
    /// Blocking.
    pub(super) fn of(
        profile: &Profile,
        rooms: &dyn RoomMembership,
        requester: &FileRequester,
        room: Option<RoomId>,
    ) -> Result<Self, ProfileError> {
        let FileRequester { user, key, knows_rooms } = requester;
        let is_in = |room: &RoomId| *knows_rooms && rooms.is_member(*room, user, key);
        let mut audiences = Vec::new();
        // They are ordered from everybody to one person, and the most exact comes first here.
        for audience in profile.audiences()?.into_iter().rev() {
            let is_allowed = match &audience {
                Audience::Everybody => room.is_none(),
                Audience::Paused(_) => false,
                Audience::Room(of) => room.is_none_or(|room| room == *of) && is_in(of),
                // Without a record the link itself was checked against the tracker's binding.
                Audience::Person(person) => {
                    room.is_none()
                        && person == user
                        && profile.known_user(user)?.is_none_or(|known| known.fingerprint == *key)
                }
            };
            if is_allowed {
                audiences.push(audience);
            }
        }
        Ok(Self { user: user.clone(), audiences })
    }

    /// Returns the requester.
    pub(super) const fn user(&self) -> &UserName {
        &self.user
    }

    /// Returns the audiences, the most exact first.
    pub(super) fn audiences(&self) -> &[Audience] {
        &self.audiences
    }

    /// Returns true if a share of this audience may be seen.
    pub(super) fn allows(&self, audience: &Audience) -> bool {
        self.audiences.contains(audience)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashSet;

    use parking_lot::Mutex;
    use shared::content::Manifest;
    use shared::{ContentHash, GroupLayout, ZeroRuns};

    use super::*;
    use crate::profile::{HashedShare, Share};
    use crate::sys::FileVersion;

    /// Rooms whose members a test names.
    #[derive(Debug, Default)]
    pub(in crate::engine::serve) struct NamedMembers(Mutex<HashSet<(RoomId, UserName, Fingerprint)>>);

    impl NamedMembers {
        pub(in crate::engine::serve) fn join(&self, room: RoomId, requester: &FileRequester) {
            self.0.lock().insert((room, requester.user.clone(), requester.key));
        }

        pub(in crate::engine::serve) fn leave(&self, room: RoomId, requester: &FileRequester) {
            self.0.lock().remove(&(room, requester.user.clone(), requester.key));
        }
    }

    impl RoomMembership for NamedMembers {
        fn is_member(&self, room: RoomId, user: &UserName, key: &Fingerprint) -> bool {
            self.0.lock().contains(&(room, user.clone(), *key))
        }
    }

    /// Returns a requester with a key of its own.
    pub(in crate::engine::serve) fn requester(user: &str) -> FileRequester {
        let mut key = [0; 32];
        key[..user.len()].copy_from_slice(user.as_bytes());
        FileRequester { user: user.parse().unwrap(), key: Fingerprint::from_bytes(key), knows_rooms: true }
    }

    fn put(profile: &Profile, audience: &Audience) {
        let layout = GroupLayout::of(3).unwrap();
        let share = Share {
            audience: audience.clone(),
            name: "a".parse().unwrap(),
            path: "/a".into(),
            version: FileVersion { size: 3, mtime_ns: 1, ctime_ns: 1, inode: 1 },
            executable: false,
            hash: ContentHash::of(b"abc"),
            zeros: ZeroRuns::default(),
        };
        let manifest = Manifest::new(vec![layout.chaining_value(0, b"abc")]);
        profile.put_shares(&[HashedShare { share, manifest }]).unwrap();
    }

    #[test]
    fn a_grant_is_to_a_user_and_a_key() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let (rooms, [lab, office]) = (NamedMembers::default(), [1, 2].map(|byte| RoomId::from_bytes([byte; 16])));
        let (bob, carol) = (requester("bob"), requester("carol"));
        let [everybody, of_lab, of_office, of_bob] =
            [Audience::Everybody, Audience::Room(lab), Audience::Room(office), Audience::Person(bob.user.clone())];
        for audience in [&everybody, &of_lab, &of_office, &of_bob] {
            put(&profile, audience);
        }
        rooms.join(lab, &bob);
        let access = |requester: &FileRequester, room| {
            ShareAccess::of(&profile, &rooms, requester, room).unwrap().audiences().to_vec()
        };
        assert_eq!(access(&bob, None), [of_bob.clone(), of_lab.clone(), everybody.clone()]);
        assert_eq!(access(&carol, None), std::slice::from_ref(&everybody));
        assert_eq!(access(&bob, Some(lab)), std::slice::from_ref(&of_lab));
        assert_eq!((access(&bob, Some(office)), access(&carol, Some(lab))), (vec![], vec![]));
        // A peer from before there were rooms.
        let old = FileRequester { knows_rooms: false, ..bob.clone() };
        assert_eq!((access(&old, None), access(&old, Some(lab))), (vec![of_bob.clone(), everybody.clone()], vec![]));
        // The name with another key than the one that joined and was met.
        profile.compare_or_pin_key(&bob.user, bob.key, 0).unwrap();
        let other = FileRequester { key: carol.key, ..bob.clone() };
        assert_eq!(access(&other, None), std::slice::from_ref(&everybody));
        assert_eq!(access(&bob, None), [of_bob, of_lab, everybody.clone()]);
        rooms.leave(lab, &bob);
        assert_eq!(access(&bob, Some(lab)), []);
        rooms.join(lab, &other);
        assert!(!ShareAccess::of(&profile, &rooms, &bob, None).unwrap().allows(&Audience::Room(lab)));
    }
}
