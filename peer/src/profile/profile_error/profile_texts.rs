//! Texts of profile errors that say more or less, after what is known, with the next step for the user.

use std::path::Path;

use localization::tr;
use rusqlite::ErrorCode;
use shared::safe_text::safe_path;

use crate::sys::{SpaceLimit, is_read_only_mount, open_files_limit};
use crate::util::shell_words::single_quoted;

/// Returns the text for a database that has no room to grow.
pub(super) fn exhausted_space_text(path: &Path, limit: SpaceLimit) -> String {
    let path = safe_path(path);
    match limit {
        SpaceLimit::Disk => {
            tr!("the account's database {path} can't be used: the disk is full: free some space and try again", path)
        }
        SpaceLimit::Quota => tr!(
            "the account's database {path} can't be used: your disk quota is used up: remove some of your files there and \
             try again",
            path
        ),
    }
}

/// Returns the text for a database that is an empty file, with the key beside it, if there is one.
pub(super) fn empty_database_text(path: &Path, key: Option<&Path>) -> String {
    let path = safe_path(path);
    match key {
        None => tr!(
            "the account's database {path} is empty: put back a copy of the database, or remove the empty file and begin \
             anew",
            path
        ),
        Some(key) => tr!(
            "the account's database {path} is empty, but its key {key} is there: put back a copy of the database, or \
             remove the empty file and begin anew with the same key: `peer login NAME`",
            path,
            key = safe_path(key)
        ),
    }
}

/// Returns the text for a profile that a node holds.
pub(super) fn running_node_text(pid: Option<u32>) -> String {
    match pid {
        None => tr!("`peer` is already running for this account: `peer whoami` shows it, `peer stop` ends it"),
        Some(pid) => tr!(
            "`peer` is already running for this account (process {pid}): `peer whoami` shows it, `peer stop` ends it",
            pid
        ),
    }
}

/// Returns the text for a database that can't be opened because too many files are open.
pub(super) fn descriptor_limit_text(path: &Path) -> String {
    let path = safe_path(path);
    match open_files_limit() {
        None => tr!(
            "the account's database {path} can't be opened: too many open files; raise the limit with `ulimit -n 4096` \
             and run the same command again",
            path
        ),
        Some(limit) => tr!(
            "the account's database {path} can't be opened: too many open files ({limit} at once); raise the limit with \
             `ulimit -n 4096` and run the same command again",
            path,
            limit
        ),
    }
}

/// Quotes a path for a shell.
pub(super) fn quoted(path: &Path) -> String {
    single_quoted(&safe_path(path))
}

/// Describes a database error and the next step for the user.
pub(super) fn describe_database_error(path: &Path, source: &rusqlite::Error) -> String {
    let advice = match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            tr!("another program holds it: end that one (a backup, a database browser?) and try again")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            // Damage may be found in the middle of a change, so nothing is said of that.
            return tr!(
                "the account's database {path} can't be used ({source}): it is damaged: put back a copy, or move it away \
                 to begin anew; the key is in a file of its own",
                path = safe_path(path),
                source
            );
        }
        Some(ErrorCode::ReadOnly) if is_read_only_mount(path) => {
            tr!("its file system can only be read: mount it for writing, or use --home with a folder on another disk")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            tr!("it can't be opened for writing: look at its owner and permissions")
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::FileLockingProtocolFailed | ErrorCode::NoLargeFileSupport) => {
            tr!("the disk or its file system failed: see what the system says of it (`dmesg`), or use --home with a \
                 folder on a local disk")
        }
        _ => tr!("try again"),
    };
    tr!(
        "the account's database {path} can't be used ({source}); nothing was changed: {advice}",
        path = safe_path(path),
        source,
        advice
    )
}
