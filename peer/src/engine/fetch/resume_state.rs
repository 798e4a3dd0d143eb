//! Resumption without the owner: the state file of an earlier attempt
//! describes the file, so that other sources can be asked for it.

use std::path::Path;

use shared::peer::FileStat;
use shared::{FileName, GroupLayout, UserName};

use super::name_collisions::PartialTag;
use super::name_resolution::ResolvedFile;
use super::{FetchDestination, FetchRequest};
use crate::engine::partial_state::{FileOrigin, PARTIAL_SUFFIX, PartialState, STATE_SUFFIX, is_state, read_header};
use crate::sys::FolderHandle;

/// Returns the only requested file, if an earlier attempt left its partial file and state. Blocks.
pub(super) fn file_from_state(request: &FetchRequest) -> Option<ResolvedFile> {
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
    let (stat, layout) = states.filter_map(|state| read_state(&folder, state, &name, &request.from)).next()?;
    Some(ResolvedFile { stat, layout, local: local.parse().ok()? })
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
    let FileOrigin { user, mtime, mtime_ns, executable } = origin;
    let stat = FileStat { mtime, mtime_ns, executable, ..FileStat::new(name.clone(), hash, &layout) };
    (user == *from).then_some((stat, layout))
}
