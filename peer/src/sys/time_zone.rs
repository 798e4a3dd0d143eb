//! The user's time zone.

use std::sync::OnceLock;

use jiff::tz::TimeZone;

/// Prefixes of zone names that the compiled-in database doesn't have: the folder itself, its copy in `posix/`, and the
/// zones with leap seconds in `right/`.
const ZONE_PREFIXES: [&str; 3] = ["./", "posix/", "right/"];

/// Returns the time zone named by `TZ`, or else that of the machine.
pub fn time_zone() -> TimeZone {
    // Determined once, so that all times in one run agree.
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    let named = || {
        let name = std::env::var("TZ").ok()?;
        TimeZone::get(strip_zone_prefixes(&name)?).ok()
    };
    ZONE.get_or_init(|| named().unwrap_or_else(TimeZone::system)).clone()
}

/// Returns the name of a zone without prefixes; `None` if it has none.
fn strip_zone_prefixes(name: &str) -> Option<&str> {
    let whole = name.strip_prefix(':').unwrap_or(name);
    let mut bare = whole;
    while let Some(rest) = ZONE_PREFIXES.iter().find_map(|folder| bare.strip_prefix(folder)) {
        bare = rest;
    }
    (bare != whole).then_some(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_found_without_its_folder() {
        for name in
            ["posix/America/Sao_Paulo", "right/America/Sao_Paulo", "./America/Sao_Paulo", ":./posix/America/Sao_Paulo"]
        {
            assert_eq!(strip_zone_prefixes(name), Some("America/Sao_Paulo"), "{name}");
        }
        for name in ["", "UTC", ":UTC", "America/Sao_Paulo", "/usr/share/zoneinfo/posix/UTC", "<-03>3"] {
            assert_eq!(strip_zone_prefixes(name), None, "{name}");
        }
    }
}
