//! The thread that makes whole files durable and gives them their names.
//!
//! Files that became whole while the disk was busy with others are taken together: a sync costs much the same for one
//! as for many.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Desk, FileEnd, Outcome, WHOLE, with_descriptors};
use crate::engine::Error;
use crate::engine::fetch::FileNo;
use crate::engine::fetch::partial::Whole;
use crate::sys::{Folder, plain_message, sync_all};

pub(super) fn run(desk: &Desk, mut whole: mpsc::Receiver<(FileNo, Whole)>) {
    let mut batch = Vec::with_capacity(WHOLE);
    while whole.blocking_recv_many(&mut batch, WHOLE) > 0 {
        finish(desk, std::mem::take(&mut batch));
    }
}

/// The content first, then the names, then the folders: a name never stands for content that a power cut could take.
fn finish(desk: &Desk, batch: Vec<(FileNo, Whole)>) {
    let fail = |file: FileNo, error: Error| desk.tell(Outcome::Failed { file, error });
    let stamped = keep(batch, |_, whole| with_descriptors(|| whole.stamp()), fail);
    let files: Vec<_> = stamped.iter().map(|(_, whole)| whole.file()).collect();
    let mut synced = sync_all(&files).into_iter();
    let durable =
        keep(stamped, |_, whole| synced.next().unwrap_or(Ok(())).map_err(|why| Error::disk(&whole.path())(why)), fail);
    let mut placed = Vec::with_capacity(durable.len());
    let named = keep(
        durable,
        |file, whole| {
            let landing = with_descriptors(|| whole.put_in_place())?;
            placed.push((file, whole.folder_path(), landing));
            Ok(())
        },
        fail,
    );
    let mut folders: Vec<&Arc<Folder>> = named.iter().map(|(_, whole)| whole.folder()).collect();
    folders.sort_by_key(|folder| Arc::as_ptr(folder));
    folders.dedup_by_key(|folder| Arc::as_ptr(folder));
    let synced: Result<Vec<()>, _> = sync_all(&folders).into_iter().collect();
    for (file, folder, landing) in placed {
        match &synced {
            Ok(_) => desk.tell(Outcome::Finished { file, end: FileEnd::of(&folder, landing) }),
            Err(why) => fail(file, Error::disk(&folder)(std::io::Error::new(why.kind(), plain_message(why)))),
        }
    }
}

/// Those with which `step` goes well; `fail` is told of the others.
fn keep(
    batch: Vec<(FileNo, Whole)>,
    mut step: impl FnMut(FileNo, &Whole) -> Result<(), Error>,
    fail: impl Fn(FileNo, Error),
) -> Vec<(FileNo, Whole)> {
    let mut well = Vec::with_capacity(batch.len());
    for (file, whole) in batch {
        match step(file, &whole) {
            Ok(()) => well.push((file, whole)),
            Err(error) => fail(file, error),
        }
    }
    well
}
