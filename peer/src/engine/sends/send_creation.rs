//! The sender's side: shares what is sent with its receiver alone, keeps the record of it, and takes the shares back when
//! it is over. All functions block.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use localization::tr;
use rand::Rng;
use shared::peer::{FileSend, MessageId, SendKind, folder_hash};
use shared::{ContentHash, FileName};

use crate::engine::private_data::SEND_COPIES_FOLDER;
use crate::engine::share::{OmissionReport, ShareEvent, ShareEventHandler, for_each_share, share};
use crate::engine::{Error, now_ms};
use crate::profile::{Audience, NewSend, OutgoingSend, Profile, SendState};

/// What is to be sent, and to whom.
#[derive(Debug, Clone)]
pub struct SendRequest {
    /// To whom.
    pub audience: Audience,
    /// A file or a folder.
    pub path: PathBuf,
    /// The name that the receiver sees, in place of its own.
    pub name: Option<FileName>,
    /// The path is a copy of a stream, which goes when the send is over.
    pub is_copy: bool,
}

/// A send that has begun.
#[derive(Debug, Clone)]
pub struct BegunSend {
    /// The send on record.
    pub send: OutgoingSend,
    /// The same was sent before and is not over: it goes on.
    pub is_resumed: bool,
    /// Files of the folder that are not sent.
    pub omissions: OmissionReport,
}

/// Returns the path for a new copy of a stream, whose folder exists.
pub fn send_copy_path(profile: &Profile) -> Result<PathBuf, Error> {
    let folder = profile.home().join(SEND_COPIES_FOLDER);
    fs::create_dir_all(&folder).map_err(Error::disk(&folder))?;
    Ok(folder.join(format!("{:032x}", rand::rng().random::<u128>())))
}

/// Hashes a file or a folder, shares it with the audience and records the send. The same send that is not over goes on; one
/// of the same name with another content is over.
///
/// # Errors
/// [`Error::Usage`] if there is nothing to send, or the name is taken by something else; [`Error::Interrupted`]. Then
/// nothing is shared that wasn't before.
pub fn begin_send(
    profile: &Profile,
    request: &SendRequest,
    report: &mut ShareEventHandler<'_>,
) -> Result<BegunSend, Error> {
    let SendRequest { audience, path, name, is_copy } = request;
    let shown = path.to_string_lossy();
    let root = path.canonicalize().map_err(|_| Error::Usage(tr!("{path}: no such file or folder", path = shown)))?;
    let kind = if root.is_dir() { SendKind::Folder } else { SendKind::File };
    let mut files: Vec<(FileName, ContentHash, u64)> = Vec::new();
    let mut base: Option<FileName> = None;
    // What was shared before is asked now: afterwards it can't be told from what is new.
    let before = shared_names(profile, audience)?;
    let mut collect = |event: ShareEvent<'_>| {
        if let ShareEvent::Shared { share, .. } = &event {
            base = base.take().or_else(|| base_name(&root, &share.path, &share.name));
            files.push((share.name.clone(), share.hash, share.version.size));
        }
        report(event)
    };
    let summary = share(profile, audience, std::slice::from_ref(path), name.as_ref(), &mut collect)?;
    let is_new = |(name, ..): &&(FileName, ContentHash, u64)| !before.contains(name.as_str());
    let new: Vec<FileName> = files.iter().filter(is_new).map(|(name, ..)| name.clone()).collect();
    let undo = || profile.remove_shares(audience, &new).map(|_| ());
    if summary.interrupted_total.is_some() {
        undo()?;
        return Err(Error::Interrupted);
    }
    let Some(name) = base.filter(|_| !files.is_empty()) else {
        let failure =
            summary.omissions.named().chain(summary.omissions.failures().flat_map(|(_, group)| &group.examples));
        let why = failure.map(|failure| failure.why.clone()).next();
        let why = why.unwrap_or_else(|| tr!("it has no files that can be sent"));
        return Err(Error::Usage(tr!("{path} can't be sent: {why}", path = shown, why)));
    };
    let send = described(name, kind, &files);
    // What the user shared before is not taken back when the send is over.
    let keeps_shares = new.len() < files.len();
    match record(profile, request, &root, &send, keeps_shares) {
        Ok((send, is_resumed)) => {
            // Only now: until the send is on record, an error has to leave the earlier shares.
            remove_gone(profile, audience, &send.send, &files)?;
            if is_resumed && *is_copy {
                // The earlier copy serves the send; a leftover costs disk space only.
                let _ = fs::remove_file(&root);
            }
            Ok(BegunSend { send, is_resumed, omissions: summary.omissions })
        }
        Err(error) => {
            undo()?;
            Err(error)
        }
    }
}

