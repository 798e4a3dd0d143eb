//! What the present users share, and the memory that all of it may take.

use bytes::Bytes;
use shared::UserName;
use shared::tracker::{EventKind, FilesMode};

use super::{Files, FilesRefused, Registry};

/// The part of the catalogue's memory that texts on their way may take so that there may be more of them by changes of
/// lists of files.
const ON_THEIR_WAY_FOR_CHANGES: usize = 4;
/// The same, for more of them by other requests.
const ON_THEIR_WAY_FOR_REPLIES: usize = 2;

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
        let on_their_way = self.on_their_way();
        let Some(present) = self.present.get_mut(user) else { return Ok(None) };
        let others = self.catalogue_bytes - present.files.bytes();
        // What doesn't grow is taken even when it is full, so that it can become less full.
        let grows = after.bytes() > present.files.bytes();
        if grows && others + after.bytes() + on_their_way > self.rules.catalogue_bytes {
            return Err(FilesRefused::CatalogueFull);
        }
        if !after.is_empty() && on_their_way > self.rules.catalogue_bytes / ON_THEIR_WAY_FOR_CHANGES {
            return Err(FilesRefused::TooManyOnTheirWay);
        }
        after.count_in(&self.texts);
        self.catalogue_bytes = others + after.bytes();
        self.catalogue_text = self.catalogue_text - present.files.text_bytes() + after.text_bytes();
        let count = after.len();
        let before = std::mem::replace(&mut present.files, after);
        self.discard(before);
        self.mark(user, true);
        self.segments.changed(user);
        self.compact_segments.changed(user);
        self.events.push(EventKind::Files { user: user.clone(), count });
        Ok(Some(count))
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
        self.catalogue_bytes
    }

    /// A text for one asker, counted as long as it is on its way.
    pub fn counted(&self, text: Vec<u8>) -> Bytes {
        self.texts.counted(text)
    }

    /// Whether another long reply may be made; those that were made are read too slowly.
    pub fn has_room_for_replies(&self) -> bool {
        self.on_their_way() <= self.rules.catalogue_bytes / ON_THEIR_WAY_FOR_REPLIES
    }

    /// Bytes of texts that somebody has and that are not what is told now.
    pub(super) fn on_their_way(&self) -> usize {
        let told = self.catalogue_text + self.segments.text_bytes() + self.compact_segments.text_bytes();
        self.texts.bytes().saturating_sub(told)
    }

    /// What takes a while to be thrown away is left to others.
    pub(super) fn discard(&mut self, files: Files) {
        if files.is_long() {
            self.discarded.push(files);
        }
    }
}
