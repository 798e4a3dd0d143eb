//! The copy of standard input that `peer send USER -` sends: its size and hash have to be known before anybody is told.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::engine::Error;
use crate::engine::sends::send_copy_path;
use crate::profile::Profile;

const PIECE_BYTES: usize = 1 << 20;

/// Copies standard input to its end, and returns the path of the copy. Blocking. A copy that fails is removed.
pub(super) fn copy_stdin(profile: &Profile, cancel: &CancellationToken) -> Result<PathBuf, Error> {
    let path = send_copy_path(profile)?;
    let copied = copy_to(&path, cancel);
    if copied.is_err() {
        let _ = std::fs::remove_file(&path);
    }
    copied.map(|()| path)
}

fn copy_to(path: &std::path::Path, cancel: &CancellationToken) -> Result<(), Error> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = made.map_err(Error::disk(path))?;
    let (mut input, mut piece) = (std::io::stdin().lock(), vec![0; PIECE_BYTES]);
    loop {
        if cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        match input.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => file.write_all(piece.get(..count).unwrap_or_default()).map_err(Error::disk(path))?,
            Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why.into()),
        }
    }
    // What is announced has to be there after a power cut, with the hash that is on record.
    file.sync_all().map_err(Error::disk(path))
}
