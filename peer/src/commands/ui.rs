//! `peer ui`, and `peer` alone in a terminal.

use tokio::sync::mpsc;

use super::Context;
use super::chat::{is_for_people, is_interactive, refuse_in_background};
use super::session;
use super::station::Station;
use crate::engine::node::control::Lifetime;
use crate::engine::{Error, Me};
use crate::ui::{FullTerminal, FullView, Key};

pub(super) async fn run(context: &Context) -> Result<(), Error> {
    if !is_for_people(context) {
        return Err(Error::Usage(why_not(context).to_owned()));
    }
    refuse_in_background("ui", "`peer events` and `peer list` need no terminal")?;
    let me = context.me()?;
    let mut station = Station::open(context, &me, Lifetime::View).await?;
    let ended = match begin(context, &me, &mut station).await {
        Ok((view, keys)) => session::attend(context, &me, view, keys, station).await?,
        Err(error) => {
            station.close().await?;
            return Err(error);
        }
    };
    session::say_goodbye(context, &ended)
}

/// Tells why the view can't be drawn, and what does without.
fn why_not(context: &Context) -> &'static str {
    match is_interactive(context) {
        true if context.output.is_plain() => {
            "the view of everything draws all over the terminal, which ACCESSIBLE=1, --plain and TERM=dumb rule out: \
             `peer chat USER` talks line by line, `peer list` shows who is online, `peer files USER` what they share, \
             `peer inbox` what is unread"
        }
        true => {
            "the view of everything wants a terminal that can move its cursor, and TERM is not set: `peer chat` does without"
        }
        false => "the view of everything wants a terminal: `peer chat`, `peer list` and `peer events` do without",
    }
}

async fn begin(
    context: &Context,
    me: &Me,
    station: &mut Station,
) -> Result<(FullTerminal, mpsc::Receiver<Key>), Error> {
    let people = station.client.people().await?;
    let model = FullView::new(context.output.look(), &me.user, &people);
    Ok(FullTerminal::open(model)?)
}
