//! The command `peer send`.

mod clipboard_copy;
mod receipt_wait;
mod stream_copy;
mod upload_progress_sum;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::names::name_encoding::display_name;
use shared::{FileName, RoomName};

use self::receipt_wait::{AwaitedSend, ReceiptWait};
use super::command_help::{CommandHelp, room_quoting};
use super::context::CommandContext;
use super::file_hashing::{resolve_working_folder, with_stop_timeout};
use super::message_delivery;
use super::node_checks::require_reachable_node;
use super::sends;
use super::user_resolution::{LookupScope, resolve_arguments};
use super::value_parsers::parse_file_name;
use crate::engine::chat::{ConversationName, describe_send};
use crate::engine::node::{NodeApi, NodeHandle, NodeLifetime, NodeNeed, SendAnnouncement, running_status};
use crate::engine::node_connection::open_node;
use crate::engine::room_contacts::find_room_audience;
use crate::engine::send_announcement::announce_in_room;
use crate::engine::sends::{BegunSend, SendRequest, begin_send, begin_sends, clear_settled_sends};
use crate::engine::share::ShareEvent;
use crate::engine::{Error, LocalUser, file_offers, run_blocking};
use crate::profile::{Access, Audience, OutgoingSend, Profile};
use crate::ui::{ShareBar, by_design_line, failure_lines};

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer send bob report.pdf photos/
  peer send '#lab' slides.pdf --detach
  date | peer send bob - --name date.txt
  peer send bob --clipboard",
    notes: "\
Who it is sent to is told, and fetches it with /get or `peer fetch`, or has decided by `peer accept` to take what you \
send. Nobody else sees or gets it. The command waits until they have all of it, verified and in its place; it goes on \
where it was when it is run again. `peer sends` lists, pauses and ends what is sent. Who is offline is told when \
they come back, as with a message, while `peer serve` runs here; --detach doesn't wait for that.

A folder is sent as it is now: hidden files, links, devices and the like are left out. When it is over, nothing stays \
shared that wasn't before. In a room every member may fetch it, and the number of those who have it is told, such as \
3/5.

With --json: `send` for each that begins, `receipt` for each that is over, with its outcome (done, declined, ended, \
failed).

--clipboard sends the text of this machine's clipboard as clipboard.txt, or else its image as clipboard.png, by \
wl-paste on Wayland, xclip or xsel on X11, or pbpaste. `peer clip YOU` puts it into theirs.

Exit code 0 when they have it, 6 when it was declined, 12 when only some of several arrived.",
};

/// Send files and folders, and wait until they arrived; without a name show what is sent.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct SendArgs {
    /// To whom, or to which room ('#lab').
    #[arg(value_name = "USER|#ROOM")]
    to: Option<ConversationName>,
    /// Files and folders; - is standard input.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Send the clipboard: its text, or else its image.
    #[arg(long, conflicts_with = "paths", requires = "to")]
    clipboard: bool,
    /// Send it under another name.
    #[arg(long, value_name = "NAME", value_parser = parse_file_name)]
    name: Option<FileName>,
    /// Don't wait: `peer serve` goes on offering it.
    #[arg(short, long)]
    detach: bool,
    /// End a send: the older form of `peer sends end`.
    #[arg(long, value_name = "N|NAME", hide = true, conflicts_with_all = ["to", "paths", "name", "detach", "clipboard"])]
    end: Option<String>,
}

pub(super) async fn run(context: &CommandContext, args: SendArgs) -> Result<(), Error> {
    let SendArgs { to, paths, clipboard, name, detach, end } = args;
    let source = if clipboard { SendSource::Clipboard } else { SendSource::Paths(paths) };
    match (to, end) {
        (_, Some(which)) => context.until_cancelled(sends::end_named(context, &which)).await,
        (None, None) => {
            sends::print_sends(context)?;
            // Said where it can be guessed: with a room, only the command is left of the line.
            context.output.note(&tr!("with a name it sends: {advice}", advice = room_quoting()));
            Ok(())
        }
        (Some(to), None) if source.is_nothing() => {
            Err(Error::Usage(tr!("which files? `peer send {name} PATH` sends one", name = quoted(&to))))
        }
        // Boxed because of its size.
        (Some(to), None) => Box::pin(send(context, to, source, name, detach)).await,
    }
}

