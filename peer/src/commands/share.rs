//! The commands `peer share`, `unshare` and `shares`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Component, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use shared::FileName;
use shared::names::name_encoding::display_name;

use super::CommandContext;
use crate::engine::node::control::NodeClient;
use crate::engine::private_data::PrivateData;
use crate::engine::share::{self, OmissionGroup, OmissionReason, ShareFreshness, ShareSummary, freshness};
use crate::engine::{Error, ErrorKind, run_blocking, shell_quote};
use crate::profile::{Access, Profile};
use crate::ui::{ShareBar, by_design_line, failure_line, failure_lines, file_count, format_size};

const NOTHING_SHARED: &str = "nothing is shared: `peer share PATH` shares a file or a folder";

/// Time for hashing to notice an interruption.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn share(context: &CommandContext, paths: Vec<PathBuf>, name: Option<FileName>) -> Result<(), Error> {
    if name.is_some() && paths.len() > 1 {
        return Err(Error::Usage("--as names one file or folder".to_owned()));
    }
    let paths: Vec<PathBuf> = paths.into_iter().map(resolve_working_folder).collect();
    let summary =
        hash_with_bar(context, move |profile, report| share::share(profile, &paths, name.as_ref(), report)).await?;
    let outcome = match summary.interrupted_total {
        Some(_) => Err(Error::Interrupted),
        None => outcome_of(&summary),
    };
    if context.output.is_json() {
        // Deferred: the summary is the last object, after the error that it names.
        context.output.defer_object("summary", summary_json(&summary, outcome.as_ref().err()));
    } else {
        print_summary(context, &summary);
        if summary.shared > 0 && NodeClient::connect(&context.profile()?).await.is_ok_and(|node| node.is_none()) {
            context.output.note("next: `peer serve` goes online, so that others can fetch what you share");
        }
    }
    outcome
}

/// Replaces `.` by the name that the shell shows: the folder may have been entered through a symbolic link.
fn resolve_working_folder(path: PathBuf) -> PathBuf {
    let is_here = path.components().eq([Component::CurDir]);
    let here = std::env::var_os("PWD").map(PathBuf::from).filter(|_| is_here);
    // PWD is only a hint: it may be inherited from another process.
    here.filter(|here| here.is_absolute() && here.canonicalize().ok() == path.canonicalize().ok()).unwrap_or(path)
}

/// Returns an error if a requested file is not shared. Hidden files and links left out of a folder are no error, as
/// long as at least one file of it is shared.
fn outcome_of(summary: &ShareSummary) -> Result<(), Error> {
    let told = |message| Err(Error::Relayed { kind: ErrorKind::Partial, message });
    let failed = summary.omissions.failure_count();
    let first = summary.omissions.failures().find_map(|(_, group)| group.examples.first());
    match (failed, first) {
        (0, _) if summary.shared == 0 && !summary.omissions.is_empty() => {
            let can_be_named = |omission| matches!(omission, OmissionReason::Hidden | OmissionReason::Link);
            let hint = if summary.omissions.by_design().any(|(omission, _)| can_be_named(omission)) {
                ": hidden files and links are shared only if they are named"
            } else {
                ""
            };
            told(format!("no file is shared{hint}"))
        }
        (0, _) => Ok(()),
        (1, Some(only)) => told(failure_line(&only.name, &only.why)),
        _ => told(format!("{failed} of {} couldn't be shared", failed + summary.shared)),
    }
}

