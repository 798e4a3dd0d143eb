//! The command `peer whoami`.

use std::time::Duration;

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::safe_text::safe_path;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use crate::engine::node::{NodeStatus, running_status};
use crate::engine::{Error, tracker_account};
use crate::profile::Access;
use crate::ui::elsewhere_words;

/// Time for the tracker to say whether this machine still has the account; without an answer the local state is shown.
const LOSS_CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Columns of the labels, at least.
const MIN_LABEL_WIDTH: usize = 8;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer whoami
  peer --json whoami | jq .online",
    notes: "",
};

/// Show the account of this machine, and whether it is online.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct WhoamiArgs {}

pub(super) async fn run(context: &CommandContext) -> Result<(), Error> {
    let me = context.me(Access::Look)?;
    let node = running_status(&me.profile).await?;
    // A running node knows this from its session.
    let loss = if node.is_none() { tracker_account::detect_key_loss(&me, LOSS_CHECK_TIMEOUT).await } else { None };
    let (fingerprint, shares) = (me.identity.fingerprint(), me.profile.share_count()?);
    let elsewhere = node.as_ref().and_then(|node| node.elsewhere);
    let address = node.as_ref().and_then(|node| node.address).map(|address| address.to_string());
    if context.output.is_json() {
        return Ok(context.output.print_object(
            "account",
            &json!({
                "user": me.user,
                "fingerprint": fingerprint,
                "tracker": me.tracker.to_string(),
                "home": me.profile.home().to_string_lossy(),
                "shares": shares,
                "online": address.is_some(),
                "address": address,
                "elsewhere": elsewhere,
                "signed_out": loss.map(|loss| loss.to_string()),
            }),
        )?);
    }
    let online = match (node, address) {
        (_, Some(address)) => tr!("yes, at {address}", address),
        (Some(NodeStatus { elsewhere: Some(elsewhere), .. }), None) => {
            tr!("no: {elsewhere} (`peer serve` takes over here)", elsewhere = elsewhere_words(&elsewhere))
        }
        (Some(_), None) => tr!("no: waiting for the tracker"),
        (None, None) => match loss {
            None => tr!("online" => "no"),
            Some(loss) => tr!("no: {why}", why = loss),
        },
    };
    let rows = [
        (tr!("account" => "user"), me.user.to_string()),
        (tr!("account" => "key"), fingerprint.to_string()),
        (tr!("account" => "tracker"), me.tracker.to_string()),
        (tr!("account" => "home"), safe_path(me.profile.home())),
        (tr!("account" => "shares"), shares.to_string()),
        (tr!("account" => "online"), online),
    ];
    let width = rows.iter().map(|(label, _)| label.chars().count()).fold(MIN_LABEL_WIDTH, usize::max);
    for (label, value) in rows {
        context.output.print_data(&format!("{label:width$} {value}"))?;
    }
    Ok(())
}
