//! Uploads to links: what was announced, where its part is, and what became of it.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | bytes that a link takes, those of unfinished uploads included | as the link says | refused |
//! | uploads of a link | 10,000 | refused |

use rusqlite::{OptionalExtension, Row, TransactionBehavior, params};
use shared::ContentHash;

use super::sql_integer::sql_integer;
use super::{Profile, ProfileError};

const MAX_UPLOADS: i64 = 10_000;
const COLUMNS: &str = "number, name, size, part, placed, hash, link";

/// An upload to a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestUpload {
    /// Its number in the profile, which another one gets once it is removed.
    pub number: i64,
    /// The number of its link, which no other link ever gets.
    pub link: i64,
    /// The name that the guest gave.
    pub name: String,
    /// Its size in bytes, as announced.
    pub size: u64,
    /// The name of its part in the folder; empty if a later upload has it.
    pub part: String,
    /// Its final name and its hash, if it is complete.
    pub placed: Option<(String, ContentHash)>,
}

/// The answer to an announced upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadReservation {
    /// Its bytes are set aside, now or earlier.
    Reserved(GuestUpload),
    /// The link takes no more than this number of bytes.
    OverQuota(u64),
    /// The link has had too many uploads.
    TooMany,
    /// The link was removed, or has expired.
    Ended,
}

impl Profile {
    /// Sets the bytes of an upload aside, if the link holds at `now`. One with the same key goes on, unless it is to be
    /// begun anew.
    pub fn reserve_guest_upload(
        &self,
        (link, max_bytes, now): (i64, u64, i64),
        key: &[u8],
        (name, size): (&str, u64),
        part: &str,
        anew: bool,
    ) -> Result<UploadReservation, ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            // Together with the reservation: one for a link that is gone would be found by nobody.
            let is_live = "SELECT 1 FROM guest_link WHERE number = ?1 AND expires_at > ?2";
            if !transaction.prepare_cached(is_live)?.exists([link, now])? {
                return Ok(UploadReservation::Ended);
            }
            let known = format!("SELECT {COLUMNS} FROM guest_upload WHERE link = ?1 AND key = ?2");
            if let Some(known) = transaction.query_row(&known, params![link, key], read_upload).optional()? {
                if !anew {
                    // No quota is asked: its bytes are among those set aside.
                    return Ok(UploadReservation::Reserved(known));
                }
                // Whatever was completed under the key still counts; its part is from now on that of the new one.
                transaction.execute(
                    "UPDATE guest_upload SET key = NULL, part = '' WHERE number = ?1 AND placed IS NOT NULL",
                    [known.number],
                )?;
                transaction.execute("DELETE FROM guest_upload WHERE number = ?1 AND placed IS NULL", [known.number])?;
            }
            let sum = "SELECT count(*), coalesce(sum(size), 0) FROM guest_upload WHERE link = ?1";
            let (count, taken): (i64, i64) =
                transaction.query_row(sum, [link], |row| Ok((row.get(0)?, row.get(1)?)))?;
            // A negative sum, which no release writes, leaves nothing rather than everything.
            let left = max_bytes.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
            if size > left {
                return Ok(UploadReservation::OverQuota(left));
            }
            if count >= MAX_UPLOADS {
                return Ok(UploadReservation::TooMany);
            }
            transaction.execute(
                "INSERT INTO guest_upload (link, key, name, size, part) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![link, key, name, sql_integer(size), part],
            )?;
            let number = transaction.last_insert_rowid();
            let (name, part) = (name.to_owned(), part.to_owned());
            Ok(UploadReservation::Reserved(GuestUpload { number, link, name, size, part, placed: None }))
        })
    }

    /// Returns the upload to a link with this key.
    pub fn guest_upload(&self, link: i64, key: &[u8]) -> Result<Option<GuestUpload>, ProfileError> {
        let sql = format!("SELECT {COLUMNS} FROM guest_upload WHERE link = ?1 AND key = ?2");
        let found = self.reader().query_row(&sql, params![link, key], read_upload).optional();
        self.db_result(found)
    }

    /// Returns all uploads to a link, in the order in which they were announced.
    pub fn guest_uploads(&self, link: i64) -> Result<Vec<GuestUpload>, ProfileError> {
        let sql = format!("SELECT {COLUMNS} FROM guest_upload WHERE link = ?1 ORDER BY number");
        self.query_all(self.reader(), &sql, [link], read_upload)
    }

    /// Records that an upload is complete, with its name and its size; false if its link was removed meanwhile.
    pub fn complete_guest_upload(
        &self,
        upload: &GuestUpload,
        (placed, size): (&str, u64),
        hash: &ContentHash,
    ) -> Result<bool, ProfileError> {
        let changed = self.writer()?.execute(
            "UPDATE guest_upload SET placed = ?3, size = ?4, hash = ?5 WHERE number = ?1 AND link = ?2",
            params![upload.number, upload.link, placed, sql_integer(size), hash.as_bytes()],
        );
        self.db_result(changed).map(|rows| rows > 0)
    }

    /// Forgets an upload that was given up.
    pub fn remove_guest_upload(&self, upload: &GuestUpload) -> Result<(), ProfileError> {
        let sql = "DELETE FROM guest_upload WHERE number = ?1 AND link = ?2";
        let changed = self.writer()?.execute(sql, [upload.number, upload.link]);
        self.db_result(changed).map(|_| ())
    }
}

