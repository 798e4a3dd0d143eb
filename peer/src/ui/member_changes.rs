//! Joins and leaves of a room's members, told in one line. Pure.

use localization::tr;
use shared::UserName;
use shared::account_name::speaker_label;

use super::event_text::room_news_words;
use crate::engine::room_values::{RoomNews, RoomNewsKind};

/// Names told for each kind of change; the others are counted.
const MAX_NAMES: usize = 5;

/// Changes of members that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemberChanges {
    /// The words for the first change, which has more details than a list.
    first: String,
    changes: Vec<(MemberChangeKind, UserName)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberChangeKind {
    Joined,
    Left,
    SentAway,
}

impl MemberChanges {
    /// Returns a change of a member; `None` for other news, and for a change of `me`, who is told it apart.
    pub(super) fn new(news: &RoomNews, me: &UserName) -> Option<Self> {
        let (kind, user) = match &news.kind {
            RoomNewsKind::Joined { user } => (MemberChangeKind::Joined, user),
            RoomNewsKind::Left { user } => (MemberChangeKind::Left, user),
            RoomNewsKind::Kicked { user, .. } => (MemberChangeKind::SentAway, user),
            _ => return None,
        };
        if user == me {
            return None;
        }
        Some(Self { first: room_news_words(news, me)?, changes: vec![(kind, user.clone())] })
    }

    /// Adds changes that came later.
    pub(super) fn extend(&mut self, later: Self) {
        self.changes.extend(later.changes);
    }

    /// Returns all of them in one line.
    pub(super) fn words(&self) -> String {
        if self.changes.len() == 1 {
            return self.first.clone();
        }
        let kinds = [MemberChangeKind::Joined, MemberChangeKind::Left, MemberChangeKind::SentAway];
        let told = kinds.into_iter().filter_map(|kind| {
            let users: Vec<&UserName> =
                self.changes.iter().filter(|(of, _)| *of == kind).map(|(_, user)| user).collect();
            (!users.is_empty()).then(|| kind.words(&users))
        });
        told.collect::<Vec<_>>().join("; ")
    }
}

impl MemberChangeKind {
    fn words(self, users: &[&UserName]) -> String {
        let (count, users) = (users.len(), enumerate(users));
        match self {
            Self::Joined => tr!("{users} joined" | "{users} joined" % count, users),
            Self::Left => tr!("{users} left" | "{users} left" % count, users),
            Self::SentAway => tr!("{users} was sent away" | "{users} were sent away" % count, users),
        }
    }
}

/// Returns `alice, bob and 3 more`.
fn enumerate(users: &[&UserName]) -> String {
    // One more name is as short as its count.
    let told = if users.len() <= MAX_NAMES + 1 { users.len() } else { MAX_NAMES };
    let mut names: Vec<String> = users[..told].iter().map(|user| speaker_label(user).into_owned()).collect();
    let last = match users.len() - told {
        0 => names.pop(),
        more => Some(tr!("{count} more", count = more)),
    };
    match (names.is_empty(), last) {
        (_, None) => String::new(),
        (true, Some(last)) => last,
        (false, Some(last)) => tr!("{names} and {last}", names = names.join(", "), last),
    }
}

#[cfg(test)]
mod tests {
    use shared::RoomId;

    use super::*;

    fn user(name: &str) -> UserName {
        name.parse().unwrap()
    }

    fn change(kind: RoomNewsKind) -> Option<MemberChanges> {
        let news = RoomNews { room: "lab".parse().unwrap(), room_id: RoomId::from_bytes([1; 16]), kind };
        MemberChanges::new(&news, &user("me"))
    }

    fn joined(name: &str) -> MemberChanges {
        change(RoomNewsKind::Joined { user: user(name) }).unwrap()
    }

    #[test]
    fn one_line_tells_of_many() {
        let mut changes = change(RoomNewsKind::Kicked { user: user("eve"), by: user("ann") }).unwrap();
        assert_eq!(changes.words(), "eve was sent away by ann");
        changes.extend(joined("bob"));
        assert_eq!(changes.words(), "bob joined; eve was sent away");
        changes.extend(change(RoomNewsKind::Left { user: user("dan") }).unwrap());
        changes.extend(joined("carol"));
        assert_eq!(changes.words(), "bob and carol joined; dan left; eve was sent away");
        (0..40).for_each(|number| changes.extend(joined(&format!("u{number}"))));
        assert_eq!(changes.words(), "bob, carol, u0, u1, u2 and 37 more joined; dan left; eve was sent away");
    }

    #[test]
    fn what_concerns_the_user_stands_alone() {
        for kind in [
            RoomNewsKind::Joined { user: user("me") },
            RoomNewsKind::Kicked { user: user("me"), by: user("ann") },
            RoomNewsKind::Deleted,
        ] {
            assert_eq!(change(kind), None);
        }
    }
}
