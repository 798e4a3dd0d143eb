//! `peer ui`, and `peer` alone in a terminal.

use tokio::sync::mpsc;

use super::Context;
use super::chat::{is_for_people, refuse_in_background};
use super::session;
use super::station::Station;
use crate::engine::node::control::Lifetime;
use crate::engine::{Error, Me};
use crate::ui::{FullTerminal, FullView, Key};

pub(super) async fn run(context: &Context) -> Result<(), Error> {
    if !is_for_people(context) {
        return Err(Error::Usage(
            "the view of everything wants a terminal: `peer chat`, `peer list` and `peer events` do without".to_owned(),
        ));
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

async fn begin(
    context: &Context,
    me: &Me,
    station: &mut Station,
) -> Result<(FullTerminal, mpsc::Receiver<Key>), Error> {
    let people = station.client.people().await?;
    let model = FullView::new(context.output.look(), &me.user, &people);
    Ok(FullTerminal::open(model)?)
}
