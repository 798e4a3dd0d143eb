//! The files of a user or a room, each name once, as views and pages list them.

use std::collections::BTreeMap;

use shared::peer::FileStat;
use shared::{FileName, UserName};

use super::chat::ConversationName;
use super::fetch::{MemberFiles, list_room_files};
use super::{Error, LocalUser, peer_lookup, remote_files};

/// Asks a user's node for the files that it shares and that begin with `prefix`, or the members of a room for those that
/// they share with it.
///
/// # Errors
/// The reason why they can't be asked.
pub async fn list_shared_files(me: &LocalUser, of: &ConversationName, prefix: &str) -> Result<Vec<FileStat>, Error> {
    match of {
        ConversationName::Person(user) => files_of_user(me, user, prefix).await,
        ConversationName::Room(room) => list_room_files(me, room, prefix).await.map(newest_of_each_name),
    }
}

async fn files_of_user(me: &LocalUser, user: &UserName, start: &str) -> Result<Vec<FileStat>, Error> {
    let target = peer_lookup::find_target(me, user).await?;
    let entries = remote_files::list_remote_files(me, &target, start).await?;
    // What can't be a file's name can't be fetched either; `peer files` tells of it.
    Ok(entries.into_iter().flatten().collect())
}

/// Returns each name once, as a fetch from the room takes it: in its newest version.
fn newest_of_each_name(members: Vec<MemberFiles>) -> Vec<FileStat> {
    let mut files: BTreeMap<FileName, FileStat> = BTreeMap::new();
    for MemberFiles { user, files: listed } in members {
        match listed {
            Ok(entries) => {
                for file in entries.into_iter().flatten() {
                    let age = |file: &FileStat| (file.mtime, file.mtime_ns);
                    let known = files.entry(file.name.clone()).or_insert_with(|| file.clone());
                    if age(&file) > age(known) {
                        *known = file;
                    }
                }
            }
            Err(why) => tracing::info!("{user} can't be asked for files of the room: {why}"),
        }
    }
    files.into_values().collect()
}
