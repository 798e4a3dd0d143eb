//! `peer serve`.

use tokio::sync::broadcast;

use super::Context;
use super::bell::Bell;
use crate::engine::event::{Event, Events};
use crate::engine::node::{Node, Place};
use crate::engine::serve::Limits;
use crate::engine::{Error, now_ms};
use crate::ui::{Output, event_json, event_line, time};

pub(super) async fn run(context: &Context, place: Place, limits: Limits) -> Result<(), Error> {
    let me = context.me()?;
    let events = Events::new();
    let mut incoming = events.subscribe();
    let node = tokio::select! {
        () = context.cancel.cancelled() => return Err(Error::Interrupted),
        node = Node::start(&me, place, limits, events) => node?,
    };
    let stop = node.stop_token();
    let running = node.run();
    tokio::pin!(running);
    // A closed pipe ends the talking, not the serving.
    let mut is_heard = true;
    let mut bell = Bell::default();
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended,
            () = context.cancel.cancelled(), if !stop.is_cancelled() => stop.cancel(),
            event = incoming.recv() => match event {
                Ok(event) if is_heard => is_heard = tell(&context.output, &event).and_then(|()| bell.hear(context, &me, &event)).is_ok(),
                Ok(_) | Err(broadcast::error::RecvError::Closed) => {}
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    context.output.note(&format!("({missed} events were not shown)"));
                }
            },
        }
    };
    ended?;
    if context.cancel.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
}

fn tell(output: &Output, event: &Event) -> std::io::Result<()> {
    if output.is_json() {
        return output.object("event", &event_json(event));
    }
    let Some(line) = event_line(event) else { return Ok(()) };
    match event {
        // The one line that scripts wait for.
        Event::Online { .. } => output.data(&line),
        _ if output.is_quiet() => Ok(()),
        _ => output.data(&format!("{} {line}", output.dim(&time(now_ms())))),
    }
}
