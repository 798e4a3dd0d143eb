//! Names that are nearly what was typed, for the errors that say that nothing has a name.

use std::time::Duration;

use localization::tr;
use shared::names::matching_key;
use shared::tracker::{ListPeersRequest, TrackerRequest, UserFilesReply};
use shared::{RoomName, UserName};

use super::common_words::any_of;
use super::context::CommandContext;
use crate::engine::room_actions::list_rooms;
use crate::engine::user_lookup::look_up_user;
use crate::engine::{Error, LocalUser, RoomActionError};
use crate::profile::Access;
use crate::util::misspelling::misspelling_distance;
use crate::util::shell_words::shell_quote;

/// Time for the tracker to say what there is: the error waits no longer.
const SUGGESTION_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest number of names to suggest.
const MAX_SUGGESTIONS: usize = 3;

/// Adds the names that may have been meant to an error about one that nothing has.
pub(super) async fn suggest_names(context: &CommandContext, error: Error) -> Error {
    let error = restore_unknown_user(error);
    let is_about_a_name = matches!(
        error,
        Error::UnknownUser(_)
            | Error::NotShared { .. }
            | Error::Room(RoomActionError::UnknownRoom(_) | RoomActionError::NotAMember(_))
    );
    if !is_about_a_name {
        return error;
    }
    // Only to improve the text: whatever fails here, the error stays.
    let Ok(me) = context.me(Access::Look) else { return error };
    let found = tokio::time::timeout(SUGGESTION_TIMEOUT, find_meant(&me, &error)).await;
    match found {
        Ok(Ok(meant)) if !meant.is_empty() => {
            let words: Vec<String> = meant.iter().map(|name| shell_quote(&[name])).collect();
            let message = tr!("{error}; did you mean {names}?", error, names = any_of(&words));
            Error::Relayed { kind: error.kind(), message }
        }
        _ => error,
    }
}

/// Returns the error about an unknown user that a node passed on in words, as that error.
fn restore_unknown_user(error: Error) -> Error {
    let Error::Relayed { message, .. } = &error else { return error };
    let named = message.split('"').nth(1).and_then(|name| name.parse().ok()).map(Error::UnknownUser);
    // Compared as a whole: other errors may quote a name as well.
    named.filter(|unknown| unknown.to_string() == *message).unwrap_or(error)
}

async fn find_meant(me: &LocalUser, error: &Error) -> Result<Vec<String>, Error> {
    match error {
        Error::UnknownUser(user) => {
            let (_, like) = look_up_user(me, user).await?;
            Ok(like.into_iter().map(|user| user.to_string()).collect())
        }
        Error::NotShared { user, name } => Ok(nearest(name, &shared_names(me, user).await?)),
        Error::Room(RoomActionError::NotAMember(room)) => {
            let own = me.profile.rooms()?.into_iter().map(|own| format!("#{}", own.name)).collect::<Vec<_>>();
            Ok(nearest_room(room, &own))
        }
        Error::Room(RoomActionError::UnknownRoom(room)) => {
            let all = list_rooms(&mut me.connect_tracker().await?).await?;
            let all: Vec<String> = all.into_iter().map(|room| format!("#{}", room.name)).collect();
            Ok(nearest_room(room, &all))
        }
        _ => Ok(Vec::new()),
    }
}

/// Returns what a user shares with everybody, by the tracker's list.
async fn shared_names(me: &LocalUser, user: &UserName) -> Result<Vec<String>, Error> {
    let only = ListPeersRequest { user: Some(user.clone()), ..ListPeersRequest::default() };
    let listed: UserFilesReply = me.connect_tracker().await?.call(&TrackerRequest::ListPeers(only)).await?;
    Ok(listed.into_files().into_iter().map(|file| file.name.as_str().to_owned()).collect())
}

fn nearest_room(room: &RoomName, names: &[String]) -> Vec<String> {
    nearest(&format!("#{room}"), names)
}

/// Returns the names that differ from `typed` by case, by a few letters or by their end, the most similar first.
fn nearest(typed: &str, names: &[String]) -> Vec<String> {
    let key = |name: &str| matching_key(name).to_lowercase();
    let typed = key(typed);
    let distance = |name: &String| {
        let name = key(name);
        // A beginning of three characters is meant as one.
        let is_beginning = typed.chars().count() >= 3 && name.starts_with(&typed);
        if is_beginning { Some(1) } else { misspelling_distance(&typed, &name) }
    };
    let mut like: Vec<(usize, &String)> = names.iter().filter_map(|name| Some((distance(name)?, name))).collect();
    like.sort();
    like.into_iter().take(MAX_SUGGESTIONS).map(|(_, name)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        let names = ["report.pdf", "Report of May.pdf", "photos/1.jpg", "résumé.txt"].map(str::to_owned);
        let meant = |typed: &str| nearest(typed, &names);
        assert_eq!(meant("reprot.pdf"), ["report.pdf"]);
        assert_eq!(meant("REPORT.PDF"), ["report.pdf"]);
        assert_eq!(meant("Résumé.txt"), ["résumé.txt"]);
        assert_eq!(meant("rep"), ["Report of May.pdf", "report.pdf"]);
        assert_eq!(meant("x"), [""; 0]);
        assert_eq!(nearest_room(&"lba".parse().unwrap(), &["#lab".to_owned()]), ["#lab"]);
    }
}
