//! The command `peer clip`.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::account_name::shell_operand;
use shared::names::name_encoding::display_name;
use shared::peer::{FileSend, SendKind};
use shared::safe_text::safe_path;
use shared::{ContentHash, UserName};

use super::clipboard_errors::clipboard_error;
use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::user_resolution::{LookupScope, resolve_arguments};
use crate::engine::chat::{ConversationStatus, HistoryQuery, MessageDirection, StoredMessage};
use crate::engine::receipt_delivery::deliver_receipts;
use crate::engine::send_intake::{check_accept_folder, default_accept_folder, take_send};
use crate::engine::{Error, ErrorKind, LocalUser, run_blocking};
use crate::profile::Access;
use crate::sys::{ClipboardError, open_regular, write_clipboard};
use crate::ui::{CommandOutput, MAX_SEQUENCE_BYTES, clipboard_sequence, pasteable_text, time_of_day};

/// Messages that are looked through, the newest first.
const MAX_LOOKED_AT: usize = 500;
/// Entries of the folder in which a file is looked for.
const MAX_ENTRIES: usize = 20_000;
/// Bytes of a text file that goes into the clipboard.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The end of the names of text files.
const TEXT_SUFFIX: &str = ".txt";

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer clip bob
  peer clip",
    notes: "\
The last text is the newest message of that person, or the newest text file (*.txt, at most 1 MiB) that they sent, \
such as by `peer send YOU --clipboard`: one that waits is fetched into the folder of `peer accept`, one that was \
accepted is read where it was put, if it is unchanged. Without a name it is the last one of anybody whose messages you accept. \
Rooms don't count.

A text with control characters is refused, because it could run something where it is pasted.

The clipboard is that of the desktop (wl-clipboard on Wayland, xclip or xsel on X11, pbcopy), else that of the \
terminal's machine by its escape sequence OSC 52, which not every terminal obeys.

With --json: one `clip`, with the person, the bytes and the way (desktop or terminal).",
};

/// Put the last text that somebody sent into this machine's clipboard.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct ClipArgs {
    /// Whose text.
    user: Option<UserName>,
}

/// The text that goes into the clipboard.
struct ReceivedText {
    from: UserName,
    at: i64,
    text: String,
}

pub(super) async fn run(context: &CommandContext, args: ClipArgs) -> Result<(), Error> {
    let me = context.me(Access::Use)?;
    let mut user = args.user;
    if let Some(user) = &mut user {
        resolve_arguments(context, &me, LookupScope::Local, [user]).await?;
    }
    let ReceivedText { from, at, text } = find_text(context, &me, user.as_ref()).await?;
    let Some(text) = pasteable_text(&text) else {
        let who = shell_operand(&from);
        let message = tr!(
            "the last text of {from} has control characters, which could run something where it is pasted: \
             `peer history {who}` shows it",
            from,
            who
        );
        return Err(Error::Relayed { kind: ErrorKind::Refused, message });
    };
    let way = put(&context.output, &text).await?;
    let (bytes, when) = (text.len(), time_of_day(at));
    if context.output.is_json() {
        let fields = json!({ "from": from, "at": at, "bytes": bytes, "way": way });
        return Ok(context.output.print_object("clip", &fields)?);
    }
    context.output.note(&match way {
        "terminal" => {
            tr!("the terminal was asked to take the text of {from} of {when} ({bytes} bytes)", from, when, bytes)
        }
        _ => tr!("the text of {from} of {when} is in the clipboard ({bytes} bytes)", from, when, bytes),
    });
    Ok(())
}

/// Puts a text into the desktop's clipboard, else into the terminal's; returns which.
async fn put(output: &CommandOutput, text: &str) -> Result<&'static str, Error> {
    let missing = match write_clipboard(text).await {
        Ok(()) => return Ok("desktop"),
        // Only for want of a program: one that fails has a reason that the user should hear.
        Err(error @ ClipboardError::NoProgram(_)) => error,
        Err(error) => return Err(clipboard_error(&error)),
    };
    // Where no terminal obeys the sequence, it would be garbage in the output.
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if !std::io::stdout().is_terminal() || output.is_json() || is_dumb {
        return Err(clipboard_error(&missing));
    }
    if text.len() > MAX_SEQUENCE_BYTES {
        let (bytes, limit) = (text.len(), MAX_SEQUENCE_BYTES);
        let message =
            tr!("{missing}; and the text has {bytes} bytes, of which a terminal takes {limit}", missing, bytes, limit);
        return Err(Error::Relayed { kind: ErrorKind::Other, message });
    }
    output.write_raw(&clipboard_sequence(text))?;
    Ok("terminal")
}

