//! Room on a disk.

use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

/// Whether the disk on which `path` lies has no room left; false when that can't be told.
pub fn is_disk_full(path: &Path) -> bool {
    rustix::fs::statvfs(nearest_folder(path))
        .is_ok_and(|disk| disk.f_bavail == 0 || disk.f_favail == 0 && disk.f_files > 0)
}

/// Tells whether the disk on which `path` lies holds no further files, whatever room there is for bytes.
pub fn is_out_of_inodes(path: &Path) -> bool {
    rustix::fs::statvfs(nearest_folder(path)).is_ok_and(|disk| disk.f_favail == 0 && disk.f_files > 0)
}

/// The nearest folder above `path` that is there.
fn nearest_folder(path: &Path) -> PathBuf {
    let mut above = path.ancestors();
    let there = above.find(|path| path.is_dir() || path.as_os_str().is_empty());
    match there {
        Some(path) if !path.as_os_str().is_empty() => path.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Whether the file system on which `path` lies is mounted for reading only; false when that can't be told.
pub fn is_read_only_mount(path: &Path) -> bool {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    rustix::fs::statvfs(folder).is_ok_and(|disk| disk.f_flag.contains(StatVfsMountFlags::RDONLY))
}
