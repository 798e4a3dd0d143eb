//! From what the user typed to files: the source's own word, over the pinned link.

use std::collections::HashSet;
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use shared::content::Layout;
use shared::peer::{Answer, Ask, Code, Entry, FileStat, FolderTime};
use shared::safe_text::safe_line;
use shared::{FileName, UserName};
use tokio::time::Instant;

use super::{Asked, FetchEvent};
use crate::engine::Error;
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{Priority, within};

/// For one page of a listing.
const PAGE: Duration = Duration::from_secs(15);
/// Between two looks at a file that is being hashed again; doubled each time.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// More files than one user can share can't be in a listing.
const MAX_FILES: usize = shared::limits::FILES_PER_USER;

/// A file that is wanted.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// As the source describes it.
    pub(super) stat: FileStat,
    /// How it is cut.
    pub(super) layout: Layout,
    /// Its path below the destination; several files may want the same.
    pub(super) local: FileName,
}

/// What came of the names.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// The files, each once.
    pub(super) wanted: Vec<Wanted>,
    /// Folders with nothing in them, by their path below the destination.
    pub(super) folders: Vec<FileName>,
    /// When whole folders that are wanted were last modified, by their path below the destination.
    pub(super) folder_times: Vec<FolderTime>,
    /// Names that led to no file, and why.
    pub(super) missing: Vec<(String, Error)>,
    /// One name was asked for, and it is a file's.
    pub(super) is_one_file: bool,
}

/// Asks the source about each name.
///
/// # Errors
/// When the link fails; a name that leads nowhere is in [`Resolved::missing`].
pub(super) async fn resolve(
    link: &Link,
    names: &[Asked],
    patience: Duration,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
) -> Result<Resolved, Error> {
    let mut resolved = Resolved::default();
    let mut seen = HashSet::new();
    let several = names.len() > 1;
    for name in names {
        match resolve_one(link, name, patience, report).await {
            Ok(found) => {
                let mut files = found.files;
                if several {
                    files.retain(|file| seen.insert(file.stat.name.clone()));
                }
                // Of very many files, not one list more than it takes.
                if resolved.wanted.is_empty() {
                    resolved.wanted = files;
                } else {
                    resolved.wanted.append(&mut files);
                }
                resolved.folders.extend(found.folders);
                resolved.folder_times.extend(found.folder_times);
                resolved.missing.extend(found.unfit);
                resolved.is_one_file = !several && found.is_file;
            }
            Err(error @ Error::Link { .. }) => return Err(error),
            Err(error) => resolved.missing.push((name.text.clone(), error)),
        }
    }
    Ok(resolved)
}

/// What one name led to.
#[derive(Debug, Default)]
struct Found {
    files: Vec<Wanted>,
    folders: Vec<FileName>,
    folder_times: Vec<FolderTime>,
    /// Entries of the source's list that can't be files, and why.
    unfit: Vec<(String, Error)>,
    /// The name is a file's, and neither a folder's nor a pattern.
    is_file: bool,
}

impl Found {
    /// Takes what can be a file, `below` cut off its local path, and keeps the rest apart.
    fn take(&mut self, user: &UserName, stat: FileStat, below: &str) {
        let name = stat.name.clone();
        match wanted(user, stat, Some(below)) {
            Ok(file) => self.files.push(file),
            Err(error) => self.unfit.push((name.to_string(), error)),
        }
    }

    /// Asks for the folders whose names start with `prefix` and takes those that are wanted, `below` cut off their local
    /// paths.
    async fn take_folders(
        &mut self,
        link: &Link,
        prefix: &str,
        is_wanted: impl Fn(&FileName) -> bool,
        below: &str,
    ) -> Result<(), Error> {
        let local = |name: FileName| if below.is_empty() { Some(name) } else { name.below(below) };
        let (folders, times) = tokio::try_join!(list_folders(link, prefix), list_folder_times(link, prefix))?;
        self.folders.extend(folders.into_iter().filter(&is_wanted).filter_map(local));
        let times = times.into_iter().filter(|time| is_wanted(&time.name));
        self.folder_times.extend(times.filter_map(|time| Some(FolderTime { name: local(time.name)?, ..time })));
        Ok(())
    }

    fn take_unfit(&mut self, user: &UserName, name: &str) {
        let name = if name.is_empty() { "(no name)".to_owned() } else { safe_line(name).into_owned() };
        self.unfit.push((name, Error::Integrity(format!("{user} lists what can't be a file"))));
    }
}

