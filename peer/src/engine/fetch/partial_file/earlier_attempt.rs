//! Partial files of earlier attempts: found, measured and removed.

use std::path::{Path, PathBuf};

use shared::names::truncate_to_bytes;
use shared::peer::FileStat;
use shared::{ContentHash, FileName, GroupLayout, UserName};

use super::NAME_OVERHEAD_BYTES;
use crate::engine::fetch::destination::{FileTarget, PartialTag};
use crate::engine::fetch::name_resolution::ResolvedFile;
use crate::engine::fetch::{FetchDestination, FetchRequest};
use crate::engine::partial_state::{FileOrigin, PARTIAL_SUFFIX, PartialState, STATE_SUFFIX, is_state, read_header};
use crate::sys::FolderHandle;

/// Returns the disk space that an earlier attempt at this file holds.
pub(in crate::engine::fetch) fn allocated_bytes(target: &FileTarget, hash: &ContentHash) -> u64 {
    let folder = target.folder.open_existing().ok().flatten();
    let held = |folder: &FolderHandle, stem: &String| folder.allocated_bytes(&format!("{stem}{PARTIAL_SUFFIX}"));
    folder.map_or(0, |folder| target.partial_stems(hash).iter().map(|stem| held(&folder, stem)).max().unwrap_or(0))
}

/// Removes partial files of other versions of this file from the same user,
/// unless a process works on them. True if any was removed.
pub(in crate::engine::fetch) fn remove_outdated(target: &FileTarget, hash: &ContentHash) -> bool {
    let Ok(Some(folder)) = target.folder.open_existing() else { return false };
    let own = target.name();
    // A truncated name can be that of another file, too.
    if truncate_to_bytes(&own, 255 - NAME_OVERHEAD_BYTES) != own {
        return false;
    }
    let outdated = |stem: &&str| {
        let Some(state) = folder.open_existing(&format!("{stem}{STATE_SUFFIX}")).ok().as_ref().and_then(read_header)
        else {
            return false;
        };
        state.0 != *hash
            // The prefix is also that of longer names: `.a.` begins `.a.txt.` as well.
            && target.partial_stems(&state.0).iter().any(|own| own == stem)
            && state.1.user == *target.owner()
    };
    let states = target.folder.state_files();
    let prefixes = [format!(".{own}."), format!(".{own}~")];
    let is_own = |name: &&String| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let stems = states.iter().filter(is_own).filter_map(|name| name.strip_suffix(STATE_SUFFIX));
    // Not `any`, which would stop at the first one removed.
    stems.filter(outdated).filter(|stem| remove_unused(&folder, stem)).count() > 0
}

/// Removes the partial file of a version that its source no longer has.
pub(in crate::engine::fetch) fn remove_version(target: &FileTarget, hash: &ContentHash) {
    if let Ok(Some(folder)) = target.folder.open_existing() {
        for stem in target.partial_stems(hash) {
            remove_unused(&folder, &stem);
        }
    }
}

/// Returns the path of the partial file of this version, if there is one.
pub(in crate::engine::fetch) fn find_version(target: &FileTarget, hash: &ContentHash) -> Option<PathBuf> {
    let folder = target.folder.open_existing().ok()??;
    let mut parts = target.partial_stems(hash).into_iter().map(|stem| format!("{stem}{PARTIAL_SUFFIX}"));
    parts.find(|part| folder.open_existing(part).is_ok()).map(|part| target.path().with_file_name(part))
}

/// Removes a part and its state, unless another process works on it or another user can write to it.
fn remove_unused(folder: &FolderHandle, stem: &str) -> bool {
    let part = format!("{stem}{PARTIAL_SUFFIX}");
    let unused = folder.open_existing(&part).is_ok_and(|file| {
        // The lock first: whoever works on the part holds it.
        folder.is_sole_owner(&file).unwrap_or(false) && file.try_lock().is_ok() && folder.remove(&part).is_ok()
    });
    unused && folder.remove(&format!("{stem}{STATE_SUFFIX}")).is_ok()
}

/// Returns the only requested file, if an earlier attempt left its partial file and state: they describe it, so that
/// other sources can be asked when its `owner` can't. Blocks.
pub(in crate::engine::fetch) fn file_from_state(request: &FetchRequest, owner: &UserName) -> Option<ResolvedFile> {
    let [asked] = request.names.as_slice() else { return None };
    let name: FileName = asked.text.parse().ok()?;
    // Only the destination folder itself is searched, where `local` has a single component.
    if asked.local.as_ref().is_some_and(|local| local.components().count() > 1) {
        return None;
    }
    let (folder, local) = match &request.destination {
        FetchDestination::Folder(path) => {
            (path.as_path(), asked.local.as_ref().map_or(name.last_component(), FileName::as_str))
        }
        FetchDestination::FileOrFolder(path) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            (parent.unwrap_or(Path::new(".")), path.file_name()?.to_str()?)
        }
        FetchDestination::Stream(_) | FetchDestination::Stdout => return None,
    };
    let folder = FolderHandle::open(folder).ok()?;
    // With and without the tag that tells colliding names apart: which of them was used isn't known.
    let prefixes = [format!(".{local}."), format!(".{local}~{}.", PartialTag::of(local).text)];
    let names = folder.names().ok()?;
    let is_of = |state: &&String| is_state(state) && prefixes.iter().any(|prefix| state.starts_with(prefix));
    let states = names.iter().filter(is_of);
    let (stat, layout) = states.filter_map(|state| read_state(&folder, state, &name, owner)).next()?;
    Some(ResolvedFile { owner: owner.clone(), stat, layout, local: local.parse().ok()? })
}

fn read_state(folder: &FolderHandle, state: &str, name: &FileName, from: &UserName) -> Option<(FileStat, GroupLayout)> {
    // A state that another user can write to could name any hash.
    let file = folder.open_existing(state).ok().filter(|file| folder.is_sole_owner(file).unwrap_or(false))?;
    let (hash, origin) = read_header(&file)?;
    let part = folder.open_existing(&format!("{}{PARTIAL_SUFFIX}", state.strip_suffix(STATE_SUFFIX)?)).ok()?;
    let size = part.metadata().ok()?.len();
    let layout = GroupLayout::of(size)?;
    // The size of the partial file is a hint until the manifest, folded with this layout, gives the hash.
    PartialState::read(&file, &hash, &layout)?;
    let FileOrigin { user, mtime, mtime_ns, executable, restricted } = origin;
    let stat = FileStat { mtime, mtime_ns, executable, restricted, ..FileStat::new(name.clone(), hash, &layout) };
    (user == *from).then_some((stat, layout))
}
