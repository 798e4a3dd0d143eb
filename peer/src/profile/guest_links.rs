//! Links for guests: what each gives, until when, and to whom.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | links | 100 | refused |
//! | files of a link | 20,000 | left out, and named |
//! | messages of its guests | those of [`super::guest_chat_bounds`] | refused |

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Params, Row, TransactionBehavior, params};
use shared::content::Manifest;
use shared::{ContentHash, FileName, GroupLayout};

use super::guest_chat::remove_guest_chat;
use super::sql_integer::sql_integer;
use super::{Profile, ProfileError};
use crate::sys::FileVersion;

const MAX_LINKS: i64 = 100;
const LINK_COLUMNS: &str =
    "number, id, nonce, folder, max_bytes, is_once, claimed_by, made_at, expires_at, address, pid, has_chat";
// Without the manifests, which grow with their files: a listing has up to 20,000 of them.
const FILE_COLUMNS: &str = "number, name, size, mtime_ns, crc, hash, is_delivered";

/// A link for guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestLink {
    /// Its number in the profile.
    pub number: i64,
    /// Its public name, part of its address.
    pub id: String,
    /// The value from which its token is derived.
    pub nonce: Vec<u8>,
    /// The folder that takes uploads; `None` for a link that gives files.
    pub folder: Option<PathBuf>,
    /// The bytes that it takes in all.
    pub max_bytes: u64,
    /// True if it is for one browser, until that has everything.
    pub is_once: bool,
    /// True if guests can talk with the user.
    pub has_chat: bool,
    /// The session of that browser, hashed.
    pub claimed_by: Option<Vec<u8>>,
    /// The time of its making, in milliseconds since 1970.
    pub made_at: i64,
    /// The time of its end, in milliseconds since 1970.
    pub expires_at: i64,
    /// The address and port under which it was given away.
    pub address: String,
    /// The process that serves it alone; `None` if the node does.
    pub pid: Option<u32>,
}

/// The fields of a new link.
#[derive(Debug, Clone, Copy)]
pub struct NewGuestLink<'a> {
    /// Its public name.
    pub id: &'a str,
    /// The value from which its token is derived.
    pub nonce: &'a [u8],
    /// The hash of its token.
    pub token_hash: &'a [u8],
    /// The folder that takes uploads.
    pub folder: Option<&'a Path>,
    /// The bytes that it takes in all.
    pub max_bytes: u64,
    /// True if it is for one browser.
    pub is_once: bool,
    /// True if guests can talk with the user.
    pub has_chat: bool,
    /// The time of its making, in milliseconds since 1970.
    pub made_at: i64,
    /// The time of its end, in milliseconds since 1970.
    pub expires_at: i64,
    /// The process that serves it alone.
    pub pid: Option<u32>,
}

/// A file that a link gives, as guests see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile {
    /// Its number within the link, from 0.
    pub number: u32,
    /// Its name.
    pub name: FileName,
    /// Its size in bytes.
    pub size: u64,
    /// Its modification time, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// The CRC-32 of its content, for archives.
    pub crc: u32,
    /// The BLAKE3 hash of its content.
    pub hash: ContentHash,
    /// True if the one browser of the link has it.
    pub is_delivered: bool,
}

/// A file of a link on this machine, with what proves its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGuestFile {
    /// The file as guests see it.
    pub file: GuestFile,
    /// Its absolute path.
    pub path: PathBuf,
    /// The version that was hashed.
    pub version: FileVersion,
    /// The chaining values of its groups.
    pub manifest: Manifest,
}

/// A file of a link that is made.
#[derive(Debug, Clone)]
pub struct NewGuestFile {
    /// Its name.
    pub name: FileName,
    /// Its absolute path.
    pub path: PathBuf,
    /// The version that was hashed.
    pub version: FileVersion,
    /// The CRC-32 of its content.
    pub crc: u32,
    /// The BLAKE3 hash of its content.
    pub hash: ContentHash,
    /// The chaining values of its groups.
    pub manifest: Manifest,
}

