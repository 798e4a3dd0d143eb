//! The interface between the views and the commands that run them: [`ViewCommand`] out, [`ViewUpdate`] in.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use localization::tr;
use shared::peer::FileStat;
use shared::tracker::room_request::RequestedChange;
use shared::{RoomName, UserName};

use super::view_input::ViewInput;
use crate::engine::chat::{ConversationName, StoredMessage};
use crate::engine::node::UserSummary;
use crate::engine::node_event::{FileTransfer, NodeEvent};
use crate::engine::room_values::RoomOverview;

/// Messages in one [`ViewUpdate::CaughtUp`], at most.
pub const MAX_CATCH_UP_MESSAGES: usize = 500;
/// Messages in one [`ViewUpdate::SearchResults`], at most; the latest ones.
pub const MAX_SEARCH_RESULTS: usize = 500;

/// A request of the view's user, carried out by the command that runs the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewCommand {
    /// Sends a chat message.
    Send {
        /// The recipient.
        to: ConversationName,
        text: String,
    },
    /// Sends a typing notice.
    Typing {
        /// The user to whom the message is being written.
        to: UserName,
    },
    /// Starts a download.
    Fetch {
        from: ConversationName,
        /// The name of a share or an offer.
        name: String,
    },
    /// Hashes files, offers them to one user or shares them with a room, and says so there.
    Offer {
        /// Those who alone may fetch the files.
        to: ConversationName,
        paths: Vec<PathBuf>,
    },
    /// Asks for the shares of a user, or of a room: [`ViewUpdate::Files`] or [`ViewUpdate::FilesFailed`].
    ListFiles {
        of: ConversationName,
        /// Only names that start with this.
        prefix: String,
    },
    /// Stops a download that this view started.
    StopFetch {
        from: ConversationName,
        /// The file's name; `None`: the only download from there.
        name: Option<String>,
    },
    /// Asks for all users and rooms: [`ViewUpdate::Users`] or [`ViewUpdate::UsersFailed`], and [`ViewUpdate::Rooms`].
    ListUsers,
    /// Asks whether a user has an account: [`ViewUpdate::Account`].
    FindAccount {
        /// The name to look up.
        user: UserName,
    },
    /// Asks for stored messages: [`ViewUpdate::History`] or [`ViewUpdate::HistoryFailed`].
    LoadHistory {
        /// The conversation.
        with: ConversationName,
        /// Only messages before this sequence number; `None`: up to the latest.
        before: Option<i64>,
        /// The greatest age of a message, in milliseconds.
        age: Option<i64>,
        limit: usize,
    },
    /// Asks for messages the view missed: [`ViewUpdate::CaughtUp`] or [`ViewUpdate::CatchUpFailed`]. Of a conversation
    /// with one user these are the earliest; of a room the last, for pages by arrival would tear its order apart.
    CatchUp {
        /// The conversation.
        with: ConversationName,
        /// Only messages after this sequence number.
        after: i64,
        /// In a room: only messages before the one of this sequence number, in the room's order.
        before: Option<i64>,
    },
    /// Searches messages: [`ViewUpdate::SearchResults`], at most [`MAX_SEARCH_RESULTS`].
    Search {
        /// The conversation.
        with: ConversationName,
        /// Every one of these words must occur.
        words: String,
    },
    /// Marks received messages as read.
    MarkRead {
        /// The conversation.
        with: ConversationName,
        /// The sequence number of the last message that was seen.
        up_to: i64,
    },
    /// Changes a room.
    ChangeRoom { room: RoomName, change: RequestedChange },
    /// Ends the user's membership of a room.
    LeaveRoom { room: RoomName },
    /// Sets whether the messages of a conversation ring.
    Mute { with: ConversationName, muted: bool },
    /// Blocks a user, or lifts the block.
    Block {
        user: UserName,
        /// False lifts the block.
        blocked: bool,
    },
    /// Accepts a user's message request.
    Accept {
        /// The sender of the request.
        user: UserName,
    },
    /// Asks how a path can be completed: [`ViewUpdate::Paths`].
    CompletePath {
        /// The path as far as it was typed.
        start: String,
    },
    /// Stops the process until the shell continues it (Ctrl-Z).
    Suspend,
    /// Leaves at once, even while transfers run.
    Leave,
    /// Leaves at the end of the input (Ctrl-D); has to be repeated while transfers run.
    EndOfInput,
    /// Leaves (Ctrl-C); has to be repeated while transfers run.
    Interrupt,
}

