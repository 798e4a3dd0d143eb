//! Command functions, one for each [`CliCommand`]: each wires the engine to a view.

mod account;
mod background_fetch;
mod bell;
mod block_list;
mod chat;
mod chat_filter;
mod embedded_node;
pub mod events;
mod fetch;
mod history_retention;
mod interrupted_send;
mod line_budget;
mod listing;
mod message_commands;
mod message_sending;
mod node_connection;
mod node_handle;
mod offer;
mod password_prompt;
mod path_completion;
mod progress_publisher;
mod serve;
mod serve_output;
mod share;
mod tracker_confirmation;
mod tracker_selection;
mod trust;
mod ui;
mod user_resolution;
mod view_session;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use shared::tracker::{FindCriterion, ListPeersRequest, TrackerErrorCode};
use shared::{FileName, Fingerprint, UserName};
use tokio_util::sync::CancellationToken;

pub use self::block_list::NotifyChange;
pub use self::fetch::{FetchCommand, RetryOptions};
pub use self::history_retention::ForgetOptions;
pub use self::message_commands::HistoryOptions;
use self::tracker_confirmation::TrackerChoice;
use crate::engine::node::ListenConfig;
use crate::engine::serve::UploadLimits;
use crate::engine::tracker_key::TrackerKeyPolicy;
use crate::engine::{Error, LocalUser, Notice, NoticeHandler};
use crate::net::TrackerError;
use crate::net::tracker::TrackerAddress;
use crate::profile::{Access, Profile};
use crate::sys::job_control;
use crate::ui::{CommandOutput, InterruptForwarder, notice_line};

/// A command with checked arguments.
#[derive(Debug)]
pub enum CliCommand {
    /// Registers an account.
    Register {
        /// The account's name.
        user: UserName,
        /// The source of the new password, `Prompt` if no file is given.
        password: PasswordSource,
    },
    /// Logs in to an account and binds it to this profile.
    Login {
        /// The account's name.
        user: UserName,
        /// The source of the account's password.
        password: PasswordSource,
        /// Replaces the binding to another profile's key.
        rebind: bool,
    },
    /// Change the account's password.
    Passwd {
        /// The source of the present and the new password.
        passwords: PasswordSource,
    },
    /// Ends the session and removes the account from this profile.
    Logout,
    /// Shows the account, the tracker and the profile.
    Whoami,
    /// Shares files and folders.
    Share {
        /// The files and folders to share.
        paths: Vec<PathBuf>,
        /// Another name to share a single path under.
        name: Option<FileName>,
    },
    /// Ends shares.
    Unshare {
        /// Shared names, folders or paths.
        names: Vec<String>,
    },
    /// Lists the shares.
    Shares,
    /// Run the node.
    Serve {
        /// The addresses to listen on and to announce.
        place: ListenConfig,
        /// The rate limits of uploads.
        limits: UploadLimits,
    },
    /// Lists the users who are online.
    List {
        /// The filter for the tracker.
        query: ListPeersRequest,
        /// The largest number of users to print.
        limit: usize,
    },
    /// Finds shared files by name or hash.
    Find {
        /// The pattern or hash to look for.
        query: FindCriterion,
        /// The largest number of files to print.
        limit: usize,
    },
    /// Lists the files that a user shares.
    Files {
        /// The user to ask.
        user: UserName,
        /// The start that names must have; empty for all.
        prefix: String,
    },
    /// Fetches files.
    Fetch(FetchCommand),
    /// Opens a conversation, or sends one message.
    Chat {
        /// The recipient.
        user: UserName,
        /// The message to send; `None` opens the conversation.
        text: Option<String>,
        /// Fails instead of queueing a message that can't be delivered now.
        now: bool,
    },
    /// Opens the full-screen view.
    Ui,
    /// Prints stored messages.
    History(HistoryOptions),
    /// Deletes stored messages.
    Forget(ForgetOptions),
    /// Sets the retention time of the history.
    KeepHistory {
        /// Milliseconds; `None` keeps messages until they are deleted by hand.
        kept_ms: Option<i64>,
    },
    /// Prints unread messages and marks them as read.
    Inbox,
    /// Accepts a stranger's message requests.
    Accept {
        /// The stranger.
        user: UserName,
    },
    /// Lists the messages that wait for delivery.
    Outbox,
    /// Removes a message from the outbox.
    OutboxDrop {
        /// The start of the message's id.
        id: String,
    },
    /// Offers files to one user.
    Offer {
        /// The recipient.
        to: UserName,
        /// The files to offer.
        paths: Vec<PathBuf>,
        /// Another name for one of them.
        name: Option<FileName>,
    },
    /// Withdraws offers.
    Withdraw {
        /// The recipient of the offers.
        to: UserName,
        /// The names of the offers.
        names: Vec<FileName>,
    },
    /// Lists the offers.
    Offers {
        /// Limits the list to this recipient.
        to: Option<UserName>,
    },
    /// Blocks a user.
    Block {
        /// The user to block.
        user: UserName,
    },
    /// Unblocks a user.
    Unblock {
        /// The user to unblock.
        user: UserName,
    },
    /// Lists the blocked users.
    Blocked,
    /// Shows or changes how the user is notified of messages.
    Notify(NotifyChange),
    /// Prints all events of the node as NDJSON.
    Events,
    /// Shows a key on record, or replaces it.
    Trust {
        /// The owner of the key.
        owner: KeyOwner,
        /// The new key.
        replace: Option<Fingerprint>,
        /// Replaces the key without asking.
        yes: bool,
    },
    /// Shows the numbers that two users compare to verify their keys.
    Verify {
        /// The other user.
        user: UserName,
        /// Records the keys as verified without asking.
        yes: bool,
    },
}

