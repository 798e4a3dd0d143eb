//! The command `peer logout`.

use clap::Args;
use localization::tr;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use crate::engine::node::stop_running;
use crate::engine::{Error, tracker_account};
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer logout
  peer --home ~/second logout",
    notes: "",
};

/// Go offline and sign out on this machine; the key and the shares stay.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct LogoutArgs {}

pub(super) async fn run(context: &CommandContext) -> Result<(), Error> {
    let profile = context.existing_profile(Access::Use)?;
    let account = profile.account()?.ok_or(Error::NotLoggedIn)?;
    // Before the node ends: views that listen to it would start a node of their own.
    tracker_account::logout(&profile)?;
    if let Err(error) = stop_running(&profile).await {
        // The node still runs with the account: put it back, so that the profile agrees with it.
        profile.set_account(&account)?;
        return Err(error);
    }
    let user = account.user;
    context.output.note(&if profile.has_key() {
        tr!("logged out {user}; their key and shares stay on this machine", user)
    } else {
        tr!("logged out {user}; its key is lost: `peer login {user} --rebind` makes a new one", user)
    });
    Ok(())
}
