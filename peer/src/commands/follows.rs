//! The command `peer follows`.

use clap::{Args, Subcommand};
use localization::tr;
use serde_json::{Value, json};
use shared::names::name_encoding::display_name;
use shared::safe_text::{safe_line, safe_path};

use super::command_help::CommandHelp;
use super::context::CommandContext;
use crate::engine::follow::{end_follow, resume_follow};
use crate::engine::follow_news::folder_text;
use crate::engine::node::announce_follows;
use crate::engine::{Error, LocalUser, run_blocking};
use crate::profile::{Access, Follow, FollowState, FollowStatus};
use crate::ui::date_and_time;

/// Names that are shown of those that are to be removed.
const SHOWN_NAMES: usize = 5;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer follows
  peer follows end 1
  peer follows confirm 1",
    notes: "\
`peer fetch bob photos/ --follow` begins a follow. A node that runs here, such as `peer serve`, keeps the copy in step: \
what is new, changed or renamed comes within seconds, and what was missed while one of you was away is made up for.

A file that you changed is never overwritten: it stays as it is until a new version of it comes, and is then kept as \
NAME (mine). One that you removed stays away until then.

With --delete, what its user removed is removed here as well: only what the follow put here and nobody changed, and only \
when their node says that it was removed, never because a disk isn't there. It goes to the folder .vizinho-trash in the \
copy, where it is kept for 30 days; empty that folder whenever you like. More than 100 files within ten minutes, or more \
than half of all, stay until `peer follows confirm NUMBER`.

Names that begin with a dot are not taken. At most 32 folders are followed, 8 of one user. 1 GiB of the disk stays \
free. When the key of the user changes, the follow is over until `peer follows resume NUMBER`.

The states: in_step, fetching, waiting (for the user), incomplete (some files failed), needs_confirmation, held \
(something here is in the way), paused, key_changed.",
};

/// Show the folders that are followed, and how far they are; pause or end one.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct FollowsArgs {
    #[command(subcommand)]
    command: Option<FollowsCommand>,
}

#[derive(Debug, Subcommand)]
enum FollowsCommand {
    /// Have a follow rest; the copy stays as it is.
    #[command(after_help = PAUSE.examples)]
    Pause(FollowNumber),
    /// Have a follow go on, after a pause or with a new key.
    #[command(after_help = RESUME.examples)]
    Resume(FollowNumber),
    /// End a follow; the copy stays as it is.
    #[command(after_help = END.examples)]
    End(FollowNumber),
    /// Remove here what the user removed, when it is so much that you are asked.
    #[command(after_help = CONFIRM.examples)]
    Confirm(FollowNumber),
}

const PAUSE: CommandHelp =
    CommandHelp { examples: "Examples:\n  peer follows pause 1\n  peer follows resume 1", notes: "" };
const RESUME: CommandHelp =
    CommandHelp { examples: "Examples:\n  peer follows resume 1\n  peer follows pause 1", notes: "" };
const END: CommandHelp = CommandHelp { examples: "Examples:\n  peer follows end 1\n  peer follows", notes: "" };
const CONFIRM: CommandHelp = CommandHelp { examples: "Examples:\n  peer follows confirm 1\n  peer follows", notes: "" };

/// The number of a follow.
#[derive(Debug, Args)]
struct FollowNumber {
    /// Its number, as `peer follows` shows it.
    number: i64,
}

pub(super) async fn run(context: &CommandContext, args: FollowsArgs) -> Result<(), Error> {
    let Some(command) = args.command else { return list(context) };
    let me = context.me(Access::Use)?;
    let number = match &command {
        FollowsCommand::Pause(of)
        | FollowsCommand::Resume(of)
        | FollowsCommand::End(of)
        | FollowsCommand::Confirm(of) => of.number,
    };
    let unknown = || Error::Usage(tr!("there is no follow {number}: `peer follows` lists them", number));
    let follow = me.profile.follow(number)?.ok_or_else(unknown)?;
    let said = match command {
        FollowsCommand::Pause(_) => {
            me.profile.set_follow_paused(number, true)?;
            let folder = follow_words(&follow);
            tr!("{folder} is paused: `peer follows resume {number}` has it go on", folder, number)
        }
        FollowsCommand::Resume(_) => {
            let with = me.clone();
            run_blocking(move || resume_follow(&with, number)).await?.ok_or_else(unknown)?;
            tr!("{folder} goes on", folder = follow_words(&follow))
        }
        FollowsCommand::End(_) => {
            let with = me.clone();
            run_blocking(move || end_follow(&with, number)).await?;
            let (folder, copy) = (follow_words(&follow), safe_path(&follow.of.root));
            tr!("{folder} is followed no more; the copy stays in {copy}", folder, copy)
        }
        FollowsCommand::Confirm(_) => {
            let count = me.profile.confirm_follow_removals(number)?;
            if count == 0 {
                return Err(Error::Usage(tr!("nothing of the follow {number} waits to be confirmed", number)));
            }
            let copy = safe_path(&follow.of.root);
            tr!("{n} files go to .vizinho-trash in {copy}" | "{n} files go to .vizinho-trash in {copy}" % count, copy)
        }
    };
    context.output.note(&said);
    announce(context, &me).await
}

