//! Questions to the tracker whether a user exists, and who may have been meant.

use std::collections::BTreeSet;

use shared::UserName;
use shared::tracker::{TrackerErrorCode, TrackerRequest, WhoisReply, WhoisRequest};

use super::{Error, LocalUser, tracker_search};
use crate::net::TrackerError;
use crate::util::misspelling::misspelling_distance;

/// Largest number of similar names to suggest.
const MAX_SUGGESTIONS: usize = 3;

/// Returns whether a user has an account, and otherwise similar names. Trackers without the feature for keyless users
/// don't find those by `whois`; they are looked for among the users online.
///
/// # Errors
/// The tracker's refusal, or the reason why it can't be asked.
pub async fn look_up_user(me: &LocalUser, of: &UserName) -> Result<(bool, Vec<UserName>), Error> {
    let mut tracker = me.connect_tracker().await?;
    let known: Result<WhoisReply, TrackerError> =
        tracker.call(&TrackerRequest::Whois(WhoisRequest::User(of.clone()))).await;
    match known {
        Ok(_) => return Ok((true, Vec::new())),
        Err(error) if error.code() == Some(TrackerErrorCode::NotFound) => {}
        Err(error) => return Err(error.into()),
    }
    let online = tracker_search::online_names(&mut tracker).await?;
    if online.contains(of) {
        return Ok((true, Vec::new()));
    }
    // Somebody met before may have no account now: a name is most like itself.
    let met = me.profile.known_people()?.into_iter().map(|(user, _)| user).filter(|user| user != of);
    Ok((false, similar_names(of, online.into_iter().chain(met).collect::<BTreeSet<_>>())))
}

/// Returns the names that may have been meant, the most similar first.
fn similar_names(of: &UserName, names: impl IntoIterator<Item = UserName>) -> Vec<UserName> {
    let distance = |name: &UserName| misspelling_distance(of.as_str(), name.as_str());
    let mut like: Vec<UserName> = names.into_iter().filter(|name| distance(name).is_some()).collect();
    like.sort_by_key(distance);
    like.truncate(MAX_SUGGESTIONS);
    like
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slip_is_recognised() {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<UserName>>();
        let there = names(&["alice", "bob", "carol", "caroline", "karol"]);
        let like = |of: &str| similar_names(&of.parse().unwrap(), there.clone());
        assert_eq!(like("bbo"), names(&["bob"]));
        assert_eq!(like("carrol"), names(&["carol", "karol"]));
        assert_eq!(like("zoe"), names(&[]));
    }
}
