//! What the arguments of a subcommand come to.

use std::time::Duration;

use shared::tracker::ListPeers;

use super::values::{KeptAge, count, destination, offered_name, wanted};
use super::{Existing, OutboxCommand, PasswordArgs, Subcommands, Switch};
use crate::commands::{Command, Differently, FetchWanted, ForgetWanted, NotifyChange, PasswordSource, Past, Whose};
use crate::engine::Error;
use crate::engine::fetch::{Asked, IfExists, Request, Sources};
use crate::engine::node::Place;
use crate::engine::serve::Limits;

/// Streams of a fetch that pull at once.
const STREAMS: u8 = 2;
/// How long a fetch waits for sources that are gone.
const PATIENCE_S: u32 = 90;

impl Subcommands {
    pub(super) fn into_command(self) -> Result<Command, Error> {
        Ok(match self {
            Self::Register { user, password } => Command::Register { user: user.into(), password: password.source() },
            Self::Login { user, password, rebind } => Command::Login { user, password: password.source(), rebind },
            Self::Passwd { password_file } => {
                Command::Passwd { passwords: password_file.map_or(PasswordSource::Prompt, PasswordSource::File) }
            }
            Self::Logout => Command::Logout,
            Self::Whoami => Command::Whoami,
            Self::Share { paths, name } => Command::Share { paths, name },
            Self::Unshare { names } => Command::Unshare { names },
            Self::Shares => Command::Shares,
            Self::Serve { port, announce: forwarded, limit, limit_per_peer } => Command::Serve {
                place: Place { port, forwarded },
                limits: Limits { total: limit, per_peer: limit_per_peer },
            },
            Self::List { user, sharing: name, hash, limit } => {
                let wanted = ListPeers { user, name, hash, with_files: Some(false), ..ListPeers::default() };
                Command::List { wanted, most: limit.map_or(usize::MAX, count) }
            }
            Self::Find { words, limit } => Command::Find { wanted: wanted(&words)?, most: count(limit) },
            Self::Files { user, prefix } => Command::Files { user, prefix },
            Self::Fetch { user: None, limit, patience, share, jobs, .. } => {
                let (streams, patience) = (jobs.map(usize::from), patience.map(seconds));
                Command::Fetch(FetchWanted::Rest(Differently { streams, limit, patience, share }))
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
                    (true, _) => Sources::Only(from),
                    (false, true) => Sources::Everybody,
                    (false, false) => Sources::Also(from),
                };
                let request = Request {
                    from: user,
                    names: names.into_iter().map(Asked::for_text).collect(),
                    destination: destination(output)?,
                    if_exists: if_exists.map_or(IfExists::SkipSame, Existing::policy),
                    streams: usize::from(jobs.unwrap_or(STREAMS)),
                    sources,
                    limit,
                    patience: seconds(patience.unwrap_or(PATIENCE_S)),
                    folder_times: Vec::new(),
                    arrived: Vec::new(),
                };
                Command::Fetch(FetchWanted::These { request, share })
            }
            Self::Chat { user, text, now } => Command::Chat { user, text: text.map(|words| words.join(" ")), now },
            Self::Ui => Command::Ui,
            Self::History { keep: Some(keep), .. } => Command::KeepHistory {
                kept_ms: match keep {
                    KeptAge::All => None,
                    KeptAge::For(kept) => Some(kept),
                },
            },
            Self::History { user: None, forget: true, older: None, .. } => {
                let which = "what is to be forgotten? `peer history --forget USER`, or `--forget --older 30d`, or both";
                return Err(Error::Usage(which.to_owned()));
            }
            Self::History { user: with, forget: true, older: older_ms, yes, .. } => {
                Command::Forget(ForgetWanted { with, older_ms, yes })
            }
            Self::History { user, since, limit, search, .. } => Command::History(Past {
                with: user,
                search: search.map(|words| words.join(" ")),
                since_ms: since,
                limit: limit.and_then(|limit| usize::try_from(limit).ok()),
            }),
            Self::Inbox { accept: None } => Command::Inbox,
            Self::Inbox { accept: Some(user) } => Command::Accept { user },
            Self::Outbox { command: None } => Command::Outbox,
            Self::Outbox { command: Some(OutboxCommand::Drop { id }) } => Command::OutboxDrop { id },
            Self::Offer { user: Some(to), files, withdraw: true, .. } => {
                Command::Withdraw { to, names: files.iter().map(|file| offered_name(file)).collect::<Result<_, _>>()? }
            }
            Self::Offer { user: Some(to), files, name, .. } if !files.is_empty() => {
                Command::Offer { to, paths: files, name }
            }
            Self::Offer { user, .. } => Command::Offers { to: user },
            Self::Block { user: Some(user) } => Command::Block { user },
            Self::Block { user: None } => Command::Blocked,
            Self::Unblock { user } => Command::Unblock { user },
            Self::Notify { bell, no_hook, hook } => Command::Notify(NotifyChange {
                rings: bell.map(|bell| matches!(bell, Switch::On)),
                hook: Some(hook).filter(|hook| no_hook || !hook.is_empty()).map(super::values::hook).transpose()?,
            }),
            Self::Events => Command::Events,
            Self::Trust { user: Some(user), replace, yes, .. } => {
                Command::Trust { of: Whose::User(user), replace, yes }
            }
            Self::Trust { user: None, replace, yes, .. } => Command::Trust { of: Whose::Tracker, replace, yes },
            Self::Verify { user, yes } => Command::Verify { user, yes },
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

impl Existing {
    const fn policy(self) -> IfExists {
        match self {
            Self::Skip => IfExists::Skip,
            Self::Rename => IfExists::Rename,
            Self::Overwrite => IfExists::Overwrite,
            Self::Fail => IfExists::Fail,
        }
    }
}
