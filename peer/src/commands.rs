//! The commands of `peer`, a file each: its arguments, the texts of its help, and its `run`.

mod accept;
mod accepts;
mod block;
mod chat;
mod clip;
pub(crate) mod completions;
pub(crate) mod config;
mod doctor;
pub mod events;
mod fetch;
mod files;
mod find;
mod follows;
mod history;
mod inbox;
mod link;
mod list;
mod login;
mod logout;
mod missed_messages;
mod mute;
mod notify;
mod offer;
mod outbox;
mod passwd;
mod profile;
mod register;
mod room;
mod rooms;
mod send;
mod sends;
mod serve;
mod share;
mod shares;
mod stop;
mod trust;
mod ui;
mod unblock;
mod unshare;
mod verify;
mod web;
mod whoami;
mod wish;
mod wishes;

// What several of them need.
mod account_entry;
mod bell;
mod clipboard_errors;
pub(crate) mod command_help;
mod common_words;
pub(crate) mod context;
mod file_hashing;
mod lasting_action;
mod message_delivery;
mod name_suggestions;
mod node_checks;
mod own_address;
mod password_prompt;
mod questions;
mod tracker_confirmation;
mod tracker_selection;
mod user_resolution;
mod value_parsers;
mod view_session;
mod waiting_sends;

use clap::Subcommand;
use shared::tracker::TrackerErrorCode;

use self::context::CommandContext;
use self::name_suggestions::suggest_names;
use crate::engine::Error;
use crate::net::TrackerError;
use crate::profile::Access;
use crate::sys::job_control;

/// A command with its arguments, in the order of the help.
#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    Register(register::RegisterArgs),
    Login(login::LoginArgs),
    Passwd(passwd::PasswdArgs),
    Logout(logout::LogoutArgs),
    Stop(stop::StopArgs),
    Whoami(whoami::WhoamiArgs),
    Doctor(doctor::DoctorArgs),
    Share(share::ShareArgs),
    Unshare(unshare::UnshareArgs),
    Shares(shares::SharesArgs),
    Serve(serve::ServeArgs),
    List(list::ListArgs),
    Find(find::FindArgs),
    Wish(wish::WishArgs),
    Wishes(wishes::WishesArgs),
    Files(files::FilesArgs),
    Fetch(fetch::FetchArgs),
    Follows(follows::FollowsArgs),
    Chat(chat::ChatArgs),
    Ui(ui::UiArgs),
    History(history::HistoryArgs),
    Room(room::RoomArgs),
    Rooms(rooms::RoomsArgs),
    Inbox(inbox::InboxArgs),
    Outbox(outbox::OutboxArgs),
    Offer(offer::OfferArgs),
    Send(send::SendArgs),
    Sends(sends::SendsArgs),
    Clip(clip::ClipArgs),
    Link(link::LinkArgs),
    Web(web::WebArgs),
    Accept(accept::AcceptArgs),
    Accepts(accepts::AcceptsArgs),
    Block(block::BlockArgs),
    Unblock(unblock::UnblockArgs),
    Mute(mute::MuteArgs),
    Unmute(mute::UnmuteArgs),
    Notify(notify::NotifyArgs),
    Events(events::EventsArgs),
    Trust(trust::TrustArgs),
    Verify(verify::VerifyArgs),
    Profile(profile::ProfileArgs),
    Config(config::ConfigArgs),
    Completions(completions::CompletionsArgs),
}

impl Default for CliCommand {
    fn default() -> Self {
        Self::Ui(ui::UiArgs {})
    }
}

impl CliCommand {
    /// Runs the command to its end. Fails with [`Error`]; the caller prints it and picks the exit code.
    pub(crate) async fn run(self, context: &CommandContext) -> Result<(), Error> {
        match self.dispatch(context).await {
            // The user's Ctrl-C while the profile's database was locked ended the wait: report the interrupt.
            Err(Error::Profile(error))
                if error.is_database_held() && job_control::requested_termination().is_some() =>
            {
                Err(Error::Interrupted)
            }
            Ok(()) => Ok(()),
            // Boxed because of its size.
            Err(error) => Err(Box::pin(suggest_names(context, name_signed_out_user(context, error))).await),
        }
    }

