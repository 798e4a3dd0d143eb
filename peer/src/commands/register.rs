//! The command `peer register`.

use clap::Args;
use localization::tr;
use shared::{NewUserName, UserName};

use super::account_entry::{AccountEntry, print_account};
use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::node_checks::require_no_node;
use super::password_prompt::{PasswordArgs, read_new_password};
use super::tracker_selection::tracker_for_password;
use crate::engine::{Error, tracker_account};

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
