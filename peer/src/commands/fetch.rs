//! The command `peer fetch`.

mod fetched_shares;
mod folder_follow;
mod last_fetch_record;

use std::convert::Infallible;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use localization::tr;
use shared::UserName;
use shared::names::name_encoding::display_name;
use shared::safe_text::safe_path;
use tokio::sync::Notify;

use self::fetched_shares::FetchedShares;
use self::folder_follow::{follow_folder, parse_order};
use self::last_fetch_record::{FetchRecord, FetchRecorder, load_last};
use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::share::share_fetched;
use super::user_resolution::{LookupScope, resolve_arguments};
use super::value_parsers::{parse_rate, parse_share_pattern};
use crate::engine::chat::ConversationName;
use crate::engine::fetch::{
    FetchDestination, FetchEvent, FetchReport, FetchRequest, IfExists, RequestedName, SourcePolicy, fetch,
};
use crate::engine::node::announce_shares;
use crate::engine::progress_publisher::{NodeProgressSink, ProgressPublisher};
use crate::engine::receipt_delivery::deliver_receipts;
use crate::engine::room_contacts::find_room_audience;
use crate::engine::send_intake::ReceiptObserver;
use crate::engine::{Error, ErrorKind, LocalUser, run_blocking};
use crate::net::silence_wait_notice;
use crate::profile::{Access, Audience, Profile};
use crate::sys::{OutputTarget, classify_output, is_stdout_closed};
use crate::ui::{FetchBars, format_size};
use crate::util::shell_words::shell_quote;

/// Parallel streams of a fetch for each source.
const DEFAULT_STREAMS: u8 = FetchRequest::DEFAULT_STREAMS;
/// Seconds that a fetch waits for sources that are gone.
const DEFAULT_PATIENCE_S: u32 = 90;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer fetch bob report.pdf
  peer fetch bob photos/ '*.iso' -o ~/from-bob
  peer fetch bob photos/ --follow
  peer fetch bob backup.tar -o - | tar x
  peer fetch '#lab' slides.pdf",
    notes: "\
What to fetch: names, folders (docs/), everything (/) and patterns. As in a shell, * stops at a / and ** doesn't, \
and what matches may be a folder: '**/*.jpg'. Folders keep their empty ones, times and executable bits; what only \
its owner may read stays so, and holes stay holes. A name is found as it is shown, and in whatever normal form it \
is typed.

Where to: one name with -o PATH becomes a file of that path; several names, a pattern or a folder go into a folder \
of that path. Nothing is made there before it is known what comes and that there is room for it. A file that \
exists with the same content is skipped; else, and when the file system can't hold a name, the new file is \
renamed, and that is told. Two files of one fetch never take each other's place. -o -, a pipe, a device or \
/dev/stdout gets the bytes in order, verified as they come.

Resuming: interrupt it wherever you like and run the same line again, or `peer fetch --retry`. Unfinished files \
lie beside the destination as .NAME.HASH.part and are verified again; no file has its name before it is whole. \
When the user goes offline, the fetch calls again for --patience seconds.

Sources: whoever else shares the same content is asked as well, without being named; --only asks nobody else. Who \
sends a wrong byte is named and left out, and the others complete the file. With --share each file is shared under \
the same name, from its first verified part on. While you talk with somebody, transfers slow down as far as \
messages need it.

Following: with --follow the copy of one folder is kept in step from then on, while this or `peer serve` runs. What \
you changed is kept as NAME (mine). `peer help follows` has the rules, and how it ends.

Rooms: with '#lab' in place of a user, a name is looked for among what the members who are online share with that \
room, and comes from all of them who have it; if they have different files under it, the newest is taken, and that is \
told. With --share it is shared with that room only.

With --json: `progress` (phase verifying or fetching), one `file` for each file (status done, renamed, skipped, or \
failed with a code), `source` when somebody goes offline, comes back or is slow, `collision` for two names that \
differ only by case or accents, `version` for a name under which a room's members share different files, `error`, and last a `summary` that counts the files by status, with the code of \
the error or null.

Exit code 0 when all files are there, 12 when some of several failed, else that of the error: see `peer --help`.",
};

