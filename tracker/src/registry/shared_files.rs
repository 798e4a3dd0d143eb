//! What the present users share, and the memory that all of it may take.

use bytes::Bytes;
use shared::UserName;
use shared::tracker::{FilesMode, TrackerEventKind};

use super::{FileList, FileListError, ListView, PeerListPage, PresenceRegistry};
use crate::rate_limits::ClientOrigin;

impl PresenceRegistry {
    /// Changes what the user shares; says how many files that makes, or `None` when the user is not present.
    ///
    /// # Errors
    /// [`FileListError`], and then nothing changed.
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

    /// As [`PresenceRegistry::set_files`], with the whole list, which is not what it was before.
    ///
    /// # Errors
    /// [`FileListError`], and then nothing changed.
    pub fn put_files(&mut self, user: &UserName, after: FileList) -> Result<Option<usize>, FileListError> {
        let capacity = self.rules.catalogue_bytes;
        let Some(present) = self.present.get(user) else { return Ok(None) };
        let from = present.from;
        // What doesn't grow is taken even when it is full, so that it can become less full.
        self.quota.check_growth(from, present.files.size(), after.size(), capacity)?;
        if !after.is_empty() && !self.quota.can_send(from, capacity) {
            return Err(FileListError::TooManyInFlight);
        }
        let count = after.len();
        self.replace_files(user, after);
        Ok(Some(count))
    }

    /// Puts a list back that was taken before the process began, whoever has which part now; says whether it fits.
    pub(super) fn restore_files(&mut self, user: &UserName, files: FileList) -> bool {
        let fits = self.quota.has_space(files.size(), self.rules.catalogue_bytes);
        if fits {
            self.replace_files(user, files);
        }
        fits
    }

    fn replace_files(&mut self, user: &UserName, after: FileList) {
        let Some(present) = self.present.get_mut(user) else { return };
        after.count_in(&self.quota.text_counter(present.from));
        self.quota.replace(present.from, present.files.size(), after.size());
        let count = after.len();
        let before = std::mem::replace(&mut present.files, after);
        self.discard(before);
        self.mark_dirty(user, true);
        self.full_list.user_changed(user);
        self.compact_list.user_changed(user);
        self.events.push(TrackerEventKind::Files { user: user.clone(), count });
    }

    /// What the user shares, if it is present.
    pub fn files(&self, user: &UserName) -> Option<&FileList> {
        self.present.get(user).map(|present| &present.files)
    }

    /// Long lists that are no longer needed: whoever drops them should hold up nobody meanwhile.
    pub fn take_discarded(&mut self) -> Vec<FileList> {
        std::mem::take(&mut self.discarded)
    }

    /// About how much memory all files of all users take.
    pub const fn catalogue_bytes(&self) -> usize {
        self.quota.list_bytes()
    }

    /// A text for an asker at this origin, counted as long as it is on its way.
    pub fn counted_text(&mut self, text: Vec<u8>, requester: ClientOrigin) -> Bytes {
        self.quota.text_counter(requester).counted_text(text)
    }

    /// Whether another long reply may be made for this origin; those that were made are read too slowly.
    pub fn can_send_reply(&self, requester: ClientOrigin) -> bool {
        self.quota.can_send(requester, self.rules.catalogue_bytes)
    }

    /// An empty page for an asker at this origin.
    pub fn page(&mut self, view: ListView, requester: ClientOrigin) -> PeerListPage {
        PeerListPage::new(view, self.quota.text_counter(requester))
    }

    /// What takes a while to be thrown away is left to others.
    pub(super) fn discard(&mut self, files: FileList) {
        if files.is_long() {
            self.discarded.push(files);
        }
    }
}
