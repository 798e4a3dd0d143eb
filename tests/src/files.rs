//! Files to share and what became of them.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use shared::ContentHash;

/// `size` bytes that no compressor likes and that depend on `seed` only.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    // Quick in a build for tests, too: it is made where optimisation is on.
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Writes a file, with the folders above it.
///
/// # Panics
/// When the disk doesn't want to.
pub fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
    let path = path.as_ref();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).unwrap();
    }
    File::create(path).and_then(|mut file| file.write_all(content.as_ref())).unwrap();
    path.to_owned()
}

/// Asserts that two files have the same content, without printing either.
///
/// # Panics
/// When they don't, or one can't be read.
pub fn assert_same(got: impl AsRef<Path>, wanted: impl AsRef<Path>) {
    let wanted = std::fs::read(wanted).unwrap();
    assert_content(got, &wanted);
}

/// Asserts what a file has in it, without printing that.
///
/// # Panics
/// When it has something else, or can't be read.
pub fn assert_content(got: impl AsRef<Path>, wanted: &[u8]) {
    let path = got.as_ref();
    let got = std::fs::read(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    assert_eq!(got.len(), wanted.len(), "the size of {}", path.display());
    assert_eq!(ContentHash::of(&got), ContentHash::of(wanted), "the content of {}", path.display());
}

/// The names in a folder, sorted; hidden ones as well.
///
/// # Panics
/// When it can't be read.
pub fn names_in(folder: impl AsRef<Path>) -> Vec<String> {
    let folder = folder.as_ref();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
