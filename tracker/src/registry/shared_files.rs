//! The files of present users, and the memory they may take.

use std::ops::Bound;

use bytes::Bytes;
use shared::UserName;
use shared::tracker::{FilesMode, TrackerEventKind};

use super::{ListView, PeerListPage, PresenceRegistry};
use crate::catalogue::{FileList, FileListError, FileListSnapshot, SearchPosition};
use crate::rate_limits::ClientOrigin;

impl PresenceRegistry {
    /// Changes the user's files. Returns their new number, or `None` when the user is absent. Fails with
    /// [`FileListError`]; then nothing changed.
    pub fn set_files(
        &mut self,
        user: &UserName,
        mode: FilesMode,
        files: &FileList,
    ) -> Result<Option<usize>, FileListError> {
        let Some(present) = self.present.get(user) else { return Ok(None) };
        match present.files.with_changes(mode, files)? {
            Some(after) => self.put_files(user, after),
            None => Ok(Some(present.files.len())),
        }
    }

    /// Replaces the user's list by `after`, which differs from it. Returns as [`PresenceRegistry::set_files`] does.
    /// Fails with [`FileListError`]; then nothing changed.
    pub fn put_files(&mut self, user: &UserName, after: FileList) -> Result<Option<usize>, FileListError> {
        if !self.present.contains_key(user) {
            return Ok(None);
        }
        self.ensure_files_fit(user, &after)?;
        let count = after.len();
        self.replace_files(user, after);
        Ok(Some(count))
    }

    /// Refuses a list for which the catalogue or the user's share of it has no space.
    pub(super) fn ensure_files_fit(&self, user: &UserName, after: &FileList) -> Result<(), FileListError> {
        let capacity = self.rules.catalogue_bytes;
        let Some(present) = self.present.get(user) else { return Ok(()) };
        let from = present.from;
        // A list that doesn't grow is accepted even when the catalogue is full: that is how it gets space again.
        self.quota.check_growth(from, present.files.size(), after.size(), capacity)?;
        // Each change may leave an old text with slow readers, charged to this origin.
        if !after.is_empty() && !self.quota.can_send(from, capacity) {
            return Err(FileListError::TooManyInFlight);
        }
        Ok(())
    }

    /// Restores a list after a restart, regardless of quotas. Returns whether the catalogue has space for it.
    pub(super) fn restore_files(&mut self, user: &UserName, files: FileList) -> bool {
        let fits = self.quota.has_space(files.size(), self.rules.catalogue_bytes);
        if fits {
            self.replace_files(user, files);
        }
        fits
    }

    pub(super) fn replace_files(&mut self, user: &UserName, after: FileList) {
        let Some(present) = self.present.get_mut(user) else { return };
        // From now on: replies may hold these texts longer than the user has the list.
        after.count_in(&self.quota.text_counter(present.from));
        self.quota.replace(present.from, present.files.size(), after.size());
        let (from, count) = (present.from, after.len());
        let before = std::mem::replace(&mut present.files, after);
        self.discard(before);
        self.mark_dirty(user, true);
        self.full_list.user_changed(user);
        self.compact_list.user_changed(user);
        self.events.push(Some(from), TrackerEventKind::Files { user: user.clone(), count });
    }

    /// Returns the user's files; `None` when it is absent.
    pub fn files(&self, user: &UserName) -> Option<&FileList> {
        self.present.get(user).map(|present| &present.files)
    }

    /// Returns the lists of the next users from `position` on.
    pub fn snapshot_lists(&self, position: &SearchPosition) -> FileListSnapshot {
        let users = self.present.range::<UserName, _>((position.users_from(), Bound::Unbounded));
        FileListSnapshot::take(users.map(|(user, present)| (user, &present.files)))
    }

    /// Returns replaced long lists, to be dropped outside the lock.
    pub fn take_discarded(&mut self) -> Vec<FileList> {
        std::mem::take(&mut self.discarded)
    }

    /// Returns the memory that all lists take, about.
    pub const fn catalogue_bytes(&self) -> usize {
        self.quota.list_bytes()
    }

    /// Creates a text for a requester at this origin, counted until it is sent.
    pub fn counted_text(&mut self, text: Vec<u8>, requester: ClientOrigin) -> Bytes {
        self.quota.text_counter(requester).counted_text(text)
    }

    /// True if another long reply may be made for this origin; false while its earlier ones are read too slowly.
    pub fn can_send_reply(&self, requester: ClientOrigin) -> bool {
        self.quota.can_send(requester, self.rules.catalogue_bytes)
    }

    /// Creates an empty page for a requester at this origin.
    pub fn page(&mut self, view: ListView, requester: ClientOrigin) -> PeerListPage {
        PeerListPage::new(view, self.quota.text_counter(requester))
    }

    /// Keeps a long list for [`PresenceRegistry::take_discarded`].
    pub(super) fn discard(&mut self, files: FileList) {
        if files.is_long() {
            self.discarded.push(files);
        }
    }
}
