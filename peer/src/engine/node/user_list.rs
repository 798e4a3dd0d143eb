//! The list of all users that the profile has to do with.

use std::collections::{BTreeMap, BTreeSet};

use shared::UserName;
use shared::tracker::{ListPeersRequest, TrackerRequest, UserFilesReply};

use super::node_values::UserSummary;
use super::tracker_session::TrackerHandle;
use crate::engine::peer_lookup::TrackerClient;
use crate::engine::{Error, LocalUser, run_blocking, tracker_search};
use crate::profile::ConversationName;

/// Online users listed at most: nobody reads further.
const MAX_ONLINE_LISTED: usize = 10_000;
/// Names listed at most of what a user shares: a shell shows no more.
const MAX_NAMES_LISTED: usize = 200;

/// Returns everybody met, online or written with, ordered by name, without this account.
pub(super) async fn list_users(me: &LocalUser, tracker: Option<TrackerHandle>) -> Result<Vec<UserSummary>, Error> {
    let online = match tracker {
        Some(tracker) => online_users(tracker).await,
        None => None,
    };
    let profile = me.profile.clone();
    let mut people = run_blocking(move || {
        let mut people: BTreeMap<UserName, UserSummary> = BTreeMap::new();
        for (user, last) in profile.known_people()? {
            people.entry(user.clone()).or_insert_with(|| UserSummary::of_unknown(user)).last = last;
        }
        for unread in profile.unread_counts()? {
            if let ConversationName::Person(user) = unread.with {
                people.entry(user.clone()).or_insert_with(|| UserSummary::of_unknown(user)).unread = unread.count;
            }
        }
        for waiting in profile.queued_counts()? {
            let person = people.entry(waiting.user.clone()).or_insert_with(|| UserSummary::of_unknown(waiting.user));
            (person.waiting, person.frozen) = (waiting.count, waiting.frozen);
        }
        for user in profile.message_requests()? {
            people.entry(user.clone()).or_insert_with(|| UserSummary::of_unknown(user)).request = true;
        }
        for user in profile.blocked()? {
            people.entry(user.clone()).or_insert_with(|| UserSummary::of_unknown(user)).blocked = true;
        }
        for muted in profile.muted()? {
            if let Some(person) = muted.person().and_then(|user| people.get_mut(user)) {
                person.muted = true;
            }
        }
        Ok(people)
    })
    .await?;
    if let Some(online) = online {
        // Only with the tracker's list: without it nobody's presence is known, which is not the same as offline.
        people.values_mut().for_each(|person| person.online = Some(false));
        for user in online {
            people.entry(user.clone()).or_insert_with(|| UserSummary::of_unknown(user)).online = Some(true);
        }
    }
    people.remove(&me.user);
    Ok(people.into_values().collect())
}

/// Returns the users who are online; `None` if the tracker doesn't say. The list of all users is still useful then.
pub(super) async fn online_users(mut tracker: TrackerHandle) -> Option<Vec<UserName>> {
    // Without the lists of files, which may be large.
    let query = ListPeersRequest { with_files: Some(false), ..ListPeersRequest::default() };
    let mut online = Vec::new();
    let asked = tracker_search::search_users(&mut tracker, query, MAX_ONLINE_LISTED, |peer| {
        online.push(peer.user);
        Ok(())
    });
    match asked.await {
        Ok(_) => Some(online),
        Err(error) => {
            tracing::debug!("who is online is not known: {error}");
            None
        }
    }
}

/// Returns the names that a user shares with everybody and that start with `prefix`, each up to the next slash.
pub(super) async fn shared_names(
    mut tracker: TrackerHandle,
    user: UserName,
    prefix: &str,
) -> Result<Vec<String>, Error> {
    let only = ListPeersRequest { user: Some(user), ..ListPeersRequest::default() };
    let listed: UserFilesReply = tracker.call(&TrackerRequest::ListPeers(only)).await?;
    let files = listed.into_files();
    Ok(next_components(files.iter().map(|file| file.name.as_str()), prefix))
}

/// Returns how the names go on after `prefix`: to their end or to the next slash, each once and in order.
fn next_components<'a>(names: impl IntoIterator<Item = &'a str>, prefix: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    for name in names {
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        let end = rest.find('/').map_or(name.len(), |slash| prefix.len() + slash + 1);
        found.insert(&name[..end]);
        if found.len() == MAX_NAMES_LISTED {
            break;
        }
    }
    found.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_on_to_the_next_slash() {
        let names = ["a.pdf", "photos/1.jpg", "photos/2.jpg", "photos/old/3.jpg", "plan.pdf"];
        assert_eq!(next_components(names, ""), ["a.pdf", "photos/", "plan.pdf"]);
        assert_eq!(next_components(names, "p"), ["photos/", "plan.pdf"]);
        assert_eq!(next_components(names, "photos/"), ["photos/1.jpg", "photos/2.jpg", "photos/old/"]);
        assert_eq!(next_components(names, "x"), [""; 0]);
        let many: Vec<String> = (0..1000).map(|number| format!("{number}")).collect();
        assert_eq!(next_components(many.iter().map(String::as_str), "").len(), MAX_NAMES_LISTED);
    }
}