fn described(name: FileName, kind: SendKind, files: &[(FileName, ContentHash, u64)]) -> FileSend {
    let hash = match (kind, files) {
        (SendKind::File, [(_, hash, _)]) => *hash,
        _ => folder_hash(files.iter().map(|(name, hash, _)| (name, hash))),
    };
    let size = files.iter().fold(0, |sum: u64, (.., size)| sum.saturating_add(*size));
    FileSend { name, kind, files: u32::try_from(files.len()).unwrap_or(u32::MAX), size, hash }
}

/// Stores the send, or finds the same one; true for a found one. Others of the same name to the same audience are over.
fn record(
    profile: &Profile,
    request: &SendRequest,
    path: &Path,
    send: &FileSend,
    keeps_shares: bool,
) -> Result<(OutgoingSend, bool), Error> {
    let audience = &request.audience;
    let is_open = |known: &OutgoingSend| {
        known.state == SendState::Waiting && known.audience == *audience && known.send.name == send.name
    };
    let mut keeps_shares = keeps_shares;
    for known in profile.sends()?.into_iter().filter(is_open) {
        // What is sent again goes on, and what takes its place has its shares.
        profile.set_send_paused(known.number, false)?;
        if known.send == *send {
            return Ok((OutgoingSend { is_paused: false, ..known }, true));
        }
        // The shares of the earlier send are this one's from here on.
        keeps_shares &= known.keeps_shares;
        if profile.settle_send(known.number, SendState::Ended)? {
            profile.mark_send_cleared(known.number)?;
            remove_copy(&known);
        }
    }
    let id = audience.person().map(|_| MessageId::from_bytes(rand::rng().random()));
    let is_copy = request.is_copy;
    let new = NewSend { audience, id, send, path, is_copy, keeps_shares };
    let too_many =
        || Error::Usage(tr!("too many sends are not over: `peer sends` lists them, `peer sends end N` ends one"));
    let number = profile.add_send(new, now_ms())?.ok_or_else(too_many)?;
    let stored = profile.send(number)?.ok_or_else(|| Error::Internal("a send is not on record".to_owned()))?;
    Ok((stored, false))
}

/// Ends a send that waits; false if it is over already.
pub fn end_send(profile: &Profile, send: &OutgoingSend) -> Result<bool, Error> {
    let ended = profile.settle_send(send.number, SendState::Ended)?;
    clear_settled_sends(profile)?;
    Ok(ended)
}

/// Takes back the shares of all sends that are over, and deletes their copies of streams.
pub fn clear_settled_sends(profile: &Profile) -> Result<(), Error> {
    let settled = profile.uncleared_sends()?;
    if settled.is_empty() {
        return Ok(());
    }
    let all = profile.sends()?;
    for send in settled {
        // Another send of the same name to the same audience goes on with these shares.
        let is_heir = |other: &&OutgoingSend| {
            other.state == SendState::Waiting && other.audience == send.audience && other.send.name == send.send.name
        };
        if !send.keeps_shares && !all.iter().any(|other| is_heir(&other)) {
            remove_shares_of(profile, &send)?;
        }
        remove_copy(&send);
        // Marked last: what a stop interrupts is cleared again the next time.
        profile.mark_send_cleared(send.number)?;
    }
    Ok(())
}

fn remove_shares_of(profile: &Profile, send: &OutgoingSend) -> Result<(), Error> {
    let (FileSend { name, kind, .. }, audience) = (&send.send, send.share_audience());
    match kind {
        SendKind::File => drop(profile.remove_shares(&audience, [name])?),
        SendKind::Folder => {
            let mut names = Vec::new();
            for_each_share(profile, &audience, &send.send.name_prefix(), |share| names.push(share.name))?;
            profile.remove_shares(&audience, &names)?;
            profile.remove_folders(&audience, name.as_str())?;
        }
    }
    Ok(())
}

