//! The command `tracker identity`.
//!
//! The exported file is the key as it is, readable by its owner only, and not encrypted: a passphrase would have to reach the
//! other machine as well, and is weaker than the key. `-` writes to another program, so that `ssh` alone carries it and no disk
//! has a copy.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use certs::{IdentityCopy, IdentityInstallation, OtherIdentityPolicy};
use localization::tr;
use shared::safe_text::safe_path;

use super::new_private_file::NewPrivateFile;
use super::{CommandError, print_text};
use crate::backup::{ACCOUNT_DATABASE, IDENTITY_FOLDER, KEY_FILE};
use crate::daemon::args::IdentityCommand;
use crate::daemon::data_folder::DataFolder;
use crate::folder_lock::give_to_owner;
use crate::store::sqlite_file;

/// The name of standard input and output.
const STREAM: &str = "-";

pub(super) fn run_identity_command(folder: &Path, command: Option<&IdentityCommand>) -> Result<(), CommandError> {
    match command {
        None => print_text(&existing_key(folder)?.fingerprint().to_string()),
        Some(IdentityCommand::Export { file }) => export(folder, file),
        Some(IdentityCommand::Import { file, replace }) => import(folder, file, *replace),
    }
}

fn existing_key(folder: &Path) -> Result<IdentityCopy, CommandError> {
    let keys = folder.join(IDENTITY_FOLDER);
    IdentityCopy::of_folder(&keys)?.ok_or_else(|| CommandError::NoKey(keys.join(KEY_FILE)))
}

fn export(folder: &Path, file: &Path) -> Result<(), CommandError> {
    let key = existing_key(folder)?;
    if file.as_os_str() == STREAM {
        let mut output = io::stdout().lock();
        if output.is_terminal() {
            return Err(CommandError::SecretOnTerminal);
        }
        output.write_all(key.secret_pem())?;
        return Ok(output.flush()?);
    }
    let mut new = NewPrivateFile::begin(file)?;
    new.write(key.secret_pem())?;
    new.finish()?;
    if io::stderr().is_terminal() {
        let warning = tr!(
            "{path} holds the tracker's secret key: move it to the other tracker, and leave no copy",
            path = safe_path(file)
        );
        let _ = writeln!(io::stderr(), "{warning}");
    }
    Ok(())
}

fn import(folder: &Path, file: &Path, replace: bool) -> Result<(), CommandError> {
    let is_stream = file.as_os_str() == STREAM;
    let read = if is_stream { IdentityCopy::read_stream(io::stdin())? } else { IdentityCopy::read_file(file)? };
    let shown = if is_stream { tr!("standard input") } else { safe_path(file) };
    let copy = read.map_err(|why| CommandError::NotAKey { file: shown, why: why.to_string() })?;
    // No tracker may serve with the key of before.
    let _locked = DataFolder::lock(folder)?;
    let keys = folder.join(IDENTITY_FOLDER);
    let policy = if replace { OtherIdentityPolicy::Replace } else { OtherIdentityPolicy::Keep };
    // Root imports it for the tracker's user, who has to read it.
    let own = |file: &File| give_to_owner(file, folder).and_then(|()| give_to_owner(&File::open(&keys)?, folder));
    let fingerprint = copy.fingerprint();
    let mut text = match copy.install(&keys, policy, own)? {
        IdentityInstallation::Refused { other } => {
            return Err(CommandError::OtherKeyThere { path: keys.join(KEY_FILE), other, fingerprint });
        }
        IdentityInstallation::Unchanged => {
            return print_text(&tr!("the key with the fingerprint {fingerprint} is there already", fingerprint));
        }
        IdentityInstallation::Installed { aside: None } => {
            tr!("imported the key with the fingerprint {fingerprint}", fingerprint)
        }
        IdentityInstallation::Installed { aside: Some(aside) } => tr!(
            "imported the key with the fingerprint {fingerprint}; the one of before is kept as {path}",
            fingerprint,
            path = safe_path(aside)
        ),
    };
    if sqlite_file::is_missing_or_empty(&folder.join(ACCOUNT_DATABASE)) {
        text.push('\n');
        text += &tr!("start the tracker with --store and the address of the database that the others use");
    }
    print_text(&text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use certs::Identity;

    use super::*;

    #[test]
    fn a_key_goes_to_another_folder_and_replaces_none_unasked() {
        let home = tempfile::tempdir().unwrap();
        let (one, two, file) = (home.path().join("one"), home.path().join("two"), home.path().join("key"));
        assert!(matches!(existing_key(&one), Err(CommandError::NoKey(_))));
        let fingerprint = Identity::load_or_create(&one.join(IDENTITY_FOLDER)).unwrap().fingerprint();
        export(&one, &file).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(export(&one, &file), Err(CommandError::Exists(_))));
        import(&two, &file, false).unwrap();
        assert_eq!(existing_key(&two).unwrap().fingerprint(), fingerprint);
        assert_eq!(two.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        import(&two, &file, false).unwrap();
        let three = home.path().join("three");
        let other = Identity::load_or_create(&three.join(IDENTITY_FOLDER)).unwrap().fingerprint();
        let refused = import(&three, &file, false).unwrap_err();
        assert!(refused.to_string().contains("--replace"), "{refused}");
        assert_eq!(existing_key(&three).unwrap().fingerprint(), other);
        let running = DataFolder::lock(&three).unwrap();
        assert!(matches!(import(&three, &file, true), Err(CommandError::Running(_))));
        drop(running);
        import(&three, &file, true).unwrap();
        assert_eq!(existing_key(&three).unwrap().fingerprint(), fingerprint);
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(import(&two, &file, false).unwrap_err().to_string().contains("chmod 600"));
    }
}
