//! One function a command: each wires the engine to a view.

mod account;
mod background_fetch;
mod bell;
mod chat;
mod connection;
mod discover;
pub mod events;
mod fetch;
mod filter;
mod first_contact;
mod forget;
mod ledger;
mod listing;
mod offer;
mod own_node;
mod password;
mod paths;
mod people;
mod say;
mod serve;
mod session;
mod share;
mod station;
mod take_back;
mod telling;
mod trust;
mod ui;
mod user_names;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use shared::tracker::{ErrorCode, ListPeers, Wanted};
use shared::{FileName, Fingerprint, UserName};
use tokio_util::sync::CancellationToken;

pub use self::fetch::{Differently, FetchWanted};
use self::first_contact::TrackerChoice;
pub use self::forget::ForgetWanted;
pub use self::ledger::Past;
pub use self::people::NotifyChange;
use crate::engine::node::Place;
use crate::engine::serve::Limits;
use crate::engine::tracker_key::KeyPolicy;
use crate::engine::{Error, Me, Notice, Notify};
use crate::net::TrackerError;
use crate::net::tracker::TrackerAddress;
use crate::profile::{Access, Profile};
use crate::sys::job;
use crate::ui::{Interrupts, Output, notice_line};

/// A command with checked arguments.
#[derive(Debug)]
pub enum Command {
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
        place: Place,
        /// How fast others may fetch.
        limits: Limits,
    },
    /// Who is online.
    List {
        /// Who of them.
        wanted: ListPeers,
        /// At most so many.
        most: usize,
    },
    /// Who shares what.
    Find {
        /// By what.
        wanted: Wanted,
        /// At most so many files.
        most: usize,
    },
    /// What somebody offers.
    Files {
        /// Who.
        user: UserName,
        /// Only names that start with this.
        prefix: String,
    },
    /// Get files.
    Fetch(FetchWanted),
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
    History(Past),
    /// Forget what was said.
    Forget(ForgetWanted),
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
        of: Whose,
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
pub enum Whose {
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
pub struct Context {
    /// The profile's folder.
    pub home: PathBuf,
    /// The use that the command makes of the profile.
    pub access: Access,
    /// The tracker, if it was named.
    pub tracker: Option<TrackerAddress>,
    /// What was said of its key.
    pub key_policy: KeyPolicy,
    /// Where text goes.
    pub output: Output,
    /// Whether nothing may be asked.
    pub no_input: bool,
    /// Whether no tracker is looked for on the local network.
    pub no_mdns: bool,
    /// Cancelled at the first Ctrl-C, unless a view takes that as a key.
    pub cancel: CancellationToken,
    /// The view that does.
    pub interrupts: Interrupts,
}

/// Runs a command to its end.
///
/// # Errors
/// [`Error`]; the caller prints it and picks the exit code.
pub async fn run(context: &Context, command: Command) -> Result<(), Error> {
    match run_any(context, command).await {
        // Given up because the user didn't want to wait any longer.
        Err(Error::Profile(error)) if error.is_busy() && job::asked_to_end().is_some() => Err(Error::Interrupted),
        ended => ended.map_err(|error| signed_out(context, error)),
    }
}

/// Says of whom this machine was signed out, where the tracker says only that it was.
fn signed_out(context: &Context, error: Error) -> Error {
    match error {
        Error::Tracker(TrackerError::Refused { refusal, retry_after }) if refusal.code == ErrorCode::NotLoggedIn => {
            let account = context.existing_profile().ok().and_then(|profile| profile.account().ok()?);
            match account {
                Some(account) => Error::signed_out(account.user, refusal),
                None => TrackerError::Refused { refusal, retry_after }.into(),
            }
        }
        error => error,
    }
}

async fn run_any(context: &Context, command: Command) -> Result<(), Error> {
    let command = tokio::select! {
        () = context.cancel.cancelled() => return Err(Error::Interrupted),
        resolved = user_names::resolve(context, command) => resolved?,
    };
    // These end by themselves when they are cancelled, and have something to say then.
    let command = match command {
        Command::Fetch(wanted) => return fetch::run(context, wanted).await,
        Command::Serve { place, limits } => return serve::run(context, place, limits).await,
        Command::Chat { user, text, now } => return chat::run(context, &user, text.as_deref(), now).await,
        Command::Ui => return ui::run(context).await,
        Command::Events => return events::run(context).await,
        Command::Share { paths, name } => return share::share(context, paths, name).await,
        Command::Offer { to, paths, name } => return Box::pin(offer::put(context, &to, paths, name)).await,
        command => command,
    };
    tokio::select! {
        () = context.cancel.cancelled() => Err(Error::Interrupted),
        result = run_short(context, command) => result,
    }
}

async fn run_short(context: &Context, command: Command) -> Result<(), Error> {
    match command {
        Command::Register { user, password } => account::register(context, user, &password).await,
        Command::Login { user, password, rebind } => account::login(context, user, &password, rebind).await,
        Command::Passwd { passwords } => account::passwd(context, &passwords).await,
        Command::Logout => account::logout(context).await,
        Command::Whoami => account::whoami(context).await,
        Command::Unshare { names } => share::unshare(context, &names).await,
        Command::Shares => share::shares(context),
        Command::List { wanted, most } => listing::list(context, wanted, most).await,
        Command::Find { wanted, most } => listing::find(context, wanted, most).await,
        Command::Files { user, prefix } => listing::files(context, &user, &prefix).await,
        Command::Trust { of: Whose::User(user), replace, yes } => trust::user(context, &user, replace, yes).await,
        Command::Trust { of: Whose::Tracker, replace, yes } => trust::tracker(context, replace, yes).await,
        Command::Verify { user, yes } => trust::verify(context, &user, yes).await,
        Command::History(past) => ledger::history(context, &past),
        Command::Forget(wanted) => forget::run(context, &wanted).await,
        Command::KeepHistory { kept_ms } => forget::keep(context, kept_ms),
        Command::Inbox => ledger::inbox(context).await,
        Command::Accept { user } => people::accept(context, &user).await,
        Command::Outbox => ledger::outbox(context),
        Command::OutboxDrop { id } => ledger::drop_waiting(context, &id).await,
        Command::Withdraw { to, names } => offer::withdraw(context, &to, &names).await,
        Command::Offers { to } => offer::list(context, to.as_ref()),
        Command::Block { user } => people::block(context, &user).await,
        Command::Unblock { user } => people::unblock(context, &user),
        Command::Blocked => people::blocked(context),
        Command::Notify(change) => people::notify(context, &change),
        Command::Fetch(_)
        | Command::Serve { .. }
        | Command::Chat { .. }
        | Command::Events
        | Command::Ui
        | Command::Share { .. }
        | Command::Offer { .. } => Err(Error::Internal("this command runs by itself".to_owned())),
    }
}

impl Command {
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
            | Self::Notify(NotifyChange { rings: None, hook: None })
            | Self::Trust { replace: None, .. }
            | Self::Verify { .. } => Access::Look,
            _ => Access::Use,
        }
    }
}

