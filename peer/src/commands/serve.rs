//! The command `peer serve`, which runs a node until it is stopped.

mod line_budget;
mod serve_output;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use localization::tr;
use shared::limits::MIN_PEER_PORT;
use shared::safe_text::safe_line;
use tokio::sync::{broadcast, oneshot};

use self::serve_output::EventPrinter;
use super::bell::MessageBell;
use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::link::link_event_handler;
use super::value_parsers::parse_rate;
use crate::engine::event_bus::EventBus;
use crate::engine::guest_links::link_host;
use crate::engine::node::control::NodeClient;
use crate::engine::node::{ListenConfig, Node, NodeLifetime, PortForwarding};
use crate::engine::node_event::NodeEvent;
use crate::engine::serve::UploadLimits;
use crate::engine::{Error, LocalUser};
use crate::net::threads_for_this_machine;
use crate::profile::{Access, ProfileError};
use crate::ui::CommandOutput;
use crate::web::{LinkEvent, LinkEventHandler, run_link_host};

/// Time between two checks whether the other node of the profile has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Time for the printer to write the last events.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause of the printer after an event: those of the meantime come together, so that a fetch of many small files doesn't
/// wake its thread for each.
const PRINT_PAUSE: Duration = Duration::from_millis(10);

/// Result of a takeover from the node that already runs.
enum TakeoverOutcome {
    /// The other node has ended, so this process starts its own.
    NodeEnded,
    /// The other node goes online again, so this process has nothing to do.
    WentOnline,
}

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer serve
  peer serve --limit 20M --limit-per-peer 5M
  peer serve --port 40000 --announce 192.0.2.7:5000",
    notes: "\
It shows messages, and who fetched what; Ctrl-C ends it. What --limit leaves goes round between those who fetch. \
While you talk with somebody, until three seconds after the last message or key, transfers slow down as far as \
messages need it, never below 50 MB/s.

In a container or behind a router, forward a UDP port and name it with --announce. For an address beyond the local \
network, whoever runs the tracker allows that: `tracker --allow-announce 192.0.2.0/24`.

If a copy of this account is online on another machine, `peer serve` takes over here. `peer -v serve` says when \
the system's UDP buffer is small, and the `sysctl` line that helps.",
};

/// Go online: share files and receive messages.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct ServeArgs {
    /// The UDP port, 1024 or above [default: the one of last time, else any].
    #[arg(long, value_parser = clap::value_parser!(u16).range(i64::from(MIN_PEER_PORT)..))]
    port: Option<u16>,
    /// Where others reach this machine instead of at its own addresses: a port of the router or container host that is
    /// forwarded to --port. An address beyond the local network has to be allowed by the tracker.
    #[arg(long, value_name = "[IP:]PORT", value_parser = parse_announced_address)]
    announce: Option<PortForwarding>,
    /// Send at most this many bytes a second, to all together (10M, 500k, 10 MB/s).
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    limit: Option<u64>,
    /// Send at most this many bytes a second to each peer.
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    limit_per_peer: Option<u64>,
    /// Threads that encrypt and send for several at once [default: half of the cores from four on, at most 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=32), hide_short_help = true)]
    threads: Option<u8>,
}

