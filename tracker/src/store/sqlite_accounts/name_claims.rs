//! The claims of accounts on their names and on all that look like them.

use rusqlite::{Connection, params};
use shared::UserName;
use shared::account_name::{NameClaim, name_claims};

use crate::store::claim_key::claim_key;
use crate::store::sqlite_query::{parsed, query_optional, query_value};
use crate::store::{AccountStoreError, StoreResult};

/// Refuses a name that an account has or claims.
pub(super) fn ensure_name_free(db: &Connection, user: &UserName) -> StoreResult {
    if query_value(db, "SELECT EXISTS (SELECT 1 FROM account WHERE user = ?1)", [user.as_str()])? {
        return Err(AccountStoreError::NameTaken(user.clone()));
    }
    for NameClaim { kind, key } in name_claims(user) {
        let holder = "SELECT user FROM name_claim WHERE key = ?1";
        let key = claim_key(kind.as_str(), &key);
        if let Some(taken) = query_optional(db, holder, [key], |row| parsed(row, 0))? {
            return Err(AccountStoreError::NameLike { wanted: user.clone(), taken });
        }
    }
    Ok(())
}

/// Claims the account's names that no other account claims.
pub(super) fn claim(db: &Connection, user: &UserName) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT OR IGNORE INTO name_claim (key, user) VALUES (?1, ?2)")?;
    for NameClaim { kind, key } in name_claims(user) {
        insert.execute(params![claim_key(kind.as_str(), &key), user.as_str()])?;
    }
    Ok(())
}

/// Takes the account's claims back.
pub(super) fn remove_claims(db: &Connection, user: &UserName) -> rusqlite::Result<()> {
    let mut delete = db.prepare_cached("DELETE FROM name_claim WHERE key = ?1 AND user = ?2")?;
    for NameClaim { kind, key } in name_claims(user) {
        delete.execute(params![claim_key(kind.as_str(), &key), user.as_str()])?;
    }
    Ok(())
}

/// Claims the names of all accounts that are not claimed yet, in the order of the names.
pub(super) fn claim_free_names(db: &Connection) -> rusqlite::Result<()> {
    parsable_users(db)?.iter().try_for_each(|user| claim(db, user))
}

/// Returns the users, ordered by name.
pub(super) fn parsable_users(db: &Connection) -> rusqlite::Result<Vec<UserName>> {
    let mut query = db.prepare("SELECT user FROM account ORDER BY user")?;
    let users = query.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    // A stored name that isn't valid is reported when the accounts are read.
    Ok(users.iter().filter_map(|user| user.parse().ok()).collect())
}
