//! Room on a disk.

use std::path::Path;

/// Whether the disk on which `path` lies has no room left; false when that can't be told.
pub fn is_full(path: &Path) -> bool {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    rustix::fs::statvfs(folder).is_ok_and(|disk| disk.f_bavail == 0 || disk.f_favail == 0 && disk.f_files > 0)
}