/// Download files (verified, parallel, resumable).
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct FetchArgs {
    /// From whom, or from which room ('#lab').
    #[arg(value_name = "USER|#ROOM", required_unless_present = "retry")]
    user: Option<ConversationName>,
    /// Names, folders (docs/) and patterns ('*.pdf').
    #[arg(value_name = "NAME", value_parser = OsStringValueParser::new().map(parse_share_pattern))]
    names: Vec<String>,
    /// Keep the copy of a folder in step from now on.
    ///
    /// What is new or changed is fetched as it is announced, by whichever node runs here; `peer follows` lists what is
    /// followed, and ends it.
    #[arg(long, requires = "user", conflicts_with_all = ["retry", "from", "only", "limit", "patience", "share", "jobs",
        "connections", "if_exists"])]
    follow: bool,
    /// With --follow: remove what the user removes.
    ///
    /// Only files that were fetched so and that nobody changed; they are kept in .vizinho-trash for 30 days.
    #[arg(long, requires = "follow")]
    delete: bool,
    /// Fetch what is missing of the last fetch.
    ///
    /// It goes to the same place; --limit, --patience, -j, --connections and --share may differ.
    #[arg(long, conflicts_with_all = ["user", "names", "from", "only", "output", "if_exists"])]
    retry: bool,
    /// Ask these as well.
    ///
    /// Whether or not the tracker says that they have it.
    #[arg(long, value_name = "USER,…", value_delimiter = ',')]
    from: Vec<UserName>,
    /// Ask nobody but the user and those of --from.
    #[arg(long)]
    only: bool,
    /// Receive at most so many bytes a second (10M, 500k).
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    limit: Option<u64>,
    /// Wait so long for absent people [default: 90].
    #[arg(long, value_name = "SECONDS", hide_short_help = true)]
    patience: Option<u32>,
    /// Share what is fetched as well.
    #[arg(long)]
    share: bool,
    /// A folder, a file's new name, or - (a stream).
    ///
    /// A dash is standard output; a pipe or a device is a stream, too. Without this option it is the working folder.
    #[arg(short, long, value_name = "DIR|FILE|-", default_value = ".", hide_default_value = true)]
    output: PathBuf,
    /// Streams to each source at once [default: 2].
    #[arg(short = 'j', long = "jobs", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32), hide_short_help = true)]
    jobs: Option<u8>,
    /// Connections to each source [default: as many as pay].
    ///
    /// Each has a thread and a socket of its own. Without this option there is one; from four cores on, and above 1 Gbit/s,
    /// further ones are tried, and kept if they make the fetch faster.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8), hide_short_help = true)]
    connections: Option<u8>,
    /// skip, rename, overwrite or fail where one exists.
    ///
    /// Without this option, one with the same content is skipped, and the new one is renamed beside any other.
    #[arg(long, value_name = "WHAT", hide_possible_values = true)]
    if_exists: Option<ExistingFileAction>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExistingFileAction {
    Skip,
    Rename,
    Overwrite,
    Fail,
}

impl ExistingFileAction {
    const fn policy(self) -> IfExists {
        match self {
            Self::Skip => IfExists::Skip,
            Self::Rename => IfExists::Rename,
            Self::Overwrite => IfExists::Overwrite,
            Self::Fail => IfExists::Fail,
        }
    }
}

