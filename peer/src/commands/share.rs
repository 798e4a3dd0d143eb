//! The command `peer share`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use localization::tr;
use serde_json::{Map, Value, json};
use shared::{FileName, RoomName};

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::file_hashing::{STOP_TIMEOUT, resolve_working_folder, with_stop_timeout};
use super::node_checks::require_reachable_node;
use super::value_parsers::{parse_file_name, parse_room_name};
use crate::engine::node::{announce_shares, running_status};
use crate::engine::room_contacts::find_room_audience;
use crate::engine::share::{self, OmissionReason, OmissionReport, ShareSummary};
use crate::engine::{Error, ErrorKind, run_blocking};
use crate::profile::{Access, Audience, Profile};
use crate::ui::{ShareBar, by_design_line, failure_line, failure_lines, format_size};

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer share report.pdf ~/photos
  peer share build/out.iso --as debian.iso
  peer share ~/photos/.hidden.jpg
  peer share slides.pdf --room lab",
    notes: "\
A file is hashed once, and again only when it changed. A link that you name is followed. `peer shares` lists what \
is shared and what is left out, `peer serve` puts it online, `peer offer` gives a file to one person alone. What is \
shared with a room is open to who is a member at that moment, and to nobody after you left it; others get not even \
its name.

A file that is being written is hashed when nothing has been written to it for a moment. A file of a folder that you \
take out with `peer unshare` stays out until you share the folder again. A folder that is not there, such as one on \
a disk that is unplugged, is waited for: `peer unshare` ends that. On network and FUSE file systems, and where the \
system has no watches left (fs.inotify.max_user_watches), folders are looked through at intervals.

A name that turns the text around it (bidi overrides) or is far too long can't be shared: give another with --as. \
Line breaks, \\, other control characters and bytes that aren't UTF-8 travel as stand-ins such as Icon␛0D␛ and \
arrive as they were; an older peer keeps the stand-in.

With --json the last line is a summary: shared, unchanged, bytes, failed, left_out by reason, and the code of the \
error or null.",
};

/// Share files and folders, with everybody or with a room.
///
/// A folder stays shared as a whole: while `peer serve` runs, it follows what is put into it, changed, renamed or
/// removed. Hidden files, links, devices and the like in a folder are left out and counted, unless you name them; secret
/// keys and the folders of accounts are never shared. Exit code 12 when something that was asked for, or all of it,
/// can't be shared.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct ShareArgs {
    /// Files and folders.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Share it under another name.
    #[arg(long = "as", value_name = "NAME", value_parser = parse_file_name)]
    name: Option<FileName>,
    /// Share it with the members of this room only.
    #[arg(long, value_name = "ROOM", value_parser = parse_room_name)]
    room: Option<RoomName>,
}

pub(super) async fn run(context: &CommandContext, args: ShareArgs) -> Result<(), Error> {
    let ShareArgs { paths, name, room } = args;
    if name.is_some() && paths.len() > 1 {
        return Err(Error::Usage(tr!("--as names one file or folder")));
    }
    let paths: Vec<PathBuf> = paths.into_iter().map(resolve_working_folder).collect();
    let audience = match &room {
        Some(room) => context.until_cancelled(find_room_audience(&context.me(Access::Use)?, room)).await?,
        None => Audience::Everybody,
    };
    let summary =
        hash_with_bar(context, move |profile, report| share::share(profile, &audience, &paths, name.as_ref(), report))
            .await?;
    let outcome = match summary.interrupted_total {
        Some(_) => Err(Error::Interrupted),
        None => outcome_of(&summary),
    };
    if context.output.is_json() {
        // Deferred: the summary is the last object, after the error that it names.
        context.output.defer_object("summary", summary_json(&summary, outcome.as_ref().err()));
    } else {
        print_summary(context, &summary);
        if summary.shared > 0 && running_status(&context.profile()?).await.is_ok_and(|status| status.is_none()) {
            context.output.note(&tr!("next: `peer serve` goes online, so that others can fetch what you share"));
        }
    }
    outcome
}

/// Returns an error if a requested file is not shared. Hidden files and links left out of a folder are no error, as
/// long as at least one file of it is shared.
fn outcome_of(summary: &ShareSummary) -> Result<(), Error> {
    let told = |message| Err(Error::Relayed { kind: ErrorKind::Partial, message });
    let failed = summary.omissions.failure_count();
    match (failed, summary.omissions.first_failure()) {
        (0, _) if summary.shared == 0 && !summary.omissions.is_empty() => {
            let can_be_named = |omission| matches!(omission, OmissionReason::Hidden | OmissionReason::Link);
            told(if summary.omissions.by_design().any(|(omission, _)| can_be_named(omission)) {
                tr!("no file is shared: hidden files and links are shared only if they are named")
            } else {
                tr!("no file is shared")
            })
        }
        (0, _) => Ok(()),
        (1, Some(only)) => told(failure_line(only)),
        _ => told(tr!("{failed} of {total} couldn't be shared", failed, total = failed + summary.shared)),
    }
}