async fn resolve_one(
    link: &Link,
    asked: &Asked,
    patience: Duration,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
) -> Result<Found, Error> {
    let text = asked.text.as_str();
    if let Ok(name) = text.parse::<FileName>()
        && let Some(stat) = stat(link, &name, patience, report).await?
    {
        let file = wanted(link.user(), stat, None)?;
        let local = asked.local.clone().unwrap_or(file.local);
        return Ok(Found { files: vec![Wanted { local, ..file }], is_file: true, ..Found::default() });
    }
    let nothing = || Error::NotShared { user: link.user().clone(), name: text.to_owned() };
    // No name at all is nobody's wish for everything, but an empty variable of a script.
    if text.is_empty() || asked.local.is_some() {
        return Err(nothing());
    }
    let folder = text.trim_end_matches('/');
    let mut found = Found::default();
    match pattern(text) {
        Some((prefix, matcher)) => whatever_matches(link, text, &prefix, &matcher, &mut found).await?,
        None if folder.is_empty() || folder == "." => {
            // Everything, but as in a shell not what would be hidden here: it could change how programs behave.
            whole_folder(link, "", "", &mut found).await?;
            found.files.retain(|file| !is_hidden(&file.stat.name));
            found.folders.retain(|folder| !is_hidden(folder));
            found.folder_times.retain(|folder| !is_hidden(&folder.name));
        }
        None => {
            // The folder itself is kept, what is above it isn't.
            let above = folder.rfind('/').map_or("", |slash| &folder[..=slash]);
            whole_folder(link, folder, above, &mut found).await?;
        }
    }
    if found.files.is_empty() && found.folders.is_empty() && found.unfit.is_empty() {
        return Err(nothing());
    }
    Ok(found)
}

async fn whatever_matches(
    link: &Link,
    text: &str,
    prefix: &str,
    matcher: &GlobMatcher,
    found: &mut Found,
) -> Result<(), Error> {
    let below = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
    let hidden = text.starts_with('.') || text.contains("/.");
    let matches = |name: &FileName| matcher.is_match(name.as_str()) && (hidden || !is_hidden(name));
    for entry in list(link, prefix).await? {
        match entry {
            Ok(stat) if matches(&stat.name) => found.take(link.user(), stat, below),
            Err(name) if matcher.is_match(&name) => found.take_unfit(link.user(), &name),
            _ => {}
        }
    }
    // What goes down into folders brings those with nothing in them.
    if text.contains("**") {
        found.take_folders(link, prefix, matches, below).await?;
    }
    Ok(())
}

/// All that is shared in and below `folder`, its path below the destination being what follows `above`.
async fn whole_folder(link: &Link, folder: &str, above: &str, found: &mut Found) -> Result<(), Error> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let entries = list(link, &prefix).await?;
    found.files.reserve_exact(entries.len());
    for entry in entries {
        match entry {
            Ok(stat) => found.take(link.user(), stat, above),
            Err(name) => found.take_unfit(link.user(), &name),
        }
    }
    let is_inside = |name: &FileName| name.as_str() == folder || name.as_str().starts_with(&prefix);
    found.take_folders(link, folder, is_inside, above).await
}

fn is_hidden(name: &FileName) -> bool {
    name.components().any(|component| component.starts_with('.'))
}

/// One file as its source describes it; `below` is cut off its local path, `None` leaves only the last component.
pub(super) fn wanted(user: &UserName, stat: FileStat, below: Option<&str>) -> Result<Wanted, Error> {
    let lie = || Error::Integrity(format!("{user} describes {} in a way that can't be true", stat.name));
    let layout = Layout::of(stat.size).filter(|layout| layout.group_bytes() == stat.group_size).ok_or_else(lie)?;
    let local = match below {
        Some("") => stat.name.clone(),
        Some(folder) => stat.name.below(folder).ok_or_else(lie)?,
        None => stat.name.last_component().parse().map_err(|_| lie())?,
    };
    Ok(Wanted { stat, layout, local })
}

/// What `name` is; waits while its owner hashes it again. `None` when it isn't shared.
pub(super) async fn stat(
    link: &Link,
    name: &FileName,
    patience: Duration,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
) -> Result<Option<FileStat>, Error> {
    let until = Instant::now() + patience;
    let mut pause = FIRST_LOOK;
    let mut told = false;
    loop {
        match link.ask(&Ask::Stat { name: name.clone() }).await {
            Ok(Answer::Stat(stat)) if stat.name == *name => return Ok(Some(stat)),
            Err(StreamError::Answered { code: Code::NotFound, .. }) => return Ok(None),
            Err(StreamError::Answered { code: Code::Stale, .. }) if Instant::now() + pause < until => {
                if !std::mem::replace(&mut told, true) {
                    report(FetchEvent::Waiting { name: name.as_str() });
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_LOOK);
            }
            Err(StreamError::Answered { code: Code::Stale, .. }) => {
                return Err(Error::Stale { user: link.user().clone(), name: name.to_string() });
            }
            Ok(_) => return Err(Error::stream(link.user(), StreamError::Unexpected("a stat was due"))),
            Err(error) => return Err(Error::stream(link.user(), error)),
        }
    }
}

