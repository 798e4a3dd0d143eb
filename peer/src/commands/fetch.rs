//! `peer fetch`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use shared::Layout;
use tokio::sync::Notify;

use super::telling::{NodeHears, Telling};
use super::{Context, share};
use crate::engine::fetch::{Destination, Ended, FetchEvent, FileNo, IfExists, Request, Status, fetch};
use crate::engine::{Error, Me};
use crate::profile::{PartialShare, Profile};
use crate::ui::{FetchBars, size};

pub(super) async fn run(context: &Context, request: Option<Request>, share: bool) -> Result<(), Error> {
    let me = context.me()?;
    let request = match request {
        Some(request) => request,
        None => last_failed(&me)?,
    };
    let mut bars = FetchBars::new(&context.output, request.names.len() == 1);
    let mut offering = share.then(|| Offering::new(&me.profile));
    let offered = offering.as_ref().map(|offering| offering.changed.clone());
    let telling = Telling::new(&request.from);
    let mut report = |event: FetchEvent<'_>| {
        if let Some(offering) = &mut offering {
            offering.take(&event);
        }
        telling.take(&event);
        bars.show(&event);
    };
    let mut node = NodeHears::new(&me);
    let fetched = async {
        tokio::select! {
            fetched = fetch(&me, &request, &mut report, &context.cancel) => fetched,
            never = tell_of_offers(&me.profile, offered.as_deref()) => match never {},
        }
    };
    let outcome = telling.during(async |transfers| node.tell(transfers).await, fetched).await;
    let error = match outcome {
        Ok(Ended { summary, error }) => {
            remember_failed(&me, &request, error.is_some())?;
            // Whoever reads standard output may have had enough; the files are here all the same.
            let told = bars.end(&summary);
            error.or(told.err().map(Error::from))
        }
        Err(Error::Interrupted) => {
            say_what_is_kept(context, &mut bars, &request);
            return Err(Error::Interrupted);
        }
        Err(error) => {
            bars.clear();
            return Err(error);
        }
    };
    let arrived = offering.map(|offering| offering.arrived).unwrap_or_default();
    if !arrived.is_empty() {
        share::share(context, arrived, None).await?;
    }
    error.map_or(Ok(()), Err)
}

/// Offers what is fetched: its parts while it comes, and it itself once it is here.
struct Offering {
    profile: Profile,
    parts: HashMap<FileNo, PathBuf>,
    arrived: Vec<PathBuf>,
    /// There is another part.
    changed: Arc<Notify>,
}

impl Offering {
    fn new(profile: &Profile) -> Self {
        Self { profile: profile.clone(), parts: HashMap::new(), arrived: Vec::new(), changed: Arc::default() }
    }

    fn take(&mut self, event: &FetchEvent<'_>) {
        match event {
            FetchEvent::Opened { file, stat, name, part } => {
                let (Ok(name), Some(layout), Ok(part)) = (name.parse(), Layout::of(stat.size), part.canonicalize())
                else {
                    return;
                };
                let (mtime, executable, hash) = (stat.mtime, stat.executable, stat.hash);
                let partial = PartialShare { name, part: part.clone(), layout, mtime, executable, hash };
                match self.profile.put_partial(&partial) {
                    Ok(()) => drop(self.parts.insert(*file, part)),
                    Err(why) => tracing::warn!("{} is offered only when it is whole: {why}", partial.name),
                }
                self.changed.notify_one();
            }
            FetchEvent::Changed { file, .. } => {
                if let Some(part) = self.parts.remove(file)
                    && let Err(why) = self.profile.remove_partial(&part)
                {
                    tracing::warn!("{why}");
                }
            }
            FetchEvent::Finished { file, report } => {
                if let Status::Done(path) | Status::Renamed(path) = &report.status {
                    self.arrived.push(path.clone());
                    if let Some(part) = file.and_then(|file| self.parts.remove(&file))
                        && let Err(why) = self.profile.remove_partial(&part)
                    {
                        tracing::warn!("{why}");
                    }
                }
            }
            _ => {}
        }
    }
}

/// Lets the profile's node, if one runs, tell the tracker of each further part.
async fn tell_of_offers(profile: &Profile, changed: Option<&Notify>) -> Infallible {
    let Some(changed) = changed else { return std::future::pending().await };
    loop {
        changed.notified().await;
        if let Err(why) = share::tell_node(profile).await {
            tracing::debug!("the node was not told: {why}");
        }
    }
}

fn say_what_is_kept(context: &Context, bars: &mut FetchBars, request: &Request) {
    bars.clear();
    let (got, all) = bars.progress();
    if all > 0 && request.destination != Destination::Stdout {
        context.output.note(&format!(
            "interrupted: {} of {} were verified, whole files are in place and parts are kept; \
             run the same command again to go on",
            size(got),
            size(all)
        ));
    }
}

/// The last fetch of which something failed; what it brought is there and is skipped now.
fn last_failed(me: &Me) -> Result<Request, Error> {
    let nothing = || Error::Usage("nothing failed the last time: there is nothing to retry".to_owned());
    let text = me.profile.last_failed_fetch()?.ok_or_else(nothing)?;
    let request: Request = serde_json::from_str(&text).map_err(|_| nothing())?;
    Ok(Request { if_exists: IfExists::SkipSame, ..request })
}

fn remember_failed(me: &Me, request: &Request, any: bool) -> Result<(), Error> {
    if !any {
        return Ok(me.profile.set_last_failed_fetch(None)?);
    }
    // Whatever the working folder of the retry.
    let whole = |path: &PathBuf| std::path::absolute(path).map_err(Error::disk(path));
    let destination = match &request.destination {
        Destination::Folder(path) => Destination::Folder(whole(path)?),
        Destination::FileOrFolder(path) => Destination::FileOrFolder(whole(path)?),
        Destination::Stdout => Destination::Stdout,
    };
    let again = Request { destination, ..request.clone() };
    let text = serde_json::to_string(&again).map_err(|why| Error::Internal(why.to_string()))?;
    Ok(me.profile.set_last_failed_fetch(Some(&text))?)
}
