//! Private files that are never given to anybody, whatever is shared above them.
//!
//! | file | recognised by |
//! |---|---|
//! | this profile's folder, without its copies of streams that are sent | its path, and device and inode of the folder and its entries: links, hard links and bind mounts lead to the same inodes |
//! | another profile's folder, a tracker's data folder | its content: `identity/identity.pem`, or a database of ours next to a further file of ours |
//! | a copy of a key, a tracker's backup | the first bytes of the file; this profile's key anywhere in a file that is hashed to be shared |
//! | a copy of a profile's or a tracker's database | its first bytes and its name, or the mark of a profile's database |
//! | a partial file and its state | its name, `.NAME.HASH8.part` and `.state` |
//!
//! A file is checked when it is shared and each time it is served: a catalogue may be older than these rules, and a
//! profile younger than the share above it.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | folders in the cache | 4,096, for 5 s | all are dropped and checked again |
//! | inodes of this profile | 4,096, three folders deep | further ones are recognised by their path alone |

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use localization::tr;
use parking_lot::{Mutex, MutexGuard};
use shared::ContentHash;
use walkdir::WalkDir;

use super::partial_state::{PARTIAL_SUFFIX, STATE_SUFFIX};
use crate::profile::{self, Profile, Share};
use crate::sys::{InodeKey, inode_key};

/// Lifetime of the cache.
const CACHE_LIFETIME: Duration = Duration::from_secs(5);
const MAX_CACHED: usize = 4096;
const OWN_DEPTH: usize = 3;
/// Largest file that is searched for a key. A key with its certificate has less than 1 KiB; notes may be added to a
/// copy.
const KEY_BYTES: u64 = 16 << 10;
/// Bytes read of the start of a file: the first blocks of a tar archive.
const HEAD_BYTES: usize = 4096;
const KEY_BEGINS: &str = "PRIVATE KEY-----";
/// The folder in a profile's that holds copies of streams while they are sent: others may have them.
pub const SEND_COPIES_FOLDER: &str = "sent";
/// The folder in a profile's that holds what pages were given, a folder for each drop: others may have it as well.
pub const DROPS_FOLDER: &str = "uploads";
/// Names of the databases of profiles and trackers.
const DATABASES: [&str; 3] = ["profile.db", "tracker.db", "presence.db"];
/// The suffixes and magic numbers of a database's logs: that of a write-ahead log without its last byte, which tells the
/// byte order, and that of a rollback journal, which is zero until it is synced.
const DATABASE_LOGS: [(&str, &[u8]); 3] =
    [("-wal", &[0x37, 0x7f, 0x06]), ("-journal", &[0xd9, 0xd5, 0x05, 0xf9]), ("-journal", &[0; 8])];

/// A detector of private files, from the view of one profile.
#[derive(Debug)]
pub struct PrivateData {
    home: PathBuf,
    cache: Mutex<PrivateDataCache>,
}

/// The facts of the last check.
#[derive(Debug)]
struct PrivateDataCache {
    since: Option<Instant>,
    own: HashSet<InodeKey>,
    /// This profile's key.
    key: Option<KeyFile>,
    /// True for a folder that is a data folder of ours, or lies in one.
    folders: HashMap<PathBuf, bool>,
}

#[derive(Debug)]
struct KeyFile {
    hash: ContentHash,
    /// The first line of the key's encoding, which holds the secret.
    key: String,
}

/// The reason why a file is private.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivacyReason {
    /// The file belongs to this profile.
    OwnProfile,
    /// The file belongs to another profile, or to a tracker.
    DataFolder,
    /// The file holds a secret key.
    Key,
    /// The file is a database of a profile or a tracker.
    Database,
    /// The file is a partial file, or the state of one.
    PartialFile,
}

impl PrivacyReason {
    /// Returns the text for the user.
    pub fn text(self) -> String {
        match self {
            Self::OwnProfile => tr!("it belongs to your account's folder, which holds your secret key"),
            Self::DataFolder => tr!("it belongs to the folder of an account or a tracker, which holds a secret key"),
            Self::Key => tr!("it holds a secret key of Vizinho"),
            Self::Database => tr!("it is a database of Vizinho, with messages or passwords in it"),
            Self::PartialFile => tr!("it is a part of a file that is being fetched: use `peer fetch --share`"),
        }
    }
}

impl PrivateData {
    /// Creates the detector of `profile`.
    pub fn of(profile: &Profile) -> Self {
        let known = PrivateDataCache { since: None, own: HashSet::new(), key: None, folders: HashMap::new() };
        Self { home: profile.home().to_owned(), cache: Mutex::new(known) }
    }