/// Everything the source shares whose name starts with `prefix`; what can't be a file by the name it has there.
pub(in crate::engine) async fn list(link: &Link, prefix: &str) -> Result<Vec<Result<FileStat, String>>, Error> {
    let failed = |error| Error::stream(link.user(), error);
    let ask = |cursor| Ask::Files { prefix: Some(prefix.to_owned()), cursor };
    let (mut sender, mut receiver) = within(PAGE, link.open(&ask(None), Priority::Request)).await.map_err(failed)?;
    let mut all: Vec<Result<FileStat, String>> = Vec::new();
    let mut last: Option<FileName> = None;
    loop {
        let Answer::FileList { files, next } = within(PAGE, receiver.answer()).await.map_err(failed)? else {
            return Err(failed(StreamError::Unexpected("a list of files was due")));
        };
        let advanced = !files.is_empty();
        for entry in files.into_iter().map(Entry::checked) {
            if let Ok(FileStat { name, .. }) = &entry {
                let in_order = last.as_ref().is_none_or(|last| name > last);
                if !in_order || !name.as_str().starts_with(prefix) {
                    return Err(failed(StreamError::Unexpected("a list that isn't what was asked for")));
                }
                last = Some(name.clone());
            }
            all.push(entry);
        }
        if all.len() > MAX_FILES {
            return Err(failed(StreamError::Unexpected("a list that isn't what was asked for")));
        }
        match next {
            Some(next) if advanced => within(PAGE, sender.frame(&ask(Some(next)))).await.map_err(failed)?,
            Some(_) => return Err(failed(StreamError::Unexpected("a list that doesn't go on"))),
            None => {
                sender.finish();
                return Ok(all);
            }
        }
    }
}

/// The source's empty folders whose name starts with `prefix`; none from one that doesn't know the question.
async fn list_folders(link: &Link, prefix: &str) -> Result<Vec<FileName>, Error> {
    let ask = |prefix, cursor| Ask::Folders { prefix, cursor };
    let page = |answer| match answer {
        Answer::FolderList { folders, next } => Some((folders, next)),
        _ => None,
    };
    all_pages(link, prefix, ask, page, |folder| folder).await
}

/// When the source's folders whose name starts with `prefix` were last modified; as [`list_folders`].
async fn list_folder_times(link: &Link, prefix: &str) -> Result<Vec<FolderTime>, Error> {
    let ask = |prefix, cursor| Ask::FolderTimes { prefix, cursor };
    let page = |answer| match answer {
        Answer::FolderTimes { folders, next } => Some((folders, next)),
        _ => None,
    };
    all_pages(link, prefix, ask, page, |time| &time.name).await
}

/// Asks for page after page, as far as each begins behind the one before.
async fn all_pages<T>(
    link: &Link,
    prefix: &str,
    ask: impl Fn(Option<String>, Option<String>) -> Ask,
    page: impl Fn(Answer) -> Option<(Vec<Entry<T>>, Option<String>)>,
    name: impl Fn(&T) -> &FileName,
) -> Result<Vec<T>, Error> {
    let mut all: Vec<T> = Vec::new();
    loop {
        let cursor = all.last().map(|last| name(last).to_string());
        let answer = match link.ask(&ask(Some(prefix.to_owned()), cursor)).await {
            Ok(answer) => page(answer),
            Err(StreamError::Answered { .. }) => return Ok(all),
            Err(error) => return Err(Error::stream(link.user(), error)),
        };
        let due = || Error::stream(link.user(), StreamError::Unexpected("a list of folders was due"));
        let (folders, next) = answer.ok_or_else(due)?;
        let folders: Vec<T> = folders.into_iter().filter_map(|entry| entry.checked().ok()).collect();
        let advanced = folders.first().map(&name) > all.last().map(&name);
        let goes_on = next.is_some() && advanced && all.len() <= MAX_FILES;
        all.extend(folders);
        if !goes_on {
            return Ok(all);
        }
    }
}

/// The text before the first wildcard, and a matcher for all of it; `None` for a text without wildcards.
///
/// As in a shell, `*` and `?` stop at a slash and `**` doesn't.
fn pattern(text: &str) -> Option<(String, GlobMatcher)> {
    let first = text.find(['*', '?', '[', '{'])?;
    let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(false).build().ok()?;
    Some((text[..first].to_owned(), glob.compile_matcher()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        let matches = |text: &str, name: &str| pattern(text).unwrap().1.is_match(name);
        assert!(matches("*.pdf", "a.pdf"));
        assert!(!matches("*.pdf", "docs/a.pdf"));
        assert!(matches("docs/**/*.pdf", "docs/x/y/a.pdf"));
        assert!(matches("docs/[ab]?.txt", "docs/a1.txt"));
        assert_eq!(pattern("docs/sub/x*").unwrap().0, "docs/sub/x");
        assert!(pattern("report.pdf").is_none());
    }

    #[test]
    fn local_names_keep_what_was_asked_for() {
        let layout = Layout::of(5).unwrap();
        let hash = shared::ContentHash::of(b"12345");
        let stat = |name: &str| FileStat::new(name.parse().unwrap(), hash, &layout);
        let user = "bob".parse().unwrap();
        let local = |name, below| wanted(&user, stat(name), below).unwrap().local.to_string();
        assert_eq!(local("docs/a.txt", None), "a.txt");
        assert_eq!(local("docs/sub/a.txt", Some("")), "docs/sub/a.txt");
        assert_eq!(local("docs/sub/a.txt", Some("docs/")), "sub/a.txt");
        let lie = FileStat { group_size: 7, ..stat("a") };
        assert!(matches!(wanted(&user, lie, None), Err(Error::Integrity(_))));
    }
}
