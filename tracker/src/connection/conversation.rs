//! The loop of one connection: requests in, replies and events out, in order, until one side ends it.
//!
//! ```text
//!        ┌─────────────────────────────────────────────────────────────┐
//!        ▼                                                             │
//! answer all whole requests ─► due events ─► write ─► wait for bytes ──┤
//!        │                                               events ───────┘
//!        │ not JSON, too large, refused too often        end, stop, too slow, revoked
//!        └────────► one error line ─► closed ◄───────────────┘
//! ```

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use shared::json_scanner::JsonScanner;
use shared::limits::{MAX_REQUEST_BYTES_AFTER_LOGIN, MAX_REQUEST_BYTES_BEFORE_LOGIN};
use shared::tracker::guess_dialect;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::close_reason::CloseReason;
use super::memory_quota::MemoryLease;
use super::reply_writer::ReplyWriter;
use super::{ConnectionTimeouts, STOP_GRACE};
use crate::connection_slots::{ConnectionSlot, SlotActivity, SlotsExhausted};
use crate::rate_limits::ClientOrigin;
use crate::registry::SessionId;
use crate::service::{ClientState, RefusalReason, TransportSecurity, encode_reason};

/// The read buffer of a connection with little traffic.
const MIN_READ_BUFFER: usize = 4 * 1024;
/// The read buffer while much arrives.
const MAX_READ_BUFFER: usize = 64 * 1024;
/// The time for which a subscriber whose sessions ended still hears why, where several trackers share the events.
const LAST_EVENT_PATIENCE: Duration = Duration::from_millis(300);
/// Advice to clients after no memory was free.
const BUSY_RETRY_MS: u64 = 2000;
/// Advice to clients after too many requests were refused.
const REFUSED_RETRY_MS: u64 = 10_000;

pub(super) struct Conversation<S> {
    stream: S,
    client: ClientState,
    objects: JsonScanner,
    /// Memory for long requests.
    memory_lease: MemoryLease,
    slot: ConnectionSlot,
    activity: Arc<SlotActivity>,
    /// The origin that the connection is counted for.
    from: ClientOrigin,
    timeouts: ConnectionTimeouts,
    stop: CancellationToken,
    events: watch::Receiver<u64>,
    revocations: watch::Receiver<SessionId>,
    replies: ReplyWriter,
    input: Vec<u8>,
    /// The time of the last answer, or of the connection's beginning.
    idle_since: Instant,
    /// The time at which the unfinished request began.
    request_began: Option<Instant>,
    /// Requests may be as long as after a login.
    allows_large_requests: bool,
    /// The end of the grace period, once the tracker stops.
    stop_deadline: Option<Instant>,
}

enum ConversationEvent {
    Bytes(usize),
    Events,
    MemoryReclaimed,
    End,
    Stop,
    SessionsRevoked,
    DeadlinePassed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    pub(super) async fn run(mut self) -> CloseReason {
        self.converse().await.unwrap_or_else(CloseReason::from)
    }

    async fn converse(&mut self) -> io::Result<CloseReason> {
        loop {
            if let Some(ending) = self.answer_whole_requests().await? {
                return Ok(ending);
            }
            // Written batch by batch: a backlog of events must not pile up in memory.
            while self.client.is_subscribed() && self.gather_events() {
                self.replies.flush(&mut self.stream).await?;
            }
            self.replies.flush(&mut self.stream).await?;
            // Before reading on: a long request must hold memory for what comes next.
            self.track_incomplete_request();
            if !self.reserve_memory().await {
                self.skip_request(&RefusalReason::TooManyLongRequests);
                continue;
            }
            match self.next_event().await? {
                ConversationEvent::Bytes(count) => self.receive_bytes(count),
                ConversationEvent::Events => {}
                ConversationEvent::MemoryReclaimed => self.skip_request(&RefusalReason::MemoryReclaimed),
                ConversationEvent::End if self.objects.is_inside_object() => {
                    self.send_final_error(&RefusalReason::TruncatedRequest, None).await?;
                    return Ok(CloseReason::NotARequest(RefusalReason::TruncatedRequest.code()));
                }
                ConversationEvent::End => {
                    // The client closed its side, so that no unread bytes are left to make a reset of this.
                    self.stream.shutdown().await?;
                    return Ok(CloseReason::Client);
                }
                ConversationEvent::Stop => {
                    self.close().await?;
                    return Ok(CloseReason::Stop);
                }
                ConversationEvent::SessionsRevoked => {
                    self.send_last_events().await?;
                    self.close().await?;
                    return Ok(CloseReason::SessionsRevoked);
                }
                ConversationEvent::DeadlinePassed if self.objects.is_inside_object() => {
                    self.send_final_error(&RefusalReason::SlowRequest, None).await?;
                    return Ok(CloseReason::SlowRequest);
                }
                // An idle client waits for no reply, so it gets no line that it could take for one.
                ConversationEvent::DeadlinePassed => {
                    self.stream.shutdown().await?;
                    return Ok(CloseReason::IdleTooLong);
                }
            }
        }
    }

