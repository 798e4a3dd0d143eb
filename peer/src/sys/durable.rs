//! Making files survive a power cut, and making room for them.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// Above so many, one sync of their whole file system costs less than one of each.
const ONE_BY_ONE: usize = 8;

/// The file systems (by the magic numbers of Linux's `statfs(2)`) where reserving space is a note in their books; others
/// write or allocate all of it.
const RESERVE_AT_ONCE: [u64; 5] = [
    0xEF53,      // ext4
    0x5846_5342, // XFS
    0x9123_683E, // Btrfs
    0xF2F5_2010, // F2FS
    0xCA45_1A4E, // bcachefs
];

/// Makes open files or folders durable; tells of each, in their order.
pub fn sync_all<F: AsFd>(files: &[F]) -> Vec<io::Result<()>> {
    if files.len() > ONE_BY_ONE && sync_file_systems(files).is_ok() {
        return files.iter().map(|_| Ok(())).collect();
    }
    // Which of them failed is known only one by one.
    files.iter().map(|file| Ok(rustix::fs::fsync(file)?)).collect()
}

/// Makes `file` `bytes` long; where that is quick, the disk can't fill up under it from here on.
///
/// # Errors
/// As the system says.
pub fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    // Reserving makes a file longer, never shorter.
    file.set_len(bytes)?;
    let kind = rustix::fs::fstatfs(file).ok().and_then(|system| u64::try_from(system.f_type).ok());
    if bytes > 0 && kind.is_some_and(|kind| RESERVE_AT_ONCE.contains(&kind)) {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            reserved => reserved?,
        }
    }
    Ok(())
}

fn sync_file_systems<F: AsFd>(files: &[F]) -> io::Result<()> {
    let mut synced = HashSet::new();
    for file in files {
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
            (0..=ONE_BY_ONE).map(|number| File::create(home.path().join(number.to_string())).unwrap()).collect();
        for count in [0, 1, files.len()] {
            let synced = sync_all(&files[..count]);
            assert_eq!(synced.len(), count);
            assert!(synced.iter().all(Result::is_ok));
        }
        // Nothing can be synced that isn't a file.
        let (pipe, _other_end) = io::pipe().unwrap();
        assert!(sync_all(&[pipe])[0].is_err());
    }

    #[test]
    fn a_reserved_file_is_as_long_as_it_will_be_and_keeps_what_it_has() {
        use std::os::unix::fs::FileExt;

        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"here", 0).unwrap();
        for bytes in [0, 5_000_000, 10] {
            file.set_len(4).unwrap();
            reserve(&file, bytes).unwrap();
            assert_eq!(file.metadata().unwrap().len(), bytes);
        }
    }
}