/// Returns the last text of a user, or of anybody who is accepted.
async fn find_text(context: &CommandContext, me: &LocalUser, user: Option<&UserName>) -> Result<ReceivedText, Error> {
    let (profile, with) = (me.profile.clone(), user.map(Into::into));
    let history = run_blocking(move || {
        let query = HistoryQuery { with, ..HistoryQuery::last(MAX_LOOKED_AT) };
        Ok(profile.history(&query)?)
    });
    for message in history.await?.into_iter().rev() {
        // What is sent is an offer as well, for earlier peers.
        let is_offer = message.message.offer.is_some() && message.message.send.is_none();
        if message.direction != MessageDirection::In || message.room.is_some() || is_offer {
            continue;
        }
        let is_accepted = || Ok(me.profile.conversation_status(&message.peer)? == ConversationStatus::Accepted);
        if me.profile.is_blocked(&message.peer)? || (user.is_none() && !is_accepted().map_err(|error: Error| error)?) {
            continue;
        }
        if let Some(text) = text_of(context, me, &message).await? {
            return Ok(ReceivedText { from: message.peer, at: message.at, text });
        }
    }
    let message = match user {
        Some(user) => {
            let who = shell_operand(user);
            tr!("{user} sent no text: `peer history {who}` shows what there is", user, who)
        }
        None => tr!("nobody sent you a text: `peer history` shows what there is"),
    };
    Err(Error::Relayed { kind: ErrorKind::NotShared, message })
}

/// Returns the text of a message, or of the text file that it announces; `None` if it has none that is here.
async fn text_of(context: &CommandContext, me: &LocalUser, stored: &StoredMessage) -> Result<Option<String>, Error> {
    let Some(send) = &stored.message.send else { return Ok(Some(stored.message.text.as_received().to_owned())) };
    let is_text = send.kind == SendKind::File && send.size <= MAX_FILE_BYTES;
    if !is_text || !send.name.as_str().to_ascii_lowercase().ends_with(TEXT_SUFFIX) {
        return Ok(None);
    }
    let waiting =
        me.profile.incoming_sends(Some(&stored.peer))?.into_iter().find(|waiting| waiting.id == stored.message.id);
    let rule = me.profile.accept_rule(&stored.peer)?.map(|rule| rule.folder);
    let Some(folder) = rule.or_else(|| default_accept_folder(&stored.peer)) else { return Ok(None) };
    if let Some(waiting) = waiting {
        let profile = me.profile.clone();
        let folder = run_blocking(move || check_accept_folder(&profile, &folder)).await?;
        let fetched = Box::pin(take_send(me, &waiting, &folder, &mut |_| {}, &context.cancel)).await;
        fetched.error.map_or(Ok(()), Err)?;
        let name = display_name(send.name.as_str());
        context.output.note(&tr!(
            "{name} of {user} is in {folder}",
            name,
            user = stored.peer,
            folder = safe_path(&folder)
        ));
        deliver_receipts(me, vec![stored.peer.clone()]).await;
        return find_content(folder, send.clone()).await;
    }
    let content = find_content(folder, send.clone()).await?;
    if content.is_none() {
        let name = display_name(send.name.as_str());
        let user = &stored.peer;
        context.output.note(&tr!("{name} of {user} isn't where it was put any more, and is passed over", name, user));
    }
    Ok(content)
}

/// Returns the text of the file that was sent, under whatever name it was put into a folder.
async fn find_content(folder: PathBuf, send: FileSend) -> Result<Option<String>, Error> {
    run_blocking(move || {
        // A folder that is gone has nothing.
        let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(None) };
        let is_same_size = |path: &PathBuf| {
            // Not through links: where they lead, nothing was sent to.
            std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == send.size)
        };
        let paths = entries.take(MAX_ENTRIES).flatten().map(|entry| entry.path()).filter(is_same_size);
        let mut contents = paths.filter_map(|path| read_small(&path, send.size));
        let content = contents.find(|content| ContentHash::of(content) == send.hash);
        Ok(content.and_then(|content| String::from_utf8(content).ok()))
    })
    .await
}

/// Returns the content of a file; `None` if it can't be read, or has more bytes.
fn read_small(path: &Path, size: u64) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    // One byte more tells that the file grew since its size was read.
    open_regular(path).ok()?.take(size + 1).read_to_end(&mut content).ok()?;
    (content.len() as u64 == size).then_some(content)
}
