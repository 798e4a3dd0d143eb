//! `peer block`, `unblock`, `notify`.

use std::time::Duration;

use serde_json::json;
use shared::UserName;

use super::{Context, session};
use crate::engine::chat::Standing;
use crate::engine::node::control::{Action, NodeClient};
use crate::engine::{Error, ErrorKind, Me, now_s};

/// How long the tracker is asked whether there is somebody.
const ASKS: Duration = Duration::from_secs(2);

pub(super) async fn block(context: &Context, user: &UserName) -> Result<(), Error> {
    let me = context.me()?;
    if *user == me.user {
        return Err(Error::Usage(format!("{user} is you: you can't block yourself")));
    }
    refuse_nobody(&me, user).await?;
    match NodeClient::connect(&me.profile).await? {
        Some(mut node) => node.tell(Action::Block { user: user.clone() }).await?,
        None => me.profile.block(user, now_s()).map(|_| ())?,
    }
    context.output.note(&format!("blocked {user}: no messages, offers or downloads"));
    Ok(())
}

/// Blocking nobody blocks nobody: a name that is mistyped is refused, if the tracker can be asked. Whoever was met may have
/// no account any more.
async fn refuse_nobody(me: &Me, user: &UserName) -> Result<(), Error> {
    let is_met = me.profile.acquaintances()?.iter().any(|(met, _)| met == user);
    if is_met || me.profile.blocked()?.contains(user) {
        return Ok(());
    }
    match tokio::time::timeout(ASKS, session::look_up(me, user)).await {
        Ok(Ok((false, like))) => {
            let like: Vec<&str> = like.iter().map(UserName::as_str).collect();
            let meant = if like.is_empty() { String::new() } else { format!("; did you mean {}?", like.join(" or ")) };
            let message = format!("there is no user \"{user}\"{meant}");
            Err(Error::Told { kind: ErrorKind::Unavailable, message })
        }
        _ => Ok(()),
    }
}

pub(super) async fn accept(context: &Context, user: &UserName) -> Result<(), Error> {
    let me = context.me()?;
    if *user == me.user {
        return Err(Error::Usage("that is you".to_owned()));
    }
    if me.profile.standing(user)? == Standing::Request(0) {
        refuse_nobody(&me, user).await?;
    }
    match NodeClient::connect(&me.profile).await? {
        Some(mut node) => node.tell(Action::Accept { user: user.clone() }).await?,
        None => me.profile.accept(user).map(|_| ())?,
    }
    context.output.note(&format!("accepted {user}: messages are taken as from anybody with whom you talk"));
    Ok(())
}

pub(super) fn unblock(context: &Context, user: &UserName) -> Result<(), Error> {
    let me = context.me()?;
    if !me.profile.unblock(user)? {
        return Err(Error::Usage(format!("{user} is not blocked: `peer block` shows who is")));
    }
    context.output.note(&format!("unblocked {user}"));
    Ok(())
}

pub(super) fn blocked(context: &Context) -> Result<(), Error> {
    let blocked = context.me()?.profile.blocked()?;
    for user in &blocked {
        if context.output.is_json() {
            context.output.object("blocked", &json!({ "user": user }))?;
        } else {
            context.output.data(user.as_str())?;
        }
    }
    if blocked.is_empty() {
        context.output.note("nobody is blocked: `peer block USER` blocks somebody");
    }
    Ok(())
}

/// What is to change in how the user is told of messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotifyChange {
    /// Whether the terminal rings.
    pub rings: Option<bool>,
    /// The program that is run; no arguments means none.
    pub hook: Option<Vec<String>>,
}

pub(super) fn notify(context: &Context, change: &NotifyChange) -> Result<(), Error> {
    let profile = match change {
        // Whoever only looks leaves no folder behind.
        NotifyChange { rings: None, hook: None } => context.existing_profile()?,
        _ => context.profile()?,
    };
    if let Some(rings) = change.rings {
        profile.set_rings(rings)?;
    }
    if let Some(hook) = &change.hook {
        profile.set_hook(Some(hook.as_slice()).filter(|hook| !hook.is_empty()))?;
    }
    let (rings, hook) = (profile.rings()?, profile.hook()?);
    if context.output.is_json() {
        return Ok(context.output.object("notify", &json!({ "bell": rings, "hook": hook }))?);
    }
    context.output.data(&format!("bell  {}", if rings { "on" } else { "off" }))?;
    let hook = hook.map_or_else(|| "none".to_owned(), |hook| format!("{hook:?}"));
    Ok(context.output.data(&format!("hook  {hook}"))?)
}
