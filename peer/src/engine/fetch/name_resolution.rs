//! Name resolution: turns the typed names, folders and patterns into files, by the source's own answers over the link.

pub(super) mod expected_files;
pub(super) mod source_listing;

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use localization::tr;
use shared::content::GroupLayout;
use shared::names::matching_key;
use shared::names::name_encoding::display_name;
use shared::peer::{FileStat, FolderTime, RAW_NAMES_CAPABILITY};
use shared::{FileName, UntrustedText, UserName};

use self::source_listing::{SourceShares, list_files, list_folder_times, list_folders, stat_file};
use super::{FetchEvent, RequestedName};
use crate::engine::Error;
use crate::engine::name_pattern::{NamePattern, parse_pattern};

/// A file to fetch.
#[derive(Debug, Clone)]
pub(super) struct ResolvedFile {
    /// The user under whose name it is shared, who is asked about it again.
    pub(super) owner: UserName,
    /// The source's description.
    pub(super) stat: FileStat,
    /// Its division into groups.
    pub(super) layout: GroupLayout,
    /// Its path below the destination; several files may want the same one.
    pub(super) local: FileName,
}

/// The result of resolving all names.
#[derive(Debug, Default)]
pub(super) struct ResolvedRequest {
    /// The files, without duplicates.
    pub(super) files: Vec<ResolvedFile>,
    /// Empty folders, by path below the destination.
    pub(super) folders: Vec<FileName>,
    /// Modification times of folders that are fetched whole, by path below the destination.
    pub(super) folder_times: Vec<FolderTime>,
    /// Names that led to no file, each with its error.
    pub(super) missing: Vec<(String, Error)>,
    /// A single name was requested, and it is that of a file.
    pub(super) is_one_file: bool,
}

/// Resolves each name by asking the source. Fails when the link fails. A name that leads nowhere is in
/// [`ResolvedRequest::missing`] instead.
pub(super) async fn resolve_names(
    shares: SourceShares<'_>,
    names: &[RequestedName],
    timeout: Duration,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
) -> Result<ResolvedRequest, Error> {
    let mut resolved = ResolvedRequest::default();
    let mut seen = HashSet::new();
    let several = names.len() > 1;
    for name in names {
        match resolve_name(shares, name, timeout, report).await {
            Ok(mut found) => {
                // A source without stand-ins means every name literally, even one that looks like a stand-in here.
                if !shares.link.has_capability(RAW_NAMES_CAPABILITY) && name.local.is_none() {
                    found.make_names_literal();
                }
                let mut files = found.files;
                // Only then can a file be found twice: a name and its folder may both be requested.
                if several {
                    files.retain(|file| seen.insert(file.stat.name.clone()));
                }
                // Moved and not appended where possible: a list of 100,000 files isn't copied.
                if resolved.files.is_empty() {
                    resolved.files = files;
                } else {
                    resolved.files.append(&mut files);
                }
                resolved.folders.extend(found.folders);
                resolved.folder_times.extend(found.folder_times);
                resolved.missing.extend(found.invalid);
                resolved.is_one_file = !several && found.is_file;
            }
            // Without the link, the other names would fail alike.
            Err(error @ Error::Link { .. }) => return Err(error),
            Err(error) => resolved.missing.push((name.text.clone(), error)),
        }
    }
    Ok(resolved)
}

/// The matches of one name.
#[derive(Debug, Default)]
struct NameMatches {
    files: Vec<ResolvedFile>,
    folders: Vec<FileName>,
    folder_times: Vec<FolderTime>,
    /// Entries of the source's listing that can't be files, each with its error.
    invalid: Vec<(String, Error)>,
    /// The name is that of a file, and neither a folder nor a pattern.
    is_file: bool,
}

impl NameMatches {
    /// Adds a listed file, with `below` cut off its local path; an impossible description goes to `invalid`.
    fn add_file(&mut self, user: &UserName, stat: FileStat, below: &str) {
        let name = stat.name.clone();
        match resolved_file(user, stat, Some(below)) {
            Ok(file) => self.files.push(file),
            Err(error) => self.invalid.push((name.as_str().to_owned(), error)),
        }
    }

