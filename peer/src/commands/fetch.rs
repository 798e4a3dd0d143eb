//! `peer fetch`.

mod memory;
mod offering;

use std::convert::Infallible;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use shared::safe_text::safe_path;
use tokio::sync::Notify;

use self::memory::{Memory, Remembered};
use self::offering::Offering;
use super::telling::{NodeHears, Telling};
use super::{Context, share};
use crate::engine::fetch::{Destination, Ended, FetchEvent, IfExists, Request, fetch};
use crate::engine::{Error, ErrorKind, Me};
use crate::net::tell_no_tracker_waits;
use crate::profile::Profile;
use crate::sys::is_stdout_closed;
use crate::ui::{FetchBars, size};

/// What to fetch.
#[derive(Debug)]
pub enum FetchWanted {
    /// What the user names.
    These {
        /// Which, from whom.
        request: Request,
        /// Offer them as well once they are here.
        share: bool,
    },
    /// What is missing of the last fetch.
    Rest(Differently),
}

/// How to fetch what is missing, where it is not to be as the last time.
#[derive(Debug, Default)]
pub struct Differently {
    /// Streams that pull at once from each source.
    pub streams: Option<usize>,
    /// Bytes a second.
    pub limit: Option<u64>,
    /// How long sources that are gone are waited for.
    pub patience: Option<Duration>,
    /// Offer them as well, even if that was not wanted then.
    pub share: bool,
}

pub(super) async fn run(context: &Context, wanted: FetchWanted) -> Result<(), Error> {
    if let FetchWanted::These { request, share } = &wanted {
        check_output(context, request, *share)?;
    }
    let is_retry = matches!(wanted, FetchWanted::Rest(_));
    let me = context.me()?;
    let Remembered { request, share } = match wanted {
        FetchWanted::These { request, share } => Remembered { request, share },
        FetchWanted::Rest(differently) => differently.of(memory::last(&me.profile)?),
    };
    check_output(context, &request, share)?;
    if is_retry && request.destination == Destination::Stdout {
        context.output.note("it goes to standard output, as the last time");
    }
    let memory = Memory::new(&me.profile, &request, share);
    let mut bars = FetchBars::new(&context.output, request.names.len() == 1);
    let mut offering = share.then(|| Offering::new(&me.profile, &request));
    let ended = tokio::select! {
        ended = watched(&me, &request, &mut bars, &mut offering, context) => ended,
        never = memory.keep() => match never {},
    };
    // What the disk refuses was said already.
    let is_disk = ended.error.as_ref().is_some_and(|error| error.kind() == ErrorKind::Disk);
    if let Err(why) = memory.end(&ended)
        && !is_disk
    {
        context.output.warning(&format!("`peer fetch --retry` will not know of this fetch: {why}"));
    }
    let interrupted = matches!(ended.error, Some(Error::Interrupted));
    if interrupted {
        say_what_is_kept(context, &mut bars, &request);
    }
    // Whoever reads standard output may have had enough; the files are here all the same.
    let told = bars.end(&ended.summary, ended.error.as_ref());
    if let Some(offering) = offering.filter(|_| !interrupted) {
        share::share_fetched(context, offering.arrived()).await;
    }
    ended.error.or(told.err().map(Error::from)).map_or(Ok(()), Err)
}

async fn watched(
    me: &Me,
    request: &Request,
    bars: &mut FetchBars,
    offering: &mut Option<Offering>,
    context: &Context,
) -> Ended {
    let offered = offering.as_ref().map(Offering::changed);
    let telling = Telling::new(&request.from);
    let mut report = |event: FetchEvent<'_>| {
        if matches!(event, FetchEvent::Resolved { .. }) {
            // From here on only others are asked for, while the files come.
            tell_no_tracker_waits();
        }
        if let Some(offering) = offering {
            offering.take(&event);
        }
        telling.take(&event);
        bars.show(&event);
    };
    let mut node = NodeHears::new(me);
    let fetched = async {
        tokio::select! {
            ended = Box::pin(fetch(me, request, &mut report, &context.cancel)) => ended,
            never = tell_of_offers(&me.profile, offered.as_deref()) => match never {},
        }
    };
    telling.during(async |transfers| node.tell(transfers).await, fetched).await
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

/// Files for standard output need it for themselves; those for any stream are not kept.
fn check_output(context: &Context, request: &Request, share: bool) -> Result<(), Error> {
    if share && request.destination.is_stream() {
        return Err(Error::Usage(
            "-o leads to no file that could be shared: leave out --share, or give it the path of a file".into(),
        ));
    }
    if request.destination != Destination::Stdout {
        return Ok(());
    }
    if request.if_exists != IfExists::default() {
        return Err(Error::Usage("--if-exists is about files, and -o - makes none: leave one of them out".into()));
    }
    if context.output.is_json() {
        return Err(Error::Usage("-o - and --json both want standard output".to_owned()));
    }
    if is_stdout_closed() {
        let why = "it is closed: -o - wants a pipe or a file; to keep nothing, give -o /dev/null";
        return Err(Error::disk(Path::new("standard output"))(std::io::Error::other(why)));
    }
    if std::io::stdout().is_terminal() {
        return Err(Error::Usage("standard output is a terminal: -o - wants a pipe or a file".to_owned()));
    }
    Ok(())
}

fn say_what_is_kept(context: &Context, bars: &mut FetchBars, request: &Request) {
    bars.clear();
    let (got, all) = bars.progress();
    let text = match &request.destination {
        Destination::Stdout => "interrupted: what went to standard output is not whole".to_owned(),
        Destination::Stream(path) => format!("interrupted: what went to {} is not whole", safe_path(path)),
        _ if all == 0 => "interrupted before anything was fetched: run the same command again".to_owned(),
        _ => format!("interrupted at {} of {}: run it again to resume", size(got), size(all)),
    };
    context.output.note(&text);
}

impl Differently {
    fn of(self, last: Remembered) -> Remembered {
        let Remembered { request, share } = last;
        let streams = self.streams.unwrap_or(request.streams);
        let patience = self.patience.unwrap_or(request.patience);
        let limit = self.limit.or(request.limit);
        Remembered { request: Request { streams, patience, limit, ..request }, share: share || self.share }
    }
}
