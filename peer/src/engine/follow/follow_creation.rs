//! The beginning of a follow: checks what is to be followed and where the copy goes, and puts it on record.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use localization::tr;
use shared::account_name::shell_operand;
use shared::names::name_encoding::decode_component;
use shared::safe_text::safe_path;
use shared::{FileName, UserName};

use super::followed_folder::FollowedFolder;
use super::{MAX_FOLLOWS, MAX_FOLLOWS_OF_USER};
use crate::engine::follow_news::folder_text;
use crate::engine::private_data::PrivateData;
use crate::engine::sends::accept_policy::{FolderFault, check_folder};
use crate::engine::{Error, ErrorKind, LocalUser};
use crate::profile::{Follow, FollowState, FollowStatus, NewFollow, Profile};
use crate::util::TranslatedText;

/// The wish to follow a folder.
#[derive(Debug, Clone)]
pub struct FollowOrder {
    /// The user.
    pub user: UserName,
    /// The folder's shared name; `None` for all that the user shares.
    pub folder: Option<FileName>,
    /// The folder in which the copy goes, under the followed folder's own name.
    pub output: PathBuf,
    /// True if files that the user removes are removed here as well.
    pub deletes: bool,
}

/// Puts a follow on record, paused until its caller is ready, or returns the one that is on record for the same folder and
/// place, which goes on. Blocking.
///
/// # Errors
/// [`Error::Usage`] for a place that can't be, or too many follows; [`Error::Disk`].
pub fn begin_follow(me: &LocalUser, order: &FollowOrder) -> Result<Follow, Error> {
    let (user, profile) = (&order.user, &me.profile);
    if *user == me.user {
        return Err(Error::Usage(tr!("{user} is you: share the folder itself, or copy it", user)));
    }
    if profile.is_blocked(user)? {
        let who = shell_operand(user);
        return Err(Error::Usage(tr!("you block {user}: run `peer unblock {who}` first", user, who)));
    }
    let root = check_root(profile, &copy_path(order)?)?;
    for other in profile.follows()? {
        if other.of.root == root && other.of.user == *user && other.of.folder == order.folder {
            if order.deletes && !other.of.deletes {
                profile.set_follow_deletes(other.number, true)?;
            }
            return resume_follow(me, other.number)?.ok_or_else(|| Error::Internal("a follow went".to_owned()));
        }
        // One inside the other, each would take the other's files for the user's own.
        if other.of.root.starts_with(&root) || root.starts_with(&other.of.root) {
            return Err(Error::Usage(tr!(
                "{path} belongs to the follow {number}, of {user}'s {folder}: give another folder with -o, or end that \
                 one with `peer follows end {number}`",
                path = safe_path(&root),
                number = other.number,
                user = other.of.user,
                folder = folder_text(other.of.folder.as_ref())
            )));
        }
    }
    check_count(profile, user)?;
    // The folder first: a follow on record without it would pass for one whose disk is away.
    FollowedFolder::create(&root)?;
    let fingerprint = profile.known_user(user)?.map(|known| known.fingerprint);
    let (user, folder, deletes) = (user.clone(), order.folder.clone(), order.deletes);
    let number = profile.add_follow(&NewFollow { user, fingerprint, folder, root, deletes })?;
    profile.follow(number)?.ok_or_else(|| Error::Internal("a follow went".to_owned()))
}

/// Has a follow go on that was paused or is over because of a changed key: with the key that is trusted now. The folder of
/// the copy is made anew if it is gone. Blocking. `None` if there is no such follow.
///
/// # Errors
/// [`Error::Disk`], or an error of the profile.
pub fn resume_follow(me: &LocalUser, number: i64) -> Result<Option<Follow>, Error> {
    let profile = &me.profile;
    let Some(Follow { of, status, .. }) = profile.follow(number)? else { return Ok(None) };
    if profile.is_blocked(&of.user)? {
        let who = shell_operand(&of.user);
        return Err(Error::Usage(tr!("you block {user}: run `peer unblock {who}` first", user = of.user, who)));
    }
    if let Some(known) = profile.known_user(&of.user)? {
        profile.set_follow_key(number, &known.fingerprint)?;
    }
    if FollowedFolder::create(&check_root(profile, &of.root)?)? {
        // Nothing of what is on record is there, or it was put there by somebody else.
        profile.clear_follow_records(number)?;
    }
    let status = FollowStatus { state: FollowState::Waiting, count: 0, why: TranslatedText::default(), ..status };
    profile.set_follow_status(number, &status)?;
    profile.set_follow_paused(number, false)?;
    Ok(profile.follow(number)?)
}

