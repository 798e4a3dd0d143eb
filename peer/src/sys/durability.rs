//! Durability of files across power cuts, and reservation of disk space.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

/// With more files than this, one sync of their file system is cheaper than one per file.
const MAX_SINGLE_SYNCS: usize = 8;

/// File systems (by magic number, `statfs(2)`) that reserve space by recording it. Others write or allocate all of it.
const FAST_RESERVE_KINDS: [u64; 5] = [
    0xEF53,      // ext4
    0x5846_5342, // XFS
    0x9123_683E, // Btrfs
    0xF2F5_2010, // F2FS
    0xCA45_1A4E, // bcachefs
];

/// Further file systems that extend a file by recording its length, in addition to [`FAST_RESERVE_KINDS`]. FAT, exFAT
/// and some FUSE file systems write zeros, which takes minutes and can't be interrupted.
const FAST_EXTEND_KINDS: [u64; 5] = [
    0x0102_1994, // tmpfs
    0x8584_58F6, // ramfs
    0x794C_7630, // overlayfs
    0x2FC1_2FC1, // ZFS
    0x6969,      // NFS
];

/// Smallest file whose size is tested. Smaller ones fit on every file system.
const MIN_PROBED_BYTES: u64 = 1 << 20;

/// The magic number of all FUSE file systems.
const FUSE: u64 = 0x6573_5546;

/// Makes open files or folders durable. Returns one result for each, in order.
pub fn sync_all<F: AsFd>(files: &[F]) -> Vec<io::Result<()>> {
    if files.len() > MAX_SINGLE_SYNCS && sync_file_systems(files).is_ok() {
        return files.iter().map(|_| Ok(())).collect();
    }
    // syncfs doesn't tell which file failed, so the result of each needs its own call.
    files.iter().map(sync).collect()
}

fn sync(file: impl AsFd) -> io::Result<()> {
    match rustix::fs::fsync(file) {
        // EINVAL and the like: a file system that can't sync, for which nothing can be done. EBADF: a folder opened
        // without permission to read it.
        Err(Errno::INVAL | Errno::BADF | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
        synced => Ok(synced?),
    }
}

/// Sets the length of `file` to `bytes` and reserves space for its `data` ranges where the file system does both
/// quickly. After that the disk can't fill up under the file. Elsewhere the file grows as it is written, and only a
/// size beyond the file system's limit is detected. Fails with the system's error, such as too large a file or a full
/// disk.
pub fn reserve_space(file: &File, bytes: u64, data: impl IntoIterator<Item = Range<u64>>) -> io::Result<()> {
    let kind = rustix::fs::fstatfs(file).ok().and_then(|system| u64::try_from(system.f_type).ok());
    let is_one_of = |kinds: &[u64]| kind.is_some_and(|kind| kinds.contains(&kind));
    let can_reserve = is_one_of(&FAST_RESERVE_KINDS);
    let len = file.metadata()?.len();
    // Reserving extends a file but never shortens it.
    if can_reserve || is_one_of(&FAST_EXTEND_KINDS) || len > bytes {
        file.set_len(bytes)?;
    } else if len < bytes && bytes > MIN_PROBED_BYTES {
        probe_size(file, bytes, is_one_of(&[FUSE]))?;
    }
    for Range { start, end } in data.into_iter().filter(|range| can_reserve && !range.is_empty()) {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), start, end - start) {
            // Without fallocate the file grows as it is written.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => break,
            reserved => reserved?,
        }
    }
    Ok(())
}

/// Fails if `file` can't become `bytes` long, without allocating all of them.
fn probe_size(file: &File, bytes: u64, by_fuse: bool) -> io::Result<()> {
    // File systems without a block device have the device number 0:n.
    let is_on_device = rustix::fs::major(rustix::fs::fstat(file)?.st_dev) != 0;
    match (by_fuse, is_on_device) {
        // Network and overlay file systems accept a byte at any offset at once.
        (true, false) => file.write_all_at(&[0], bytes - 1),
        // A FUSE file system on a local device, such as exFAT, would write zeros before the byte.
        (true, true) => Ok(()),
        // The kernel's own file systems check the size first, such as 4 GB on FAT, and then refuse or reserve.
        (false, _) => match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes) {
            Err(why @ (Errno::FBIG | Errno::NOSPC | Errno::DQUOT)) => Err(why.into()),
            _ => Ok(()),
        },
    }
}

/// Makes a range of `file` read as zeros, as a hole if the file system has holes. Doesn't extend the file.
pub fn zero_range(file: &File, range: Range<u64>) -> io::Result<()> {
    let Range { start, end } = range;
    let end = end.min(file.metadata()?.len());
    if start >= end {
        return Ok(());
    }
    // PUNCH_HOLE is only valid with KEEP_SIZE (fallocate(2)).
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if rustix::fs::fallocate(file, flags, start, end - start).is_ok() {
        return Ok(());
    }
    // A range that is a hole already reads as zeros, and writing it would allocate space.
    match rustix::fs::seek(file, SeekFrom::Data(start)) {
        Ok(data) if data >= end => return Ok(()),
        // ENXIO: no data from `start` to the end of the file.
        Err(Errno::NXIO) => return Ok(()),
        _ => {}
    }
    static ZEROS: [u8; 65_536] = [0; 65_536];
    let mut at = start;
    while at < end {
        let some = usize::try_from(end - at).unwrap_or(usize::MAX).min(ZEROS.len());
        file.write_all_at(&ZEROS[..some], at)?;
        at += some as u64;
    }
    Ok(())
}

fn sync_file_systems<F: AsFd>(files: &[F]) -> io::Result<()> {
    let mut synced = HashSet::new();
    for file in files {
        // One syncfs for each file system, whichever of its files it is called with.
        if synced.insert(rustix::fs::fstat(file)?.st_dev) {
            rustix::fs::syncfs(file)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_of_whether_few_or_many() {
        let home = tempfile::tempdir().unwrap();
        let files: Vec<File> =
            (0..=MAX_SINGLE_SYNCS).map(|number| File::create(home.path().join(number.to_string())).unwrap()).collect();
        for count in [0, 1, files.len()] {
            let synced = sync_all(&files[..count]);
            assert_eq!(synced.len(), count);
            assert!(synced.iter().all(Result::is_ok));
        }
        let (pipe, _other_end) = io::pipe().unwrap();
        assert!(sync_all(&[pipe])[0].is_ok(), "of what can't be synced nothing is lost by that");
    }

    #[test]
    fn what_is_cleared_reads_as_zeros_and_takes_no_room() {
        use std::os::unix::fs::MetadataExt;

        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 300_000], 0).unwrap();
        zero_range(&file, 100_000..200_000).unwrap();
        zero_range(&file, 290_000..5_000_000).unwrap();
        let mut bytes = vec![1; 300_000];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(
            (0..300_000).all(|at| bytes[at] == if (100_000..200_000).contains(&at) || at >= 290_000 { 0 } else { 7 })
        );
        assert_eq!(file.metadata().unwrap().len(), 300_000);
        file.set_len(50_000_000).unwrap();
        zero_range(&file, 1_000_000..50_000_000).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 < 1_000_000);
    }

    #[test]
    fn a_reserved_file_is_as_long_as_it_will_be_and_keeps_what_it_has() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"here", 0).unwrap();
        for bytes in [0, 5_000_000, 10] {
            file.set_len(4).unwrap();
            reserve_space(&file, bytes, std::iter::once(0..bytes)).unwrap();
            assert!([4, bytes].contains(&file.metadata().unwrap().len()));
        }
    }
}