/// The owner of a pinned key.
#[derive(Debug)]
pub enum KeyOwner {
    /// A user, whose pin this profile keeps.
    User(UserName),
    /// The tracker that was named or used last.
    Tracker,
}

/// The source of a password; never an argument or the environment, which other processes can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// A prompt without echo.
    Prompt,
    /// A file's first line; `-` is standard input.
    File(PathBuf),
}

/// The options and streams that all commands share.
#[derive(Debug, Clone)]
pub struct CommandContext {
    /// The profile's folder.
    pub home: PathBuf,
    /// The use that the command makes of the profile.
    pub access: Access,
    /// The tracker, if it was named.
    pub tracker: Option<TrackerAddress>,
    /// The expected fingerprint of the tracker, if it was given, and how an unknown one is treated.
    pub key_policy: TrackerKeyPolicy,
    /// The writer for standard output and standard error.
    pub output: CommandOutput,
    /// True if the command must not ask the user.
    pub no_input: bool,
    /// True if no tracker is looked for on the local network.
    pub no_mdns: bool,
    /// Cancelled at the first Ctrl-C, unless a view takes Ctrl-C as a key.
    pub cancel: CancellationToken,
    /// Forwards Ctrl-C to the view that takes it as a key.
    pub interrupts: InterruptForwarder,
}

/// Runs a command to its end.
///
/// # Errors
/// [`Error`]; the caller prints it and picks the exit code.
pub async fn run(context: &CommandContext, command: CliCommand) -> Result<(), Error> {
    match run_command(context, command).await {
        // The user's Ctrl-C while the profile's database was locked ended the wait: report the interrupt.
        Err(Error::Profile(error)) if error.is_database_held() && job_control::requested_termination().is_some() => {
            Err(Error::Interrupted)
        }
        ended => ended.map_err(|error| name_signed_out_user(context, error)),
    }
}

/// Adds the user's name to an error that only says that this machine was signed out.
fn name_signed_out_user(context: &CommandContext, error: Error) -> Error {
    match error {
        Error::Tracker(TrackerError::Refused { refusal, retry_after })
            if refusal.code == TrackerErrorCode::NotLoggedIn =>
        {
            // Only to improve the text: if the profile can't be read, the tracker's own text stays.
            let account = context.existing_profile().ok().and_then(|profile| profile.account().ok()?);
            match account {
                Some(account) => Error::signed_out(account.user, refusal),
                None => TrackerError::Refused { refusal, retry_after }.into(),
            }
        }
        error => error,
    }
}

async fn run_command(context: &CommandContext, command: CliCommand) -> Result<(), Error> {
    // Before anything else: every command below works with exact user names.
    let command = tokio::select! {
        () = context.cancel.cancelled() => return Err(Error::Interrupted),
        resolved = user_resolution::resolve_users(context, command) => resolved?,
    };
    // These watch the cancellation themselves: they end in order and print a last line.
    let command = match command {
        CliCommand::Fetch(wanted) => return fetch::run(context, wanted).await,
        CliCommand::Serve { place, limits } => return serve::run(context, place, limits).await,
        CliCommand::Chat { user, text, now } => return chat::run(context, &user, text.as_deref(), now).await,
        CliCommand::Ui => return ui::run(context).await,
        CliCommand::Events => return events::run(context).await,
        CliCommand::Share { paths, name } => return share::share(context, paths, name).await,
        // Boxed, as in other places: the future is over the size limit of clippy's `large_futures`.
        CliCommand::Offer { to, paths, name } => return Box::pin(offer::offer_files(context, &to, paths, name)).await,
        command => command,
    };
    tokio::select! {
        () = context.cancel.cancelled() => Err(Error::Interrupted),
        result = run_cancellable(context, command) => result,
    }
}

