//! The command `peer unblock`.

use clap::Args;
use localization::tr;
use shared::UserName;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::user_resolution::{LookupScope, resolve_arguments};
use crate::engine::Error;
use crate::engine::node::{NodeHandle, NodeNeed};
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer unblock mallory
  peer block",
    notes: "",
};

/// Unblock somebody.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct UnblockArgs {
    /// Who.
    user: UserName,
}

pub(super) async fn run(context: &CommandContext, args: UnblockArgs) -> Result<(), Error> {
    let mut user = args.user;
    let me = context.me(Access::Use)?;
    resolve_arguments(context, &me, LookupScope::Local, [&mut user]).await?;
    if !NodeHandle::perform_act(&me, NodeNeed::Store, async |node| node.unblock(&user).await).await? {
        return Err(Error::Usage(tr!("{user} is not blocked: `peer block` shows who is", user)));
    }
    context.output.note(&tr!("unblocked {user}", user));
    Ok(())
}
