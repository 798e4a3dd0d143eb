//! The schema of the account database, step by step.

use rusqlite::{Connection, Transaction, params};
use shared::UserName;
use shared::account_name::{NameClaim, name_claims};

use super::room_schema::create_tables;
use crate::store::claim_key::claim_key;

/// The steps that bring the schema from version `n` to `n + 1`, in order. Released steps never change: append new ones.
pub(super) const MIGRATIONS: [fn(&Transaction<'_>) -> rusqlite::Result<()>; 7] = [
    |step| {
        step.execute_batch(
            "CREATE TABLE account (
                user TEXT NOT NULL PRIMARY KEY,
                password_hash TEXT NOT NULL,
                fingerprint BLOB UNIQUE CHECK (fingerprint IS NULL OR length(fingerprint) = 32)
            ) STRICT, WITHOUT ROWID",
        )
    },
    |step| {
        step.execute_batch(
            "CREATE TABLE name_claim (
                kind TEXT NOT NULL,
                key TEXT NOT NULL,
                user TEXT NOT NULL,
                PRIMARY KEY (kind, key)
            ) STRICT, WITHOUT ROWID;
            CREATE INDEX name_claim_user ON name_claim (user);
            CREATE INDEX account_user_nocase ON account (user COLLATE NOCASE);",
        )?;
        claim_free_names_as_text(step)
    },
    |step| {
        step.execute_batch(
            "CREATE TABLE former_key (
                fingerprint BLOB NOT NULL PRIMARY KEY CHECK (length(fingerprint) = 32),
                user TEXT NOT NULL,
                -- When another key took its place, milliseconds since 1970.
                moved_ms INTEGER NOT NULL
            ) STRICT, WITHOUT ROWID;
            CREATE INDEX former_key_moved ON former_key (moved_ms);",
        )
    },
    // The readings of names' looks changed: claims are made anew.
    |step| {
        step.execute("DELETE FROM name_claim WHERE kind = 'look'", [])?;
        claim_free_names_as_text(step)
    },
    // Keys of claims take eight bytes each, however long the name is.
    |step| {
        step.execute_batch(
            "ALTER TABLE name_claim RENAME TO old_claim;
            CREATE TABLE name_claim (key INTEGER NOT NULL PRIMARY KEY, user TEXT NOT NULL) STRICT;",
        )?;
        {
            let mut old = step.prepare("SELECT kind, key, user FROM old_claim")?;
            let mut insert = step.prepare("INSERT OR IGNORE INTO name_claim (key, user) VALUES (?1, ?2)")?;
            let mut rows = old.query([])?;
            while let Some(row) = rows.next()? {
                let (kind, key): (String, String) = (row.get(0)?, row.get(1)?);
                insert.execute(params![claim_key(&kind, &key), row.get::<_, String>(2)?])?;
            }
        }
        step.execute_batch("DROP TABLE old_claim")
    },
    // Earlier versions didn't record logins: their accounts have a year to be used.
    |step| {
        step.execute_batch(
            "CREATE TABLE unused_account (
                user TEXT NOT NULL PRIMARY KEY,
                -- When it is removed unless it is used until then, milliseconds since 1970.
                lapses_ms INTEGER NOT NULL
            ) STRICT, WITHOUT ROWID;
            INSERT INTO unused_account
                SELECT user, (CAST(strftime('%s', 'now') AS INTEGER) + 365 * 86400) * 1000 FROM account;",
        )
    },
    create_tables,
];

/// Brings the schema from version `found` to the latest.
pub(super) fn migrate(db: &mut Connection, found: usize) -> rusqlite::Result<()> {
    for (version, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        // The version changes in the same transaction, so that no step is done twice.
        let step = db.transaction()?;
        migration(&step)?;
        step.pragma_update(None, "user_version", version + 1)?;
        step.commit()?;
    }
    Ok(())
}

/// Claims free names in the schema of versions 2 to 4, in which a key is its text.
fn claim_free_names_as_text(db: &Connection) -> rusqlite::Result<()> {
    let mut insert = db.prepare("INSERT OR IGNORE INTO name_claim (kind, key, user) VALUES (?1, ?2, ?3)")?;
    for user in parsable_users(db)? {
        for NameClaim { kind, key } in name_claims(&user) {
            insert.execute([kind.as_str(), &key, user.as_str()])?;
        }
    }
    Ok(())
}

/// Returns the users, ordered by name.
fn parsable_users(db: &Connection) -> rusqlite::Result<Vec<UserName>> {
    let mut query = db.prepare("SELECT user FROM account ORDER BY user")?;
    let users = query.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    // A stored name that isn't valid is reported when the accounts are read.
    Ok(users.iter().filter_map(|user| user.parse().ok()).collect())
}