/// Ends a follow. The copy stays, and so does its trash. Blocking.
///
/// # Errors
/// An error of the profile.
pub fn end_follow(me: &LocalUser, number: i64) -> Result<(), Error> {
    let Some(Follow { of, .. }) = me.profile.follow(number)? else { return Ok(()) };
    // The record first: without it, nothing more is fetched into the folder.
    me.profile.remove_follow(number)?;
    // Of a disk that is away nothing is known.
    if let Ok(folder) = FollowedFolder::open(&of.root) {
        folder.dissolve();
    }
    Ok(())
}

/// Returns the path of the copy: the followed folder's own name in the output folder.
fn copy_path(order: &FollowOrder) -> Result<PathBuf, Error> {
    let output = std::path::absolute(&order.output).map_err(Error::disk(&order.output))?;
    Ok(match &order.folder {
        Some(folder) => {
            let name = decode_component(folder.last_component()).into_owned();
            output.join(std::ffi::OsStr::from_bytes(&name))
        }
        None => output,
    })
}

/// Checks the place of a copy: never the home folder itself, nor a profile's. Returns its path without links; it is made if
/// it isn't there.
fn check_root(profile: &Profile, path: &Path) -> Result<PathBuf, Error> {
    let refused = |why: String| Error::Usage(tr!("{path} can't hold the copy: {why}", path = safe_path(path), why));
    let is_private = |path: &Path| {
        let metadata = std::fs::symlink_metadata(path);
        metadata.is_ok_and(|metadata| PrivateData::of(profile).reason(path, &metadata).is_some())
    };
    // Looked at before it is made: nothing is created inside a profile.
    let above = path.ancestors().find_map(|above| above.canonicalize().ok()).unwrap_or_else(|| "/".into());
    if is_private(&above) {
        return Err(refused(tr!("it belongs to an account's folder")));
    }
    std::fs::create_dir_all(path).map_err(Error::disk(path))?;
    let real = path.canonicalize().map_err(Error::disk(path))?;
    let home = std::env::home_dir().and_then(|home| home.canonicalize().ok());
    match check_folder(&real, home.as_ref()) {
        Err(FolderFault::Home) => {
            let why = tr!("it is your home folder, where programs look for their settings; give another one with -o");
            Err(refused(why))
        }
        Err(FolderFault::Root) => Err(refused(tr!("it is the root folder; give another one with -o"))),
        // Again, as a link on the way may lead into a profile.
        Ok(()) if is_private(&real) || profile.home().starts_with(&real) => {
            Err(refused(tr!("an account's folder is in it; give another one with -o")))
        }
        Ok(()) => Ok(real),
    }
}

fn check_count(profile: &Profile, user: &UserName) -> Result<(), Error> {
    let follows = profile.follows()?;
    let of_user = follows.iter().filter(|follow| follow.of.user == *user).count();
    let message = if follows.len() >= MAX_FOLLOWS {
        tr!(
            "{limit} folders are followed already, which is all that a profile can: `peer follows` lists them",
            limit = MAX_FOLLOWS
        )
    } else if of_user >= MAX_FOLLOWS_OF_USER {
        tr!(
            "{limit} folders of {user} are followed already, which is all that one user's can be: `peer follows` lists them",
            limit = MAX_FOLLOWS_OF_USER,
            user
        )
    } else {
        return Ok(());
    };
    Err(Error::Relayed { kind: ErrorKind::Refused, message })
}
