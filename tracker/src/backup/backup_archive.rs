//! The format of a backup's file.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use localization::tr;
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};

/// The format's number in the manifest.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const MANIFEST_BYTES: u64 = 64 * 1024;
const MODE: u32 = 0o600;
/// Bytes hashed and written at a time.
const CHUNK: usize = 256 * 1024;

/// The reason why a file is refused as a backup.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum ArchiveError {
    #[error("{}", tr!("it is not a tracker's backup"))]
    NotABackup,
    #[error("{}", tr!("a newer tracker made it (format {found}, this one knows {known}): use that one", found = .0, known = FORMAT))]
    TooNew(u32),
    #[error("{}", tr!("an older tracker made it (format {found}, this one knows {known}): restore it with that one", found = .0, known = FORMAT))]
    TooOld(u32),
    #[error("{}", tr!("it is damaged: {why}", why = .0))]
    Damaged(String),
    /// It can't be read, or its entries can't be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Serialize, Deserialize)]
struct BackupManifest {
    vizinho_tracker_backup: u32,
    tracker: String,
    parts: BTreeMap<String, ManifestEntry>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ManifestEntry {
    bytes: u64,
    blake3: String,
}

/// Packs these files under their names into an archive.
pub(super) fn pack(parts: &[(&str, PathBuf)], into: &File) -> io::Result<()> {
    let mut manifest = BackupManifest {
        vizinho_tracker_backup: FORMAT,
        tracker: env!("CARGO_PKG_VERSION").to_owned(),
        parts: BTreeMap::new(),
    };
    // Hashed before they are written: the manifest comes first in the archive.
    for (name, path) in parts {
        manifest.parts.insert((*name).to_owned(), copy_and_hash(File::open(path)?, io::sink())?);
    }
    let mut archive = Builder::new(BufWriter::new(into));
    let text = serde_json::to_vec_pretty(&manifest)?;
    archive.append_data(&mut header(text.len() as u64), MANIFEST, text.as_slice())?;
    for (name, path) in parts {
        let bytes = manifest.parts.get(*name).map_or(0, |part| part.bytes);
        // `take`: a file that has grown since it was hashed must not break the archive.
        archive.append_data(&mut header(bytes), name, File::open(path)?.take(bytes))?;
    }
    archive.into_inner()?.flush()?;
    // The file has no name: whoever gets it reads on from here.
    (&*into).seek(SeekFrom::Start(0)).map(drop)
}

/// Unpacks each entry to the path that `place` returns for its name, and checks lengths and hashes. Returns the
/// entries' names.
pub(super) fn unpack(from: File, place: impl Fn(&str) -> Option<PathBuf>) -> Result<Vec<String>, ArchiveError> {
    let mut archive = Archive::new(BufReader::new(from));
    let mut entries = archive.entries().map_err(|_| ArchiveError::NotABackup)?;
    let manifest = match entries.next() {
        Some(Ok(entry)) if entry.path().is_ok_and(|path| path == Path::new(MANIFEST)) => {
            // Bounded: the file may come from anybody.
            let mut text = Vec::new();
            entry.take(MANIFEST_BYTES).read_to_end(&mut text)?;
            text
        }
        _ => return Err(ArchiveError::NotABackup),
    };
    let BackupManifest { vizinho_tracker_backup: format, parts, .. } =
        serde_json::from_slice(&manifest).map_err(|_| ArchiveError::NotABackup)?;
    match format.cmp(&FORMAT) {
        Ordering::Less => return Err(ArchiveError::TooOld(format)),
        Ordering::Greater => return Err(ArchiveError::TooNew(format)),
        Ordering::Equal => {}
    }
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|why| ArchiveError::Damaged(why.to_string()))?;
        // Only compared with the names that are known, so it may be lossy.
        let name = entry.path()?.to_string_lossy().into_owned();
        let strange = || ArchiveError::Damaged(format!("{name:?} is none of its parts"));
        let (part, path) = parts.get(&name).zip(place(&name)).ok_or_else(strange)?;
        // Links and repeated names have no place in a backup.
        if entry.header().entry_type() != EntryType::Regular || found.contains(&name) {
            return Err(strange());
        }
        // `create_new` follows no link, and the names come from `place`: an archive can't choose paths.
        let mut file = File::create_new(path)?;
        if copy_and_hash(entry, &mut file)? != *part {
            return Err(ArchiveError::Damaged(format!("{name} is not as it was made")));
        }
        file.sync_all()?;
        found.push(name);
    }
    match parts.keys().find(|name| !found.contains(name)) {
        Some(missing) => Err(ArchiveError::Damaged(format!("{missing} is missing"))),
        None => Ok(found),
    }
}

fn header(bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(bytes);
    // Whoever unpacks it by hand gets a secret key that nobody else may read.
    header.set_mode(MODE);
    header.set_mtime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    header.set_entry_type(EntryType::Regular);
    header
}

fn copy_and_hash(mut from: impl Read, mut to: impl Write) -> io::Result<ManifestEntry> {
    let (mut hasher, mut bytes, mut buffer) = (blake3::Hasher::new(), 0, vec![0; CHUNK]);
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => return Err(why),
        };
        let chunk = buffer.get(..count).unwrap_or_default();
        hasher.update(chunk);
        to.write_all(chunk)?;
        bytes += count as u64;
    }
    Ok(ManifestEntry { bytes, blake3: hasher.finalize().to_hex().to_string() })
}
