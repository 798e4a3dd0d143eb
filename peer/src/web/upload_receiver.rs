//! The body of an upload on its way to the disk: gathered into writes, one after another.

use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::Body as HttpBody;

use super::upload_turns::UploadTurn;
use crate::engine::{Error, run_blocking};

/// The longest time without a byte.
pub(super) const READ_PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that are gathered for one write.
const WRITE_BYTES: usize = 256 << 10;

/// What takes the bytes of an upload. All its methods may block.
pub(super) trait UploadSink: Send + 'static {
    /// What is known of a complete file.
    type Placed: Send + 'static;
    /// The reason why bytes aren't taken.
    type Fault: From<Error> + Send + 'static;

    fn write_batch(&mut self, batch: &[Bytes]) -> Result<(), Self::Fault>;
    fn is_complete(&self) -> bool;
    fn written(&self) -> u64;
    fn finish(self) -> Result<Self::Placed, Self::Fault>;
}

/// The end of a body.
pub(super) enum ReceivedUpload<P> {
    /// The file is complete.
    Whole(P),
    /// The request ended within the file; so many bytes are here.
    Part(u64),
}

/// The reason why a body didn't come to its end.
pub(super) enum UploadBreak<F> {
    /// Another request goes on with the upload.
    Superseded,
    /// The connection broke off, or nothing came.
    BrokeOff,
    /// The bytes aren't taken.
    Refused(F),
}

/// Writes a body to a part, to its end.
pub(super) async fn receive_upload<S: UploadSink>(
    mut body: Body,
    mut sink: S,
    turn: UploadTurn,
) -> Result<ReceivedUpload<S::Placed>, UploadBreak<S::Fault>> {
    let superseded = turn.superseded.clone();
    // The turn goes along with the sink: should this request be dropped while a write runs, it ends after that.
    let mut turn = Some(turn);
    loop {
        let (batch, end) = tokio::select! {
            batch = next_batch(&mut body) => batch,
            // What is gathered and not written goes with it: the next request is told where the part ends.
            () = superseded.cancelled() => return Err(UploadBreak::Superseded),
        };
        let held = turn.take();
        let written = run_sink(move || sink.write_batch(&batch).map(|()| (sink, held)));
        (sink, turn) = written.await.map_err(UploadBreak::Refused)?;
        match end {
            BatchEnd::More => {}
            BatchEnd::Broken => return Err(UploadBreak::BrokeOff),
            BatchEnd::Last if sink.is_complete() => {
                // Held until the file has its name: the next request finds it complete, not in the middle.
                let held = turn.take();
                let placed = run_sink(move || {
                    let placed = sink.finish();
                    drop(held);
                    placed
                });
                return placed.await.map(ReceivedUpload::Whole).map_err(UploadBreak::Refused);
            }
            BatchEnd::Last => return Ok(ReceivedUpload::Part(sink.written())),
        }
    }
}

/// Runs the work of an upload on a thread that may block.
pub(super) async fn run_sink<T: Send + 'static, F: From<Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, F> + Send + 'static,
) -> Result<T, F> {
    run_blocking(move || Ok(work())).await?
}

/// How a batch of a body ends.
enum BatchEnd {
    More,
    Last,
    Broken,
}

/// Gathers bytes of a body for one write. What came before it broke off is kept.
async fn next_batch(body: &mut Body) -> (Vec<Bytes>, BatchEnd) {
    let (mut batch, mut len) = (Vec::new(), 0);
    while len < WRITE_BYTES {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        match tokio::time::timeout(READ_PATIENCE, frame).await {
            Ok(None) => return (batch, BatchEnd::Last),
            Ok(Some(Ok(frame))) => batch.extend(frame.into_data().ok().inspect(|bytes| len += bytes.len())),
            Ok(Some(Err(_))) | Err(_) => return (batch, BatchEnd::Broken),
        }
    }
    (batch, BatchEnd::More)
}
