//! What the two views have in common: what they are told, and what they ask for. They decide nothing else.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use shared::UserName;
use shared::peer::FileStat;

use super::view_input::ViewInput;
use crate::engine::chat::StoredMessage;
use crate::engine::node::control::UserSummary;
use crate::engine::node_event::{FileTransfer, NodeEvent};

/// Messages that a view is shown at once of what it missed.
pub const MAX_CATCH_UP_MESSAGES: usize = 500;
/// Messages that a search finds, the last ones.
pub const MAX_SEARCH_RESULTS: usize = 500;

/// What the user of a view wants; whoever runs the view sees to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewCommand {
    /// To say something.
    Send {
        /// To whom.
        to: UserName,
        /// What.
        text: String,
    },
    /// To let somebody know that they are being written to.
    Typing {
        /// Whom.
        to: UserName,
    },
    /// To have a file.
    Fetch {
        /// From whom.
        from: UserName,
        /// Which.
        name: String,
    },
    /// To let somebody have files.
    Offer {
        /// Whom.
        to: UserName,
        /// Which.
        paths: Vec<PathBuf>,
    },
    /// To see what somebody shares: [`ViewUpdate::Files`].
    ListFiles {
        /// Who.
        user: UserName,
        /// Only names that start with this.
        prefix: String,
    },
    /// To break off a fetch that was begun here.
    StopFetch {
        /// From whom.
        from: UserName,
        /// Which; the only one when there is no name.
        name: Option<String>,
    },
    /// To see who is there: [`ViewUpdate::Users`].
    ListUsers,
    /// To know whether somebody has an account: [`ViewUpdate::Account`].
    FindAccount {
        /// Who.
        user: UserName,
    },
    /// To look further back: [`ViewUpdate::History`].
    LoadHistory {
        /// The conversation with whom.
        with: UserName,
        /// Before this place, else the end.
        before: Option<i64>,
        /// Not longer ago than this, milliseconds.
        age: Option<i64>,
        /// At most so many messages.
        limit: usize,
    },
    /// To see what was said and not shown: [`ViewUpdate::CaughtUp`], at most [`MAX_CATCH_UP_MESSAGES`].
    CatchUp {
        /// The conversation with whom.
        with: UserName,
        /// Behind this place.
        after: i64,
    },
    /// To find messages: [`ViewUpdate::SearchResults`], at most [`MAX_SEARCH_RESULTS`].
    Search {
        /// In the conversation with whom.
        with: UserName,
        /// With all of these.
        words: String,
    },
    /// What somebody wrote was seen.
    MarkRead {
        /// Who.
        with: UserName,
        /// Up to this place.
        up_to: i64,
    },
    /// To take nothing more from somebody, or to take things again.
    Block {
        /// Whom.
        user: UserName,
        /// Nothing more, or again.
        blocked: bool,
    },
    /// To take what somebody writes as from anybody with whom one talks.
    Accept {
        /// Whom.
        user: UserName,
    },
    /// To see how paths go on: [`ViewUpdate::Paths`].
    CompletePath {
        /// That begin like this.
        start: String,
    },
    /// To go back to the shell for a while.
    Suspend,
    /// To leave, whatever is on its way.
    Leave,
    /// To leave, by the end of the input.
    EndOfInput,
    /// To break off.
    Interrupt,
}

/// What a view is told.
#[derive(Debug, Clone)]
pub enum ViewUpdate {
    /// Something happened in the node.
    Event(NodeEvent),
    /// Who is there.
    Users(Vec<UserSummary>),
    /// Whether somebody has an account.
    Account {
        /// Who.
        user: UserName,
        /// It is so.
        exists: bool,
        /// Who has a name like that.
        similar: Vec<UserName>,
    },
    /// A file is hashed to be offered to somebody, or no longer.
    Hashing(FileTransfer),
    /// What was said.
    History {
        /// With whom.
        with: UserName,
        /// Before this place, as was asked.
        before: Option<i64>,
        /// Oldest first.
        messages: Vec<StoredMessage>,
    },
    /// What was said behind a place.
    CaughtUp {
        /// With whom.
        with: UserName,
        /// Oldest first; there are more when there are [`MAX_CATCH_UP_MESSAGES`].
        messages: Vec<StoredMessage>,
    },
    /// What was found.
    SearchResults {
        /// With whom.
        with: UserName,
        /// What was looked for.
        words: String,
        /// Oldest first.
        messages: Vec<StoredMessage>,
    },
    /// What somebody shares.
    Files {
        /// Who.
        user: UserName,
        /// Names that start with this.
        prefix: String,
        /// In the order of their names.
        files: Vec<FileStat>,
    },
    /// How paths go on.
    Paths {
        /// As was asked.
        start: String,
        /// Whole paths; those of folders end with `/`.
        paths: Vec<String>,
    },
    /// Something worth a line.
    Note(String),
    /// Something that went wrong.
    Problem(String),
    /// The process goes on after it was stopped, or somebody else wrote to the terminal.
    Resumed,
    /// Time went by.
    Tick,
}

/// A view of conversations in a terminal.
pub trait TerminalView {
    /// What it wants to begin with.
    fn start(&mut self) -> Vec<ViewCommand>;

    /// Returns with whom the conversation is that is open, where the user looks.
    fn open_conversation(&self) -> Option<&UserName>;

    /// Takes a key.
    ///
    /// # Errors
    /// As the terminal says.
    fn handle_input(&mut self, key: &ViewInput, now: Instant) -> io::Result<Vec<ViewCommand>>;

    /// Takes news.
    ///
    /// # Errors
    /// As the terminal says.
    fn handle_update(&mut self, news: &ViewUpdate, now: Instant) -> io::Result<Vec<ViewCommand>>;

    /// Draws what changed, or so much of it that no key has to wait; true when there is more.
    ///
    /// # Errors
    /// As the terminal says.
    fn draw(&mut self) -> io::Result<bool>;

    /// Gives the terminal back and stops the process until it is continued; [`ViewUpdate::Resumed`] follows that.
    ///
    /// # Errors
    /// As the terminal says.
    fn suspend(&mut self) -> io::Result<()>;

    /// Takes away what should not stay on the screen.
    ///
    /// # Errors
    /// As the terminal says.
    fn close(&mut self) -> io::Result<()>;
}
