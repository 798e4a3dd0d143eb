//! Names of users as they were typed, and as they are: the exact name first, else the only one in other letters.
//!
//! Two new accounts never differ only in the case of their letters, so that `BOB` can mean nobody but bob. Where older
//! accounts do, nothing is guessed.

use std::collections::BTreeSet;

use shared::UserName;
use shared::account_name::is_same_but_for_case;
use shared::tracker::{ErrorCode, Feature, LoginReply, Presence, Request, Whois, WhoisReply};

use super::{Command, Context, FetchWanted, Whose};
use crate::engine::fetch::Sources;
use crate::engine::{Error, Me, Notice, search};
use crate::net::TrackerError;

/// Those who may be asked for a name that this profile doesn't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// What the command looks at is all here.
    Here,
    /// The tracker as well.
    Tracker,
}

/// Puts the names of users in place of what was typed for them.
///
/// # Errors
/// [`Error::SimilarUsers`] when it may be one of several.
pub(super) async fn resolve(context: &Context, mut command: Command) -> Result<Command, Error> {
    let (reach, names) = named_in(&mut command);
    if names.is_empty() {
        return Ok(command);
    }
    // Without an account there is nobody to be found; the command says so itself.
    let Ok(me) = context.me() else { return Ok(command) };
    let known = known_here(&me)?;
    for name in names {
        if let Some(user) = found(&me, &known, reach, name).await? {
            (me.notify)(Notice::OtherLetters { asked: name.clone(), user: user.clone() });
            *name = user;
        }
    }
    Ok(command)
}

/// Returns the user whom a name means that was given to a command in its course: the name itself where nobody has it.
///
/// # Errors
/// [`Error::SimilarUsers`] when it may be one of several.
pub(super) async fn meant(me: &Me, name: UserName) -> Result<UserName, Error> {
    let known = known_here(me)?;
    Ok(found(me, &known, Reach::Tracker, &name).await?.unwrap_or(name))
}

/// The names in a command, and who may be asked for them.
fn named_in(command: &mut Command) -> (Reach, Vec<&mut UserName>) {
    match command {
        Command::Files { user, .. }
        | Command::Chat { user, .. }
        | Command::Offer { to: user, .. }
        | Command::Block { user }
        | Command::Trust { of: Whose::User(user), .. }
        | Command::Verify { user, .. } => (Reach::Tracker, vec![user]),
        Command::List { wanted, .. } => (Reach::Tracker, wanted.user.iter_mut().collect()),
        Command::Fetch(FetchWanted::These { request, .. }) => {
            let others = match &mut request.sources {
                Sources::Everybody => &mut [],
                Sources::Also(users) | Sources::Only(users) => users.as_mut_slice(),
            };
            (Reach::Tracker, std::iter::once(&mut request.from).chain(others).collect())
        }
        Command::History(past) => (Reach::Here, past.with.iter_mut().collect()),
        Command::Forget(wanted) => (Reach::Here, wanted.with.iter_mut().collect()),
        Command::Unblock { user } | Command::Accept { user } | Command::Withdraw { to: user, .. } => {
            (Reach::Here, vec![user])
        }
        Command::Offers { to } => (Reach::Here, to.iter_mut().collect()),
        _ => (Reach::Here, Vec::new()),
    }
}

/// Everybody this profile has something of, and its own user.
fn known_here(me: &Me) -> Result<BTreeSet<UserName>, Error> {
    let met = me.profile.acquaintances()?.into_iter().map(|(user, _)| user);
    let offered = me.profile.offers()?.into_iter().map(|(user, _)| user);
    let mut all: BTreeSet<UserName> = met.chain(offered).chain(me.profile.blocked()?).collect();
    all.insert(me.user.clone());
    Ok(all)
}

/// The name to take in place of `name`; `None` where it stays.
async fn found(me: &Me, known: &BTreeSet<UserName>, reach: Reach, name: &UserName) -> Result<Option<UserName>, Error> {
    if known.contains(name) {
        return Ok(None);
    }
    let mut here = known.iter().filter(|other| is_same_but_for_case(name, other));
    let (first, second) = (here.next(), here.next());
    if reach == Reach::Tracker && first != Some(&me.user) {
        match asked(me, name).await {
            Ok(user) if user == *name => return Ok(None),
            Ok(user) => return Ok(Some(user)),
            Err(error @ (Error::SimilarUsers(_) | Error::KeyOfAnotherAccount { .. })) => return Err(error),
            Err(why) => tracing::debug!("the tracker doesn't say who {name} is: {why}"),
        }
    }
    match (first, second) {
        (Some(one), Some(other)) => {
            let words = format!("you know nobody called {name}, but {one} and {other}: say which");
            Err(Error::SimilarUsers(words.into()))
        }
        (first, _) => Ok(first.cloned()),
    }
}

/// The tracker's word: the name itself where somebody has it, else the only one in other letters. An earlier tracker has
/// no word on those without a key, and on nobody's in other letters; it lists them while they are online.
async fn asked(me: &Me, name: &UserName) -> Result<UserName, Error> {
    let mut link = me.connect_tracker().await?;
    // It says with this what it can do; nobody gets present by it.
    let reply: LoginReply = link.call(&Request::Resume(Presence::default())).await?;
    me.demand_own(&reply.user)?;
    let features = link.features();
    let whois = if features.has(Feature::SimilarNames) { Whois::Like } else { Whois::User };
    match link.call::<WhoisReply>(&Request::Whois(whois(name.clone()))).await {
        Ok(reply) => Ok(reply.user),
        Err(TrackerError::Refused { refusal, .. }) if refusal.code == ErrorCode::BadRequest => {
            Err(Error::SimilarUsers(refusal.message))
        }
        Err(error) if error.code() == Some(ErrorCode::NotFound) && !features.has(Feature::KeylessUsers) => {
            only_one(name, search::names(&mut link).await?)?.ok_or_else(|| error.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the name itself if it is among these, else the only one in other letters.
///
/// # Errors
/// [`Error::SimilarUsers`] when it may be one of several.
fn only_one(name: &UserName, all: Vec<UserName>) -> Result<Option<UserName>, Error> {
    let mut same: Vec<UserName> = all.into_iter().filter(|other| is_same_but_for_case(name, other)).collect();
    match same.as_slice() {
        _ if same.contains(name) => Ok(Some(name.clone())),
        [] | [_] => Ok(same.pop()),
        several => {
            let names: Vec<&str> = several.iter().map(UserName::as_str).collect();
            let words = format!("there is no user {name}, but there are {}: say which", names.join(", "));
            Err(Error::SimilarUsers(words.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_itself_or_the_only_one_in_other_letters() {
        let all = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<UserName>>();
        let only_one = |name: &str, names: &[&str]| {
            only_one(&name.parse().unwrap(), all(names)).map(|user| user.map(|user| user.to_string()))
        };
        assert_eq!(only_one("BOB", &["alice", "bob"]).unwrap().as_deref(), Some("bob"));
        assert_eq!(only_one("Bob", &["BOB", "Bob", "bob"]).unwrap().as_deref(), Some("Bob"));
        assert_eq!(only_one("zoe", &["alice", "bob"]).unwrap(), None);
        let ambiguous = only_one("BOB", &["Bob", "bob"]).unwrap_err().to_string();
        assert!(ambiguous.contains("Bob, bob: say which"), "{ambiguous}");
    }
}
