//! The user's time zone.

use std::ffi::OsStr;
use std::sync::OnceLock;

use jiff::tz::TimeZone;
use shared::safe_text::safe_line;

/// Prefixes of zone names that the compiled-in database doesn't have: the folder itself, its copy in `posix/`, and the
/// zones with leap seconds in `right/`.
const ZONE_PREFIXES: [&str; 3] = ["./", "posix/", "right/"];

/// Tells the user what is wrong with `TZ`.
static NOTIFIER: OnceLock<ZoneNotifier> = OnceLock::new();

type ZoneNotifier = Box<dyn Fn(&str) + Send + Sync>;

/// Sets what tells the user, at the first time that is shown, that `TZ` names no time zone.
pub fn set_zone_notifier(tell: impl Fn(&str) + Send + Sync + 'static) {
    // Only the first counts: a process has one user.
    let _ = NOTIFIER.set(Box::new(tell));
}

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
                if let (Some(name), Some(tell)) = (&name, NOTIFIER.get()) {
                    tracing::debug!("{why}");
                    let name = name.to_string_lossy();
                    tell(&format!("TZ={} names no time zone that is known here: times are in UTC", safe_line(&name)));
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
