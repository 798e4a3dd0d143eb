//! Files that only their owner reads, replaced as a whole.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a file that only its owner may read, in the place of the one that is there.
///
/// # Errors
/// The reason of the disk; the old file stays then.
pub fn replace_private_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    // Left behind by a process of the same number that ended in between.
    let _ = fs::remove_file(&new);
    // The mode from the beginning: a file that is open to all for a moment can be opened in that moment.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = file.write_all(bytes).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn it_is_the_owners_alone_whatever_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("open.html");
        let other = folder.path().join("other");
        fs::File::create(&other).unwrap().write_all(b"mine").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        for text in ["one", "two, longer"] {
            replace_private_file(&path, text.as_bytes()).unwrap();
            let metadata = fs::symlink_metadata(&path).unwrap();
            assert_eq!((metadata.mode() & 0o777, metadata.is_file()), (0o600, true));
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_to_string(&other).unwrap(), "mine");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(replace_private_file(&folder.path().join("none/x"), b"").is_err());
    }
}
