//! The end of sharing: finds out what the user's texts name, and removes it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use localization::tr;
use shared::FileName;
use shared::names::matching_key;

use super::for_each_share;
use crate::engine::{Error, now_ms};
use crate::profile::{Audience, PartialShare, Profile, Share, ShareRoot};

/// Stops sharing with an audience what these texts name: a share's name, a folder (`docs/`), or a shared path. Returns the names.
/// Within a folder that is shared as a whole, they stay out of it until it is shared again.
///
/// # Errors
/// [`Error::Usage`] if a text names nothing that is shared; then no share is removed.
pub fn unshare(profile: &Profile, audience: &Audience, texts: &[String]) -> Result<Vec<FileName>, Error> {
    let (mut names, mut parts) = (Vec::new(), Vec::new());
    let roots: Vec<ShareRoot> = profile.share_roots()?.into_iter().filter(|root| root.audience == *audience).collect();
    let mut folders = BTreeSet::new();
    // Looks first and removes last: a later text that names nothing must leave all as it was.
    for text in texts {
        let before = names.len();
        let meant = ShareSelector::new(text);
        // From the most exact meaning to the vaguest: only the first one with a match counts.
        for is_meant in [ShareSelector::matches_name, ShareSelector::matches_path, ShareSelector::matches_lookalike] {
            for_each_share(profile, audience, "", |share| {
                if is_meant(&meant, &share) {
                    folders.extend(meant.matching_folder(share.name.as_str()).map(str::to_owned));
                    names.push(share.name);
                }
            })?;
            if names.len() > before {
                break;
            }
        }
        let is_meant = |part: &PartialShare| part.audience == *audience && part.name.as_str() == text;
        for part in profile.partials()?.into_iter().filter(is_meant) {
            parts.push(part.path);
            names.push(part.name);
        }
        let by_path = meant.folders_by_path(&roots);
        let is_folder = !by_path.is_empty() || roots.iter().any(|root| root.name.as_str() == meant.folder);
        folders.insert(meant.folder.to_owned());
        folders.extend(by_path);
        // Empty folders have no shares that could match.
        if names.len() == before && !is_folder && !profile.has_empty_folder(audience, meant.folder)? {
            return Err(Error::Usage(tr!(
                "nothing is shared as {name}: `peer shares` shows what is",
                name = format_args!("{text:?}")
            )));
        }
    }
    for folder in &folders {
        profile.remove_folders(audience, folder)?;
    }
    for part in parts {
        profile.remove_partial(&part)?;
    }
    // Before the shares are removed: a node that hashes one of them now must not put it back.
    profile.exclude_names(audience, folders.iter().map(String::as_str))?;
    profile.exclude_names(audience, names.iter().map(FileName::as_str).filter(|name| !is_below_any(name, &folders)))?;
    profile.remove_gone_shares(audience, &names, now_ms())?;
    Ok(names)
}

/// Returns true if the name is one of these folders or lies below one.
fn is_below_any(name: &str, folders: &BTreeSet<String>) -> bool {
    let above = name.match_indices('/').map(|(slash, _)| &name[..slash]);
    above.chain([name]).any(|folder| folders.contains(folder))
}

/// A parsed text of the user: a name, a folder or a path.
struct ShareSelector<'a> {
    text: &'a str,
    folder: &'a str,
    path: Option<PathBuf>,
    key: Cow<'a, str>,
}

impl<'a> ShareSelector<'a> {
    fn new(text: &'a str) -> Self {
        let folder = text.trim_end_matches('/');
        Self { text, folder, path: Path::new(text).canonicalize().ok(), key: matching_key(folder) }
    }

    fn matches_name(&self, share: &Share) -> bool {
        share.name.as_str() == self.text || share.name.strip_folder(self.folder).is_some()
    }

    /// True if the share's file lies at or below the path.
    fn matches_path(&self, share: &Share) -> bool {
        self.path.as_ref().is_some_and(|path| share.path.starts_with(path))
    }

    /// Returns the shared names of the folder at the path: a root, or one below a root.
    fn folders_by_path(&self, roots: &[ShareRoot]) -> Vec<String> {
        let Some(path) = self.path.as_ref().filter(|path| path.is_dir()) else { return Vec::new() };
        let name = |root: &ShareRoot| {
            let below = path.strip_prefix(&root.path).ok().and_then(|relative| root.name_of(relative));
            below.or_else(|| root.path.starts_with(path).then(|| root.name.clone()))
        };
        roots.iter().filter_map(name).map(|name| name.as_str().to_owned()).collect()
    }

    /// True if the share's name, or its folder, is the text in another normal form or as it is displayed.
    fn matches_lookalike(&self, share: &Share) -> bool {
        let name = share.name.as_str();
        matching_key(name) == self.key || self.matching_folder(name).is_some()
    }

    /// Returns the folder of this name that the text means, in the name's own spelling.
    fn matching_folder<'b>(&self, name: &'b str) -> Option<&'b str> {
        let (slash, _) = name.match_indices('/').nth(self.folder.matches('/').count())?;
        Some(&name[..slash]).filter(|folder| matching_key(folder) == self.key)
    }
}
