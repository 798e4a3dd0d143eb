//! The command `peer block`.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::UserName;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::user_resolution::{LookupScope, require_known_user, resolve_arguments};
use crate::engine::Error;
use crate::engine::node::{NodeHandle, NodeNeed};
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer block mallory
  peer block",
    notes: "",
};

/// Block somebody: no messages, offers or downloads; without a name show who is blocked.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct BlockArgs {
    /// Who.
    user: Option<UserName>,
}

pub(super) async fn run(context: &CommandContext, args: BlockArgs) -> Result<(), Error> {
    match args.user {
        Some(user) => block(context, user).await,
        None => print_blocked(context),
    }
}

async fn block(context: &CommandContext, mut user: UserName) -> Result<(), Error> {
    let me = context.me(Access::Use)?;
    resolve_arguments(context, &me, LookupScope::Tracker, [&mut user]).await?;
    if user == me.user {
        return Err(Error::Usage(tr!("{user} is you: you can't block yourself", user)));
    }
    // A name with a slip in it would keep out nobody, and the user would believe otherwise.
    require_known_user(&me, &user).await?;
    NodeHandle::perform_act(&me, NodeNeed::Links, async |node| node.block(&user).await).await?;
    context.output.note(&tr!("blocked {user}: no messages, offers or downloads", user));
    Ok(())
}

fn print_blocked(context: &CommandContext) -> Result<(), Error> {
    let blocked = context.me(Access::Look)?.profile.blocked()?;
    for user in &blocked {
        if context.output.is_json() {
            context.output.print_object("blocked", &json!({ "user": user }))?;
        } else {
            context.output.print_data(user.as_str())?;
        }
    }
    if blocked.is_empty() {
        context.output.note(&tr!("nobody is blocked: `peer block USER` blocks somebody"));
    }
    Ok(())
}
