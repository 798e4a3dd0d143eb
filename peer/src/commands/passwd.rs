//! The command `peer passwd`.

use std::path::PathBuf;

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::tracker::Password;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::password_prompt::{PasswordSource, read_password_change};
use super::tracker_confirmation::{TrackerChoice, confirm_tracker};
use crate::engine::node::{NodeHandle, NodeNeed};
use crate::engine::tracker_account::PasswordChange;
use crate::engine::{Error, tracker_account};
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer passwd
  peer passwd --password-file both.txt",
    notes: "",
};

/// Change the password; the account stays signed in only here.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct PasswdArgs {
    /// File with two lines, the current password and the new one; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Changes the password through the node, if one runs, so that the node's session is the one that asks and stays valid.
pub(super) async fn run(context: &CommandContext, args: PasswdArgs) -> Result<(), Error> {
    let source = PasswordSource::new(args.password_file);
    let me = context.me(Access::Use)?;
    let choice = TrackerChoice { address: me.tracker.clone(), announced: None, policy: context.key_policy };
    // Before a password is asked for: it must not go to a tracker with another key.
    confirm_tracker(context, &me.profile, &choice, "passwd").await?;
    let check =
        async |password: Password| tracker_account::check_password(&me, password.clone()).await.map(|()| password);
    let (current, new) = read_password_change(context, &source, check).await?;
    let change = async |current| {
        let change = PasswordChange { current, new: new.clone() };
        NodeHandle::perform_act(&me, NodeNeed::Links, async |node| node.change_password(change).await).await
    };
    current.try_each(change).await?;
    if context.output.is_json() {
        return Ok(context.output.print_object("password_changed", &json!({ "user": me.user }))?);
    }
    context.output.note(&tr!("changed the password of {user}", user = me.user));
    Ok(())
}
