//! Everybody the profile has to do with, on one list.

use std::collections::BTreeMap;

use shared::UserName;
use shared::tracker::ListPeers;

use super::control::Person;
use super::keeper::TrackerHandle;
use crate::engine::{Error, Me, blocking, search};

/// Of those who are online, more than this are not listed: nobody reads so far.
const SHOWN: usize = 10_000;

/// Everybody met, online or talked with, ordered by name; without ourselves.
pub(super) async fn everybody(me: &Me, mut tracker: TrackerHandle) -> Result<Vec<Person>, Error> {
    let wanted = ListPeers { with_files: Some(false), ..ListPeers::default() };
    let mut online = Vec::new();
    let asked = search::peers(&mut tracker, wanted, SHOWN, |peer| {
        online.push(peer.user);
        Ok(())
    });
    let online = match asked.await {
        Ok(_) => Some(online),
        Err(error) => {
            tracing::debug!("who is online is not known: {error}");
            None
        }
    };
    let profile = me.profile.clone();
    let mut people = blocking(move || {
        let mut people: BTreeMap<UserName, Person> = BTreeMap::new();
        for (user, last) in profile.acquaintances()? {
            people.entry(user.clone()).or_insert_with(|| stranger(user)).last = last;
        }
        for unread in profile.unread()? {
            people.entry(unread.user.clone()).or_insert_with(|| stranger(unread.user)).unread = unread.count;
        }
        for waiting in profile.waiting_counts()? {
            let person = people.entry(waiting.user.clone()).or_insert_with(|| stranger(waiting.user));
            (person.waiting, person.frozen) = (waiting.count, waiting.frozen);
        }
        for user in profile.requests()? {
            people.entry(user.clone()).or_insert_with(|| stranger(user)).request = true;
        }
        for user in profile.blocked()? {
            people.entry(user.clone()).or_insert_with(|| stranger(user)).blocked = true;
        }
        Ok(people)
    })
    .await?;
    if let Some(online) = online {
        people.values_mut().for_each(|person| person.online = Some(false));
        for user in online {
            people.entry(user.clone()).or_insert_with(|| stranger(user)).online = Some(true);
        }
    }
    people.remove(&me.user);
    Ok(people.into_values().collect())
}

const fn stranger(user: UserName) -> Person {
    Person { user, online: None, unread: 0, waiting: 0, frozen: false, blocked: false, request: false, last: None }
}
