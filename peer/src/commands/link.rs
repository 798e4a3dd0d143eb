//! The command `peer link`: files for guests who have only a browser, and a folder that takes theirs.

mod foreground_server;
mod guest_answers;
mod link_chat;
mod link_events;
mod link_list;
mod printed_link;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use localization::tr;

use self::foreground_server::ForegroundServer;
pub(super) use self::link_events::link_event_handler;
use self::printed_link::PrintedLink;
use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::file_hashing::{resolve_working_folder, with_stop_timeout};
use super::value_parsers::{parse_size, parse_time_within};
use crate::engine::guest_links::{LinkRequest, LinkService, MadeLink, make_link, remove_link};
use crate::engine::node::NodeHandle;
use crate::engine::share::ShareEvent;
use crate::engine::{Error, LocalUser, run_blocking};
use crate::profile::Access;
use crate::ui::{ShareBar, by_design_line, failure_lines};

/// The bytes that a link takes unless told.
const USUAL_MAX_BYTES: u64 = 10_000_000_000;
/// Bounds of the life of a link, in milliseconds.
const LIFETIME_MS: std::ops::RangeInclusive<i64> = 60_000..=400 * 24 * 3600 * 1000;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer link report.pdf photos/
  peer link --receive ~/Inbox --max 2G --for 2h
  peer link slides.pdf --once --chat
  peer link list
  peer link revoke 3
  peer link chat 3 \"on my way\"",
    notes: "\
Whoever opens the address, by the QR code or typed, needs nothing but a browser: files come one by one or as a zip, with \
the browser's own pause and resume. Without JavaScript a form takes the code that stands below the QR code. The `curl` \
line does the same from a terminal, and pins the key of the server; with `tar/` and `.tar` in place of `zip/` and `.zip`, \
`| tar -x` unpacks while it comes. Whoever has the link has the files: give it only to \
whom they are for.

The connection is encrypted with a certificate that this machine made, hence the browser's warning. Whoever listens \
learns nothing; whoever sits in between is found out by comparing the fingerprint that is shown here with that of the \
certificate in the browser. The certificate is renewed with the same key, so that pinned keys stay right.

While `peer serve` runs, it serves links, also after a restart; else the command itself does until Ctrl-C, and the link \
ends with it. A file that changes after the link was made is not given any more. With --once, the first browser that opens \
the link is the only one, and the link ends when it has everything; a terminal counts as one.

With --receive, uploads go on where they were when a phone slept, never replace a file, and leave 1 GiB free on the disk; \
names that begin with a dot are refused. `curl -T FILE` works as well.

With --chat, the page has a conversation with you below the files, or only that if no file is named. `peer serve` shows \
what guests write, `peer link list` how much of it is unread, and `peer link chat` answers; a link that the command itself \
serves takes each line that you type as an answer.

The TCP port is 8444 if it is free, and the same as last time if that is; a firewall has to let it in.

With --json: `link` with url, curl, authorization, fingerprint, expires (milliseconds since 1970) and files, each with \
name, size, hash and url; each of these addresses answers to that Authorization header. Whatever \
serves it prints `link_opened`, `link_taken` and `link_received`. With --chat, `link` has chat as well, the address of the conversation: \
GET, also as text/event-stream, and POST with text and name.",
};

/// Give files to a browser, or take them from one.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long(), args_conflicts_with_subcommands = true)]
pub(crate) struct LinkArgs {
    #[command(subcommand)]
    command: Option<LinkCommand>,
    /// Files and folders that are given.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Take uploads into this folder instead.
    #[arg(long, value_name = "DIR", conflicts_with = "paths")]
    receive: Option<PathBuf>,
    /// Take at most so much in all (500M, 2G) [default: 10G].
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "receive", hide_short_help = true,
          long_help = "Take at most so much in all (500M, 2G) [default: 10G]")]
    max: Option<u64>,
    /// End the link after this time (30m, 2h, 7d).
    #[arg(long = "for", value_name = "TIME", value_parser = parse_lifetime, default_value = "24h")]
    lifetime: i64,
    /// For one browser, until it has everything.
    #[arg(long)]
    once: bool,
    /// Let guests write to you.
    #[arg(long)]
    chat: bool,
    /// Serve it by this command, on this TCP port.
    #[arg(long, hide_short_help = true, long_help = "Serve it by this command, on this TCP port")]
    port: Option<u16>,
}

