//! `peer share`, `unshare`, `shares`.

use std::path::PathBuf;

use serde_json::json;
use shared::FileName;
use shared::safe_text::safe_line;

use super::Context;
use crate::engine::node::control::NodeClient;
use crate::engine::share::{self, Freshness, Summary, freshness};
use crate::engine::{Error, blocking};
use crate::profile::Profile;
use crate::ui::{ShareBar, files, size};

pub(super) async fn share(context: &Context, paths: Vec<PathBuf>, name: Option<FileName>) -> Result<(), Error> {
    if name.is_some() && paths.len() > 1 {
        return Err(Error::Usage("--as names one file or folder".to_owned()));
    }
    let summary =
        with_bar(context, move |profile, report| share::share(profile, &paths, name.as_ref(), report)).await?;
    if !context.output.is_json() {
        context.output.note(&sum_up(&summary));
    }
    match summary {
        Summary { skipped: 0, .. } => Ok(()),
        Summary { shared, skipped, .. } => Err(Error::Partial { failed: skipped, total: shared + skipped }),
    }
}

/// Hashes with a bar and lets the node know.
async fn with_bar(
    context: &Context,
    share: impl FnOnce(&Profile, &mut dyn FnMut(share::ShareEvent<'_>)) -> Result<Summary, Error> + Send + 'static,
) -> Result<Summary, Error> {
    let profile = context.profile()?;
    let (sharing, output) = (profile.clone(), context.output.clone());
    let summary = blocking(move || {
        let mut bar = ShareBar::new(&output);
        let mut failure = None;
        let summary = share(&sharing, &mut |event| {
            if failure.is_none() {
                failure = bar.show(&event).err();
            }
        });
        bar.end();
        failure.map_or(summary, |failure| Err(failure.into()))
    })
    .await?;
    tell_node(&profile).await?;
    Ok(summary)
}

/// Offers what was fetched, under these names. What goes wrong with that is told and no more: the files are here.
pub(super) async fn share_fetched(context: &Context, files: Vec<(PathBuf, FileName)>) {
    if files.is_empty() {
        return;
    }
    let shared = with_bar(context, move |profile, report| share::share_files(profile, files, report));
    let shared = tokio::select! {
        () = context.cancel.cancelled() => Err(Error::Interrupted),
        shared = shared => shared,
    };
    match shared {
        Ok(summary) if !context.output.is_json() => context.output.note(&sum_up(&summary)),
        Ok(_) => {}
        Err(why) if why.is_closed_pipe() => {}
        Err(why) => context.output.warning(&format!("what was fetched is not all shared: {why}")),
    }
}

pub(super) async fn unshare(context: &Context, names: &[String]) -> Result<(), Error> {
    let profile = context.profile()?;
    let removed = share::unshare(&profile, names)?;
    tell_node(&profile).await?;
    for name in &removed {
        if context.output.is_json() {
            context.output.object("unshare", &json!({ "name": name }))?;
        }
    }
    context.output.note(&format!("{} no longer shared", files(removed.len())));
    Ok(())
}

pub(super) fn shares(context: &Context) -> Result<(), Error> {
    let profile = context.profile()?;
    let mut outcome = Ok(());
    let mut any = false;
    share::for_each_share(&profile, "", |share| {
        any = true;
        if outcome.is_err() {
            return;
        }
        let state = match freshness(&share) {
            Freshness::Fresh => "",
            Freshness::Changed => "  (changed since it was hashed)",
            Freshness::Missing => "  (not there)",
        };
        outcome = if context.output.is_json() {
            context.output.object(
                "share",
                &json!({
                    "name": share.name,
                    "size": share.id.size,
                    "hash": share.hash,
                    "path": share.path.to_string_lossy(),
                    "fresh": state.is_empty(),
                }),
            )
        } else {
            let name = safe_line(share.name.as_str());
            context.output.data(&format!("{:>9}  {name}{}", size(share.id.size), context.output.dim(state)))
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
            let (name, note) = (safe_line(part.name.as_str()), context.output.dim("  (as far as it is fetched)"));
            context.output.data(&format!("{:>9}  {name}{note}", size(bytes)))?;
        }
    }
    if !any {
        context.output.note("nothing is shared: `peer share PATH` offers a file or a folder");
    }
    Ok(())
}

/// A running node puts the change into the tracker's catalogue.
pub(super) async fn tell_node(profile: &Profile) -> Result<(), Error> {
    match NodeClient::connect(profile).await? {
        Some(mut node) => node.shares_changed().await,
        None => Ok(()),
    }
}

fn sum_up(summary: &Summary) -> String {
    let mut text = format!("{} shared, {}", files(summary.shared), size(summary.bytes));
    if summary.unchanged > 0 {
        text.push_str(&format!("; {} unchanged since last time", summary.unchanged));
    }
    if summary.skipped > 0 {
        text.push_str(&format!("; {} left out", summary.skipped));
    }
    text
}
