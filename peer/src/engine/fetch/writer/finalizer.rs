//! Finishing thread: makes whole files durable and gives them their names.
//!
//! Files that became whole while the disk was busy are taken together: a
//! sync of many files costs about as much as that of one.

use std::collections::HashMap;
use std::io;
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
    // Each step takes the whole batch: syncing many files together costs the disk hardly more than one.
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
    let folders: Vec<&Arc<FolderHandle>> = named.iter().map(|(_, whole)| whole.folder()).collect();
    for ((file, folder, outcome), synced) in placed.into_iter().zip(sync_folders(&folders, |unique| sync_all(unique))) {
        match synced {
            Ok(()) => context.send_event(WriterEvent::FileFinished { file, outcome }),
            Err(why) => fail(file, Error::disk(&folder)(why)),
        }
    }
}

/// Syncs the folder of each file, each folder once, however many files it holds. Returns a result for each file.
fn sync_folders<F>(folders: &[&Arc<F>], sync: impl FnOnce(&[&Arc<F>]) -> Vec<io::Result<()>>) -> Vec<io::Result<()>> {
    let mut unique = folders.to_vec();
    unique.sort_by_key(|folder| Arc::as_ptr(folder));
    unique.dedup_by_key(|folder| Arc::as_ptr(folder));
    let synced: HashMap<*const F, io::Result<()>> =
        unique.iter().map(|folder| Arc::as_ptr(folder)).zip(sync(&unique)).collect();
    let outcome = |folder: &&Arc<F>| match synced.get(&Arc::as_ptr(folder)) {
        // An I/O error can't be cloned, and is told of each file.
        Some(Err(why)) => Err(io::Error::new(why.kind(), plain_message(why))),
        Some(Ok(())) | None => Ok(()),
    };
    folders.iter().map(outcome).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_files_of_a_folder_that_fails_fail() {
        let [well, broken] = ["well", "broken"].map(Arc::new);
        let mut asked = 0;
        let outcomes = sync_folders(&[&well, &broken, &well, &broken, &well], |unique| {
            asked += unique.len();
            unique.iter().map(|folder| if ***folder == "well" { Ok(()) } else { Err(io::Error::other("no")) }).collect()
        });
        assert_eq!(asked, 2, "each once");
        assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, false, true]);
    }
}