pub(super) async fn run(context: &CommandContext, args: FetchArgs) -> Result<(), Error> {
    if args.follow {
        return begin_to_follow(context, args).await;
    }
    let (me, FetchRecord { request, share }) = load_record(context, args).await?;
    let recorder = FetchRecorder::new(&me.profile, &request, share);
    let mut bars = FetchBars::new(&context.output, request.names.len() == 1);
    let audience = match &request.from {
        ConversationName::Room(room) if share => context.until_cancelled(find_room_audience(&me, room)).await?,
        _ => Audience::Everybody,
    };
    let mut fetched_shares = share.then(|| FetchedShares::new(&me.profile, &request, audience.clone()));
    let mut receipts = ReceiptObserver::default();
    let ended = tokio::select! {
        ended = fetch_with_progress(&me, &request, &mut bars, (&mut fetched_shares, &mut receipts), context) => ended,
        // Beside the fetch, which must not wait for a durable write: it is done on another thread.
        never = recorder.record_start() => match never {},
    };
    if let Some(fetched_shares) = &mut fetched_shares {
        fetched_shares.finish_writes().await;
    }
    // After a disk error a record that can't be written either is no news.
    let is_disk = ended.error.as_ref().is_some_and(|error| error.kind() == ErrorKind::Disk);
    if let Err(why) = recorder.record_end(&ended).await
        && !is_disk
    {
        context.output.warning(&tr!("`peer fetch --retry` will not know of this fetch: {why}", why));
    }
    let interrupted = matches!(ended.error, Some(Error::Interrupted));
    if interrupted {
        print_interruption(context, &mut bars, &request);
    }
    settle_receipts(context, &me, &request, receipts).await;
    // A reader that closed standard output is an error only after the files were shared.
    let told = bars.end(&ended.summary, ended.error.as_ref());
    // After an interruption nothing is hashed any more: the user waits for the prompt.
    if let Some(fetched_shares) = fetched_shares.filter(|_| !interrupted) {
        warn_of_withheld(context, fetched_shares.withheld());
        share_fetched(context, audience, fetched_shares.into_arrived()).await;
    }
    // The fetch's own error counts more than that of the output.
    ended.error.or(told.err().map(Error::from)).map_or(Ok(()), Err)
}

/// Keeps a copy of a folder in step, and shows what happens.
async fn begin_to_follow(context: &CommandContext, args: FetchArgs) -> Result<(), Error> {
    let FetchArgs { user, names, output, delete, .. } = args;
    let from = user.ok_or_else(|| Error::Usage(tr!("whose folder is to be followed?")))?;
    let mut order = parse_order(from, &names, output, delete)?;
    let me = context.me(Access::Use)?;
    resolve_arguments(context, &me, LookupScope::Tracker, [&mut order.user]).await?;
    follow_folder(context, &me, order).await
}

/// Returns the fetch that the arguments ask for, checked, and the user whose it is.
async fn load_record(context: &CommandContext, mut args: FetchArgs) -> Result<(LocalUser, FetchRecord), Error> {
    // clap lets the user be missing only with `--retry`.
    let Some(user) = args.user.take() else {
        let me = context.me(Access::Use)?;
        let record = args.apply_to(load_last(&me.profile)?);
        check_output(context, &record)?;
        if record.request.destination == FetchDestination::Stdout {
            context.output.note(&tr!("it goes to standard output, as the last time"));
        }
        return Ok((me, record));
    };
    let mut record = args.into_record(user)?;
    // Before the profile is opened: a wrong combination is reported even where nobody is logged in.
    check_output(context, &record)?;
    let me = context.me(Access::Use)?;
    let request = &mut record.request;
    let others = match &mut request.sources {
        SourcePolicy::Everybody => &mut [],
        SourcePolicy::Also(users) | SourcePolicy::Only(users) => users.as_mut_slice(),
    };
    let users = request.from.person_mut().into_iter().chain(others);
    resolve_arguments(context, &me, LookupScope::Tracker, users).await?;
    Ok((me, record))
}

async fn fetch_with_progress(
    me: &LocalUser,
    request: &FetchRequest,
    bars: &mut FetchBars,
    (fetched_shares, receipts): (&mut Option<FetchedShares>, &mut ReceiptObserver),
    context: &CommandContext,
) -> FetchReport {
    let offered = fetched_shares.as_ref().map(FetchedShares::changed);
    let publisher = ProgressPublisher::for_fetch();
    let mut report = |event: FetchEvent<'_>| {
        if matches!(event, FetchEvent::Resolved { .. }) {
            // From here on only others are asked for, while the files come.
            silence_wait_notice();
        }
        if let Some(fetched_shares) = fetched_shares {
            fetched_shares.handle_event(&event);
        }
        receipts.handle_event(&event);
        publisher.handle_event(&event);
        bars.handle_event(&event);
    };
    let mut node = NodeProgressSink::new(me);
    let fetched = async {
        tokio::select! {
            ended = Box::pin(fetch(me, request, &mut report, &context.cancel)) => ended,
            never = announce_partial_files(&me.profile, offered.as_deref()) => match never {},
        }
    };
    publisher.publish_during(async |transfers| node.publish(transfers).await, fetched).await
}

