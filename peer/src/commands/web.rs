//! The command `peer web`: people, rooms and files in the user's browser, or in everybody's.

mod door_command;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::safe_text::safe_path;
use tokio_util::sync::CancellationToken;

use self::door_command::DoorOptions;
use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::value_parsers::parse_time_within;
use crate::engine::Error;
use crate::engine::node::NodeLifetime;
use crate::engine::node_connection::open_node;
use crate::profile::Access;
use crate::sys::open_in_browser;
use crate::web::{AccountSeat, HiddenFolder, PageServer, PageServerConfig, SeatDisk};

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer web
  peer web --no-open --port 9000
  peer web --accounts --listen 0.0.0.0:8443",
    notes: "\
The page shows what `peer ui` shows, for people who don't live in terminals. It is served on this machine alone, until \
Ctrl-C; beside `peer serve` it uses that node. A browser gets in by a file in the account's folder that only you can \
read, and which works once: `peer web` writes the next one by itself. Whoever can read that file can write in your name.

The port is 8445 if it is free, and the same as last time if that is. Fetched files go into the folder in which the \
command was started, or into --folder.

With --accounts it is the door for people who have nothing but a browser: they log in with an account of the tracker, or \
make one, are online like everybody else, and share what they upload. This machine holds their keys and messages, in the \
folder `door` of this account's. An account that lives on another machine moves here only when its user says so; others \
are then warned of the new key, as always. One of the exercise's clients gets its first key here, also after a question. \
The tracker checks each password; none is kept. Ctrl-C ends all sessions, and the accounts stay.

The door is served over HTTPS with a certificate that this machine made; compare its fingerprint in the browser. The \
tracker's --trusted-door takes the key that the door prints, so that it counts each of its people alone. With --json: \
`door` with url, fingerprint, door_key and trusted.

With --json: `web` with the url that opens the page once.",
};

/// The usual address of a door.
const DOOR_ADDRESS: &str = "0.0.0.0:8443";
/// Bounds of the time for which an account stays online, in milliseconds.
const STAY_MS: std::ops::RangeInclusive<i64> = 1_000..=24 * 3600 * 1000;

/// Open people, rooms and files in a browser.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct WebArgs {
    /// Serve the page on this TCP port.
    #[arg(long, conflicts_with = "accounts")]
    port: Option<u16>,
    /// Only print the file that leads to the page.
    #[arg(long, conflicts_with = "accounts")]
    no_open: bool,
    /// Put fetched files into this folder [default: the working folder].
    #[arg(long, value_name = "DIR", conflicts_with = "accounts")]
    folder: Option<PathBuf>,
    /// Let everybody log in who has an account at the tracker.
    #[arg(long)]
    accounts: bool,
    /// The door's address.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "accounts", default_value = DOOR_ADDRESS)]
    listen: SocketAddr,
    /// Serve the door without encryption.
    #[arg(long, requires = "accounts")]
    plain_http: bool,
    /// How long an account stays online after its last browser left.
    #[arg(long, value_name = "TIME", value_parser = parse_stay, requires = "accounts", default_value = "10m",
        hide_short_help = true)]
    stay_online: Duration,
}

pub(super) async fn run(context: &CommandContext, args: WebArgs) -> Result<(), Error> {
    if args.accounts {
        let WebArgs { listen, plain_http: is_plain, stay_online: stay, .. } = args;
        return Box::pin(door_command::run(context, DoorOptions { listen, is_plain, stay })).await;
    }
    let me = context.me(Access::Use)?;
    let folder = match args.folder {
        Some(folder) => std::path::absolute(folder)?,
        None => std::env::current_dir()?,
    };
    let node = open_node(&context.cancel, &me, NodeLifetime::View).await?;
    let stop = context.cancel.child_token();
    let disk = SeatDisk { folder, quota: u64::MAX, download_quota: u64::MAX, hidden: HiddenFolder::default() };
    let (seat, task) = AccountSeat::take(me, node, disk, &stop).await?;
    let serving = async {
        let server = PageServer::bind(PageServerConfig { seat, port: args.port }).await?;
        announce(context, &server, args.no_open).await?;
        server.run(stop.clone()).await;
        Err(Error::Interrupted)
    };
    serve_until_ended(serving, Box::pin(task.run()), &stop).await
}

/// Waits until the server or the seat has ended, and ends the other one in order. The node leaves the tracker before an
/// error is printed.
async fn serve_until_ended(
    serving: impl Future<Output = Result<(), Error>>,
    task: impl Future<Output = Result<(), Error>>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    tokio::pin!(serving, task);
    let (first, node_ended) = tokio::select! {
        served = &mut serving => {
            stop.cancel();
            (served, task.await)
        }
        ended = &mut task => {
            stop.cancel();
            (serving.await, ended)
        }
    };
    // The node first: when it fails, the end of the page only follows from that.
    node_ended.and(first)
}

/// Tells where the page is, and opens it.
async fn announce(context: &CommandContext, server: &PageServer, no_open: bool) -> Result<(), Error> {
    if context.output.is_json() {
        return Ok(context.output.print_object("web", &json!({ "url": server.address() }))?);
    }
    let file = safe_path(server.opening_file());
    // The file, not the address with its token: others on this machine can read command lines.
    let is_open = !no_open && open_in_browser(server.opening_file()).await.is_ok();
    context.output.note(&match is_open {
        true => tr!("the page is open in your browser; Ctrl-C ends it ({file} opens it again)", file),
        false => tr!("open {file} in a browser of this machine; Ctrl-C ends the page", file),
    });
    Ok(())
}

/// Parses the time for which an account stays online.
fn parse_stay(text: &str) -> Result<Duration, String> {
    let stay = parse_time_within(text, STAY_MS, || tr!("an account stays online from one second to one day"))?;
    Ok(Duration::from_millis(stay.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_online() {
        assert_eq!((parse_stay("10m"), parse_stay("1s")), (Ok(Duration::from_secs(600)), Ok(Duration::from_secs(1))));
        for wrong in ["", "10", "0s", "25h", "-1h"] {
            assert!(parse_stay(wrong).is_err(), "{wrong:?}");
        }
    }
}
