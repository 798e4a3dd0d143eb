//! What the present users share, and the memory that all of it may take.

use bytes::Bytes;
use shared::UserName;
use shared::tracker::{EventKind, FilesMode};

use super::{Files, FilesRefused, Page, Registry, View};
use crate::limits::Origin;

impl Registry {
    /// Changes what the user shares; says how many files that makes, or `None` when the user is not present.
    ///
    /// # Errors
    /// [`FilesRefused`], and then nothing changed.
    pub fn set_files(
        &mut self,
        user: &UserName,
        mode: FilesMode,
        files: &Files,
    ) -> Result<Option<usize>, FilesRefused> {
        let Some(present) = self.present.get(user) else { return Ok(None) };
        match present.files.changed(mode, files)? {
            Some(after) => self.put_files(user, after),
            None => Ok(Some(present.files.len())),
        }
    }

    /// As [`Registry::set_files`], with the whole list, which is not what it was before.
    ///
    /// # Errors
    /// [`FilesRefused`], and then nothing changed.
    pub fn put_files(&mut self, user: &UserName, after: Files) -> Result<Option<usize>, FilesRefused> {
        let capacity = self.rules.catalogue_bytes;
        let Some(present) = self.present.get(user) else { return Ok(None) };
        let from = present.from;
        // What doesn't grow is taken even when it is full, so that it can become less full.
        self.room.may_grow(from, present.files.size(), after.size(), capacity)?;
        if !after.is_empty() && !self.room.may_send(from, capacity) {
            return Err(FilesRefused::TooManyOnTheirWay);
        }
        let count = after.len();
        self.hold_files(user, after);
        Ok(Some(count))
    }

    /// Puts a list back that was taken before the process began, whoever has which part now; says whether it fits.
    pub(super) fn restore_files(&mut self, user: &UserName, files: Files) -> bool {
        let fits = self.room.has_space(files.size(), self.rules.catalogue_bytes);
        if fits {
            self.hold_files(user, files);
        }
        fits
    }

    fn hold_files(&mut self, user: &UserName, after: Files) {
        let Some(present) = self.present.get_mut(user) else { return };
        after.count_in(&self.room.account(present.from));
        self.room.replace(present.from, present.files.size(), after.size());
        let (from, count) = (present.from, after.len());
        let before = std::mem::replace(&mut present.files, after);
        self.discard(before);
        self.mark(user, true);
        self.segments.changed(user);
        self.compact_segments.changed(user);
        self.events.push(from, EventKind::Files { user: user.clone(), count });
    }

    /// What the user shares, if it is present.
    pub fn files(&self, user: &UserName) -> Option<&Files> {
        self.present.get(user).map(|present| &present.files)
    }

    /// Long lists that are no longer needed: whoever drops them should hold up nobody meanwhile.
    pub fn take_discarded(&mut self) -> Vec<Files> {
        std::mem::take(&mut self.discarded)
    }

    /// About how much memory all files of all users take.
    pub const fn catalogue_bytes(&self) -> usize {
        self.room.list_bytes()
    }

    /// A text for an asker at this origin, counted as long as it is on its way.
    pub fn counted(&mut self, text: Vec<u8>, asker: Origin) -> Bytes {
        self.room.account(asker).counted(text)
    }

    /// Whether another long reply may be made for this origin; those that were made are read too slowly.
    pub fn has_room_for_replies(&self, asker: Origin) -> bool {
        self.room.may_send(asker, self.rules.catalogue_bytes)
    }

    /// An empty page for an asker at this origin.
    pub fn page(&mut self, view: View, asker: Origin) -> Page {
        Page::new(view, self.room.account(asker))
    }

    /// What takes a while to be thrown away is left to others.
    pub(super) fn discard(&mut self, files: Files) {
        if files.is_long() {
            self.discarded.push(files);
        }
    }
}
