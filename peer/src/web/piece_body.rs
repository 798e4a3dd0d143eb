//! Bodies of responses that are read from files: piece by piece on threads that may block, the next while one is sent.
//!
//! No thread waits for a slow guest: each piece is a job of its own.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use crate::engine::guest_links::GuestFileFault;
use crate::util::rate_limit::TokenBucket;

/// Sizes of a piece: with few bodies at once the throughput counts, with many the memory.
const LARGE_PIECE_BYTES: u64 = 256 << 10;
const SMALL_PIECE_BYTES: u64 = 64 << 10;
const FEW_BODIES: usize = 16;

/// A source of the pieces of a body.
pub(super) trait PieceSource: Send + 'static {
    /// Returns the next piece, never an empty one; `None` at the end. Blocks.
    fn next_piece(&mut self) -> Option<Result<Bytes, GuestFileFault>>;
}

/// What all bodies of a server share: their number and the rate of all together. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct BodyLimits {
    open: Arc<AtomicUsize>,
    rate: Option<Arc<Mutex<TokenBucket>>>,
}

type ReadOutcome<S> = (S, Option<Result<Bytes, GuestFileFault>>);

/// A body that is read from a source.
pub(super) struct PieceBody<S> {
    /// The read that runs ahead; `None` at the end.
    reading: Option<JoinHandle<ReadOutcome<S>>>,
    first: Option<Bytes>,
    remaining: u64,
    limits: BodyLimits,
    pause: Option<Pin<Box<Sleep>>>,
}

impl BodyLimits {
    /// Returns limits with a rate in bytes a second for all bodies together.
    pub(super) fn with_rate(per_second: Option<u64>) -> Self {
        let rate = per_second.map(|rate| Arc::new(Mutex::new(TokenBucket::new(rate, Instant::now()))));
        Self { open: Arc::default(), rate }
    }

    /// Returns the size of the pieces of a body that begins now.
    pub(super) fn piece_bytes(&self) -> u64 {
        // Relaxed: a number that is a little off changes the size of a piece, and nothing else.
        if self.open.load(Ordering::Relaxed) < FEW_BODIES { LARGE_PIECE_BYTES } else { SMALL_PIECE_BYTES }
    }
}

impl<S: PieceSource + Unpin> PieceBody<S> {
    /// Reads the first piece, so that a file that can't be given is known before the response begins. The body has
    /// `len` bytes.
    ///
    /// # Errors
    /// The fault of the first piece.
    pub(super) async fn begin(source: S, len: u64, limits: BodyLimits) -> Result<Self, GuestFileFault> {
        limits.open.fetch_add(1, Ordering::Relaxed);
        // Owns the count from here on.
        let mut body = Self { reading: None, first: None, remaining: len, limits, pause: None };
        // Of nothing as well: the file has to be there, and its delivery counts.
        let (source, piece) = read_next(source).await.map_err(|why| GuestFileFault::Unreadable(why.to_string()))?;
        if len == 0 {
            return piece.transpose().map(|_| body);
        }
        let piece = piece.ok_or(GuestFileFault::Changed)??;
        if (piece.len() as u64) < len {
            body.reading = Some(read_next(source));
        }
        body.first = Some(piece);
        Ok(body)
    }

    fn take_piece(&mut self, piece: &Bytes) -> Result<(), io::Error> {
        let len = piece.len() as u64;
        self.remaining = self.remaining.checked_sub(len).ok_or_else(|| io::Error::other("more than was announced"))?;
        if let Some(rate) = &self.limits.rate {
            let wait = rate.lock().consume(piece.len(), Instant::now());
            self.pause = (!wait.is_zero()).then(|| Box::pin(tokio::time::sleep(wait)));
        }
        Ok(())
    }
}

fn read_next<S: PieceSource>(mut source: S) -> JoinHandle<ReadOutcome<S>> {
    tokio::task::spawn_blocking(move || {
        let piece = source.next_piece();
        (source, piece)
    })
}

impl<S: PieceSource + Unpin> Body for PieceBody<S> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        if let Some(pause) = &mut body.pause {
            ready!(pause.as_mut().poll(context));
            body.pause = None;
        }
        if let Some(piece) = body.first.take() {
            return Poll::Ready(Some(body.take_piece(&piece).map(|()| Frame::data(piece))));
        }
        let Some(reading) = &mut body.reading else {
            // An early end is an error, so that the guest doesn't take it for the whole.
            let missing = || Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            return Poll::Ready((body.remaining > 0).then(missing));
        };
        let outcome = ready!(Pin::new(reading).poll(context));
        body.reading = None;
        let (source, piece) = match outcome {
            Ok(outcome) => outcome,
            Err(why) => return Poll::Ready(Some(Err(io::Error::other(why)))),
        };
        let frame = match piece {
            None => return Poll::Ready((body.remaining > 0).then(|| Err(io::ErrorKind::UnexpectedEof.into()))),
            Some(Err(fault)) => Err(io::Error::other(fault)),
            Some(Ok(piece)) => body.take_piece(&piece).map(|()| piece),
        };
        if frame.is_ok() && body.remaining > 0 {
            body.reading = Some(read_next(source));
        }
        Poll::Ready(Some(frame.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

impl<S> Drop for PieceBody<S> {
    fn drop(&mut self) {
        self.limits.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pieces(Vec<Result<Bytes, GuestFileFault>>);

    impl PieceSource for Pieces {
        fn next_piece(&mut self) -> Option<Result<Bytes, GuestFileFault>> {
            (!self.0.is_empty()).then(|| self.0.remove(0))
        }
    }

    async fn all(pieces: &[Result<&'static str, GuestFileFault>], len: u64) -> Result<(String, bool), GuestFileFault> {
        let pieces = pieces.iter().map(|piece| piece.clone().map(|text| Bytes::from_static(text.as_bytes()))).collect();
        let limits = BodyLimits::with_rate(Some(1_000_000_000));
        let mut body = PieceBody::begin(Pieces(pieces), len, limits.clone()).await?;
        assert_eq!((body.size_hint().exact(), limits.open.load(Ordering::Relaxed)), (Some(len), 1));
        let mut read = String::new();
        let ended = loop {
            match std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                Some(Ok(frame)) => read.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap()),
                Some(Err(_)) => break false,
                None => break true,
            }
        };
        drop(body);
        assert_eq!(limits.open.load(Ordering::Relaxed), 0);
        Ok((read, ended))
    }

    #[tokio::test]
    async fn a_body_has_what_was_announced_or_fails() {
        let whole = |text: &str| Ok((text.to_owned(), true));
        let broken = |text: &str| Ok((text.to_owned(), false));
        assert_eq!(all(&[], 0).await, whole(""));
        assert_eq!(all(&[Ok("abc")], 3).await, whole("abc"));
        assert_eq!(all(&[Ok("ab"), Ok("c")], 3).await, whole("abc"));
        assert_eq!(all(&[Ok("ab")], 3).await, broken("ab"));
        assert_eq!(all(&[Ok("ab"), Ok("cd")], 3).await, broken("ab"));
        assert_eq!(all(&[Ok("ab"), Err(GuestFileFault::Changed)], 3).await, broken("ab"));
        assert_eq!(all(&[Err(GuestFileFault::Gone)], 3).await, Err(GuestFileFault::Gone));
        assert_eq!(all(&[], 3).await, Err(GuestFileFault::Changed));
    }
}