    /// Adds the wanted folders among those whose names start with `prefix`, with
    /// the first `depth` components cut off their local paths.
    async fn add_folders(
        &mut self,
        shares: SourceShares<'_>,
        prefix: &str,
        is_wanted: impl Fn(&FileName) -> bool,
        depth: usize,
    ) -> Result<(), Error> {
        let local = |name: FileName| match parent_prefix(name.as_str(), depth) {
            "" => Some(name),
            above => name.strip_folder(above),
        };
        let (folders, times) = tokio::try_join!(list_folders(shares, prefix), list_folder_times(shares, prefix))?;
        self.folders.extend(folders.into_iter().filter(&is_wanted).filter_map(local));
        let times = times.into_iter().filter(|time| is_wanted(&time.name));
        self.folder_times.extend(times.filter_map(|time| Some(FolderTime { name: local(time.name)?, ..time })));
        Ok(())
    }

    /// Marks all local names as literal: the source uses no stand-ins.
    fn make_names_literal(&mut self) {
        let make_literal = |name: &mut FileName| *name = name.literal();
        self.files.iter_mut().for_each(|file| make_literal(&mut file.local));
        self.folders.iter_mut().for_each(make_literal);
        self.folder_times.iter_mut().for_each(|folder| make_literal(&mut folder.name));
    }

    const fn is_empty(&self) -> bool {
        self.files.is_empty() && self.folders.is_empty() && self.invalid.is_empty()
    }

    fn add_invalid(&mut self, user: &UserName, name: &UntrustedText) {
        let name = if name.is_empty() { tr!("(no name)") } else { name.to_string() };
        self.invalid.push((name, Error::Integrity(tr!("{user} lists what can't be a file", user))));
    }
}

async fn resolve_name(
    shares: SourceShares<'_>,
    asked: &RequestedName,
    timeout: Duration,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
) -> Result<NameMatches, Error> {
    let asked = &RequestedName { text: normalize_path(&asked.text), local: asked.local.clone() };
    let text = asked.text.as_str();
    // A name that can't travel may be typed as it is on disk; its stand-in is asked for.
    let name = text.parse::<FileName>().or_else(|_| FileName::from_raw(text.as_bytes()));
    // Before it is read as a folder or a pattern: a file's own name may have wildcards.
    if let Ok(name) = name
        && let Some(stat) = stat_file(shares, &name, timeout, report).await?
    {
        return single_file(shares, asked, stat);
    }
    let nothing = || Error::NotShared { user: shares.user().clone(), name: text.to_owned() };
    // An empty name comes from an unset shell variable, and would match everything.
    // A name with a target of its own is that of one file, which nothing else may replace.
    if text.is_empty() || asked.local.is_some() {
        return Err(nothing());
    }
    let folder = text.trim_end_matches('/');
    let mut found = NameMatches::default();
    match parse_pattern(text) {
        Some(pattern) => match_pattern(shares, text, &pattern, &mut found).await?,
        None if folder.is_empty() || folder == "." => {
            // Everything but hidden files, as in a shell: a hidden file can change how programs behave.
            add_folder(shares, "", "", &mut found).await?;
            found.files.retain(|file| !file.stat.name.is_hidden());
            found.folders.retain(|folder| !folder.is_hidden());
            found.folder_times.retain(|folder| !folder.name.is_hidden());
        }
        None => {
            // The local path begins with the folder itself, without those above it.
            let above = folder.rfind('/').map_or("", |slash| &folder[..=slash]);
            add_folder(shares, folder, above, &mut found).await?;
        }
    }
    if found.is_empty() {
        // Only after an exact miss: it lists everything that the source shares.
        found = find_lookalikes(shares, asked, timeout, report).await?;
    }
    if found.is_empty() { Err(nothing()) } else { Ok(found) }
}

