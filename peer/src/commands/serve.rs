//! The command `peer serve`, which runs a node until it is stopped.

use std::time::{Duration, Instant};

use shared::safe_text::safe_line;
use tokio::sync::{broadcast, oneshot};

use super::CommandContext;
use super::bell::MessageBell;
use super::serve_output::EventPrinter;
use crate::engine::node::control::{ControlAction, NodeClient, NodeLifetime};
use crate::engine::node::{ListenConfig, Node};
use crate::engine::node_event::{EventBus, NodeEvent};
use crate::engine::serve::UploadLimits;
use crate::engine::{Error, LocalUser};
use crate::profile::ProfileError;
use crate::ui::CommandOutput;

/// Time between two checks whether the other node of the profile has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Time for the printer to write the last events.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Result of a takeover from the node that already runs.
enum TakeoverOutcome {
    /// The other node has ended, so this process starts its own.
    NodeEnded,
    /// The other node goes online again, so this process has nothing to do.
    WentOnline,
}

pub(super) async fn run(context: &CommandContext, place: ListenConfig, limits: UploadLimits) -> Result<(), Error> {
    let me = context.me()?;
    let events = EventBus::new();
    // Before the node starts, so that its first events are not missed.
    let (incoming, conversations) = (events.subscribe(), events.conversations().clone());
    let started = tokio::select! {
        () = context.cancel.cancelled() => return Err(Error::Interrupted),
        started = start(context, &me, place, limits, events) => started?,
    };
    let Some(node) = started else { return Ok(()) };
    if let Some(hook) = me.profile.message_hook()? {
        context.output.note(&format!("each message that comes runs {}", safe_line(&hook.join(" "))));
    }
    let printer = EventPrinter::new(context.output.clone(), me.clone(), conversations);
    let mut told = spawn_event_printer(context.output.clone(), me.clone(), printer, incoming)?;
    let stop = node.stop_token();
    let ended = {
        let running = node.run();
        tokio::pin!(running);
        loop {
            tokio::select! {
                ended = &mut running => break ended,
                // Only ask: the node shuts down in order while `running` is polled further.
                () = context.cancel.cancelled(), if !stop.is_cancelled() => stop.cancel(),
            }
        }
    };
    // A reader that no longer reads standard output must not keep the process alive.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, &mut told).await;
    ended?;
    // A signal stops the node in order, but the exit code still names the signal.
    if context.cancel.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
}

/// Starts the node, after ending one that runs for a view or a command only.
async fn start(
    context: &CommandContext,
    me: &LocalUser,
    place: ListenConfig,
    limits: UploadLimits,
    events: EventBus,
) -> Result<Option<Node>, Error> {
    loop {
        match Node::start(me, place, limits, events.clone(), NodeLifetime::Lasting).await {
            Err(Error::Profile(ProfileError::NodeRuns { .. })) => match take_over_with_retry(context, me).await? {
                TakeoverOutcome::NodeEnded => {}
                TakeoverOutcome::WentOnline => return Ok(None),
            },
            started => return started.map(Some),
        }
    }
}

/// Calls [`take_over`], and treats a node that ends during the exchange as ended.
async fn take_over_with_retry(context: &CommandContext, me: &LocalUser) -> Result<TakeoverOutcome, Error> {
    match take_over(context, me).await {
        Err(Error::NodeGone { .. }) if !me.profile.is_node_running()? => Ok(TakeoverOutcome::NodeEnded),
        // Another node took its place at that moment: take over from that one.
        Err(Error::NodeGone { .. }) => take_over(context, me).await,
        outcome => outcome,
    }
}

/// Asks the node that runs to make way, or waits for it.
async fn take_over(context: &CommandContext, me: &LocalUser) -> Result<TakeoverOutcome, Error> {
    let Some(mut node) = NodeClient::connect(&me.profile).await? else { return Ok(TakeoverOutcome::NodeEnded) };
    let status = node.status().await?;
    let pid = status.pid;
    match status.lifetime {
        NodeLifetime::View => {
            context.output.note(&format!("taking over from the window that was online as {} (process {pid})", me.user));
            node.perform(ControlAction::HandOver).await?;
        }
        // That command can't go on without its node: wait for its end instead of stopping it.
        NodeLifetime::Command => {
            context.output.note(&format!("process {pid} keeps {} online: waiting until it ends", me.user));
        }
        NodeLifetime::Lasting if status.elsewhere.is_some() => {
            node.perform(ControlAction::GoOnline).await?;
            context.output.note(&format!("{} goes online again on this machine (process {pid})", me.user));
            return Ok(TakeoverOutcome::WentOnline);
        }
        NodeLifetime::Lasting => return Err(ProfileError::NodeRuns { pid: Some(pid) }.into()),
    }
    drop(node);
    // Compare the pid: another node may take the place first, and the caller has to talk to that one.
    while me.profile.is_node_running()? && me.profile.node_holder().pid == Some(pid) {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(TakeoverOutcome::NodeEnded)
}

/// Prints events on a thread of its own, so that a pipe that nobody reads delays the output and not the node. Events
/// beyond the channel's capacity are lost and counted in a note. The thread ends with the channel.
///
/// # Errors
/// Fails if the thread can't be started.
fn spawn_event_printer(
    output: CommandOutput,
    me: LocalUser,
    mut printer: EventPrinter,
    mut incoming: broadcast::Receiver<NodeEvent>,
) -> Result<oneshot::Receiver<()>, Error> {
    let (is_over, over) = oneshot::channel();
    let tell_all = move || {
        let mut bell = MessageBell::default();
        loop {
            match incoming.blocking_recv() {
                // A closed pipe ends the output, not the node.
                Ok(event) => {
                    match printer.print(&event, Instant::now()).and_then(|()| bell.handle_event(&output, &me, &event)) {
                        Ok(()) => {}
                        Err(_) => break,
                    }
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    output.note(&format!("({missed} events were not shown)"));
                }
                Err(broadcast::error::RecvError::Closed) => break,
            }
        }
        // The receiver is gone if the drain timed out.
        let _ = is_over.send(());
    };
    std::thread::Builder::new().name("events".to_owned()).spawn(tell_all)?;
    Ok(over)
}
