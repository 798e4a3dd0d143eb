//! The command `peer room passwd`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use localization::tr;
use serde_json::json;
use shared::tracker::room_request::PasswordChange;

use super::{OwnRoom, RoomOperand, confirm_tracker_for_password, print_change};
use crate::commands::command_help::CommandHelp;
use crate::commands::context::CommandContext;
use crate::commands::password_prompt::{PasswordSource, read_new_password};
use crate::engine::Error;
use crate::engine::room_actions::{RoomEntryChange, change_entry};
use crate::profile::Access;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer room passwd lab
  peer room passwd lab --remove
  peer room passwd lab --invite-only yes",
    notes: "",
};

/// Change who can join a room: its password, or by invitation only.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct RoomPasswdArgs {
    #[command(flatten)]
    operand: RoomOperand,
    /// Read the new password from the first line of a file; - is standard input [default: ask].
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Take the password away.
    #[arg(long, conflicts_with = "password_file")]
    remove: bool,
    /// Whether joining takes an invitation; alone it leaves the password as it is.
    #[arg(long, value_name = "yes|no", value_parser = BoolishValueParser::new())]
    invite_only: Option<bool>,
}

pub(super) async fn run(context: &CommandContext, args: RoomPasswdArgs) -> Result<(), Error> {
    let RoomPasswdArgs { operand, password_file, remove, invite_only } = args;
    let OwnRoom { me, room, .. } = OwnRoom::open(context, &operand, Access::Use).await?;
    let name = &room.name;
    let password = if remove {
        PasswordChange::Remove
    } else if invite_only.is_some() && password_file.is_none() {
        PasswordChange::Keep
    } else {
        confirm_tracker_for_password(context, &me, &format!("room passwd {name}")).await?;
        let source = PasswordSource::new(password_file);
        PasswordChange::Set(read_new_password(context, &source, &tr!("New password of #{name}:", name)).await?)
    };
    let has_password = match password {
        PasswordChange::Keep => room.password,
        PasswordChange::Remove => false,
        PasswordChange::Set(_) => true,
    };
    let is_by_invitation = invite_only.unwrap_or(room.invite_only);
    // Over a new connection: the first one may have ended while the password was typed.
    let mut tracker = me.connect_tracker().await?;
    let changed = change_entry(&mut tracker, &room, RoomEntryChange { password, invite_only }).await?;
    let fields = json!({ "id": changed.id, "password": has_password, "invite_only": is_by_invitation });
    let text = match (is_by_invitation, has_password) {
        (true, _) => tr!("#{name}: only people who are invited can join", name),
        (false, true) => tr!("#{name}: people join with its password, or an invitation", name),
        (false, false) => tr!("#{name}: everybody can join", name),
    };
    print_change(context, name, "entry", fields, &text)
}
