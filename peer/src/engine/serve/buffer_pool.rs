//! A pool of buffers for file data on its way from the disk to the network.
//!
//! A fresh buffer for each piece costs more than reading into it: the kernel maps and clears each of its pages.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

/// Free buffers that are kept: as many as a fast link has in flight.
const MAX_POOLED: usize = 16;
/// Smallest pooled buffer: smaller pieces come cheaper from the allocator, and would hold a buffer much larger than
/// their data.
const MIN_BYTES: usize = 64 * 1024;
/// How often the smallest size is doubled.
const SIZES: usize = 3;

/// The free buffers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct BufferPool(Arc<Mutex<[Vec<Vec<u8>>; SIZES]>>);

/// A filled buffer, which returns to the pool when its last reader drops it.
struct PooledBuffer {
    buffer: Vec<u8>,
    len: usize,
    size: usize,
    pool: BufferPool,
}

impl BufferPool {
    /// Returns `len` bytes written by `fill`. The slice that `fill` gets holds old data.
    ///
    /// # Errors
    /// The error of `fill`.
    pub(super) fn fill<E>(&self, len: usize, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Bytes, E> {
        let size = (0..SIZES).find(|size| len >= MIN_BYTES && len <= MIN_BYTES << size);
        let Some(size) = size else {
            let mut buffer = vec![0; len];
            return fill(&mut buffer).map(|()| buffer.into());
        };
        // Taken under the lock and filled without it: the disk may take long.
        let kept = self.kept()[size].pop();
        let buffer = kept.unwrap_or_else(|| vec![0; MIN_BYTES << size]);
        let mut piece = PooledBuffer { buffer, len, size, pool: self.clone() };
        fill(&mut piece.buffer[..len]).map(|()| Bytes::from_owner(piece))
    }

    fn kept(&self) -> MutexGuard<'_, [Vec<Vec<u8>>; SIZES]> {
        self.0.lock()
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let mut kept = self.pool.kept();
        if kept[self.size].len() < MAX_POOLED {
            kept[self.size].push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_only_when_nobody_reads_it_any_more() {
        let pieces = BufferPool::default();
        let filled = |with: u8, len| {
            pieces
                .fill(len, |bytes| {
                    bytes.fill(with);
                    Ok::<_, ()>(())
                })
                .unwrap()
        };
        let one = filled(1, MIN_BYTES * 2);
        let (address, kept) = (one.as_ptr(), one.slice(5..9));
        drop(one);
        let two = filled(2, MIN_BYTES + 1);
        assert_ne!(two.as_ptr(), address);
        assert_eq!(kept, [1; 4].as_slice());
        drop(kept);
        let three = filled(3, MIN_BYTES + 1);
        assert_eq!((three.as_ptr(), three.len()), (address, MIN_BYTES + 1));
        assert_eq!((&two[..3], &three[..3]), ([2; 3].as_slice(), [3; 3].as_slice()));
    }

    #[test]
    fn what_could_not_be_filled_is_an_error_and_the_buffer_is_not_lost() {
        let pieces = BufferPool::default();
        assert_eq!(pieces.fill(MIN_BYTES, |_| Err("no")), Err("no"));
        assert_eq!(pieces.kept()[0].len(), 1);
    }

    #[test]
    fn what_is_kept_is_little_however_much_there_was() {
        let pieces = BufferPool::default();
        let filled = |len| pieces.fill(len, |_| Ok::<_, ()>(())).unwrap();
        let sizes = [1, MIN_BYTES, MIN_BYTES * 2, MIN_BYTES * 3, MIN_BYTES * 4, MIN_BYTES * 4 + 1, 16 << 20];
        drop((0..MAX_POOLED * 2).flat_map(|_| sizes).map(filled).collect::<Vec<_>>());
        let kept: usize = pieces.kept().iter().flatten().map(Vec::len).sum();
        assert_eq!(kept, MAX_POOLED * MIN_BYTES * 7);
        // A small piece takes no large buffer.
        drop(filled(MIN_BYTES));
        assert_eq!(pieces.kept().each_ref().map(Vec::len), [MAX_POOLED; SIZES]);
    }
}
