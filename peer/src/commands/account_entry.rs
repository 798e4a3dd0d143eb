//! The account that a command gave the profile, as it is printed.

use localization::tr;
use serde_json::json;
use shared::{Fingerprint, UserName};

use super::context::CommandContext;
use crate::engine::Error;
use crate::net::tracker::TrackerAddress;

/// The way in which the profile got its account.
#[derive(Debug, Clone, Copy)]
pub(super) enum AccountEntry {
    Registration,
    Login,
}

/// Prints the account that the profile now has.
pub(super) fn print_account(
    context: &CommandContext,
    how: AccountEntry,
    user: &UserName,
    tracker: &TrackerAddress,
    fingerprint: Fingerprint,
) -> Result<(), Error> {
    if context.output.is_json() {
        let fields = json!({ "user": user, "fingerprint": fingerprint, "tracker": tracker.to_string() });
        return Ok(context.output.print_object("account", &fields)?);
    }
    context.output.note(&match how {
        AccountEntry::Registration => {
            tr!("registered {user} at {tracker}; your key is {fingerprint}", user, tracker, fingerprint)
        }
        AccountEntry::Login => {
            tr!("logged in as {user} at {tracker}; your key is {fingerprint}", user, tracker, fingerprint)
        }
    });
    context.output.note(&tr!("next: `peer share PATH`, then `peer serve`; `peer list` shows who is online"));
    Ok(())
}
