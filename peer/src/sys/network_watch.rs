//! Changes of this machine's network: addresses, interfaces, routes, and waking up after sleep.

use std::io;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Between two looks at the clocks; a network that can't be watched is looked at as often.
const LOOK: Duration = Duration::from_secs(3);
/// The kernel tells of one change in several messages: that many are one when they come within this time.
const SETTLE: Duration = Duration::from_millis(200);
/// A network that never settles is looked at all the same, this often.
const SETTLE_AT_MOST: Duration = Duration::from_millis(800);
/// So much that the time of day is ahead of the time that passed means that the machine slept.
const SLEPT: Duration = Duration::from_secs(5);

/// The kinds of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkChange {
    /// Interfaces, addresses or routes may be others.
    Links,
    /// The machine slept: whatever was under way may be over for the other side.
    Slept,
}

/// Tells when something about the network may have changed.
#[derive(Debug)]
pub struct NetworkWatch {
    messages: Option<Messages>,
    /// A message was taken, and things may not have settled yet.
    is_unsettled: bool,
    looked: Looked,
}

/// The clocks at the last look.
#[derive(Debug, Clone, Copy)]
struct Looked {
    passed: Instant,
    of_day: SystemTime,
}

impl NetworkWatch {
    /// Begins to watch. Where the system tells of nothing, every look counts as a change.
    pub fn begin() -> Self {
        let messages = Messages::open();
        if let Err(why) = &messages {
            tracing::info!("changes of the network are looked for every {} s: {why}", LOOK.as_secs());
        }
        Self { messages: messages.ok(), is_unsettled: false, looked: Looked::now() }
    }

    /// Waits until something may have changed and things have settled. May be cancelled and called again: no change is lost
    /// with that.
    pub async fn changed(&mut self) -> NetworkChange {
        loop {
            if self.is_unsettled {
                self.settle().await;
                self.is_unsettled = false;
                return NetworkChange::Links;
            }
            let message = async {
                match &self.messages {
                    Some(messages) => messages.wait().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = message => self.is_unsettled = true,
                () = tokio::time::sleep_until(self.looked.passed + LOOK) => {
                    let before = std::mem::replace(&mut self.looked, Looked::now());
                    if self.looked.slept_since(before) {
                        return NetworkChange::Slept;
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
        let at_most = Instant::now() + SETTLE_AT_MOST;
        while Instant::now() < at_most && tokio::time::timeout(SETTLE, messages.wait()).await.is_ok() {}
    }
}

impl Looked {
    fn now() -> Self {
        Self { passed: Instant::now(), of_day: SystemTime::now() }
    }

    /// Whether the time of day went on while that of the timers stood still.
    fn slept_since(self, before: Self) -> bool {
        let passed = self.passed.saturating_duration_since(before.passed);
        let of_day = self.of_day.duration_since(before.of_day).unwrap_or_default();
        of_day > passed + SLEPT
    }
}

/// The kernel's messages on interfaces, addresses and routes. What they say isn't read: it is looked up.
///
/// A datagram socket like any other once it is bound, so it is used as the one kind of them that takes any descriptor.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Messages(tokio::net::UnixDatagram);

#[cfg(target_os = "linux")]
impl Messages {
    fn open() -> io::Result<Self> {
        use rustix::net::netlink::SocketAddrNetlink;
        use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
        // RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE (rtnetlink(7)).
        const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // No protocol is protocol 0, NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        tokio::net::UnixDatagram::from_std(socket.into()).map(Self)
    }

    /// Waits for a message and takes those that are there. May be cancelled and called again.
    async fn wait(&self) {
        /// Messages that are taken before others have their turn.
        const AT_ONCE: usize = 64;
        let mut buffer = [0_u8; 512];
        loop {
            if self.0.readable().await.is_err() {
                // The runtime is ending.
                return std::future::pending().await;
            }
            for taken in 0..AT_ONCE {
                match self.0.try_recv(&mut buffer) {
                    Ok(_) => {}
                    Err(why) if why.kind() == io::ErrorKind::WouldBlock && taken == 0 => break,
                    // Nothing more, or more than the kernel had room for (ENOBUFS): a change in any case.
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
#[derive(Debug)]
struct Messages;

#[cfg(not(target_os = "linux"))]
impl Messages {
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
        let before = Looked::now();
        let later = |passed, of_day| Looked {
            passed: before.passed + Duration::from_secs(passed),
            of_day: before.of_day + Duration::from_secs(of_day),
        };
        assert!(!later(3, 3).slept_since(before));
        assert!(later(3, 100).slept_since(before));
        // Stopped, not asleep: the timers went on, and so did everything that waits for them.
        assert!(!later(100, 100).slept_since(before));
        // A clock that was set back.
        let earlier = Looked { passed: before.passed, of_day: before.of_day - Duration::from_secs(1_000) };
        assert!(!earlier.slept_since(before));
    }

    #[tokio::test(start_paused = true)]
    async fn without_messages_every_look_counts() {
        let mut watch = NetworkWatch { messages: None, is_unsettled: false, looked: Looked::now() };
        let began = Instant::now();
        assert_eq!(watch.changed().await, NetworkChange::Links);
        assert_eq!(began.elapsed(), LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_again_and_again_loses_no_change() {
        let mut watch = NetworkWatch { messages: None, is_unsettled: false, looked: Looked::now() };
        let began = Instant::now();
        while tokio::time::timeout(LOOK / 5, watch.changed()).await.is_err() {
            assert!(began.elapsed() < LOOK * 2, "each look is put off by the one who asks");
        }
        watch.is_unsettled = true;
        let settled = tokio::time::timeout(Duration::from_millis(1), watch.changed());
        assert_eq!(settled.await, Ok(NetworkChange::Links));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_change_that_is_settling_is_not_forgotten() {
        let (ours, theirs) = tokio::net::UnixDatagram::pair().unwrap();
        let mut watch = NetworkWatch { messages: Some(Messages(ours)), is_unsettled: false, looked: Looked::now() };
        theirs.send(b"a change").await.unwrap();
        // Something else comes in between.
        assert!(tokio::time::timeout(SETTLE / 4, watch.changed()).await.is_err());
        let settled = tokio::time::timeout(SETTLE_AT_MOST * 2, watch.changed());
        assert_eq!(settled.await, Ok(NetworkChange::Links));
    }
}
