//! The keys of [`shared::account_name::NameClaim`]s as they are stored: eight bytes, of a name of whatever length.

/// Returns the number that stands for a claim. That two differing ones have one number would keep a name from somebody,
/// and no more: among 30,000 accounts the chance is one in 10^11 for a name, and to find such a name for somebody else's takes
/// 2^64 attempts.
pub(super) fn claim_key(kind: &str, key: &str) -> i64 {
    let mut hasher = blake3::Hasher::new_derive_key("vizinho 2026 claim of a user name v1");
    // The zero parts the two texts: no other pair gives the same bytes.
    hasher.update(kind.as_bytes()).update(&[0]).update(key.as_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    i64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_never_change() {
        assert_eq!(claim_key("look", "bob"), claim_key("look", "bob"));
        assert_ne!(claim_key("look", "bob"), claim_key("case", "bob"));
        assert_ne!(claim_key("look", "bob"), claim_key("look", "bobi"));
    }
}