/// Turns a path as a shell completes it (`./docs//a.txt`) into the name that it leads to.
fn normalize_path(text: &str) -> String {
    let mut rest = text;
    while let Some(below) = rest.strip_prefix("./") {
        rest = below.trim_start_matches('/');
    }
    if rest.is_empty() && !text.is_empty() {
        return ".".to_owned();
    }
    let mut clean = rest.to_owned();
    // Once isn't enough: three slashes leave two.
    while clean.contains("//") {
        clean = clean.replace("//", "/");
    }
    clean
}

fn single_file(shares: SourceShares<'_>, asked: &RequestedName, stat: FileStat) -> Result<NameMatches, Error> {
    let file = resolved_file(shares.user(), stat, None)?;
    let local = asked.local.clone().unwrap_or(file.local);
    Ok(NameMatches { files: vec![ResolvedFile { local, ..file }], is_file: true, ..NameMatches::default() })
}

/// Finds names that look like the requested one: in another normal form, or as they are displayed.
async fn find_lookalikes(
    shares: SourceShares<'_>,
    asked: &RequestedName,
    timeout: Duration,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
) -> Result<NameMatches, Error> {
    let text = asked.text.as_str();
    let folder = text.trim_end_matches('/');
    let (key, depth) = (matching_key(folder), folder.split('/').count());
    // A name that is a stand-in is displayed decoded, so the typed text is compared with both forms.
    let is_meant = |name: &str| matching_key(name) == key || display_name(name) == folder;
    let (mut names, mut folders) = (Vec::new(), BTreeSet::new());
    // All names are compared: an invisible character may stand anywhere, even at the start, so no prefix is safe.
    for stat in list_files(shares, "").await?.into_iter().flatten() {
        if folder.len() == text.len() && is_meant(stat.name.as_str()) {
            names.push(stat.name);
        } else if let Some(above) = ancestor(stat.name.as_str(), depth).filter(|above| is_meant(above)) {
            folders.insert(above.to_owned());
        }
    }
    // An empty folder may be meant, of which no file tells.
    let empty = list_folders(shares, "").await?;
    folders.extend(
        empty
            .iter()
            .filter_map(|name| ancestor(&format!("{}/", name.as_str()), depth).map(str::to_owned))
            .filter(|top| is_meant(top)),
    );
    // A single match counts as if it had been typed: it may get the name that the destination gives.
    if let ([name], true) = (names.as_slice(), folders.is_empty())
        && let Some(stat) = stat_file(shares, name, timeout, report).await?
    {
        return single_file(shares, asked, stat);
    }
    let mut found = NameMatches::default();
    for name in names {
        if let Some(stat) = stat_file(shares, &name, timeout, report).await? {
            found.files.push(resolved_file(shares.user(), stat, None)?);
        }
    }
    for folder in folders {
        let above = folder.rfind('/').map_or("", |slash| &folder[..=slash]);
        add_folder(shares, &folder, above, &mut found).await?;
    }
    Ok(found)
}

/// Returns the first `depth` components of a name with the slash behind them; empty if there are fewer.
fn parent_prefix(name: &str, depth: usize) -> &str {
    ancestor(name, depth).map_or("", |above| &name[..=above.len()])
}

/// Returns the folder of `depth` components that holds this name.
fn ancestor(name: &str, depth: usize) -> Option<&str> {
    let (slash, _) = name.match_indices('/').nth(depth.checked_sub(1)?)?;
    Some(&name[..slash])
}

async fn match_pattern(
    shares: SourceShares<'_>,
    text: &str,
    pattern: &NamePattern,
    found: &mut NameMatches,
) -> Result<(), Error> {
    match_pattern_below(shares, text, pattern, &pattern.prefix, found).await?;
    if found.is_empty() && !pattern.prefix.is_empty() {
        // The part before the first wildcard may be spelled differently at the source.
        match_pattern_below(shares, text, pattern, "", found).await?;
    }
    Ok(())
}

