//! The server of links beside a node: it listens while there are links.

use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::link_event::LinkEventHandler;
use super::link_server::{LinkServer, LinkServerConfig};
use super::server_certificate::open_certificate;
use crate::engine::guest_links::{GuestLinks, LinkHostRequests, LinkService};
use crate::engine::{Error, LocalUser, now_ms, run_blocking};

/// The longest sleep until the next look: clocks jump.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// The time until the next look after one that failed, in milliseconds.
const RETRY_INTERVAL_MS: i64 = 60_000;

/// A server that runs, until it is dropped.
struct RunningServer {
    port: u16,
    _stop: DropGuard,
}

/// The links of a node and their server.
struct LinkHost {
    me: LocalUser,
    links: GuestLinks,
    rate: Option<u64>,
    events: LinkEventHandler,
    servers: TaskTracker,
    running: Option<RunningServer>,
}

/// Serves the links of a node until `stop` is cancelled. Whoever asks is told the port.
pub async fn run_link_host(
    me: LocalUser,
    rate: Option<u64>,
    events: LinkEventHandler,
    mut requests: LinkHostRequests,
    stop: CancellationToken,
) {
    let links = GuestLinks::new(me.profile.clone(), &me.identity, None);
    let links = links.with_chat_signal(requests.chat_signal().clone());
    let mut host = LinkHost { me, links, rate, events, servers: TaskTracker::new(), running: None };
    let mut next_end = host.look_and_log().await;
    while !stop.is_cancelled() {
        let sleep = next_end.map(|end| Duration::from_millis(u64::try_from(end - now_ms()).unwrap_or(0)));
        let expiry = async {
            match sleep {
                // A little later, so that the look finds it ended.
                Some(sleep) => tokio::time::sleep(sleep.min(LONGEST_SLEEP) + Duration::from_millis(10)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = expiry => next_end = host.look_and_log().await,
            request = requests.next() => {
                let Some(reply) = request else { break };
                let looked = host.look().await;
                // A look that failed says nothing new of the time.
                next_end = *looked.as_ref().unwrap_or(&next_end);
                let port = host.running.as_ref().map(|running| running.port);
                // Whoever asked may be gone.
                let _ = reply.send(looked.map(|_| LinkService { port }).map_err(|why| why.to_string()));
            }
        }
    }
    // Dropping it stops its server, for whose end the next lines wait.
    host.running = None;
    host.servers.close();
    host.servers.wait().await;
}

impl LinkHost {
    /// Begins or ends to serve, by the links there are; returns the time of the next end of one.
    async fn look(&mut self) -> Result<Option<i64>, Error> {
        let links = self.links.clone();
        let next_end = run_blocking(move || links.sweep()).await?;
        // One may have been revoked: its guests are told before the server ends.
        self.links.chat_signal().send(None);
        match (next_end, &self.running) {
            (None, _) => self.running = None,
            (Some(_), None) => self.running = Some(self.start().await?),
            (Some(_), Some(_)) => {}
        }
        Ok(next_end)
    }

    async fn look_and_log(&mut self) -> Option<i64> {
        self.look().await.unwrap_or_else(|why| {
            tracing::error!("links are not served: {why}; trying again in a minute");
            // Nobody else may ask for days.
            Some(now_ms() + RETRY_INTERVAL_MS)
        })
    }

    async fn start(&self) -> Result<RunningServer, Error> {
        let (profile, owner) = (self.me.profile.clone(), self.me.user.to_string());
        let opened = run_blocking(move || Ok((open_certificate(profile.home())?, profile.last_link_port()?)));
        let (certificate, last_port) = opened.await?;
        let server = LinkServer::bind(LinkServerConfig {
            links: self.links.clone(),
            owner,
            certificate: &certificate,
            port: None,
            last_port,
            rate: self.rate,
            events: self.events.clone(),
        })?;
        let (port, profile) = (server.port(), self.me.profile.clone());
        run_blocking(move || Ok(profile.set_last_link_port(port)?)).await?;
        let stop = CancellationToken::new();
        self.servers.spawn(server.run(stop.clone()));
        Ok(RunningServer { port, _stop: stop.drop_guard() })
    }
}
