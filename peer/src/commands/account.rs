//! `peer register`, `login`, `passwd`, `logout`, `whoami`.

use std::time::Duration;

use serde_json::json;
use shared::safe_text::safe_path;
use shared::tracker::Password;
use shared::{Fingerprint, UserName};

use super::first_contact::{self, TrackerChoice};
use super::password::{change_of_password, new_password, password};
use super::{Context, PasswordSource};
use crate::engine::account::PasswordChange;
use crate::engine::node::control::{NodeClient, Status};
use crate::engine::{Error, account};
use crate::net::tracker::TrackerAddress;
use crate::profile::Profile;
use crate::ui::elsewhere_words;

/// For the tracker to say whether this machine still is the account's; without its word all is as far as it is known here.
const ASKED_FOR: Duration = Duration::from_secs(1);

pub(super) async fn register(context: &Context, user: UserName, source: &PasswordSource) -> Result<(), Error> {
    let profile = context.profile()?;
    refuse_beside_node(&profile).await?;
    let tracker = context.tracker_for_password(&profile, &format!("register {user}")).await?;
    let password = new_password(context, source).await?;
    let fingerprint = account::register(&profile, &tracker, &context.notify(), user.clone(), password).await?;
    tell_account(context, "registered", &user, &tracker, fingerprint)
}

pub(super) async fn login(
    context: &Context,
    user: UserName,
    source: &PasswordSource,
    rebind: bool,
) -> Result<(), Error> {
    let profile = context.profile()?;
    refuse_beside_node(&profile).await?;
    let tracker = context.tracker_for_password(&profile, &format!("login {user}")).await?;
    let passwords = password(context, source).await?;
    let notify = context.notify();
    let login = async |password| account::login(&profile, &tracker, &notify, user.clone(), password, rebind).await;
    let fingerprint = passwords.each(login).await?;
    tell_account(context, "logged in as", &user, &tracker, fingerprint)
}

/// Through the node where one runs: its session is the one that asks, and stays.
pub(super) async fn passwd(context: &Context, source: &PasswordSource) -> Result<(), Error> {
    let me = context.me()?;
    let place = TrackerChoice { address: me.tracker.clone(), announced: None, policy: context.key_policy };
    first_contact::confirm(context, &me.profile, &place, "passwd").await?;
    let check = async |password: Password| account::check_password(&me, password.clone()).await.map(|()| password);
    let (current, new) = change_of_password(context, source, check).await?;
    let change = async |present| {
        let change = PasswordChange { present, new: new.clone() };
        match NodeClient::connect(&me.profile).await? {
            Some(mut node) => node.passwd(&change).await,
            None => account::passwd(&mut me.connect_tracker().await?, me.user.clone(), change).await,
        }
    };
    current.each(change).await?;
    if context.output.is_json() {
        return Ok(context.output.object("password_changed", &json!({ "user": me.user }))?);
    }
    context.output.note(&format!("the password of {} is changed", me.user));
    Ok(())
}

pub(super) async fn logout(context: &Context) -> Result<(), Error> {
    let profile = context.existing_profile()?;
    let account = profile.account()?.ok_or(Error::NotLoggedIn)?;
    // Before the node ends: those who listen to it would begin another one of their own.
    account::logout(&profile)?;
    if let Err(error) = end_node(&profile).await {
        profile.set_account(&account)?;
        return Err(error);
    }
    let user = account.user;
    context.output.note(&if profile.has_key() {
        format!("logged out {user}; the key and the shares stay on this machine")
    } else {
        format!("logged out {user}; the shares stay on this machine, its key is lost: `peer login {user} --rebind` makes another")
    });
    Ok(())
}

async fn end_node(profile: &Profile) -> Result<(), Error> {
    if let Some(node) = NodeClient::connect(profile).await? {
        node.stop().await?;
        // It still has to leave the tracker; whoever starts another node next must find this one gone.
        profile.await_node_end().await?;
    }
    Ok(())
}

pub(super) async fn whoami(context: &Context) -> Result<(), Error> {
    let me = context.me()?;
    let node = match NodeClient::connect(&me.profile).await? {
        Some(mut node) => Some(node.status().await?),
        None => None,
    };
    let loss = if node.is_none() { account::loss(&me, ASKED_FOR).await } else { None };
    let (fingerprint, shares) = (me.identity.fingerprint(), me.profile.share_count()?);
    let elsewhere = node.as_ref().and_then(|node| node.elsewhere);
    let address = node.as_ref().and_then(|node| node.address).map(|address| address.to_string());
    if context.output.is_json() {
        return Ok(context.output.object(
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
        (Some(Status { elsewhere: Some(elsewhere), .. }), None) => {
            format!("no: {} (`peer serve` takes over here)", elsewhere_words(&elsewhere))
        }
        (Some(_), None) => "no: a node runs and waits for the tracker".to_owned(),
        (None, None) => loss.map_or_else(|| "no".to_owned(), |loss| format!("no: {loss}")),
    };
    for (label, value) in [
        ("user", me.user.to_string()),
        ("key", fingerprint.to_string()),
        ("tracker", me.tracker.to_string()),
        ("profile", safe_path(me.profile.home())),
        ("shares", shares.to_string()),
        ("online", online),
    ] {
        context.output.data(&format!("{label:8} {value}"))?;
    }
    Ok(())
}

/// Which account this profile has from now on.
fn tell_account(
    context: &Context,
    how: &str,
    user: &UserName,
    tracker: &TrackerAddress,
    fingerprint: Fingerprint,
) -> Result<(), Error> {
    if context.output.is_json() {
        let fields = json!({ "user": user, "fingerprint": fingerprint, "tracker": tracker.to_string() });
        return Ok(context.output.object("account", &fields)?);
    }
    context.output.note(&format!("{how} {user} at {tracker}; your key is {fingerprint}"));
    Ok(())
}

/// An account can't be changed under a node that is using it.
async fn refuse_beside_node(profile: &Profile) -> Result<(), Error> {
    match NodeClient::connect(profile).await? {
        None => Ok(()),
        Some(mut node) => {
            let status = node.status().await?;
            Err(Error::Usage(format!(
                "this profile is online as {} (process {}): run `peer logout` first, or use another profile with --home",
                status.user, status.pid
            )))
        }
    }
}
