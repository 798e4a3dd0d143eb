//! The command `peer ui`, also run by `peer` alone in a terminal.

use tokio::sync::mpsc;

use super::CommandContext;
use super::chat::{can_draw_view, is_interactive, refuse_in_background};
use super::node_handle::NodeHandle;
use super::view_session;
use crate::engine::node::control::NodeLifetime;
use crate::engine::{Error, LocalUser};
use crate::ui::{FullViewModel, FullViewTerminal, ViewInput};

pub(super) async fn run(context: &CommandContext) -> Result<(), Error> {
    if !can_draw_view(context) {
        return Err(Error::Usage(unavailable_reason(context).to_owned()));
    }
    refuse_in_background("ui", "`peer events` and `peer list` need no terminal")?;
    let me = context.me()?;
    let mut station = NodeHandle::open(context, &me, NodeLifetime::View).await?;
    let ended = match open_full_view(context, &me, &mut station).await {
        Ok((view, keys)) => view_session::run_view(context, &me, view, keys, station).await?,
        Err(error) => {
            // A node of our own must leave the tracker before the error is printed.
            station.close().await?;
            return Err(error);
        }
    };
    view_session::report_exit(context, &ended)
}

/// Returns why the view can't be drawn, and the commands that work without it.
fn unavailable_reason(context: &CommandContext) -> &'static str {
    match is_interactive(context) {
        true if context.output.is_plain() => {
            "`peer ui` draws all over the terminal, which ACCESSIBLE=1, --plain and TERM=dumb rule out: \
             `peer chat USER` talks line by line, `peer list` shows who is online, `peer files USER` what they share, \
             `peer inbox` what is unread"
        }
        true => "`peer ui` needs a terminal that can move its cursor, and TERM is not set: use `peer chat USER`",
        false => "`peer ui` needs a terminal: use `peer chat USER`, `peer list` or `peer events`",
    }
}

async fn open_full_view(
    context: &CommandContext,
    me: &LocalUser,
    station: &mut NodeHandle,
) -> Result<(FullViewTerminal, mpsc::Receiver<ViewInput>), Error> {
    let people = station.client.people().await?;
    let model = FullViewModel::new(context.output.theme(), &me.user, &people);
    Ok(FullViewTerminal::open(model)?)
}
