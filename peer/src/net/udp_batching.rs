//! A UDP socket that sends as much per system call as the kernel takes, whatever the path's MTU.
//!
//! quinn hands over up to ten segments of one size at a time. That fits neither of two cases. Of Ethernet-sized
//! packets the kernel takes four times as many per call, and passes them through its stack as one. Of loopback's large
//! packets, ten exceed the largest UDP payload, and such a call fails without a visible error. So transmits from quinn
//! are merged or split here; the segments themselves don't change.
//!
//! Over a veth pair, merging reduced the sender's CPU time from 1.47 to 1.25 s per GiB.
//!
//! Merged segments wait only while the sending task still has work to do: [`BatchingRuntime`] flushes them before the
//! task sleeps.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, UdpPoller};

use super::amplification_limit::AmplificationLimiter;
use super::driver_threads::{DriverThreads, current_place};
use super::moved_callers::MovedCallers;

/// The largest UDP payload over IPv4; with segmentation offload (GSO) the limit applies to the whole burst.
const MAX_BURST_BYTES: usize = 65_507;
/// Segments per call that every kernel with GSO takes (`UDP_MAX_SEGMENTS`).
const MAX_BURST_SEGMENTS: usize = 64;

/// A UDP socket that merges and splits bursts of segments.
#[derive(Debug)]
pub(super) struct BatchingSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// One for each thread that drives connections, by its place: in a common one, the packets of two connections would end
    /// each other's bursts.
    held: Box<[Mutex<SegmentBurst>]>,
    /// The number of segments per call, from the size of the last ones. More of them, produced by quinn at once, would
    /// leave the CPU's cache before they are sent.
    segments_per_call: AtomicUsize,
    /// Limits datagrams to addresses that haven't answered.
    amplification_limiter: Arc<AmplificationLimiter>,
    /// Where somebody may call from, those are who did.
    callers: Option<Arc<MovedCallers>>,
}

/// Segments to one address that wait to be sent.
#[derive(Debug)]
struct SegmentBurst {
    destination: SocketAddr,
    ecn: Option<EcnCodepoint>,
    src_ip: Option<IpAddr>,
    segment_size: usize,
    /// Only the last segment may be short; empty if nothing waits.
    bytes: Vec<u8>,
}

impl BatchingSocket {
    /// Wraps `inner` for the endpoint's own thread and `driver_threads` further ones.
    pub(super) fn new(
        inner: Arc<dyn AsyncUdpSocket>,
        driver_threads: usize,
        amplification_limiter: Arc<AmplificationLimiter>,
        callers: Option<Arc<MovedCallers>>,
    ) -> Self {
        let nowhere = SocketAddr::from(([0; 4], 0));
        let empty =
            || SegmentBurst { destination: nowhere, ecn: None, src_ip: None, segment_size: 0, bytes: Vec::new() };
        let held = (0..=driver_threads).map(|_| Mutex::new(empty())).collect();
        let segments_per_call = AtomicUsize::new(inner.max_transmit_segments());
        Self { inner, held, segments_per_call, amplification_limiter, callers }
    }

    /// Sends the burst that waits on this thread.
    fn flush(&self) -> io::Result<()> {
        self.send_held(&mut self.held())
    }

    fn held(&self) -> MutexGuard<'_, SegmentBurst> {
        let place = current_place();
        // A thread of another endpoint, or of none, has no burst of its own here.
        let own = self.held.get(place).unwrap_or(&self.held[0]);
        own.lock()
    }

    fn send_held(&self, held: &mut SegmentBurst) -> io::Result<()> {
        if !held.bytes.is_empty() {
            // Kept if it fails: the burst goes with the next call.
            self.inner.try_send(&held.transmit())?;
            held.bytes.clear();
        }
        Ok(())
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut held = self.held();
        let len = transmit.contents.len();
        // Full segments may be followed by more; a short one ends quinn's burst.
        let segment = transmit.segment_size.filter(|segment| *segment > 0);
        if let Some(segment) = segment {
            // At least two: with one segment per call, quinn would pass no segment size, and the value could
            // never rise again.
            self.segments_per_call.store((MAX_BURST_BYTES / segment).max(2), Ordering::Relaxed);
        }
        // Behind a burst of more than half the limit nothing of its size fits, so that waiting would gain nothing.
        let goes_on = segment.is_some_and(|segment| len.is_multiple_of(segment) && len * 2 <= MAX_BURST_BYTES);
        if !held.can_append(transmit) {
            self.send_held(&mut held)?;
            let Some(segment) = segment.filter(|_| goes_on) else {
                return match segment {
                    Some(segment) if len > MAX_BURST_BYTES => self.send_split(transmit, segment),
                    _ => self.inner.try_send(transmit),
                };
            };
            held.begin(transmit, segment);
        }
        held.bytes.extend_from_slice(transmit.contents);
        if goes_on && held.has_room_for(len) {
            return Ok(());
        }
        // The data counts as sent now. If the socket is full, it goes with the next call or when the socket
        // is writable.
        match self.send_held(&mut held) {
            Err(why) if why.kind() != io::ErrorKind::WouldBlock => Err(why),
            _ => Ok(()),
        }
    }

    fn send_split(&self, transmit: &Transmit<'_>, segment: usize) -> io::Result<()> {
        let burst = (MAX_BURST_BYTES / segment.max(1)).max(1) * segment;
        // If the socket fills up in the middle, quinn sends everything again; QUIC drops duplicates.
        transmit.contents.chunks(burst).try_for_each(|contents| {
            let segment_size = (contents.len() > segment).then_some(segment);
            let Transmit { destination, ecn, src_ip, .. } = *transmit;
            self.inner.try_send(&Transmit { destination, ecn, contents, segment_size, src_ip })
        })
    }
}

