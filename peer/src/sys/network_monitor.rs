//! Detection of changes of this machine's network: addresses, interfaces, routes, and waking from sleep.

use std::io;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Interval between comparisons of the clocks, and between reports of a network that can't be watched.
const POLL_INTERVAL: Duration = Duration::from_secs(3);
/// Messages within this time count as one change: the kernel reports one change by several.
const SETTLE_TIME: Duration = Duration::from_millis(200);
/// Longest wait for a network to settle.
const MAX_SETTLE_TIME: Duration = Duration::from_millis(800);
/// Advance of the wall clock over the monotonic one that proves sleep.
const MIN_SLEEP: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkChange {
    /// Interfaces, addresses or routes may have changed.
    Links,
    /// The machine slept. The other side may have ended all links meanwhile.
    Resumed,
}

/// A watch on the network.
#[derive(Debug)]
pub struct NetworkMonitor {
    messages: Option<NetworkMessages>,
    /// True after a message arrived and before the network settled.
    is_unsettled: bool,
    last_reading: ClockReading,
}

/// The two clocks at one time.
#[derive(Debug, Clone, Copy)]
struct ClockReading {
    monotonic: Instant,
    wall_clock: SystemTime,
}

impl NetworkMonitor {
    /// Starts the watch. If the system reports no changes, every interval counts as one.
    pub fn start() -> Self {
        let messages = NetworkMessages::open();
        if let Err(why) = &messages {
            tracing::info!("changes of the network are looked for every {} s: {why}", POLL_INTERVAL.as_secs());
        }
        Self { messages: messages.ok(), is_unsettled: false, last_reading: ClockReading::now() }
    }

    /// Waits until the network may have changed and has settled. Cancel safe: the next call reports a change that this
    /// one noticed.
    pub async fn changed(&mut self) -> NetworkChange {
        loop {
            if self.is_unsettled {
                self.settle().await;
                self.is_unsettled = false;
                return NetworkChange::Links;
            }
            // The flag is set by `select!` and not in here, so that a message which was taken can't be lost.
            let message = async {
                match &self.messages {
                    Some(messages) => messages.wait().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = message => self.is_unsettled = true,
                // Counted from the last reading, so that frequent cancellation doesn't postpone it.
                () = tokio::time::sleep_until(self.last_reading.monotonic + POLL_INTERVAL) => {
                    let before = std::mem::replace(&mut self.last_reading, ClockReading::now());
                    if self.last_reading.slept_since(before) {
                        return NetworkChange::Resumed;
                    }
                    if self.messages.is_none() {
                        return NetworkChange::Links;
                    }
                }
            }
        }
    }

    async fn settle(&self) {
        let Some(messages) = &self.messages else { return };
        let at_most = Instant::now() + MAX_SETTLE_TIME;
        while Instant::now() < at_most && tokio::time::timeout(SETTLE_TIME, messages.wait()).await.is_ok() {}
    }
}

impl ClockReading {
    fn now() -> Self {
        Self { monotonic: Instant::now(), wall_clock: SystemTime::now() }
    }

    /// Returns true if the wall clock advanced while the monotonic clock stood still.
    fn slept_since(self, before: Self) -> bool {
        let passed = self.monotonic.saturating_duration_since(before.monotonic);
        let of_day = self.wall_clock.duration_since(before.wall_clock).unwrap_or_default();
        // CLOCK_MONOTONIC, tokio's clock, doesn't advance during suspend (clock_gettime(2)).
        of_day > passed + MIN_SLEEP
    }
}

/// The kernel's messages about interfaces, addresses and routes. Their content isn't read: the caller looks at the
/// current state.
///
/// A netlink socket is a datagram socket once it is bound. tokio's `UnixDatagram` is its only datagram type that
/// accepts any descriptor.
#[derive(Debug)]
struct NetworkMessages(#[cfg(target_os = "linux")] tokio::net::UnixDatagram);

#[cfg(target_os = "linux")]
impl NetworkMessages {
    fn open() -> io::Result<Self> {
        use rustix::net::netlink::SocketAddrNetlink;
        use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
        // RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE (rtnetlink(7)).
        const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // `None` is protocol 0, which is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        tokio::net::UnixDatagram::from_std(socket.into()).map(Self)
    }

    /// Waits for a message and drains those that are queued. Cancel safe.
    async fn wait(&self) {
        /// Most messages drained before other tasks run.
        const AT_ONCE: usize = 64;
        // Longer messages are truncated, because their content isn't read.
        let mut buffer = [0_u8; 512];
        loop {
            if self.0.readable().await.is_err() {
                // The runtime is shutting down.
                return std::future::pending().await;
            }
            for taken in 0..AT_ONCE {
                match self.0.try_recv(&mut buffer) {
                    Ok(_) => {}
                    Err(why) if why.kind() == io::ErrorKind::WouldBlock && taken == 0 => break,
                    // The queue is empty, or overflowed (ENOBUFS): both mean a change.
                    Err(_) => return,
                }
                if taken + 1 == AT_ONCE {
                    return;
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl NetworkMessages {
    fn open() -> io::Result<Self> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    async fn wait(&self) {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_shows_in_the_clocks() {
        let before = ClockReading::now();
        let later = |passed, of_day| ClockReading {
            monotonic: before.monotonic + Duration::from_secs(passed),
            wall_clock: before.wall_clock + Duration::from_secs(of_day),
        };
        assert!(!later(3, 3).slept_since(before));
        assert!(later(3, 100).slept_since(before));
        // Stopped, not asleep: the timers went on, and so did everything that waits for them.
        assert!(!later(100, 100).slept_since(before));
        // A clock that was set back.
        let earlier =
            ClockReading { monotonic: before.monotonic, wall_clock: before.wall_clock - Duration::from_secs(1_000) };
        assert!(!earlier.slept_since(before));
    }

    #[tokio::test(start_paused = true)]
    async fn without_messages_every_look_counts() {
        let mut watch = NetworkMonitor { messages: None, is_unsettled: false, last_reading: ClockReading::now() };
        let began = Instant::now();
        assert_eq!(watch.changed().await, NetworkChange::Links);
        assert_eq!(began.elapsed(), POLL_INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_again_and_again_loses_no_change() {
        let mut watch = NetworkMonitor { messages: None, is_unsettled: false, last_reading: ClockReading::now() };
        let began = Instant::now();
        while tokio::time::timeout(POLL_INTERVAL / 5, watch.changed()).await.is_err() {
            assert!(began.elapsed() < POLL_INTERVAL * 2, "each look is put off by the one who asks");
        }
        watch.is_unsettled = true;
        let settled = tokio::time::timeout(Duration::from_millis(1), watch.changed());
        assert_eq!(settled.await, Ok(NetworkChange::Links));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn a_change_that_is_settling_is_not_forgotten() {
        let (ours, theirs) = tokio::net::UnixDatagram::pair().unwrap();
        let mut watch = NetworkMonitor {
            messages: Some(NetworkMessages(ours)),
            is_unsettled: false,
            last_reading: ClockReading::now(),
        };
        theirs.send(b"a change").await.unwrap();
        // Something else comes in between.
        assert!(tokio::time::timeout(SETTLE_TIME / 4, watch.changed()).await.is_err());
        let settled = tokio::time::timeout(MAX_SETTLE_TIME * 2, watch.changed());
        assert_eq!(settled.await, Ok(NetworkChange::Links));
    }
}
