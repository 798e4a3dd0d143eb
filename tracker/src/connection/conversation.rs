//! Requests in, replies and events out, in order, until one side has enough.
//!
//! ```text
//!        ┌─────────────────────────────────────────────────────────────┐
//!        ▼                                                             │
//! answer all whole requests ─► due events ─► write ─► wait for bytes ──┤
//!        │                                               events ───────┘
//!        │ not JSON, too large                           end, stop, too slow, expelled
//!        └────────► one error line ─► closed ◄───────────────┘
//! ```

use std::io;
use std::time::Duration;

use bytes::Bytes;
use shared::json_scanner::{Objects, ScanError};
use shared::limits::{REQUEST_BYTES_AFTER_LOGIN, REQUEST_BYTES_BEFORE_LOGIN};
use shared::tracker::{ErrorCode, Refusal, encode_error};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::budget::Share;
use super::{LAST_MOMENT, Patience};
use crate::registry::SessionId;
use crate::service::{Client, LIST_END, Reply};

/// Replies gathered before they are written; lists longer than this are written from where they lie.
const GATHERED: usize = 64 * 1024;
/// Read at once, at first and while little comes.
const READ_LITTLE: usize = 4 * 1024;
/// Read at once while much comes.
const READ_MUCH: usize = 64 * 1024;
/// When to try again after there was none.
const BUSY_RETRY_MS: u64 = 2000;
/// The slowest pace at which a client may take a long reply, bytes a second.
const SLOWEST_PACE: usize = 64 * 1024;

pub(super) struct Conversation<S> {
    stream: S,
    client: Client,
    objects: Objects,
    /// Of the memory for long requests.
    share: Share,
    patience: Patience,
    stop: CancellationToken,
    events: watch::Receiver<u64>,
    expulsions: watch::Receiver<SessionId>,
    out: Vec<u8>,
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
    End,
    Stop,
    TooSlow,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    pub(super) async fn run(mut self) -> io::Result<()> {
        loop {
            if let Err(error) = self.answer_all().await? {
                return self.last_word(&scan_refusal(error)).await;
            }
            while self.client.is_subscribed() && self.push_events() {
                self.flush().await?;
            }
            self.flush().await?;
            self.note_what_is_incomplete();
            if !self.has_room().await {
                let refusal = Refusal::new(ErrorCode::Busy, "too many long requests are on their way");
                return self.last_word(&refusal).await;
            }
            match self.wait().await? {
                Heard::Bytes(count) => self.take(count),
                Heard::Events => {}
                Heard::End if self.objects.is_inside_object() => {
                    let refusal = Refusal::new(ErrorCode::BadJson, "the connection ended inside a JSON object");
                    return self.last_word(&refusal).await;
                }
                Heard::End => return self.stream.shutdown().await,
                Heard::Stop => return self.close().await,
                Heard::TooSlow if self.objects.is_inside_object() => {
                    let refusal = Refusal::new(ErrorCode::BadRequest, "the request took too long to arrive");
                    return self.last_word(&refusal).await;
                }
                Heard::TooSlow => return self.stream.shutdown().await,
            }
        }
    }

    /// Answers every whole request that is here; what can't be a request any more is handed back.
    async fn answer_all(&mut self) -> io::Result<Result<(), ScanError>> {
        loop {
            let text = match self.objects.next_object() {
                Ok(Some(text)) => text,
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            };
            let reply = self.client.answer(text).await;
            self.begun = None;
            self.quiet_since = Instant::now();
            self.put(reply).await?;
            if !self.is_trusted && self.client.has_logged_in() {
                self.trust();
            }
        }
    }

    async fn put(&mut self, reply: Reply) -> io::Result<()> {
        match reply {
            Reply::Line(line) => self.out.extend_from_slice(&line),
            Reply::List { head, fields } => {
                self.out.extend_from_slice(&head);
                let deadline = self.deadline(fields.iter().map(Bytes::len).sum());
                for part in fields.iter() {
                    if self.out.len() + part.len() > GATHERED {
                        self.flush_until(deadline).await?;
                        self.write_all(part, deadline).await?;
                    } else {
                        self.out.extend_from_slice(part);
                    }
                }
                self.out.extend_from_slice(LIST_END);
            }
        }
        if self.out.len() >= GATHERED { self.flush().await } else { Ok(()) }
    }

    /// Puts the events that are due into `out`; says whether there may be more.
    fn push_events(&mut self) -> bool {
        self.events.borrow_and_update();
        self.client.push_events(&mut self.out)
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.flush_until(self.deadline(0)).await
    }

    async fn flush_until(&mut self, deadline: Instant) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let mut out = std::mem::take(&mut self.out);
        self.write_all(&out, deadline).await?;
        out.clear();
        out.shrink_to(READ_LITTLE);
        self.out = out;
        Ok(())
    }

    async fn write_all(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout_at(deadline, write).await?
    }

    /// Until when the client has to have taken what is gathered and `more` bytes.
    fn deadline(&self, more: usize) -> Instant {
        let extra = Duration::from_secs(((self.out.len() + more) / SLOWEST_PACE) as u64);
        Instant::now() + self.patience.write + extra
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
        if !self.is_trusted && self.client.service().has_legacy_from(self.client.ip()) {
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
        let subscribed = self.client.is_subscribed();
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
                    info!(ip = %self.client.ip(), "closed: the administrator or another key ended its sessions");
                    return Ok(Heard::Stop);
                },
                // Bytes first: what is here when the tracker is told to stop is answered.
                read = self.stream.read(&mut self.input) => return heard(read),
                Ok(()) = self.events.changed(), if subscribed => return Ok(Heard::Events),
                () = self.stop.cancelled(), if self.last_moment.is_none() => {}
                () = sleep_until(self.last_moment.unwrap_or(deadline)) => {
                    return Ok(if self.last_moment.is_some() { Heard::Stop } else { Heard::TooSlow });
                }
            }
        }
    }

    fn take(&mut self, count: usize) {
        self.objects.extend(self.input.get(..count).unwrap_or_default());
        if count == self.input.len() && count < READ_MUCH {
            self.input.resize(count * 2, 0);
        } else if count < READ_LITTLE && self.input.len() > READ_LITTLE {
            self.input.truncate(READ_LITTLE);
            self.input.shrink_to_fit();
        }
    }

    async fn last_word(&mut self, refusal: &Refusal) -> io::Result<()> {
        info!(ip = %self.client.ip(), code = %refusal.code, "refused");
        self.client.service().metrics().answered(None, refusal.code.as_str(), Duration::ZERO);
        let retry_after_ms = (refusal.code == ErrorCode::Busy).then_some(BUSY_RETRY_MS);
        self.out.extend_from_slice(&encode_error(None, refusal, retry_after_ms));
        self.flush().await?;
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
        patience: Patience,
        stop: CancellationToken,
    ) -> Self {
        Self {
            stream,
            events: client.service().watch_events(),
            expulsions: client.service().watch_expulsions(),
            client,
            objects,
            share,
            patience,
            stop,
            out: Vec::new(),
            input: vec![0; READ_LITTLE],
            quiet_since: Instant::now(),
            begun: None,
            is_trusted: false,
            last_moment: None,
        }
    }
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

fn scan_refusal(error: ScanError) -> Refusal {
    let code = match error {
        ScanError::NotAnObject(_) | ScanError::NotUtf8 => ErrorCode::BadJson,
        ScanError::TooLarge { .. } | ScanError::TooDeep { .. } => ErrorCode::TooLarge,
    };
    Refusal::new(code, error.to_string())
}
