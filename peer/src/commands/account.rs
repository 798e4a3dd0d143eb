//! The commands `peer register`, `login`, `passwd`, `logout` and `whoami`.

use std::time::Duration;

use serde_json::json;
use shared::safe_text::safe_path;
use shared::tracker::Password;
use shared::{Fingerprint, UserName};

use super::password_prompt::{read_new_password, read_password, read_password_change};
use super::tracker_confirmation::{self, TrackerChoice};
use super::{CommandContext, PasswordSource};
use crate::engine::node::control::{NodeClient, NodeStatus};
use crate::engine::tracker_account::PasswordChange;
use crate::engine::{Error, tracker_account};
use crate::net::tracker::TrackerAddress;
use crate::profile::Profile;
use crate::ui::elsewhere_words;

/// Time for the tracker to say whether this machine still has the account; without an answer the local state is shown.
const LOSS_CHECK_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) async fn register(context: &CommandContext, user: UserName, source: &PasswordSource) -> Result<(), Error> {
    let profile = context.profile()?;
    require_no_node(&profile).await?;
    let tracker = context.tracker_for_password(&profile, &format!("register {user}")).await?;
    // After the tracker's key is confirmed: nobody should type a password for a wrong tracker.
    let password = read_new_password(context, source).await?;
    let fingerprint = tracker_account::register(&profile, &tracker, &context.notify(), user.clone(), password).await?;
    print_account(context, "registered", &user, &tracker, fingerprint)
}

pub(super) async fn login(
    context: &CommandContext,
    user: UserName,
    source: &PasswordSource,
    rebind: bool,
) -> Result<(), Error> {
    let profile = context.profile()?;
    require_no_node(&profile).await?;
    let tracker = context.tracker_for_password(&profile, &format!("login {user}")).await?;
    let passwords = read_password(context, source).await?;
    let notify = context.notify();
    let login =
        async |password| tracker_account::login(&profile, &tracker, &notify, user.clone(), password, rebind).await;
    let fingerprint = passwords.try_each(login).await?;
    print_account(context, "logged in as", &user, &tracker, fingerprint)
}

/// Changes the password through the node, if one runs, so that the node's session is the one that asks and stays valid.
pub(super) async fn passwd(context: &CommandContext, source: &PasswordSource) -> Result<(), Error> {
    let me = context.me()?;
    let choice = TrackerChoice { address: me.tracker.clone(), announced: None, policy: context.key_policy };
    tracker_confirmation::confirm_tracker(context, &me.profile, &choice, "passwd").await?;
    let check =
        async |password: Password| tracker_account::check_password(&me, password.clone()).await.map(|()| password);
    let (current, new) = read_password_change(context, source, check).await?;
    let change = async |present| {
        let change = PasswordChange { current: present, new: new.clone() };
        match NodeClient::connect(&me.profile).await? {
            Some(mut node) => node.change_password(&change).await,
            None => tracker_account::change_password(&mut me.connect_tracker().await?, me.user.clone(), change).await,
        }
    };
    current.try_each(change).await?;
    if context.output.is_json() {
        return Ok(context.output.print_object("password_changed", &json!({ "user": me.user }))?);
    }
    context.output.note(&format!("changed the password of {}", me.user));
    Ok(())
}

pub(super) async fn logout(context: &CommandContext) -> Result<(), Error> {
    let profile = context.existing_profile()?;
    let account = profile.account()?.ok_or(Error::NotLoggedIn)?;
    // Before the node ends: views that listen to it would start a node of their own.
    tracker_account::logout(&profile)?;
    if let Err(error) = stop_node(&profile).await {
        // The node still runs with the account: put it back, so that the profile agrees with it.
        profile.set_account(&account)?;
        return Err(error);
    }
    let user = account.user;
    context.output.note(&if profile.has_key() {
        format!("logged out {user}; their key and shares stay on this machine")
    } else {
        format!("logged out {user}; its key is lost: `peer login {user} --rebind` makes a new one")
    });
    Ok(())
}

async fn stop_node(profile: &Profile) -> Result<(), Error> {
    if let Some(node) = NodeClient::connect(profile).await? {
        node.stop().await?;
        // The node still has to leave the tracker; the next command must be able to start another one.
        profile.wait_for_node_exit().await?;
    }
    Ok(())
}

pub(super) async fn whoami(context: &CommandContext) -> Result<(), Error> {
    let me = context.me()?;
    let node = match NodeClient::connect(&me.profile).await? {
        Some(mut node) => Some(node.status().await?),
        None => None,
    };
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
        (_, Some(address)) => format!("yes, at {address}"),
        (Some(NodeStatus { elsewhere: Some(elsewhere), .. }), None) => {
            format!("no: {} (`peer serve` takes over here)", elsewhere_words(&elsewhere))
        }
        (Some(_), None) => "no: waiting for the tracker".to_owned(),
        (None, None) => loss.map_or_else(|| "no".to_owned(), |loss| format!("no: {loss}")),
    };
    for (label, value) in [
        ("user", me.user.to_string()),
        ("key", fingerprint.to_string()),
        ("tracker", me.tracker.to_string()),
        ("home", safe_path(me.profile.home())),
        ("shares", shares.to_string()),
        ("online", online),
    ] {
        context.output.print_data(&format!("{label:8} {value}"))?;
    }
    Ok(())
}

/// Prints the account that the profile now has.
fn print_account(
    context: &CommandContext,
    how: &str,
    user: &UserName,
    tracker: &TrackerAddress,
    fingerprint: Fingerprint,
) -> Result<(), Error> {
    if context.output.is_json() {
        let fields = json!({ "user": user, "fingerprint": fingerprint, "tracker": tracker.to_string() });
        return Ok(context.output.print_object("account", &fields)?);
    }
    context.output.note(&format!("{how} {user} at {tracker}; your key is {fingerprint}"));
    context.output.note("next: `peer share PATH`, then `peer serve`; `peer list` shows who is online");
    Ok(())
}

/// Rejects a change of the account while a node uses it.
async fn require_no_node(profile: &Profile) -> Result<(), Error> {
    match NodeClient::connect(profile).await? {
        None => Ok(()),
        Some(mut node) => {
            let status = node.status().await?;
            Err(Error::Usage(format!(
                "{} is online on this machine (process {}): run `peer logout` first, or use --home DIR for a second account",
                status.user, status.pid
            )))
        }
    }
}
