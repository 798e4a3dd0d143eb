//! The rules of accounts, the same for every database. Each runs in one transaction.

#[cfg(test)]
mod tests;

use std::time::SystemTime;

use shared::account_name::{NewUserName, name_claims, suggest_alternatives};
use shared::{Fingerprint, UserName};

use super::claim_key::claim_key;
use super::room_rules::{self, RecordStamp};
use super::room_values::RoomOutcome;
use super::store_rows::StoreRows;
use super::{Account, AccountStoreError, StoreResult, unix_ms};
use crate::registry::{FORMER_KEYS, FormerKey};

/// Refuses a name that an account has or claims.
pub(super) fn ensure_name_free(rows: &dyn StoreRows, user: &UserName) -> StoreResult {
    if rows.find_account(user)?.is_some() {
        return Err(AccountStoreError::NameTaken(user.clone()));
    }
    match rows.claim_holder(&claim_keys(user))? {
        Some(taken) => Err(AccountStoreError::NameLike { wanted: user.clone(), taken }),
        None => Ok(()),
    }
}

/// Returns a free name for a user who wants this one.
pub(super) fn find_free_name(rows: &dyn StoreRows, wanted: &UserName) -> StoreResult<Option<NewUserName>> {
    for name in suggest_alternatives(wanted) {
        match ensure_name_free(rows, name.as_user_name()) {
            Ok(()) => return Ok(Some(name)),
            Err(AccountStoreError::NameTaken(_) | AccountStoreError::NameLike { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(None)
}

/// Makes an account with its claims.
pub(super) fn create(rows: &dyn StoreRows, account: &Account, lapses: Option<SystemTime>) -> StoreResult {
    // A hash has a salt of its own: an account with the same one is this one, made by the first attempt.
    if rows.find_account(&account.user)?.as_ref() == Some(account) {
        return Ok(());
    }
    ensure_name_free(rows, &account.user)?;
    rows.insert_account(account)?;
    insert_claims(rows, std::slice::from_ref(&account.user))?;
    match lapses {
        Some(lapses) => rows.set_lapse(&account.user, unix_ms(lapses)),
        None => Ok(()),
    }
}

/// Replaces the hash `old` by `new`.
pub(super) fn set_password(rows: &dyn StoreRows, user: &UserName, old: &str, new: &str) -> StoreResult {
    // An attempt that is repeated after a lost answer finds its own hash.
    let is_known = |account: &Account| account.password_hash == old || account.password_hash == new;
    match rows.find_account(user)? {
        Some(account) if is_known(&account) => rows.set_password_hash(user, new).map(drop),
        _ => Err(AccountStoreError::Changed),
    }
}

/// Replaces the account's hash, whatever it was.
pub(super) fn reset_password(rows: &dyn StoreRows, user: &UserName, new: &str) -> StoreResult {
    if rows.set_password_hash(user, new)? { Ok(()) } else { Err(AccountStoreError::NoAccount) }
}

/// Replaces the binding `old` by `new`, and records `old` as a former key.
pub(super) fn bind(
    rows: &dyn StoreRows,
    stamp: RecordStamp<'_>,
    user: &UserName,
    old: Option<&FormerKey>,
    new: Fingerprint,
) -> StoreResult<Vec<RoomOutcome>> {
    let bound = rows.find_account(user)?.ok_or(AccountStoreError::Changed)?.binding;
    if bound != old.map(|former| former.fingerprint) && bound != Some(new) {
        return Err(AccountStoreError::Changed);
    }
    rows.set_binding(user, Some(new))?;
    if let Some(former) = old {
        // A key may be bound again and replaced again: the last time counts.
        rows.set_former_key(former)?;
        rows.trim_former_keys(FORMER_KEYS)?;
    }
    // A membership is of the key that its record names, and nobody has the one of before any more.
    room_rules::end_memberships(rows, stamp, user, Some(new))
}

/// Removes the account's binding, and ends its memberships.
pub(super) fn unbind(rows: &dyn StoreRows, stamp: RecordStamp<'_>, user: &UserName) -> StoreResult<Vec<RoomOutcome>> {
    if !rows.set_binding(user, None)? {
        return Err(AccountStoreError::NoAccount);
    }
    room_rules::end_memberships(rows, stamp, user, None)
}

/// Removes the account, and gives its claims to others that look like it.
pub(super) fn remove(rows: &dyn StoreRows, stamp: RecordStamp<'_>, user: &UserName) -> StoreResult<Vec<RoomOutcome>> {
    delete(rows, user)?;
    // Accounts older than the claims may look alike: then only one had the claim, and the other gets it now.
    claim_free_names(rows)?;
    room_rules::forget_user(rows, stamp, user)
}

/// Removes the account if it lapsed until `until`.
pub(super) fn remove_lapsed(
    rows: &dyn StoreRows,
    stamp: RecordStamp<'_>,
    user: &UserName,
    until: SystemTime,
) -> StoreResult<Vec<RoomOutcome>> {
    // Asked again: it may have been used since it was found.
    if rows.lapse_of(user)?.is_none_or(|lapses_ms| lapses_ms > unix_ms(until)) {
        return Err(AccountStoreError::NoAccount);
    }
    delete(rows, user)?;
    room_rules::forget_user(rows, stamp, user)
}

/// Claims the names of all accounts that are not claimed yet, in the order of the names.
pub(super) fn claim_free_names(rows: &dyn StoreRows) -> StoreResult {
    let users: Vec<UserName> = rows.bindings()?.into_iter().map(|(user, _)| user).collect();
    insert_claims(rows, &users)
}

fn insert_claims(rows: &dyn StoreRows, users: &[UserName]) -> StoreResult {
    let of_user = |user| claim_keys(user).into_iter().map(move |key| (key, user));
    rows.insert_free_claims(&users.iter().flat_map(of_user).collect::<Vec<_>>())
}

fn delete(rows: &dyn StoreRows, user: &UserName) -> StoreResult {
    if !rows.delete_account(user)? {
        return Err(AccountStoreError::NoAccount);
    }
    rows.delete_claims(user, &claim_keys(user))?;
    // A key of before would otherwise lead to whoever gets the name next.
    rows.delete_former_keys(user)?;
    rows.delete_lapse(user)
}

fn claim_keys(user: &UserName) -> Vec<i64> {
    name_claims(user).into_iter().map(|claim| claim_key(claim.kind.as_str(), &claim.key)).collect()
}