    /// Answers every whole request in the buffer. Returns the reason if the connection must end.
    async fn answer_whole_requests(&mut self) -> io::Result<Option<CloseReason>> {
        loop {
            let object = match self.objects.next_object() {
                Ok(Some(object)) => object,
                Ok(None) => return Ok(None),
                Err(error) => {
                    let reason = RefusalReason::Scan(error);
                    self.send_final_error(&reason, None).await?;
                    return Ok(Some(CloseReason::NotARequest(reason.code())));
                }
            };
            // A connection that is being answered can't be evicted, and its long request can't lose its memory.
            self.activity.mark_busy();
            self.memory_lease.mark_complete();
            let reply = self.client.answer(object).await;
            self.request_began = None;
            self.idle_since = Instant::now();
            self.activity.mark_idle(self.idle_since.into_std());
            if !self.allows_large_requests && self.client.has_logged_in() {
                self.allow_large_requests();
            }
            // After each request: FORWARDED moves the slot to another origin, and a login reserves it there.
            if self.client.from() != self.from && self.move_to(self.client.from()).is_err() {
                self.send_final_error(&RefusalReason::NoConnectionSlot, Some(BUSY_RETRY_MS)).await?;
                return Ok(Some(CloseReason::NoConnectionSlot));
            }
            if let Some(user) = self.client.latest_user() {
                self.slot.reserve_for(user);
            }
            self.replies.write_reply(&mut self.stream, reply).await?;
            if self.client.transport() == TransportSecurity::Plain {
                // The exercise's clients read once for each reply, and parse what that read returned.
                self.replies.flush(&mut self.stream).await?;
            }
            if self.client.refusals().is_over_limit() {
                self.send_final_error(&RefusalReason::RefusedTooOften, Some(REFUSED_RETRY_MS)).await?;
                return Ok(Some(CloseReason::RefusedTooOften));
            }
            // Written before the pause: the client is to see its refusals.
            if let Some(pause) = self.client.refusals().pause() {
                self.replies.flush(&mut self.stream).await?;
                tokio::select! {
                    () = sleep(pause) => {}
                    () = self.stop.cancelled() => {}
                }
            }
        }
    }

    /// Counts the connection for another origin.
    fn move_to(&mut self, from: ClientOrigin) -> Result<(), SlotsExhausted> {
        self.from = from;
        self.memory_lease.move_to(from);
        self.slot.move_to(from)
    }

    /// Adds due events to the buffered replies. Returns whether there may be more.
    fn gather_events(&mut self) -> bool {
        // Marked as seen before the events are read: those that come in between wake the next wait.
        self.events.borrow_and_update();
        self.client.push_events(&mut self.replies.buffer)
    }

    /// Tells a subscriber the reason for the end: a `key_changed` event. Requests are no longer answered.
    async fn send_last_events(&mut self) -> io::Result<()> {
        let until = Instant::now() + if self.client.hears_late() { LAST_EVENT_PATIENCE } else { Duration::ZERO };
        loop {
            self.gather_events();
            self.replies.flush(&mut self.stream).await?;
            // Looked at first: others' events may come without end.
            if until <= Instant::now() || !matches!(timeout_at(until, self.events.changed()).await, Ok(Ok(()))) {
                return Ok(());
            }
        }
    }

    fn track_incomplete_request(&mut self) {
        if !self.objects.is_inside_object() {
            self.request_began = None;
            return;
        }
        if self.request_began.is_some() {
            return;
        }
        self.request_began = Some(Instant::now());
        // A client of the exercise may log in on one connection and send its list of files on another.
        if !self.allows_large_requests && self.client.service().has_legacy_from(self.client.from()) {
            self.allow_large_requests();
        }
    }

    /// Waits for memory for the rest of the unfinished request. Returns false when none becomes free in time.
    async fn reserve_memory(&mut self) -> bool {
        let held = self.objects.len();
        // Short requests need none: the fixed buffers of each connection hold them.
        let needed = if held > MAX_REQUEST_BYTES_BEFORE_LOGIN { held + MAX_READ_BUFFER } else { 0 };
        // Biased: shrinking is immediate, and must happen even while the tracker stops.
        tokio::select! {
            biased;
            () = self.memory_lease.resize(needed) => true,
            () = sleep(self.timeouts.memory_wait) => false,
            () = self.stop.cancelled() => false,
        }
    }

    /// Refuses the unfinished request; the rest of it is skipped as it arrives.
    fn skip_request(&mut self, reason: &RefusalReason) {
        if !self.objects.is_inside_object() {
            return;
        }
        // While its beginning is still held: to skip it drops what has arrived.
        self.detect_dialect();
        // The connection stays usable: the scanner finds the end of the object.
        self.objects.skip_object();
        self.client.record_refused(None, reason.code(), Duration::ZERO);
        let line = encode_reason(self.client.dialect(), None, reason, Some(BUSY_RETRY_MS));
        self.replies.buffer.extend_from_slice(&line);
    }

    /// Takes the dialect of an unreadable request from its beginning.
    fn detect_dialect(&mut self) {
        if let Some(dialect) = guess_dialect(self.objects.pending()) {
            self.client.set_dialect(dialect);
        }
    }