async fn run_cancellable(context: &CommandContext, command: CliCommand) -> Result<(), Error> {
    match command {
        CliCommand::Register { user, password } => account::register(context, user, &password).await,
        CliCommand::Login { user, password, rebind } => account::login(context, user, &password, rebind).await,
        CliCommand::Passwd { passwords } => account::passwd(context, &passwords).await,
        CliCommand::Logout => account::logout(context).await,
        CliCommand::Whoami => account::whoami(context).await,
        CliCommand::Unshare { names } => share::unshare(context, &names).await,
        CliCommand::Shares => share::shares(context),
        CliCommand::List { query: wanted, limit: most } => listing::list(context, wanted, most).await,
        CliCommand::Find { query: wanted, limit: most } => listing::find(context, wanted, most).await,
        CliCommand::Files { user, prefix } => listing::files(context, &user, &prefix).await,
        CliCommand::Trust { owner: KeyOwner::User(user), replace, yes } => {
            trust::trust_user(context, &user, replace, yes).await
        }
        CliCommand::Trust { owner: KeyOwner::Tracker, replace, yes } => {
            trust::trust_tracker(context, replace, yes).await
        }
        CliCommand::Verify { user, yes } => trust::verify_user(context, &user, yes).await,
        CliCommand::History(past) => message_commands::history(context, &past),
        CliCommand::Forget(wanted) => history_retention::forget(context, &wanted).await,
        CliCommand::KeepHistory { kept_ms } => history_retention::set_retention(context, kept_ms),
        CliCommand::Inbox => message_commands::inbox(context).await,
        CliCommand::Accept { user } => block_list::accept(context, &user).await,
        CliCommand::Outbox => message_commands::outbox(context),
        CliCommand::OutboxDrop { id } => message_commands::drop_queued(context, &id).await,
        CliCommand::Withdraw { to, names } => offer::withdraw(context, &to, &names).await,
        CliCommand::Offers { to } => offer::list(context, to.as_ref()),
        CliCommand::Block { user } => block_list::block(context, &user).await,
        CliCommand::Unblock { user } => block_list::unblock(context, &user),
        CliCommand::Blocked => block_list::blocked(context),
        CliCommand::Notify(change) => block_list::notify(context, &change),
        CliCommand::Fetch(_)
        | CliCommand::Serve { .. }
        | CliCommand::Chat { .. }
        | CliCommand::Events
        | CliCommand::Ui
        | CliCommand::Share { .. }
        // `run_command` has returned for all of these.
        | CliCommand::Offer { .. } => Err(Error::Internal("this command runs by itself".to_owned())),
    }
}

impl CliCommand {
    /// Returns whether the command says by itself what it waits for, or nobody waits for it.
    pub const fn tells_waits(&self) -> bool {
        matches!(self, Self::Serve { .. } | Self::Chat { .. } | Self::Ui | Self::Events)
    }

    /// Returns the use that the command makes of the profile. One that only shows what is there goes without room on the disk.
    pub const fn access(&self) -> Access {
        match self {
            Self::Whoami
            | Self::Shares
            | Self::List { .. }
            | Self::Find { .. }
            | Self::Files { .. }
            | Self::History(_)
            | Self::Inbox
            | Self::Outbox
            | Self::Offers { .. }
            | Self::Blocked
            | Self::Notify(NotifyChange { bell: None, hook: None })
            | Self::Trust { replace: None, .. }
            | Self::Verify { .. } => Access::Look,
            _ => Access::Use,
        }
    }
}

impl CommandContext {
    /// Opens the profile, and creates it if there is none.
    fn profile(&self) -> Result<Profile, Error> {
        Ok(Profile::open(&self.home)?)
    }

    /// Opens the profile without creating one, for commands that need an account.
    fn existing_profile(&self) -> Result<Profile, Error> {
        Profile::open_existing(&self.home, self.access)?.ok_or(Error::NotLoggedIn)
    }

    fn me(&self) -> Result<LocalUser, Error> {
        LocalUser::load(self.existing_profile()?, self.tracker.clone(), self.key_policy, self.notify())
    }

    /// Returns the given tracker, the one used last, or one found on the network. Its key is confirmed, so that a
    /// password may be sent to it. `again` is the command line that hints tell the user to run again.
    async fn tracker_for_password(&self, profile: &Profile, again: &str) -> Result<TrackerAddress, Error> {
        let choice = match self.known_tracker(profile)? {
            Some(address) => TrackerChoice { address, announced: None, policy: self.key_policy },
            None => tracker_selection::select_tracker(self, again).await?,
        };
        tracker_confirmation::confirm_tracker(self, profile, &choice, again).await?;
        Ok(choice.address)
    }

    /// Returns the tracker that was given, or used last.
    fn known_tracker(&self, profile: &Profile) -> Result<Option<TrackerAddress>, Error> {
        if self.tracker.is_some() {
            return Ok(self.tracker.clone());
        }
        profile.last_tracker()?.map(|last| last.parse().map_err(Error::Usage)).transpose()
    }

    fn notify(&self) -> NoticeHandler {
        let output = self.output.clone();
        Arc::new(move |notice: Notice| {
            if output.is_json() {
                // A closed pipe fails again at the data that follows, and is reported there.
                let _ = output.print_object("notice", &json!(notice));
            } else {
                output.note(&notice_line(&notice));
            }
        })
    }
}
