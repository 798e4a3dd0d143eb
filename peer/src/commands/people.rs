//! `peer block`, `unblock`, `notify`.

use serde_json::json;
use shared::UserName;

use super::Context;
use crate::engine::node::control::{Action, NodeClient};
use crate::engine::{Error, now_s};

pub(super) async fn block(context: &Context, user: &UserName) -> Result<(), Error> {
    let me = context.me()?;
    if *user == me.user {
        return Err(Error::Usage("that is you".to_owned()));
    }
    match NodeClient::connect(&me.profile).await? {
        Some(mut node) => node.tell(Action::Block { user: user.clone() }).await?,
        None => me.profile.block(user, now_s()).map(|_| ())?,
    }
    context.output.note(&format!("{user} is blocked: messages, offers and fetches of theirs are refused"));
    Ok(())
}

pub(super) fn unblock(context: &Context, user: &UserName) -> Result<(), Error> {
    let me = context.me()?;
    if !me.profile.unblock(user)? {
        return Err(Error::Usage(format!("{user} is not blocked: `peer block` shows who is")));
    }
    context.output.note(&format!("{user} is not blocked any more"));
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
    let profile = context.profile()?;
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
