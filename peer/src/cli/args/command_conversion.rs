//! Conversion of subcommand arguments to commands.

use std::time::Duration;

use shared::tracker::ListPeersRequest;

use super::value_parsers::{HistoryRetention, count, parse_destination, parse_find_query, parse_offered_name};
use super::{ExistingFileAction, OnOff, OutboxCommand, PasswordArgs, SubcommandArgs};
use crate::commands::{
    CliCommand, FetchCommand, ForgetOptions, HistoryOptions, KeyOwner, NotifyChange, PasswordSource, RetryOptions,
};
use crate::engine::Error;
use crate::engine::fetch::{FetchRequest, IfExists, RequestedName, SourcePolicy};
use crate::engine::node::ListenConfig;
use crate::engine::serve::UploadLimits;

/// Parallel streams of a fetch for each source.
const DEFAULT_STREAMS: u8 = 2;
/// Seconds that a fetch waits for sources that are gone.
const DEFAULT_PATIENCE_S: u32 = 90;

impl SubcommandArgs {
    pub(super) fn into_command(self) -> Result<CliCommand, Error> {
        Ok(match self {
            Self::Register { user, password } => {
                CliCommand::Register { user: user.into(), password: password.source() }
            }
            Self::Login { user, password, rebind } => CliCommand::Login { user, password: password.source(), rebind },
            Self::Passwd { password_file } => {
                CliCommand::Passwd { passwords: password_file.map_or(PasswordSource::Prompt, PasswordSource::File) }
            }
            Self::Logout => CliCommand::Logout,
            Self::Whoami => CliCommand::Whoami,
            Self::Share { paths, name } => CliCommand::Share { paths, name },
            Self::Unshare { names } => CliCommand::Unshare { names },
            Self::Shares => CliCommand::Shares,
            Self::Serve { port, announce: forwarded, limit, limit_per_peer } => CliCommand::Serve {
                place: ListenConfig { port, forwarded },
                limits: UploadLimits { total: limit, per_peer: limit_per_peer },
            },
            Self::List { user, sharing: name, hash, limit } => {
                let wanted =
                    // The tracker need not send file lists: only their number is printed.
                    ListPeersRequest { user, name, hash, with_files: Some(false), ..ListPeersRequest::default() };
                CliCommand::List { query: wanted, limit: limit.map_or(usize::MAX, count) }
            }
            Self::Find { words, limit } => CliCommand::Find { query: parse_find_query(&words)?, limit: count(limit) },
            Self::Files { user, prefix } => CliCommand::Files { user, prefix },
            // clap lets the user be missing only with `--retry`.
            Self::Fetch { user: None, limit, patience, share, jobs, .. } => {
                let (streams, patience) = (jobs.map(usize::from), patience.map(seconds));
                CliCommand::Fetch(FetchCommand::Retry(RetryOptions { streams, limit, patience, share }))
            }
            Self::Fetch {
                user: Some(user),
                names,
                from,
                only,
                limit,
                patience,
                share,
                output,
                jobs,
                if_exists,
                ..
            } => {
                if names.is_empty() {
                    let which = format!(
                        "which files? `peer files {user}` lists them, and `peer fetch {user} /` gets all of them"
                    );
                    return Err(Error::Usage(which));
                }
                let sources = match (only, from.is_empty()) {
                    (true, _) => SourcePolicy::Only(from),
                    (false, true) => SourcePolicy::Everybody,
                    (false, false) => SourcePolicy::Also(from),
                };
                let request = FetchRequest {
                    from: user,
                    names: names.into_iter().map(RequestedName::for_text).collect(),
                    destination: parse_destination(output)?,
                    if_exists: if_exists.map_or(IfExists::SkipSame, ExistingFileAction::policy),
                    streams: usize::from(jobs.unwrap_or(DEFAULT_STREAMS)),
                    sources,
                    limit,
                    source_timeout: seconds(patience.unwrap_or(DEFAULT_PATIENCE_S)),
                    folder_times: Vec::new(),
                    arrived: Vec::new(),
                };
                CliCommand::Fetch(FetchCommand::New { request, share })
            }
            // The shell has split the words: quotes around a message are optional.
            Self::Chat { user, text, now } => CliCommand::Chat { user, text: text.map(|words| words.join(" ")), now },
            Self::Ui => CliCommand::Ui,
            Self::History { keep: Some(keep), .. } => CliCommand::KeepHistory {
                kept_ms: match keep {
                    HistoryRetention::Forever => None,
                    HistoryRetention::For(kept) => Some(kept),
                },
            },
            // Without a user or an age, `--forget` alone would delete the whole history.
            Self::History { user: None, forget: true, older: None, .. } => {
                let which =
                    "say what to forget: `peer history --forget USER`, `peer history --forget --older 30d`, or both";
                return Err(Error::Usage(which.to_owned()));
            }
            Self::History { user: with, forget: true, older: older_ms, yes, .. } => {
                CliCommand::Forget(ForgetOptions { with, older_ms, is_confirmed: yes })
            }
            Self::History { user, since, limit, search, .. } => CliCommand::History(HistoryOptions {
                with: user,
                search: search.map(|words| words.join(" ")),
                since_ms: since,
                limit: limit.and_then(|limit| usize::try_from(limit).ok()),
            }),
            Self::Inbox { accept: None } => CliCommand::Inbox,
            Self::Inbox { accept: Some(user) } => CliCommand::Accept { user },
            Self::Outbox { command: None } => CliCommand::Outbox,
            Self::Outbox { command: Some(OutboxCommand::Drop { id }) } => CliCommand::OutboxDrop { id },
            Self::Offer { user: Some(to), files, withdraw: true, .. } => CliCommand::Withdraw {
                to,
                names: files.iter().map(|file| parse_offered_name(file)).collect::<Result<_, _>>()?,
            },
            Self::Offer { user: Some(to), files, name, .. } if !files.is_empty() => {
                CliCommand::Offer { to, paths: files, name }
            }
            Self::Offer { user, .. } => CliCommand::Offers { to: user },
            Self::Block { user: Some(user) } => CliCommand::Block { user },
            Self::Block { user: None } => CliCommand::Blocked,
            Self::Unblock { user } => CliCommand::Unblock { user },
            Self::Notify { bell, no_hook, hook } => CliCommand::Notify(NotifyChange {
                bell: bell.map(|bell| matches!(bell, OnOff::On)),
                // An empty hook removes it, which only `--no-hook` asks for.
                hook: Some(hook)
                    .filter(|hook| no_hook || !hook.is_empty())
                    .map(super::value_parsers::resolve_hook)
                    .transpose()?,
            }),
            Self::Events => CliCommand::Events,
            Self::Trust { user: Some(user), replace, yes, .. } => {
                CliCommand::Trust { owner: KeyOwner::User(user), replace, yes }
            }
            Self::Trust { user: None, replace, yes, .. } => {
                CliCommand::Trust { owner: KeyOwner::Tracker, replace, yes }
            }
            Self::Verify { user, yes } => CliCommand::Verify { user, yes },
        })
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

impl PasswordArgs {
    fn source(self) -> PasswordSource {
        self.password_file.map_or(PasswordSource::Prompt, PasswordSource::File)
    }
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
