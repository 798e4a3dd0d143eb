//! The command `peer fetch`.

mod fetched_shares;
mod retry_record;

use std::convert::Infallible;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use shared::safe_text::safe_path;
use tokio::sync::Notify;

use self::fetched_shares::FetchedShares;
use self::retry_record::{FetchRecord, RetryRecorder};
use super::progress_publisher::{NodeProgressSink, ProgressPublisher};
use super::{CommandContext, share};
use crate::engine::fetch::{FetchDestination, FetchEvent, FetchReport, FetchRequest, IfExists, fetch};
use crate::engine::{Error, ErrorKind, LocalUser};
use crate::net::silence_wait_notice;
use crate::profile::Profile;
use crate::sys::is_stdout_closed;
use crate::ui::{FetchBars, format_size};

/// A fetch that the user asks for.
#[derive(Debug)]
pub enum FetchCommand {
    /// A fetch of the names on the command line.
    New {
        /// The names, the user to ask and the options.
        request: FetchRequest,
        /// True if the files are shared as well.
        share: bool,
    },
    /// A fetch of the files that the last fetch did not complete.
    Retry(RetryOptions),
}

/// Options of a retry that differ from those of the last fetch; `None` keeps the old value.
#[derive(Debug, Default)]
pub struct RetryOptions {
    /// Parallel streams for each source.
    pub streams: Option<usize>,
    /// Bytes a second.
    pub limit: Option<u64>,
    /// Time to wait for sources that are gone.
    pub patience: Option<Duration>,
    /// True if the files are shared, even if the last fetch did not share them.
    pub share: bool,
}

pub(super) async fn run(context: &CommandContext, wanted: FetchCommand) -> Result<(), Error> {
    if let FetchCommand::New { request, share } = &wanted {
        // Before the profile is opened: a wrong combination is reported even where nobody is logged in.
        check_output(context, request, *share)?;
    }
    let is_retry = matches!(wanted, FetchCommand::Retry(_));
    let me = context.me()?;
    let FetchRecord { request, share } = match wanted {
        FetchCommand::New { request, share } => FetchRecord { request, share },
        FetchCommand::Retry(differently) => differently.apply_to(retry_record::load_last(&me.profile)?),
    };
    check_output(context, &request, share)?;
    if is_retry && request.destination == FetchDestination::Stdout {
        context.output.note("it goes to standard output, as the last time");
    }
    let memory = RetryRecorder::new(&me.profile, &request, share);
    let mut bars = FetchBars::new(&context.output, request.names.len() == 1);
    let mut offering = share.then(|| FetchedShares::new(&me.profile, &request));
    let ended = tokio::select! {
        ended = fetch_with_progress(&me, &request, &mut bars, &mut offering, context) => ended,
        // Beside the fetch, which must not wait for a durable write.
        never = memory.record_start() => match never {},
    };
    // After a disk error a record that can't be written either is no news.
    let is_disk = ended.error.as_ref().is_some_and(|error| error.kind() == ErrorKind::Disk);
    if let Err(why) = memory.record_end(&ended)
        && !is_disk
    {
        context.output.warning(&format!("`peer fetch --retry` will not know of this fetch: {why}"));
    }
    let interrupted = matches!(ended.error, Some(Error::Interrupted));
    if interrupted {
        print_interruption(context, &mut bars, &request);
    }
    // A reader that closed standard output is an error only after the files were shared.
    let told = bars.end(&ended.summary, ended.error.as_ref());
    // After an interruption nothing is hashed any more: the user waits for the prompt.
    if let Some(offering) = offering.filter(|_| !interrupted) {
        share::share_fetched(context, offering.into_arrived()).await;
    }
    // The fetch's own error counts more than that of the output.
    ended.error.or(told.err().map(Error::from)).map_or(Ok(()), Err)
}

async fn fetch_with_progress(
    me: &LocalUser,
    request: &FetchRequest,
    bars: &mut FetchBars,
    offering: &mut Option<FetchedShares>,
    context: &CommandContext,
) -> FetchReport {
    let offered = offering.as_ref().map(FetchedShares::changed);
    let telling = ProgressPublisher::new(&request.from);
    let mut report = |event: FetchEvent<'_>| {
        if matches!(event, FetchEvent::Resolved { .. }) {
            // From here on only others are asked for, while the files come.
            silence_wait_notice();
        }
        if let Some(offering) = offering {
            offering.handle_event(&event);
        }
        telling.handle_event(&event);
        bars.handle_event(&event);
    };
    let mut node = NodeProgressSink::new(me);
    let fetched = async {
        tokio::select! {
            ended = Box::pin(fetch(me, request, &mut report, &context.cancel)) => ended,
            never = announce_partial_files(&me.profile, offered.as_deref()) => match never {},
        }
    };
    telling.publish_during(async |transfers| node.publish(transfers).await, fetched).await
}

/// Has the profile's node, if one runs, announce each new partial file to the tracker. Never returns.
async fn announce_partial_files(profile: &Profile, changed: Option<&Notify>) -> Infallible {
    let Some(changed) = changed else { return std::future::pending().await };
    loop {
        changed.notified().await;
        // Not lost: the node's next registration of its shares includes all partial files.
        if let Err(why) = share::notify_node(profile).await {
            tracing::debug!("the node was not told: {why}");
        }
    }
}

/// Rejects options that contradict the destination: standard output carries only the file, and streams can't be shared.
fn check_output(context: &CommandContext, request: &FetchRequest, share: bool) -> Result<(), Error> {
    if share && request.destination.is_stream() {
        return Err(Error::Usage(
            "-o leads to no file that could be shared: leave out --share, or give it the path of a file".into(),
        ));
    }
    if request.destination != FetchDestination::Stdout {
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

fn print_interruption(context: &CommandContext, bars: &mut FetchBars, request: &FetchRequest) {
    bars.clear();
    let (got, all) = bars.progress();
    let text = match &request.destination {
        FetchDestination::Stdout => "interrupted: what went to standard output is not whole".to_owned(),
        FetchDestination::Stream(path) => format!("interrupted: what went to {} is not whole", safe_path(path)),
        _ if all == 0 => "interrupted before anything was fetched: run the same command again".to_owned(),
        _ => format!("interrupted at {} of {}: run it again to resume", format_size(got), format_size(all)),
    };
    context.output.note(&text);
}

impl RetryOptions {
    fn apply_to(self, last: FetchRecord) -> FetchRecord {
        let FetchRecord { request, share } = last;
        let streams = self.streams.unwrap_or(request.streams);
        let patience = self.patience.unwrap_or(request.source_timeout);
        let limit = self.limit.or(request.limit);
        FetchRecord {
            request: FetchRequest { streams, source_timeout: patience, limit, ..request },
            share: share || self.share,
        }
    }
}
