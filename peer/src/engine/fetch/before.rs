//! What an earlier attempt left tells what a file is while the one whose file it is isn't there: others may have it.

use std::path::Path;

use shared::peer::FileStat;
use shared::{FileName, Layout, UserName};

use super::collisions::PartTag;
use super::partial::is_state;
use super::resolve::Wanted;
use super::{Destination, Request};
use crate::engine::part_state::{Origin, PART, PartState, STATE, described};
use crate::sys::Folder;

/// The one file that is asked for, if an earlier attempt to fetch it got some of it. Blocks.
pub(super) fn known_before(request: &Request) -> Option<Wanted> {
    let [asked] = request.names.as_slice() else { return None };
    let name: FileName = asked.text.parse().ok()?;
    if asked.local.as_ref().is_some_and(|local| local.components().count() > 1) {
        return None;
    }
    let (folder, local) = match &request.destination {
        Destination::Folder(path) => {
            (path.as_path(), asked.local.as_ref().map_or(name.last_component(), FileName::as_str))
        }
        Destination::FileOrFolder(path) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            (parent.unwrap_or(Path::new(".")), path.file_name()?.to_str()?)
        }
        Destination::Stream(_) | Destination::Stdout => return None,
    };
    let folder = Folder::open(folder).ok()?;
    let prefixes = [format!(".{local}."), format!(".{local}~{}.", PartTag::of(local).text)];
    let names = folder.names().ok()?;
    let is_of = |state: &&String| is_state(state) && prefixes.iter().any(|prefix| state.starts_with(prefix));
    let states = names.iter().filter(is_of);
    let (stat, layout) = states.filter_map(|state| read(&folder, state, &name, &request.from)).next()?;
    Some(Wanted { stat, layout, local: local.parse().ok()? })
}

fn read(folder: &Folder, state: &str, name: &FileName, from: &UserName) -> Option<(FileStat, Layout)> {
    let file = folder.open_existing(state).ok().filter(|file| folder.holds_alone(file).unwrap_or(false))?;
    let (hash, origin) = described(&file)?;
    let part = folder.open_existing(&format!("{}{PART}", state.strip_suffix(STATE)?)).ok()?;
    let size = part.metadata().ok()?.len();
    let layout = Layout::of(size)?;
    // Its manifest proves the size.
    PartState::read(&file, &hash, &layout)?;
    let Origin { user, mtime, mtime_ns, executable } = origin;
    let stat = FileStat { mtime, mtime_ns, executable, ..FileStat::new(name.clone(), hash, &layout) };
    (user == *from).then_some((stat, layout))
}
