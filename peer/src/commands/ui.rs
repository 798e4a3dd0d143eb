//! `peer ui`, and `peer` alone in a terminal.

use super::Context;
use super::chat::is_for_people;
use super::session::{self, Ended};
use super::station::Station;
use crate::engine::{Error, Me};
use crate::ui::{FullTerminal, FullView, View};

pub(super) async fn run(context: &Context) -> Result<(), Error> {
    if !is_for_people(context) {
        return Err(Error::Usage(
            "the view of everything wants a terminal: `peer chat`, `peer list` and `peer events` do without".to_owned(),
        ));
    }
    let me = context.me()?;
    let mut station = Station::open(context, &me).await?;
    let outcome = show(context, &me, &mut station).await;
    station.close().await?;
    session::say_goodbye(context, &outcome?)
}

async fn show(context: &Context, me: &Me, station: &mut Station) -> Result<Ended, Error> {
    let people = station.client.people().await?;
    let model = FullView::new(context.output.look(), &me.user, &people);
    let (mut view, mut keys) = FullTerminal::open(model)?;
    let ended = session::attend(context, me, &mut view, &mut keys, station).await;
    let closed = view.close();
    let ended = ended?;
    closed?;
    Ok(ended)
}
