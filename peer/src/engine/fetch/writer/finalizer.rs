//! Finishing thread: makes whole files durable and gives them their names.
//!
//! Files that became whole while the disk was busy are taken together: a
//! sync of many files costs about as much as that of one.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{FINALIZER_CAPACITY, WriterContext, WriterEvent, wait_for_descriptors};
use crate::engine::Error;
use crate::engine::fetch::FileNo;
use crate::engine::fetch::partial_file::CompletedFile;
use crate::sys::{FolderHandle, plain_message, sync_all};

pub(super) fn run(context: &WriterContext, mut whole: mpsc::Receiver<(FileNo, CompletedFile)>) {
    let mut batch = Vec::with_capacity(FINALIZER_CAPACITY);
    while whole.blocking_recv_many(&mut batch, FINALIZER_CAPACITY) > 0 {
        finalize_batch(context, std::mem::take(&mut batch));
    }
}

/// Finishes a batch. Content is synced first, then names are given, then folders are synced: after a power cut, a name
/// never stands for lost content.
fn finalize_batch(context: &WriterContext, batch: Vec<(FileNo, CompletedFile)>) {
    let fail = |file: FileNo, error: Error| context.send_event(WriterEvent::FileFailed { file, error });
    let stamped = keep_successful(batch, |_, whole| wait_for_descriptors(|| whole.apply_metadata()), fail);
    let files: Vec<_> = stamped.iter().map(|(_, whole)| whole.file()).collect();
    let mut synced = sync_all(&files).into_iter();
    let durable = keep_successful(
        stamped,
        |_, whole| synced.next().unwrap_or(Ok(())).map_err(|why| Error::disk(&whole.path())(why)),
        fail,
    );
    let mut placed = Vec::with_capacity(durable.len());
    let named = keep_successful(
        durable,
        |file, whole| {
            let outcome = wait_for_descriptors(|| whole.move_into_place())?;
            placed.push((file, whole.folder_path(), outcome));
            Ok(())
        },
        fail,
    );
    let mut folders: Vec<&Arc<FolderHandle>> = named.iter().map(|(_, whole)| whole.folder()).collect();
    // One sync per folder, however many files of the batch it holds.
    folders.sort_by_key(|folder| Arc::as_ptr(folder));
    folders.dedup_by_key(|folder| Arc::as_ptr(folder));
    let synced: Result<Vec<()>, _> = sync_all(&folders).into_iter().collect();
    for (file, folder, outcome) in placed {
        match &synced {
            Ok(_) => context.send_event(WriterEvent::FileFinished { file, outcome }),
            // The results are collected into one, so a folder that fails takes the whole batch with it.
            Err(why) => fail(file, Error::disk(&folder)(std::io::Error::new(why.kind(), plain_message(why)))),
        }
    }
}

/// Returns the files for which `step` succeeds; passes the others to `fail`.
fn keep_successful(
    batch: Vec<(FileNo, CompletedFile)>,
    mut step: impl FnMut(FileNo, &CompletedFile) -> Result<(), Error>,
    fail: impl Fn(FileNo, Error),
) -> Vec<(FileNo, CompletedFile)> {
    let mut well = Vec::with_capacity(batch.len());
    for (file, whole) in batch {
        match step(file, &whole) {
            Ok(()) => well.push((file, whole)),
            Err(error) => fail(file, error),
        }
    }
    well
}
