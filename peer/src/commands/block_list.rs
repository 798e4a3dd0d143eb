//! The commands `peer block`, `unblock`, `accept` and `notify`.

use std::time::Duration;

use serde_json::json;
use shared::UserName;

use super::{CommandContext, view_session};
use crate::engine::chat::ConversationStatus;
use crate::engine::node::control::{ControlAction, NodeClient};
use crate::engine::{Error, ErrorKind, LocalUser, now_s};

/// Time for the tracker to say whether a user exists.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn block(context: &CommandContext, user: &UserName) -> Result<(), Error> {
    let me = context.me()?;
    if *user == me.user {
        return Err(Error::Usage(format!("{user} is you: you can't block yourself")));
    }
    require_known_user(&me, user).await?;
    // Through the node, which closes the links of that user.
    match NodeClient::connect(&me.profile).await? {
        Some(mut node) => node.perform(ControlAction::Block { user: user.clone() }).await?,
        None => me.profile.block(user, now_s()).map(|_| ())?,
    }
    context.output.note(&format!("blocked {user}: no messages, offers or downloads"));
    Ok(())
}

/// Rejects a mistyped name, if the tracker can be asked: a block of nobody would look like success. Users that the
/// profile has met need no account any more.
async fn require_known_user(me: &LocalUser, user: &UserName) -> Result<(), Error> {
    let is_met = me.profile.known_people()?.iter().any(|(met, _)| met == user);
    if is_met || me.profile.blocked()?.contains(user) {
        return Ok(());
    }
    match tokio::time::timeout(LOOKUP_TIMEOUT, view_session::look_up_user(me, user)).await {
        Ok(Ok((false, like))) => {
            let like: Vec<&str> = like.iter().map(UserName::as_str).collect();
            let meant = if like.is_empty() { String::new() } else { format!("; did you mean {}?", like.join(" or ")) };
            let message = format!("there is no user \"{user}\"{meant}");
            Err(Error::Relayed { kind: ErrorKind::Unavailable, message })
        }
        // Without the tracker's word the name is taken as it is.
        _ => Ok(()),
    }
}

pub(super) async fn accept(context: &CommandContext, user: &UserName) -> Result<(), Error> {
    let me = context.me()?;
    if *user == me.user {
        return Err(Error::Usage("you can't accept yourself".to_owned()));
    }
    // Without a pending request nothing proves that the name is right.
    if me.profile.conversation_status(user)? == ConversationStatus::Request(0) {
        require_known_user(&me, user).await?;
    }
    match NodeClient::connect(&me.profile).await? {
        Some(mut node) => node.perform(ControlAction::Accept { user: user.clone() }).await?,
        None => me.profile.accept(user).map(|_| ())?,
    }
    context.output.note(&format!("accepted {user}: you receive all their messages from now on"));
    Ok(())
}

pub(super) fn unblock(context: &CommandContext, user: &UserName) -> Result<(), Error> {
    let me = context.me()?;
    if !me.profile.unblock(user)? {
        return Err(Error::Usage(format!("{user} is not blocked: `peer block` shows who is")));
    }
    context.output.note(&format!("unblocked {user}"));
    Ok(())
}

pub(super) fn blocked(context: &CommandContext) -> Result<(), Error> {
    let blocked = context.me()?.profile.blocked()?;
    for user in &blocked {
        if context.output.is_json() {
            context.output.print_object("blocked", &json!({ "user": user }))?;
        } else {
            context.output.print_data(user.as_str())?;
        }
    }
    if blocked.is_empty() {
        context.output.note("nobody is blocked: `peer block USER` blocks somebody");
    }
    Ok(())
}

/// A change of how the user is notified of messages; `None` keeps a setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotifyChange {
    /// True if the terminal rings.
    pub bell: Option<bool>,
    /// The program to run for each message and its arguments; empty for none.
    pub hook: Option<Vec<String>>,
}

pub(super) fn notify(context: &CommandContext, change: &NotifyChange) -> Result<(), Error> {
    let profile = match change {
        // Showing the settings must not create a profile.
        NotifyChange { bell: None, hook: None } => context.existing_profile()?,
        _ => context.profile()?,
    };
    if let Some(rings) = change.bell {
        profile.set_bell_enabled(rings)?;
    }
    if let Some(hook) = &change.hook {
        profile.set_message_hook(Some(hook.as_slice()).filter(|hook| !hook.is_empty()))?;
    }
    let (rings, hook) = (profile.is_bell_enabled()?, profile.message_hook()?);
    if context.output.is_json() {
        return Ok(context.output.print_object("notify", &json!({ "bell": rings, "hook": hook }))?);
    }
    context.output.print_data(&format!("bell  {}", if rings { "on" } else { "off" }))?;
    let hook = hook.map_or_else(|| "none".to_owned(), |hook| format!("{hook:?}"));
    Ok(context.output.print_data(&format!("hook  {hook}"))?)
}
