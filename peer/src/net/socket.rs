//! A UDP socket that sends as much in one system call as the kernel takes, whatever the path's MTU.
//!
//! quinn hands over up to ten segments of one size at a time. Of packets that fill an Ethernet frame the kernel takes four
//! times as many in one call, which then travel through it as one; of loopback's large packets ten are more than a
//! UDP payload can be, and such a call fails without an error that anybody sees. So what comes from quinn is gathered
//! here, or cut. The segments stay as they are; only the calls are others.
//!
//! What is gathered waits for more of the same only while the task that sends has more to do: [`BatchingRuntime`] sees
//! that its end is never held back.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, UdpPoller};

use super::moved_callers::MovedCallers;
use super::unanswered::Unanswered;

/// The largest UDP payload over IPv4; with segmentation offload the kernel counts the whole burst.
const MAX_BURST_BYTES: usize = 65_507;
/// Segments that every kernel with segmentation offload takes in one call (`UDP_MAX_SEGMENTS`).
const MAX_BURST_SEGMENTS: usize = 64;

/// Gathers and cuts bursts of segments to what one system call takes.
#[derive(Debug)]
pub(super) struct BatchingSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    held: Mutex<Burst>,
    /// Of the size of those that were sent last, how many fit one call: what quinn makes beyond that would grow cold in the
    /// cache before it is sent.
    fitting: AtomicUsize,
    /// The addresses that get little until they answer.
    unanswered: Arc<Unanswered>,
    /// Where somebody may call from, those are who did.
    callers: Option<Arc<MovedCallers>>,
}

/// Segments to one address that were not sent yet.
#[derive(Debug)]
struct Burst {
    destination: SocketAddr,
    ecn: Option<EcnCodepoint>,
    src_ip: Option<IpAddr>,
    segment: usize,
    /// Whole segments, but perhaps for the last; empty when nothing waits.
    bytes: Vec<u8>,
}

impl BatchingSocket {
    pub(super) fn new(
        inner: Arc<dyn AsyncUdpSocket>,
        unanswered: Arc<Unanswered>,
        callers: Option<Arc<MovedCallers>>,
    ) -> Self {
        let nowhere = SocketAddr::from(([0; 4], 0));
        let held = Burst { destination: nowhere, ecn: None, src_ip: None, segment: 0, bytes: Vec::new() };
        let fitting = AtomicUsize::new(inner.max_transmit_segments());
        Self { inner, held: Mutex::new(held), fitting, unanswered, callers }
    }

    /// Sends what waits.
    fn flush(&self) -> io::Result<()> {
        self.send_held(&mut self.held())
    }

    fn held(&self) -> MutexGuard<'_, Burst> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send_held(&self, held: &mut Burst) -> io::Result<()> {
        if !held.bytes.is_empty() {
            self.inner.try_send(&held.transmit())?;
            held.bytes.clear();
        }
        Ok(())
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut held = self.held();
        let len = transmit.contents.len();
        // Segments that are all whole may be followed by more; a short one ends what was to be sent.
        let segment = transmit.segment_size.filter(|segment| *segment > 0);
        if let Some(segment) = segment {
            // Never one alone: nothing would tell that smaller ones come again.
            self.fitting.store((MAX_BURST_BYTES / segment).max(2), Ordering::Relaxed);
        }
        let goes_on = segment.is_some_and(|segment| len.is_multiple_of(segment) && len * 2 <= MAX_BURST_BYTES);
        if !held.takes(transmit) {
            self.send_held(&mut held)?;
            let Some(segment) = segment.filter(|_| goes_on) else {
                return match segment {
                    Some(segment) if len > MAX_BURST_BYTES => self.send_in_pieces(transmit, segment),
                    _ => self.inner.try_send(transmit),
                };
            };
            held.begin(transmit, segment);
        }
        held.bytes.extend_from_slice(transmit.contents);
        if goes_on && held.has_room_for(len) {
            return Ok(());
        }
        // It is taken now; if the socket is full, it goes with whatever comes next, or when there is room.
        match self.send_held(&mut held) {
            Err(why) if why.kind() != io::ErrorKind::WouldBlock => Err(why),
            _ => Ok(()),
        }
    }

    fn send_in_pieces(&self, transmit: &Transmit<'_>, segment: usize) -> io::Result<()> {
        let burst = (MAX_BURST_BYTES / segment.max(1)).max(1) * segment;
        // If the socket is full in the middle, quinn sends all of it again: QUIC drops what came twice.
        transmit.contents.chunks(burst).try_for_each(|contents| {
            let segment_size = (contents.len() > segment).then_some(segment);
            let Transmit { destination, ecn, src_ip, .. } = *transmit;
            self.inner.try_send(&Transmit { destination, ecn, contents, segment_size, src_ip })
        })
    }
}

