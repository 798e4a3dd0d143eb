//! The server of a door: its port, its certificate, its sessions.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use certs::WebCertificate;
use tokio_util::sync::CancellationToken;

use super::door_routes::{DoorEntry, entry_routes};
use super::door_seats::DoorSeats;
use crate::engine::door::DoorAccounts;
use crate::engine::{Error, run_blocking};
use crate::web::address_limits::AddressLimits;
use crate::web::api::{ApiContext, SessionMode, api_router};
use crate::web::http_server::{HttpListener, PortChoice};
use crate::web::server_certificate::own_names;

/// The time between two looks for fetched files that are due.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
/// Connections at once: a browser has one for its events and a few more.
const CONNECTIONS: AddressLimits = AddressLimits { total: 1024, per_address: 64 };

/// What a door needs.
pub struct DoorServerConfig<'a> {
    /// Its accounts.
    pub accounts: DoorAccounts,
    /// Where it listens; port 0 for any.
    pub listen: SocketAddr,
    /// Its certificate; `None` for plain HTTP.
    pub certificate: Option<&'a WebCertificate>,
    /// The time for which an account stays online after its last browser left.
    pub stay: Duration,
}

/// A door that listens.
pub struct DoorServer {
    listener: HttpListener,
    context: Arc<ApiContext>,
    accounts: DoorAccounts,
    stay: Duration,
}

impl DoorServer {
    /// Listens.
    ///
    /// # Errors
    /// The reason why the port can't be had.
    pub fn bind(config: DoorServerConfig<'_>) -> Result<Self, Error> {
        let DoorServerConfig { accounts, listen, certificate, stay } = config;
        // All addresses of IPv4 are all of IPv6 as well where the system has both, as for links.
        let address = Some(listen.ip()).filter(|ip: &IpAddr| !ip.is_unspecified());
        let listener = HttpListener::bind(address, PortChoice::Only(listen.port()), certificate)?;
        let listener = listener.with_limits(CONNECTIONS);
        let (port, is_encrypted) = (listener.port(), certificate.is_some());
        let context =
            Arc::new(ApiContext::new(SessionMode::Door, port, is_encrypted, own_names()).hiding(accounts.folder()));
        Ok(Self { listener, context, accounts, stay })
    }

    /// Returns the port.
    pub const fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Serves until `stop` is cancelled, then ends all nodes in order.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, context, accounts, stay } = self;
        // With a token of its own: `stop` would end the seats beside the server, not after it.
        let seats = Arc::new(DoorSeats::new(context.clone(), stay, CancellationToken::new()));
        let sweeping = sweep_periodically(accounts.clone());
        let entry = Arc::new(DoorEntry::new(accounts, seats.clone()));
        // First the server, so that no call finds a node that is about to end.
        let serving = listener.serve(api_router(&context, entry_routes(entry)), stop);
        tokio::select! {
            () = serving => {}
            () = sweeping => {}
        }
        seats.end().await;
    }
}

/// Removes fetched files that are due, without end.
async fn sweep_periodically(accounts: DoorAccounts) {
    let mut looks = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        looks.tick().await;
        let accounts = accounts.clone();
        // What fails is tried again at the next look.
        let _ = run_blocking(move || {
            accounts.sweep_downloads();
            Ok(())
        })
        .await;
    }
}
