//! The command `peer stop`.

use clap::Args;
use localization::tr;
use serde_json::json;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use crate::engine::node::{NodeLifetime, running_status, stop_running};
use crate::engine::{Error, ErrorKind};
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer stop
  peer --home ~/second stop",
    notes: "\
It ends `peer serve`, whoever started it, and waits until it has left the tracker. The account, its messages and its \
shares stay: `peer serve` goes online again. Where nothing runs there is nothing to do, which is success. A window that \
was open beside it goes on and stays online by itself. `peer logout` forgets the account on this machine as well.",
};

/// Go offline: end the running `peer serve`; the account stays.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct StopArgs {}

pub(super) async fn run(context: &CommandContext) -> Result<(), Error> {
    let profile = context.existing_profile(Access::Use)?;
    let status = running_status(&profile).await?;
    if let Some(status) = &status {
        // Such a node is part of a program that needs it: its own end is the way to end it.
        let (pid, user) = (status.pid, &status.user);
        let refusal = match status.lifetime {
            NodeLifetime::Lasting => None,
            NodeLifetime::View => {
                Some(tr!("process {pid} keeps {user} online for a window, which ends with it: close that", pid, user))
            }
            NodeLifetime::Command => Some(tr!(
                "process {pid} keeps {user} online for a command, which ends with it: wait for that, or interrupt it",
                pid,
                user
            )),
        };
        if let Some(message) = refusal {
            return Err(Error::Relayed { kind: ErrorKind::Refused, message });
        }
        stop_running(&profile).await?;
    }
    let (user, pid) = (status.as_ref().map(|status| &status.user), status.as_ref().map(|status| status.pid));
    if context.output.is_json() {
        let fields = json!({ "was_running": status.is_some(), "user": user, "pid": pid });
        return Ok(context.output.print_object("stopped", &fields)?);
    }
    context.output.note(&match &status {
        Some(status) => tr!("{user} is offline; `peer serve` goes online again", user = status.user),
        None => tr!("nothing to stop: no `peer serve` runs for this account"),
    });
    Ok(())
}
