//! The command `peer chat`.

mod chat_filter;
mod interrupted_send;
mod message_sending;
mod room_sending;

use clap::Args;
use localization::tr;
use shared::{RoomName, UserName};

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::user_resolution::{LookupScope, resolve_arguments};
use super::view_session::{self, refuse_in_background};
use crate::engine::chat::{ConversationName, HistoryQuery, StoredMessage};
use crate::engine::node::{NodeApi, NodeLifetime};
use crate::engine::node_connection::open_node;
use crate::engine::room_values::RoomOverview;
use crate::engine::{Error, LocalUser, RoomActionError};
use crate::profile::Access;
use crate::ui::{LineViewModel, LineViewTerminal, PlainViewTerminal, spawn_line_reader};

/// Messages shown before the first unread one, or at the end of the history if all are read.
const READ_MESSAGES_SHOWN: usize = 20;
/// Largest number of unread messages shown, the latest of them.
const MAX_UNREAD_SHOWN: usize = 500;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer chat bob
  peer chat bob \"lunch?\"
  uptime | peer chat bob
  peer chat '#lab' \"lunch?\"            to all members of the room lab
  peer chat bob \"$(cat letter.txt)\"    all of it as one message, with its blank lines",
    notes: "\
One message returns when it is stored by the other side. When bob is offline it is queued, and sent while `peer \
serve` runs; --now fails with exit code 4 instead. In a pipe each line of standard input is a message, and each \
line of output one of his.

In a terminal the conversation stays in the scrollback. Each message of yours has a mark: … queued, → sent, ✓ \
stored by the other side, ! failed (. > + ! where the locale isn't UTF-8). Only what was shown counts as read. A \
message is stored before it is sent: nothing that was entered is lost.

With --json a message is an object as `peer events` prints it, with \"room\" in a room.

  /files [START]    list what bob shares
  /get 2, /get NAME fetch a file while you talk
  /stop [N|NAME]    stop a download; /get resumes it
  /offer PATH…      offer files to bob alone
  /search WORDS     search messages
  /history [N|AGE]  show older messages
  /accept, /ignore  answer a stranger, or ignore bob
  /who, /help       show who is online; all commands
  //…               a line that begins with a slash

In a room there are also /members, /topic [TEXT], /invite USER, /kick USER, /mute and /leave; /files, /get and /offer are \
about what its members share with it alone. The mark says how many of the other members have a message, such as 3/5, \
and ✓ when all have it. Only a message with @you rings, and has an @ in front; late is one that belongs before messages \
above it.

Tab completes commands, names and paths. Ctrl-C clears the line and leaves when it is empty, as Ctrl-D does; while \
files are being transferred, only the second time. Ctrl-Z goes to the shell and `fg` comes back, while `peer \
serve` runs. Many pasted lines are sent only after a question. Twenty columns are enough; the terminal has to \
speak UTF-8. With --plain it reads line by line, and the commands work in a terminal all the same.",
};

/// Talk to somebody: one message, standard input line by line, or a conversation in the terminal.
///
/// Of standard input, each line is a message; lines with nothing but blanks are left out, as there is nothing to send.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct ChatArgs {
    /// To whom: a user, or a room as '#lab'.
    #[arg(value_name = "USER|#ROOM")]
    with: ConversationName,
    /// The message; several words are one.
    #[arg(num_args = 1..)]
    text: Option<Vec<String>>,
    /// Fail when the message can't be delivered now, instead of queueing it.
    #[arg(long)]
    now: bool,
}

pub(super) async fn run(context: &CommandContext, args: ChatArgs) -> Result<(), Error> {
    let ChatArgs { with, text, now } = args;
    // The shell has split the words: quotes around a message are optional.
    let text = text.map(|words| words.join(" "));
    let me = context.me(Access::Use)?;
    match with {
        ConversationName::Person(user) => chat_with_user(context, &me, user, text, now).await,
        ConversationName::Room(_) if now => {
            Err(Error::Usage(tr!("--now is for users: a message to a room is signed and stays")))
        }
        ConversationName::Room(room) => match text {
            // Boxed because of its size.
            Some(text) => Box::pin(room_sending::send_message(context, &me, &room, &text)).await,
            None if context.is_interactive() => {
                let instead = tr!("`peer chat '#{room}' TEXT` sends one message", room);
                refuse_in_background(&format!("chat '#{room}'"), &instead)?;
                run_conversation(context, &me, room.into()).await
            }
            None => Box::pin(room_sending::send_lines(context, &me, &room)).await,
        },
    }
}