#[derive(Debug, Subcommand)]
enum LinkCommand {
    List(link_list::LinkListArgs),
    Revoke(link_list::LinkRevokeArgs),
    Chat(link_chat::LinkChatArgs),
}

pub(super) async fn run(context: &CommandContext, args: LinkArgs) -> Result<(), Error> {
    match args.command {
        Some(LinkCommand::List(_)) => context.until_cancelled(link_list::list(context)).await,
        Some(LinkCommand::Revoke(which)) => context.until_cancelled(link_list::revoke(context, &which.links)).await,
        Some(LinkCommand::Chat(chat)) => context.until_cancelled(Box::pin(link_chat::chat(context, chat))).await,
        None if args.paths.is_empty() && args.receive.is_none() && !args.chat => Err(Error::Usage(tr!(
            "which files? `peer link PATH` gives one, `peer link --receive DIR` takes them, `peer link list` shows links"
        ))),
        None => Box::pin(make(context, args)).await,
    }
}

/// Makes a link, and serves it if no node does.
async fn make(context: &CommandContext, args: LinkArgs) -> Result<(), Error> {
    let me = context.me(Access::Use)?;
    let is_hosted = args.port.is_none() && context.until_cancelled(look_at_links(&me)).await?.is_some();
    // Bound before the files are hashed: a port that is taken shows at once.
    let foreground = if is_hosted {
        None
    } else {
        Some(ForegroundServer::bind(&me, args.port, link_event_handler(&context.output, Some(me.clone()))?)?)
    };
    let request = LinkRequest {
        paths: args.paths.into_iter().map(resolve_working_folder).collect(),
        folder: args.receive,
        max_bytes: args.max.unwrap_or(USUAL_MAX_BYTES),
        is_once: args.once,
        has_chat: args.chat,
        lifetime: Duration::from_millis(args.lifetime.unsigned_abs()),
        pid: foreground.as_ref().map(|_| std::process::id()),
    };
    let made = hash_with_bar(context, &me, request).await?;
    let port = match &foreground {
        Some(server) => Some(server.port()),
        // Again: with a link on record the node listens now, and has a port.
        None => context.until_cancelled(look_at_links(&me)).await?.and_then(|service| service.port),
    };
    let port = port.ok_or_else(|| Error::Internal("the node serves no link".to_owned()))?;
    let printed = PrintedLink::new(&me, &made, port).await?;
    printed.print(context, foreground.is_some())?;
    let Some(server) = foreground else { return Ok(()) };
    let ended = server.run(context, &made.link).await;
    // Whatever ended it: nobody serves it any more.
    remove_link(&me.profile, &made.link)?;
    ended
}

/// Makes the node's server of links look at them; `None` if there is no node that serves links.
async fn look_at_links(me: &LocalUser) -> Result<Option<LinkService>, Error> {
    let Some(node) = NodeHandle::attach(&me.profile).await? else { return Ok(None) };
    match node.serve_links().await {
        // An older node knows no links, and ends the connection.
        Err(Error::NodeGone { .. }) => Ok(None),
        looked => looked,
    }
}

async fn hash_with_bar(context: &CommandContext, me: &LocalUser, request: LinkRequest) -> Result<MadeLink, Error> {
    let (profile, identity) = (me.profile.clone(), me.identity.clone());
    let (output, cancel) = (context.output.clone(), context.cancel.clone());
    let making = run_blocking(move || {
        let (mut bar, mut failure) = (ShareBar::new(&output), None);
        let made = make_link(&profile, &identity, &request, &mut |event| {
            if !matches!(event, ShareEvent::Shared { .. }) {
                failure = bar.handle_event(&event).err().or(failure.take());
            }
            if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.end();
        failure.map_or(made, |failure| Err(failure.into()))
    });
    let made = with_stop_timeout(context, making).await?;
    failure_lines(&made.omissions).iter().for_each(|line| context.output.note(line));
    by_design_line(&made.omissions).iter().for_each(|line| context.output.note(line));
    Ok(made)
}

/// Parses the life of a link, in milliseconds.
fn parse_lifetime(text: &str) -> Result<i64, String> {
    parse_time_within(text, LIFETIME_MS, || tr!("a link lives from one minute to 400 days"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_of_links() {
        assert_eq!((parse_lifetime("2h"), parse_lifetime("1m")), (Ok(7_200_000), Ok(60_000)));
        for wrong in ["", "2", "59s", "401d", "-1h", "100w"] {
            assert!(parse_lifetime(wrong).is_err(), "{wrong:?}");
        }
    }
}