    async fn dispatch(self, context: &CommandContext) -> Result<(), Error> {
        match self {
            // These watch the cancellation themselves: they end in order and print a last line.
            Self::Share(args) => share::run(context, args).await,
            // Boxed because of its size.
            Self::Serve(args) => Box::pin(serve::run(context, args)).await,
            Self::Fetch(args) => fetch::run(context, args).await,
            Self::Chat(args) => chat::run(context, args).await,
            Self::Ui(_) => ui::run(context).await,
            Self::Offer(args) => offer::run(context, args).await,
            Self::Send(args) => send::run(context, args).await,
            Self::Link(args) => link::run(context, args).await,
            Self::Web(args) => Box::pin(web::run(context, args)).await,
            Self::Accept(args) => accept::run(context, args).await,
            Self::Accepts(args) => accepts::run(context, args).await,
            Self::Events(_) => events::run(context).await,
            Self::Clip(args) => context.until_cancelled(clip::run(context, args)).await,
            Self::Sends(args) => context.until_cancelled(sends::run(context, args)).await,
            Self::Register(args) => context.until_cancelled(register::run(context, args)).await,
            Self::Login(args) => context.until_cancelled(login::run(context, args)).await,
            Self::Passwd(args) => context.until_cancelled(passwd::run(context, args)).await,
            Self::Logout(_) => context.until_cancelled(logout::run(context)).await,
            Self::Stop(_) => context.until_cancelled(stop::run(context)).await,
            Self::Whoami(_) => context.until_cancelled(whoami::run(context)).await,
            Self::Doctor(args) => context.until_cancelled(doctor::run(context, args)).await,
            Self::Unshare(args) => context.until_cancelled(unshare::run(context, args)).await,
            Self::Shares(_) => shares::run(context),
            Self::Follows(args) => context.until_cancelled(follows::run(context, args)).await,
            Self::List(args) => context.until_cancelled(list::run(context, args)).await,
            Self::Find(args) => context.until_cancelled(find::run(context, args)).await,
            Self::Wish(args) => context.until_cancelled(wish::run(context, args)).await,
            Self::Wishes(args) => context.until_cancelled(wishes::run(context, args)).await,
            Self::Files(args) => context.until_cancelled(files::run(context, args)).await,
            Self::History(args) => context.until_cancelled(history::run(context, args)).await,
            Self::Room(args) => room::run(context, args).await,
            Self::Rooms(args) => context.until_cancelled(rooms::run(context, args)).await,
            Self::Inbox(args) => context.until_cancelled(inbox::run(context, args)).await,
            Self::Outbox(args) => context.until_cancelled(outbox::run(context, args)).await,
            Self::Block(args) => context.until_cancelled(block::run(context, args)).await,
            Self::Unblock(args) => context.until_cancelled(unblock::run(context, args)).await,
            Self::Mute(args) => context.until_cancelled(mute::mute(context, args)).await,
            Self::Unmute(args) => context.until_cancelled(mute::unmute(context, args)).await,
            Self::Notify(args) => notify::run(context, args),
            Self::Trust(args) => context.until_cancelled(trust::run(context, args)).await,
            Self::Verify(args) => context.until_cancelled(verify::run(context, args)).await,
            Self::Profile(args) => profile::run(context, args),
            Self::Config(args) => config::run(context, &args),
            Self::Completions(args) => completions::run(context, &args),
        }
    }

    /// Returns whether the command says by itself what it waits for, or nobody waits for it.
    pub(crate) const fn tells_waits(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Chat(_) | Self::Ui(_) | Self::Events(_))
    }
}

/// Adds the user's name to an error that only says that this machine was signed out.
fn name_signed_out_user(context: &CommandContext, error: Error) -> Error {
    match error {
        Error::Tracker(TrackerError::Refused { refusal, retry_after })
            if refusal.code == TrackerErrorCode::NotLoggedIn =>
        {
            // Only to improve the text: if the profile can't be read, the tracker's own text stays.
            let account = context.existing_profile(Access::Look).ok().and_then(|profile| profile.account().ok()?);
            match account {
                Some(account) => Error::signed_out(account.user, refusal),
                None => TrackerError::Refused { refusal, retry_after }.into(),
            }
        }
        error => error,
    }
}