/// What is sent.
enum SendSource {
    Paths(Vec<PathBuf>),
    Clipboard,
}

impl SendSource {
    const fn is_nothing(&self) -> bool {
        matches!(self, Self::Paths(paths) if paths.is_empty())
    }
}

fn quoted(to: &ConversationName) -> String {
    crate::util::shell_words::shell_quote(&[&to.to_string()])
}

async fn send(
    context: &CommandContext,
    mut to: ConversationName,
    source: SendSource,
    name: Option<FileName>,
    detach: bool,
) -> Result<(), Error> {
    if name.is_some() && matches!(&source, SendSource::Paths(paths) if paths.len() > 1) {
        return Err(Error::Usage(tr!("--name names one file or folder")));
    }
    let me = context.me(Access::Use)?;
    let room = match &mut to {
        ConversationName::Person(user) => {
            resolve_arguments(context, &me, LookupScope::Tracker, [&mut *user]).await?;
            if *user == me.user {
                return Err(Error::Usage(tr!("you can't send files to yourself")));
            }
            if let Some(warning) = file_offers::blocked_warning(&me.profile, user)? {
                context.output.warning(&warning);
            }
            None
        }
        ConversationName::Room(room) => Some(room.clone()),
    };
    let audience = match &to {
        ConversationName::Person(user) => Audience::Person(user.clone()),
        ConversationName::Room(room) => context.until_cancelled(find_room_audience(&me, room)).await?,
    };
    // Before the hashing: a node that doesn't answer could not be told of it afterwards.
    context.until_cancelled(require_reachable_node(&me.profile)).await?;
    let requests = match source {
        SendSource::Paths(paths) => requests(context, &me, &audience, paths, name).await?,
        SendSource::Clipboard => {
            let copying = clipboard_copy::copy_clipboard(&me.profile, &audience, name);
            let (path, name) = context.until_cancelled(copying).await?;
            vec![SendRequest { audience: audience.clone(), path, name: Some(name), is_copy: true }]
        }
    };
    let begun = hash_all(context, &me.profile, requests).await?;
    // Looked at before a node of this command runs, which would be taken for one that stays.
    let is_serving = running_status(&me.profile).await?.is_some();
    let need = if detach && room.is_none() { NodeNeed::Links } else { NodeNeed::Online(NodeLifetime::Command) };
    let mut node = match need {
        NodeNeed::Online(lifetime) => open_node(&context.cancel, &me, lifetime).await?,
        need => context.until_cancelled(NodeHandle::open(&me, need)).await?,
    };
    let sent = announce_and_wait(context, &me, &mut node, (&to, &begun), detach).await;
    // In order, so that the others learn at once that the link is over.
    node.close().await?;
    // One whose message was given up is over.
    clear_settled_sends(&me.profile)?;
    if detach && sent.is_ok() && !is_serving {
        context.output.note(&tr!("it is offered while `peer serve` runs, which doesn't at the moment"));
    }
    sent
}

/// Returns what is to be sent; standard input is copied first.
async fn requests(
    context: &CommandContext,
    me: &LocalUser,
    audience: &Audience,
    paths: Vec<PathBuf>,
    name: Option<FileName>,
) -> Result<Vec<SendRequest>, Error> {
    let mut requests = Vec::with_capacity(paths.len());
    for path in paths {
        let is_copy = path == Path::new("-");
        if is_copy && name.is_none() {
            return Err(Error::Usage(tr!("standard input needs a name: add --name NAME")));
        }
        let path = if is_copy {
            let (profile, cancel) = (me.profile.clone(), context.cancel.clone());
            let copying = run_blocking(move || stream_copy::copy_stdin(&profile, &cancel));
            with_stop_timeout(context, copying).await?
        } else {
            resolve_working_folder(path)
        };
        requests.push(SendRequest { audience: audience.clone(), path, name: name.clone(), is_copy });
    }
    Ok(requests)
}

