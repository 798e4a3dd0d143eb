//! `peer share`, `unshare`, `shares`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Component, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use shared::FileName;
use shared::names::stand_in::shown;

use super::Context;
use crate::engine::node::control::NodeClient;
use crate::engine::private_data::PrivateData;
use crate::engine::share::{self, Freshness, Group, Omission, Summary, freshness};
use crate::engine::{Error, ErrorKind, blocking, words};
use crate::profile::{Access, Profile};
use crate::ui::{ShareBar, by_design_line, failure_line, failure_lines, files, size};

const NOTHING_SHARED: &str = "nothing is shared: `peer share PATH` offers a file or a folder";

/// Longest time for work to notice that it is interrupted.
const STOPPING: Duration = Duration::from_secs(2);

pub(super) async fn share(context: &Context, paths: Vec<PathBuf>, name: Option<FileName>) -> Result<(), Error> {
    if name.is_some() && paths.len() > 1 {
        return Err(Error::Usage("--as names one file or folder".to_owned()));
    }
    let paths: Vec<PathBuf> = paths.into_iter().map(as_the_shell_has_it).collect();
    let summary =
        with_bar(context, move |profile, report| share::share(profile, &paths, name.as_ref(), report)).await?;
    let outcome = match summary.broken_off {
        Some(_) => Err(Error::Interrupted),
        None => outcome_of(&summary),
    };
    if context.output.is_json() {
        context.output.object_at_the_end("summary", summary_json(&summary, outcome.as_ref().err()));
    } else {
        tell_summary(context, &summary);
    }
    outcome
}

/// `.` by the name that the shell shows: the folder may have been entered through a link.
fn as_the_shell_has_it(path: PathBuf) -> PathBuf {
    let is_here = path.components().eq([Component::CurDir]);
    let here = std::env::var_os("PWD").map(PathBuf::from).filter(|_| is_here);
    here.filter(|here| here.is_absolute() && here.canonicalize().ok() == path.canonicalize().ok()).unwrap_or(path)
}

