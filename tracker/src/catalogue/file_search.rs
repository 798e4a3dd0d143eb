//! FIND: the files of all present users, ordered by user and name, searched in short pieces.
//!
//! The registry's lock is held only to clone the lists, which copies no files; they are searched afterwards.

use std::ops::Bound;

use shared::UserName;
use shared::tracker::{FindCriterion, FindCursor, FoundFile, SharedFile};

use super::FileList;
use super::file_list::FileQuery;

/// Users looked at in one piece.
const USERS_PER_BATCH: usize = 256;
/// Files whose lists are cloned in one piece: those of one user, or about this many.
const FILES_PER_BATCH: usize = 32_768;
/// Names and words looked at in one piece, about.
const EFFORT_PER_BATCH: usize = 32_768;

/// The position at which a piece begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchPosition {
    /// The first user.
    Start,
    /// The first file of this user.
    At(UserName),
    /// The file behind this one.
    After(FindCursor),
}

/// The result of one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchBatch {
    /// Files ordered by user and name.
    pub files: Vec<FoundFile>,
    /// The position of the next piece; `None` at the end.
    pub next: Option<SearchPosition>,
}

/// The lists of some users at one moment.
#[derive(Debug)]
pub struct FileListSnapshot {
    lists: Vec<(UserName, FileList)>,
    /// The user behind them; `None` at the end.
    next: Option<UserName>,
}

impl SearchPosition {
    /// Returns the bound of the users who are to be searched.
    pub fn users_from(&self) -> Bound<&UserName> {
        match self {
            Self::Start => Bound::Unbounded,
            Self::At(user) | Self::After(FindCursor { user, .. }) => Bound::Included(user),
        }
    }
}

impl FileListSnapshot {
    /// Takes the lists of the next users, as many as are searched in one piece.
    pub fn take<'a>(users: impl Iterator<Item = (&'a UserName, &'a FileList)>) -> Self {
        let (mut lists, mut file_count) = (Vec::new(), 0);
        for (looked_at, (user, files)) in users.enumerate() {
            // Users count as well as files: to go through many empty lists takes time, too.
            if looked_at == USERS_PER_BATCH || file_count >= FILES_PER_BATCH {
                return Self { lists, next: Some(user.clone()) };
            }
            if !files.is_empty() {
                file_count += files.len();
                lists.push((user.clone(), files.clone()));
            }
        }
        Self { lists, next: None }
    }

    /// Returns at most `limit` (at least one) of the matching files from `position` on.
    pub fn find(&self, wanted: &FindCriterion, position: &SearchPosition, limit: usize) -> SearchBatch {
        // The lists are a snapshot: what changes meanwhile shows in a later piece or not at all.
        let sought = FileQuery::new(wanted);
        let mut files: Vec<FoundFile> = Vec::new();
        let mut effort = EFFORT_PER_BATCH;
        for (user, list) in &self.lists {
            if effort == 0 {
                return SearchBatch { files, next: Some(SearchPosition::At(user.clone())) };
            }
            let after = match position {
                SearchPosition::After(cursor) if cursor.user == *user => Some(&cursor.name),
                _ => None,
            };
            // One more than fits, which tells whether there are more.
            let (found, stopped) = list.find(&sought, after, limit - files.len() + 1, &mut effort);
            let entry = |SharedFile { name, size, hash }| FoundFile { user: user.clone(), name, size, hash };
            files.extend(found.into_iter().map(entry));
            if files.len() > limit {
                files.truncate(limit);
                let rest = cursor_after(&files).map(SearchPosition::After);
                return SearchBatch { files, next: rest };
            }
            if let Some(name) = stopped {
                return SearchBatch {
                    files,
                    next: Some(SearchPosition::After(FindCursor { user: user.clone(), name })),
                };
            }
            // A user without a match costs something, too.
            effort = effort.saturating_sub(1);
        }
        SearchBatch { files, next: self.next.clone().map(SearchPosition::At) }
    }
}

/// Returns the cursor that continues behind these files.
pub fn cursor_after(files: &[FoundFile]) -> Option<FindCursor> {
    files.last().map(|file| FindCursor { user: file.user.clone(), name: file.name.clone() })
}
