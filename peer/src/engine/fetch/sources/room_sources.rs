//! Sources of a room's files: the members who are online. Each is asked what it shares with the room, and a file that
//! several share comes from all of them at once.
//!
//! No tracker is asked about names or hashes: what isn't for everybody is nobody else's business.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | dials of members at once | those of [`super::candidate_dials`] | the others wait in order |
//! | links to members | one to each who is online; 64 are sources at once | further ones are closed when a round begins |
//! | a member's answer about the names | `PAGE_TIMEOUT` a page, [`REHASH_TIMEOUT`] for a file that is being hashed | that member is left out |

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use shared::peer::{FileStat, FolderTime, PeerErrorCode};
use shared::{ContentHash, FileName, RoomId, RoomName, UntrustedText, UserName};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::candidate_dials::{DialPlaces, DialPriority, in_dial_order};
use super::source_dialer::SourceDialer;
use crate::engine::fetch::name_resolution::source_listing::{SourceShares, list_files};
use crate::engine::fetch::name_resolution::{ResolvedFile, ResolvedRequest, resolve_names};
use crate::engine::fetch::{FetchEvent, REHASH_TIMEOUT, RequestedName};
use crate::engine::room_contacts::{RoomContact, RoomContacts, find_room_contacts};
use crate::engine::{Error, LocalUser};
use crate::net::link::Link;

/// The members of a room who answered, with what the names led to.
#[derive(Debug)]
pub(in crate::engine::fetch) struct RoomSources {
    pub(in crate::engine::fetch) room: RoomId,
    pub(in crate::engine::fetch) links: Vec<Link>,
    pub(in crate::engine::fetch) resolved: ResolvedRequest,
}

/// The files that one member shares with a room. The inner `Err` is a name that can't be a file name here.
#[derive(Debug)]
pub struct MemberFiles {
    /// The member.
    pub user: UserName,
    /// The files, or the reason why the member can't be asked.
    pub files: Result<Vec<Result<FileStat, UntrustedText>>, Error>,
}

/// Lists the files whose names start with `prefix` and that the members who are online share with a room, ordered by
/// member. Fails with [`Error::NobodyInRoom`] if no other member is online, and with the errors of [`find_room_contacts`].
pub async fn list_room_files(me: &LocalUser, room: &RoomName, prefix: &str) -> Result<Vec<MemberFiles>, Error> {
    let RoomContacts { id, name, members } = find_room_contacts(me, room).await?;
    if members.is_empty() {
        return Err(Error::NobodyInRoom(name));
    }
    let dialer = SourceDialer::new(me, None)?;
    let mut dials = dial_members(&dialer, members);
    let mut listed = Vec::new();
    let mut listings: JoinSet<MemberFiles> = JoinSet::new();
    let mut are_dialled = false;
    while !are_dialled || !listings.is_empty() {
        tokio::select! {
            dialled = dials.join_next(), if !are_dialled => match dialled {
                Some(Ok((user, Ok(link)))) => {
                    let prefix = prefix.to_owned();
                    listings.spawn(async move {
                        let files = list_files(SourceShares { link: &link, room: Some(id) }, &prefix).await;
                        // This side receives last, so nothing of the other is lost.
                        link.close(PeerErrorCode::Done);
                        MemberFiles { user, files }
                    });
                }
                Some(Ok((user, Err(error)))) => listed.push(MemberFiles { user, files: Err(error) }),
                Some(Err(failure)) => tracing::error!("the task of a dial failed: {failure}"),
                None => are_dialled = true,
            },
            files = listings.join_next(), if !listings.is_empty() => match files {
                Some(Ok(files)) => listed.push(files),
                Some(Err(failure)) => tracing::error!("the task of a listing failed: {failure}"),
                None => {}
            },
        }
    }
    dialer.close_all(PeerErrorCode::Done).await;
    listed.sort_by(|one, other| one.user.cmp(&other.user));
    Ok(listed)
}

