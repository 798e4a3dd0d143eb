//! The server of links for guests, over TLS, on all addresses of this machine.

use std::sync::Arc;

use axum::Router;
use certs::WebCertificate;
use tokio_util::sync::CancellationToken;

use super::guest_pages::PageFrame;
use super::http_server::{HttpListener, PortChoice};
use super::link_event::LinkEventHandler;
use super::link_routes::link_router;
use super::server_certificate::own_names;
use super::web_context::WebContext;
use crate::engine::Error;
use crate::engine::guest_links::GuestLinks;

/// The port that is tried first, so that it can be named to a firewall.
const USUAL_PORT: u16 = 8444;

/// What a server needs.
pub struct LinkServerConfig<'a> {
    /// The links that it serves.
    pub links: GuestLinks,
    /// The user whose they are.
    pub owner: String,
    /// Its certificate.
    pub certificate: &'a WebCertificate,
    /// The only port that it may have; `None` for any.
    pub port: Option<u16>,
    /// The port that it had last, which is tried first.
    pub last_port: Option<u16>,
    /// Bytes a second of all downloads together.
    pub rate: Option<u64>,
    /// Told of what happens.
    pub events: LinkEventHandler,
}

/// A server that listens.
pub struct LinkServer {
    listener: HttpListener,
    routes: Router,
}

impl LinkServer {
    /// Listens.
    ///
    /// # Errors
    /// The reason why the port can't be had.
    pub fn bind(config: LinkServerConfig<'_>) -> Result<Self, Error> {
        let usual = PortChoice::Usual { last: config.last_port, usual: USUAL_PORT };
        let ports = config.port.map_or(usual, PortChoice::Only);
        let listener = HttpListener::bind(None, ports, Some(config.certificate))?;
        let frame = PageFrame { owner: config.owner };
        let context = WebContext::new(config.links, frame, own_names(), config.rate, config.events);
        Ok(Self { listener, routes: link_router(Arc::new(context)) })
    }

    /// Returns the port.
    pub const fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Serves until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        self.listener.serve(self.routes, stop).await;
    }
}
