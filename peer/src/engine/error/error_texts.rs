//! Texts of errors that say more or less, after what is known.

use std::path::{Path, PathBuf};

use localization::tr;
use shared::account_name::shell_operand;
use shared::names::name_encoding;
use shared::{Fingerprint, UserName};

use crate::engine::disk_error::shown_path;
use crate::engine::size_format::format_size;
use crate::net::{LinkError, TrackerError};
use crate::sys::time_zone;

/// Returns the text for a network without a tracker, or without the one with this key.
pub(super) fn no_tracker_text(seconds: u64, key: Option<&Fingerprint>) -> String {
    match key {
        None => tr!(
            "no tracker was found on this network within {seconds} s, and none runs on this machine: name it with \
             --tracker HOST[:PORT]",
            seconds
        ),
        Some(key) => tr!(
            "no tracker with the key {key} was found on this network within {seconds} s, and none runs on this machine: \
             name it with --tracker HOST[:PORT]",
            key,
            seconds
        ),
    }
}

/// Returns the text for a name that a user shared until now. `kept` is the path of the partial file with the number of
/// its verified bytes.
pub(super) fn no_longer_shared_text(user: &UserName, name: &str, kept: Option<&(PathBuf, u64)>) -> String {
    let name = name_encoding::display_name(name);
    match kept {
        None => tr!("{user} doesn't share {name} any more", user, name),
        Some((part, bytes)) => tr!(
            "{user} doesn't share {name} any more; {size} are kept in {path}: delete it if you don't want to go on",
            user,
            name,
            size = format_size(*bytes),
            path = shown_path(part)
        ),
    }
}

/// Returns the text of an error of the tracker, with the command that finds out why it isn't reached.
pub(super) fn tracker_text(error: &TrackerError) -> String {
    match error {
        TrackerError::Unreachable { .. } => tr!("{error}; `peer doctor` looks into it", error),
        _ => error.to_string(),
    }
}

/// Returns the text of an error of a link, with the command that finds out why the user isn't reached.
pub(super) fn link_text(user: &UserName, error: &LinkError) -> String {
    match error {
        LinkError::NoAnswer { .. } | LinkError::MtuTooSmall(_) | LinkError::Lost(_) => {
            tr!("{error}; `peer doctor {user}` looks into it", error, user = shell_operand(user))
        }
        _ => error.to_string(),
    }
}

/// Returns the text for a node whose socket is gone.
pub(super) fn missing_socket_text(pid: Option<u32>, socket: &Path) -> String {
    let socket = shown_path(socket);
    match pid {
        Some(pid) => tr!(
            "process {pid} keeps this account, and its socket {socket} is gone: wait some seconds until it is put back, \
             or end the process",
            pid,
            socket
        ),
        None => tr!(
            "another `peer` keeps this account, and its socket {socket} is gone: wait some seconds until it is put back, \
             or end the process",
            socket
        ),
    }
}

/// Returns the command that replaces a user's pinned key, ready to be pasted.
pub(super) fn replace_command(user: &UserName, key: &Fingerprint) -> String {
    // A name with a leading dash has to be the last operand, behind `--`.
    if user.as_str().starts_with('-') {
        format!("peer trust --replace {key} {}", shell_operand(user))
    } else {
        format!("peer trust {user} --replace {key}")
    }
}

/// Formats a time in this machine's time zone.
pub(super) fn format_local_time(ms: i64) -> String {
    let moment = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    moment.to_zoned(time_zone()).strftime("%Y-%m-%d %H:%M").to_string()
}
