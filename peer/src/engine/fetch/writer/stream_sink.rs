//! Where files go in order and aren't kept: standard output, a pipe, a device.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::WriterEvent;
use crate::engine::Error;
use crate::engine::fetch::FetchDestination;
use crate::sys::open_stream;

/// A pipe without a reader is told of after this time.
const NO_READER_NOTICE_DELAY: Duration = Duration::from_secs(1);
/// Between two looks for a reader.
const READER_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The stream that all files of a fetch go to, one after another.
#[derive(Debug)]
pub(in crate::engine::fetch) enum StreamSink {
    /// Standard output.
    Stdout,
    /// A path; opened when there is something for it, because that may wait for a reader.
    Path(PathBuf, Option<File>),
}

impl StreamSink {
    /// The sink of a destination; of one that keeps files, nothing is ever written to it.
    pub(in crate::engine::fetch) fn of(destination: &FetchDestination) -> Self {
        match destination {
            FetchDestination::Stream(path) => Self::Path(path.clone(), None),
            _ => Self::Stdout,
        }
    }

    /// Writes all of it. `outcomes` is told of a pipe that nobody reads.
    pub(super) fn write(&mut self, bytes: &[u8], outcomes: &mpsc::UnboundedSender<WriterEvent>) -> Result<(), Error> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                let written = out.write_all(bytes).and_then(|()| out.flush());
                written.map_err(|why| stream_write_error(Path::new("standard output"), why))
            }
            Self::Path(path, file) => {
                let written = match file {
                    Some(file) => file.write_all(bytes),
                    None => open_with_reader(path, outcomes).and_then(|opened| file.insert(opened).write_all(bytes)),
                };
                written.map_err(|why| stream_write_error(path, why))
            }
        }
    }

    /// Writes so many zeros.
    pub(super) fn write_zeros(
        &mut self,
        bytes: u64,
        outcomes: &mpsc::UnboundedSender<WriterEvent>,
    ) -> Result<(), Error> {
        static ZEROS: [u8; 65_536] = [0; 65_536];
        let mut left = bytes;
        while left > 0 {
            let some = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
            self.write(&ZEROS[..some], outcomes)?;
            left -= some as u64;
        }
        Ok(())
    }
}

/// Opens a stream; waits at a pipe until somebody reads from it, or nobody wants to know any more.
fn open_with_reader(path: &Path, outcomes: &mpsc::UnboundedSender<WriterEvent>) -> io::Result<File> {
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        if let Some(file) = open_stream(path)? {
            return Ok(file);
        }
        if outcomes.is_closed() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if !is_told && begun.elapsed() >= NO_READER_NOTICE_DELAY {
            is_told = outcomes.send(WriterEvent::AwaitingReader { path: path.to_owned() }).is_ok();
        }
        // The system tells of a reader only to whoever waits in `open`, and that hangs without a word.
        std::thread::sleep(READER_POLL_INTERVAL);
    }
}

/// One who had enough closed the pipe; anything else is the disk's word.
fn stream_write_error(path: &Path, why: io::Error) -> Error {
    match why.kind() {
        io::ErrorKind::BrokenPipe => why.into(),
        _ => Error::disk(path)(why),
    }
}