fn summary_json(summary: &ShareSummary, error: Option<&Error>) -> Value {
    let count =
        |(omission, group): (OmissionReason, &OmissionGroup)| (omission.as_str().to_owned(), json!(group.count));
    let names = |(omission, group): (OmissionReason, &OmissionGroup)| {
        let names: Vec<&str> = group.examples.iter().map(|example| example.name.as_str()).collect();
        (omission.as_str().to_owned(), json!(names))
    };
    let all = || summary.omissions.by_design().chain(summary.omissions.failures());
    let mut counts = Map::new();
    for (omission, more) in all().map(count) {
        // The same reason may stand in both lists: add the counts.
        let before = counts.get(&omission).and_then(Value::as_u64).unwrap_or(0);
        counts.insert(omission, json!(before + more.as_u64().unwrap_or(0)));
    }
    json!({
        "shared": summary.shared,
        "unchanged": summary.unchanged,
        "bytes": summary.bytes,
        "failed": summary.omissions.failure_count(),
        "found": summary.interrupted_total,
        "left_out": counts,
        "left_out_first": all().map(names).collect::<Map<_, _>>(),
        "code": error.map(|error| error.kind().as_str()),
    })
}

fn print_summary(context: &CommandContext, summary: &ShareSummary) {
    // A single failure is the error itself.
    if summary.omissions.failure_count() > 1 {
        failure_lines(&summary.omissions).iter().for_each(|line| context.output.note(line));
    }
    by_design_line(&summary.omissions).iter().for_each(|line| context.output.note(line));
    if let Some(found) = summary.interrupted_total {
        context.output.note(&interrupted_words(summary.shared, found));
    } else if summary.shared > 0 {
        context.output.note(&summary_line(summary));
    } else if summary.omissions.is_empty() {
        context.output.note("no file is there yet: share the folder again when there is one");
    }
}

/// Returns the line after an interruption: the progress, and that a repeated command goes on.
fn interrupted_words(shared: usize, found: usize) -> String {
    format!("interrupted: {shared} of {} shared; run it again to resume", file_count(found))
}

