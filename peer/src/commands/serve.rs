//! `peer serve`.

use std::time::Duration;

use tokio::sync::{broadcast, oneshot};

use super::Context;
use super::bell::Bell;
use crate::engine::event::{Event, Events};
use crate::engine::node::control::{Action, Lifetime, NodeClient};
use crate::engine::node::{Node, Place};
use crate::engine::serve::Limits;
use crate::engine::{Error, Me, now_ms};
use crate::profile::ProfileError;
use crate::ui::{Output, event_json, event_line, time};

/// Between two looks whether the node that holds the profile has ended.
const LOOK: Duration = Duration::from_millis(100);

/// For the last events to be read.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What becomes of `peer serve` where a node runs already.
enum Beside {
    /// That one ended: this one takes its place.
    Ended,
    /// That one goes online again, and nothing else is to be done.
    WentOnline,
}

pub(super) async fn run(context: &Context, place: Place, limits: Limits) -> Result<(), Error> {
    let me = context.me()?;
    let events = Events::new();
    let incoming = events.subscribe();
    let started = tokio::select! {
        () = context.cancel.cancelled() => return Err(Error::Interrupted),
        started = start(context, &me, place, limits, events) => started?,
    };
    let Some(node) = started else { return Ok(()) };
    let mut told = tell_all(context.output.clone(), me.clone(), incoming)?;
    let stop = node.stop_token();
    let ended = {
        let running = node.run();
        tokio::pin!(running);
        loop {
            tokio::select! {
                ended = &mut running => break ended,
                () = context.cancel.cancelled(), if !stop.is_cancelled() => stop.cancel(),
            }
        }
    };
    // The last words; whoever reads none of them is not waited for.
    let _ = tokio::time::timeout(LAST_WORDS, &mut told).await;
    ended?;
    if context.cancel.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
}

/// Starts the node, in place of one that runs for a view or a command only.
async fn start(
    context: &Context,
    me: &Me,
    place: Place,
    limits: Limits,
    events: Events,
) -> Result<Option<Node>, Error> {
    loop {
        match Node::start(me, place, limits, events.clone(), Lifetime::Lasting).await {
            Err(Error::Profile(ProfileError::NodeRuns { .. })) => match beside(context, me).await? {
                Beside::Ended => {}
                Beside::WentOnline => return Ok(None),
            },
            started => return started.map(Some),
        }
    }
}

/// As [`come_to_terms`]; a node that ends in the middle of it has ended.
async fn beside(context: &Context, me: &Me) -> Result<Beside, Error> {
    match come_to_terms(context, me).await {
        Err(Error::NodeGone { .. }) if !me.profile.is_node_running()? => Ok(Beside::Ended),
        // Another one took its place at that moment: that is the one to come to terms with.
        Err(Error::NodeGone { .. }) => come_to_terms(context, me).await,
        outcome => outcome,
    }
}

/// Comes to terms with the node that runs.
async fn come_to_terms(context: &Context, me: &Me) -> Result<Beside, Error> {
    let Some(mut node) = NodeClient::connect(&me.profile).await? else { return Ok(Beside::Ended) };
    let status = node.status().await?;
    let pid = status.pid;
    match status.lifetime {
        Lifetime::View => {
            context.output.note(&format!("taking over from the window that was online as {} (process {pid})", me.user));
            node.tell(Action::HandOver).await?;
        }
        Lifetime::Command => {
            context.output.note(&format!("process {pid} is online as {} until its command ends: waiting", me.user));
        }
        Lifetime::Lasting if status.elsewhere.is_some() => {
            node.tell(Action::GoOnline).await?;
            context.output.note(&format!("{} goes online here again, in the node that runs (process {pid})", me.user));
            return Ok(Beside::WentOnline);
        }
        Lifetime::Lasting => return Err(ProfileError::NodeRuns { pid: Some(pid) }.into()),
    }
    drop(node);
    // Another one may take its place first, and is not waited for.
    while me.profile.is_node_running()? && me.profile.node_holder().pid == Some(pid) {
        tokio::time::sleep(LOOK).await;
    }
    Ok(Beside::Ended)
}

/// Tells what happens, from a thread of its own: a pipe that nobody reads holds up the words and not the node. Beyond the
/// events that are kept for it, those that were not shown are counted. Ends with the node's events.
///
/// # Errors
/// As the system says.
fn tell_all(output: Output, me: Me, mut incoming: broadcast::Receiver<Event>) -> Result<oneshot::Receiver<()>, Error> {
    let (is_over, over) = oneshot::channel();
    let tell_all = move || {
        let mut bell = Bell::default();
        loop {
            match incoming.blocking_recv() {
                // A closed pipe ends the talking, not the serving.
                Ok(event) => match tell(&output, &event).and_then(|()| bell.hear(&output, &me, &event)) {
                    Ok(()) => {}
                    Err(_) => break,
                },
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    output.note(&format!("({missed} events were not shown)"));
                }
                Err(broadcast::error::RecvError::Closed) => break,
            }
        }
        // The node may be gone.
        let _ = is_over.send(());
    };
    std::thread::Builder::new().name("events".to_owned()).spawn(tell_all)?;
    Ok(over)
}

fn tell(output: &Output, event: &Event) -> std::io::Result<()> {
    if output.is_json() {
        return output.object("event", &event_json(event));
    }
    let Some(line) = event_line(event) else { return Ok(()) };
    match event {
        // The one line that scripts wait for.
        Event::Online { .. } => output.data(&line),
        // What the node ends with says it, and more.
        Event::AccountMoved { .. } => Ok(()),
        _ if output.is_quiet() => Ok(()),
        _ => output.data(&format!("{} {line}", output.dim(&time(now_ms())))),
    }
}