/// What was asked for and is not shared is an error; a folder of which hidden files and links are left out is none, as
/// long as anything of it is shared.
fn outcome_of(summary: &Summary) -> Result<(), Error> {
    let told = |message| Err(Error::Told { kind: ErrorKind::Partial, message });
    let failed = summary.left_out.failed();
    let first = summary.left_out.failures().find_map(|(_, group)| group.examples.first());
    match (failed, first) {
        (0, _) if summary.shared == 0 && !summary.left_out.is_empty() => {
            let can_be_named = |omission| matches!(omission, Omission::Hidden | Omission::Link);
            let hint = if summary.left_out.by_design().any(|(omission, _)| can_be_named(omission)) {
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

fn summary_json(summary: &Summary, error: Option<&Error>) -> Value {
    let count = |(omission, group): (Omission, &Group)| (omission.as_str().to_owned(), json!(group.count));
    let names = |(omission, group): (Omission, &Group)| {
        let names: Vec<&str> = group.examples.iter().map(|example| example.name.as_str()).collect();
        (omission.as_str().to_owned(), json!(names))
    };
    let all = || summary.left_out.by_design().chain(summary.left_out.failures());
    let mut counts = Map::new();
    for (omission, more) in all().map(count) {
        let before = counts.get(&omission).and_then(Value::as_u64).unwrap_or(0);
        counts.insert(omission, json!(before + more.as_u64().unwrap_or(0)));
    }
    json!({
        "shared": summary.shared,
        "unchanged": summary.unchanged,
        "bytes": summary.bytes,
        "failed": summary.left_out.failed(),
        "found": summary.broken_off,
        "left_out": counts,
        "left_out_first": all().map(names).collect::<Map<_, _>>(),
        "code": error.map(|error| error.kind().as_str()),
    })
}

fn tell_summary(context: &Context, summary: &Summary) {
    // One alone is what the error says.
    if summary.left_out.failed() > 1 {
        failure_lines(&summary.left_out).iter().for_each(|line| context.output.note(line));
    }
    by_design_line(&summary.left_out).iter().for_each(|line| context.output.note(line));
    if let Some(found) = summary.broken_off {
        context.output.note(&interrupted_words(summary.shared, found));
    } else if summary.shared > 0 {
        context.output.note(&sum_up(summary));
    } else if summary.left_out.is_empty() {
        context.output.note("no file is there yet: share the folder again when there is one");
    }
}

/// Says how far it went, and how to go on.
fn interrupted_words(shared: usize, found: usize) -> String {
    format!("interrupted: {shared} of {} shared; run it again to go on", files(found))
}

/// Hashes with a bar and lets the node know. An interruption ends it at the next piece of a file; what was hashed before is
/// shared.
async fn with_bar(
    context: &Context,
    share: impl FnOnce(&Profile, &mut share::Report<'_>) -> Result<Summary, Error> + Send + 'static,
) -> Result<Summary, Error> {
    let profile = context.profile()?;
    tokio::select! {
        () = context.cancel.cancelled() => return Err(Error::Interrupted),
        found = find_node(&profile) => found?,
    }
    let (sharing, output, cancel) = (profile.clone(), context.output.clone(), context.cancel.clone());
    let sharing = blocking(move || {
        let mut bar = ShareBar::new(&output);
        let mut failure = None;
        let summary = share(&sharing, &mut |event| {
            if failure.is_none() {
                failure = bar.show(&event).err();
            }
            if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.end();
        failure.map_or(summary, |failure| Err(failure.into()))
    });
    let summary = unless_stuck(context, sharing).await?;
    let told = tell_node(&profile);
    match summary.broken_off {
        // The node looks through the shares by itself, later.
        Some(_) => drop(tokio::time::timeout(STOPPING, told).await),
        None => told.await?,
    }
    Ok(summary)
}

/// Waits for work that notices an interruption by itself, but not for ever: a disk may hang, or a folder be endless.
pub(super) async fn unless_stuck<T>(
    context: &Context,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = context.cancel.cancelled() => {}
    }
    tokio::time::timeout(STOPPING, work).await.unwrap_or(Err(Error::Interrupted))
}

/// Offers what was fetched, under these names. What goes wrong with that is told and no more: the files are here.
pub(super) async fn share_fetched(context: &Context, files: Vec<(PathBuf, FileName)>) {
    if files.is_empty() {
        return;
    }
    match with_bar(context, move |profile, report| share::share_files(profile, files, report)).await {
        Ok(Summary { shared, broken_off: Some(found), .. }) => context.output.note(&interrupted_words(shared, found)),
        Ok(summary) if !context.output.is_json() => {
            failure_lines(&summary.left_out).iter().for_each(|line| context.output.note(line));
            context.output.note(&sum_up(&summary));
        }
        Ok(_) => {}
        Err(why) if why.is_closed_pipe() => {}
        Err(why) => context.output.warning(&format!("what was fetched is not all shared: {why}")),
    }
}

pub(super) async fn unshare(context: &Context, names: &[String]) -> Result<(), Error> {
    let Some(profile) = Profile::open_existing(&context.home, Access::Use)? else {
        return Err(Error::Usage(NOTHING_SHARED.to_owned()));
    };
    find_node(&profile).await?;
    let removed = share::unshare(&profile, names)?;
    tell_node(&profile).await?;
    for name in &removed {
        if context.output.is_json() {
            context.output.object("unshare", &json!({ "name": name }))?;
        }
    }
    // A name and a path may be spelled alike: what it was is said.
    let named = match removed.as_slice() {
        names @ [_, ..] if names.len() <= GoneShares::NAMED => {
            let names = names.iter().map(|name| shown(name.as_str())).collect::<Vec<_>>();
            format!(": {}", names.join(", "))
        }
        _ => String::new(),
    };
    context.output.note(&format!("stopped sharing {}{named}", files(removed.len())));
    Ok(())
}

pub(super) fn shares(context: &Context) -> Result<(), Error> {
    let Some(profile) = Profile::open_existing(&context.home, Access::Look)? else {
        context.output.note(NOTHING_SHARED);
        return Ok(());
    };
    let private = PrivateData::of(&profile);
    let mut outcome = Ok(());
    let mut any = false;
    let mut gone = GoneShares::default();
    share::for_each_share(&profile, "", |share| {
        any = true;
        if outcome.is_err() {
            return;
        }
        let (state, is_private) = (freshness(&share), private.covers(&share));
        let remark = remark(&state, is_private);
        gone.count(share.name.as_str(), is_private || state == Freshness::Missing);
        outcome = if context.output.is_json() {
            context.output.object(
                "share",
                &json!({
                    "name": share.name,
                    "size": share.id.size,
                    "hash": share.hash,
                    "path": share.path.to_string_lossy(),
                    "fresh": remark.is_empty(),
                    "there": state != Freshness::Missing,
                    "private": is_private,
                }),
            )
        } else {
            let name = shown(share.name.as_str());
            context.output.data(&format!("{:>9}  {name}{}", size(share.id.size), context.output.dim(&remark)))
        };
    })?;
    outcome?;
    for part in profile.partials()? {
        any = true;
        let bytes = part.layout.size();
        if context.output.is_json() {
            let path = part.part.to_string_lossy();
            let told = json!({
                "name": part.name, "size": bytes, "hash": part.hash, "path": path, "fresh": true, "partial": true,
            });
            context.output.object("share", &told)?;
        } else {
            let (name, note) = (shown(part.name.as_str()), context.output.dim("  (as far as it is fetched)"));
            context.output.data(&format!("{:>9}  {name}{note}", size(bytes)))?;
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

/// Says behind the name of a file in a list why it can't be had, or not as it was hashed.
pub(super) fn remark(state: &Freshness, is_private: bool) -> String {
    match state {
        _ if is_private => "  (never given to anybody: it belongs to a profile or holds a key)".to_owned(),
        Freshness::Fresh | Freshness::Touched => String::new(),
        Freshness::Changed { .. } => "  (changed since it was hashed)".to_owned(),
        Freshness::Missing => "  (not there)".to_owned(),
        Freshness::Unreadable(why) => format!("  (can't be read: {why})"),
    }
}

/// Shares that nobody can get any more, by the first component of their names.
#[derive(Debug, Default)]
struct GoneShares {
    tops: BTreeMap<String, Top>,
}

#[derive(Debug, Default)]
struct Top {
    is_folder: bool,
    shares: usize,
    gone: usize,
    /// The first few.
    names: Vec<String>,
}

impl GoneShares {
    /// More than this many names make no command that anybody reads.
    const NAMED: usize = 3;

    fn count(&mut self, name: &str, is_gone: bool) {
        let (top, is_folder) = name.split_once('/').map_or((name, false), |(top, _)| (top, true));
        let top = self.tops.entry(top.to_owned()).or_default();
        top.is_folder = is_folder;
        top.shares += 1;
        top.gone += usize::from(is_gone);
        if is_gone && top.names.len() <= Self::NAMED {
            top.names.push(name.to_owned());
        }
    }

    /// How they are forgotten, if there are any.
    fn advice(&self) -> Option<String> {
        let gone = self.tops.values().map(|top| top.gone).sum();
        if gone == 0 {
            return None;
        }
        let mut names: Vec<String> = Vec::new();
        for (name, top) in &self.tops {
            match top {
                Top { gone: 0, .. } => {}
                Top { gone, shares, is_folder: true, .. } if gone == shares => names.push(format!("{name}/")),
                top => names.extend(top.names.iter().cloned()),
            }
        }
        let which = if names.len() > Self::NAMED {
            "NAME or FOLDER/".to_owned()
        } else {
            words(&names.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let (are, them) = if gone == 1 { ("is", "it") } else { ("are", "them") };
        Some(format!("{} {are} not to be had any more: `peer unshare {which}` forgets {them}", files(gone)))
    }
}

/// Whether a running node can be told at all, asked before anything is changed behind its back.
async fn find_node(profile: &Profile) -> Result<(), Error> {
    NodeClient::connect(profile).await.map(drop)
}

/// A running node puts the change into the tracker's catalogue.
pub(super) async fn tell_node(profile: &Profile) -> Result<(), Error> {
    match NodeClient::connect(profile).await? {
        Some(mut node) => node.shares_changed().await,
        None => Ok(()),
    }
}

fn sum_up(summary: &Summary) -> String {
    let known = match summary.unchanged {
        0 => String::new(),
        unchanged if unchanged == summary.shared => " (already hashed)".to_owned(),
        unchanged => format!(" ({unchanged} already hashed)"),
    };
    format!("{} shared, {}{known}", files(summary.shared), size(summary.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_forgotten_by_a_command_that_can_be_pasted() {
        let advice = |shares: &[(&str, bool)]| {
            let mut gone = GoneShares::default();
            shares.iter().for_each(|(name, is_gone)| gone.count(name, *is_gone));
            gone.advice()
        };
        assert_eq!(advice(&[("a", false), ("b/c", false)]), None);
        let whole = advice(&[("old/a", true), ("old/b c", true), ("new/a", false)]).unwrap();
        assert_eq!(whole, "2 files are not to be had any more: `peer unshare old/` forgets them");
        let one = advice(&[("old/a b", true), ("old/c", false)]).unwrap();
        assert_eq!(one, "1 file is not to be had any more: `peer unshare 'old/a b'` forgets it");
        let many: Vec<String> = (0..9).map(|number| format!("x/{number}")).collect();
        let mut many: Vec<(&str, bool)> = many.iter().map(|name| (name.as_str(), true)).collect();
        many.push(("x/there", false));
        assert!(advice(&many).unwrap().contains("`peer unshare NAME or FOLDER/`"));
    }
}
