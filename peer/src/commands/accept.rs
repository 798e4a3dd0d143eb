//! The command `peer accept`.

use std::path::PathBuf;

use clap::Args;
use localization::tr;
use shared::account_name::shell_operand;
use shared::names::name_encoding::display_name;
use shared::safe_text::safe_path;
use shared::{Fingerprint, UserName};

use super::accepts::{end_rule, print_accepts};
use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::user_resolution::{LookupScope, resolve_arguments};
use super::value_parsers::parse_size;
use super::waiting_sends::take_waiting;
use crate::engine::receipt_delivery::deliver_receipts;
use crate::engine::send_intake::{check_accept_folder, decline_send, default_accept_folder};
use crate::engine::{Error, ErrorKind, LocalUser, now_ms, run_blocking};
use crate::profile::{AcceptRule, Access, IncomingSend};
use crate::ui::format_size;

/// Bytes within 24 hours, unless something else is said.
const DEFAULT_MAX_BYTES: &str = "2G";

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer accept bob --into ~/From-bob
  peer accept bob --max 500M
  peer accepts end bob",
    notes: "\
From then on `peer serve` takes what bob sends by itself, and what waits is fetched now. It is a decision for his \
present key: when that changes, it is over. Only what is sent directly comes unasked, nothing of rooms.

Nothing is overwritten: a file whose name is taken gets another one. Names that begin with a dot are not taken, no \
file becomes executable, and the home folder itself and the folders of accounts can't be the destination. Within 24 \
hours it takes at most --max bytes and 10,000 files, and it leaves 1 GiB of the disk free; what is beyond waits, and \
`peer accepts` lists it. Exactly what was announced is fetched, or nothing.",
};

/// Take what somebody sends unasked; without a name show who is accepted and what waits.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct AcceptArgs {
    /// Who may send.
    user: Option<UserName>,
    /// The folder that takes it [default: ~/From-USER].
    #[arg(long, value_name = "DIR", requires = "user")]
    into: Option<PathBuf>,
    /// Bytes within 24 hours.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = DEFAULT_MAX_BYTES)]
    max: u64,
    /// Take only what waits now, and ask again the next time.
    #[arg(long, requires = "user", conflicts_with_all = ["end", "decline"])]
    ask: bool,
    /// End it: the older form of `peer accepts end`.
    #[arg(long, hide = true, requires = "user", conflicts_with_all = ["into", "decline"])]
    end: bool,
    /// Decline what waits, which the sender is told; all, or under this name.
    #[arg(long, value_name = "NAME", requires = "user", num_args = 0..=1, conflicts_with = "into")]
    decline: Option<Option<String>>,
}

pub(super) async fn run(context: &CommandContext, args: AcceptArgs) -> Result<(), Error> {
    let AcceptArgs { user, into, max, ask, end, decline } = args;
    let Some(mut user) = user else { return print_accepts(context) };
    let me = context.me(Access::Use)?;
    resolve_arguments(context, &me, LookupScope::Local, [&mut user]).await?;
    if let Some(name) = decline {
        return context.until_cancelled(decline_waiting(context, &me, &user, name.as_deref())).await;
    }
    if end {
        return end_rule(context, &me, &user);
    }
    let folder = into.or_else(|| default_accept_folder(&user));
    let folder = folder.ok_or_else(|| Error::Usage(tr!("there is no home folder: name a folder with --into DIR")))?;
    let key = if ask { None } else { Some(pinned_key(&me, &user)?) };
    // Absolute: the node that fetches into it has another working folder.
    let (profile, wanted) = (me.profile.clone(), std::path::absolute(&folder).map_err(Error::disk(&folder))?);
    let folder = run_blocking(move || check_accept_folder(&profile, &wanted)).await?;
    if let Some(fingerprint) = key {
        let (user, folder) = (user.clone(), folder.clone());
        let rule = AcceptRule { user, fingerprint, folder, max_bytes: max, since: now_ms(), is_paused: false };
        // First, so that the rule holds for what comes while the waiting ones are fetched.
        begin_rule(context, &me, rule)?;
    }
    take_waiting(context, &me, &user, &folder, ask).await
}

/// Returns the key on record, for which alone a rule can be.
fn pinned_key(me: &LocalUser, user: &UserName) -> Result<Fingerprint, Error> {
    let who = shell_operand(user);
    let Some(known) = me.profile.known_user(user)? else {
        let message = tr!(
            "no key of {user} is on record: `peer verify {who}` meets them, and then `peer accept {who}`",
            user,
            who
        );
        return Err(Error::Relayed { kind: ErrorKind::Unavailable, message });
    };
    if me.profile.is_blocked(user)? {
        return Err(Error::Usage(tr!("you block {user}: run `peer unblock {who}` first", user, who)));
    }
    Ok(known.fingerprint)
}

fn begin_rule(context: &CommandContext, me: &LocalUser, rule: AcceptRule) -> Result<(), Error> {
    me.profile.put_accept_rule(&rule)?;
    let AcceptRule { user, folder, max_bytes, .. } = rule;
    // Who is accepted to send is accepted to write.
    me.profile.accept(&user)?;
    context.output.note(&tr!(
        "what {user} sends goes to {folder}, at most {max} a day, while `peer serve` runs; `peer accepts end {who}` ends it",
        user,
        folder = safe_path(folder),
        max = format_size(max_bytes),
        who = shell_operand(&user)
    ));
    Ok(())
}

async fn decline_waiting(
    context: &CommandContext,
    me: &LocalUser,
    user: &UserName,
    name: Option<&str>,
) -> Result<(), Error> {
    let is_meant = |send: &&IncomingSend| name.is_none_or(|name| send.send.name.as_str() == name.trim_end_matches('/'));
    let waiting = me.profile.incoming_sends(Some(user))?;
    let meant: Vec<&IncomingSend> = waiting.iter().filter(is_meant).collect();
    if meant.is_empty() {
        return Err(Error::Usage(tr!("nothing like that of {user} waits: `peer accepts` lists what does", user)));
    }
    for send in &meant {
        decline_send(me, send).await?;
        context.output.note(&tr!("declined: {name}", name = display_name(send.send.name.as_str())));
    }
    deliver_receipts(me, vec![user.clone()]).await;
    Ok(())
}
