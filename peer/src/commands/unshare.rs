//! The command `peer unshare`.

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use localization::tr;
use serde_json::json;
use shared::names::name_encoding::display_name;
use shared::{FileName, RoomName};

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::node_checks::require_reachable_node;
use super::shares::{SharedRoom, nothing_shared_note};
use super::value_parsers::{parse_room_name, parse_share_pattern};
use crate::engine::node::announce_shares;
use crate::engine::{Error, share};
use crate::profile::{Access, Audience, Profile};
use crate::util::shell_words::shell_quote;

/// Largest number of removed names in the closing line.
const MAX_NAMES_SHOWN: usize = 3;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer unshare report.pdf
  peer unshare photos/
  peer unshare slides.pdf --room lab",
    notes: "\
What you take out of a shared folder stays out of it until you share the folder again. Who renames it there makes it \
a new file, which is shared.",
};

/// Stop sharing files or folders.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct UnshareArgs {
    /// Names, folders (docs/) or paths.
    #[arg(required = true, value_name = "NAME", value_parser = OsStringValueParser::new().map(parse_share_pattern))]
    names: Vec<String>,
    /// Stop sharing it with this room; what everybody may have stays.
    #[arg(long, value_name = "ROOM", value_parser = parse_room_name)]
    room: Option<RoomName>,
}

pub(super) async fn run(context: &CommandContext, args: UnshareArgs) -> Result<(), Error> {
    let UnshareArgs { names, room } = args;
    let Some(profile) = Profile::open_existing(&context.home, Access::Use)? else {
        return Err(Error::Usage(nothing_shared_note()));
    };
    // Before the change: with a node that doesn't answer, the profile and the catalogue would differ.
    require_reachable_node(&profile).await?;
    let removed = match &room {
        None => share::unshare(&profile, &Audience::Everybody, &names)
            .map_err(|error| name_room_of_share(&profile, &names, error))?,
        Some(room) => unshare_in_room(&profile, room, &names)?,
    };
    announce_shares(&profile).await?;
    for name in &removed {
        if context.output.is_json() {
            context.output.print_object("unshare", &json!({ "name": name }))?;
        }
    }
    // A name and a path may be spelled alike: show what was removed.
    let named = match removed.as_slice() {
        names @ [_, ..] if names.len() <= MAX_NAMES_SHOWN => {
            let names = names.iter().map(|name| display_name(name.as_str())).collect::<Vec<_>>();
            format!(": {}", names.join(", "))
        }
        _ => String::new(),
    };
    context
        .output
        .note(&format!("{}{named}", tr!("stopped sharing 1 file" | "stopped sharing {n} files" % removed.len())));
    Ok(())
}

/// Replaces the error of a name that is shared with a room only by one that names the room.
fn name_room_of_share(profile: &Profile, names: &[String], error: Error) -> Error {
    let shared_with = |room: &SharedRoom| {
        let mut parsed = names.iter().filter_map(|name| name.parse::<FileName>().ok());
        // A fault of the profile is no reason to hide the first error.
        parsed.find(|name| profile.share(&room.audience, name).is_ok_and(|share| share.is_some()))
    };
    let rooms = if matches!(error, Error::Usage(_)) { SharedRoom::all(profile) } else { Ok(Vec::new()) };
    for room in rooms.unwrap_or_default() {
        if let Some(name) = shared_with(&room) {
            let (title, word) = (&room.title, shell_quote(&[name.as_str()]));
            let name = display_name(name.as_str());
            return Error::Usage(tr!(
                "{name} is shared with #{title} only: `peer unshare --room {title} {word}` stops that",
                name,
                title,
                word
            ));
        }
    }
    error
}

/// Stops sharing what these texts name with the room of this name, also one that was left or deleted. Of several rooms of
/// the name, those that have such shares are meant.
fn unshare_in_room(profile: &Profile, room: &RoomName, names: &[String]) -> Result<Vec<FileName>, Error> {
    let nothing = || Error::Usage(tr!("nothing is shared with #{room}: `peer shares` shows what is", room));
    let (mut removed, mut failure) = (Vec::new(), None);
    for shared in SharedRoom::all(profile)? {
        // One whose name is not on record any more is shown by its id.
        if shared.title.eq_ignore_ascii_case(room.as_str()) {
            match share::unshare(profile, &shared.audience, names) {
                Ok(names) => removed.extend(names),
                Err(error) => failure = Some(error),
            }
        }
    }
    if removed.is_empty() { Err(failure.unwrap_or_else(nothing)) } else { Ok(removed) }
}
