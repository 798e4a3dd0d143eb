//! Texts below the options in a command's help.

use localization::tr;

/// Says what may have become of an argument that is missing.
pub(crate) fn room_quoting() -> String {
    tr!("a shell takes #lab for a comment: quote it, '#lab', or write lab after `peer room`")
}

/// The examples of a command, and in the long form the rest that there is to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommandHelp {
    pub(crate) examples: &'static str,
    pub(crate) notes: &'static str,
}

impl CommandHelp {
    /// Returns the text of `peer help COMMAND`.
    pub(crate) fn long(self) -> String {
        if self.notes.is_empty() { self.examples.to_owned() } else { format!("{}\n\n{}", self.examples, self.notes) }
    }
}