    /// Returns why a file or folder is private; `path` is absolute and without symbolic links.
    pub fn reason(&self, path: &Path, metadata: &fs::Metadata) -> Option<PrivacyReason> {
        if (metadata.is_file() && self.is_send_copy(path)) || self.is_dropped(path) {
            return None;
        }
        let known = self.refreshed_cache();
        if path.starts_with(&self.home) || known.own.contains(&inode_key(metadata)) {
            return Some(PrivacyReason::OwnProfile);
        }
        self.reason_of_path(known, path, metadata.is_dir())
    }

    /// Returns whether a share is private, by its record alone; [`PrivateData::reason_of_open`] decides for certain.
    pub fn is_private_share(&self, share: &Share) -> bool {
        if self.is_send_copy(&share.path) || self.is_dropped(&share.path) {
            return false;
        }
        let known = self.refreshed_cache();
        let is_own = |own: &InodeKey| own.inode() == share.version.inode;
        // Most inodes differ already: only a match is worth a look at the disk.
        let may_be_own = known.own.iter().any(is_own);
        let is_private = known.key.as_ref().is_some_and(|own| own.hash == share.hash)
            || share.path.starts_with(&self.home)
            || (may_be_own && fs::symlink_metadata(&share.path).is_ok_and(|now| known.own.contains(&inode_key(&now))));
        is_private || self.reason_of_path(known, &share.path, false).is_some()
    }

    /// Returns why an open file is private.
    pub fn reason_of_open(&self, path: &Path, file: &File) -> Option<PrivacyReason> {
        // A file that can't be read gives no secret away.
        let metadata = file.metadata().ok()?;
        let has_secret = || {
            let head = head_of(file);
            let is_key = || holds_key(file, &head, metadata.len(), self.own_key().as_deref());
            is_key()
                .then_some(PrivacyReason::Key)
                .or_else(|| is_database(path, &head).then_some(PrivacyReason::Database))
        };
        self.reason(path, &metadata).or_else(has_secret)
    }

    /// True for a file directly in the folder of copies; `path` is absolute and without symbolic links.
    fn is_send_copy(&self, path: &Path) -> bool {
        path.parent().is_some_and(|folder| folder == self.home.join(SEND_COPIES_FOLDER))
    }

    /// True for whatever lies within a drop; `path` is absolute and without symbolic links. A part isn't whole.
    fn is_dropped(&self, path: &Path) -> bool {
        let below = path.strip_prefix(self.home.join(DROPS_FOLDER)).ok();
        let is_part = || path.file_name().is_some_and(|name| is_partial_name(name.as_encoded_bytes()));
        below.is_some_and(|below| below.components().count() > 1) && !is_part()
    }

    /// Returns the line of this profile's key that holds the secret, to be searched for.
    pub fn own_key(&self) -> Option<String> {
        self.refreshed_cache().key.as_ref().map(|own| own.key.clone())
    }

    fn reason_of_path(
        &self,
        mut known: MutexGuard<'_, PrivateDataCache>,
        path: &Path,
        is_folder: bool,
    ) -> Option<PrivacyReason> {
        let folder = if is_folder { Some(path) } else { path.parent() };
        if folder.is_some_and(|folder| known.is_in_data_folder(folder)) {
            return Some(PrivacyReason::DataFolder);
        }
        // The check of the name below needs no cache: free it for other threads.
        drop(known);
        path.file_name()
            .is_some_and(|name| is_partial_name(name.as_encoded_bytes()))
            .then_some(PrivacyReason::PartialFile)
    }

    fn refreshed_cache(&self) -> MutexGuard<'_, PrivateDataCache> {
        let mut known = self.cache.lock();
        if known.since.is_none_or(|since| since.elapsed() >= CACHE_LIFETIME) || known.folders.len() >= MAX_CACHED {
            let (since, folders) = (Some(Instant::now()), HashMap::new());
            *known = PrivateDataCache { since, own: own_inodes(&self.home), key: KeyFile::of(&self.home), folders };
        }
        known
    }
}

impl KeyFile {
    fn of(home: &Path) -> Option<Self> {
        let text = fs::read_to_string(home.join("identity/identity.pem")).ok()?;
        let (_, key) = text.split_once(KEY_BEGINS)?;
        let key = key.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("-----"))?;
        Some(Self { hash: ContentHash::of(text.as_bytes()), key: key.to_owned() })
    }
}

impl PrivateDataCache {
    fn is_in_data_folder(&mut self, folder: &Path) -> bool {
        if let Some(known) = self.folders.get(folder) {
            return *known;
        }
        // Recursion ends at the root; each folder on the way is cached for its other files.
        let is_inside = is_data_folder(folder) || folder.parent().is_some_and(|above| self.is_in_data_folder(above));
        self.folders.insert(folder.to_owned(), is_inside);
        is_inside
    }
}

