//! FIND: files of all present users, ordered by user and name, in pieces that are short even when users are many.

use std::ops::Bound;

use shared::UserName;
use shared::tracker::{FindCursor, FoundFile, SharedFile, Wanted};

use super::Registry;

/// Users looked at in one piece.
const USERS_AT_ONCE: usize = 256;

/// Files looked at in one piece.
const FILES_AT_ONCE: usize = 4096;

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

impl Registry {
    /// At most `limit` (at least one) of the files that are wanted, from `position` on.
    pub fn find(&self, wanted: &Wanted, position: &Position, limit: usize) -> Finding {
        let start = match position {
            Position::Start => Bound::Unbounded,
            Position::At(user) | Position::Behind(FindCursor { user, .. }) => Bound::Included(user),
        };
        let mut files: Vec<FoundFile> = Vec::new();
        let users = self.present.range::<UserName, _>((start, Bound::Unbounded));
        let mut effort = FILES_AT_ONCE;
        for (looked_at, (user, present)) in users.enumerate() {
            if looked_at == USERS_AT_ONCE {
                return Finding { files, rest: Some(Position::At(user.clone())) };
            }
            let after = match position {
                Position::Behind(cursor) if cursor.user == *user => Some(&cursor.name),
                _ => None,
            };
            // One more than fits, to know whether there are more.
            let (found, stopped) = present.files.find(wanted, after, limit - files.len() + 1, &mut effort);
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
        }
        Finding { files, rest: None }
    }
}

/// The cursor that goes on behind these files.
pub fn behind_last(files: &[FoundFile]) -> Option<FindCursor> {
    files.last().map(|file| FindCursor { user: file.user.clone(), name: file.name.clone() })
}
