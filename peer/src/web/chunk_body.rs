//! The body of a response whose chunks come one after another, such as events as they happen.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame};

/// What gives the chunks of a body.
pub(super) trait ChunkSource: Sized + Send + 'static {
    /// Waits for the next chunk; `None` at the end. A chunk without a source for those after it is the last one.
    fn next_chunk(self) -> impl Future<Output = Option<(Bytes, Option<Self>)>> + Send;
}

type NextChunk<S> = Pin<Box<dyn Future<Output = Option<(Bytes, Option<S>)>> + Send>>;

/// A body of chunks.
pub(super) struct ChunkBody<S> {
    /// `None` after the end.
    next: Option<NextChunk<S>>,
}

impl<S: ChunkSource> ChunkBody<S> {
    pub(super) fn new(source: S) -> Self {
        Self { next: Some(Box::pin(source.next_chunk())) }
    }
}

impl<S: ChunkSource> Body for ChunkBody<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = self.get_mut();
        let Some(next) = &mut body.next else { return Poll::Ready(None) };
        let Some((chunk, source)) = ready!(next.as_mut().poll(context)) else {
            body.next = None;
            return Poll::Ready(None);
        };
        body.next = source.map(|source| -> NextChunk<S> { Box::pin(source.next_chunk()) });
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}
