//! The restriction of a fetch to exactly what was announced before, for fetches that nobody watches.

use localization::tr;
use shared::UserName;
use shared::names::name_encoding::display_name;
use shared::peer::FileSend;

use super::ResolvedRequest;
use crate::engine::Error;

/// Restricts what the names led to: it is what was announced, by names and contents, or nothing is fetched. No file becomes
/// executable.
///
/// # Errors
/// [`Error::Integrity`] if it isn't that, or something of it is hidden.
pub(in crate::engine::fetch) fn restrict(
    resolved: &mut ResolvedRequest,
    expected: &FileSend,
    from: &UserName,
) -> Result<(), Error> {
    let name = display_name(expected.name.as_str()).into_owned();
    if let Some((_, error)) = resolved.missing.drain(..).next() {
        return Err(error);
    }
    let hidden = resolved.files.iter().flat_map(|file| [&file.stat.name, &file.local]).chain(&resolved.folders);
    if let Some(hidden) = hidden.into_iter().find(|name| name.is_hidden()) {
        let hidden = display_name(hidden.as_str());
        return Err(Error::Integrity(tr!(
            "{hidden} begins with a dot: nothing of {name} is fetched unasked",
            hidden,
            name
        )));
    }
    let files = resolved.files.iter().map(|file| (&file.stat.name, &file.stat.hash));
    let is_same = expected.hash_of(files) == Some(expected.hash);
    let size = resolved.files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.stat.size));
    if !is_same || size != expected.size || resolved.files.iter().any(|file| file.stat.stale) {
        return Err(Error::Integrity(tr!(
            "{name} isn't what {from} announced any more: it changed meanwhile",
            name,
            from
        )));
    }
    // Empty folders are no part of what was announced.
    resolved.folders.clear();
    resolved.files.iter_mut().for_each(|file| file.stat.executable = false);
    Ok(())
}

#[cfg(test)]
mod tests {
    use shared::peer::{FileStat, SendKind, folder_hash};
    use shared::{ContentHash, FileName, GroupLayout};

    use super::*;
    use crate::engine::fetch::name_resolution::ResolvedFile;

    fn file(name: &str, content: &str) -> ResolvedFile {
        let (name, layout) = (name.parse::<FileName>().unwrap(), GroupLayout::of(1).unwrap());
        let stat =
            FileStat { executable: true, ..FileStat::new(name.clone(), ContentHash::of(content.as_bytes()), &layout) };
        ResolvedFile { owner: "bob".parse().unwrap(), stat, layout, local: name }
    }

    fn announced(files: &[ResolvedFile]) -> FileSend {
        FileSend {
            name: "photos".parse().unwrap(),
            kind: SendKind::Folder,
            files: u32::try_from(files.len()).unwrap(),
            size: files.iter().map(|file| file.stat.size).sum(),
            hash: folder_hash(files.iter().map(|file| (&file.stat.name, &file.stat.hash))),
        }
    }

    fn restricted(files: Vec<ResolvedFile>, expected: &FileSend) -> Result<ResolvedRequest, Error> {
        let mut resolved =
            ResolvedRequest { files, folders: vec!["photos/empty".parse().unwrap()], ..ResolvedRequest::default() };
        restrict(&mut resolved, expected, &"bob".parse().unwrap()).map(|()| resolved)
    }

    #[test]
    fn only_what_was_announced_is_fetched_and_nothing_of_it_runs() {
        let files = vec![file("photos/a", "1"), file("photos/b", "2")];
        let expected = announced(&files);
        let taken = restricted(files.clone(), &expected).unwrap();
        assert!(taken.files.iter().all(|file| !file.stat.executable) && taken.folders.is_empty());
        let mut stale = files.clone();
        stale[0].stat.stale = true;
        let mut larger = files.clone();
        larger[0].stat.size = 1 << 40;
        for other in [
            vec![file("photos/a", "1")],
            vec![file("photos/a", "1"), file("photos/b", "other")],
            vec![file("photos/a", "1"), file("photos/b", "2"), file("photos/c", "3")],
            vec![file("photos/a", "1"), file("elsewhere/b", "2")],
            stale,
            larger,
        ] {
            assert!(matches!(restricted(other, &expected), Err(Error::Integrity(_))));
        }
    }

    #[test]
    fn nothing_hidden_is_fetched_even_if_it_was_announced() {
        for name in ["photos/.profile", "photos/.ssh/key"] {
            let files = vec![file("photos/a", "1"), file(name, "2")];
            let error = restricted(files.clone(), &announced(&files)).unwrap_err().to_string();
            assert!(error.contains("begins with a dot"), "{error}");
        }
        // Nor by a local name that differs from the shared one.
        let mut files = vec![file("photos/a", "1")];
        files[0].local = ".bashrc".parse().unwrap();
        assert!(restricted(files.clone(), &announced(&files)).is_err());
    }
}