/// True for a folder with the content of a profile or a tracker.
pub fn is_data_folder(folder: &Path) -> bool {
    let has = |name: &str| fs::symlink_metadata(folder.join(name)).is_ok();
    if has("identity/identity.pem") {
        return true;
    }
    // Other programs have a `profile.db`, too: a second sign is wanted.
    let is_profile = has("profile.db") && (has("node.lock") || has("identity") || has("profile.db-wal"));
    let is_tracker = || has("tracker.db") && (has("presence.db") || has("control.sock") || has("identity"));
    is_profile || is_tracker()
}

/// Returns the inodes of the profile's own files. Other files that a user keeps there lie deeper, or are recognised by
/// their path.
fn own_inodes(home: &Path) -> HashSet<InodeKey> {
    let given = [SEND_COPIES_FOLDER, DROPS_FOLDER];
    let is_own = |entry: &walkdir::DirEntry| entry.depth() != 1 || !given.iter().any(|name| entry.file_name() == *name);
    let walk = WalkDir::new(home).max_depth(OWN_DEPTH).into_iter().filter_entry(is_own);
    let entries = walk.flatten().take(MAX_CACHED);
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| inode_key(&metadata)).collect()
}

/// Returns the first bytes of a file.
fn head_of(file: &File) -> Vec<u8> {
    let mut head = vec![0; HEAD_BYTES];
    // A file that can't be read gives no secret away.
    let read = file.read_at(&mut head, 0).unwrap_or(0);
    head.truncate(read);
    head
}

/// True if the file holds anybody's identity, a copy of the `own` key, or a tracker's backup, which has an identity in
/// it.
fn holds_key(file: &File, head: &[u8], size: u64, own: Option<&str>) -> bool {
    // Before the size, which is a bound of a key alone.
    if is_backup(head) {
        return true;
    }
    if size > KEY_BYTES {
        return false;
    }
    let mut text = vec![0; usize::try_from(size).unwrap_or(0)];
    // A file that changes its length meanwhile is checked again when it is opened to be sent.
    let read = file.read_at(&mut text, 0).unwrap_or(0);
    let text = &text[..read];
    let is_identity = || contains_bytes(text, KEY_BEGINS.as_bytes()) && certs::is_identity_pem(text);
    own.is_some_and(|own| contains_bytes(text, own.as_bytes())) || is_identity()
}

/// True for a database of a profile or a tracker, and for a log of one.
fn is_database(path: &Path, head: &[u8]) -> bool {
    // The application id in SQLite's header.
    const MARK: std::ops::Range<usize> = 68..72;
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    let is_ours = |name: &[u8]| DATABASES.iter().any(|ours| ours.as_bytes() == name);
    let is_log = |(suffix, magic): &(&str, &[u8])| {
        name.strip_suffix(suffix.as_bytes()).is_some_and(is_ours) && head.starts_with(magic)
    };
    if DATABASE_LOGS.iter().any(is_log) {
        return true;
    }
    head.starts_with(b"SQLite format 3\0") && (is_ours(name) || head.get(MARK) == Some(&profile::APPLICATION_ID))
}

/// True for a tar archive that begins with the entries of a tracker's backup.
fn is_backup(head: &[u8]) -> bool {
    // The place of the magic number in a tar header.
    const MAGIC: std::ops::Range<usize> = 257..262;
    head.starts_with(b"manifest.json\0") && head.get(MAGIC) == Some(b"ustar") && contains_bytes(head, b"identity.pem")
}

