//! A buffer for replies, and deadlines for the client to take them.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::service::{EncodedReply, LIST_END};

/// Bytes buffered before they are written; longer parts of lists are written from the shared text.
const FLUSH_BYTES: usize = 64 * 1024;
/// Capacity kept for later replies.
const KEPT_CAPACITY: usize = 4 * 1024;
/// The slowest pace in bytes a second at which a client may take a long reply.
const MIN_BYTES_PER_SECOND: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct ReplyWriter {
    pub(super) buffer: Vec<u8>,
    /// The longest time without progress.
    stall_timeout: Duration,
}

impl ReplyWriter {
    pub(super) const fn new(stall_timeout: Duration) -> Self {
        Self { buffer: Vec::new(), stall_timeout }
    }

    /// Buffers a reply, and writes when the buffer is full.
    pub(super) async fn write_reply<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        reply: EncodedReply,
    ) -> io::Result<()> {
        match reply {
            EncodedReply::Line(line) => self.buffer.extend_from_slice(&line),
            EncodedReply::List { head, fields } => {
                self.buffer.extend_from_slice(&head);
                // One deadline for all parts: a slow reader would gain time with each of them.
                let deadline = self.deadline(fields.iter().map(Bytes::len).sum());
                for part in fields.iter() {
                    if self.buffer.len() + part.len() > FLUSH_BYTES {
                        // A long part belongs to the replies of many clients: it is written from there, without a
                        // copy.
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

    /// Writes the buffered replies. Fails with [`io::ErrorKind::TimedOut`] when the client takes nothing, or too
    /// little, for too long.
    pub(super) async fn flush<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<()> {
        self.flush_until(stream, self.deadline(0)).await
    }

    async fn flush_until<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, deadline: Instant) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        // On an error the replies are dropped: the connection ends.
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
            // Two deadlines: the whole reply has its pace, and each write must make progress.
            let until = deadline.min(Instant::now() + self.stall_timeout);
            let count = timeout_at(until, stream.write(bytes)).await??;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(count..).unwrap_or_default();
        }
        // TLS buffers records: without a flush the last one could stay behind.
        timeout_at(deadline.min(Instant::now() + self.stall_timeout), stream.flush()).await?
    }

    /// Returns the time by which the client must have taken the buffered replies and `more` bytes.
    fn deadline(&self, more: usize) -> Instant {
        let extra = Duration::from_secs(((self.buffer.len() + more) / MIN_BYTES_PER_SECOND) as u64);
        Instant::now() + self.stall_timeout + extra
    }
}