/// Hashes and records everything, with a bar.
async fn hash_all(
    context: &CommandContext,
    profile: &Profile,
    requests: Vec<SendRequest>,
) -> Result<Vec<BegunSend>, Error> {
    let (profile, output, cancel) = (profile.clone(), context.output.clone(), context.cancel.clone());
    let hashing = run_blocking(move || {
        begin_sends(&profile, &requests, |request| {
            let mut bar = ShareBar::new(&output);
            let mut failure = None;
            let one = begin_send(&profile, request, &mut |event| {
                // What is sent has an object of its own.
                if !matches!(event, ShareEvent::Shared { .. }) {
                    failure = bar.handle_event(&event).err().or(failure.take());
                }
                if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            bar.end();
            failure.map_or(one, |failure| Err(failure.into()))
        })
    });
    let begun = with_stop_timeout(context, hashing).await?;
    for BegunSend { omissions, .. } in &begun {
        failure_lines(omissions).iter().for_each(|line| context.output.note(line));
        by_design_line(omissions).iter().for_each(|line| context.output.note(line));
    }
    Ok(begun)
}

/// Tells the receivers of each send, and waits until they have all of them.
async fn announce_and_wait(
    context: &CommandContext,
    me: &LocalUser,
    node: &mut NodeHandle,
    (to, begun): (&ConversationName, &[BegunSend]),
    detach: bool,
) -> Result<(), Error> {
    let mut awaited = Vec::with_capacity(begun.len());
    let mut room = None;
    for BegunSend { send, is_resumed, .. } in begun {
        print_begun(context, to, send, *is_resumed)?;
        let has_receipts = match to {
            ConversationName::Person(user) => {
                let announcing = message_delivery::with_wait_notice(context, user, node.announce_send(send.number));
                let SendAnnouncement { report, receipts } = tokio::select! {
                    announced = announcing => announced?,
                    () = context.cancel.cancelled() => return Err(interrupted(context, begun)),
                };
                if let Some(why) = report.why {
                    context.output.note(&tr!("{why}: {user} is told when they can be reached", why, user));
                }
                if receipts == Some(false) {
                    context
                        .output
                        .note(&tr!("{user} has an older peer, which tells only that all of it was fetched", user));
                }
                receipts != Some(false)
            }
            ConversationName::Room(name) => {
                context.until_cancelled(announce_in_room(node, &me.profile, name, send)).await?;
                room = Some((name.clone(), context.until_cancelled(count_others(node, name)).await?));
                true
            }
        };
        awaited.push(AwaitedSend::new(send.clone(), has_receipts));
    }
    if detach {
        return Ok(());
    }
    let wait = ReceiptWait { context, me, room };
    let outcomes = match wait.run(node, awaited).await {
        Err(Error::Interrupted) => return Err(interrupted(context, begun)),
        outcomes => outcomes?,
    };
    let failures: Vec<Error> = outcomes.iter().filter_map(|(send, state)| wait.failure(send, *state)).collect();
    let (failed, total) = (failures.len(), outcomes.len());
    match failures.into_iter().next() {
        None => Ok(()),
        Some(only) if failed == total => Err(only),
        Some(first) => {
            context.output.warning(&first.to_string());
            Err(Error::SomeFailed { failed, total })
        }
    }
}

/// Returns the number of other members of a room.
async fn count_others(node: &NodeApi, name: &RoomName) -> Result<usize, Error> {
    let rooms = node.rooms().await?;
    let room = rooms.iter().find(|room| room.room.as_str().eq_ignore_ascii_case(name.as_str()));
    Ok(room.map_or(0, |room| room.members.len()).saturating_sub(1))
}

fn print_begun(
    context: &CommandContext,
    to: &ConversationName,
    sent: &OutgoingSend,
    is_resumed: bool,
) -> Result<(), Error> {
    let OutgoingSend { number, id, send, .. } = sent;
    if context.output.is_json() {
        let fields = json!({
            "number": number, "to": to.to_string(), "id": id, "name": send.name, "kind": send.kind,
            "files": send.files, "size": send.size, "hash": send.hash, "resumed": is_resumed,
        });
        return Ok(context.output.print_object("send", &fields)?);
    }
    let what = display_name(&describe_send(send)).into_owned();
    context.output.note(&match is_resumed {
        true => tr!("sending {what} to {to} (as before)", what, to),
        false => tr!("sending {what} to {to}", what, to),
    });
    Ok(())
}

fn interrupted(context: &CommandContext, begun: &[BegunSend]) -> Error {
    for BegunSend { send, .. } in begun {
        let name = display_name(send.send.name.as_str());
        context.output.note(&tr!(
            "interrupted: {name} stays offered while `peer serve` runs; run it again to wait, or end it: \
             `peer sends end {number}`",
            name,
            number = send.number
        ));
    }
    Error::Interrupted
}
