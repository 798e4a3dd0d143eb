//! The command `peer verify`.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::UserName;
use shared::account_name::shell_operand;
use shared::fingerprint::safety_number;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::questions::ask_yes_no;
use super::user_resolution::{LookupScope, reject_own_name, resolve_arguments};
use crate::engine::{Error, now_s};
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer verify bob
  peer verify bob --yes",
    notes: "\
Both see the same 60 digits: compare them aloud, or face to face. The same number means that nobody is in between.",
};

/// Compare keys with somebody by a number to read aloud.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct VerifyArgs {
    /// With whom.
    user: UserName,
    /// The numbers are the same: record it without a question.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(context: &CommandContext, args: VerifyArgs) -> Result<(), Error> {
    let VerifyArgs { mut user, yes } = args;
    let me = context.me(Access::Look)?;
    resolve_arguments(context, &me, LookupScope::Tracker, [&mut user]).await?;
    let user = &user;
    reject_own_name(&me, user)?;
    let Some(friend) = me.profile.known_user(user)? else {
        return Err(Error::Usage(tr!(
            "you haven't connected to {user} yet: `peer trust {who}` does, while {user} is online",
            user,
            who = shell_operand(user)
        )));
    };
    let number = safety_number((&me.user, &me.identity.fingerprint()), (user, &friend.fingerprint));
    if context.output.is_json() {
        context
            .output
            .print_object("verify", &json!({ "user": user, "number": number, "verified": friend.verified || yes }))?;
    } else {
        let groups: Vec<&str> = number.split(' ').collect();
        for row in groups.chunks(4) {
            context.output.print_data(&row.join(" "))?;
        }
        context.output.note(&tr!(
            "{user} sees the same number with `peer verify {me}`: compare them aloud",
            user,
            me = shell_operand(&me.user)
        ));
    }
    // Asked once: later runs only show the number again.
    let matches = yes || (!friend.verified && ask_yes_no(context, &tr!("Are they the same?")).await?);
    if matches {
        // The key whose number was compared: by now another may be on record.
        me.profile.trust(user, friend.fingerprint, true, now_s())?;
        context.output.note(&tr!("{user} is verified", user));
    } else if friend.verified {
        context.output.note(&tr!("{user} was verified before", user));
    }
    Ok(())
}
