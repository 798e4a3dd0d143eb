//! The copy of the clipboard that `peer send USER --clipboard` sends.

use std::path::PathBuf;

use shared::FileName;

use super::super::clipboard_errors::clipboard_error;
use crate::engine::Error;
use crate::engine::sends::send_copy_path;
use crate::profile::{Audience, Profile, SendState};
use crate::sys::{ClipboardKind, read_clipboard};

/// Copies the clipboard; returns the path of the copy, and its name unless one is given: one that no send to the same
/// audience has that is not over, because it would end that one.
pub(super) async fn copy_clipboard(
    profile: &Profile,
    audience: &Audience,
    name: Option<FileName>,
) -> Result<(PathBuf, FileName), Error> {
    let path = send_copy_path(profile)?;
    let kind = read_clipboard(&path).await.map_err(|error| clipboard_error(&error))?;
    let name = match name {
        Some(name) => name,
        None => free_name(profile, audience, kind)?,
    };
    Ok((path, name))
}

fn free_name(profile: &Profile, audience: &Audience, kind: ClipboardKind) -> Result<FileName, Error> {
    let suffix = match kind {
        ClipboardKind::Text => "txt",
        ClipboardKind::Png => "png",
    };
    let sends = profile.sends()?;
    let is_taken = |name: &str| {
        sends.iter().any(|send| {
            send.state == SendState::Waiting && send.audience == *audience && send.send.name.as_str() == name
        })
    };
    let names = (1_u32..).map(|number| match number {
        1 => format!("clipboard.{suffix}"),
        number => format!("clipboard-{number}.{suffix}"),
    });
    // Sends that are not over are bounded, and so is this search.
    let name = names.into_iter().find(|name| !is_taken(name)).unwrap_or_default();
    name.parse().map_err(|_| Error::Internal("the clipboard's copy has no name".to_owned()))
}
