//! The command `peer ui`, also run by `peer` alone in a terminal.

use clap::Args;
use localization::tr;
use tokio::sync::mpsc;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::view_session::{self, refuse_in_background};
use crate::engine::node::{NodeApi, NodeLifetime};
use crate::engine::node_connection::open_node;
use crate::engine::{Error, LocalUser};
use crate::profile::Access;
use crate::ui::{FullViewModel, FullViewTerminal, ViewInput};

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer ui
  peer --home ~/second ui",
    notes: "\
Tab goes from pane to pane. What you type goes into the line to the chosen person. ? (in the line F1) shows all \
keys. A narrow terminal shows one pane at a time. With --plain use `peer chat USER`.",
};

/// Open people, conversations, files and transfers in one view; so does `peer` alone in a terminal.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct UiArgs {}

pub(super) async fn run(context: &CommandContext) -> Result<(), Error> {
    if !context.can_draw_view() {
        return Err(Error::Usage(unavailable_reason(context)));
    }
    refuse_in_background("ui", &tr!("`peer events` and `peer list` need no terminal"))?;
    let me = context.me(Access::Use)?;
    let node = open_node(&context.cancel, &me, NodeLifetime::View).await?;
    let ended = match open_full_view(context, &me, &node).await {
        Ok((view, keys)) => view_session::run_view(context, &me, view, keys, node).await?,
        Err(error) => {
            // A node of our own must leave the tracker before the error is printed.
            node.close().await?;
            return Err(error);
        }
    };
    view_session::report_exit(context, &ended)
}

/// Returns why the view can't be drawn, and the commands that work without it.
fn unavailable_reason(context: &CommandContext) -> String {
    match context.is_interactive() {
        true if context.output.is_plain() => {
            tr!("`peer ui` draws all over the terminal, which ACCESSIBLE=1, --plain and TERM=dumb rule out: \
             `peer chat USER` talks line by line, `peer list` shows who is online, `peer files USER` what they share, \
             `peer inbox` what is unread")
        }
        true => tr!("`peer ui` needs a terminal that can move its cursor, and TERM is not set: use `peer chat USER`"),
        false => tr!("`peer ui` needs a terminal: use `peer chat USER`, `peer list` or `peer events`"),
    }
}

async fn open_full_view(
    context: &CommandContext,
    me: &LocalUser,
    node: &NodeApi,
) -> Result<(FullViewTerminal, mpsc::Receiver<ViewInput>), Error> {
    // The node of an earlier release knows no rooms.
    let (people, rooms) = (node.users().await?, node.rooms().await.unwrap_or_default());
    let model = FullViewModel::new(context.output.theme(), &me.user, &people, &rooms);
    Ok(FullViewTerminal::open(model)?)
}