/// Connects the members of a room who are online, and resolves the names by what each shares with it. Fails with
/// [`Error::NobodyInRoom`] if no member can be asked, and with the errors of [`find_room_contacts`].
pub(in crate::engine::fetch) async fn connect_room(
    dialer: &SourceDialer,
    room: &RoomName,
    names: &[RequestedName],
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
) -> Result<RoomSources, Error> {
    let RoomContacts { id, name: room, members } = find_room_contacts(dialer.local_user(), room).await?;
    let mut dials = dial_members(dialer, members);
    let (tell, mut told) = mpsc::unbounded_channel::<String>();
    let names: Arc<[RequestedName]> = names.into();
    let mut questions: JoinSet<(Link, Result<ResolvedRequest, Error>)> = JoinSet::new();
    let (mut links, mut answers, mut unreached) = (Vec::new(), Vec::new(), None);
    let mut are_dialled = false;
    while !are_dialled || !questions.is_empty() {
        tokio::select! {
            dialled = dials.join_next(), if !are_dialled => match dialled {
                Some(Ok((_, Ok(link)))) => {
                    let (names, tell) = (names.clone(), tell.clone());
                    questions.spawn(async move {
                        let mut pass_on = |event: FetchEvent<'_>| {
                            if let FetchEvent::AwaitingRehash { name } = event {
                                // Nobody listens only after an interruption.
                                let _ = tell.send(name.to_owned());
                            }
                        };
                        let shares = SourceShares { link: &link, room: Some(id) };
                        let resolved = resolve_names(shares, &names, REHASH_TIMEOUT, &mut pass_on).await;
                        (link, resolved)
                    });
                }
                Some(Ok((user, Err(error)))) => {
                    tracing::info!("{user} can't be asked: {error}");
                    unreached = Some(error);
                }
                Some(Err(failure)) => tracing::error!("the task of a dial failed: {failure}"),
                None => are_dialled = true,
            },
            Some(name) = told.recv() => report(FetchEvent::AwaitingRehash { name: &name }),
            answered = questions.join_next(), if !questions.is_empty() => match answered {
                Some(Ok((link, Ok(resolved)))) => {
                    answers.push((link.user().clone(), resolved));
                    links.push(link);
                }
                Some(Ok((link, Err(error)))) => {
                    tracing::info!("{} doesn't answer: {error}", link.user());
                    link.close(PeerErrorCode::Cancelled);
                    unreached = Some(error);
                }
                Some(Err(failure)) => tracing::error!("the task of a question failed: {failure}"),
                None => {}
            },
        }
    }
    if answers.is_empty() {
        return Err(unreached.unwrap_or(Error::NobodyInRoom(room)));
    }
    let MergedAnswers { resolved, choices } = merge(&room, &names, answers);
    for VersionChoice { name, owner, others } in &choices {
        report(FetchEvent::VersionChosen { name, owner, others });
    }
    Ok(RoomSources { room: id, links, resolved })
}

/// Dials members in the order for sources.
pub(in crate::engine::fetch) fn dial_members(
    dialer: &SourceDialer,
    members: Vec<RoomContact>,
) -> JoinSet<(UserName, Result<Link, Error>)> {
    let priority = |member: &RoomContact| DialPriority { is_known: member.is_known, seen_at: member.seen_at };
    let members = members.into_iter().map(|member| (priority(&member), member)).collect();
    let (places, mut dials) = (Arc::new(DialPlaces::new()), JoinSet::new());
    for RoomContact { user, target, .. } in in_dial_order(members) {
        let (dialer, places) = (dialer.clone(), places.clone());
        dials.spawn(async move {
            let dialled = match target {
                Ok(target) => places.dial(dialer.connect_member(&target)).await,
                Err(error) => Err(error),
            };
            (user, dialled)
        });
    }
    dials
}

/// What the names lead to in a room.
#[derive(Debug)]
struct MergedAnswers {
    resolved: ResolvedRequest,
    /// The names under which members share different files.
    choices: Vec<VersionChoice>,
}

