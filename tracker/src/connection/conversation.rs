//! Requests in, replies and events out, in order, until one side has enough.
//!
//! ```text
//!        ┌─────────────────────────────────────────────────────────────┐
//!        ▼                                                             │
//! answer all whole requests ─► due events ─► write ─► wait for bytes ──┤
//!        │                                               events ───────┘
//!        │ not JSON, too large, refused too often        end, stop, too slow, expelled
//!        └────────► one error line ─► closed ◄───────────────┘
//! ```

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use shared::json_scanner::Objects;
use shared::limits::{REQUEST_BYTES_AFTER_LOGIN, REQUEST_BYTES_BEFORE_LOGIN};
use shared::tracker::seeming_dialect;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::budget::Share;
use super::ending::Ending;
use super::outgoing::Outgoing;
use super::{LAST_MOMENT, Patience};
use crate::limits::Origin;
use crate::places::{Full, Place, Seat};
use crate::registry::SessionId;
use crate::service::{Client, Reason, Transport, encode_reason};

/// Read at once, at first and while little comes.
const READ_LITTLE: usize = 4 * 1024;
/// Read at once while much comes.
const READ_MUCH: usize = 64 * 1024;
/// When to try again after there was no memory.
const BUSY_RETRY_MS: u64 = 2000;
/// When to try again after too many requests were refused.
const REFUSED_RETRY_MS: u64 = 10_000;

pub(super) struct Conversation<S> {
    stream: S,
    client: Client,
    objects: Objects,
    /// Of the memory for long requests.
    share: Share,
    place: Place,
    seat: Arc<Seat>,
    /// Where the connection is counted.
    from: Origin,
    patience: Patience,
    stop: CancellationToken,
    events: watch::Receiver<u64>,
    expulsions: watch::Receiver<SessionId>,
    outgoing: Outgoing,
    input: Vec<u8>,
    /// When the last request was answered, or the connection began.
    quiet_since: Instant,
    /// When the request that is incomplete began.
    begun: Option<Instant>,
    /// Whether requests may be as long as after a login.
    is_trusted: bool,
    /// Until when bytes are still taken, once the tracker stops.
    last_moment: Option<Instant>,
}

enum Heard {
    Bytes(usize),
    Events,
    GiveWay,
    End,
    Stop,
    Expelled,
    TooSlow,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    pub(super) async fn run(mut self) -> Ending {
        self.converse().await.unwrap_or_else(Ending::from)
    }

    async fn converse(&mut self) -> io::Result<Ending> {
        loop {
            if let Some(ending) = self.answer_all().await? {
                return Ok(ending);
            }
            while self.client.is_subscribed() && self.push_events() {
                self.outgoing.flush(&mut self.stream).await?;
            }
            self.outgoing.flush(&mut self.stream).await?;
            self.note_what_is_incomplete();
            if !self.has_room().await {
                self.skip(&Reason::ManyLongRequests);
                continue;
            }
            match self.wait().await? {
                Heard::Bytes(count) => self.take(count),
                Heard::Events => {}
                Heard::GiveWay => self.skip(&Reason::GaveWay),
                Heard::End if self.objects.is_inside_object() => {
                    self.last_word(&Reason::CutOff, None).await?;
                    return Ok(Ending::Refused(Reason::CutOff.code()));
                }
                Heard::End => {
                    self.stream.shutdown().await?;
                    return Ok(Ending::Client);
                }
                Heard::Stop => {
                    self.close().await?;
                    return Ok(Ending::Stop);
                }
                Heard::Expelled => {
                    // Why, if it listens: another key took the place of its own.
                    self.push_events();
                    self.outgoing.flush(&mut self.stream).await?;
                    self.close().await?;
                    return Ok(Ending::Expelled);
                }
                Heard::TooSlow if self.objects.is_inside_object() => {
                    self.last_word(&Reason::SlowRequest, None).await?;
                    return Ok(Ending::SlowRequest);
                }
                Heard::TooSlow => {
                    self.stream.shutdown().await?;
                    return Ok(Ending::Quiet);
                }
            }
        }
    }

