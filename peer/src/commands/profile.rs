//! The command `peer profile`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use localization::tr;
use serde_json::json;
use shared::names::name_encoding::display_name;
use shared::safe_text::safe_path;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use crate::engine::Error;
use crate::profile::{Access, OutgoingSend, Profile, SendState};

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer profile export bob.vizinho
  peer profile import bob.vizinho",
    notes: "\
A profile is a person's whole state on one machine: key, account, messages, shares and settings, with no shared file in \
it, nor what was sent from standard input or the clipboard and still waits. It is one file, which only you may read: whoever has it is you. Delete it after the import.

The copy that stays behind knows that it moved: it goes online no more, for two copies of one key would contradict each \
other. If the file was never imported, `peer profile export --cancel` takes that back.",
};

const EXPORT_HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer profile export bob.vizinho
  peer profile export --cancel",
    notes: "Not beside a running node: `peer stop` ends it.",
};

const IMPORT_HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer profile import bob.vizinho
  peer --home ~/second profile import bob.vizinho",
    notes: "\
Only where there is no profile. What was shared is served where its files are at the same paths; `peer shares` shows \
what is missing.",
};

/// Move your profile to another machine: key, account, messages and all.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct ProfileArgs {
    #[command(subcommand)]
    command: ProfileCommand,
}

#[derive(Debug, Subcommand)]
enum ProfileCommand {
    Export(ProfileExportArgs),
    Import(ProfileImportArgs),
}

/// Write the profile to one file; here it goes online no more.
#[derive(Debug, Args)]
#[command(after_help = EXPORT_HELP.examples, after_long_help = EXPORT_HELP.long())]
struct ProfileExportArgs {
    /// The new file.
    #[arg(value_name = "FILE", required_unless_present = "cancel")]
    file: Option<PathBuf>,
    /// Go on here after all: the file was never imported.
    #[arg(long, conflicts_with = "file")]
    cancel: bool,
}

/// Go on with a profile that was exported elsewhere.
#[derive(Debug, Args)]
#[command(after_help = IMPORT_HELP.examples, after_long_help = IMPORT_HELP.long())]
struct ProfileImportArgs {
    /// The file of `peer profile export`.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(context: &CommandContext, args: ProfileArgs) -> Result<(), Error> {
    match args.command {
        ProfileCommand::Export(args) => export(context, args),
        ProfileCommand::Import(args) => import(context, &args),
    }
}

fn export(context: &CommandContext, args: ProfileExportArgs) -> Result<(), Error> {
    let profile = context.existing_profile(Access::Use)?;
    let user = profile.account()?.ok_or(Error::NotLoggedIn)?.user;
    let (kind, text) = match &args.file {
        Some(file) => {
            profile.export(file)?;
            note_left_behind(context, &profile)?;
            let text = tr!(
                "{user} is in {file} now and goes online here no more: `peer profile import FILE` goes on elsewhere. Whoever \
                 has that file is {user}: delete it afterwards",
                user,
                file = safe_path(file)
            );
            ("exported", text)
        }
        None if profile.cancel_move()? => {
            ("kept", tr!("{user} stays here: delete the exported file, which must not be imported any more", user))
        }
        None => ("kept", tr!("{user} never moved: nothing to cancel", user)),
    };
    print_change(context, kind, user.as_str(), args.file, &text)
}

/// Tells what the file doesn't have although the profile's folder does: copies of streams that wait to be fetched.
fn note_left_behind(context: &CommandContext, profile: &Profile) -> Result<(), Error> {
    let waits = |send: &&OutgoingSend| send.is_copy && send.state == SendState::Waiting;
    let sends = profile.sends()?;
    let names: Vec<String> =
        sends.iter().filter(waits).map(|send| display_name(send.send.name.as_str()).into_owned()).collect();
    if !names.is_empty() {
        context.output.warning(&tr!(
            "not moved, because it came from standard input or the clipboard and waits to be fetched: {names}. Send it \
             again from the other machine",
            names = names.join(", ")
        ));
    }
    Ok(())
}

fn import(context: &CommandContext, args: &ProfileImportArgs) -> Result<(), Error> {
    let profile = Profile::import(&context.home, &args.file)?;
    let user = profile.account()?.ok_or(Error::NotLoggedIn)?.user;
    let text = tr!("{user} is here now: `peer serve` goes online. Delete the file: it has {user}'s secret key", user);
    print_change(context, "imported", user.as_str(), Some(args.file.clone()), &text)
}

fn print_change(
    context: &CommandContext,
    kind: &str,
    user: &str,
    file: Option<PathBuf>,
    text: &str,
) -> Result<(), Error> {
    if context.output.is_json() {
        let file = file.map(|file| file.to_string_lossy().into_owned());
        return Ok(context.output.print_object("profile", &json!({ "kind": kind, "user": user, "file": file }))?);
    }
    context.output.note(text);
    Ok(())
}
