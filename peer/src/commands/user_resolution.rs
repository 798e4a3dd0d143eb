//! Resolution of user names as typed: the exact name first, else the only one that differs in case alone.
//!
//! Two new accounts never differ only in case, so `BOB` can mean nobody but bob. Where older accounts do, the name is
//! rejected as ambiguous.

use std::collections::BTreeSet;
use std::time::Duration;

use localization::tr;
use shared::UserName;
use shared::account_name::is_same_ignoring_case;
use shared::tracker::{
    AnnouncedPresence, Feature, LoginReply, TrackerErrorCode, TrackerRequest, WhoisReply, WhoisRequest,
};

use super::common_words::any_of;
use super::context::CommandContext;
use crate::engine::chat::ConversationName;
use crate::engine::user_lookup::look_up_user;
use crate::engine::{Error, ErrorKind, LocalUser, Notice, tracker_search};
use crate::net::TrackerError;

/// Time for the tracker to say whether a user exists.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// The places where a name is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LookupScope {
    /// This profile only.
    Local,
    /// This profile and the tracker.
    Tracker,
}

/// Replaces the user names in a command's arguments by the names of the users they mean. Fails with
/// [`Error::SimilarUsers`] if a name may mean several users, [`Error::Interrupted`] at the first Ctrl-C.
pub(super) async fn resolve_arguments(
    context: &CommandContext,
    me: &LocalUser,
    scope: LookupScope,
    names: impl IntoIterator<Item = &mut UserName>,
) -> Result<(), Error> {
    let mut names = names.into_iter().peekable();
    if names.peek().is_none() {
        return Ok(());
    }
    let known = known_users(me)?;
    for name in names {
        // Boxed because of its size: it is a part of nearly every command's future.
        let found = Box::pin(find_match(me, &known, scope, name));
        if let Some(user) = context.until_cancelled(found).await? {
            (me.notify)(Notice::OtherLetters { asked: name.clone(), user: user.clone() });
            *name = user;
        }
    }
    Ok(())
}

/// Replaces the name of a conversation in a command's arguments by that of the user or room that it means, among those of
/// this profile. Fails as [`resolve_arguments`], and with [`ErrorKind::Unavailable`] if it knows no such room.
pub(super) async fn resolve_conversation(
    context: &CommandContext,
    me: &LocalUser,
    name: &mut ConversationName,
) -> Result<(), Error> {
    match name {
        ConversationName::Person(user) => resolve_arguments(context, me, LookupScope::Local, [user]).await,
        ConversationName::Room(room) => match me.profile.room_named(room)? {
            Some(known) => {
                *room = known.name;
                Ok(())
            }
            None => {
                let message = tr!("you never were in a room #{room}: `peer rooms` shows those there are", room);
                Err(Error::Relayed { kind: ErrorKind::Unavailable, message })
            }
        },
    }
}

/// Returns the user whom a name in a command's input means; the name itself if nobody has it. Fails with
/// [`Error::SimilarUsers`] if the name may mean several users.
pub(super) async fn resolve_user(me: &LocalUser, name: UserName) -> Result<UserName, Error> {
    let known = known_users(me)?;
    Ok(find_match(me, &known, LookupScope::Tracker, &name).await?.unwrap_or(name))
}

/// Rejects a mistyped name, if the tracker can be asked: a block of nobody would look like success. Users that the
/// profile has met need no account any more.
pub(super) async fn require_known_user(me: &LocalUser, user: &UserName) -> Result<(), Error> {
    let is_met = me.profile.known_people()?.iter().any(|(met, _)| met == user);
    if is_met || me.profile.blocked()?.contains(user) {
        return Ok(());
    }
    match tokio::time::timeout(LOOKUP_TIMEOUT, look_up_user(me, user)).await {
        Ok(Ok((false, like))) => {
            let like: Vec<&str> = like.iter().map(UserName::as_str).collect();
            let message = match like.is_empty() {
                true => tr!("there is no user \"{user}\"", user),
                false => tr!("there is no user \"{user}\"; did you mean {names}?", user, names = any_of(&like)),
            };
            Err(Error::Relayed { kind: ErrorKind::Unavailable, message })
        }
        // Without the tracker's word the name is taken as it is.
        _ => Ok(()),
    }
}

/// Returns every user that this profile has a record of, its own included.
fn known_users(me: &LocalUser) -> Result<BTreeSet<UserName>, Error> {
    let met = me.profile.known_people()?.into_iter().map(|(user, _)| user);
    let audiences = me.profile.audiences()?;
    let offered = audiences.iter().filter_map(|audience| audience.person().cloned());
    let mut all: BTreeSet<UserName> = met.chain(offered).chain(me.profile.blocked()?).collect();
    all.insert(me.user.clone());
    Ok(all)
}

