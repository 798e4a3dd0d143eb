//! `peer history`, `inbox`, `outbox`: what was said, what is unread, what waits.

use serde_json::json;
use shared::UserName;
use shared::peer::MessageId;

use super::Context;
use crate::engine::chat::ledger::time_left;
use crate::engine::chat::{self, Direction, HistoryQuery, MessageState, StoredMessage, Waiting};
use crate::engine::node::control::{Action, NodeClient};
use crate::engine::{Error, ErrorKind, Me, now_ms};
use crate::profile::ProfileError;
use crate::sys::is_stdout_closed;
use crate::ui::{message_json, message_line, moment, request_commands};

/// Digits of a message's id by which it is named.
pub(super) const SHORT_ID: usize = 8;

/// What of the past is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// With whom; with everybody when there is nothing here.
    pub with: Option<UserName>,
    /// Words that are in it.
    pub search: Option<String>,
    /// Not older than this, milliseconds.
    pub since_ms: Option<i64>,
    /// At most this many: the last ones.
    pub limit: Option<usize>,
}

pub(super) fn history(context: &Context, past: &Past) -> Result<(), Error> {
    let me = context.me()?;
    let query = HistoryQuery {
        with: past.with.clone(),
        search: past.search.clone(),
        since: past.since_ms.map(|ago| now_ms().saturating_sub(ago)),
        limit: past.limit.unwrap_or(usize::MAX),
        ..HistoryQuery::default()
    };
    let found = me.profile.history(&query)?;
    for stored in &found {
        show(context, &me, stored)?;
    }
    if found.is_empty() {
        context.output.note("no messages found");
    }
    Ok(())
}

pub(super) async fn inbox(context: &Context) -> Result<(), Error> {
    let me = context.me()?;
    let unread = me.profile.unread()?;
    if unread.is_empty() {
        context.output.note("no unread messages");
    }
    let is_shown = !is_stdout_closed();
    if !is_shown && !unread.is_empty() {
        context.output.warning("standard output is closed: the messages stay unread");
    }
    let mut unmarked = None;
    for conversation in unread {
        let query = HistoryQuery { unread: true, ..HistoryQuery::with(&conversation.user, usize::MAX) };
        let messages = me.profile.history(&query)?;
        for stored in &messages {
            show(context, &me, stored)?;
        }
        // What comes from here on was not shown.
        if let Some(last) = messages.last().filter(|_| is_shown && unmarked.is_none()) {
            match mark_read(&me, &conversation.user, last.seq).await {
                // They were shown, and so are the others.
                Err(why) if why.kind() == ErrorKind::Disk => unmarked = Some(why),
                marked => marked?,
            }
        }
    }
    if let Some(why) = unmarked {
        context.output.warning(&format!("the messages stay unread: {why}"));
    }
    for from in me.profile.requests()? {
        if context.output.is_json() {
            context.output.object("request", &json!({ "from": from }))?;
        } else {
            context.output.note(&format!("{from} wants to talk: {}", request_commands(&from)));
        }
    }
    Ok(())
}

async fn mark_read(me: &Me, with: &UserName, up_to: i64) -> Result<(), Error> {
    match NodeClient::connect(&me.profile).await {
        Ok(Some(mut node)) => node.tell(Action::MarkRead { with: with.clone(), up_to: Some(up_to) }).await,
        // They were shown: whoever watches a node that is stopped hears of it some other time.
        Ok(None) | Err(Error::Profile(ProfileError::NodeStopped { .. })) => {
            Ok(me.profile.mark_read(with, Some(up_to)).map(|_| ())?)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn outbox(context: &Context) -> Result<(), Error> {
    let me = context.me()?;
    let (waiting, now) = (me.profile.outbox()?, me.profile.outbox_now(now_ms())?);
    for Waiting { stored, since, frozen } in &waiting {
        let left = time_left(*since, now);
        if context.output.is_json() {
            let mut object = message_json(stored, &me.user);
            object["frozen"] = json!(frozen);
            object["expires_in_s"] = json!(left.as_secs());
            context.output.object("outbox", &object)?;
            continue;
        }
        let id = &stored.message.id.to_string()[..SHORT_ID];
        let remark = if *frozen { format!("  (held back: the key of {} changed)", stored.peer) } else { String::new() };
        let line = message_line(&format!("to {}", stored.peer), &stored.message.text);
        let days = left.as_secs().div_ceil(24 * 3600);
        context.output.data(&format!("{id}  {}  {days:>2} d left  {line}{remark}", moment(stored.at)))?;
    }
    if waiting.is_empty() {
        context.output.note("the outbox is empty");
    }
    Ok(())
}

pub(super) async fn drop_waiting(context: &Context, id: &str) -> Result<(), Error> {
    let me = context.me()?;
    let id = id.to_ascii_lowercase();
    if id.is_empty() {
        return Err(Error::Usage("which one? `peer outbox` shows the id of each".to_owned()));
    }
    let waiting = me.profile.outbox()?;
    let mut named = waiting.iter().filter(|waiting| waiting.stored.message.id.to_string().starts_with(&id));
    let found = match (named.next(), named.next()) {
        (Some(only), None) => &only.stored,
        (None, _) => return Err(Error::Usage(format!("no queued message {id} — see `peer outbox`"))),
        (Some(_), Some(_)) => return Err(Error::Usage(format!("{id} begins more than one: give more of it"))),
    };
    if !take_out(&me, &found.peer, found.message.id).await? {
        return Err(Error::Usage("it was delivered just now".to_owned()));
    }
    let to = &found.peer;
    let withdrawn = match &found.message.offer {
        Some(offer) if me.profile.offer(to, &offer.name)?.is_none() => ", and its file isn't offered to them any more",
        _ => "",
    };
    context.output.note(&format!("the message to {to} will not be sent{withdrawn}"));
    Ok(())
}

/// Takes a message of ours out of what waits, through the node if one runs: it tells whoever watches. False when it doesn't
/// wait any more.
pub(super) async fn take_out(me: &Me, to: &UserName, id: MessageId) -> Result<bool, Error> {
    match NodeClient::connect(&me.profile).await? {
        Some(mut node) => node.call(Action::Drop { to: to.clone(), message: id }).await,
        None => chat::take_out(me, to, id).await,
    }
}

fn show(context: &Context, me: &Me, stored: &StoredMessage) -> Result<(), Error> {
    if context.output.is_json() {
        return Ok(context.output.object("message", &message_json(stored, &me.user))?);
    }
    let who = match stored.direction {
        Direction::In => stored.peer.to_string(),
        Direction::Out => format!("to {}", stored.peer),
    };
    let state = match stored.state {
        MessageState::Stored | MessageState::Received => String::new(),
        state => format!("  ({})", state.as_str()),
    };
    let line =
        format!("{} {}{state}", context.output.dim(&moment(stored.at)), message_line(&who, &stored.message.text));
    Ok(context.output.data(&line)?)
}