fn remove_copy(send: &OutgoingSend) {
    if send.is_copy
        && let Err(why) = fs::remove_file(&send.path)
    {
        tracing::debug!("the copy of what was sent is not removed: {why}");
    }
}

/// Removes shares in the folder of a send that are no part of it: files that were there at an earlier send.
fn remove_gone(
    profile: &Profile,
    audience: &Audience,
    send: &FileSend,
    files: &[(FileName, ContentHash, u64)],
) -> Result<(), Error> {
    if send.kind == SendKind::File {
        return Ok(());
    }
    let sent: BTreeSet<&str> = files.iter().map(|(name, ..)| name.as_str()).collect();
    let mut gone = Vec::new();
    for_each_share(profile, audience, &send.name_prefix(), |share| {
        if !sent.contains(share.name.as_str()) {
            gone.push(share.name);
        }
    })?;
    profile.remove_shares(audience, &gone)?;
    Ok(())
}

fn shared_names(profile: &Profile, audience: &Audience) -> Result<BTreeSet<String>, Error> {
    let mut names = BTreeSet::new();
    for_each_share(profile, audience, "", |share| {
        names.insert(share.name.as_str().to_owned());
    })?;
    Ok(names)
}

/// Returns the name of the file or folder at `root`, from that of one file in it.
fn base_name(root: &Path, path: &Path, name: &FileName) -> Option<FileName> {
    // Each component of the path is one of the name, whatever it is encoded to.
    let below = path.strip_prefix(root).map_or(0, |below| below.components().count());
    let mut components: Vec<&str> = name.as_str().split('/').collect();
    components.truncate(components.len().checked_sub(below)?);
    components.join("/").parse().ok()
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    fn put(path: &Path, content: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::io::Write::write_all(&mut fs::File::create(path).unwrap(), content.as_bytes()).unwrap();
    }

    fn begin(profile: &Profile, audience: &Audience, path: &Path) -> Result<BegunSend, Error> {
        let request = SendRequest { audience: audience.clone(), path: path.to_owned(), name: None, is_copy: false };
        begin_send(profile, &request, &mut |_| ControlFlow::Continue(()))
    }

    fn names(profile: &Profile, audience: &Audience) -> Vec<String> {
        shared_names(profile, audience).unwrap().into_iter().collect()
    }

    #[test]
    fn shares_live_as_long_as_the_send() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(&home.path().join("me")).unwrap();
        let bob = Audience::Person("bob".parse().unwrap());
        for (name, content) in [("photos/a", "1"), ("photos/sub/b", "22"), ("photos/.hidden", "3"), ("plan", "4444")] {
            put(&home.path().join(name), content);
        }
        let photos = begin(&profile, &bob, &home.path().join("photos")).unwrap();
        let FileSend { name, kind, files, size, .. } = &photos.send.send;
        assert_eq!((name.as_str(), *kind, *files, *size), ("photos", SendKind::Folder, 2, 3));
        assert_eq!(names(&profile, &bob), ["photos/a", "photos/sub/b"]);
        let again = begin(&profile, &bob, &home.path().join("photos")).unwrap();
        assert_eq!((again.is_resumed, again.send.number), (true, photos.send.number));
        let plan = begin(&profile, &bob, &home.path().join("plan")).unwrap();
        assert_eq!(plan.send.send.hash, ContentHash::of(b"4444"));

        // Another content under the same name takes the place of the send that is not over.
        put(&home.path().join("photos/c"), "5");
        fs::remove_file(home.path().join("photos/a")).unwrap();
        let changed = begin(&profile, &bob, &home.path().join("photos")).unwrap();
        assert_eq!(profile.send(photos.send.number).unwrap().unwrap().state, SendState::Ended);
        assert_eq!(names(&profile, &bob), ["photos/c", "photos/sub/b", "plan"]);
        assert!(end_send(&profile, &changed.send).unwrap() && !end_send(&profile, &changed.send).unwrap());
        assert_eq!(names(&profile, &bob), ["plan"]);
        end_send(&profile, &plan.send).unwrap();
        assert!(names(&profile, &bob).is_empty());
    }

    #[test]
    fn nobody_may_fetch_what_is_paused() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(&home.path().join("me")).unwrap();
        let bob = Audience::Person("bob".parse().unwrap());
        for (name, content) in [("photos/a", "1"), ("photos/sub/b", "22"), ("photos2", "4444")] {
            put(&home.path().join(name), content);
        }
        let photos = begin(&profile, &bob, &home.path().join("photos")).unwrap().send;
        let other = begin(&profile, &bob, &home.path().join("photos2")).unwrap().send;
        let pause = |send: &OutgoingSend, paused| profile.set_send_paused(send.number, paused).unwrap();
        // Whoever follows the audience learns of both by its mark.
        let mark = || profile.share_mark(std::slice::from_ref(&bob)).unwrap();
        let shared = mark();
        assert!(pause(&photos, true) && !pause(&photos, true));
        let paused = mark();
        assert_eq!(names(&profile, &bob), ["photos2"]);
        assert!(pause(&photos, false) && !pause(&photos, false));
        assert!(shared != paused && paused != mark());
        assert_eq!(names(&profile, &bob), ["photos/a", "photos/sub/b", "photos2"]);
        // The same is sent again.
        pause(&photos, true);
        let again = begin(&profile, &bob, &home.path().join("photos")).unwrap();
        assert!(again.is_resumed && !profile.send(photos.number).unwrap().unwrap().is_paused);
        assert_eq!(names(&profile, &bob), ["photos/a", "photos/sub/b", "photos2"]);
        // Another content under the same name.
        pause(&photos, true);
        put(&home.path().join("photos/a"), "changed");
        let changed = begin(&profile, &bob, &home.path().join("photos")).unwrap().send;
        assert_eq!(names(&profile, &bob), ["photos/a", "photos/sub/b", "photos2"]);
        // The end leaves nothing in either place.
        for send in [&changed, &other] {
            pause(send, true);
            assert!(end_send(&profile, &profile.send(send.number).unwrap().unwrap()).unwrap());
            assert!(!pause(send, false), "it is over");
        }
        assert_eq!(profile.audiences().unwrap(), []);
    }

    #[test]
    fn what_was_shared_before_stays_after_it() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(&home.path().join("me")).unwrap();
        let room = Audience::Room(shared::RoomId::from_bytes([1; 16]));
        put(&home.path().join("slides"), "1");
        share(&profile, &room, &[home.path().join("slides")], None, &mut |_| ControlFlow::Continue(())).unwrap();
        let sent = begin(&profile, &room, &home.path().join("slides")).unwrap();
        assert_eq!(sent.send.id, None, "a room's message announces it");
        end_send(&profile, &sent.send).unwrap();
        assert_eq!(names(&profile, &room), ["slides"]);
    }

    #[test]
    fn what_can_t_be_sent_leaves_nothing_behind() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(&home.path().join("me")).unwrap();
        let bob = Audience::Person("bob".parse().unwrap());
        put(&home.path().join("f/a"), "1");
        put(&home.path().join("other/f/a"), "2");
        fs::create_dir(home.path().join("empty")).unwrap();
        for (path, why) in [("none", "no such file"), ("empty", "no files"), ("me", "account")] {
            let error = begin(&profile, &bob, &home.path().join(path)).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        begin(&profile, &bob, &home.path().join("f")).unwrap();
        assert!(begin(&profile, &bob, &home.path().join("other/f")).is_err(), "the name is taken");
        let request =
            SendRequest { audience: bob.clone(), path: home.path().join("other"), name: None, is_copy: false };
        let stopped = begin_send(&profile, &request, &mut |_| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
        assert_eq!(names(&profile, &bob), ["f/a"]);
        assert_eq!(profile.sends().unwrap().len(), 1);
    }

    #[test]
    fn a_copy_of_a_stream_is_sent_and_goes() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        profile.identity().unwrap();
        let bob = Audience::Person("bob".parse().unwrap());
        let path = send_copy_path(&profile).unwrap();
        put(&path, "stream");
        let name = Some("notes.txt".parse().unwrap());
        let request = SendRequest { audience: bob.clone(), path: path.clone(), name, is_copy: true };
        let begun = begin_send(&profile, &request, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(begun.send.send.name.as_str(), "notes.txt");
        end_send(&profile, &begun.send).unwrap();
        assert!(!path.exists());
    }
}
