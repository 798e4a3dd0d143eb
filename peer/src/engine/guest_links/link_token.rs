//! Tokens of links, and the sessions that browsers get for them.
//!
//! A token is 128 bits, derived from the profile's key and a nonce on record: its hash finds the link, and whoever has the
//! key can print it again, but the database alone gives nobody a token. A session is a random number with a tag that only
//! the key's owner can make, so that sessions outlast the process and take no memory.

use blake3::Hasher;
use certs::Identity;
use zeroize::Zeroizing;

const TOKEN_BYTES: usize = 16;
/// 128 bits in base32.
const TOKEN_DIGITS: usize = 26;
const GROUP_DIGITS: usize = 5;
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The secret that opens a link.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkToken([u8; TOKEN_BYTES]);

/// The keys of tokens and sessions, from the profile's key. Overwritten when dropped.
#[derive(Clone)]
pub(super) struct LinkSecrets {
    tokens: Zeroizing<[u8; 32]>,
    sessions: Zeroizing<[u8; 32]>,
}

/// The number of one browser that opened a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestSession([u8; 16]);

impl LinkToken {
    /// Reads a token, as people type it: case, spaces and hyphens don't count, and digits that look like letters are those.
    pub fn parse(text: &str) -> Option<Self> {
        let (mut bytes, mut filled, mut bits, mut buffer) = ([0; TOKEN_BYTES], 0, 0_u32, 0_u32);
        let mut digits = 0;
        for c in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            let value = match c.to_ascii_lowercase() {
                letter @ 'a'..='z' => u32::from(letter) - u32::from('a'),
                digit @ '2'..='7' => u32::from(digit) - u32::from('2') + 26,
                // Base32 has no such digits (RFC 4648), so O and L are meant.
                '0' => 14,
                '1' => 11,
                _ => return None,
            };
            digits += 1;
            (buffer, bits) = (buffer << 5 | value, bits + 5);
            if bits >= 8 {
                bits -= 8;
                *bytes.get_mut(filled)? = (buffer >> bits & 0xff) as u8;
                filled += 1;
                buffer &= (1 << bits) - 1;
            }
        }
        // The bits that are left over have to be zero, or several texts would be one token.
        (digits == TOKEN_DIGITS && filled == TOKEN_BYTES && buffer == 0).then_some(Self(bytes))
    }

    /// Returns the token as it stands in an address.
    pub fn text(&self) -> String {
        base32(&self.0)
    }

    /// Returns the token in groups, for people who type it.
    pub fn grouped(&self) -> String {
        let text = self.text();
        let starts: Vec<usize> = (0..TOKEN_DIGITS - 1).step_by(GROUP_DIGITS).collect();
        // The last digit, which is left over, belongs to the last group.
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        starts.iter().zip(ends).map(|(start, end)| &text[*start..end]).collect::<Vec<_>>().join("-")
    }

    /// Returns the hash under which the link is on record.
    pub(super) fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.0).as_bytes()
    }
}

impl std::fmt::Debug for LinkToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkToken")
    }
}

impl LinkSecrets {
    /// Derives the keys from the profile's key.
    pub(super) fn of(identity: &Identity) -> Self {
        Self {
            tokens: Zeroizing::new(identity.derive_secret("vizinho 2026 tokens of guest links")),
            sessions: Zeroizing::new(identity.derive_secret("vizinho 2026 sessions of guest links")),
        }
    }

    /// Returns the token of the link with this nonce.
    pub(super) fn token(&self, nonce: &[u8]) -> LinkToken {
        LinkToken(first_half(&blake3::keyed_hash(&self.tokens, nonce)))
    }

    /// Returns the text of a session, which its browser keeps.
    pub(super) fn session_text(&self, link: &str, session: GuestSession) -> String {
        shared::hex::encode(&[session.0, self.tag(link, session)].concat())
    }

    /// Reads the text of a session of a link; `None` if it wasn't made here for that link.
    pub(super) fn session(&self, link: &str, text: &str) -> Option<GuestSession> {
        let bytes: [u8; 32] = shared::hex::decode(text).ok()?;
        let session = GuestSession(first_bytes(&bytes));
        // Compared by their hashes' equality, in constant time.
        let presented = blake3::hash(&bytes[16..]);
        (presented == blake3::hash(&self.tag(link, session))).then_some(session)
    }

    fn tag(&self, link: &str, session: GuestSession) -> [u8; 16] {
        let mut hasher = Hasher::new_keyed(&self.sessions);
        hasher.update(&session.0).update(link.as_bytes());
        first_half(&hasher.finalize())
    }
}

impl std::fmt::Debug for LinkSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkSecrets")
    }
}

impl GuestSession {
    /// Returns a new session.
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    /// Returns the form in which a claim on a link is on record.
    pub(super) fn claim(&self) -> [u8; 32] {
        *blake3::hash(&self.0).as_bytes()
    }
}

/// Returns bytes in base32 (RFC 4648, section 6), in lower case and without padding.
pub(super) fn base32(bytes: &[u8]) -> String {
    let (mut text, mut buffer, mut bits) = (String::new(), 0_u32, 0_u32);
    for byte in bytes {
        (buffer, bits) = (buffer << 8 | u32::from(*byte), bits + 8);
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(DIGITS[(buffer >> bits & 31) as usize]));
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(DIGITS[(buffer << (5 - bits) & 31) as usize]));
    }
    text
}

fn first_half(hash: &blake3::Hash) -> [u8; 16] {
    first_bytes(hash.as_bytes())
}

fn first_bytes(bytes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|at| bytes[at])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base32_of_the_specification() {
        for (bytes, text) in [("", ""), ("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foobar", "mzxw6ytboi")] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }

    proptest! {
        #[test]
        fn a_token_is_read_however_it_is_typed(bytes: [u8; TOKEN_BYTES]) {
            let token = LinkToken(bytes);
            prop_assert_eq!(token.text().len(), TOKEN_DIGITS);
            for typed in [token.text(), token.grouped(), token.grouped().to_uppercase().replace('-', " "),
                          token.text().replace('o', "0").replace('l', "1")] {
                prop_assert_eq!(LinkToken::parse(&typed), Some(token.clone()));
            }
        }

        #[test]
        fn nothing_else_is_a_token(text: String) {
            prop_assert!(LinkToken::parse(&text).is_none() || text.len() >= TOKEN_DIGITS);
        }
    }

    #[test]
    fn a_token_has_one_spelling_of_its_bits() {
        let text = LinkToken([0; TOKEN_BYTES]).text();
        for wrong in [format!("{text}a"), text[1..].to_owned(), text.replacen('a', "é", 1), format!("{}b", &text[1..])]
        {
            assert_eq!(LinkToken::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_session_is_for_its_link_alone() {
        let identity = Identity::generate().unwrap();
        let secrets = LinkSecrets::of(&identity);
        let session = GuestSession::random();
        let text = secrets.session_text("abc", session);
        assert_eq!(secrets.session("abc", &text), Some(session));
        assert_eq!(secrets.session("abd", &text), None);
        assert_eq!(LinkSecrets::of(&Identity::generate().unwrap()).session("abc", &text), None);
        for at in 0..text.len() {
            let digit = if &text[at..=at] == "0" { "1" } else { "0" };
            let other = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
            assert_eq!(secrets.session("abc", &other), None);
        }
        assert_ne!(secrets.token(b"one"), secrets.token(b"two"));
        assert_eq!(LinkSecrets::of(&identity).token(b"one"), secrets.token(b"one"));
    }
}
