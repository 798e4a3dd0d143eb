//! The commands `peer trust` and `verify`.

use std::io::{self, IsTerminal};

use serde_json::json;
use shared::account_name::shell_operand;
use shared::fingerprint::safety_number;
use shared::{Fingerprint, UserName};

use super::CommandContext;
use super::password_prompt::ask_yes_no;
use crate::engine::node::control::{ControlAction, NodeClient};
use crate::engine::{Error, LocalUser, now_s, peer_lookup};
use crate::net::tracker::TrackerAddress;
use crate::profile::{KnownTracker, KnownUser, Profile, TrackerKeyTrust};
use crate::ui::date;

pub(super) async fn trust_user(
    context: &CommandContext,
    user: &UserName,
    replace: Option<Fingerprint>,
    yes: bool,
) -> Result<(), Error> {
    let me = context.me()?;
    reject_own_name(&me, user)?;
    if let Some(fingerprint) = replace {
        // Before the question: a key that belongs to another user is wrong in any case.
        peer_lookup::check_key_replacement(&me, user, fingerprint).await?;
        let again = format!("peer trust --yes --replace {fingerprint} {}", shell_operand(user));
        if !confirm_key(context, &format!("Trust the key {fingerprint} for {user} from now on?"), yes, &again).await? {
            return Ok(());
        }
        me.profile.trust(user, fingerprint, false, now_s())?;
        // Messages held back because of the changed key may now be delivered.
        if let Some(mut node) = NodeClient::connect(&me.profile).await? {
            node.perform(ControlAction::Wake { user: Some(user.clone()) }).await?;
        }
        context.output.note(&format!(
            "the key of {user} is {fingerprint} from now on; `peer verify {}` to be sure",
            shell_operand(user)
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
    let state = if verified { "verified" } else { "not verified" };
    Ok(context.output.print_data(&format!("{user} {fingerprint} first met {}, {state}", date(first_seen)))?)
}

/// Rejects the profile's own user, whose key is never pinned.
fn reject_own_name(me: &LocalUser, user: &UserName) -> Result<(), Error> {
    if *user == me.user {
        return Err(Error::Usage(format!("{user} is you: `peer whoami` shows your key")));
    }
    Ok(())
}

pub(super) async fn trust_tracker(
    context: &CommandContext,
    replace: Option<Fingerprint>,
    yes: bool,
) -> Result<(), Error> {
    let profile = match Profile::open_existing(&context.home, context.access)? {
        Some(profile) => profile,
        None => context.profile()?,
    };
    let address = context.known_tracker(&profile)?.unwrap_or_else(TrackerAddress::on_this_machine).to_string();
    if let Some(fingerprint) = replace {
        let again = format!("peer trust --the-tracker --replace {fingerprint} --yes");
        let question = format!("Trust the key {fingerprint} for the tracker {address} from now on?");
        if !confirm_key(context, &question, yes, &again).await? {
            return Ok(());
        }
        profile.replace_tracker_key(&address, &fingerprint)?;
        context.output.note(&format!("the key of the tracker {address} is {fingerprint} from now on"));
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
        None => "not contacted yet".to_owned(),
        Some(KnownTracker { fingerprint, trust: TrackerKeyTrust::Confirmed }) => format!("{fingerprint} confirmed"),
        Some(KnownTracker { fingerprint, trust: TrackerKeyTrust::Seen }) => {
            format!("{fingerprint} seen, not confirmed: no password goes there")
        }
    };
    Ok(context.output.print_data(&format!("{address} {standing}"))?)
}

pub(super) async fn verify_user(context: &CommandContext, user: &UserName, yes: bool) -> Result<(), Error> {
    let me = context.me()?;
    reject_own_name(&me, user)?;
    let Some(friend) = me.profile.known_user(user)? else {
        return Err(Error::Usage(format!(
            "you haven't connected to {user} yet: `peer trust {}` does, while {user} is online",
            shell_operand(user)
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
        context.output.note(&format!(
            "{user} sees the same number with `peer verify {}`: compare them aloud",
            shell_operand(&me.user)
        ));
    }
    let matches = yes || (!friend.verified && ask_yes_no(context, "Are they the same?").await?);
    if matches {
        me.profile.trust(user, friend.fingerprint, true, now_s())?;
        context.output.note(&format!("{user} is verified"));
    } else if friend.verified {
        context.output.note(&format!("{user} was verified before"));
    }
    Ok(())
}

/// Returns whether the user agrees. Without a terminal only `yes` agrees: a script that pastes lines can't judge a key.
async fn confirm_key(context: &CommandContext, question: &str, yes: bool, again: &str) -> Result<bool, Error> {
    if yes {
        return Ok(true);
    }
    if context.no_input || !io::stdin().is_terminal() {
        return Err(Error::Usage(format!(
            "nobody can be asked here whether the key is right: if it is, run\n  {again}"
        )));
    }
    let agreed = ask_yes_no(context, question).await?;
    if !agreed {
        context.output.note("nothing was changed");
    }
    Ok(agreed)
}