/// The reason why a view's request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestFailure {
    /// There is no node. [`NodeEvent::EventsMissed`] comes with the next one.
    NoNode,
    /// An error, in words for the user.
    Error(String),
}

impl RequestFailure {
    /// Returns the reason in words for the user.
    pub fn words(&self) -> String {
        match self {
            Self::NoNode => tr!("this window is reconnecting: try again in a moment"),
            Self::Error(words) => words.clone(),
        }
    }
}

/// News for a view: an event of the node, or the answer to a [`ViewCommand`].
#[derive(Debug, Clone)]
pub enum ViewUpdate {
    /// An event of the node.
    Event(NodeEvent),
    /// The event of a message that this view stored itself. Unlike the node's events it doesn't mean that all messages
    /// stored earlier were told.
    StoredHere(NodeEvent),
    /// All known users.
    Users(Vec<UserSummary>),
    /// The answer to [`ViewCommand::ListUsers`] if it failed.
    UsersFailed(RequestFailure),
    /// All rooms of the user.
    Rooms(Vec<RoomOverview>),
    /// The answer to [`ViewCommand::FindAccount`].
    Account {
        user: UserName,
        /// True if the account exists.
        exists: bool,
        /// Accounts with a similar name.
        similar: Vec<UserName>,
    },
    /// The progress of hashing a file that is to be offered; its state tells when hashing has ended.
    Hashing(FileTransfer),
    /// The answer to [`ViewCommand::LoadHistory`].
    History {
        /// The conversation.
        with: ConversationName,
        /// The bound that was requested.
        before: Option<i64>,
        /// Oldest first.
        messages: Vec<StoredMessage>,
    },
    /// The answer to [`ViewCommand::LoadHistory`] if it failed.
    HistoryFailed {
        /// The conversation.
        with: ConversationName,
        /// The bound that was requested.
        before: Option<i64>,
        why: RequestFailure,
    },
    /// The answer to [`ViewCommand::CatchUp`].
    CaughtUp {
        /// The conversation.
        with: ConversationName,
        /// Oldest first. Exactly [`MAX_CATCH_UP_MESSAGES`] of them mean that there may be more.
        messages: Vec<StoredMessage>,
    },
    /// The answer to [`ViewCommand::CatchUp`] if it failed.
    CatchUpFailed {
        /// The conversation.
        with: ConversationName,
        why: RequestFailure,
    },
    /// The answer to [`ViewCommand::Search`].
    SearchResults {
        /// The conversation.
        with: ConversationName,
        /// The words that were searched.
        words: String,
        /// Oldest first.
        messages: Vec<StoredMessage>,
    },
    /// The answer to [`ViewCommand::ListFiles`].
    Files {
        of: ConversationName,
        /// The prefix that was requested.
        prefix: String,
        /// Sorted by name.
        files: Vec<FileStat>,
    },
    /// The answer to [`ViewCommand::ListFiles`] if it failed.
    FilesFailed {
        of: ConversationName,
        /// The prefix that was requested.
        prefix: String,
        /// The error, in words for the user.
        why: String,
    },
    /// The answer to [`ViewCommand::CompletePath`].
    Paths {
        /// The text that was to be completed.
        start: String,
        /// Whole paths; those of folders end with `/`.
        paths: Vec<String>,
    },
    /// A line for the user.
    Note(String),
    /// An error for the user.
    Problem(String),
    /// The process was continued after a stop, or another process wrote to the terminal.
    Resumed,
    /// A regular tick: timeouts and polls are due for a check.
    Tick,
}

/// A view of conversations on a terminal.
pub trait TerminalView {
    /// Returns the commands with which the view begins.
    fn start(&mut self) -> Vec<ViewCommand>;

    /// Returns the conversation that the user is looking at.
    fn open_conversation(&self) -> Option<&ConversationName>;

    /// Handles a key.
    fn handle_input(&mut self, key: &ViewInput, now: Instant) -> io::Result<Vec<ViewCommand>>;

    /// Handles news.
    fn handle_update(&mut self, news: &ViewUpdate, now: Instant) -> io::Result<Vec<ViewCommand>>;

    /// Draws changes. Returns true if more is left to draw, so that a key can be handled in between.
    fn draw(&mut self) -> io::Result<bool>;

    /// Releases the terminal and stops the process until it is continued; [`ViewUpdate::Resumed`] comes next.
    fn suspend(&mut self) -> io::Result<()>;

    /// Removes from the screen whatever must not stay there after the view ends.
    fn close(&mut self) -> io::Result<()>;
}
