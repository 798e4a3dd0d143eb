//! The list of files of the full view, and the one that is marked. Pure.

use shared::peer::FileStat;

use super::{FullViewModel, StatusNotice};
use crate::engine::chat::ConversationName;
use crate::ui::full_view::conversation_pane::FileListState;
use crate::ui::view::ViewCommand;

impl FullViewModel {
    /// Requests the selected user's files if they are online; a known list is requested only `again`, and so is that of a
    /// room, for which all members are dialled.
    pub(super) fn request_files(&mut self, again: bool) -> Vec<ViewCommand> {
        if let Some(room @ ConversationName::Room(_)) = self.selected.clone().filter(|_| again) {
            self.pane_mut(&room).files = FileListState::Requested;
            return vec![ViewCommand::ListFiles { of: room, prefix: String::new() }];
        }
        let Some(person) = self.selected_summary() else { return Vec::new() };
        let (of, is_there) = (person.user.clone(), person.online == Some(true));
        let pane = self.pane_mut(&(&of).into());
        if !is_there || (!again && !matches!(pane.files, FileListState::Unknown)) {
            return Vec::new();
        }
        pane.files = FileListState::Requested;
        vec![ViewCommand::ListFiles { of: of.into(), prefix: String::new() }]
    }

    /// Returns the files of the selected conversation, as far as they are listed.
    pub(super) fn listed_files(&self) -> &[FileStat] {
        match self.selected_pane().map(|pane| &pane.files) {
            Some(FileListState::Listed { files, .. }) => files,
            _ => &[],
        }
    }

    /// Returns the index of the marked file; of one that is gone, that of the file which has its place.
    pub(in crate::ui::full_view) fn selected_file_index(&self) -> usize {
        let Some(name) = &self.selected_file else { return 0 };
        let files = self.listed_files();
        let index = files.iter().position(|file| file.name == *name);
        index.unwrap_or_else(|| {
            let following = files.iter().position(|file| file.name.as_str() > name.as_str());
            following.unwrap_or_else(|| files.len().saturating_sub(1))
        })
    }

    /// Marks a file of the list, or the last one. Without a list the marked file stays, for the list that follows.
    pub(super) fn mark_file(&mut self, index: usize) {
        let files = self.listed_files();
        if let Some(file) = files.get(index).or(files.last()) {
            self.selected_file = Some(file.name.clone());
        }
    }

    pub(super) fn move_file_selection(&mut self, step: isize) -> Vec<ViewCommand> {
        self.mark_file(self.selected_file_index().saturating_add_signed(step));
        Vec::new()
    }

    pub(super) fn fetch_selected(&self) -> Vec<ViewCommand> {
        let (Some(from), Some(name)) = (self.selected.clone(), &self.selected_file) else { return Vec::new() };
        // One that is no longer listed may have been replaced on the screen.
        let is_listed = self.listed_files().iter().any(|file| file.name == *name);
        is_listed.then(|| ViewCommand::Fetch { from, name: name.as_str().to_owned() }).into_iter().collect()
    }

    pub(super) fn handle_files_failure(&mut self, of: &ConversationName, why: &str) {
        self.chat.conversation_mut(of).composer.handle_files_failed();
        let pane = self.pane_mut(of);
        if matches!(pane.files, FileListState::Requested) {
            pane.files = FileListState::Failed;
        }
        pane.add_problem(why);
        self.notice = Some(StatusNotice { text: why.to_owned(), is_problem: true });
    }
}