async fn chat_with_user(
    context: &CommandContext,
    me: &LocalUser,
    mut user: UserName,
    text: Option<String>,
    now: bool,
) -> Result<(), Error> {
    resolve_arguments(context, me, LookupScope::Tracker, [&mut user]).await?;
    if user == me.user {
        return Err(Error::Usage(tr!("you can't message yourself")));
    }
    match text {
        // Boxed because of its size.
        Some(text) => Box::pin(message_sending::send_message(context, me, &user, &text, now)).await,
        None if !now && context.is_interactive() => {
            refuse_in_background(&format!("chat {user}"), &tr!("`peer chat {user} TEXT` sends one message", user))?;
            run_conversation(context, me, user.into()).await
        }
        None => chat_filter::run(context, me, &user, now).await,
    }
}

/// Runs a conversation in the terminal, with the running node or one of its own.
async fn run_conversation(context: &CommandContext, me: &LocalUser, with: ConversationName) -> Result<(), Error> {
    let node = open_node(&context.cancel, me, NodeLifetime::View).await?;
    let model = match load_line_view(context, me, with, &node).await {
        Ok(model) => model,
        Err(error) => {
            // A node of our own must leave the tracker before the error is printed.
            node.close().await?;
            return Err(error);
        }
    };
    let ended = if context.can_draw_view() {
        match LineViewTerminal::open(model) {
            Ok((view, keys)) => view_session::run_view(context, me, view, keys, node).await?,
            Err(why) => return node.close().await.and(Err(why.into())),
        }
    } else {
        let open = |lines| PlainViewTerminal::open(model, context.output.clone(), lines, &context.interrupts);
        match spawn_line_reader().and_then(open) {
            Ok((view, keys)) => view_session::run_view(context, me, view, keys, node).await?,
            Err(why) => return node.close().await.and(Err(why.into())),
        }
    };
    view_session::report_exit(context, &ended)
}

async fn load_line_view(
    context: &CommandContext,
    me: &LocalUser,
    with: ConversationName,
    node: &NodeApi,
) -> Result<LineViewModel, Error> {
    let people = context.until_cancelled(node.users()).await?;
    let rooms = context.until_cancelled(node.rooms()).await;
    let (with, rooms) = match with {
        ConversationName::Room(name) => {
            let mut rooms = rooms?;
            if own_room(&rooms, &name).is_err() {
                // The user may have joined a moment ago: this answer waits for the tracker's records.
                context.until_cancelled(node.room_cut(&name, &me.user)).await?;
                rooms = context.until_cancelled(node.rooms()).await?;
            }
            (own_room(&rooms, &name)?.into(), rooms)
        }
        // The node of an earlier release knows no rooms.
        with @ ConversationName::Person(_) => (with, rooms.unwrap_or_default()),
    };
    let (before, unread_from) = context.until_cancelled(load_recent_messages(node, &with)).await?;
    Ok(LineViewModel::new(context.output.theme(), &me.user, &with, (&people, &rooms), &before, unread_from))
}

/// Returns the name of one of the user's rooms, written in any case of letters.
fn own_room<'a>(rooms: &'a [RoomOverview], name: &RoomName) -> Result<&'a RoomName, Error> {
    let is_named = |room: &&RoomOverview| room.room.as_str().eq_ignore_ascii_case(name.as_str());
    rooms.iter().find(is_named).map(|room| &room.room).ok_or_else(|| RoomActionError::NotAMember(name.clone()).into())
}

/// Returns the messages that a conversation begins with, and the place of the first unread one. That one is none of them
/// if there are more than [`MAX_UNREAD_SHOWN`].
async fn load_recent_messages(
    node: &NodeApi,
    with: &ConversationName,
) -> Result<(Vec<StoredMessage>, Option<i64>), Error> {
    let first = HistoryQuery { unread: true, earliest: true, ..HistoryQuery::with(with, 1) };
    let unread_from = node.history(first).await?.first().map(|stored| stored.seq);
    let Some(unread_from) = unread_from else {
        return Ok((node.history(HistoryQuery::with(with, READ_MESSAGES_SHOWN)).await?, None));
    };
    if with.room().is_some() {
        // In a room's order, messages that were read stand between those that were not.
        let recent = node.history(HistoryQuery::with(with, MAX_UNREAD_SHOWN + READ_MESSAGES_SHOWN)).await?;
        let first = recent.iter().position(|stored| stored.seq == unread_from);
        let begin = first.map_or(0, |first| first.saturating_sub(READ_MESSAGES_SHOWN));
        return Ok((recent.into_iter().skip(begin).collect(), Some(unread_from)));
    }
    let unread = HistoryQuery { after: Some(unread_from - 1), ..HistoryQuery::with(with, MAX_UNREAD_SHOWN) };
    let unread = node.history(unread).await?;
    // The first unread message is cut off: no earlier context fits before the gap.
    if unread.first().is_none_or(|stored| stored.seq > unread_from) {
        return Ok((unread, Some(unread_from)));
    }
    let before = HistoryQuery { before: Some(unread_from), ..HistoryQuery::with(with, READ_MESSAGES_SHOWN) };
    let mut before = node.history(before).await?;
    before.extend(unread);
    Ok((before, Some(unread_from)))
}