impl Burst {
    fn transmit(&self) -> Transmit<'_> {
        Transmit {
            destination: self.destination,
            ecn: self.ecn,
            contents: &self.bytes,
            segment_size: (self.bytes.len() > self.segment).then_some(self.segment),
            src_ip: self.src_ip,
        }
    }

    /// Whether `transmit` can go in the same call, behind what waits.
    fn takes(&self, transmit: &Transmit<'_>) -> bool {
        let more = transmit.contents.len();
        let alike = match transmit.segment_size {
            Some(segment) => segment == self.segment,
            None => more <= self.segment,
        };
        let same_way =
            (self.destination, self.src_ip) == (transmit.destination, transmit.src_ip) && self.ecn == transmit.ecn;
        // Only the last segment may be short.
        let is_open = !self.bytes.is_empty() && self.bytes.len().is_multiple_of(self.segment);
        is_open && alike && same_way && self.has_room_for(more)
    }

    fn has_room_for(&self, more: usize) -> bool {
        let bytes = self.bytes.len() + more;
        bytes <= MAX_BURST_BYTES && bytes.div_ceil(self.segment.max(1)) <= MAX_BURST_SEGMENTS
    }

    fn begin(&mut self, transmit: &Transmit<'_>, segment: usize) {
        let Transmit { destination, ecn, src_ip, .. } = *transmit;
        (self.destination, self.ecn, self.src_ip, self.segment) = (destination, ecn, src_ip, segment);
    }
}

impl AsyncUdpSocket for BatchingSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let datagrams = transmit.segment_size.map_or(1, |segment| transmit.contents.len().div_ceil(segment.max(1)));
        if !self.unanswered.may_send(transmit.destination, datagrams, Instant::now) {
            return Ok(());
        }
        self.send(transmit).inspect_err(|_| self.unanswered.not_sent(transmit.destination, datagrams))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = &received {
            meta.iter().take(*count).for_each(|datagram| self.unanswered.heard(datagram.addr));
            if let Some(callers) = &self.callers {
                let now = Instant::now();
                for datagram in meta.iter_mut().take(*count) {
                    if !callers.takes(datagram.addr, shortest(datagram), now) {
                        datagram.len = 0;
                    }
                }
            }
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments().min(self.fitting.load(Ordering::Relaxed))
    }

    fn max_receive_segments(&self) -> usize {
        // quinn multiplies this by the largest packet. Segments that the kernel puts together are one UDP payload at most, and
        // packets may be that large: it would be 134 MB of addresses, and with transparent huge pages as many of memory.
        1
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// Bytes of the shortest of the segments that the kernel put together.
const fn shortest(received: &RecvMeta) -> usize {
    match received.len.checked_rem(received.stride) {
        None | Some(0) => received.stride,
        Some(rest) => rest,
    }
}

/// A runtime whose tasks send what they gathered in a [`BatchingSocket`] before they wait for anything.
#[derive(Debug)]
pub(super) struct BatchingRuntime<R> {
    pub(super) inner: R,
    pub(super) socket: Arc<BatchingSocket>,
}

impl<R: Runtime> Runtime for BatchingRuntime<R> {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        self.inner.new_timer(at)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let poller = self.socket.clone().create_io_poller();
        let again = Arc::new(Again { woken: AtomicBool::new(false), outer: Mutex::new(Waker::noop().clone()) });
        let waker = Waker::from(again.clone());
        self.inner.spawn(Box::pin(Flushing { task, socket: self.socket.clone(), poller, again, waker }));
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.inner.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }
}

/// A task that sends; whenever it has no more to do for now, nothing of it waits in the socket.
struct Flushing {
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
    socket: Arc<BatchingSocket>,
    poller: Pin<Box<dyn UdpPoller>>,
    again: Arc<Again>,
    /// Of `again`.
    waker: Waker,
}

/// Notes whether a task was woken, and passes it on.
struct Again {
    woken: AtomicBool,
    outer: Mutex<Waker>,
}

impl Future for Flushing {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { task, socket, poller, again, waker } = &mut *self;
        again.outer.lock().unwrap_or_else(PoisonError::into_inner).clone_from(cx.waker());
        again.woken.store(false, Ordering::Release);
        let polled = task.as_mut().poll(&mut Context::from_waker(waker));
        if polled.is_pending() && again.woken.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        while socket.flush().is_err_and(|why| why.kind() == io::ErrorKind::WouldBlock) {
            match poller.as_mut().poll_writable(cx) {
                Poll::Ready(Ok(())) => {}
                // A socket that fails says so to the task itself.
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        polled
    }
}

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.outer.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }
}

#[cfg(test)]
mod tests;