fn read_upload(row: &Row<'_>) -> rusqlite::Result<GuestUpload> {
    let (placed, hash): (Option<String>, Option<[u8; 32]>) = (row.get(4)?, row.get(5)?);
    Ok(GuestUpload {
        number: row.get(0)?,
        name: row.get(1)?,
        size: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
        part: row.get(3)?,
        placed: placed.zip(hash.map(ContentHash::from_bytes)),
        link: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::NewGuestLink;

    #[test]
    fn announced_bytes_count_until_they_are_replaced() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let new = NewGuestLink {
            id: "abc",
            nonce: b"nonce",
            token_hash: b"hash",
            folder: None,
            max_bytes: 100,
            is_once: false,
            has_chat: false,
            made_at: 1,
            expires_at: 1000,
            pid: None,
        };
        let link = profile.add_guest_link(new, &[]).unwrap().unwrap();
        let reserve_at = |now, key: &[u8], size, anew| {
            profile.reserve_guest_upload((link, 100, now), key, ("a", size), ".a.part", anew).unwrap()
        };
        let reserve = |key: &[u8], size, anew| reserve_at(999, key, size, anew);
        let UploadReservation::Reserved(first) = reserve(b"k", 60, false) else { panic!("it is taken") };
        assert_eq!(reserve(b"k", 60, false), UploadReservation::Reserved(first.clone()), "it goes on");
        assert_eq!(reserve(b"l", 41, false), UploadReservation::OverQuota(40));
        let UploadReservation::Reserved(second) = reserve(b"k", 100, true) else { panic!("in place of the first") };
        assert!(profile.complete_guest_upload(&second, ("a (2)", 100), &ContentHash::of(b"x")).unwrap());
        let done = profile.guest_upload(link, b"k").unwrap().unwrap();
        assert_eq!(done.placed, Some(("a (2)".to_owned(), ContentHash::of(b"x"))));
        assert_eq!(reserve(b"k", 1, true), UploadReservation::OverQuota(0), "what is complete stays counted");
        assert_eq!(profile.guest_uploads(link).unwrap().len(), 1);
        assert!(profile.complete_guest_upload(&second, ("a (2)", 40), &ContentHash::of(b"x")).unwrap());
        let UploadReservation::Reserved(third) = reserve(b"m", 60, false) else { panic!("it was smaller") };
        profile.remove_guest_upload(&third).unwrap();
        assert_eq!(profile.guest_uploads(link).unwrap().len(), 1);
        for key in [&b"k"[..], b"n"] {
            assert_eq!(reserve_at(1000, key, 1, false), UploadReservation::Ended, "it has expired");
        }
        profile.remove_guest_link(link).unwrap();
        assert_eq!(reserve(b"n", 1, false), UploadReservation::Ended);
        assert_eq!(profile.guest_uploads(link).unwrap(), []);
        // Its number may be another upload's by now.
        let next = profile.add_guest_link(NewGuestLink { id: "next", nonce: b"next", token_hash: b"next", ..new }, &[]);
        let next = next.unwrap().unwrap();
        let other = profile.reserve_guest_upload((next, 100, 1), b"k", ("b", 1), ".b.part", false).unwrap();
        let UploadReservation::Reserved(other) = other else { panic!("it is taken") };
        assert_eq!(other.number, second.number);
        assert!(!profile.complete_guest_upload(&second, ("a", 1), &ContentHash::of(b"x")).unwrap());
        profile.remove_guest_upload(&second).unwrap();
        assert_eq!(profile.guest_uploads(next).unwrap(), [other]);
    }
}
