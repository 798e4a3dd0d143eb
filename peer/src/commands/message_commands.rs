//! The commands `peer history`, `inbox` and `outbox`.

use serde_json::json;
use shared::UserName;
use shared::account_name::speaker_label;
use shared::peer::MessageId;

use super::CommandContext;
use crate::engine::chat::delivery_state::time_left;
use crate::engine::chat::{self, HistoryQuery, MessageDirection, MessageState, QueuedMessage, StoredMessage};
use crate::engine::node::control::{ControlAction, NodeClient};
use crate::engine::{Error, ErrorKind, LocalUser, now_ms};
use crate::profile::ProfileError;
use crate::sys::is_stdout_closed;
use crate::ui::{date_and_time, message_json, message_line, request_commands};

/// Digits of a message's id that are shown and suffice to name it.
pub(super) const SHORT_ID_DIGITS: usize = 8;

/// Selection of messages to print.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryOptions {
    /// The other user; `None` for all conversations.
    pub with: Option<UserName>,
    /// Words that the text contains.
    pub search: Option<String>,
    /// Only messages younger than this, in milliseconds.
    pub since_ms: Option<i64>,
    /// Largest number of messages, the last ones; `None` for all.
    pub limit: Option<usize>,
}

pub(super) fn history(context: &CommandContext, options: &HistoryOptions) -> Result<(), Error> {
    let me = context.me()?;
    let query = HistoryQuery {
        with: options.with.clone(),
        search: options.search.clone(),
        since: options.since_ms.map(|ago| now_ms().saturating_sub(ago)),
        limit: options.limit.unwrap_or(usize::MAX),
        ..HistoryQuery::default()
    };
    let found = me.profile.history(&query)?;
    for stored in &found {
        print_message(context, &me, stored)?;
    }
    if found.is_empty() {
        context.output.note("no messages found");
    }
    Ok(())
}

pub(super) async fn inbox(context: &CommandContext) -> Result<(), Error> {
    let me = context.me()?;
    let unread = me.profile.unread_counts()?;
    if unread.is_empty() {
        context.output.note("no unread messages");
    }
    // Marking messages as read that nobody could see would lose them for the user.
    let is_shown = !is_stdout_closed();
    if !is_shown && !unread.is_empty() {
        context.output.warning("standard output is closed: the messages stay unread");
    }
    let mut unmarked = None;
    for conversation in unread {
        let query = HistoryQuery { unread: true, ..HistoryQuery::with(&conversation.user, usize::MAX) };
        let messages = me.profile.history(&query)?;
        for stored in &messages {
            print_message(context, &me, stored)?;
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
    for from in me.profile.message_requests()? {
        if context.output.is_json() {
            context.output.print_object("request", &json!({ "from": from }))?;
        } else {
            context.output.note(&format!("{from} wants to talk: {}", request_commands(&from)));
        }
    }
    Ok(())
}

async fn mark_read(me: &LocalUser, with: &UserName, up_to: i64) -> Result<(), Error> {
    match NodeClient::connect(&me.profile).await {
        Ok(Some(mut node)) => node.perform(ControlAction::MarkRead { with: with.clone(), up_to: Some(up_to) }).await,
        // A stopped node must not block the inbox: write the mark directly, and its watchers learn of it
        // later.
        Ok(None) | Err(Error::Profile(ProfileError::NodeStopped { .. })) => {
            Ok(me.profile.mark_read(with, Some(up_to)).map(|_| ())?)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn outbox(context: &CommandContext) -> Result<(), Error> {
    let me = context.me()?;
    let (waiting, now) = (me.profile.outbox()?, me.profile.outbox_now(now_ms())?);
    for QueuedMessage { stored, since, frozen } in &waiting {
        let left = time_left(*since, now);
        if context.output.is_json() {
            let mut object = message_json(stored, &me.user);
            object["frozen"] = json!(frozen);
            object["expires_in_s"] = json!(left.as_secs());
            context.output.print_object("outbox", &object)?;
            continue;
        }
        let id = &stored.message.id.to_string()[..SHORT_ID_DIGITS];
        let remark = if *frozen { format!("  (held back: the key of {} changed)", stored.peer) } else { String::new() };
        let line = message_line(&format!("to {}", stored.peer), &stored.message.text);
        let days = left.as_secs().div_ceil(24 * 3600);
        context.output.print_data(&format!("{id}  {}  {days:>2} d left  {line}{remark}", date_and_time(stored.at)))?;
    }
    if waiting.is_empty() {
        context.output.note("the outbox is empty");
    }
    Ok(())
}

pub(super) async fn drop_queued(context: &CommandContext, id: &str) -> Result<(), Error> {
    let me = context.me()?;
    let id = id.to_ascii_lowercase();
    if id.is_empty() {
        return Err(Error::Usage("which one? `peer outbox` shows the id of each".to_owned()));
    }
    let waiting = me.profile.outbox()?;
    // Ids are shown by their first digits, so a start suffices as long as it is unique.
    let mut named = waiting.iter().filter(|waiting| waiting.stored.message.id.to_string().starts_with(&id));
    let found = match (named.next(), named.next()) {
        (Some(only), None) => &only.stored,
        (None, _) => return Err(Error::Usage(format!("no queued message {id} — see `peer outbox`"))),
        (Some(_), Some(_)) => return Err(Error::Usage(format!("{id} begins more than one: give more of it"))),
    };
    if !cancel_message(&me, &found.peer, found.message.id).await? {
        return Err(Error::Usage("it was delivered just now".to_owned()));
    }
    let to = &found.peer;
    let withdrawn = match &found.message.offer {
        Some(offer) if me.profile.offer(to, &offer.name)?.is_none() => ", and its offer is withdrawn",
        _ => "",
    };
    context.output.note(&format!("dropped the message to {to}: it is not sent{withdrawn}"));
    Ok(())
}

/// Removes a message from the outbox, through the node if one runs, so that views are told. Returns false if the
/// message no longer waits.
pub(super) async fn cancel_message(me: &LocalUser, to: &UserName, id: MessageId) -> Result<bool, Error> {
    match NodeClient::connect(&me.profile).await? {
        Some(mut node) => node.call(ControlAction::Drop { to: to.clone(), message: id }).await,
        None => chat::cancel_message(me, to, id).await,
    }
}

fn print_message(context: &CommandContext, me: &LocalUser, stored: &StoredMessage) -> Result<(), Error> {
    if context.output.is_json() {
        return Ok(context.output.print_object("message", &message_json(stored, &me.user))?);
    }
    let who = match stored.direction {
        MessageDirection::In => speaker_label(&stored.peer).into_owned(),
        MessageDirection::Out => format!("to {}", stored.peer),
    };
    let state = match stored.state {
        MessageState::Stored | MessageState::Received => String::new(),
        state => format!("  ({})", state.as_str()),
    };
    let line = format!(
        "{} {}{state}",
        context.output.dim(&date_and_time(stored.at)),
        message_line(&who, &stored.message.text)
    );
    Ok(context.output.print_data(&line)?)
}