pub(super) async fn run(context: &CommandContext, args: ServeArgs) -> Result<(), Error> {
    let driver_threads = args.threads.map_or_else(threads_for_this_machine, usize::from);
    let place = ListenConfig { port: args.port, forwarded: args.announce, driver_threads };
    let limits = UploadLimits { total: args.limit, per_peer: args.limit_per_peer };
    let me = context.me(Access::Use)?;
    let events = EventBus::new();
    // Before the node starts, so that its first events are not missed.
    let (incoming, conversations) = (events.subscribe(), events.conversations().clone());
    let guest_messages = events.clone();
    let started = tokio::select! {
        () = context.cancel.cancelled() => return Err(Error::Interrupted),
        started = start(context, &me, place, limits, events) => started?,
    };
    let Some(node) = started else { return Ok(()) };
    if let Some(hook) = me.profile.message_hook()? {
        context.output.note(&tr!("each message that comes runs {command}", command = safe_line(&hook.join(" "))));
    }
    let printer = EventPrinter::new(context.output.clone(), me.clone(), conversations);
    let mut told = spawn_event_printer(context.output.clone(), me.clone(), printer, incoming)?;
    let stop = node.stop_token();
    let (host, link_requests) = link_host();
    node.core().set_link_host(host);
    let link_events = guest_message_forwarder(link_event_handler(&context.output, None)?, guest_messages);
    let link_stop = stop.child_token();
    let links = Box::pin(run_link_host(me.clone(), limits.total, link_events, link_requests, link_stop.clone()));
    let ended = {
        let running = async {
            // Dropped when the node has ended in whatever way: nothing else ends the server of links.
            let _links_end = link_stop.drop_guard();
            node.run().await
        };
        let running = async { tokio::join!(running, links).0 };
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

/// Returns a handler that makes messages of guests events of the node, by which everybody learns of them.
fn guest_message_forwarder(others: LinkEventHandler, node_events: EventBus) -> LinkEventHandler {
    Arc::new(move |event| match event {
        LinkEvent::Written { post, .. } => node_events.send(NodeEvent::GuestMessage(post)),
        event => others(event),
    })
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
            // Again and again: another process may start one between the end of the last and this start.
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
    let Some(node) = NodeClient::connect(&me.profile).await? else { return Ok(TakeoverOutcome::NodeEnded) };
    let status = node.status().await?;
    let pid = status.pid;
    match status.lifetime {
        NodeLifetime::View => {
            context.output.note(&tr!(
                "taking over from the window that was online as {user} (process {pid})",
                user = me.user,
                pid
            ));
            node.hand_over().await?;
        }
        // That command can't go on without its node: wait for its end instead of stopping it.
        NodeLifetime::Command => {
            context.output.note(&tr!("process {pid} keeps {user} online: waiting until it ends", pid, user = me.user));
        }
        NodeLifetime::Lasting if status.elsewhere.is_some() => {
            node.go_online().await?;
            let user = &me.user;
            context.output.note(&tr!("{user} goes online again on this machine (process {pid})", user, pid));
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
/// beyond the channel's capacity are lost and counted in a note. The thread ends with the channel. Fails if the thread
/// can't be started.
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
                        Ok(()) if incoming.is_empty() => std::thread::sleep(PRINT_PAUSE),
                        Ok(()) => {}
                        Err(_) => break,
                    }
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    output.note(&tr!("({n} events were not shown)" | "({n} events were not shown)" % missed));
                }
                Err(broadcast::error::RecvError::Closed) => break,
            }
        }
        // Before the end is told: the process may end then, and the last handle of a profile puts its log away.
        drop((printer, me));
        // The receiver is gone if the drain timed out.
        let _ = is_over.send(());
    };
    std::thread::Builder::new().name("events".to_owned()).spawn(tell_all)?;
    Ok(over)
}

/// Parses `40000`, `192.0.2.7:40000` or `[2001:db8::7]:40000`.
fn parse_announced_address(text: &str) -> Result<PortForwarding, String> {
    let wrong = || {
        tr!(
            "{text} is neither PORT nor IP:PORT, such as 40000, 192.0.2.7:40000 or [2001:db8::7]:40000",
            text = format_args!("{text:?}")
        )
    };
    let (ip, port) = match text.parse::<SocketAddr>() {
        Ok(address) => (Some(address.ip()), address.port()),
        Err(_) => (None, text.parse().map_err(|_| wrong())?),
    };
    if ip.is_some_and(|ip| ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)) {
        return Err(tr!(
            "{text} is no address of one machine: say the one at which others reach this one, or the port alone",
            text = format_args!("{text:?}")
        ));
    }
    let port = NonZeroU16::new(port).ok_or_else(wrong)?;
    if port.get() < MIN_PEER_PORT {
        return Err(tr!("nobody dials port {port}: forward one from {first} to 65535", port, first = MIN_PEER_PORT));
    }
    Ok(PortForwarding { ip, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwardings() {
        let port = NonZeroU16::new(40_000).unwrap();
        for (text, ip) in
            [("40000", None), ("192.0.2.7:40000", Some("192.0.2.7")), ("[2001:db8::7]:40000", Some("2001:db8::7"))]
        {
            assert_eq!(
                parse_announced_address(text),
                Ok(PortForwarding { ip: ip.map(|ip| ip.parse().unwrap()), port }),
                "{text}"
            );
        }
        let nobodys = ["0.0.0.0:1", "[::]:1", "224.0.0.251:1", "[ff02::1]:1", "255.255.255.255:1"];
        for wrong in
            ["", "0", "1023", "65536", "192.0.2.7", "192.0.2.7:0", "host:1", "1:2:3"].into_iter().chain(nobodys)
        {
            assert!(parse_announced_address(wrong).is_err(), "{wrong:?}");
        }
    }
}
