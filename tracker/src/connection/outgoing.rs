//! Replies on their way: gathered, and written as long as the client takes them.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::service::{LIST_END, Reply};

/// Replies gathered before they are written; lists longer than this are written from where they lie.
const GATHERED: usize = 64 * 1024;
/// Kept for the next replies.
const KEPT: usize = 4 * 1024;
/// The slowest pace at which a client may take a long reply, bytes a second.
const SLOWEST_PACE: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) gathered: Vec<u8>,
    /// How long the client may take nothing.
    stall: Duration,
}

impl Outgoing {
    pub(super) const fn new(stall: Duration) -> Self {
        Self { gathered: Vec::new(), stall }
    }

    /// Gathers the reply, and writes when that is much.
    pub(super) async fn put<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, reply: Reply) -> io::Result<()> {
        match reply {
            Reply::Line(line) => self.gathered.extend_from_slice(&line),
            Reply::List { head, fields } => {
                self.gathered.extend_from_slice(&head);
                let deadline = self.deadline(fields.iter().map(Bytes::len).sum());
                for part in fields.iter() {
                    if self.gathered.len() + part.len() > GATHERED {
                        self.flush_until(stream, deadline).await?;
                        self.write_all(stream, part, deadline).await?;
                    } else {
                        self.gathered.extend_from_slice(part);
                    }
                }
                self.gathered.extend_from_slice(LIST_END);
            }
        }
        if self.gathered.len() >= GATHERED { self.flush(stream).await } else { Ok(()) }
    }

    /// Writes what is gathered.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the client takes nothing, or too little, for too long.
    pub(super) async fn flush<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<()> {
        self.flush_until(stream, self.deadline(0)).await
    }

    async fn flush_until<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, deadline: Instant) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        self.write_all(stream, &gathered, deadline).await?;
        gathered.clear();
        gathered.shrink_to(KEPT);
        self.gathered = gathered;
        Ok(())
    }

    async fn write_all<S>(&self, stream: &mut S, mut bytes: &[u8], deadline: Instant) -> io::Result<()>
    where
        S: AsyncWrite + Unpin,
    {
        while !bytes.is_empty() {
            let until = deadline.min(Instant::now() + self.stall);
            let count = timeout_at(until, stream.write(bytes)).await??;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(count..).unwrap_or_default();
        }
        timeout_at(deadline.min(Instant::now() + self.stall), stream.flush()).await?
    }

    /// Until when the client has to have taken what is gathered and `more` bytes.
    fn deadline(&self, more: usize) -> Instant {
        let extra = Duration::from_secs(((self.gathered.len() + more) / SLOWEST_PACE) as u64);
        Instant::now() + self.stall + extra
    }
}
