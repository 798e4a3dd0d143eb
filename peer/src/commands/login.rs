//! The command `peer login`.

use clap::Args;
use localization::tr;
use shared::UserName;

use super::account_entry::{AccountEntry, print_account};
use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::node_checks::require_no_node;
use super::password_prompt::{PasswordArgs, read_password};
use super::tracker_selection::tracker_for_password;
use crate::engine::{Error, tracker_account};

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer login bob
  peer login bob --rebind
  pass show vizinho | peer login bob --password-file -",
    notes: "\
An account lives on one machine: --rebind moves it here, and signs the other machine out. It also gives the \
account a new key when this machine's is lost; a damaged key file is kept as identity.pem.damaged-N.",
};

/// Sign in to an account that exists.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct LoginArgs {
    /// The account.
    user: UserName,
    #[command(flatten)]
    password: PasswordArgs,
    /// Move the account to this machine; the one where it was is signed out.
    #[arg(long)]
    rebind: bool,
}

pub(super) async fn run(context: &CommandContext, args: LoginArgs) -> Result<(), Error> {
    let LoginArgs { user, password, rebind } = args;
    let profile = context.profile_for_sign_in()?;
    require_no_node(&profile).await?;
    // Before the password is typed: it goes to no tracker whose key isn't confirmed.
    let tracker = tracker_for_password(context, &profile, &format!("login {user}")).await?;
    let passwords = read_password(context, &password.source(), &tr!("Password:")).await?;
    let notify = context.notify();
    let login = async |password| {
        tracker_account::login(&profile, &tracker, &notify, user.clone(), password, rebind, None).await
    };
    let fingerprint = passwords.try_each(login).await?;
    print_account(context, AccountEntry::Login, &user, &tracker, fingerprint)
}