/// Returns the omissions for programs: counts and the first names, by reason.
pub(super) fn omissions_json(omissions: &OmissionReport) -> (Value, Value) {
    let (mut counts, mut names) = (Map::new(), Map::new());
    for (reason, group) in omissions.by_reason() {
        counts.insert(reason.as_str().to_owned(), json!(group.count));
        let first: Vec<String> = group.examples.into_iter().map(|example| example.name).collect();
        names.insert(reason.as_str().to_owned(), json!(first));
    }
    (Value::Object(counts), Value::Object(names))
}

fn summary_json(summary: &ShareSummary, error: Option<&Error>) -> Value {
    let (counts, names) = omissions_json(&summary.omissions);
    json!({
        "shared": summary.shared,
        "unchanged": summary.unchanged,
        "bytes": summary.bytes,
        "failed": summary.omissions.failure_count(),
        "found": summary.interrupted_total,
        "left_out": counts,
        "left_out_first": names,
        "code": error.map(|error| error.kind().as_str()),
    })
}

fn print_summary(context: &CommandContext, summary: &ShareSummary) {
    // A single failure is the error itself.
    if summary.omissions.failure_count() > 1 {
        failure_lines(&summary.omissions).iter().for_each(|line| context.output.note(line));
    }
    by_design_line(&summary.omissions).iter().for_each(|line| context.output.note(line));
    if let Some(found) = summary.interrupted_total {
        context.output.note(&interrupted_words(summary.shared, found));
    } else if summary.shared > 0 {
        context.output.note(&summary_line(summary));
    } else if summary.omissions.is_empty() {
        context.output.note(&tr!("no file is there yet: those that come are shared while `peer serve` runs"));
    }
}

fn summary_line(summary: &ShareSummary) -> String {
    let known = match summary.unchanged {
        0 => String::new(),
        unchanged if unchanged == summary.shared => format!(" {}", tr!("(already hashed)")),
        unchanged => format!(" {}", tr!("({n} already hashed)" | "({n} already hashed)" % unchanged)),
    };
    let size = format_size(summary.bytes);
    let shared = tr!("1 file shared, {size}" | "{n} files shared, {size}" % summary.shared, size);
    format!("{shared}{known}")
}

/// Returns the line after an interruption: the progress, and that a repeated command goes on.
fn interrupted_words(shared: usize, found: usize) -> String {
    tr!(
        "interrupted: {shared} of 1 file shared; run it again to resume"
            | "interrupted: {shared} of {n} files shared; run it again to resume" % found,
        shared
    )
}

/// Hashes with a progress bar and notifies the node. An interruption ends it at the next piece of a file; files hashed
/// before are shared.
async fn hash_with_bar(
    context: &CommandContext,
    share: impl FnOnce(&Profile, &mut share::ShareEventHandler<'_>) -> Result<ShareSummary, Error> + Send + 'static,
) -> Result<ShareSummary, Error> {
    let profile = context.profile()?;
    tokio::select! {
        () = context.cancel.cancelled() => return Err(Error::Interrupted),
        found = require_reachable_node(&profile) => found?,
    }
    let (sharing, output, cancel) = (profile.clone(), context.output.clone(), context.cancel.clone());
    let sharing = run_blocking(move || {
        let mut bar = ShareBar::new(&output);
        let mut failure = None;
        let summary = share(&sharing, &mut |event| {
            // Kept for the end: the files are shared all the same if nobody reads of it.
            if failure.is_none() {
                failure = bar.handle_event(&event).err();
            }
            if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.end();
        failure.map_or(summary, |failure| Err(failure.into()))
    });
    let summary = with_stop_timeout(context, sharing).await?;
    let told = announce_shares(&profile);
    match summary.interrupted_total {
        // The node re-registers its shares by itself later, so that the exit need not wait longer.
        Some(_) => drop(tokio::time::timeout(STOP_TIMEOUT, told).await),
        None => told.await?,
    }
    Ok(summary)
}

/// Shares fetched files with an audience under these names. A failure is only a warning: the files were fetched.
pub(super) async fn share_fetched(context: &CommandContext, audience: Audience, files: Vec<(PathBuf, FileName)>) {
    if files.is_empty() {
        return;
    }
    match hash_with_bar(context, move |profile, report| share::share_files(profile, &audience, files, report)).await {
        Ok(ShareSummary { shared, interrupted_total: Some(found), .. }) => {
            context.output.note(&interrupted_words(shared, found));
        }
        Ok(summary) if !context.output.is_json() => {
            failure_lines(&summary.omissions).iter().for_each(|line| context.output.note(line));
            context.output.note(&summary_line(&summary));
        }
        Ok(_) => {}
        // The fetch has told it already.
        Err(why) if why.is_closed_pipe() => {}
        Err(why) => context.output.warning(&tr!("what was fetched is not all shared: {why}", why)),
    }
}
