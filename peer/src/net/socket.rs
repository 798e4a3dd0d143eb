//! A UDP socket that takes what quinn hands it, whatever the path's MTU.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// The largest UDP payload over IPv4; with segmentation offload the kernel counts the whole burst.
const MAX_BURST_BYTES: usize = 65_507;

/// Splits bursts of segments that are too large for one system call.
///
/// quinn puts up to ten segments into one call. Ten times the MTU of loopback or of a jumbo-frame network is more than
/// a UDP payload can be, and such a call fails without an error that anybody sees. The segments stay as they are; only
/// the calls are more.
#[derive(Debug)]
pub(super) struct SplittingSocket(pub(super) Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for SplittingSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.0.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(segment) = transmit.segment_size.filter(|_| transmit.contents.len() > MAX_BURST_BYTES) else {
            return self.0.try_send(transmit);
        };
        let burst = (MAX_BURST_BYTES / segment.max(1)).max(1) * segment;
        // If the socket is full in the middle, quinn sends all of it again: QUIC drops what came twice.
        transmit.contents.chunks(burst).try_for_each(|contents| {
            let segment_size = (contents.len() > segment).then_some(segment);
            self.0.try_send(&Transmit {
                destination: transmit.destination,
                ecn: transmit.ecn,
                contents,
                segment_size,
                src_ip: transmit.src_ip,
            })
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<(usize, Option<usize>)>>);

    impl AsyncUdpSocket for Recorder {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            unreachable!("nothing waits")
        }

        fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
            self.0.lock().unwrap().push((transmit.contents.len(), transmit.segment_size));
            Ok(())
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            _: &mut [IoSliceMut<'_>],
            _: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    proptest! {
        #[test]
        fn the_same_segments_in_calls_that_fit(segment in 1_200_usize..65_507, segments in 1_usize..=10, short in 0_usize..1_200) {
            let recorder = Arc::new(Recorder::default());
            let socket = SplittingSocket(recorder.clone());
            let contents = vec![0; segment * segments - short];
            socket.try_send(&Transmit {
                destination: ([127, 0, 0, 1], 1).into(),
                ecn: None,
                contents: &contents,
                segment_size: Some(segment),
                src_ip: None,
            }).unwrap();
            let calls = recorder.0.lock().unwrap().clone();
            prop_assert_eq!(calls.iter().map(|(len, _)| len).sum::<usize>(), contents.len());
            let datagrams: usize = calls.iter().map(|(len, size)| size.map_or(1, |size| len.div_ceil(size))).sum();
            prop_assert_eq!(datagrams, contents.len().div_ceil(segment));
            prop_assert!(calls.iter().all(|(len, _)| *len <= MAX_BURST_BYTES));
        }
    }
}
