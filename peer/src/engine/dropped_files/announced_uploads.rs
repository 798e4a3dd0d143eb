//! What running uploads announced: the disk doesn't show it yet, and others must not be given it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

/// The bytes that running uploads announced and have not written yet. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct AnnouncedUploads(Arc<AnnouncedBytes>);

#[derive(Debug, Default)]
struct AnnouncedBytes {
    sum: AtomicU64,
    admission: Mutex<()>,
}

/// One upload's announced bytes, until they are written or it ends.
#[derive(Debug)]
pub(super) struct AnnouncedUpload {
    all: Arc<AnnouncedBytes>,
    left: u64,
}

impl AnnouncedUploads {
    /// Counts an upload of so many bytes if `admit` has room for it beside the bytes that others announced.
    pub(super) fn announce<T, E>(
        &self,
        bytes: u64,
        admit: impl FnOnce(u64) -> Result<T, E>,
    ) -> Result<(T, AnnouncedUpload), E> {
        // One after another: two that look at the disk together would each be given all that is left.
        let _admission = self.pause_admission();
        // Before the disk is looked at: what is written meanwhile counts twice rather than not at all.
        let admitted = admit(self.0.sum.load(Ordering::SeqCst))?;
        self.0.sum.fetch_add(bytes, Ordering::SeqCst);
        Ok((admitted, AnnouncedUpload { all: self.0.clone(), left: bytes }))
    }

    /// Keeps uploads from beginning as long as it is held.
    pub(super) fn pause_admission(&self) -> MutexGuard<'_, ()> {
        self.0.admission.lock()
    }
}

impl AnnouncedUpload {
    /// Records bytes that are on the disk now.
    pub(super) fn record_written(&mut self, bytes: u64) {
        let written = bytes.min(self.left);
        self.left -= written;
        self.all.sum.fetch_sub(written, Ordering::SeqCst);
    }
}

impl Drop for AnnouncedUpload {
    fn drop(&mut self) {
        self.record_written(self.left);
    }
}
