//! Parsers of argument values.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;

use shared::limits::{MAX_FIND_WORDS, MIN_PEER_PORT};
use shared::tracker::{FindCriterion, HashText, SearchWords};
use shared::{ContentHash, FileName};

use crate::engine::Error;
use crate::engine::fetch::FetchDestination;
use crate::engine::node::PortForwarding;
use crate::sys::{OutputTarget, classify_output, is_executable};
use crate::ui::parse_age;

/// Parses the destination of a fetch: a folder if it is one or ends with `/`, `-` for standard output, a pipe or device
/// as a stream; otherwise the fetched entry decides.
///
/// # Errors
/// [`Error::Disk`] if nothing can be written there.
pub(super) fn parse_destination(path: PathBuf) -> Result<FetchDestination, Error> {
    if path.as_os_str() == "-" {
        return Ok(FetchDestination::Stdout);
    }
    let ends_like_a_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    if ends_like_a_folder || path.is_dir() || path.file_name().is_none() {
        return Ok(FetchDestination::Folder(path));
    }
    match classify_output(&path) {
        OutputTarget::Files => Ok(FetchDestination::FileOrFolder(path)),
        OutputTarget::Stdout => Ok(FetchDestination::Stdout),
        OutputTarget::Stream => Ok(FetchDestination::Stream(path)),
        OutputTarget::Unusable(why) => {
            let why = format!("{why}: give a file, a folder, a pipe, or - for standard output");
            Err(Error::disk(&path)(std::io::Error::other(why)))
        }
    }
}

/// Parses `40000`, `192.0.2.7:40000` or `[2001:db8::7]:40000`.
pub(super) fn parse_announced_address(text: &str) -> Result<PortForwarding, String> {
    let wrong =
        || format!("{text:?} is neither PORT nor IP:PORT, such as 40000, 192.0.2.7:40000 or [2001:db8::7]:40000");
    let (ip, port) = match text.parse::<SocketAddr>() {
        Ok(address) => (Some(address.ip()), address.port()),
        Err(_) => (None, text.parse().map_err(|_| wrong())?),
    };
    if ip.is_some_and(|ip| ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)) {
        return Err(format!(
            "{text:?} is no address of one machine: say the one at which others reach this one, or the port alone"
        ));
    }
    let port = NonZeroU16::new(port).ok_or_else(wrong)?;
    if port.get() < MIN_PEER_PORT {
        return Err(format!("nobody dials port {port}: forward one from {MIN_PEER_PORT} to 65535"));
    }
    Ok(PortForwarding { ip, port })
}

/// Parses a search: one content hash, or words.
pub(super) fn parse_find_query(words: &[String]) -> Result<FindCriterion, Error> {
    // A single argument in the form of a hash is never meant as a word.
    if let [only] = words
        && let Ok(hash) = only.parse::<ContentHash>()
    {
        return Ok(FindCriterion::Hash(hash.into()));
    }
    let none = || {
        Error::Usage(format!("give 1 to {MAX_FIND_WORDS} words of letters and digits, or one hash of 64 hex digits"))
    };
    SearchWords::new(&words.join(" ")).map(FindCriterion::Words).ok_or_else(none)
}

/// The retention time of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HistoryRetention {
    /// No message is deleted for its age.
    Forever,
    /// Milliseconds.
    For(i64),
}

/// Parses an age, or `all`.
pub(super) fn parse_retention(text: &str) -> Result<HistoryRetention, String> {
    match text {
        "all" => Ok(HistoryRetention::Forever),
        text => match parse_age(text)? {
            0 => Err("history that is kept for no time is forgotten: peer history --forget --older 0s".to_owned()),
            kept => Ok(HistoryRetention::For(kept)),
        },
    }
}

/// Parses a hash of any kind: clients of other programs register other hashes than BLAKE3.
pub(super) fn parse_hash(text: &str) -> Result<HashText, String> {
    let is_hash =
        // Hex digits of digests from MD5 (32) to SHA-512 (128).
        matches!(text.len(), 32 | 40 | 56 | 64 | 96 | 128) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let wrong = || format!("{text:?} is not a hash: 64 hex digits, as `peer find` and `--json` print them");
    // The tracker compares text: our own hashes are registered in lower case.
    let text = text.parse::<ContentHash>().map_or_else(|_| text.to_owned(), |hash| hash.to_string());
    HashText::new(&text).filter(|_| is_hash).ok_or_else(wrong)
}

