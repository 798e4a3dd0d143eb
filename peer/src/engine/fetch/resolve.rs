//! From what the user typed to files: the source's own word, over the pinned link.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use shared::content::Layout;
use shared::names::matching_key;
use shared::names::stand_in::shown;
use shared::peer::{Answer, Ask, Code, Entry, FileStat, FolderTime, RAW_NAMES};
use shared::{FileName, UntrustedText, UserName};
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
/// Pages without files that a source may send one after another.
const EMPTY_PAGES_IN_A_ROW: u32 = 1000;

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
            Ok(mut found) => {
                if !link.knows(RAW_NAMES) && name.local.is_none() {
                    found.take_names_literally();
                }
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
            Err(error) => self.unfit.push((name.as_str().to_owned(), error)),
        }
    }

    /// Asks for the folders whose names start with `prefix` and takes those that are wanted, the first `depth` components
    /// cut off their local paths.
    async fn take_folders(
        &mut self,
        link: &Link,
        prefix: &str,
        is_wanted: impl Fn(&FileName) -> bool,
        depth: usize,
    ) -> Result<(), Error> {
        let local = |name: FileName| match above(name.as_str(), depth) {
            "" => Some(name),
            above => name.below(above),
        };
        let (folders, times) = tokio::try_join!(list_folders(link, prefix), list_folder_times(link, prefix))?;
        self.folders.extend(folders.into_iter().filter(&is_wanted).filter_map(local));
        let times = times.into_iter().filter(|time| is_wanted(&time.name));
        self.folder_times.extend(times.filter_map(|time| Some(FolderTime { name: local(time.name)?, ..time })));
        Ok(())
    }

    /// Takes each name for exactly what it is: its source knows no stand-ins.
    fn take_names_literally(&mut self) {
        let make_literal = |name: &mut FileName| *name = name.literal();
        self.files.iter_mut().for_each(|file| make_literal(&mut file.local));
        self.folders.iter_mut().for_each(make_literal);
        self.folder_times.iter_mut().for_each(|folder| make_literal(&mut folder.name));
    }

    const fn is_nothing(&self) -> bool {
        self.files.is_empty() && self.folders.is_empty() && self.unfit.is_empty()
    }

    fn take_unfit(&mut self, user: &UserName, name: &UntrustedText) {
        let name = if name.is_empty() { "(no name)".to_owned() } else { name.to_string() };
        self.unfit.push((name, Error::Integrity(format!("{user} lists what can't be a file"))));
    }
}

