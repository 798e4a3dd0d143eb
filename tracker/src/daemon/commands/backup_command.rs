//! The commands `tracker backup` and `tracker restore`.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use localization::tr;
use shared::safe_text::safe_path;

use super::new_private_file::NewPrivateFile;
use super::{CommandError, print_text};
use crate::admin;
use crate::backup;
use crate::daemon::data_folder::DataFolder;

/// Bytes received at a time.
const CHUNK: usize = 64 * 1024;

/// Writes a backup. The file gets its name only when it is complete and synced, and never replaces another file.
pub(super) fn write_backup(folder: &Path, file: &Path) -> Result<(), CommandError> {
    // The file comes first: a folder that can't be written is noticed before the tracker makes the backup.
    let (mut new, mut buffer) = (NewPrivateFile::begin(file)?, vec![0; CHUNK]);
    let mut backup = admin::open_backup(folder)?;
    while let some @ [_, ..] = backup.next(&mut buffer)? {
        new.write(some)?;
    }
    new.finish()?;
    if io::stderr().is_terminal() {
        let warning = tr!(
            "{path} holds the tracker's secret key and everybody's password hashes: keep it where nobody else reads it",
            path = safe_path(file)
        );
        let _ = writeln!(io::stderr(), "{warning}");
    }
    Ok(())
}

pub(super) fn restore_backup(folder: &Path, file: &Path) -> Result<(), CommandError> {
    // No tracker may open the folder meanwhile.
    let _locked = DataFolder::lock(folder)?;
    let restored = backup::restore(folder, file)?;
    let accounts = restored.accounts;
    let mut text = match restored.fingerprint {
        Some(fingerprint) => tr!(
            "restored: {n} account, the key with the fingerprint {fingerprint}"
                | "restored: {n} accounts, the key with the fingerprint {fingerprint}" % accounts,
            fingerprint
        ),
        None if folder.join(backup::IDENTITY_FOLDER).join(backup::KEY_FILE).exists() => {
            tr!("restored: {n} account; the file has no key, so that the one that was there stays"
                | "restored: {n} accounts; the file has no key, so that the one that was there stays" % accounts)
        }
        None => tr!(
            "restored: {n} account; the file has no key and there was none: put one back, or make one with `tracker new key`"
                | "restored: {n} accounts; the file has no key and there was none: put one back, or make one with `tracker new key`"
                    % accounts
        ),
    };
    if let Some(before) = restored.previous_folder {
        let before: PathBuf = std::path::absolute(&before).unwrap_or(before);
        text.push('\n');
        text += &tr!("what was there before is in {path}", path = safe_path(&before));
    }
    print_text(&text)
}