/// Adds the matches among the names that start with `prefix`.
async fn match_pattern_below(
    shares: SourceShares<'_>,
    text: &str,
    pattern: &NamePattern,
    prefix: &str,
    found: &mut NameMatches,
) -> Result<(), Error> {
    // As in a shell, wildcards match hidden names only if the pattern names a dot.
    let hidden = text.starts_with('.') || text.contains("/.");
    let matches = |name: &FileName| pattern.matches_any_level(name.as_str()) && (hidden || !name.is_hidden());
    for entry in list_files(shares, prefix).await? {
        match entry {
            Ok(stat) if matches(&stat.name) => {
                let below = parent_prefix(stat.name.as_str(), pattern.depth).to_owned();
                found.add_file(shares.user(), stat, &below);
            }
            Err(name) if pattern.matches(name.as_received()) => found.add_invalid(shares.user(), &name),
            _ => {}
        }
    }
    // Empty folders match as well; no file tells of them.
    found.add_folders(shares, prefix, matches, pattern.depth).await
}

/// Adds everything shared in and below `folder`; `above` is cut off the local paths.
async fn add_folder(shares: SourceShares<'_>, folder: &str, above: &str, found: &mut NameMatches) -> Result<(), Error> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let entries = list_files(shares, &prefix).await?;
    found.files.reserve_exact(entries.len());
    for entry in entries {
        match entry {
            Ok(stat) => found.add_file(shares.user(), stat, above),
            Err(name) => found.add_invalid(shares.user(), &name),
        }
    }
    let is_inside = |name: &FileName| name.as_str() == folder || name.as_str().starts_with(&prefix);
    found.add_folders(shares, folder, is_inside, above.matches('/').count()).await
}

/// Checks the description of a file and gives it a local path: `below` is
/// cut off the name, `None` leaves only the last component.
pub(super) fn resolved_file(user: &UserName, stat: FileStat, below: Option<&str>) -> Result<ResolvedFile, Error> {
    let lie = || {
        Error::Integrity(tr!("{user} describes {name} in a way that can't be true", user, name = stat.name.display()))
    };
    // The group size follows from the file size; another one would make every hash of a group meaningless.
    let layout = GroupLayout::of(stat.size).filter(|layout| layout.group_bytes() == stat.group_size).ok_or_else(lie)?;
    let local = match below {
        Some("") => stat.name.clone(),
        Some(folder) => stat.name.strip_folder(folder).ok_or_else(lie)?,
        None => stat.name.last_component().parse().map_err(|_| lie())?,
    };
    Ok(ResolvedFile { owner: user.clone(), stat, layout, local })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_name_that_it_leads_to() {
        for (text, name) in [
            ("./docs//a.txt", "docs/a.txt"),
            (".//docs/", "docs/"),
            ("././a", "a"),
            ("./", "."),
            (".hidden", ".hidden"),
            ("/", "/"),
            ("", ""),
        ] {
            assert_eq!(normalize_path(text), name, "{text:?}");
        }
    }

    #[test]
    fn whole_components_before_a_wildcard_are_the_parent() {
        let parent = |text: &str, name: &str| parent_prefix(name, parse_pattern(text).unwrap().depth).to_owned();
        assert_eq!(parent("docs/sub/x*", "docs/sub/xy"), "docs/sub/");
        assert_eq!(parent("S\u{e3}o/*", "Sa\u{303}o/a.txt"), "Sa\u{303}o/");
    }

    #[test]
    fn local_names_keep_what_was_asked_for() {
        let layout = GroupLayout::of(5).unwrap();
        let hash = shared::ContentHash::of(b"12345");
        let stat = |name: &str| FileStat::new(name.parse().unwrap(), hash, &layout);
        let user = "bob".parse().unwrap();
        let local = |name, below| resolved_file(&user, stat(name), below).unwrap().local.as_str().to_owned();
        assert_eq!(local("docs/a.txt", None), "a.txt");
        assert_eq!(local("docs/sub/a.txt", Some("")), "docs/sub/a.txt");
        assert_eq!(local("docs/sub/a.txt", Some("docs/")), "sub/a.txt");
        let lie = FileStat { group_size: 7, ..stat("a") };
        assert!(matches!(resolved_file(&user, lie, None), Err(Error::Integrity(_))));
    }
}
