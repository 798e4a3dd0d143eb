//! Replies on their way: gathered, and written as long as the client takes them.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::service::{EncodedReply, LIST_END};

/// Replies gathered before they are written; lists longer than this are written from where they lie.
const FLUSH_BYTES: usize = 64 * 1024;
/// Kept for the next replies.
const KEPT_CAPACITY: usize = 4 * 1024;
/// The slowest pace at which a client may take a long reply, bytes a second.
const MIN_BYTES_PER_SECOND: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct ReplyWriter {
    pub(super) buffer: Vec<u8>,
    /// How long the client may take nothing.
    stall_timeout: Duration,
}

impl ReplyWriter {
    pub(super) const fn new(stall_timeout: Duration) -> Self {
        Self { buffer: Vec::new(), stall_timeout }
    }

    /// Gathers the reply, and writes when that is much.
    pub(super) async fn write_reply<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        reply: EncodedReply,
    ) -> io::Result<()> {
        match reply {
            EncodedReply::Line(line) => self.buffer.extend_from_slice(&line),
            EncodedReply::List { head, fields } => {
                self.buffer.extend_from_slice(&head);
                let deadline = self.deadline(fields.iter().map(Bytes::len).sum());
                for part in fields.iter() {
                    if self.buffer.len() + part.len() > FLUSH_BYTES {
                        self.flush_until(stream, deadline).await?;
                        self.write_all(stream, part, deadline).await?;
                    } else {
                        self.buffer.extend_from_slice(part);
                    }
                }
                self.buffer.extend_from_slice(LIST_END);
            }
        }
        if self.buffer.len() >= FLUSH_BYTES { self.flush(stream).await } else { Ok(()) }
    }

    /// Writes what is gathered.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the client takes nothing, or too little, for too long.
    pub(super) async fn flush<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<()> {
        self.flush_until(stream, self.deadline(0)).await
    }

    async fn flush_until<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, deadline: Instant) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut gathered = std::mem::take(&mut self.buffer);
        self.write_all(stream, &gathered, deadline).await?;
        gathered.clear();
        gathered.shrink_to(KEPT_CAPACITY);
        self.buffer = gathered;
        Ok(())
    }

    async fn write_all<S>(&self, stream: &mut S, mut bytes: &[u8], deadline: Instant) -> io::Result<()>
    where
        S: AsyncWrite + Unpin,
    {
        while !bytes.is_empty() {
            let until = deadline.min(Instant::now() + self.stall_timeout);
            let count = timeout_at(until, stream.write(bytes)).await??;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(count..).unwrap_or_default();
        }
        timeout_at(deadline.min(Instant::now() + self.stall_timeout), stream.flush()).await?
    }

    /// Until when the client has to have taken what is gathered and `more` bytes.
    fn deadline(&self, more: usize) -> Instant {
        let extra = Duration::from_secs(((self.buffer.len() + more) / MIN_BYTES_PER_SECOND) as u64);
        Instant::now() + self.stall_timeout + extra
    }
}