    /// Answers every whole request that is here; says why, when no other can follow.
    async fn answer_all(&mut self) -> io::Result<Option<Ending>> {
        loop {
            let object = match self.objects.next_object() {
                Ok(Some(object)) => object,
                Ok(None) => return Ok(None),
                Err(error) => {
                    let reason = Reason::Scan(error);
                    self.last_word(&reason, None).await?;
                    return Ok(Some(Ending::Refused(reason.code())));
                }
            };
            self.seat.answering();
            self.share.is_whole();
            let reply = self.client.answer(object).await;
            self.begun = None;
            self.quiet_since = Instant::now();
            self.seat.answered(self.quiet_since.into_std());
            if !self.is_trusted && self.client.has_logged_in() {
                self.trust();
            }
            if let Some(user) = self.client.known_as() {
                self.place.keep(user);
            }
            if self.client.from() != self.from && self.move_to(self.client.from()).is_err() {
                self.last_word(&Reason::NoPlace, Some(BUSY_RETRY_MS)).await?;
                return Ok(Some(Ending::NoPlace));
            }
            self.outgoing.put(&mut self.stream, reply).await?;
            if self.client.transport() == Transport::Plain {
                // The exercise's clients read a reply in one piece, and parse that.
                self.outgoing.flush(&mut self.stream).await?;
            }
            if self.client.refusals().is_too_often() {
                self.last_word(&Reason::RefusedTooOften, Some(REFUSED_RETRY_MS)).await?;
                return Ok(Some(Ending::RefusedTooOften));
            }
            if let Some(pause) = self.client.refusals().pause() {
                self.outgoing.flush(&mut self.stream).await?;
                tokio::select! {
                    () = sleep(pause) => {}
                    () = self.stop.cancelled() => {}
                }
            }
        }
    }

    /// Counts the connection for whom it turned out to be.
    fn move_to(&mut self, from: Origin) -> Result<(), Full> {
        self.from = from;
        self.share.move_to(from);
        self.place.move_to(from)
    }

    /// Puts the events that are due where replies are gathered; says whether there may be more.
    fn push_events(&mut self) -> bool {
        self.events.borrow_and_update();
        self.client.push_events(&mut self.outgoing.gathered)
    }

    fn note_what_is_incomplete(&mut self) {
        if !self.objects.is_inside_object() {
            self.begun = None;
            return;
        }
        if self.begun.is_some() {
            return;
        }
        self.begun = Some(Instant::now());
        if !self.is_trusted && self.client.service().has_legacy_from(self.client.from()) {
            self.trust();
        }
    }

    /// Whether there is memory for the rest of the request that is incomplete, at once or soon.
    async fn has_room(&mut self) -> bool {
        let held = self.objects.len();
        let needed = if held > REQUEST_BYTES_BEFORE_LOGIN { held + READ_MUCH } else { 0 };
        tokio::select! {
            biased;
            () = self.share.fit(needed) => true,
            () = sleep(self.patience.room) => false,
            () = self.stop.cancelled() => false,
        }
    }

    /// The request that is incomplete is answered by this; the rest of it is not kept.
    fn skip(&mut self, reason: &Reason) {
        if !self.objects.is_inside_object() {
            return;
        }
        self.note_dialect();
        self.objects.skip_object();
        self.client.refused(None, reason.code(), Duration::ZERO);
        let line = encode_reason(self.client.dialect(), None, reason, Some(BUSY_RETRY_MS));
        self.outgoing.gathered.extend_from_slice(&line);
    }

    /// Has what can't be read answered in the dialect that it seems to be in.
    fn note_dialect(&mut self) {
        if let Some(dialect) = seeming_dialect(self.objects.pending()) {
            self.client.speaks(dialect);
        }
    }

    fn trust(&mut self) {
        self.is_trusted = true;
        self.objects.set_limit(REQUEST_BYTES_AFTER_LOGIN);
    }