/// Hashes with a progress bar and notifies the node. An interruption ends it at the next piece of a file; files hashed
/// before are shared.
async fn hash_with_bar(
    context: &CommandContext,
    share: impl FnOnce(&Profile, &mut share::ShareEventHandler<'_>) -> Result<ShareSummary, Error> + Send + 'static,
) -> Result<ShareSummary, Error> {
    let profile = context.profile()?;
    tokio::select! {
        () = context.cancel.cancelled() => return Err(Error::Interrupted),
        found = require_reachable_node(&profile) => found?,
    }
    let (sharing, output, cancel) = (profile.clone(), context.output.clone(), context.cancel.clone());
    let sharing = run_blocking(move || {
        let mut bar = ShareBar::new(&output);
        let mut failure = None;
        let summary = share(&sharing, &mut |event| {
            if failure.is_none() {
                failure = bar.handle_event(&event).err();
            }
            if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.end();
        failure.map_or(summary, |failure| Err(failure.into()))
    });
    let summary = with_stop_timeout(context, sharing).await?;
    let told = notify_node(&profile);
    match summary.interrupted_total {
        // The node re-registers its shares by itself later, so that the exit need not wait longer.
        Some(_) => drop(tokio::time::timeout(STOP_TIMEOUT, told).await),
        None => told.await?,
    }
    Ok(summary)
}

/// Waits for work that notices an interruption by itself, up to [`STOP_TIMEOUT`]: a disk may hang.
pub(super) async fn with_stop_timeout<T>(
    context: &CommandContext,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = context.cancel.cancelled() => {}
    }
    tokio::time::timeout(STOP_TIMEOUT, work).await.unwrap_or(Err(Error::Interrupted))
}

/// Shares fetched files under these names. A failure is only a warning: the files were fetched.
pub(super) async fn share_fetched(context: &CommandContext, files: Vec<(PathBuf, FileName)>) {
    if files.is_empty() {
        return;
    }
    match hash_with_bar(context, move |profile, report| share::share_files(profile, files, report)).await {
        Ok(ShareSummary { shared, interrupted_total: Some(found), .. }) => {
            context.output.note(&interrupted_words(shared, found));
        }
        Ok(summary) if !context.output.is_json() => {
            failure_lines(&summary.omissions).iter().for_each(|line| context.output.note(line));
            context.output.note(&summary_line(&summary));
        }
        Ok(_) => {}
        Err(why) if why.is_closed_pipe() => {}
        Err(why) => context.output.warning(&format!("what was fetched is not all shared: {why}")),
    }
}

pub(super) async fn unshare(context: &CommandContext, names: &[String]) -> Result<(), Error> {
    let Some(profile) = Profile::open_existing(&context.home, Access::Use)? else {
        return Err(Error::Usage(NOTHING_SHARED.to_owned()));
    };
    // Before the change: with a node that doesn't answer, the profile and the catalogue would differ.
    require_reachable_node(&profile).await?;
    let removed = share::unshare(&profile, names)?;
    notify_node(&profile).await?;
    for name in &removed {
        if context.output.is_json() {
            context.output.print_object("unshare", &json!({ "name": name }))?;
        }
    }
    // A name and a path may be spelled alike: show what was removed.
    let named = match removed.as_slice() {
        names @ [_, ..] if names.len() <= UnavailableShares::NAMED => {
            let names = names.iter().map(|name| display_name(name.as_str())).collect::<Vec<_>>();
            format!(": {}", names.join(", "))
        }
        _ => String::new(),
    };
    context.output.note(&format!("stopped sharing {}{named}", file_count(removed.len())));
    Ok(())
}

pub(super) fn shares(context: &CommandContext) -> Result<(), Error> {
    let Some(profile) = Profile::open_existing(&context.home, Access::Look)? else {
        context.output.note(NOTHING_SHARED);
        return Ok(());
    };
    let private = PrivateData::of(&profile);
    let mut outcome = Ok(());
    let mut any = false;
    let mut gone = UnavailableShares::default();
    share::for_each_share(&profile, "", |share| {
        any = true;
        // The iteration can't be stopped: skip the rest after a failed write.
        if outcome.is_err() {
            return;
        }
        let (state, is_private) = (freshness(&share), private.is_private_share(&share));
        let remark = freshness_remark(&state, is_private);
        gone.add(share.name.as_str(), is_private || state == ShareFreshness::Missing);
        outcome = if context.output.is_json() {
            context.output.print_object(
                "share",
                &json!({
                    "name": share.name,
                    "size": share.version.size,
                    "hash": share.hash,
                    "path": share.path.to_string_lossy(),
                    "fresh": remark.is_empty(),
                    "there": state != ShareFreshness::Missing,
                    "private": is_private,
                }),
            )
        } else {
            let name = display_name(share.name.as_str());
            context.output.print_data(&format!(
                "{:>9}  {name}{}",
                format_size(share.version.size),
                context.output.dim(&remark)
            ))
        };
    })?;
    outcome?;
    for part in profile.partials()? {
        any = true;
        let bytes = part.layout.size();
        if context.output.is_json() {
            let path = part.path.to_string_lossy();
            let told = json!({
                "name": part.name, "size": bytes, "hash": part.hash, "path": path, "fresh": true, "partial": true,
            });
            context.output.print_object("share", &told)?;
        } else {
            let (name, note) = (display_name(part.name.as_str()), context.output.dim("  (as far as it is fetched)"));
            context.output.print_data(&format!("{:>9}  {name}{note}", format_size(bytes)))?;
        }
    }
    if !any {
        context.output.note(NOTHING_SHARED);
    }
    if let Some(advice) = gone.advice() {
        context.output.note(&advice);
    }
    Ok(())
}

/// Returns the remark after a listed file: why it can't be fetched, or not as it was hashed.
pub(super) fn freshness_remark(state: &ShareFreshness, is_private: bool) -> String {
    match state {
        _ if is_private => "  (never given to anybody: it belongs to an account's folder or holds a key)".to_owned(),
        ShareFreshness::Fresh | ShareFreshness::Touched => String::new(),
        ShareFreshness::Changed { .. } => "  (changed since it was hashed)".to_owned(),
        ShareFreshness::Missing => "  (not there)".to_owned(),
        ShareFreshness::Unreadable(why) => format!("  (can't be read: {why})"),
    }
}

/// Shares that can't be fetched any more, by the first component of their names.
#[derive(Debug, Default)]
struct UnavailableShares {
    top_level: BTreeMap<String, TopLevelShares>,
}

#[derive(Debug, Default)]
struct TopLevelShares {
    is_folder: bool,
    shares: usize,
    gone: usize,
    /// The first [`UnavailableShares::NAMED`] + 1 names.
    names: Vec<String>,
}

impl UnavailableShares {
    /// Largest number of names in the suggested command.
    const NAMED: usize = 3;

    fn add(&mut self, name: &str, is_gone: bool) {
        let (top, is_folder) = name.split_once('/').map_or((name, false), |(top, _)| (top, true));
        let top = self.top_level.entry(top.to_owned()).or_default();
        top.is_folder = is_folder;
        top.shares += 1;
        top.gone += usize::from(is_gone);
        if is_gone && top.names.len() <= Self::NAMED {
            top.names.push(name.to_owned());
        }
    }

    /// Returns the command that removes them; `None` if there are none.
    fn advice(&self) -> Option<String> {
        let gone: usize = self.top_level.values().map(|top| top.gone).sum();
        if gone == 0 {
            return None;
        }
        let mut names: Vec<String> = Vec::new();
        for (name, top) in &self.top_level {
            match top {
                TopLevelShares { gone: 0, .. } => {}
                // A folder whose files are all gone is removed by its own name.
                TopLevelShares { gone, shares, is_folder: true, .. } if gone == shares => {
                    names.push(format!("{name}/"));
                }
                top => names.extend(top.names.iter().cloned()),
            }
        }
        let which = if names.len() > Self::NAMED {
            "NAME or FOLDER/".to_owned()
        } else {
            shell_quote(&names.iter().map(String::as_str).collect::<Vec<_>>())
        };
        Some(if gone == 1 {
            format!("1 shared file is gone: `peer unshare {which}` stops sharing it")
        } else {
            format!("{gone} shared files are gone: `peer unshare {which}` stops sharing them")
        })
    }
}

/// Fails if a running node can't be told; called before the profile is changed.
async fn require_reachable_node(profile: &Profile) -> Result<(), Error> {
    NodeClient::connect(profile).await.map(drop)
}

/// Has a running node update the tracker's catalogue.
pub(super) async fn notify_node(profile: &Profile) -> Result<(), Error> {
    match NodeClient::connect(profile).await? {
        Some(mut node) => node.shares_changed().await,
        None => Ok(()),
    }
}

fn summary_line(summary: &ShareSummary) -> String {
    let known = match summary.unchanged {
        0 => String::new(),
        unchanged if unchanged == summary.shared => " (already hashed)".to_owned(),
        unchanged => format!(" ({unchanged} already hashed)"),
    };
    format!("{} shared, {}{known}", file_count(summary.shared), format_size(summary.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_forgotten_by_a_command_that_can_be_pasted() {
        let advice = |shares: &[(&str, bool)]| {
            let mut gone = UnavailableShares::default();
            shares.iter().for_each(|(name, is_gone)| gone.add(name, *is_gone));
            gone.advice()
        };
        assert_eq!(advice(&[("a", false), ("b/c", false)]), None);
        let whole = advice(&[("old/a", true), ("old/b c", true), ("new/a", false)]).unwrap();
        assert_eq!(whole, "2 shared files are gone: `peer unshare old/` stops sharing them");
        let one = advice(&[("old/a b", true), ("old/c", false)]).unwrap();
        assert_eq!(one, "1 shared file is gone: `peer unshare 'old/a b'` stops sharing it");
        let many: Vec<String> = (0..9).map(|number| format!("x/{number}")).collect();
        let mut many: Vec<(&str, bool)> = many.iter().map(|name| (name.as_str(), true)).collect();
        many.push(("x/there", false));
        assert!(advice(&many).unwrap().contains("`peer unshare NAME or FOLDER/`"));
    }
}