impl SegmentBurst {
    fn transmit(&self) -> Transmit<'_> {
        Transmit {
            destination: self.destination,
            ecn: self.ecn,
            contents: &self.bytes,
            segment_size: (self.bytes.len() > self.segment_size).then_some(self.segment_size),
            src_ip: self.src_ip,
        }
    }

    /// True if `transmit` can follow the waiting burst in the same call.
    fn can_append(&self, transmit: &Transmit<'_>) -> bool {
        let more = transmit.contents.len();
        let alike = match transmit.segment_size {
            Some(segment) => segment == self.segment_size,
            None => more <= self.segment_size,
        };
        let same_way =
            (self.destination, self.src_ip) == (transmit.destination, transmit.src_ip) && self.ecn == transmit.ecn;
        // In a GSO call, only the last segment may be short.
        let is_open = !self.bytes.is_empty() && self.bytes.len().is_multiple_of(self.segment_size);
        is_open && alike && same_way && self.has_room_for(more)
    }

    fn has_room_for(&self, more: usize) -> bool {
        let bytes = self.bytes.len() + more;
        bytes <= MAX_BURST_BYTES && bytes.div_ceil(self.segment_size.max(1)) <= MAX_BURST_SEGMENTS
    }

    fn begin(&mut self, transmit: &Transmit<'_>, segment_size: usize) {
        let Transmit { destination, ecn, src_ip, .. } = *transmit;
        (self.destination, self.ecn, self.src_ip, self.segment_size) = (destination, ecn, src_ip, segment_size);
    }
}

impl AsyncUdpSocket for BatchingSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let datagrams = transmit.segment_size.map_or(1, |segment| transmit.contents.len().div_ceil(segment.max(1)));
        if !self.amplification_limiter.may_send(transmit.destination, datagrams, Instant::now) {
            // Dropped silently: QUIC treats it as loss and retransmits.
            return Ok(());
        }
        // quinn sends again what a full socket didn't take, and it must not count twice.
        self.send(transmit).inspect_err(|_| self.amplification_limiter.undo_send(transmit.destination, datagrams))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = &received {
            meta.iter().take(*count).for_each(|datagram| self.amplification_limiter.note_received(datagram.addr));
            if let Some(callers) = &self.callers {
                let now = Instant::now();
                for datagram in meta.iter_mut().take(*count) {
                    if !callers.takes(datagram.addr, shortest(datagram), now) {
                        // quinn passes over an empty datagram; to take it out would mean to move all buffers behind
                        // it.
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
        // On loopback, ten packets of 32,000 bytes were cold in the cache before the fifth call sent the last.
        self.inner.max_transmit_segments().min(self.segments_per_call.load(Ordering::Relaxed))
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
    // GRO joins packets of one size only, of which the last may be shorter (udp(7)).
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
    /// The threads of the tasks that drive connections; not set before the endpoint's own driver is spawned.
    pub(super) driver_threads: OnceLock<Arc<DriverThreads>>,
}

impl<R: Runtime> Runtime for BatchingRuntime<R> {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        self.inner.new_timer(at)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let poller = self.socket.clone().create_io_poller();
        let wake_recorder =
            Arc::new(WakeRecorder { is_woken: AtomicBool::new(false), outer: Mutex::new(Waker::noop().clone()) });
        let waker = Waker::from(wake_recorder.clone());
        let task = FlushingTask { task, socket: self.socket.clone(), poller, wake_recorder, waker };
        match self.driver_threads.get().and_then(|threads| threads.next()) {
            // Owned by its endpoint, which ends it with the connection.
            Some(thread) => drop(thread.spawn(task)),
            None => self.inner.spawn(Box::pin(task)),
        }
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.inner.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }
}

/// A task that flushes the socket whenever it has nothing more to do.
struct FlushingTask {
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
    socket: Arc<BatchingSocket>,
    poller: Pin<Box<dyn UdpPoller>>,
    wake_recorder: Arc<WakeRecorder>,
    /// The waker of `wake_recorder`, which the inner task gets.
    waker: Waker,
}

/// A waker that records whether the task was woken, and wakes the outer task.
struct WakeRecorder {
    is_woken: AtomicBool,
    outer: Mutex<Waker>,
}

impl Future for FlushingTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { task, socket, poller, wake_recorder: again, waker } = &mut *self;
        // Stored before the poll, as the inner task may be woken while it runs.
        again.outer.lock().clone_from(cx.waker());
        again.is_woken.store(false, Ordering::Release);
        let polled = task.as_mut().poll(&mut Context::from_waker(waker));
        // The task has woken itself and will be polled again at once: more segments may follow.
        if polled.is_pending() && again.is_woken.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // Polling for writability registers the waker, so that a full socket wakes this task again.
        while socket.flush().is_err_and(|why| why.kind() == io::ErrorKind::WouldBlock) {
            match poller.as_mut().poll_writable(cx) {
                Poll::Ready(Ok(())) => {}
                // The task gets the socket's error from its own calls.
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        polled
    }
}

impl Wake for WakeRecorder {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.outer.lock().wake_by_ref();
    }
}

#[cfg(test)]
mod tests;
