//! A thread that announces services and answers for them.

use std::io;
use std::thread::JoinHandle;
use std::time::Instant;

use tracing::debug;

use crate::responder::{AnnouncedService, Responder};
use crate::sockets::{REFRESH_INTERVAL, SocketChange, Sockets, StopHandle, StopSignal, stop_pair};

/// Services of one announcer; more are refused.
pub const MAX_SERVICES: usize = 8;

/// Services that are announced as long as this lives.
#[derive(Debug)]
pub struct Announcer {
    stop: Option<StopHandle>,
    thread: Option<JoinHandle<()>>,
}

impl Announcer {
    /// Begins to announce services on every interface, those that come later as well.
    ///
    /// # Errors
    /// When there are more services than [`MAX_SERVICES`], or no socket can be had on any interface.
    pub fn start(services: Vec<AnnouncedService>) -> io::Result<Self> {
        if services.len() > MAX_SERVICES {
            return Err(io::Error::other("there are too many services"));
        }
        let (sockets, changes) = Sockets::open()?;
        let (stop, signal) = stop_pair()?;
        let mut responder = Responder::new(services);
        apply(&mut responder, changes, Instant::now());
        let thread = std::thread::Builder::new().name("mdns".to_owned());
        let thread = thread.spawn(move || run(sockets, responder, &signal))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Says goodbye, and ends.
    pub fn end(mut self) {
        // To drop the handle is the signal, for which the thread waits.
        self.stop = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            debug!("the announcer ended by a panic");
        }
    }
}

fn run(mut sockets: Sockets, mut responder: Responder, stop: &StopSignal) {
    let mut refresh = Instant::now() + REFRESH_INTERVAL;
    loop {
        let now = Instant::now();
        if now >= refresh {
            apply(&mut responder, sockets.refresh(), now);
            refresh = now + REFRESH_INTERVAL;
        }
        for packet in responder.take_due(now) {
            sockets.send(&packet);
        }
        let wake = responder.next_due().map_or(refresh, |due| due.min(refresh));
        if !sockets.wait(stop, wake.saturating_duration_since(now)) {
            break;
        }
        // The wait may have taken seconds.
        let (mut replies, now) = (Vec::new(), Instant::now());
        sockets.receive(|key, source, packet| replies.extend(responder.receive(key, source, packet, now)));
        for reply in replies {
            sockets.send(&reply);
        }
    }
    for packet in responder.goodbye() {
        sockets.send(&packet);
    }
}

fn apply(responder: &mut Responder, changes: Vec<SocketChange>, now: Instant) {
    for change in changes {
        match change {
            SocketChange::Updated(key, addresses) => responder.set_socket(key, &addresses, now),
            SocketChange::Removed(key) => responder.remove_socket(key),
        }
    }
}
