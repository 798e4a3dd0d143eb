//! The command `peer inbox`.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::UserName;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::history;
use super::user_resolution::{LookupScope, require_known_user, resolve_arguments};
use crate::engine::chat::{ConversationName, ConversationStatus, HistoryQuery};
use crate::engine::node::{NodeHandle, NodeNeed};
use crate::engine::{Error, ErrorKind, LocalUser};
use crate::profile::Access;
use crate::sys::is_stdout_closed;
use crate::ui::request_commands;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer inbox
  peer inbox --accept mallory",
    notes: "\
The first message of a stranger is a request to talk: little more is received until you answer, or accept them. \
`peer block mallory` ignores them.",
};

/// Show unread messages and mark them read.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct InboxArgs {
    /// Accept this stranger: receive all their messages from now on.
    #[arg(long, value_name = "USER")]
    accept: Option<UserName>,
}

pub(super) async fn run(context: &CommandContext, args: InboxArgs) -> Result<(), Error> {
    match args.accept {
        Some(user) => accept(context, user).await,
        None => print_inbox(context).await,
    }
}

/// Prints the unread messages and requests, and marks the messages as read.
async fn print_inbox(context: &CommandContext) -> Result<(), Error> {
    let me = context.me(Access::Look)?;
    let unread = me.profile.unread_counts()?;
    if unread.is_empty() {
        context.output.note(&tr!("no unread messages"));
    }
    // Marking messages as read that nobody could see would lose them for the user.
    let is_shown = !is_stdout_closed();
    if !is_shown && !unread.is_empty() {
        context.output.warning(&tr!("standard output is closed: the messages stay unread"));
    }
    let mut unmarked = None;
    for conversation in unread {
        let query = HistoryQuery { unread: true, ..HistoryQuery::with(&conversation.with, usize::MAX) };
        let messages = me.profile.history(&query)?;
        for stored in &messages {
            history::print_message(context, &me, stored)?;
        }
        // What comes from here on was not shown.
        let last = messages.iter().map(|stored| stored.seq).max();
        if let Some(last) = last.filter(|_| is_shown && unmarked.is_none()) {
            match mark_read(&me, &conversation.with, last).await {
                // They were shown, and so are the others.
                Err(why) if why.kind() == ErrorKind::Disk => unmarked = Some(why),
                marked => marked?,
            }
        }
    }
    if let Some(why) = unmarked {
        context.output.warning(&tr!("the messages stay unread: {why}", why));
    }
    for from in me.profile.message_requests()? {
        if context.output.is_json() {
            context.output.print_object("request", &json!({ "from": from }))?;
        } else {
            context.output.note(&tr!("{from} wants to talk: {commands}", from, commands = request_commands(&from)));
        }
    }
    match me.profile.unread_guest_messages()? {
        0 => {}
        count => context.output.note(&tr!("{n} unread message of guests: `peer link list`"
            | "{n} unread messages of guests: `peer link list`" % count)),
    }
    Ok(())
}

async fn mark_read(me: &LocalUser, with: &ConversationName, up_to: i64) -> Result<(), Error> {
    NodeHandle::perform_act(me, NodeNeed::Store, async |node| node.mark_read(with, Some(up_to)).await).await
}

/// Accepts a stranger's requests to talk.
async fn accept(context: &CommandContext, mut user: UserName) -> Result<(), Error> {
    let me = context.me(Access::Use)?;
    resolve_arguments(context, &me, LookupScope::Local, [&mut user]).await?;
    if user == me.user {
        return Err(Error::Usage(tr!("you can't accept yourself")));
    }
    // Without a pending request nothing proves that the name is right.
    if me.profile.conversation_status(&user)? == ConversationStatus::Request(0) {
        require_known_user(&me, &user).await?;
    }
    NodeHandle::perform_act(&me, NodeNeed::Links, async |node| node.accept(&user).await).await?;
    context.output.note(&tr!("accepted {user}: you receive all their messages from now on", user));
    Ok(())
}
