//! FIND: files of all present users, ordered by user and name, in pieces that are short even when users are many.
//!
//! Only the lists are taken while others wait, which copies nothing; they are gone through afterwards.

use std::ops::Bound;

use shared::UserName;
use shared::tracker::{FindCursor, FoundFile, SharedFile, Wanted};

use super::files::Sought;
use super::{Files, Registry};

/// Users looked at in one piece.
const USERS_AT_ONCE: usize = 256;
/// Files of the users whose lists are taken at once: those of one user, or about so many.
const FILES_AT_ONCE: usize = 32_768;
/// Names and words looked at in one piece, about.
const EFFORT_AT_ONCE: usize = 32_768;

/// Where a piece begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// With the first user.
    Start,
    /// With all files of this user.
    At(UserName),
    /// Behind this file.
    Behind(FindCursor),
}

/// What one piece found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Ordered by user and name.
    pub files: Vec<FoundFile>,
    /// Where to go on when it did not come to the end.
    pub rest: Option<Position>,
}

/// Some users' lists, as they were at one moment.
#[derive(Debug)]
pub struct Lists {
    lists: Vec<(UserName, Files)>,
    /// The user behind them.
    next: Option<UserName>,
}

impl Registry {
    /// The lists of some users from `position` on.
    pub fn lists_from(&self, position: &Position) -> Lists {
        let start = match position {
            Position::Start => Bound::Unbounded,
            Position::At(user) | Position::Behind(FindCursor { user, .. }) => Bound::Included(user),
        };
        let (mut lists, mut files) = (Vec::new(), 0);
        let users = self.present.range::<UserName, _>((start, Bound::Unbounded));
        for (looked_at, (user, present)) in users.enumerate() {
            if looked_at == USERS_AT_ONCE || files >= FILES_AT_ONCE {
                return Lists { lists, next: Some(user.clone()) };
            }
            if !present.files.is_empty() {
                files += present.files.len();
                lists.push((user.clone(), present.files.clone()));
            }
        }
        Lists { lists, next: None }
    }
}

impl Lists {
    /// At most `limit` (at least one) of the files that are wanted, from `position` on.
    pub fn find(&self, wanted: &Wanted, position: &Position, limit: usize) -> Finding {
        let sought = Sought::new(wanted);
        let mut files: Vec<FoundFile> = Vec::new();
        let mut effort = EFFORT_AT_ONCE;
        for (user, list) in &self.lists {
            if effort == 0 {
                return Finding { files, rest: Some(Position::At(user.clone())) };
            }
            let after = match position {
                Position::Behind(cursor) if cursor.user == *user => Some(&cursor.name),
                _ => None,
            };
            // One more than fits, to know whether there are more.
            let (found, stopped) = list.find(&sought, after, limit - files.len() + 1, &mut effort);
            let entry = |SharedFile { name, size, hash }| FoundFile { user: user.clone(), name, size, hash };
            files.extend(found.into_iter().map(entry));
            if files.len() > limit {
                files.truncate(limit);
                let rest = behind_last(&files).map(Position::Behind);
                return Finding { files, rest };
            }
            if let Some(name) = stopped {
                return Finding { files, rest: Some(Position::Behind(FindCursor { user: user.clone(), name })) };
            }
            effort = effort.saturating_sub(1);
        }
        Finding { files, rest: self.next.clone().map(Position::At) }
    }
}

/// The cursor that goes on behind these files.
pub fn behind_last(files: &[FoundFile]) -> Option<FindCursor> {
    files.last().map(|file| FindCursor { user: file.user.clone(), name: file.name.clone() })
}