fn contains_bytes(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// True for `.NAME.HASH8.part` and `.NAME.HASH8.state`.
fn is_partial_name(name: &[u8]) -> bool {
    let stem = [PARTIAL_SUFFIX, STATE_SUFFIX].iter().find_map(|ending| name.strip_suffix(ending.as_bytes()));
    let Some((rest, hash)) = stem.and_then(|stem| stem.split_last_chunk::<8>()) else { return false };
    let is_hash = hash.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hash && rest.len() > 2 && rest.starts_with(b".") && rest.ends_with(b".")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn put(path: &Path, content: &[u8]) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::io::Write::write_all(&mut File::create(path).unwrap(), content).unwrap();
        path.to_owned()
    }

    fn reason(private: &PrivateData, path: &Path) -> Option<PrivacyReason> {
        let path = path.canonicalize().unwrap();
        private.reason(&path, &fs::symlink_metadata(&path).unwrap())
    }

    #[test]
    fn what_belongs_to_a_profile_or_a_tracker_is_private_by_whatever_way_it_is_reached() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().canonicalize().unwrap();
        let profile = Profile::open(&root.join("stuff/me")).unwrap();
        profile.identity().unwrap();
        Profile::open(&root.join("stuff/other")).unwrap().identity().unwrap();
        put(&root.join("stuff/tracker/tracker.db"), b"x");
        put(&root.join("stuff/tracker/presence.db"), b"x");
        let doc = put(&root.join("stuff/doc"), b"x");
        let key = root.join("stuff/me/identity/identity.pem");
        fs::hard_link(&key, root.join("stuff/hard")).unwrap();
        symlink(&key, root.join("stuff/soft")).unwrap();
        let private = PrivateData::of(&profile);
        for (path, expected) in [
            ("me", Some(PrivacyReason::OwnProfile)),
            ("me/profile.db", Some(PrivacyReason::OwnProfile)),
            ("hard", Some(PrivacyReason::OwnProfile)),
            ("soft", Some(PrivacyReason::OwnProfile)),
            ("other", Some(PrivacyReason::DataFolder)),
            ("other/identity", Some(PrivacyReason::DataFolder)),
            ("other/identity/identity.pem", Some(PrivacyReason::DataFolder)),
            ("tracker/tracker.db", Some(PrivacyReason::DataFolder)),
            ("doc", None),
            ("", None),
        ] {
            assert_eq!(reason(&private, &root.join("stuff").join(path)), expected, "{path}");
        }
        // A copy lies in no folder of ours; its content tells.
        let copy = put(&root.join("stuff/copy.txt"), &fs::read(&key).unwrap());
        assert_eq!(private.reason_of_open(&copy, &File::open(&copy).unwrap()), Some(PrivacyReason::Key));
        let text = fs::read_to_string(&key).unwrap();
        let alone = put(&root.join("stuff/alone"), &text.as_bytes()[text.find("-----BEGIN PRIVATE").unwrap()..]);
        assert_eq!(private.reason_of_open(&alone, &File::open(&alone).unwrap()), Some(PrivacyReason::Key));
        assert_eq!(private.reason_of_open(&doc, &File::open(&doc).unwrap()), None);
        // Neither other letters nor missing line ends make it another key.
        let other_letters = [b"caf\xe9\n".as_slice(), text.as_bytes()].concat();
        for (name, content) in [("letters", other_letters), ("row", text.replace('\n', "").into_bytes())] {
            let path = put(&root.join("stuff").join(name), &content);
            assert_eq!(private.reason_of_open(&path, &File::open(&path).unwrap()), Some(PrivacyReason::Key), "{name}");
        }
        // A database by itself, whatever it is called, and its logs.
        fs::copy(root.join("stuff/other/profile.db"), root.join("stuff/chats.bak")).unwrap();
        let log = put(&root.join("stuff/logs/profile.db-wal"), &[0x37, 0x7f, 0x06, 0x82, 0, 0]);
        let journal = put(&root.join("stuff/logs/profile.db-journal"), &[0xd9, 0xd5, 0x05, 0xf9, 0x20]);
        for path in [root.join("stuff/chats.bak"), log, journal] {
            assert_eq!(
                private.reason_of_open(&path, &File::open(&path).unwrap()),
                Some(PrivacyReason::Database),
                "{path:?}"
            );
        }
        let theirs = put(&root.join("stuff/theirs.db"), &[b"SQLite format 3\0".as_slice(), &[0; 84]].concat());
        assert_eq!(private.reason_of_open(&theirs, &File::open(&theirs).unwrap()), None);
    }

    #[test]
    fn somebody_elses_certificate_is_not_ours_to_judge() {
        let home = tempfile::tempdir().unwrap();
        let text = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nAAAA\n";
        let path = put(&home.path().join("server.pem"), text);
        let file = File::open(path).unwrap();
        assert!(!holds_key(&file, &head_of(&file), text.len() as u64, Some("BBBB")));
    }

    #[test]
    fn parts_are_known_by_their_names() {
        for part in [".film.mkv.01234567.part", ".film.mkv.89abcdef.state"] {
            assert!(is_partial_name(part.as_bytes()), "{part}");
        }
        for other in ["film.part", ".film.part", "..01234567.part", ".film.0123456g.part", ".film.01234567.parts"] {
            assert!(!is_partial_name(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn an_archive_is_only_a_backup_with_a_key_in_it() {
        let mut head = [0; 1024];
        head[..13].copy_from_slice(b"manifest.json");
        head[257..262].copy_from_slice(b"ustar");
        assert!(!is_backup(&head));
        head[600..612].copy_from_slice(b"identity.pem");
        assert!(is_backup(&head));
    }
}