impl Context {
    /// The profile, made if there is none.
    fn profile(&self) -> Result<Profile, Error> {
        Ok(Profile::open(&self.home)?)
    }

    /// The profile, for what makes no sense without one: nothing is made.
    fn existing_profile(&self) -> Result<Profile, Error> {
        Profile::open_existing(&self.home, self.access)?.ok_or(Error::NotLoggedIn)
    }

    fn me(&self) -> Result<Me, Error> {
        Me::load(self.existing_profile()?, self.tracker.clone(), self.key_policy, self.notify())
    }

    /// The tracker that was named, or used last, or is found; its key is confirmed, so that a password may go there.
    /// `again` is the command that asks.
    async fn tracker_for_password(&self, profile: &Profile, again: &str) -> Result<TrackerAddress, Error> {
        let place = match self.known_tracker(profile)? {
            Some(address) => TrackerChoice { address, announced: None, policy: self.key_policy },
            None => discover::tracker(self, again).await?,
        };
        first_contact::confirm(self, profile, &place, again).await?;
        Ok(place.address)
    }

    /// The tracker that was named, or used last.
    fn known_tracker(&self, profile: &Profile) -> Result<Option<TrackerAddress>, Error> {
        if self.tracker.is_some() {
            return Ok(self.tracker.clone());
        }
        profile.last_tracker()?.map(|last| last.parse().map_err(Error::Usage)).transpose()
    }

    fn notify(&self) -> Notify {
        let output = self.output.clone();
        Arc::new(move |notice: Notice| {
            if output.is_json() {
                // A closed pipe shows again at the data that follows.
                let _ = output.object("notice", &json!(notice));
            } else {
                output.note(&notice_line(&notice));
            }
        })
    }
}