pub(super) fn count(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Parses a rate such as `500k`, `10M`, `10 MB/s`, `1.5 MiB` or `80 Mbit/s`; in bytes a second, with decimal prefixes.
pub(super) fn parse_rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a rate: say 500k, 10M, 10 MB/s or 1G (bytes a second), or 80 Mbit/s");
    let text = text.trim();
    // A decimal comma is accepted as well.
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',')).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let number: f64 = digits.replace(',', ".").parse().map_err(|_| wrong())?;
    let unit: String = unit.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    let (unit, bits) = match unit.strip_suffix("/s").unwrap_or(&unit) {
        unit if unit.ends_with("bps") => (unit.trim_end_matches("bps"), 8.0),
        unit if unit.ends_with("bit") => (unit.trim_end_matches("bit"), 8.0),
        unit => (unit.strip_suffix('b').unwrap_or(unit), 1.0),
    };
    let scale = match unit {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "ki" => 1024.0,
        "mi" => 1_048_576.0,
        "gi" => 1_073_741_824.0,
        _ => return Err(wrong()),
    };
    let rate = number * scale / bits;
    // NaN is out of range as well.
    if !(1000.0..=1e12).contains(&rate) {
        return Err(format!("{text} is out of range: from 1k to 1000G bytes a second"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, as just checked")]
    Ok(rate as u64)
}

/// Checks the program of a hook and keeps its arguments. A path is made absolute: the node that runs the program has
/// another working folder.
pub(super) fn resolve_hook(mut argv: Vec<String>) -> Result<Vec<String>, Error> {
    let Some(program) = argv.first_mut() else { return Ok(argv) };
    let found = if program.contains('/') {
        std::path::absolute(&*program).ok().filter(|path| is_program(path))
    } else {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&folders).map(|folder| folder.join(&*program)).find(|path| is_program(path))
    };
    match found {
        None if std::path::Path::new(program).exists() && program.contains('/') => {
            Err(Error::Usage(format!("{program} can't be run: it is a folder, or `chmod +x` is missing")))
        }
        None => Err(Error::Usage(format!("there is no program {program}: name one in the PATH, or its whole path"))),
        Some(path) if program.contains('/') => {
            let not_text = || Error::Usage("the path of the program is not UTF-8".to_owned());
            *program = path.into_os_string().into_string().map_err(|_| not_text())?;
            Ok(argv)
        }
        // A bare name stays bare: the node looks it up in its own PATH.
        Some(_) => Ok(argv),
    }
}

fn is_program(path: &std::path::Path) -> bool {
    std::fs::metadata(path).is_ok_and(|facts| facts.is_file() && is_executable(&facts))
}

/// Parses a file name; one that isn't valid as it is gets its escaped form.
pub(super) fn parse_file_name(text: &str) -> Result<FileName, String> {
    text.parse().or_else(|_| FileName::from_raw(text.as_bytes())).map_err(|why| why.to_string())
}

/// Converts a name, folder or pattern; bytes that aren't UTF-8 are escaped as on the wire.
pub(super) fn parse_share_pattern(text: OsString) -> String {
    // The slash marks a folder and is no part of the name: escaping must not touch it.
    text.into_string().unwrap_or_else(|text| {
        let raw = text.as_encoded_bytes();
        let end = if raw.ends_with(b"/") { "/" } else { "" };
        let name = FileName::from_raw(raw.strip_suffix(b"/").unwrap_or(raw));
        name.map_or_else(|_| text.to_string_lossy().into_owned(), |name| format!("{}{end}", name.as_str()))
    })
}

/// Parses the name of an offer.
pub(super) fn parse_offered_name(text: &std::path::Path) -> Result<FileName, Error> {
    let name = FileName::from_raw(text.as_os_str().as_encoded_bytes());
    let text = text.to_string_lossy();
    text.parse().or(name).map_err(|why| Error::Usage(format!("{text}: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_not_utf_8_are_asked_for_as_they_travel() {
        use std::os::unix::ffi::OsStringExt;
        let text = |raw: &[u8]| parse_share_pattern(OsString::from_vec(raw.to_vec()));
        assert_eq!(text("caf\u{e9}/".as_bytes()), "caf\u{e9}/");
        assert_eq!(text(b"caf\xe9/"), "caf␛E9␛/");
        assert_eq!(text(b"*\xff?.txt"), "*␛FF␛?.txt");
    }

    #[test]
    fn forwardings() {
        let port = NonZeroU16::new(40_000).unwrap();
        for (text, ip) in
            [("40000", None), ("192.0.2.7:40000", Some("192.0.2.7")), ("[2001:db8::7]:40000", Some("2001:db8::7"))]
        {
            assert_eq!(
                parse_announced_address(text),
                Ok(PortForwarding { ip: ip.map(|ip| ip.parse().unwrap()), port }),
                "{text}"
            );
        }
        let nobodys = ["0.0.0.0:1", "[::]:1", "224.0.0.251:1", "[ff02::1]:1", "255.255.255.255:1"];
        for wrong in
            ["", "0", "1023", "65536", "192.0.2.7", "192.0.2.7:0", "host:1", "1:2:3"].into_iter().chain(nobodys)
        {
            assert!(parse_announced_address(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn hashes() {
        let ours = "AB".repeat(32);
        assert_eq!(parse_hash(&ours).unwrap().as_str(), ours.to_ascii_lowercase());
        assert!(parse_hash(&"d4".repeat(16)).is_ok(), "what other clients register");
        for wrong in ["", "zzz", "nonsense", "12", &"xy".repeat(32), &"ab".repeat(31)] {
            assert!(parse_hash(wrong).unwrap_err().contains("64 hex digits"), "{wrong:?}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(parse_rate("10M"), Ok(10_000_000));
        assert_eq!(parse_rate("1.5k"), Ok(1500));
        for text in
            ["10MB", "10 MB/s", "10mb", "10MB/s", "10m", "10.0M", "10,0 M", " 10M ", "80 Mbit/s", "80Mbps", "80 mbit"]
        {
            assert_eq!(parse_rate(text), Ok(10_000_000), "{text:?}");
        }
        assert_eq!(
            (parse_rate("10MiB"), parse_rate("1.5M"), parse_rate("64 KiB/s")),
            (Ok(10_485_760), Ok(1_500_000), Ok(65_536))
        );
        for wrong in
            ["", "M", "10X", "-1k", "0", "1", "NaN", "1e99G", "10 M B s", "1.2.3M", "M10", "10MB/m", "inf", "10T"]
        {
            assert!(parse_rate(wrong).is_err(), "{wrong:?}");
        }
    }
}
