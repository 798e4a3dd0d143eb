//! Which tracker, when none was named and none was used before.

use std::io::{self, BufRead, IsTerminal, Read};

use super::Context;
use super::first_contact::TrackerChoice;
use crate::engine::{Error, blocking, neighbourhood};
use crate::net::discovery::Announced;
use crate::net::tracker::TrackerAddress;

/// The one tracker of this network, or the one that is chosen; else one on this machine. `again` is the command that
/// asks, for whoever is to run it again with a tracker named.
pub(super) async fn tracker(context: &Context, again: &str) -> Result<TrackerChoice, Error> {
    let place = |address, announced| TrackerChoice { address, announced, policy: context.key_policy };
    let here = TrackerAddress::on_this_machine();
    if context.no_mdns {
        return Ok(place(here, None));
    }
    context.output.note("no tracker is known yet: looking for one on this network");
    let found = neighbourhood::trackers().await.unwrap_or_else(|why| {
        context.output.warning(&why.to_string());
        Vec::new()
    });
    let (address, announced) = match found.as_slice() {
        [] if here.takes_connections().await => return Ok(place(here, None)),
        [] => return Err(Error::NoTracker { seconds: neighbourhood::LISTEN_FOR.as_secs() }),
        [only] => only,
        several => several.get(choice(context, several, again).await?).ok_or(Error::Interrupted)?,
    };
    Ok(place(address.clone(), Some(announced.fingerprint)))
}

/// The number of the one that the person at the terminal chooses.
async fn choice(context: &Context, found: &[(TrackerAddress, Announced)], again: &str) -> Result<usize, Error> {
    if context.no_input || context.output.is_json() || !io::stdin().is_terminal() {
        let line = |(address, announced): &(TrackerAddress, Announced)| {
            format!("\n  peer --tracker {address} {again}   (key {})", announced.fingerprint)
        };
        let lines: String = found.iter().map(line).collect();
        return Err(Error::Usage(format!("there are {} trackers on this network: say which one{lines}", found.len())));
    }
    let line = |(number, (address, announced)): (usize, &(TrackerAddress, Announced))| {
        format!("{:>3}  {address}  key {}\n", number + 1, announced.fingerprint)
    };
    let lines: String = found.iter().enumerate().map(line).collect();
    let last = found.len();
    context.output.prompt(&format!("trackers on this network:\n{lines}Which one? [1-{last}] "));
    blocking(move || {
        let mut answer = String::new();
        io::stdin().lock().take(64).read_line(&mut answer)?;
        let number = answer.trim().parse().ok().filter(|number| (1..=last).contains(number));
        let none = || Error::Usage(format!("no tracker was chosen: give a number from 1 to {last}, or --tracker"));
        number.map(|number: usize| number - 1).ok_or_else(none)
    })
    .await
}