/// Has the node that runs look at the follows.
async fn announce(context: &CommandContext, me: &LocalUser) -> Result<(), Error> {
    // After the end of the last follow there is nothing that a node would keep in step.
    if !announce_follows(&me.profile).await? && !me.profile.follows()?.is_empty() {
        context.output.note(&tr!("no node runs here: folders are kept in step while `peer serve` runs"));
    }
    Ok(())
}

fn list(context: &CommandContext) -> Result<(), Error> {
    let profile = context.existing_profile(Access::Look)?;
    let follows = profile.follows()?;
    for follow in &follows {
        if context.output.is_json() {
            context.output.print_object("follow", &follow_json(follow))?;
            continue;
        }
        let Follow { number, of, status, .. } = follow;
        let last = match status.in_step_at {
            Some(at) if status.state == FollowState::InStep => date_and_time(at),
            Some(at) => tr!("in step last: {time}", time = date_and_time(at)),
            None => tr!("never in step yet"),
        };
        let folder = display_name(&folder_text(of.folder.as_ref())).into_owned();
        let (user, copy) = (&of.user, tr!("in {copy}", copy = safe_path(&of.root)));
        let state = state_words(follow);
        context.output.print_data(&format!("{number}  {user}  {folder}  {copy}  {state}  ({last})"))?;
    }
    if context.output.is_json() {
        return Ok(());
    }
    for follow in follows.iter().filter(|follow| follow.status.state == FollowState::NeedsConfirmation) {
        let names = profile.asked_follow_removals(follow.number)?;
        let shown: Vec<_> = names.iter().take(SHOWN_NAMES).map(|name| name.display().into_owned()).collect();
        let (shown, number, count) = (shown.join(", "), follow.number, names.len());
        context.output.note(&if count > SHOWN_NAMES {
            let more = count - SHOWN_NAMES;
            tr!("`peer follows confirm {number}` removes {shown} and {more} more", number, shown, more)
        } else {
            tr!("`peer follows confirm {number}` removes {shown}", number, shown)
        });
    }
    if follows.is_empty() {
        context.output.note(&tr!("nothing is followed: `peer fetch USER FOLDER/ --follow` begins it"));
    } else if !profile.is_node_running()? {
        context.output.note(&tr!("no node runs here: folders are kept in step while `peer serve` runs"));
    }
    Ok(())
}

/// Returns a follow in JSON.
pub(super) fn follow_json(follow: &Follow) -> Value {
    let Follow { number, of, is_paused, status: FollowStatus { state, count, why, in_step_at }, .. } = follow;
    let state = if *is_paused { "paused" } else { state.as_str() };
    json!({
        "number": number, "user": of.user, "folder": folder_text(of.folder.as_ref()),
        "into": of.root.to_string_lossy(), "delete": of.deletes, "state": state, "count": count, "why": why,
        "in_step_at": in_step_at,
    })
}

fn state_words(follow: &Follow) -> String {
    let Follow { of, is_paused, status: FollowStatus { state, count, why, .. }, .. } = follow;
    // A changed key comes with lines of commands, and a row has one line.
    let first_line = || safe_line(why.lines().next().unwrap_or_default()).into_owned();
    match state {
        _ if *is_paused => tr!("state of a follow" => "paused"),
        FollowState::InStep => tr!("state of a follow" => "in step"),
        FollowState::Fetching => tr!("fetching {count}", count),
        FollowState::Waiting if why.is_empty() => tr!("waiting for {user}", user = of.user),
        FollowState::Waiting => tr!("waiting for {user}: {why}", user = of.user, why = first_line()),
        FollowState::Incomplete => tr!("{n} failed: {why}" | "{n} failed: {why}" % *count, why = first_line()),
        FollowState::NeedsConfirmation => {
            tr!("needs confirmation: {n} removed" | "needs confirmation: {n} removed" % *count)
        }
        FollowState::Held => tr!("held: {why}", why = first_line()),
        FollowState::KeyChanged => tr!("ended: {why}", why = first_line()),
    }
}

fn follow_words(follow: &Follow) -> String {
    match &follow.of.folder {
        Some(folder) => {
            let folder = display_name(folder.as_str());
            tr!("{user}'s {folder}", user = follow.of.user, folder = format_args!("{folder}/"))
        }
        None => tr!("all that {user} shares", user = follow.of.user),
    }
}
