//! One function a command: each wires the engine to a view.

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
use crate::profile::Profile;
use crate::sys::job_control;
use crate::ui::{CommandOutput, InterruptForwarder, notice_line};

/// A command with checked arguments.
#[derive(Debug)]
pub enum CliCommand {
    /// Make an account.
    Register {
        /// Its name.
        user: UserName,
        /// Where its password comes from.
        password: PasswordSource,
    },
    /// Enter an account.
    Login {
        /// Its name.
        user: UserName,
        /// Where its password comes from.
        password: PasswordSource,
        /// Take the place of another key.
        rebind: bool,
    },
    /// Change the account's password.
    Passwd {
        /// Where the present one and the new one come from.
        passwords: PasswordSource,
    },
    /// Forget the account here.
    Logout,
    /// Who am I?
    Whoami,
    /// Offer files.
    Share {
        /// Files and folders.
        paths: Vec<PathBuf>,
        /// Another name for one of them.
        name: Option<FileName>,
    },
    /// Offer no longer.
    Unshare {
        /// Names, folders, paths.
        names: Vec<String>,
    },
    /// What is offered.
    Shares,
    /// Run the node.
    Serve {
        /// Where it listens and is found.
        place: ListenConfig,
        /// How fast others may fetch.
        limits: UploadLimits,
    },
    /// Who is online.
    List {
        /// Who of them.
        query: ListPeersRequest,
        /// At most so many.
        limit: usize,
    },
    /// Who shares what.
    Find {
        /// By what.
        query: FindCriterion,
        /// At most so many files.
        limit: usize,
    },
    /// What somebody offers.
    Files {
        /// Who.
        user: UserName,
        /// Only names that start with this.
        prefix: String,
    },
    /// Get files.
    Fetch(FetchCommand),
    /// Talk.
    Chat {
        /// To whom.
        user: UserName,
        /// One thing to say, else a conversation.
        text: Option<String>,
        /// What can't be delivered now is not kept for later.
        now: bool,
    },
    /// Look at everything in one view.
    Ui,
    /// Look back.
    History(HistoryOptions),
    /// Forget what was said.
    Forget(ForgetOptions),
    /// Keep history so long.
    KeepHistory {
        /// Milliseconds; for ever when there are none.
        kept_ms: Option<i64>,
    },
    /// Show what is unread; it is read then.
    Inbox,
    /// Take what somebody writes as from anybody with whom one talks.
    Accept {
        /// From whom.
        user: UserName,
    },
    /// Show what waits.
    Outbox,
    /// Take something out of what waits.
    OutboxDrop {
        /// How its id begins.
        id: String,
    },
    /// Offer files to one person.
    Offer {
        /// To whom.
        to: UserName,
        /// Which.
        paths: Vec<PathBuf>,
        /// Another name for one of them.
        name: Option<FileName>,
    },
    /// Take offers back.
    Withdraw {
        /// From whom.
        to: UserName,
        /// Which.
        names: Vec<FileName>,
    },
    /// What is offered to whom.
    Offers {
        /// To this one.
        to: Option<UserName>,
    },
    /// Take nothing more from somebody.
    Block {
        /// From whom.
        user: UserName,
    },
    /// Take things from somebody again.
    Unblock {
        /// From whom.
        user: UserName,
    },
    /// Who is blocked.
    Blocked,
    /// How the user is told of messages.
    Notify(NotifyChange),
    /// Everything that happens, as NDJSON.
    Events,
    /// Look at a key on record, or replace it.
    Trust {
        /// Whose.
        owner: KeyOwner,
        /// The new key.
        replace: Option<Fingerprint>,
        /// It is the right one: don't ask.
        yes: bool,
    },
    /// Compare keys aloud.
    Verify {
        /// With whom.
        user: UserName,
        /// They match: don't ask.
        yes: bool,
    },
}

/// Whose key.
#[derive(Debug)]
pub enum KeyOwner {
    /// A user's.
    User(UserName),
    /// The tracker's.
    Tracker,
}