/// A name under which members share different files, with the one that was chosen.
#[derive(Debug, PartialEq, Eq)]
struct VersionChoice {
    name: FileName,
    owner: UserName,
    others: Vec<UserName>,
}

/// Merges what several members have: each name once, in its newest version, from a member who has it whole if there is one.
fn merge(room: &RoomName, names: &[RequestedName], answers: Vec<(UserName, ResolvedRequest)>) -> MergedAnswers {
    let (mut resolved, mut choices) = (ResolvedRequest::default(), Vec::new());
    let mut files: BTreeMap<FileName, Vec<ResolvedFile>> = BTreeMap::new();
    let mut failed: BTreeMap<String, Vec<Error>> = BTreeMap::new();
    let (mut folders, mut times) = (BTreeSet::new(), BTreeMap::<FileName, FolderTime>::new());
    let count = answers.len();
    for (_, answer) in answers {
        for file in answer.files {
            files.entry(file.stat.name.clone()).or_default().push(file);
        }
        folders.extend(answer.folders);
        for time in answer.folder_times {
            let newest = times.entry(time.name.clone()).or_insert_with(|| time.clone());
            if (time.mtime, time.mtime_ns) > (newest.mtime, newest.mtime_ns) {
                *newest = time;
            }
        }
        for (name, error) in answer.missing {
            failed.entry(name).or_default().push(error);
        }
        resolved.is_one_file |= answer.is_one_file;
    }
    for (name, versions) in files {
        let (file, others) = choose(versions);
        let Some(file) = file else { continue };
        if !others.is_empty() {
            choices.push(VersionChoice { name, owner: file.owner.clone(), others });
        }
        resolved.files.push(file);
    }
    let asked: HashSet<&str> = names.iter().map(|name| name.text.as_str()).collect();
    for (name, errors) in failed {
        // A name that one member has is not missing; an entry that can't be a file is its member's own fault.
        if asked.contains(name.as_str()) && errors.len() < count {
            continue;
        }
        // A reason of its own says more than that nobody shares the name.
        let told = errors.into_iter().find(|error| !matches!(error, Error::NotShared { .. }));
        let nobody = || Error::NotSharedInRoom { room: room.clone(), name: name.clone() };
        let error = told.unwrap_or_else(nobody);
        resolved.missing.push((name, error));
    }
    // One member's file may have the name of another's folder.
    resolved.is_one_file &= resolved.files.len() == 1;
    resolved.folders = folders.into_iter().collect();
    resolved.folder_times = times.into_values().collect();
    MergedAnswers { resolved, choices }
}

/// Returns the newest of several files of one name, and the owners of other content.
fn choose(versions: Vec<ResolvedFile>) -> (Option<ResolvedFile>, Vec<UserName>) {
    let mut newest: BTreeMap<ContentHash, (i64, u32, usize)> = BTreeMap::new();
    for ResolvedFile { stat, .. } in &versions {
        let entry = newest.entry(stat.hash).or_insert((i64::MIN, 0, 0));
        // A partial file tells whole seconds only.
        let (mtime, mtime_ns) = (entry.0, entry.1).max((stat.mtime, stat.mtime_ns));
        *entry = (mtime, mtime_ns, entry.2 + 1);
    }
    // Of equally old ones the one that more members have, then any that is the same for everybody who asks.
    let chosen = newest.iter().max_by_key(|(hash, age)| (**age, Reverse(**hash))).map(|(hash, _)| *hash);
    let (mut same, other): (Vec<_>, Vec<_>) =
        versions.into_iter().partition(|version| Some(version.stat.hash) == chosen);
    // A whole and current file is the better source; the name makes the choice the same each time.
    same.sort_by_key(|version| (version.stat.partial, version.stat.stale, version.owner.clone()));
    let mut others: Vec<UserName> = other.into_iter().map(|version| version.owner).collect();
    others.sort_unstable();
    (same.into_iter().next(), others)
}

