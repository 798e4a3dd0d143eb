//! The command `peer sends`.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::names::name_encoding::display_name;

use super::command_help::CommandHelp;
use super::common_words::send_state_words;
use super::context::CommandContext;
use super::lasting_action::{LastingAction, LastingChange, find_lasting};
use super::message_delivery::cancel_message;
use crate::engine::chat::describe_send;
use crate::engine::sends::end_send;
use crate::engine::{Error, ErrorKind, LocalUser, run_blocking};
use crate::profile::{Access, Audience, OutgoingSend, Profile, SendState};
use crate::ui::date_and_time;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer sends
  peer sends pause 3",
    notes: "\
Sends that wait are named by their number or by the name of the file or folder.

Nobody can fetch a send that is paused. Whoever accepts what you send gets it some minutes after it is resumed; \
sending the same again resumes it, too. A message that announces it is delivered all the same. What was shared with \
them before it was sent stays shared.

The end of a send drops its message if it is still queued, and takes back what is shared for it. The last 100 that are \
over are listed as well: done, declined, ended, or failed.

With --json: one `send` for each, as it is then.",
};

/// Show what is sent, or pause, resume or end a send.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct SendsArgs {
    #[command(subcommand)]
    action: Option<LastingAction>,
}

pub(super) async fn run(context: &CommandContext, args: SendsArgs) -> Result<(), Error> {
    let Some(action) = args.action else { return print_sends(context) };
    let me = context.me(Access::Use)?;
    let (change, names) = action.into_parts();
    // All of them before any is changed, so that a slip changes nothing.
    let waiting = waiting_sends(&me.profile)?;
    let found: Vec<&OutgoingSend> =
        names.iter().map(|which| find_waiting(&waiting, which)).collect::<Result<_, Error>>()?;
    for send in found {
        match change {
            LastingChange::Pause => set_paused(context, &me, send, true).await?,
            LastingChange::Resume => set_paused(context, &me, send, false).await?,
            LastingChange::End => end(context, &me, send).await?,
        }
    }
    Ok(())
}

/// Ends the send of this number or name.
pub(super) async fn end_named(context: &CommandContext, which: &str) -> Result<(), Error> {
    let me = context.me(Access::Use)?;
    let waiting = waiting_sends(&me.profile)?;
    end(context, &me, find_waiting(&waiting, which)?).await
}

fn waiting_sends(profile: &Profile) -> Result<Vec<OutgoingSend>, Error> {
    Ok(profile.sends()?.into_iter().filter(|send| send.state == SendState::Waiting).collect())
}

fn find_waiting<'a>(waiting: &'a [OutgoingSend], which: &str) -> Result<&'a OutgoingSend, Error> {
    find_lasting(waiting, which, "sends", |send| Some(send.number), |send| send.send.name.as_str())
}

async fn set_paused(context: &CommandContext, me: &LocalUser, send: &OutgoingSend, paused: bool) -> Result<(), Error> {
    let (profile, number) = (me.profile.clone(), send.number);
    let is_changed = run_blocking(move || Ok(profile.set_send_paused(number, paused)?)).await?;
    let name = display_name(send.send.name.as_str());
    context.output.note(&match (paused, is_changed) {
        (true, true) if send.keeps_shares => {
            tr!("paused: {name}; it was shared with them before, and stays shared", name)
        }
        (true, true) => tr!("paused: {name} (`peer sends resume {number}` goes on)", name, number),
        (true, false) => tr!("{name} is paused already", name),
        (false, true) => tr!("resumed: {name}", name),
        (false, false) => tr!("{name} isn't paused", name),
    });
    print_changed(context, &me.profile, number)
}

/// Ends a send: its message is dropped if it waits, and nobody can fetch it any more.
async fn end(context: &CommandContext, me: &LocalUser, send: &OutgoingSend) -> Result<(), Error> {
    let (profile, ended) = (me.profile.clone(), send.clone());
    if !run_blocking(move || end_send(&profile, &ended)).await? {
        let message = tr!("it is over already");
        return Err(Error::Relayed { kind: ErrorKind::Other, message });
    }
    if let (Some(id), Some(to)) = (send.id, send.audience.person()) {
        // Told of it already: then there is nothing to drop.
        match cancel_message(me, to, id).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Disk => return Err(error),
            Err(error) => tracing::debug!("the message of the send stays: {error}"),
        }
    }
    context.output.note(&tr!("ended: {name}", name = display_name(send.send.name.as_str())));
    print_changed(context, &me.profile, send.number)
}

/// Prints a send after its change, for programs.
fn print_changed(context: &CommandContext, profile: &Profile, number: i64) -> Result<(), Error> {
    match profile.send(number)? {
        Some(send) if context.output.is_json() => print_send(context, profile, &send),
        _ => Ok(()),
    }
}

/// Prints what is sent, and what became of the last ones.
pub(super) fn print_sends(context: &CommandContext) -> Result<(), Error> {
    let profile = context.existing_profile(Access::Look)?;
    let sends = profile.sends()?;
    for sent in &sends {
        print_send(context, &profile, sent)?;
    }
    if sends.is_empty() {
        context.output.note(&tr!("nothing is sent: `peer send USER PATH` sends a file or folder"));
    } else if sends.iter().any(|send| send.state == SendState::Waiting) {
        context.output.note(&tr!("`peer sends pause N` pauses one that waits, and `peer sends end N` ends it"));
    }
    Ok(())
}

fn print_send(context: &CommandContext, profile: &Profile, sent: &OutgoingSend) -> Result<(), Error> {
    let OutgoingSend { number, audience, send, at, state, is_paused, .. } = sent;
    let to = match audience {
        Audience::Room(id) => match profile.rooms()?.into_iter().find(|room| room.id == *id) {
            Some(room) => format!("#{}", room.name),
            None => audience.to_string(),
        },
        Audience::Person(user) => user.to_string(),
        Audience::Everybody | Audience::Paused(_) => String::new(),
    };
    let is_room = audience.room().is_some();
    let (done, declined) = if is_room { profile.room_receipt_counts(*number)? } else { (0, 0) };
    // A send that ends keeps its mark of a pause, which means nothing then.
    let is_paused = *is_paused && *state == SendState::Waiting;
    if context.output.is_json() {
        let mut fields = json!({
            "number": number, "to": to, "name": send.name, "kind": send.kind, "files": send.files,
            "size": send.size, "hash": send.hash, "at": at, "state": state, "paused": is_paused,
        });
        if is_room {
            fields["count"] = json!(done);
            fields["declined"] = json!(declined);
        }
        return Ok(context.output.print_object("send", &fields)?);
    }
    let what = display_name(&describe_send(send)).into_owned();
    let state = if is_paused { tr!("state of a send" => "paused") } else { send_state_words(*state) };
    let state = match is_room {
        true => tr!("{state}, {n} have it" | "{state}, {n} have it" % done, state),
        false => state,
    };
    let state = context.output.dim(&state);
    Ok(context.output.print_data(&format!("{number:>3}  {}  {to}  {what}  {state}", date_and_time(*at)))?)
}
