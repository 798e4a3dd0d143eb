//! The values that arguments have.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use shared::limits::FIND_WORDS;
use shared::tracker::{HashText, Wanted, Words};
use shared::{ContentHash, FileName};

use crate::engine::Error;
use crate::engine::fetch::Destination;
use crate::engine::node::Forwarded;
use crate::sys::{Outlet, outlet};

/// Reads where to fetch to: a folder if it is one or ends like one, `-` for standard output, a pipe or a device as a stream;
/// else what is fetched decides.
///
/// # Errors
/// [`Error::Disk`] for what can't be written to like that.
pub(super) fn destination(path: PathBuf) -> Result<Destination, Error> {
    if path.as_os_str() == "-" {
        return Ok(Destination::Stdout);
    }
    let ends_like_a_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    if ends_like_a_folder || path.is_dir() || path.file_name().is_none() {
        return Ok(Destination::Folder(path));
    }
    match outlet(&path) {
        Outlet::Files => Ok(Destination::FileOrFolder(path)),
        Outlet::Stdout => Ok(Destination::Stdout),
        Outlet::Stream => Ok(Destination::Stream(path)),
        Outlet::Unusable(why) => {
            let why = format!("{why}: give a file, a folder, a pipe, or - for standard output");
            Err(Error::disk(&path)(std::io::Error::other(why)))
        }
    }
}

/// `40000`, `192.0.2.7:40000` or `[2001:db8::7]:40000`.
pub(super) fn forwarded(text: &str) -> Result<Forwarded, String> {
    let wrong = || format!("{text:?} is neither PORT nor IP:PORT");
    let (ip, port) = match text.parse::<SocketAddr>() {
        Ok(address) => (Some(address.ip()), address.port()),
        Err(_) => (None, text.parse().map_err(|_| wrong())?),
    };
    Ok(Forwarded { ip, port: NonZeroU16::new(port).ok_or_else(wrong)? })
}

/// By what to find files: one hash, or words.
pub(super) fn wanted(words: &[String]) -> Result<Wanted, Error> {
    if let [only] = words
        && let Ok(hash) = only.parse::<ContentHash>()
    {
        return Ok(Wanted::Hash(hash.into()));
    }
    let none =
        || Error::Usage(format!("give 1 to {FIND_WORDS} words of letters and digits, or one hash of 64 hex digits"));
    Words::new(&words.join(" ")).map(Wanted::Words).ok_or_else(none)
}

pub(super) fn hash_text(text: &str) -> Result<HashText, String> {
    HashText::new(text).ok_or_else(|| "a hash has at most 128 characters".to_owned())
}

pub(super) fn count(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// `500k`, `10M`, `1G`: bytes a second, in powers of ten as networks count.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a rate: say 500k, 10M or 1G bytes a second");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let rate = number * scale;
    if !(1000.0..=1e12).contains(&rate) {
        return Err(format!("{text} is out of range: at least 1k bytes a second"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, as just checked")]
    Ok(rate as u64)
}

/// The name of an offer.
pub(super) fn offered_name(text: &std::path::Path) -> Result<FileName, Error> {
    let text = text.to_string_lossy();
    text.parse().map_err(|why| Error::Usage(format!("{text}: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwardings() {
        let port = NonZeroU16::new(40_000).unwrap();
        for (text, ip) in
            [("40000", None), ("192.0.2.7:40000", Some("192.0.2.7")), ("[2001:db8::7]:40000", Some("2001:db8::7"))]
        {
            assert_eq!(forwarded(text), Ok(Forwarded { ip: ip.map(|ip| ip.parse().unwrap()), port }), "{text}");
        }
        for wrong in ["", "0", "65536", "192.0.2.7", "192.0.2.7:0", "host:1", "1:2:3"] {
            assert!(forwarded(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(rate("10M"), Ok(10_000_000));
        assert_eq!(rate("1.5k"), Ok(1500));
        for wrong in ["", "M", "10X", "-1k", "0", "1", "NaN", "1e99G"] {
            assert!(rate(wrong).is_err(), "{wrong:?}");
        }
    }
}