/// Tells senders that what they sent is here.
async fn settle_receipts(context: &CommandContext, me: &LocalUser, request: &FetchRequest, receipts: ReceiptObserver) {
    let (profile, from, names) = (me.profile.clone(), request.from.clone(), request.names.clone());
    match run_blocking(move || receipts.settle(&profile, &from, &names)).await {
        Ok(senders) => deliver_receipts(me, senders).await,
        Err(why) => context.output.warning(&tr!("the sender is not told that it arrived: {why}", why)),
    }
}

/// Has the profile's node, if one runs, announce each new partial file to the tracker. Never returns.
async fn announce_partial_files(profile: &Profile, changed: Option<&Notify>) -> Infallible {
    let Some(changed) = changed else { return std::future::pending().await };
    loop {
        changed.notified().await;
        // Not lost: the node's next registration of its shares includes all partial files.
        if let Err(why) = announce_shares(profile).await {
            tracing::debug!("the node was not told: {why}");
        }
    }
}

/// Rejects options that contradict the destination: standard output carries only the file, and streams can't be shared.
fn check_output(context: &CommandContext, record: &FetchRecord) -> Result<(), Error> {
    let request = &record.request;
    if record.share && request.destination.is_stream() {
        return Err(Error::Usage(tr!(
            "-o leads to no file that could be shared: leave out --share, or give it the path of a file"
        )));
    }
    if request.destination != FetchDestination::Stdout {
        return Ok(());
    }
    if request.if_exists != IfExists::default() {
        return Err(Error::Usage(tr!(
            "--if-exists is about files, and standard output is none: leave it out, or give -o a file"
        )));
    }
    if context.output.is_json() {
        return Err(Error::Usage(tr!(
            "the file and --json both want standard output: leave --json out, or give -o a file"
        )));
    }
    // /dev/null has taken its place: everything would be fetched for nobody.
    if is_stdout_closed() {
        let why = tr!("it is closed, and the file was to go there; to keep nothing, give -o /dev/null");
        return Err(Error::disk(Path::new(&tr!("standard output")))(std::io::Error::other(why)));
    }
    if std::io::stdout().is_terminal() {
        return Err(Error::Usage(tr!("standard output is a terminal: send it to a pipe or a file")));
    }
    Ok(())
}

/// Tells which files are not shared again, and how they are if that is wanted.
fn warn_of_withheld(context: &CommandContext, names: &[String]) {
    let Some(first) = names.first() else { return };
    let (name, more) = (display_name(first), names.len() - 1);
    context.output.warning(&match more {
        0 => tr!(
            "{name} is not for everybody, and not shared again: `peer fetch '#ROOM' NAME --share` shares it with that \
             room, and `peer share PATH` with everybody",
            name
        ),
        more => tr!(
            "{name} and {more} more are not for everybody, and not shared again: `peer fetch '#ROOM' NAME --share` \
             shares it with that room, and `peer share PATH` with everybody",
            name,
            more
        ),
    });
}

fn print_interruption(context: &CommandContext, bars: &mut FetchBars, request: &FetchRequest) {
    bars.clear();
    let (got, all) = bars.progress();
    let text = match &request.destination {
        FetchDestination::Stdout => tr!("interrupted: what went to standard output is not whole"),
        FetchDestination::Stream(path) => tr!("interrupted: what went to {path} is not whole", path = safe_path(path)),
        _ if all == 0 => tr!("interrupted before anything was fetched: run the same command again"),
        _ => {
            tr!("interrupted at {got} of {all}: run it again to resume", got = format_size(got), all = format_size(all))
        }
    };
    context.output.note(&text);
}