impl Profile {
    /// Stores a link and its files; returns its number, or `None` if there are too many links.
    pub fn add_guest_link(&self, new: NewGuestLink<'_>, files: &[NewGuestFile]) -> Result<Option<i64>, ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            // Counted under the lock for writing: two commands at once would both take the last place.
            let count: i64 = transaction.query_row("SELECT count(*) FROM guest_link", [], |row| row.get(0))?;
            if count >= MAX_LINKS {
                return Ok(None);
            }
            transaction.execute(
                "INSERT INTO guest_link (id, nonce, token_hash, folder, max_bytes, is_once, made_at, expires_at, pid, has_chat)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    new.id,
                    new.nonce,
                    new.token_hash,
                    new.folder.map(|folder| folder.as_os_str().as_bytes()),
                    sql_integer(new.max_bytes),
                    new.is_once,
                    new.made_at,
                    new.expires_at,
                    new.pid,
                    new.has_chat,
                ],
            )?;
            let link = transaction.last_insert_rowid();
            let mut insert = transaction.prepare_cached(
                "INSERT INTO guest_file (link, number, name, path, size, mtime_ns, ctime_ns, inode, crc, hash, manifest)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?;
            for (number, file) in (0_u32..).zip(files) {
                insert.execute(params![
                    link,
                    number,
                    file.name.as_str(),
                    file.path.as_os_str().as_bytes(),
                    sql_integer(file.version.size),
                    file.version.mtime_ns,
                    file.version.ctime_ns,
                    file.version.inode.cast_signed(),
                    file.crc,
                    file.hash.as_bytes(),
                    file.manifest.as_bytes(),
                ])?;
            }
            drop(insert);
            Ok(Some(link))
        })
    }

    /// Returns all links, the oldest first.
    pub fn guest_links(&self) -> Result<Vec<GuestLink>, ProfileError> {
        self.guest_links_where("TRUE", [])
    }

    /// Returns the link with a token of this hash.
    pub fn guest_link_by_token(&self, token_hash: &[u8]) -> Result<Option<GuestLink>, ProfileError> {
        // Found by its hash: how long a comparison takes says nothing about the token itself.
        Ok(self.guest_links_where("token_hash = ?1", [token_hash])?.pop())
    }

    /// Returns the link with this public name.
    pub fn guest_link_by_id(&self, id: &str) -> Result<Option<GuestLink>, ProfileError> {
        Ok(self.guest_links_where("id = ?1", [id])?.pop())
    }

    /// Removes a link, its files, its uploads and its conversations from the record; false if it was gone.
    pub fn remove_guest_link(&self, number: i64) -> Result<bool, ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            transaction.execute("DELETE FROM guest_file WHERE link = ?1", [number])?;
            transaction.execute("DELETE FROM guest_upload WHERE link = ?1", [number])?;
            remove_guest_chat(transaction, number)?;
            Ok(transaction.execute("DELETE FROM guest_link WHERE number = ?1", [number])? > 0)
        })
    }

    /// Records the one browser of a link; false if another has it.
    pub fn claim_guest_link(&self, number: i64, session: &[u8]) -> Result<bool, ProfileError> {
        // One statement tests and claims, so that of two browsers at once only one gets it.
        let changed = self.writer()?.execute(
            "UPDATE guest_link SET claimed_by = ?2 WHERE number = ?1 AND coalesce(claimed_by, ?2) = ?2",
            params![number, session],
        );
        self.db_result(changed).map(|rows| rows > 0)
    }

    /// Records the address and port under which a link was given away.
    pub fn set_guest_link_address(&self, number: i64, address: &str) -> Result<(), ProfileError> {
        let changed =
            self.writer()?.execute("UPDATE guest_link SET address = ?2 WHERE number = ?1", params![number, address]);
        self.db_result(changed).map(|_| ())
    }

    /// Records that the one browser of a link has a file; the link ends at `end` if that was the last.
    pub fn record_guest_delivery(&self, link: i64, file: u32, end: i64) -> Result<(), ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let deliver = "UPDATE guest_file SET is_delivered = 1 WHERE link = ?1 AND number = ?2";
            transaction.execute(deliver, params![link, file])?;
            // `min`: the last delivery may bring the end nearer, never put it off.
            transaction.execute(
                "UPDATE guest_link SET expires_at = min(expires_at, ?2) WHERE number = ?1 AND is_once
                     AND NOT EXISTS (SELECT 1 FROM guest_file WHERE link = ?1 AND NOT is_delivered)",
                params![link, end],
            )?;
            Ok(())
        })
    }

    /// Returns the files of a link in the order of their numbers, without what proves their content.
    pub fn guest_files(&self, link: i64) -> Result<Vec<GuestFile>, ProfileError> {
        let sql = format!("SELECT {FILE_COLUMNS} FROM guest_file WHERE link = ?1 ORDER BY number");
        let rows = self.query_all(self.reader(), &sql, [link], GuestFileRow::read)?;
        rows.iter().map(|row| self.checked_guest_file(row)).collect()
    }

    /// Returns one file of a link.
    pub fn guest_file(&self, link: i64, number: u32) -> Result<Option<StoredGuestFile>, ProfileError> {
        let sql = format!(
            "SELECT {FILE_COLUMNS}, path, ctime_ns, inode, manifest FROM guest_file WHERE link = ?1 AND number = ?2"
        );
        let read = |row: &Row<'_>| {
            let rest: (Vec<u8>, i64, i64, Vec<u8>) = (row.get(7)?, row.get(8)?, row.get(9)?, row.get(10)?);
            Ok((GuestFileRow::read(row)?, rest))
        };
        let row = self.reader().query_row(&sql, params![link, number], read).optional();
        let Some((row, (path, ctime_ns, inode, manifest))) = self.db_result(row)? else { return Ok(None) };
        let file = self.checked_guest_file(&row)?;
        let layout =
            GroupLayout::of(file.size).ok_or_else(|| self.damaged_error("the size of a link's file".into()))?;
        let manifest = Manifest::from_bytes(&layout, &manifest)
            .ok_or_else(|| self.damaged_error("the manifest of a link's file".into()))?;
        let version = FileVersion { size: file.size, mtime_ns: file.mtime_ns, ctime_ns, inode: inode.cast_unsigned() };
        Ok(Some(StoredGuestFile { path: PathBuf::from(OsStr::from_bytes(&path)), version, manifest, file }))
    }

    fn guest_links_where(&self, condition: &str, values: impl Params) -> Result<Vec<GuestLink>, ProfileError> {
        let sql = format!("SELECT {LINK_COLUMNS} FROM guest_link WHERE {condition} ORDER BY number");
        self.query_all(self.reader(), &sql, values, |row| {
            let folder: Option<Vec<u8>> = row.get(3)?;
            Ok(GuestLink {
                number: row.get(0)?,
                id: row.get(1)?,
                nonce: row.get(2)?,
                folder: folder.map(|folder| PathBuf::from(OsStr::from_bytes(&folder))),
                // A negative bound, which no release writes, takes nothing rather than everything.
                max_bytes: u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
                is_once: row.get(5)?,
                claimed_by: row.get(6)?,
                made_at: row.get(7)?,
                expires_at: row.get(8)?,
                address: row.get(9)?,
                pid: row.get(10)?,
                has_chat: row.get(11)?,
            })
        })
    }

    fn checked_guest_file(&self, row: &GuestFileRow) -> Result<GuestFile, ProfileError> {
        let damaged = || self.damaged_error(format!("the file {} of a link", row.number));
        let hash: [u8; 32] = row.hash.as_slice().try_into().map_err(|_| damaged())?;
        Ok(GuestFile {
            number: row.number,
            name: row.name.parse().map_err(|_| damaged())?,
            size: u64::try_from(row.size).map_err(|_| damaged())?,
            mtime_ns: row.mtime_ns,
            crc: row.crc,
            hash: ContentHash::from_bytes(hash),
            is_delivered: row.is_delivered,
        })
    }
}

