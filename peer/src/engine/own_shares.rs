//! The user's own shares as a page lists them: each with its audience.

use std::collections::BTreeSet;
use std::path::PathBuf;

use localization::tr;
use serde::Serialize;
use shared::names::name_encoding::display_name;
use shared::{ContentHash, FileName};

use super::private_data::DROPS_FOLDER;
use super::share::{for_each_share, unshare};
use super::{Error, ErrorKind};
use crate::profile::{Audience, ConversationName, Profile, ShareRoot};

/// A file that the user shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OwnShare {
    /// The shared name.
    pub name: FileName,
    /// Its size when it was hashed.
    pub size: u64,
    /// Its content.
    pub hash: ContentHash,
    /// The user or the room who may have it, `#lab`; `None` if that is everybody.
    pub audience: Option<String>,
}

/// Returns the first shares by audience and name, and whether there are more; blocks.
///
/// # Errors
/// The profile can't be read.
pub fn list_own_shares(profile: &Profile, limit: usize) -> Result<(Vec<OwnShare>, bool), Error> {
    let (mut shares, mut more) = (Vec::new(), false);
    for audience in audiences(profile)? {
        let shown = audience_text(profile, &audience)?;
        for_each_share(profile, &audience, "", |share| {
            if shares.len() < limit {
                let (name, size, hash) = (share.name, share.version.size, share.hash);
                shares.push(OwnShare { name, size, hash, audience: shown.clone() });
            } else {
                more = true;
            }
        })?;
    }
    Ok((shares, more))
}

/// Stops sharing a file or a folder with everybody, or with a user or a room; blocks. Returns the paths that nobody may have
/// any more.
///
/// # Errors
/// An error of the kind [`ErrorKind::NotShared`] if nothing of that name is shared with them.
pub fn remove_own_share(profile: &Profile, with: Option<&ConversationName>, name: &str) -> Result<Vec<PathBuf>, Error> {
    let wanted = with.map(ToString::to_string);
    let mut meant = None;
    for audience in audiences(profile)? {
        if audience_text(profile, &audience)? == wanted {
            meant = Some(audience);
            break;
        }
    }
    let none = || Error::Relayed {
        kind: ErrorKind::NotShared,
        message: tr!("nothing is shared as {name}", name = display_name(name)),
    };
    let audience = meant.ok_or_else(none)?;
    // Read first: with the shares, their paths go off the record.
    let mut before = Vec::new();
    for_each_share(profile, &audience, "", |share| before.push((share.name, share.path)))?;
    let folder = format!("{}/", name.trim_end_matches('/'));
    let is_meant = |shared: &FileName| shared.as_str() == name || shared.as_str().starts_with(&folder);
    if !before.iter().any(|(shared, _)| is_meant(shared)) {
        return Err(none());
    }
    let removed: BTreeSet<FileName> = unshare(profile, &audience, &[name.to_owned()])?.into_iter().collect();
    end_empty_drops(profile, &audience)?;
    let mut kept = BTreeSet::new();
    // Those of a paused send as well: it goes on some day.
    for audience in profile.audiences()? {
        for_each_share(profile, &audience, "", |share| kept.extend([share.path]))?;
    }
    let gone = before.into_iter().filter(|(name, _)| removed.contains(name)).map(|(_, path)| path);
    Ok(gone.filter(|path| !kept.contains(path)).collect())
}

/// Ends the sharing of dropped folders of which no file is left: nobody puts further ones there.
fn end_empty_drops(profile: &Profile, audience: &Audience) -> Result<(), Error> {
    let drops = profile.home().join(DROPS_FOLDER);
    let is_dropped = |root: &ShareRoot| root.audience == *audience && root.path.starts_with(&drops);
    for root in profile.share_roots()?.into_iter().filter(is_dropped) {
        let mut is_empty = true;
        for_each_share(profile, audience, &format!("{}/", root.name.as_str()), |_| is_empty = false)?;
        if is_empty {
            unshare(profile, audience, &[root.name.as_str().to_owned()])?;
        }
    }
    Ok(())
}

/// Returns an audience as text: a user, `#room`, or `None` for everybody.
///
/// # Errors
/// The profile can't be read.
pub fn audience_text(profile: &Profile, audience: &Audience) -> Result<Option<String>, Error> {
    Ok(match audience {
        Audience::Everybody => None,
        Audience::Person(user) => Some(user.to_string()),
        Audience::Room(id) => match profile.rooms()?.into_iter().find(|room| room.id == *id) {
            Some(room) => Some(format!("#{}", room.name)),
            None => Some(audience.to_string()),
        },
        Audience::Paused(_) => Some(audience.to_string()),
    })
}

fn audiences(profile: &Profile) -> Result<Vec<Audience>, Error> {
    let mut all = profile.audiences()?;
    if !all.contains(&Audience::Everybody) {
        all.insert(0, Audience::Everybody);
    }
    Ok(all.into_iter().filter(|audience| !matches!(audience, Audience::Paused(_))).collect())
}
