//! The command `peer register`.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::{Fingerprint, NewUserName, UserName};

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::password_prompt::{PasswordArgs, read_new_password};
use super::tracker_selection::tracker_for_password;
use crate::engine::node::running_status;
use crate::engine::{Error, tracker_account};
use crate::net::tracker::TrackerAddress;
use crate::profile::Profile;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer register bob
  peer register bob --tracker 192.0.2.7:8000 --tracker-key FINGERPRINT
  pass show vizinho | peer register bob --password-file - --tracker-key FINGERPRINT",
    notes: "\
The tracker prints the line to use when it starts, and `tracker status` prints it again. Without --tracker the \
tracker is looked for on the local network, and you are asked whether its key is the one in that line: the \
password goes to no other tracker.

A name that can be taken for somebody else's is refused: BOB, b0b and b.ob once there is a bob. So `peer chat BOB` \
finds bob.",
};

/// Make an account at the tracker, for this machine.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct RegisterArgs {
    /// A letter or a digit, then up to 31 of A-Z a-z 0-9 _ . -
    user: NewUserName,
    #[command(flatten)]
    password: PasswordArgs,
}

pub(super) async fn run(context: &CommandContext, args: RegisterArgs) -> Result<(), Error> {
    let (user, source) = (UserName::from(args.user), args.password.source());
    let profile = context.profile_for_sign_in()?;
    require_no_node(&profile).await?;
    let tracker = tracker_for_password(context, &profile, &format!("register {user}")).await?;
    // After the tracker's key is confirmed: nobody should type a password for a wrong tracker.
    let password = read_new_password(context, &source, &tr!("Password:")).await?;
    let notify = context.notify();
    let fingerprint = tracker_account::register(&profile, &tracker, &notify, user.clone(), password, None).await?;
    print_account(context, AccountEntry::Registration, &user, &tracker, fingerprint)
}

/// Rejects a change of the account while a node uses it.
pub(super) async fn require_no_node(profile: &Profile) -> Result<(), Error> {
    match running_status(profile).await? {
        None => Ok(()),
        Some(status) => Err(Error::Usage(tr!(
            "{user} is online on this machine (process {pid}): run `peer stop` first, or use --home DIR for a second account",
            user = status.user,
            pid = status.pid
        ))),
    }
}

/// The way in which the profile got its account.
#[derive(Debug, Clone, Copy)]
pub(super) enum AccountEntry {
    Registration,
    Login,
}

/// Prints the account that the profile now has.
pub(super) fn print_account(
    context: &CommandContext,
    how: AccountEntry,
    user: &UserName,
    tracker: &TrackerAddress,
    fingerprint: Fingerprint,
) -> Result<(), Error> {
    if context.output.is_json() {
        let fields = json!({ "user": user, "fingerprint": fingerprint, "tracker": tracker.to_string() });
        return Ok(context.output.print_object("account", &fields)?);
    }
    context.output.note(&match how {
        AccountEntry::Registration => {
            tr!("registered {user} at {tracker}; your key is {fingerprint}", user, tracker, fingerprint)
        }
        AccountEntry::Login => {
            tr!("logged in as {user} at {tracker}; your key is {fingerprint}", user, tracker, fingerprint)
        }
    });
    context.output.note(&tr!("next: `peer share PATH`, then `peer serve`; `peer list` shows who is online"));
    Ok(())
}