/// Where a password comes from; never the arguments, never the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// A prompt without echo.
    Prompt,
    /// A file's first line; `-` is standard input.
    File(PathBuf),
}

/// What all commands have in common.
#[derive(Debug, Clone)]
pub struct CommandContext {
    /// The profile's folder.
    pub home: PathBuf,
    /// The tracker, if it was named.
    pub tracker: Option<TrackerAddress>,
    /// What was said of its key.
    pub key_policy: TrackerKeyPolicy,
    /// Where text goes.
    pub output: CommandOutput,
    /// Whether nothing may be asked.
    pub no_input: bool,
    /// Whether no tracker is looked for on the local network.
    pub no_mdns: bool,
    /// Cancelled at the first Ctrl-C, unless a view takes that as a key.
    pub cancel: CancellationToken,
    /// The view that does.
    pub interrupts: InterruptForwarder,
}

/// Runs a command to its end.
///
/// # Errors
/// [`Error`]; the caller prints it and picks the exit code.
pub async fn run(context: &CommandContext, command: CliCommand) -> Result<(), Error> {
    match run_command(context, command).await {
        // Given up because the user didn't want to wait any longer.
        Err(Error::Profile(error)) if error.is_database_held() && job_control::requested_termination().is_some() => {
            Err(Error::Interrupted)
        }
        ended => ended.map_err(|error| name_signed_out_user(context, error)),
    }
}

/// Says of whom this machine was signed out, where the tracker says only that it was.
fn name_signed_out_user(context: &CommandContext, error: Error) -> Error {
    match error {
        Error::Tracker(TrackerError::Refused { refusal, retry_after })
            if refusal.code == TrackerErrorCode::NotLoggedIn =>
        {
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
    let command = tokio::select! {
        () = context.cancel.cancelled() => return Err(Error::Interrupted),
        resolved = user_resolution::resolve_users(context, command) => resolved?,
    };
    // These end by themselves when they are cancelled, and have something to say then.
    let command = match command {
        CliCommand::Fetch(wanted) => return fetch::run(context, wanted).await,
        CliCommand::Serve { place, limits } => return serve::run(context, place, limits).await,
        CliCommand::Chat { user, text, now } => return chat::run(context, &user, text.as_deref(), now).await,
        CliCommand::Ui => return ui::run(context).await,
        CliCommand::Events => return events::run(context).await,
        CliCommand::Share { paths, name } => return share::share(context, paths, name).await,
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
        | CliCommand::Offer { .. } => Err(Error::Internal("this command runs by itself".to_owned())),
    }
}

impl CommandContext {
    /// The profile, made if there is none.
    fn profile(&self) -> Result<Profile, Error> {
        Ok(Profile::open(&self.home)?)
    }

    /// The profile, for what makes no sense without one: nothing is made.
    fn existing_profile(&self) -> Result<Profile, Error> {
        Profile::open_existing(&self.home)?.ok_or(Error::NotLoggedIn)
    }

    fn me(&self) -> Result<LocalUser, Error> {
        LocalUser::load(self.existing_profile()?, self.tracker.clone(), self.key_policy, self.notify())
    }

    /// The tracker that was named, or used last, or is found; its key is confirmed, so that a password may go there.
    /// `again` is the command that asks.
    async fn tracker_for_password(&self, profile: &Profile, again: &str) -> Result<TrackerAddress, Error> {
        let choice = match self.known_tracker(profile)? {
            Some(address) => TrackerChoice { address, announced: None, policy: self.key_policy },
            None => tracker_selection::select_tracker(self, again).await?,
        };
        tracker_confirmation::confirm_tracker(self, profile, &choice, again).await?;
        Ok(choice.address)
    }

    /// The tracker that was named, or used last.
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
                // A closed pipe shows again at the data that follows.
                let _ = output.print_object("notice", &json!(notice));
            } else {
                output.note(&notice_line(&notice));
            }
        })
    }
}