#[cfg(test)]
mod tests {
    use shared::GroupLayout;

    use super::*;

    fn file(owner: &str, name: &str, content: &str, mtime: i64) -> ResolvedFile {
        let (layout, name): (_, FileName) = (GroupLayout::of(5).unwrap(), name.parse().unwrap());
        let stat = FileStat { mtime, ..FileStat::new(name.clone(), ContentHash::of(content.as_bytes()), &layout) };
        ResolvedFile { owner: owner.parse().unwrap(), stat, layout, local: name }
    }

    fn answer(owner: &str, files: Vec<ResolvedFile>, missing: &[&str]) -> (UserName, ResolvedRequest) {
        let user: UserName = owner.parse().unwrap();
        let not_shared =
            |name: &&str| ((*name).to_owned(), Error::NotShared { user: user.clone(), name: (*name).to_owned() });
        let missing = missing.iter().map(not_shared).collect();
        (user.clone(), ResolvedRequest { files, missing, ..ResolvedRequest::default() })
    }

    fn merged(names: &[&str], answers: Vec<(UserName, ResolvedRequest)>) -> MergedAnswers {
        let names: Vec<RequestedName> = names.iter().map(|name| RequestedName::for_text(*name)).collect();
        merge(&"lab".parse().unwrap(), &names, answers)
    }

    fn owners(merged: &MergedAnswers) -> Vec<(&str, &str)> {
        merged.resolved.files.iter().map(|file| (file.stat.name.as_str(), file.owner.as_str())).collect()
    }

    #[test]
    fn each_name_comes_from_whoever_has_it() {
        let alice = answer("alice", vec![file("alice", "a", "1", 5)], &["b", "c"]);
        let bob = answer("bob", vec![file("bob", "b", "2", 5)], &["a", "c"]);
        let merged = merged(&["a", "b", "c"], vec![alice, bob]);
        assert_eq!(owners(&merged), [("a", "alice"), ("b", "bob")]);
        assert_eq!(merged.choices, []);
        let missing: Vec<(&str, String)> =
            merged.resolved.missing.iter().map(|(name, error)| (name.as_str(), error.to_string())).collect();
        assert_eq!(missing.len(), 1);
        assert!(missing[0].0 == "c" && missing[0].1.contains("nobody of #lab"), "{missing:?}");
    }

    #[test]
    fn the_newest_version_counts_and_the_others_are_told() {
        let of = |owner: &str, content: &str, mtime| answer(owner, vec![file(owner, "a", content, mtime)], &[]);
        let newest = merged(&["a"], vec![of("alice", "old", 5), of("bob", "new", 6), of("carol", "old", 5)]);
        let [alice, carol] = ["alice", "carol"].map(|user| user.parse().unwrap());
        let choice =
            VersionChoice { name: "a".parse().unwrap(), owner: "bob".parse().unwrap(), others: vec![alice, carol] };
        assert_eq!((owners(&newest), &newest.choices), (vec![("a", "bob")], &vec![choice]));
        // Equally new: what most have.
        let most = merged(&["a"], vec![of("alice", "x", 5), of("bob", "y", 5), of("carol", "y", 5)]);
        assert_eq!(owners(&most), [("a", "bob")]);
        // The same content is no choice.
        let same = merged(&["a"], vec![of("bob", "x", 9), of("alice", "x", 5)]);
        assert_eq!((owners(&same), same.choices.len()), (vec![("a", "alice")], 0));
    }

    #[test]
    fn a_whole_file_is_preferred_to_a_part_of_it() {
        let mut part = file("alice", "a", "x", 5);
        part.stat.partial = true;
        let merged =
            merged(&["a"], vec![answer("alice", vec![part], &[]), answer("bob", vec![file("bob", "a", "x", 5)], &[])]);
        assert_eq!(owners(&merged), [("a", "bob")]);
    }
}
