//! The command `peer files`.

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use localization::tr;
use serde_json::json;
use shared::names::name_encoding::display_name;
use shared::peer::FileStat;
use shared::tracker::{ListPeersRequest, TrackerRequest, UserFilesReply};
use shared::{RoomName, UntrustedText, UserName};

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::user_resolution::{LookupScope, resolve_arguments};
use super::value_parsers::parse_share_pattern;
use crate::engine::chat::ConversationName;
use crate::engine::fetch::{MemberFiles, list_room_files};
use crate::engine::{Error, peer_lookup, remote_files};
use crate::profile::Access;
use crate::ui::format_size;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer files bob
  peer files bob photos/
  peer files '#lab'",
    notes: "\
With a room, its members who are online are asked what they share with it; each file stands behind its owner.",
};

/// Show what somebody shares, or what is shared with a room.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct FilesArgs {
    /// Who, or a room ('#lab').
    #[arg(value_name = "USER|#ROOM")]
    from: ConversationName,
    /// Only names that start with this.
    #[arg(default_value = "", hide_default_value = true, value_parser = OsStringValueParser::new().map(parse_share_pattern))]
    prefix: String,
}

pub(super) async fn run(context: &CommandContext, args: FilesArgs) -> Result<(), Error> {
    let FilesArgs { from, prefix } = args;
    match from {
        ConversationName::Person(user) => list_files_of_user(context, user, prefix).await,
        ConversationName::Room(room) => print_room_files(context, &room, &prefix).await,
    }
}

async fn list_files_of_user(context: &CommandContext, mut user: UserName, prefix: String) -> Result<(), Error> {
    let me = context.me(Access::Look)?;
    resolve_arguments(context, &me, LookupScope::Tracker, [&mut user]).await?;
    // The profile pins no key for its own user, so the lookup would fail with a misleading error.
    if user == me.user {
        return Err(Error::Usage(tr!("these are your own files: `peer shares` lists them")));
    }
    let files = match peer_lookup::find_target(&me, &user).await {
        Ok(target) => {
            let entries = remote_files::list_remote_files(&me, &target, &prefix).await?;
            let (listed, mut files, mut unfit) = (entries.len(), Vec::with_capacity(entries.len()), Vec::new());
            for entry in entries {
                match entry {
                    Ok(file) => files.push((file.name, file.size, file.hash.to_string())),
                    Err(name) => unfit.push(name),
                }
            }
            warn_of_invalid_names(context, &unfit);
            // Without valid names, `shares nothing` would be wrong.
            if files.is_empty() && listed > 0 {
                return Err(Error::Integrity(tr!("{user} shares nothing that can be a file", user)));
            }
            files
        }
        // The user's client accepts no links: the tracker's catalogue is all there is.
        Err(Error::Unreachable(_)) => {
            let only = ListPeersRequest { user: Some(user.clone()), ..ListPeersRequest::default() };
            let listed: UserFilesReply = me.connect_tracker().await?.call(&TrackerRequest::ListPeers(only)).await?;
            let files = listed.into_files().into_iter();
            // The tracker isn't asked for a prefix, and lists the whole catalogue.
            let matching = files.filter(|file| file.name.as_str().starts_with(&prefix));
            matching.map(|file| (file.name, file.size, file.hash.as_str().to_owned())).collect::<Vec<_>>()
        }
        Err(error) => return Err(error),
    };
    for (name, bytes, hash) in &files {
        if context.output.is_json() {
            context.output.print_object("file", &json!({ "user": user, "name": name, "size": bytes, "hash": hash }))?;
        } else {
            context.output.print_data(&format!("{:>9}  {}", format_size(*bytes), display_name(name.as_str())))?;
        }
    }
    match files.as_slice() {
        [] if !prefix.is_empty() => return Err(Error::NotShared { user, name: prefix }),
        [] => context.output.note(&tr!("{user} shares nothing", user)),
        _ => {}
    }
    Ok(())
}

/// Prints what the members of a room who are online share with it.
async fn print_room_files(context: &CommandContext, room: &RoomName, prefix: &str) -> Result<(), Error> {
    let me = context.me(Access::Look)?;
    let members = list_room_files(&me, room, prefix).await?;
    let width = members.iter().map(|member| member.user.as_str().len()).max().unwrap_or(0);
    let mut any = false;
    for MemberFiles { user, files } in members {
        let entries = match files {
            Ok(entries) => entries,
            // Whoever is gone by now must not hide what the others share.
            Err(why) => {
                context.output.warning(&tr!("{user} can't be asked: {why}", user, why));
                continue;
            }
        };
        let mut unfit = Vec::new();
        for entry in entries {
            let FileStat { name, size, hash, .. } = match entry {
                Ok(file) => file,
                Err(name) => {
                    unfit.push(name);
                    continue;
                }
            };
            any = true;
            if context.output.is_json() {
                let told = json!({ "user": user, "room": room, "name": name, "size": size, "hash": hash });
                context.output.print_object("file", &told)?;
            } else {
                let (size, name) = (format_size(size), display_name(name.as_str()));
                context.output.print_data(&format!("{user:width$}  {size:>9}  {name}"))?;
            }
        }
        warn_of_invalid_names(context, &unfit);
    }
    match any {
        false if !prefix.is_empty() => Err(Error::NotSharedInRoom { room: room.clone(), name: prefix.to_owned() }),
        false => {
            context.output.note(&tr!("nobody who is online shares anything with #{room}", room));
            Ok(())
        }
        true => Ok(()),
    }
}

/// Warns of the first few entries that can't be file names, and counts the others: their number is up to the owner.
fn warn_of_invalid_names(context: &CommandContext, names: &[UntrustedText]) {
    const NAMED: usize = 8;
    for name in names.iter().take(NAMED) {
        context.output.warning(&tr!("left out: \"{name}\" can't be a file", name));
    }
    if let Some(more @ 1..) = names.len().checked_sub(NAMED) {
        context
            .output
            .warning(&tr!("left out: {n} more that can't be files" | "left out: {n} more that can't be files" % more));
    }
}