/// Returns the name to use in place of `name`; `None` if it stays.
async fn find_match(
    me: &LocalUser,
    known: &BTreeSet<UserName>,
    reach: LookupScope,
    name: &UserName,
) -> Result<Option<UserName>, Error> {
    // The common case needs no tracker.
    if known.contains(name) {
        return Ok(None);
    }
    let mut here = known.iter().filter(|other| is_same_ignoring_case(name, other));
    let (first, second) = (here.next(), here.next());
    // The user's own name in another case needs no question to the tracker.
    if reach == LookupScope::Tracker && first != Some(&me.user) {
        match ask_tracker(me, name).await {
            Ok(user) if user == *name => return Ok(None),
            Ok(user) => return Ok(Some(user)),
            Err(error @ (Error::SimilarUsers(_) | Error::KeyOfAnotherAccount { .. })) => return Err(error),
            // Offline the profile's own records decide.
            Err(why) => tracing::debug!("the tracker doesn't say who {name} is: {why}"),
        }
    }
    match (first, second) {
        (Some(one), Some(other)) => {
            let words = tr!("you know nobody called {name}, but {one} and {other}: say which", name, one, other);
            Err(Error::SimilarUsers(words.into()))
        }
        (first, _) => Ok(first.cloned()),
    }
}

/// Asks the tracker for the exact name, else for the only one in another case. Trackers without
/// [`Feature::KeylessUsers`] don't know users without a key by `whois`; those are looked for among the users online.
async fn ask_tracker(me: &LocalUser, name: &UserName) -> Result<UserName, Error> {
    let mut link = me.connect_tracker().await?;
    // A resumed session reveals the tracker's features without making this client present.
    let reply: LoginReply = link.call(&TrackerRequest::Resume(AnnouncedPresence::default())).await?;
    // With another account's key the tracker would answer as for another user.
    me.check_key_owner(&reply.user)?;
    let features = link.features();
    // A tracker without this feature answers for exact names only.
    let whois = if features.has(Feature::SimilarNames) { WhoisRequest::Like } else { WhoisRequest::User };
    match link.call::<WhoisReply>(&TrackerRequest::Whois(whois(name.clone()))).await {
        Ok(reply) => Ok(reply.user),
        Err(TrackerError::Refused { refusal, .. }) if refusal.code == TrackerErrorCode::BadRequest => {
            Err(Error::SimilarUsers(refusal.message))
        }
        Err(error) if error.code() == Some(TrackerErrorCode::NotFound) && !features.has(Feature::KeylessUsers) => {
            unique_match(name, tracker_search::online_names(&mut link).await?)?.ok_or_else(|| error.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the name itself if it is in the list, else the only one that differs in case alone. Fails with
/// [`Error::SimilarUsers`] if several differ in case alone.
fn unique_match(name: &UserName, all: Vec<UserName>) -> Result<Option<UserName>, Error> {
    let mut same: Vec<UserName> = all.into_iter().filter(|other| is_same_ignoring_case(name, other)).collect();
    match same.as_slice() {
        _ if same.contains(name) => Ok(Some(name.clone())),
        [] | [_] => Ok(same.pop()),
        several => {
            let names: Vec<&str> = several.iter().map(UserName::as_str).collect();
            let words =
                tr!("there is no user {name}, but there are {names}: say which", name, names = names.join(", "));
            Err(Error::SimilarUsers(words.into()))
        }
    }
}

/// Rejects the profile's own user, whose key is never pinned.
pub(super) fn reject_own_name(me: &LocalUser, user: &UserName) -> Result<(), Error> {
    if *user == me.user {
        return Err(Error::Usage(tr!("{user} is you: `peer whoami` shows your key", user)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_itself_or_the_only_one_in_other_letters() {
        let all = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<UserName>>();
        let only_one = |name: &str, names: &[&str]| {
            unique_match(&name.parse().unwrap(), all(names)).map(|user| user.map(|user| user.to_string()))
        };
        assert_eq!(only_one("BOB", &["alice", "bob"]).unwrap().as_deref(), Some("bob"));
        assert_eq!(only_one("Bob", &["BOB", "Bob", "bob"]).unwrap().as_deref(), Some("Bob"));
        assert_eq!(only_one("zoe", &["alice", "bob"]).unwrap(), None);
        let ambiguous = only_one("BOB", &["Bob", "bob"]).unwrap_err().to_string();
        assert!(ambiguous.contains("Bob, bob: say which"), "{ambiguous}");
    }
}