impl FetchArgs {
    /// Builds the request for the names on the command line.
    fn into_record(self, from: ConversationName) -> Result<FetchRecord, Error> {
        if self.names.is_empty() {
            let from = shell_quote(&[&from.to_string()]);
            return Err(Error::Usage(tr!(
                "which files? `peer files {from}` lists them, and `peer fetch {from} /` gets all of them",
                from
            )));
        }
        let sources = match (self.only, self.from.is_empty()) {
            (true, _) => SourcePolicy::Only(self.from),
            (false, true) => SourcePolicy::Everybody,
            (false, false) => SourcePolicy::Also(self.from),
        };
        let names = self.names.into_iter().map(RequestedName::for_text).collect();
        let source_timeout = seconds(self.patience.unwrap_or(DEFAULT_PATIENCE_S));
        let request = FetchRequest {
            if_exists: self.if_exists.map_or(IfExists::SkipSame, ExistingFileAction::policy),
            streams: usize::from(self.jobs.unwrap_or(DEFAULT_STREAMS)),
            connections: self.connections.map(usize::from),
            sources,
            limit: self.limit,
            ..FetchRequest::new(from, names, parse_destination(self.output)?, source_timeout)
        };
        Ok(FetchRecord { request, share: self.share })
    }

    /// Returns the last fetch with the options that differ now.
    fn apply_to(&self, last: FetchRecord) -> FetchRecord {
        let FetchRecord { request, share } = last;
        let streams = self.jobs.map_or(request.streams, usize::from);
        let connections = self.connections.map(usize::from).or(request.connections);
        let patience = self.patience.map_or(request.source_timeout, seconds);
        let limit = self.limit.or(request.limit);
        FetchRecord {
            request: FetchRequest { streams, connections, source_timeout: patience, limit, ..request },
            share: share || self.share,
        }
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

/// Parses the destination of a fetch: a folder if it is one or ends with `/`, `-` for standard output, a pipe or device
/// as a stream; otherwise the fetched entry decides.
///
/// # Errors
/// [`Error::Disk`] if nothing can be written there.
fn parse_destination(path: PathBuf) -> Result<FetchDestination, Error> {
    if path.as_os_str() == "-" {
        return Ok(FetchDestination::Stdout);
    }
    let ends_like_a_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    // A path such as `..` has no name for a file.
    if ends_like_a_folder || path.is_dir() || path.file_name().is_none() {
        return Ok(FetchDestination::Folder(path));
    }
    match classify_output(&path) {
        OutputTarget::Files => Ok(FetchDestination::FileOrFolder(path)),
        OutputTarget::Stdout => Ok(FetchDestination::Stdout),
        OutputTarget::Stream => Ok(FetchDestination::Stream(path)),
        OutputTarget::Unusable(why) => {
            let why = tr!("{why}: give a file, a folder, a pipe, or - for standard output", why);
            Err(Error::disk(&path)(std::io::Error::other(why)))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(args_override_self = true)]
    struct FetchLine {
        #[command(flatten)]
        args: FetchArgs,
    }

    fn record(words: &[&str]) -> Result<FetchRecord, Error> {
        let mut args = FetchLine::try_parse_from([&["fetch"], words].concat()).unwrap().args;
        let user = args.user.take().unwrap();
        args.into_record(user)
    }

    #[test]
    fn the_destination_is_a_folder_if_it_is_one_or_ends_like_one() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().to_str().unwrap();
        let destination = |output: &str| record(&["bob", "a", "-o", output]).unwrap().request.destination;
        assert_eq!(destination(folder), FetchDestination::Folder(folder.into()));
        assert_eq!(destination("new/"), FetchDestination::Folder("new/".into()));
        assert_eq!(destination("new"), FetchDestination::FileOrFolder("new".into()));
        assert_eq!(destination("."), FetchDestination::Folder(".".into()));
        assert_eq!(destination(".."), FetchDestination::Folder("..".into()));
    }

    #[test]
    fn lists_go_on_and_the_last_number_counts() {
        let request =
            record(&["bob", "a", "b", "--from", "carol", "--from", "dave,eve", "-j", "1", "-j", "2"]).unwrap().request;
        assert_eq!((request.names.len(), request.streams), (2, 2));
        assert!(matches!(request.sources, SourcePolicy::Also(also) if also.len() == 3));
    }

    #[test]
    fn a_fetch_of_nothing_is_a_usage_error() {
        assert!(matches!(record(&["bob"]), Err(Error::Usage(_))));
    }
}