    async fn wait(&mut self) -> io::Result<Heard> {
        let patience = &self.patience;
        let deadline = match self.begun {
            Some(begun) => begun + if self.is_trusted { patience.large_request } else { patience.request },
            None if self.client.has_logged_in() => {
                self.quiet_since + patience.idle_logged_in.max(self.client.service().legacy_lease())
            }
            None => self.quiet_since + patience.idle,
        };
        let (subscribed, inside) = (self.client.is_subscribed(), self.objects.is_inside_object());
        loop {
            if self.last_moment.is_none() && self.stop.is_cancelled() {
                self.last_moment = Some(Instant::now() + LAST_MOMENT);
            }
            if self.last_moment.is_some_and(|moment| moment <= Instant::now()) {
                return Ok(Heard::Stop);
            }
            tokio::select! {
                biased;
                Ok(()) = self.expulsions.changed() => if self.client.is_expelled() {
                    return Ok(Heard::Expelled);
                },
                // Bytes first: what is here when the tracker is told to stop is answered.
                read = read(&mut self.stream, &mut self.input, inside) => return heard(read),
                () = self.share.must_give_way() => return Ok(Heard::GiveWay),
                Ok(()) = self.events.changed(), if subscribed => return Ok(Heard::Events),
                () = self.stop.cancelled(), if self.last_moment.is_none() => {}
                () = sleep_until(self.last_moment.unwrap_or(deadline)) => {
                    return Ok(if self.last_moment.is_some() { Heard::Stop } else { Heard::TooSlow });
                }
            }
        }
    }

    fn take(&mut self, count: usize) {
        self.share.arrived(count, Instant::now());
        self.objects.extend(self.input.get(..count).unwrap_or_default());
        if count == self.input.len() && count < READ_MUCH {
            self.input.resize(count * 2, 0);
        }
    }

    async fn last_word(&mut self, reason: &Reason, retry_after_ms: Option<u64>) -> io::Result<()> {
        self.note_dialect();
        self.client.service().metrics().answered(None, reason.code().as_str(), Duration::ZERO);
        let line = encode_reason(self.client.dialect(), None, reason, retry_after_ms);
        self.outgoing.gathered.extend_from_slice(&line);
        self.outgoing.flush(&mut self.stream).await?;
        self.close().await
    }

    /// Ends our side and lets the client end its own: closing with bytes unread would reset the connection, and the
    /// client might never see the last replies.
    async fn close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let until = Instant::now() + self.patience.linger;
        while let Ok(Ok(1..)) = timeout_at(until, self.stream.read(&mut self.input)).await {}
        Ok(())
    }
}

impl<S> Conversation<S> {
    pub(super) fn new(
        stream: S,
        client: Client,
        objects: Objects,
        share: Share,
        place: Place,
        patience: Patience,
        stop: CancellationToken,
    ) -> Self {
        Self {
            stream,
            events: client.service().watch_events(),
            expulsions: client.service().watch_expulsions(),
            from: client.from(),
            client,
            objects,
            share,
            seat: place.seat(),
            place,
            patience,
            stop,
            outgoing: Outgoing::new(patience.write),
            input: vec![0; READ_LITTLE],
            quiet_since: Instant::now(),
            begun: None,
            is_trusted: false,
            last_moment: None,
        }
    }
}

/// Reads what is there. While there is nothing, whoever is not inside a request holds little memory.
async fn read<S: AsyncRead + Unpin>(stream: &mut S, input: &mut Vec<u8>, inside: bool) -> io::Result<usize> {
    poll_fn(|context| {
        let mut buffer = ReadBuf::new(input);
        match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
            Poll::Ready(read) => Poll::Ready(read.map(|()| buffer.filled().len())),
            Poll::Pending => {
                if !inside && input.len() > READ_LITTLE {
                    *input = vec![0; READ_LITTLE];
                }
                Poll::Pending
            }
        }
    })
    .await
}

fn heard(read: io::Result<usize>) -> io::Result<Heard> {
    match read {
        Ok(0) => Ok(Heard::End),
        Ok(count) => Ok(Heard::Bytes(count)),
        // TLS cut off without its goodbye: nothing that could be answered is lost.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Heard::End),
        Err(error) => Err(error),
    }
}
