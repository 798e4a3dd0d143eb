//! Asks for instances of the service, and hands on what is said of them.

use std::io;
use std::time::{Duration, Instant};

use crate::message::{Advertisement, Advertisements, parse_response, service_query};
use crate::sockets::{Outgoing, REFRESH_INTERVAL, SocketChange, SocketKey, Sockets, StopSignal};

/// Between the first question and the second; each further one waits twice as long (RFC 6762, 5.2).
const FIRST_QUERY_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time between two questions.
const MAX_QUERY_INTERVAL: Duration = Duration::from_secs(60);

/// Sockets on every interface that ask for instances of the service.
#[derive(Debug)]
pub struct Browser {
    sockets: Sockets,
}

/// What is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrowseEvent {
    /// Something was said of an instance, on the interface of this number.
    Advertised(Advertisement, u32),
    /// A packet had more instances than are looked at.
    CutOff,
}

impl Browser {
    /// Opens the sockets.
    ///
    /// # Errors
    /// When no socket can be had on any interface.
    pub fn open() -> io::Result<Self> {
        let (sockets, _) = Sockets::open()?;
        Ok(Self { sockets })
    }

    /// Asks and listens until the signal is given; an interface that comes later is asked as well.
    pub fn run(mut self, stop: &StopSignal, mut heard: impl FnMut(BrowseEvent)) {
        let mut refresh = Instant::now() + REFRESH_INTERVAL;
        let (mut query, mut interval) = (Instant::now(), FIRST_QUERY_INTERVAL);
        loop {
            let now = Instant::now();
            if now >= refresh {
                let changes = self.sockets.refresh();
                let new = changes.into_iter().filter_map(|change| match change {
                    SocketChange::Updated(key, _) => Some(key),
                    SocketChange::Removed(_) => None,
                });
                // The next question to all may be a minute away.
                self.ask(new);
                refresh = now + REFRESH_INTERVAL;
            }
            if now >= query {
                self.ask(self.sockets.keys().into_iter());
                query = now + interval;
                interval = (interval * 2).min(MAX_QUERY_INTERVAL);
            }
            if !self.sockets.wait(stop, query.min(refresh).saturating_duration_since(now)) {
                return;
            }
            self.sockets.receive(|SocketKey { interface, .. }, _, packet| {
                let Advertisements { list, is_cut_off } = parse_response(packet);
                list.into_iter().for_each(|one| heard(BrowseEvent::Advertised(one, interface)));
                if is_cut_off {
                    heard(BrowseEvent::CutOff);
                }
            });
        }
    }

    fn ask(&self, sockets: impl Iterator<Item = SocketKey>) {
        let Some(packet) = service_query() else { return };
        for socket in sockets {
            self.sockets.send(&Outgoing { socket, to: None, packet: packet.clone() });
        }
    }
}
