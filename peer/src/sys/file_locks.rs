//! Locks of files: file systems without them, and the processes that hold them.

use std::fs::{self, Metadata};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};
use rustix::io::Errno;

/// Returns true for the errors of a file system without file locks.
pub fn is_locking_unsupported(error: &io::Error) -> bool {
    // Network and FUSE file systems answer with any of these, also with EBADF and EISDIR for what is neither.
    let unsupported = [Errno::BADF, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOLCK, Errno::NOSYS, Errno::ISDIR];
    Errno::from_io_error(error).is_some_and(|error| unsupported.contains(&error))
}

/// Returns the processes with a lock for writing by fcntl(2) on some of these bytes of a file. None on systems without
/// a readable table of locks, or if there is no such file.
pub fn write_lock_holders(path: &Path, bytes: &RangeInclusive<u64>) -> Vec<u32> {
    let table = || Some((fs::read_to_string("/proc/locks").ok()?, fs::metadata(path).ok()?));
    let Some((table, file)) = table() else { return Vec::new() };
    let held = parse_write_locks(&table, bytes, file.ino());
    held.into_iter().filter(|lock| is_on_file(*lock, &file, path)).map(|lock| lock.pid).collect()
}

/// A lock in the system's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileLock {
    pid: u32,
    device: (u32, u32),
}

/// Returns true for a lock on a file with this inode that is on the file itself.
fn is_on_file(lock: FileLock, file: &Metadata, path: &Path) -> bool {
    // Some file systems (btrfs) have other device numbers in the table than in stat(2).
    lock.device == (major(file.dev()), minor(file.dev())) || has_file_open(lock.pid, path)
}

/// Returns the locks in the table for writing to these bytes of a file with this inode.
fn parse_write_locks(table: &str, bytes: &RangeInclusive<u64>, inode: u64) -> Vec<FileLock> {
    let lock = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        // A line with an arrow is a process that waits for the lock.
        // Locks by fcntl(2) are POSIX here; FLOCK lines are those by flock(2).
        if words.next()? != "POSIX" || words.nth(1)? != "WRITE" {
            return None;
        }
        // A lock of an open file description has -1 (proc_locks(5)), and no process to wait for.
        let pid = words.next()?.parse().ok().filter(|pid| *pid > 0)?;
        let mut file = words.next()?.split(':');
        let mut hexadecimal = || u32::from_str_radix(file.next()?, 16).ok();
        let device = (hexadecimal()?, hexadecimal()?);
        let is_it = file.next()?.parse::<u64>().ok()? == inode;
        let begin: u64 = words.next()?.parse().ok()?;
        // EOF stands for a lock without an end.
        let end: u64 = words.next().map(|end| end.parse().unwrap_or(u64::MAX))?;
        (is_it && begin <= *bytes.end() && end >= *bytes.start()).then_some(FileLock { pid, device })
    };
    table.lines().filter_map(lock).collect()
}

fn has_file_open(pid: u32, path: &Path) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|open| open == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
1: FLOCK  ADVISORY  WRITE 30900 fe:00:7 0 EOF
2: POSIX  ADVISORY  READ 12 fe:00:7 128 128
3: POSIX  ADVISORY  WRITE 13 fe:00:7 120 120
3: -> POSIX  ADVISORY  WRITE 14 fe:00:7 120 120
4: POSIX  ADVISORY  WRITE 15 fe:00:8 120 120
5: POSIX  ADVISORY  WRITE 16 fe:00:9 1073741824 1073742335
6: POSIX  ADVISORY  WRITE 17 103:02:9 0 EOF
7: POSIX  ADVISORY  WRITE -1 fe:00:9 0 EOF
8: OFDLCK ADVISORY  WRITE -1 fe:00:7 0 EOF";

    #[test]
    fn who_keeps_others_from_writing_stands_in_the_table() {
        let lock = |pid, device| FileLock { pid, device };
        let (low, high) = (120..=122, 0x4000_0000..=0x4000_0000 + 511);
        assert_eq!(parse_write_locks(TABLE, &low, 7), [lock(13, (0xfe, 0))]);
        assert_eq!(parse_write_locks(TABLE, &low, 8), [lock(15, (0xfe, 0))]);
        assert_eq!(parse_write_locks(TABLE, &high, 7), []);
        assert_eq!(parse_write_locks(TABLE, &high, 9), [lock(16, (0xfe, 0)), lock(17, (0x103, 2))]);
        assert_eq!(parse_write_locks("rubbish\n1: POSIX", &high, 9), []);
    }
}
