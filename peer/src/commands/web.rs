//! The command `peer web`: people, rooms and files in the user's browser.

use std::path::PathBuf;

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::safe_text::safe_path;
use tokio_util::sync::CancellationToken;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use crate::engine::Error;
use crate::engine::node::NodeLifetime;
use crate::engine::node_connection::open_node;
use crate::profile::Access;
use crate::sys::open_in_browser;
use crate::web::{AccountSeat, PageServer, PageServerConfig};

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer web
  peer web --no-open --port 9000",
    notes: "\
The page shows what `peer ui` shows, for people who don't live in terminals. It is served on this machine alone, until \
Ctrl-C; beside `peer serve` it uses that node. A browser gets in by a file in the account's folder that only you can \
read, and which works once: `peer web` writes the next one by itself. Whoever can read that file can write in your name.

The port is 8445 if it is free, and the same as last time if that is. Fetched files go into the folder in which the \
command was started, or into --folder.

With --json: `web` with the url that opens the page once.",
};

/// Open people, rooms and files in a browser.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct WebArgs {
    /// Serve the page on this TCP port.
    #[arg(long)]
    port: Option<u16>,
    /// Only print the file that leads to the page.
    #[arg(long)]
    no_open: bool,
    /// Put fetched files into this folder [default: the working folder].
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(super) async fn run(context: &CommandContext, args: WebArgs) -> Result<(), Error> {
    let me = context.me(Access::Use)?;
    let folder = match args.folder {
        Some(folder) => std::path::absolute(folder)?,
        None => std::env::current_dir()?,
    };
    let node = open_node(&context.cancel, &me, NodeLifetime::View).await?;
    let stop = context.cancel.child_token();
    let (seat, task) = AccountSeat::take(me, node, folder, &stop).await?;
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
            // Whatever the server says: the seat is the reason.
            let _ = serving.await;
            (Ok(()), ended)
        }
    };
    node_ended.and(first)
}

/// Tells where the page is, and opens it.
async fn announce(context: &CommandContext, server: &PageServer, no_open: bool) -> Result<(), Error> {
    if context.output.is_json() {
        return Ok(context.output.print_object("web", &json!({ "url": server.address() }))?);
    }
    let file = safe_path(server.opening_file());
    let is_open = !no_open && open_in_browser(server.opening_file()).await.is_ok();
    context.output.note(&match is_open {
        true => tr!("the page is open in your browser; Ctrl-C ends it ({file} opens it again)", file),
        false => tr!("open {file} in a browser of this machine; Ctrl-C ends the page", file),
    });
    Ok(())
}
