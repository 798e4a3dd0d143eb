//! Texts for disk errors, with the next step for the user.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use localization::tr;
use shared::safe_text::safe_path;

use super::size_format::format_size;
use crate::sys::{UnwritableReason, is_device_failure, is_out_of_inodes, is_too_many_open_files, plain_message};

/// A shortage on a disk that is too full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpaceShortage {
    /// Too few free bytes.
    Bytes {
        /// The bytes that are needed.
        needed: u64,
        /// The bytes that are free.
        free: u64,
    },
    /// Too few free bytes beside those that are to stay free.
    Reserve {
        /// The bytes that are needed.
        needed: u64,
        /// The bytes that are free.
        free: u64,
        /// The bytes that are to stay free.
        kept: u64,
    },
    /// Too few free inodes, whatever the sizes of the files.
    Files {
        /// The number of new files.
        needed: u64,
        /// The number of free inodes.
        free: u64,
    },
}

impl SpaceShortage {
    /// Returns the shortage of bytes on a disk of which `kept` are to stay free.
    pub(super) const fn of_bytes(needed: u64, free: u64, kept: u64) -> Self {
        if kept == 0 { Self::Bytes { needed, free } } else { Self::Reserve { needed, free, kept } }
    }
}

impl fmt::Display for SpaceShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Bytes { needed, free } => {
                f.write_str(&tr!("need {needed}, {free} free", needed = format_size(needed), free = format_size(free)))
            }
            Self::Reserve { needed, free, kept } => f.write_str(&tr!(
                "{free} are free; {needed} are to come, and {kept} stay free",
                free = format_size(free),
                needed = format_size(needed),
                kept = format_size(kept)
            )),
            Self::Files { needed, free } => {
                f.write_str(&tr!("need {needed} new files, {free} left (no free inodes)", needed, free))
            }
        }
    }
}

/// Returns why a folder takes no files, and what to do.
pub(super) fn obstacle_text(obstacle: UnwritableReason) -> String {
    match obstacle {
        UnwritableReason::Removed => tr!("the folder was removed: go to another, or give one with -o"),
        UnwritableReason::ReadOnly => tr!("the file system is read-only: give another folder with -o"),
        UnwritableReason::Forbidden => tr!("permission denied: you may not write there; give another folder with -o"),
        UnwritableReason::AppendOnly => {
            tr!("nothing there can be renamed (append-only): give another folder with -o, or run `chattr -a` on it")
        }
        UnwritableReason::Immutable => {
            tr!("nothing there can be changed (immutable): give another folder with -o, or run `chattr -i` on it")
        }
    }
}

/// Returns the text for an error of the file or folder at `path`, without the system's error number.
pub(super) fn disk_error_text(path: &Path, why: &io::Error) -> String {
    if why.raw_os_error().is_none() {
        // Made by this program, with its own text.
        return why.to_string();
    }
    match why.kind() {
        // Checked first: a disk without inodes reports ENOSPC, although it shows free space.
        io::ErrorKind::StorageFull if is_out_of_inodes(path) => {
            tr!(
                "the disk holds no further files (no free inodes): remove some files there and run the same command again"
            )
        }
        io::ErrorKind::StorageFull => tr!("the disk is full: free some space and run the same command again"),
        io::ErrorKind::QuotaExceeded => {
            tr!("your disk quota is used up: remove some of your files there and run the same command again")
        }
        io::ErrorKind::FileTooLarge => tr!("the file is larger than the limit set for this user or file system"),
        io::ErrorKind::ReadOnlyFilesystem => tr!("the file system is read-only"),
        io::ErrorKind::PermissionDenied => tr!("permission denied"),
        io::ErrorKind::NotFound => tr!("no such file or folder"),
        io::ErrorKind::NotADirectory => tr!("it is not a folder"),
        io::ErrorKind::InvalidFilename => tr!("the name is too long"),
        io::ErrorKind::StaleNetworkFileHandle => {
            tr!("the network file system lost it: mount that again and run the same command")
        }
        // EIO and the descriptor limit have no `ErrorKind` of their own.
        _ if is_device_failure(why) => {
            tr!("the disk failed (input/output error): check it, or give a folder on another one")
        }
        _ if is_too_many_open_files(why) => {
            tr!("too many open files: raise the limit with `ulimit -n 4096` and run the same command again")
        }
        _ => plain_message(why),
    }
}

/// True if standard output failed because of the disk that its file lies on.
pub(super) fn is_disk_error(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// Returns the text for an error of standard input or output.
pub(super) fn stream_error_text(why: &io::Error) -> String {
    if is_disk_error(why) {
        format!("{}: {}", tr!("standard output"), disk_error_text(Path::new(""), why))
    } else {
        plain_message(why)
    }
}

/// Formats a path for the user: without control characters, and with the name of the current folder for `.`.
pub(super) fn shown_path(path: &Path) -> String {
    let named;
    let path = match path.strip_prefix(".").unwrap_or(path) {
        rest if rest.as_os_str().is_empty() => {
            named = std::env::current_dir().unwrap_or_else(|_| PathBuf::from(tr!("the current folder")));
            &named
        }
        rest => rest,
    };
    safe_path(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_the_system_is_not_shown() {
        let said = |number| disk_error_text(Path::new("/nowhere/x"), &io::Error::from_raw_os_error(number));
        assert_eq!(said(13), "permission denied");
        assert_eq!(said(18), "invalid cross-device link");
        assert!(said(5).contains("the disk failed"));
        assert!(said(122).contains("quota") && said(24).contains("ulimit -n") && said(28).contains("disk is full"));
        let own = io::Error::other("as it was said");
        assert_eq!(disk_error_text(Path::new("x"), &own), "as it was said");
    }

    #[test]
    fn the_current_folder_is_named() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(shown_path(Path::new(".")), here.to_string_lossy());
        assert_eq!(shown_path(Path::new("./a")), "a");
        assert_eq!(shown_path(Path::new("/a/b")), "/a/b");
    }
}