async fn resolve_one(
    link: &Link,
    asked: &Asked,
    patience: Duration,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
) -> Result<Found, Error> {
    let asked = &Asked { text: without_detours(&asked.text), local: asked.local.clone() };
    let text = asked.text.as_str();
    // A name that can't travel as it is may be asked for as it is.
    let name = text.parse::<FileName>().or_else(|_| FileName::from_raw(text.as_bytes()));
    if let Ok(name) = name
        && let Some(stat) = stat(link, &name, patience, report).await?
    {
        return one_file(link, asked, stat);
    }
    let nothing = || Error::NotShared { user: link.user().clone(), name: text.to_owned() };
    // No name at all is nobody's wish for everything, but an empty variable of a script.
    if text.is_empty() || asked.local.is_some() {
        return Err(nothing());
    }
    let folder = text.trim_end_matches('/');
    let mut found = Found::default();
    match pattern(text) {
        Some(pattern) => whatever_matches(link, text, &pattern, &mut found).await?,
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
    if found.is_nothing() {
        found = spelled_otherwise(link, asked, patience, report).await?;
    }
    if found.is_nothing() { Err(nothing()) } else { Ok(found) }
}

/// A path as a shell completes it (`./docs//a.txt`) as the name that it leads to.
fn without_detours(text: &str) -> String {
    let mut rest = text;
    while let Some(below) = rest.strip_prefix("./") {
        rest = below.trim_start_matches('/');
    }
    if rest.is_empty() && !text.is_empty() {
        return ".".to_owned();
    }
    let mut clean = rest.to_owned();
    while clean.contains("//") {
        clean = clean.replace("//", "/");
    }
    clean
}

fn one_file(link: &Link, asked: &Asked, stat: FileStat) -> Result<Found, Error> {
    let file = wanted(link.user(), stat, None)?;
    let local = asked.local.clone().unwrap_or(file.local);
    Ok(Found { files: vec![Wanted { local, ..file }], is_file: true, ..Found::default() })
}

/// What is shared under names that look like what was asked for: in another normal form, or as they are shown.
async fn spelled_otherwise(
    link: &Link,
    asked: &Asked,
    patience: Duration,
    report: &mut (dyn FnMut(FetchEvent<'_>) + Send),
) -> Result<Found, Error> {
    let text = asked.text.as_str();
    let folder = text.trim_end_matches('/');
    let (key, depth) = (matching_key(folder), folder.split('/').count());
    // A name that would be a stand-in by chance is shown as what it is.
    let is_meant = |name: &str| matching_key(name) == key || shown(name) == folder;
    let (mut names, mut folders) = (Vec::new(), BTreeSet::new());
    // Where in a name something can't be seen isn't known: it may be before all that was typed.
    for stat in list(link, "").await?.into_iter().flatten() {
        if folder.len() == text.len() && is_meant(stat.name.as_str()) {
            names.push(stat.name);
        } else if let Some(above) = top(stat.name.as_str(), depth).filter(|above| is_meant(above)) {
            folders.insert(above.to_owned());
        }
    }
    let empty = list_folders(link, "").await?;
    folders.extend(
        empty
            .iter()
            .filter_map(|name| top(&format!("{}/", name.as_str()), depth).map(str::to_owned))
            .filter(|top| is_meant(top)),
    );
    if let ([name], true) = (names.as_slice(), folders.is_empty())
        && let Some(stat) = stat(link, name, patience, report).await?
    {
        return one_file(link, asked, stat);
    }
    let mut found = Found::default();
    for name in names {
        if let Some(stat) = stat(link, &name, patience, report).await? {
            found.files.push(wanted(link.user(), stat, None)?);
        }
    }
    for folder in folders {
        let above = folder.rfind('/').map_or("", |slash| &folder[..=slash]);
        whole_folder(link, &folder, above, &mut found).await?;
    }
    Ok(found)
}

/// The first components of a name, with the slash behind them; nothing where there are none.
fn above(name: &str, depth: usize) -> &str {
    top(name, depth).map_or("", |above| &name[..=above.len()])
}

/// The folder of so many components in which this lies.
fn top(name: &str, depth: usize) -> Option<&str> {
    let (slash, _) = name.match_indices('/').nth(depth.checked_sub(1)?)?;
    Some(&name[..slash])
}

async fn whatever_matches(link: &Link, text: &str, pattern: &Pattern, found: &mut Found) -> Result<(), Error> {
    matches_below(link, text, pattern, &pattern.prefix, found).await?;
    if found.is_nothing() && !pattern.prefix.is_empty() {
        // How it begins may be spelled otherwise as well.
        matches_below(link, text, pattern, "", found).await?;
    }
    Ok(())
}

/// What matches among the names that start with `prefix`.
async fn matches_below(
    link: &Link,
    text: &str,
    pattern: &Pattern,
    prefix: &str,
    found: &mut Found,
) -> Result<(), Error> {
    let hidden = text.starts_with('.') || text.contains("/.");
    let matches = |name: &FileName| pattern.matches_whole(name.as_str()) && (hidden || !is_hidden(name));
    for entry in list(link, prefix).await? {
        match entry {
            Ok(stat) if matches(&stat.name) => {
                let below = above(stat.name.as_str(), pattern.depth).to_owned();
                found.take(link.user(), stat, &below);
            }
            Err(name) if pattern.matches(name.as_received()) => found.take_unfit(link.user(), &name),
            _ => {}
        }
    }
    // Folders with nothing in them match as well.
    found.take_folders(link, prefix, matches, pattern.depth).await
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
    found.take_folders(link, folder, is_inside, above.matches('/').count()).await
}

fn is_hidden(name: &FileName) -> bool {
    name.components().any(|component| component.starts_with('.'))
}

/// One file as its source describes it; `below` is cut off its local path, `None` leaves only the last component.
pub(super) fn wanted(user: &UserName, stat: FileStat, below: Option<&str>) -> Result<Wanted, Error> {
    let lie = || Error::Integrity(format!("{user} describes {} in a way that can't be true", stat.name.shown()));
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
            Err(StreamError::Answered { code: Code::Stale, message }) => {
                return Err(Error::Stale { user: link.user().clone(), name: name.as_str().to_owned(), why: message });
            }
            Err(StreamError::Answered { code: Code::Internal, message }) => {
                return Err(Error::Unreadable {
                    user: link.user().clone(),
                    name: name.as_str().to_owned(),
                    why: message,
                });
            }
            Ok(_) => return Err(Error::stream(link.user(), StreamError::Unexpected("a stat was due"))),
            Err(error) => return Err(Error::stream(link.user(), error)),
        }
    }
}

/// Everything the source shares whose name starts with `prefix`; what can't be a file by the name it has there.
pub(in crate::engine) async fn list(link: &Link, prefix: &str) -> Result<Vec<Result<FileStat, UntrustedText>>, Error> {
    let failed = |error| Error::stream(link.user(), error);
    let ask = |cursor| Ask::Files { prefix: Some(prefix.to_owned()), cursor };
    let (mut sender, mut receiver) = within(PAGE, link.open(&ask(None), Priority::Request)).await.map_err(failed)?;
    let mut all: Vec<Result<FileStat, UntrustedText>> = Vec::new();
    let mut last: Option<FileName> = None;
    let (mut cursor, mut empty_pages): (Option<String>, u32) = (None, 0);
    loop {
        let Answer::FileList { files, next } = within(PAGE, receiver.answer()).await.map_err(failed)? else {
            return Err(failed(StreamError::Unexpected("a list of files was due")));
        };
        let is_empty = files.is_empty();
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
        // Behind an empty page it goes on all the same, as long as it does.
        empty_pages = if is_empty { empty_pages + 1 } else { 0 };
        let advanced = !is_empty || empty_pages <= EMPTY_PAGES_IN_A_ROW && next > cursor;
        cursor.clone_from(&next);
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
        let cursor = all.last().map(|last| name(last).as_str().to_owned());
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

/// A text with wildcards. As in a shell, `*` and `?` stop at a slash and `**` doesn't.
#[derive(Debug)]
struct Pattern {
    /// How names begin that it matches as they are written.
    prefix: String,
    /// Components before the first wildcard.
    depth: usize,
    exact: CharGlob,
    /// The same for names in one normal form and as they are shown.
    alike: CharGlob,
}

/// A pattern of which `?` is a whole character; to the library it is a byte.
#[derive(Debug)]
struct CharGlob {
    /// The characters of the pattern that are more than one byte, in order.
    wide: Vec<char>,
    matcher: GlobMatcher,
}

/// A text with wildcards as such; `None` for one without.
fn pattern(text: &str) -> Option<Pattern> {
    let first = text.find(['*', '?', '[', '{'])?;
    let before = &text[..first];
    let (prefix, depth) = (before.to_owned(), before.matches('/').count());
    Some(Pattern { prefix, depth, exact: CharGlob::new(text)?, alike: CharGlob::new(&matching_key(text))? })
}

impl Pattern {
    /// Whether it matches a name, or a folder in which that lies: to name a folder is to name all of it.
    fn matches_whole(&self, name: &str) -> bool {
        self.matches(name) || name.match_indices('/').any(|(slash, _)| self.matches(&name[..slash]))
    }

    fn matches(&self, name: &str) -> bool {
        self.exact.is_match(name) || self.alike.is_match(&matching_key(name))
    }
}

impl CharGlob {
    /// Stand for a character that the pattern doesn't have; like those for others, it is in no name.
    const OTHER: char = '\u{1f}';

    fn new(text: &str) -> Option<Self> {
        let mut wide: Vec<char> = text.chars().filter(|c| !c.is_ascii()).collect();
        wide.sort_unstable();
        wide.dedup();
        // Of a pattern with more of them than there are bytes for, the last ones are alike.
        wide.truncate(usize::try_from(u32::from(Self::OTHER)).map_or(0, |count| count - 1));
        let narrow = narrowed(&wide, text);
        let glob = GlobBuilder::new(&narrow).literal_separator(true).backslash_escape(false).build().ok()?;
        Some(Self { wide, matcher: glob.compile_matcher() })
    }

    fn is_match(&self, name: &str) -> bool {
        if name.is_ascii() { self.matcher.is_match(name) } else { self.matcher.is_match(narrowed(&self.wide, name)) }
    }
}

/// The text with one byte for each character.
fn narrowed(wide: &[char], text: &str) -> String {
    let narrow = |c: char| match wide.binary_search(&c) {
        _ if c.is_ascii() => c,
        Ok(place) => u8::try_from(place + 1).map_or(CharGlob::OTHER, char::from),
        Err(_) => CharGlob::OTHER,
    };
    text.chars().map(narrow).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        let matches = |text: &str, name: &str| pattern(text).unwrap().matches(name);
        assert!(matches("*.pdf", "a.pdf"));
        assert!(!matches("*.pdf", "docs/a.pdf"));
        assert!(matches("docs/**/*.pdf", "docs/x/y/a.pdf"));
        assert!(matches("docs/[ab]?.txt", "docs/a1.txt"));
        let brings = |text: &str, name: &str| pattern(text).unwrap().matches_whole(name);
        assert!(brings("*", "docs/x/a.pdf") && brings("d*/x", "docs/x/a.pdf") && !brings("*.pdf", "docs/a.pdf"));
        let deep = pattern("docs/sub/x*").unwrap();
        assert_eq!((deep.prefix.as_str(), above("docs/sub/xy", deep.depth)), ("docs/sub/x", "docs/sub/"));
        assert!(matches("caf?.txt", "caf\u{e9}.txt") && !matches("caf?.txt", "cafab.txt"));
        assert!(matches("[\u{e0}-\u{ea}]*", "\u{ea}a") && !matches("?", "\u{65e5}\u{672c}"));
        // Whatever the normal form is on either side.
        assert!(matches("caf\u{e9}*", "cafe\u{301}.txt") && matches("caf?.txt", "cafe\u{301}.txt"));
        assert!(matches("S\u{e3}o/*", "Sa\u{303}o/a.txt") && matches("cafe\u{301}*", "caf\u{e9}.txt"));
        let other = pattern("S\u{e3}o/*").unwrap();
        assert_eq!((other.prefix.as_str(), above("Sa\u{303}o/a.txt", other.depth)), ("S\u{e3}o/", "Sa\u{303}o/"));
        assert!(pattern("report.pdf").is_none());
    }

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
            assert_eq!(without_detours(text), name, "{text:?}");
        }
    }

    #[test]
    fn local_names_keep_what_was_asked_for() {
        let layout = Layout::of(5).unwrap();
        let hash = shared::ContentHash::of(b"12345");
        let stat = |name: &str| FileStat::new(name.parse().unwrap(), hash, &layout);
        let user = "bob".parse().unwrap();
        let local = |name, below| wanted(&user, stat(name), below).unwrap().local.as_str().to_owned();
        assert_eq!(local("docs/a.txt", None), "a.txt");
        assert_eq!(local("docs/sub/a.txt", Some("")), "docs/sub/a.txt");
        assert_eq!(local("docs/sub/a.txt", Some("docs/")), "sub/a.txt");
        let lie = FileStat { group_size: 7, ..stat("a") };
        assert!(matches!(wanted(&user, lie, None), Err(Error::Integrity(_))));
    }
}