    fn allow_large_requests(&mut self) {
        self.allows_large_requests = true;
        self.objects.set_limit(MAX_REQUEST_BYTES_AFTER_LOGIN);
    }

    async fn next_event(&mut self) -> io::Result<ConversationEvent> {
        let patience = &self.timeouts;
        let deadline = match self.request_began {
            Some(begun) => begun + if self.allows_large_requests { patience.large_request } else { patience.request },
            None if self.client.has_logged_in() => {
                self.idle_since + patience.idle_logged_in.max(self.client.service().legacy_lease())
            }
            None => self.idle_since + patience.idle,
        };
        let (subscribed, inside) = (self.client.is_subscribed(), self.objects.is_inside_object());
        loop {
            // Set once: bytes that keep arriving don't prolong the grace period.
            if self.stop_deadline.is_none() && self.stop.is_cancelled() {
                self.stop_deadline = Some(Instant::now() + STOP_GRACE);
            }
            if self.stop_deadline.is_some_and(|moment| moment <= Instant::now()) {
                return Ok(ConversationEvent::Stop);
            }
            // The order matters: nothing of a revoked session is answered any more, and bytes come before the stop.
            tokio::select! {
                biased;
                Ok(()) = self.revocations.changed() => if self.client.is_revoked() {
                    return Ok(ConversationEvent::SessionsRevoked);
                },
                // Bytes before the stop: requests that arrived before it are answered.
                read = read_available(&mut self.stream, &mut self.input, inside) => return read_event(read),
                () = self.memory_lease.wait_for_reclaim() => return Ok(ConversationEvent::MemoryReclaimed),
                Ok(()) = self.events.changed(), if subscribed => return Ok(ConversationEvent::Events),
                // Only until the deadline is set: a cancelled token stays ready, and the loop would spin.
                () = self.stop.cancelled(), if self.stop_deadline.is_none() => {}
                () = sleep_until(self.stop_deadline.unwrap_or(deadline)) => {
                    return Ok(if self.stop_deadline.is_some() { ConversationEvent::Stop } else { ConversationEvent::DeadlinePassed });
                }
            }
        }
    }

    fn receive_bytes(&mut self, count: usize) {
        self.memory_lease.record_arrival(count, Instant::now());
        self.objects.extend(self.input.get(..count).unwrap_or_default());
        // A full buffer suggests that more is waiting.
        if count == self.input.len() && count < MAX_READ_BUFFER {
            self.input.resize(count * 2, 0);
        }
    }

    async fn send_final_error(&mut self, reason: &RefusalReason, retry_after_ms: Option<u64>) -> io::Result<()> {
        self.detect_dialect();
        self.client.service().metrics().record_request(None, reason.code().as_str(), Duration::ZERO);
        let line = encode_reason(self.client.dialect(), None, reason, retry_after_ms);
        self.replies.buffer.extend_from_slice(&line);
        self.replies.flush(&mut self.stream).await?;
        self.close().await
    }

    /// Closes our side and waits for the client to close its own. Closing a socket with unread bytes makes the kernel
    /// send a reset, and the client might lose the last replies.
    async fn close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let until = Instant::now() + self.timeouts.linger;
        while let Ok(Ok(1..)) = timeout_at(until, self.stream.read(&mut self.input)).await {}
        Ok(())
    }
}

impl<S> Conversation<S> {
    pub(super) fn new(
        stream: S,
        client: ClientState,
        objects: JsonScanner,
        memory_lease: MemoryLease,
        slot: ConnectionSlot,
        timeouts: ConnectionTimeouts,
        stop: CancellationToken,
    ) -> Self {
        Self {
            stream,
            events: client.service().watch_events(),
            revocations: client.service().watch_revocations(),
            from: client.from(),
            client,
            objects,
            memory_lease,
            activity: slot.activity(),
            slot,
            timeouts,
            stop,
            replies: ReplyWriter::new(timeouts.stalled_write),
            input: vec![0; MIN_READ_BUFFER],
            idle_since: Instant::now(),
            request_began: None,
            allows_large_requests: false,
            stop_deadline: None,
        }
    }
}

/// Reads what is available. While a connection waits outside a request, its buffer shrinks to the minimum.
async fn read_available<S: AsyncRead + Unpin>(stream: &mut S, input: &mut Vec<u8>, inside: bool) -> io::Result<usize> {
    poll_fn(|context| {
        let mut buffer = ReadBuf::new(input);
        match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
            Poll::Ready(read) => Poll::Ready(read.map(|()| buffer.filled().len())),
            Poll::Pending => {
                if !inside && input.len() > MIN_READ_BUFFER {
                    *input = vec![0; MIN_READ_BUFFER];
                }
                Poll::Pending
            }
        }
    })
    .await
}

fn read_event(read: io::Result<usize>) -> io::Result<ConversationEvent> {
    match read {
        Ok(0) => Ok(ConversationEvent::End),
        Ok(count) => Ok(ConversationEvent::Bytes(count)),
        // A TLS client that closed without `close_notify`: no request is lost by it, so it counts as an ordinary end.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(ConversationEvent::End),
        Err(error) => Err(error),
    }
}
