//! `peer trust`, `verify`.

use std::io::{self, IsTerminal};

use serde_json::json;
use shared::account_name::operand;
use shared::fingerprint::safety_number;
use shared::{Fingerprint, UserName};

use super::Context;
use super::password::confirm;
use crate::engine::node::control::{Action, NodeClient};
use crate::engine::{Error, Me, contacts, now_s};
use crate::net::tracker::TrackerAddress;
use crate::profile::{Friend, KeyStanding, KnownTracker, Profile};
use crate::ui::date;

pub(super) async fn user(
    context: &Context,
    user: &UserName,
    replace: Option<Fingerprint>,
    yes: bool,
) -> Result<(), Error> {
    let me = context.me()?;
    refuse_oneself(&me, user)?;
    if let Some(fingerprint) = replace {
        contacts::check_replacement(&me, user, fingerprint).await?;
        let again = format!("peer trust --yes --replace {fingerprint} {}", operand(user));
        if !is_sure(context, &format!("Trust the key {fingerprint} for {user} from now on?"), yes, &again).await? {
            return Ok(());
        }
        me.profile.trust(user, fingerprint, false, now_s())?;
        // What was held back because of the change may go.
        if let Some(mut node) = NodeClient::connect(&me.profile).await? {
            node.tell(Action::Wake { user: Some(user.clone()) }).await?;
        }
        context.output.note(&format!(
            "the key of {user} is {fingerprint} from now on; `peer verify {}` to be sure",
            operand(user)
        ));
        return Ok(());
    }
    let friend = match me.profile.friend(user)? {
        Some(friend) => friend,
        None => {
            contacts::find(&me, user).await?;
            me.profile.friend(user)?.ok_or_else(|| Error::UnknownUser(user.clone()))?
        }
    };
    let Friend { fingerprint, first_seen, verified, .. } = friend;
    if context.output.is_json() {
        let fields =
            json!({ "user": user, "fingerprint": fingerprint, "first_seen": first_seen, "verified": verified });
        return Ok(context.output.object("trust", &fields)?);
    }
    let state = if verified { "verified" } else { "not verified" };
    Ok(context.output.data(&format!("{user} {fingerprint} first met {}, {state}", date(first_seen)))?)
}

/// One's own key is no matter of trust.
fn refuse_oneself(me: &Me, user: &UserName) -> Result<(), Error> {
    if *user == me.user {
        return Err(Error::Usage(format!("{user} is you: `peer whoami` shows your key")));
    }
    Ok(())
}

pub(super) async fn tracker(context: &Context, replace: Option<Fingerprint>, yes: bool) -> Result<(), Error> {
    let profile = match Profile::open_existing(&context.home, context.access)? {
        Some(profile) => profile,
        None => context.profile()?,
    };
    let address = context.known_tracker(&profile)?.unwrap_or_else(TrackerAddress::on_this_machine).to_string();
    if let Some(fingerprint) = replace {
        let again = format!("peer trust --the-tracker --replace {fingerprint} --yes");
        let question = format!("Trust the key {fingerprint} for the tracker {address} from now on?");
        if !is_sure(context, &question, yes, &again).await? {
            return Ok(());
        }
        profile.replace_tracker_key(&address, &fingerprint)?;
        context.output.note(&format!("the key of the tracker {address} is {fingerprint} from now on"));
        return Ok(());
    }
    let known = profile.tracker_at(&address)?;
    let fingerprint = known.map(|known| known.fingerprint);
    let is_confirmed = known.map(|known| known.standing == KeyStanding::Confirmed);
    if context.output.is_json() {
        let fields = json!({ "tracker": address, "fingerprint": fingerprint, "confirmed": is_confirmed });
        return Ok(context.output.object("trust", &fields)?);
    }
    let standing = match known {
        None => "not met yet".to_owned(),
        Some(KnownTracker { fingerprint, standing: KeyStanding::Confirmed }) => format!("{fingerprint} confirmed"),
        Some(KnownTracker { fingerprint, standing: KeyStanding::Seen }) => {
            format!("{fingerprint} seen, not confirmed: no password goes there")
        }
    };
    Ok(context.output.data(&format!("{address} {standing}"))?)
}

pub(super) async fn verify(context: &Context, user: &UserName, yes: bool) -> Result<(), Error> {
    let me = context.me()?;
    refuse_oneself(&me, user)?;
    let Some(friend) = me.profile.friend(user)? else {
        return Err(Error::Usage(format!(
            "you haven't connected to {user} yet: `peer trust {}` does, while {user} is online",
            operand(user)
        )));
    };
    let number = safety_number((&me.user, &me.identity.fingerprint()), (user, &friend.fingerprint));
    if context.output.is_json() {
        context
            .output
            .object("verify", &json!({ "user": user, "number": number, "verified": friend.verified || yes }))?;
    } else {
        let groups: Vec<&str> = number.split(' ').collect();
        for row in groups.chunks(4) {
            context.output.data(&row.join(" "))?;
        }
        context
            .output
            .note(&format!("{user} sees the same number with `peer verify {}`: compare them aloud", operand(&me.user)));
    }
    let matches = yes || (!friend.verified && confirm(context, "Are they the same?").await?);
    if matches {
        me.profile.trust(user, friend.fingerprint, true, now_s())?;
        context.output.note(&format!("{user} is verified"));
    } else if friend.verified {
        context.output.note(&format!("{user} was verified before"));
    }
    Ok(())
}

/// Whether somebody at the terminal agrees. Where nobody can be asked, `yes` says so: what pastes a line by itself is no
/// judgement on a key.
async fn is_sure(context: &Context, question: &str, yes: bool, again: &str) -> Result<bool, Error> {
    if yes {
        return Ok(true);
    }
    if context.no_input || !io::stdin().is_terminal() {
        return Err(Error::Usage(format!(
            "nobody can be asked here whether the key is right: if it is, run\n  {again}"
        )));
    }
    let agreed = confirm(context, question).await?;
    if !agreed {
        context.output.note("nothing was changed");
    }
    Ok(agreed)
}
