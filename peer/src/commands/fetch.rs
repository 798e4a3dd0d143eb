//! `peer fetch`.

use std::path::PathBuf;

use super::telling::{NodeHears, Telling};
use super::{Context, share};
use crate::engine::fetch::{Destination, Ended, FetchEvent, IfExists, Request, Status, fetch};
use crate::engine::{Error, Me};
use crate::ui::{FetchBars, size};

pub(super) async fn run(context: &Context, request: Option<Request>, share: bool) -> Result<(), Error> {
    let me = context.me()?;
    let request = match request {
        Some(request) => request,
        None => last_failed(&me)?,
    };
    let mut bars = FetchBars::new(&context.output, request.names.len() == 1);
    let mut arrived: Vec<PathBuf> = Vec::new();
    let telling = Telling::new(&request.from);
    let mut report = |event: FetchEvent<'_>| {
        if let FetchEvent::Finished { report, .. } = &event {
            match &report.status {
                Status::Done(path) | Status::Renamed(path) if share => arrived.push(path.clone()),
                _ => {}
            }
        }
        telling.take(&event);
        bars.show(&event);
    };
    let mut node = NodeHears::new(&me);
    let fetched = fetch(&me, &request, &mut report, &context.cancel);
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
    if !arrived.is_empty() {
        share::share(context, arrived, None).await?;
    }
    error.map_or(Ok(()), Err)
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
