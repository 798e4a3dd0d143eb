//! Free space and inodes of file systems.

use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

/// Returns true if the file system of `path` has no free bytes or inodes; false if that is unknown.
pub fn is_disk_full(path: &Path) -> bool {
    rustix::fs::statvfs(nearest_folder(path))
        // File systems without a fixed number of inodes, such as Btrfs, report 0 for both counts.
        .is_ok_and(|disk| disk.f_bavail == 0 || disk.f_favail == 0 && disk.f_files > 0)
}

/// Returns true if the file system of `path` has no free inodes, whatever its free bytes; false if that is unknown.
pub fn is_out_of_inodes(path: &Path) -> bool {
    rustix::fs::statvfs(nearest_folder(path)).is_ok_and(|disk| disk.f_favail == 0 && disk.f_files > 0)
}

/// Returns the nearest existing folder above `path`.
fn nearest_folder(path: &Path) -> PathBuf {
    let mut above = path.ancestors();
    let there = above.find(|path| path.is_dir() || path.as_os_str().is_empty());
    match there {
        Some(path) if !path.as_os_str().is_empty() => path.to_owned(),
        // The ancestors of a relative path end with an empty one, which means the current folder.
        _ => PathBuf::from("."),
    }
}

/// Returns true if the file system of `path` is mounted read-only; false if that is unknown.
pub fn is_read_only_mount(path: &Path) -> bool {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    rustix::fs::statvfs(folder).is_ok_and(|disk| disk.f_flag.contains(StatVfsMountFlags::RDONLY))
}
