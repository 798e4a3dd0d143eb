//! The command `peer trust`.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::account_name::shell_operand;
use shared::{Fingerprint, UserName};

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::questions::{ask_yes_no, require_answerer};
use super::user_resolution::{LookupScope, reject_own_name, resolve_arguments};
use crate::engine::node::{NodeHandle, NodeNeed};
use crate::engine::{Error, now_s, peer_lookup};
use crate::net::tracker::TrackerAddress;
use crate::profile::{Access, KnownTracker, KnownUser, Profile, TrackerKeyTrust};
use crate::ui::date;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer trust bob
  peer trust bob --replace FINGERPRINT
  peer trust --the-tracker",
    notes: "\
A key is remembered at the first contact. Replace it only after bob said by other means that he has a new one; in \
scripts add --yes. For the tracker it also says whether the key was confirmed or only seen: a password goes only \
to a confirmed one.",
};

/// Show the key on record for somebody, or replace it.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct TrustArgs {
    /// Whose.
    #[arg(required_unless_present = "the_tracker", conflicts_with = "the_tracker")]
    user: Option<UserName>,
    /// The tracker's key, not a user's.
    #[arg(long)]
    the_tracker: bool,
    /// Trust this key from now on.
    #[arg(long, value_name = "FINGERPRINT")]
    replace: Option<Fingerprint>,
    /// Replace it without a question.
    #[arg(long, requires = "replace")]
    yes: bool,
}

pub(super) async fn run(context: &CommandContext, args: TrustArgs) -> Result<(), Error> {
    match args.user {
        Some(user) => trust_user(context, user, args.replace, args.yes).await,
        None => trust_tracker(context, args.replace, args.yes).await,
    }
}

const fn access(replace: Option<Fingerprint>) -> Access {
    if replace.is_some() { Access::Use } else { Access::Look }
}

async fn trust_user(
    context: &CommandContext,
    mut user: UserName,
    replace: Option<Fingerprint>,
    yes: bool,
) -> Result<(), Error> {
    let me = context.me(access(replace))?;
    resolve_arguments(context, &me, LookupScope::Tracker, [&mut user]).await?;
    let user = &user;
    reject_own_name(&me, user)?;
    if let Some(fingerprint) = replace {
        // Before the question: a key that belongs to another user is wrong in any case.
        peer_lookup::check_key_replacement(&me, user, fingerprint).await?;
        let again = format!("peer trust --yes --replace {fingerprint} {}", shell_operand(user));
        if !confirm_key(
            context,
            &tr!("Trust the key {fingerprint} for {user} from now on?", fingerprint, user),
            yes,
            &again,
        )
        .await?
        {
            return Ok(());
        }
        me.profile.trust(user, fingerprint, false, now_s())?;
        // Messages held back because of the changed key may now be delivered.
        NodeHandle::perform_act(&me, NodeNeed::Links, async |node| node.wake(Some(user)).await).await?;
        context.output.note(&tr!(
            "the key of {user} is {fingerprint} from now on; `peer verify {who}` to be sure",
            user,
            fingerprint,
            who = shell_operand(user)
        ));
        return Ok(());
    }
    let friend = match me.profile.known_user(user)? {
        Some(friend) => friend,
        // Never met: a connection pins the user's key, which is then shown.
        None => {
            peer_lookup::find_target(&me, user).await?;
            me.profile.known_user(user)?.ok_or_else(|| Error::UnknownUser(user.clone()))?
        }
    };
    let KnownUser { fingerprint, first_seen, verified, .. } = friend;
    if context.output.is_json() {
        let fields =
            json!({ "user": user, "fingerprint": fingerprint, "first_seen": first_seen, "verified": verified });
        return Ok(context.output.print_object("trust", &fields)?);
    }
    let date = date(first_seen);
    Ok(context.output.print_data(&match verified {
        true => tr!("{user} {fingerprint} first met {date}, verified", user, fingerprint, date),
        false => tr!("{user} {fingerprint} first met {date}, not verified", user, fingerprint, date),
    })?)
}

async fn trust_tracker(context: &CommandContext, replace: Option<Fingerprint>, yes: bool) -> Result<(), Error> {
    let profile = match Profile::open_existing(&context.home, access(replace))? {
        Some(profile) => profile,
        // A tracker's key can be set before there is an account.
        None => context.profile()?,
    };
    let address = context.known_tracker(&profile)?.unwrap_or_else(TrackerAddress::on_this_machine).to_string();
    if let Some(fingerprint) = replace {
        let again = format!("peer trust --the-tracker --replace {fingerprint} --yes");
        let question = tr!("Trust the key {fingerprint} for the tracker {address} from now on?", fingerprint, address);
        if !confirm_key(context, &question, yes, &again).await? {
            return Ok(());
        }
        profile.replace_tracker_key(&address, &fingerprint)?;
        context.output.note(&tr!(
            "the key of the tracker {address} is {fingerprint} from now on",
            address,
            fingerprint
        ));
        return Ok(());
    }
    let known = profile.tracker_at(&address)?;
    let fingerprint = known.map(|known| known.fingerprint);
    let is_confirmed = known.map(|known| known.trust == TrackerKeyTrust::Confirmed);
    if context.output.is_json() {
        let fields = json!({ "tracker": address, "fingerprint": fingerprint, "confirmed": is_confirmed });
        return Ok(context.output.print_object("trust", &fields)?);
    }
    let standing = match known {
        None => tr!("not contacted yet"),
        Some(KnownTracker { fingerprint, trust: TrackerKeyTrust::Confirmed }) => {
            tr!("{fingerprint} confirmed", fingerprint)
        }
        Some(KnownTracker { fingerprint, trust: TrackerKeyTrust::Seen }) => {
            tr!("{fingerprint} seen, not confirmed: no password goes there", fingerprint)
        }
    };
    Ok(context.output.print_data(&format!("{address} {standing}"))?)
}

/// Returns whether the user agrees. Where nobody can be asked only `yes` agrees: a script that pastes lines can't judge a key.
async fn confirm_key(context: &CommandContext, question: &str, yes: bool, again: &str) -> Result<bool, Error> {
    if yes {
        return Ok(true);
    }
    require_answerer(context, || {
        let advice = tr!("nobody can be asked here whether the key is right: if it is, run");
        format!("{advice}\n  {again}")
    })?;
    let agreed = ask_yes_no(context, question).await?;
    if !agreed {
        context.output.note(&tr!("nothing was changed"));
    }
    Ok(agreed)
}
