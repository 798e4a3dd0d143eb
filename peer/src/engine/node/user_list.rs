//! The list of all users that the profile has to do with.

use std::collections::BTreeMap;

use shared::UserName;
use shared::tracker::ListPeersRequest;

use super::node_values::UserSummary;
use super::tracker_session::TrackerHandle;
use crate::engine::{Error, LocalUser, run_blocking, tracker_search};
use crate::profile::ConversationName;

/// Online users listed at most: nobody reads further.
const MAX_ONLINE_LISTED: usize = 10_000;

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
            people.entry(user.clone()).or_insert_with(|| unknown_user(user)).last = last;
        }
        for unread in profile.unread_counts()? {
            if let ConversationName::Person(user) = unread.with {
                people.entry(user.clone()).or_insert_with(|| unknown_user(user)).unread = unread.count;
            }
        }
        for waiting in profile.queued_counts()? {
            let person = people.entry(waiting.user.clone()).or_insert_with(|| unknown_user(waiting.user));
            (person.waiting, person.frozen) = (waiting.count, waiting.frozen);
        }
        for user in profile.message_requests()? {
            people.entry(user.clone()).or_insert_with(|| unknown_user(user)).request = true;
        }
        for user in profile.blocked()? {
            people.entry(user.clone()).or_insert_with(|| unknown_user(user)).blocked = true;
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
            people.entry(user.clone()).or_insert_with(|| unknown_user(user)).online = Some(true);
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

const fn unknown_user(user: UserName) -> UserSummary {
    UserSummary {
        user,
        online: None,
        unread: 0,
        waiting: 0,
        frozen: false,
        blocked: false,
        request: false,
        muted: false,
        last: None,
    }
}
