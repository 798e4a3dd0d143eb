//! The user's time zone.

use std::ffi::OsStr;
use std::sync::OnceLock;

use jiff::tz::TimeZone;
use localization::tr;
use shared::safe_text::safe_line;

use super::user_notifier::UserNotifier;

/// Prefixes of zone names that the compiled-in database doesn't have: the folder itself, its copy in `posix/`, and the
/// zones with leap seconds in `right/`.
const ZONE_PREFIXES: [&str; 3] = ["./", "posix/", "right/"];

/// Tells the user, at the first time that is shown, that `TZ` names no time zone.
pub static TIME_ZONE_NOTIFIER: UserNotifier = UserNotifier::new();

/// Returns the time zone that `TZ` names, else that of the machine.
pub fn time_zone() -> TimeZone {
    // Determined once, so that all times in one run agree.
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    let zone = || {
        let name = std::env::var_os("TZ").filter(|name| !name.is_empty());
        let bare = name.as_deref().and_then(OsStr::to_str).and_then(strip_zone_prefixes);
        match bare.and_then(|bare| TimeZone::get(bare).ok()).map_or_else(TimeZone::try_system, Ok) {
            Ok(zone) => zone,
            Err(why) => {
                if let Some(name) = &name {
                    tracing::debug!("{why}");
                    let name = name.to_string_lossy();
                    TIME_ZONE_NOTIFIER.tell(&tr!(
                        "TZ={name} names no time zone that is known here: times are in UTC",
                        name = safe_line(&name)
                    ));
                }
                TimeZone::UTC
            }
        }
    };
    ZONE.get_or_init(zone).clone()
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
