use proptest::prelude::*;

use super::*;

/// A recording socket: contents and segment size of each call. `full` tells which of the next calls are refused, the
/// last entry first.
#[derive(Debug, Default)]
struct Recorder {
    calls: Mutex<Vec<(Vec<u8>, Option<usize>)>>,
    full: Mutex<Vec<bool>>,
}

impl AsyncUdpSocket for Recorder {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.full.lock().pop().unwrap_or(false) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.calls.lock().push((transmit.contents.to_vec(), transmit.segment_size));
        Ok(())
    }

    fn poll_recv(&self, _: &mut Context<'_>, _: &mut [IoSliceMut<'_>], _: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[derive(Debug)]
struct Writable;

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Recorder {
    /// Returns the datagrams that were sent, by their first byte, and the number of calls.
    fn datagrams(&self) -> (Vec<(u8, usize)>, usize) {
        let calls = self.calls.lock();
        let cut = |(contents, segment): &(Vec<u8>, Option<usize>)| {
            assert!(contents.len() <= MAX_BURST_BYTES);
            let segment = segment.unwrap_or(contents.len());
            assert!(contents.len().div_ceil(segment) <= MAX_BURST_SEGMENTS);
            contents.chunks(segment).map(|datagram| (datagram[0], datagram.len())).collect::<Vec<_>>()
        };
        (calls.iter().flat_map(cut).collect(), calls.len())
    }
}

/// Sends `len` bytes of the value `mark` in segments of the given size, and repeats refused calls as quinn does.
fn send(socket: &BatchingSocket, port: u16, segment: usize, len: usize, mark: u8) {
    let contents = vec![mark; len];
    let segment_size = (len > segment).then_some(segment);
    let destination = ([127, 0, 0, 1], port).into();
    let transmit = Transmit { destination, ecn: None, contents: &contents, segment_size, src_ip: None };
    while let Err(why) = socket.try_send(&transmit) {
        assert_eq!(why.kind(), io::ErrorKind::WouldBlock);
    }
}

proptest! {
    #[test]
    fn every_datagram_goes_once_and_in_order_in_calls_that_fit(
        bursts in proptest::collection::vec((1_u16..3, 0_usize..3, 1_usize..=10, prop_oneof![Just(0), 0_usize..1_200]), 1..40),
        full in proptest::collection::vec(any::<bool>(), 0..20),
    ) {
        let recorder = Arc::new(Recorder { full: Mutex::new(full), ..Recorder::default() });
        let socket = BatchingSocket::new(recorder.clone(), 0, Arc::default(), None);
        let mut wanted = Vec::new();
        for ((port, size, segments, short), mark) in bursts.into_iter().zip(0..) {
            // Sizes that are merged and never split: a part refused in the middle may be sent twice.
            let segment = [1_200, 1_472, 3_000][size];
            let len = segment * segments - short.min(segment - 1);
            send(&socket, port, segment, len, mark);
            wanted.extend((0..segments).map(|no| (mark, segment.min(len - no * segment))));
        }
        while socket.flush().is_err() {}
        prop_assert_eq!(recorder.datagrams().0, wanted);
    }

    #[test]
    fn what_is_too_large_for_one_call_is_cut(segment in 6_551_usize..65_507, segments in 1_usize..=10, short in 0_usize..1_200) {
        let recorder = Arc::new(Recorder::default());
        let socket = BatchingSocket::new(recorder.clone(), 0, Arc::default(), None);
        send(&socket, 1, segment, segment * segments - short, 7);
        socket.flush().unwrap();
        let sent = recorder.datagrams().0;
        prop_assert_eq!(sent.len(), segments);
        prop_assert_eq!(sent.iter().map(|(_, len)| len).sum::<usize>(), segment * segments - short);
    }
}

#[test]
fn bursts_go_together_until_the_kernel_takes_no_more_and_a_short_one_ends_them() {
    let recorder = Arc::new(Recorder::default());
    let socket = BatchingSocket::new(recorder.clone(), 0, Arc::default(), None);
    for mark in 0..8 {
        send(&socket, 1, 1_472, 14_720, mark);
    }
    assert_eq!(recorder.datagrams().1, 2);
    send(&socket, 1, 1_472, 14_720, 8);
    send(&socket, 1, 1_472, 100, 9);
    assert_eq!(recorder.datagrams().1, 3);
    send(&socket, 1, 1_472, 100, 10);
    assert_eq!(recorder.datagrams().1, 4, "nothing waits for a datagram that comes alone");
    send(&socket, 1, 1_472, 14_720, 11);
    send(&socket, 2, 1_472, 14_720, 12);
    assert_eq!(recorder.datagrams().1, 5, "what goes elsewhere goes in another call");
}

/// A task that sends a burst per poll and wakes itself as often as it says.
struct SendingTask {
    socket: Arc<BatchingSocket>,
    goes_on: u8,
}

impl Future for SendingTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        send(&self.socket, 1, 1_472, 14_720, self.goes_on);
        if self.goes_on > 0 {
            cx.waker().wake_by_ref();
            self.goes_on -= 1;
        }
        Poll::Pending
    }
}

#[derive(Debug)]
struct Keeping(Arc<SpawnedTasks>);
type SpawnedTasks = Mutex<Vec<Task>>;
struct Task(Pin<Box<dyn Future<Output = ()> + Send>>);

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}

impl Runtime for Keeping {
    fn new_timer(&self, _: Instant) -> Pin<Box<dyn AsyncTimer>> {
        unreachable!("nothing waits")
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.lock().push(Task(task));
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[test]
fn a_task_that_has_no_more_to_do_holds_nothing_back() {
    let recorder = Arc::new(Recorder::default());
    let socket = Arc::new(BatchingSocket::new(recorder.clone(), 0, Arc::default(), None));
    let tasks = Arc::new(SpawnedTasks::default());
    let runtime =
        BatchingRuntime { inner: Keeping(tasks.clone()), socket: socket.clone(), driver_threads: OnceLock::new() };
    runtime.spawn(Box::pin(SendingTask { socket, goes_on: 2 }));
    let mut task = tasks.lock().pop().unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    for sent in [0, 0, 1] {
        recorder.full.lock().push(true);
        assert!(task.0.as_mut().poll(&mut cx).is_pending());
        assert_eq!(recorder.datagrams().1, sent);
    }
    assert_eq!(recorder.datagrams().0.len(), 30);
}
