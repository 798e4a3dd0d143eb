//! The places that are watched: folders that are shared as a whole, and folders with files that are shared by themselves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use shared::FileName;

use crate::engine::Error;
use crate::engine::share::for_each_share;
use crate::profile::{Audience, Profile, ShareRoot};

/// A place with shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SharePlace {
    /// A folder that is shared as a whole.
    Tree(ShareRoot),
    /// A folder in which single files are shared.
    Files(SharedFiles),
}

/// Single files of one folder that are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SharedFiles {
    pub(super) folder: PathBuf,
    /// The shared names by the names on the disk.
    pub(super) names: BTreeMap<OsString, Vec<FileName>>,
}

/// The identity of a place: a place of the same identity stays the same when its files change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum PlaceKey {
    Tree(ShareRoot),
    Files(PathBuf),
}

impl SharePlace {
    pub(super) fn key(&self) -> PlaceKey {
        match self {
            Self::Tree(root) => PlaceKey::Tree(root.clone()),
            Self::Files(files) => PlaceKey::Files(files.folder.clone()),
        }
    }

    /// Returns the folder on the disk.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Tree(root) => &root.path,
            Self::Files(files) => &files.folder,
        }
    }

    /// Returns true if a change of this path, relative to the place, can change what is shared.
    pub(super) fn concerns(&self, relative: &Path) -> bool {
        match self {
            // Hidden files are never shared with a folder; editors keep theirs there.
            Self::Tree(_) => !relative.iter().any(|component| component.as_encoded_bytes().starts_with(b".")),
            Self::Files(files) => files.names.contains_key(relative.as_os_str()),
        }
    }
}

/// Returns the places of all shares, except those for one person: what was offered is looked at when it is asked for.
///
/// # Errors
/// When the profile can't be read.
pub(super) fn load_places(profile: &Profile) -> Result<Vec<SharePlace>, Error> {
    let roots = profile.share_roots()?;
    let mut files: BTreeMap<PathBuf, SharedFiles> = BTreeMap::new();
    for audience in profile.audiences()?.into_iter().filter(|audience| audience.person().is_none()) {
        let covered = RootNames::of(&roots, &audience);
        for_each_share(profile, &audience, "", |share| {
            let (Some(folder), Some(name)) = (share.path.parent(), share.path.file_name()) else { return };
            if !covered.cover(&share.name, &share.path) {
                let new = || SharedFiles { folder: folder.to_owned(), names: BTreeMap::new() };
                let place = files.entry(folder.to_owned()).or_insert_with(new);
                place.names.entry(name.to_owned()).or_default().push(share.name);
            }
        })?;
    }
    let trees = roots.into_iter().filter(|root| root.audience.person().is_none()).map(SharePlace::Tree);
    Ok(trees.chain(files.into_values().map(SharePlace::Files)).collect())
}

/// The roots of one audience by their names.
struct RootNames<'a>(HashMap<&'a str, HashSet<&'a Path>>);

impl<'a> RootNames<'a> {
    fn of(roots: &'a [ShareRoot], audience: &Audience) -> Self {
        let mut names: HashMap<&str, HashSet<&Path>> = HashMap::new();
        for root in roots.iter().filter(|root| root.audience == *audience) {
            names.entry(root.name.as_str()).or_default().insert(&root.path);
        }
        Self(names)
    }

    /// Returns true if a share of this name at this path belongs to a root.
    fn cover(&self, name: &FileName, path: &Path) -> bool {
        let text = name.as_str();
        let mut above = text.match_indices('/').filter_map(|(slash, _)| self.0.get(&text[..slash]));
        above.any(|paths| paths.iter().any(|root| path.starts_with(root)))
    }
}