struct GuestFileRow {
    number: u32,
    name: String,
    size: i64,
    mtime_ns: i64,
    crc: u32,
    hash: Vec<u8>,
    is_delivered: bool,
}

impl GuestFileRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            number: row.get(0)?,
            name: row.get(1)?,
            size: row.get(2)?,
            mtime_ns: row.get(3)?,
            crc: row.get(4)?,
            hash: row.get(5)?,
            is_delivered: row.get(6)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(profile: &Profile, id: &str, files: &[NewGuestFile]) -> Option<i64> {
        let new = NewGuestLink {
            id,
            nonce: b"nonce",
            token_hash: id.as_bytes(),
            folder: None,
            max_bytes: 100,
            is_once: true,
            has_chat: false,
            made_at: 1,
            expires_at: 1000,
            pid: None,
        };
        profile.add_guest_link(new, files).unwrap()
    }

    fn file(name: &str) -> NewGuestFile {
        let layout = GroupLayout::of(3).unwrap();
        NewGuestFile {
            name: name.parse().unwrap(),
            path: PathBuf::from("/data").join(name),
            version: FileVersion { size: 3, mtime_ns: 5, ctime_ns: 6, inode: u64::MAX },
            crc: 0xffff_ffff,
            hash: ContentHash::of(b"abc"),
            manifest: Manifest::new(vec![layout.chaining_value(0, b"abc")]),
        }
    }

    #[test]
    fn a_link_is_found_by_its_token_and_goes_with_all_it_has() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let number = add(&profile, "abc", &[file("a"), file("docs/b")]).unwrap();
        let link = profile.guest_link_by_token(b"abc").unwrap().unwrap();
        assert_eq!((link.number, link.folder.clone(), link.expires_at), (number, None, 1000));
        assert_eq!(profile.guest_link_by_id("abc").unwrap(), Some(link));
        assert_eq!(profile.guest_link_by_token(b"abd").unwrap(), None);
        let files = profile.guest_files(number).unwrap();
        assert_eq!(files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["a", "docs/b"]);
        let stored = profile.guest_file(number, 1).unwrap().unwrap();
        assert_eq!((&stored.file, stored.version), (&files[1], file("x").version));
        assert!(profile.remove_guest_link(number).unwrap() && !profile.remove_guest_link(number).unwrap());
        assert_eq!(profile.guest_files(number).unwrap(), []);
    }

    #[test]
    fn a_link_for_one_browser_ends_when_it_has_everything() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let number = add(&profile, "abc", &[file("a"), file("b")]).unwrap();
        assert!(profile.claim_guest_link(number, b"one").unwrap());
        assert!(profile.claim_guest_link(number, b"one").unwrap(), "the same browser goes on");
        assert!(!profile.claim_guest_link(number, b"other").unwrap());
        let end = || profile.guest_links().unwrap()[0].expires_at;
        profile.record_guest_delivery(number, 1, 70).unwrap();
        assert_eq!(end(), 1000);
        profile.record_guest_delivery(number, 0, 70).unwrap();
        assert_eq!(end(), 70);
    }

    #[test]
    fn there_are_at_most_a_hundred_links() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        for number in 0..MAX_LINKS {
            add(&profile, &number.to_string(), &[]).unwrap();
        }
        assert_eq!(add(&profile, "more", &[]), None);
    }
}
