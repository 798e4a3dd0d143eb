//! The moment of a login, as clocks on walls have it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// When somebody logged in: to be stored, and as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginTime {
    unix_ms: i64,
    text: Box<str>,
}

impl LoginTime {
    /// Returns this moment in the time of this machine.
    pub fn at(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::at_unix_ms(i64::try_from(since.as_millis()).unwrap_or_default())
    }

    /// Returns the moment so many milliseconds after 1970.
    pub fn at_unix_ms(unix_ms: i64) -> Self {
        let time = Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        // As the exercise's tracker writes it: local, and without an offset, which older readers don't know.
        let text = time.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S").to_string();
        Self { unix_ms, text: text.into() }
    }

    /// Returns the milliseconds since 1970.
    pub const fn unix_ms(&self) -> i64 {
        self.unix_ms
    }

    /// Returns the moment as ISO 8601 has it, in local time to the second.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the moment as a system's time.
    pub fn system_time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(u64::try_from(self.unix_ms).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_moment() {
        for unix_ms in [i64::MIN, -1, 0, 1_764_150_000_000, i64::MAX] {
            let text = LoginTime::at_unix_ms(unix_ms).text().to_owned();
            assert_eq!((text.len(), text.as_bytes()[10]), (19, b'T'), "{text}");
        }
        let now = SystemTime::now();
        let at = LoginTime::at(now);
        assert!(now.duration_since(at.system_time()).unwrap() < Duration::from_millis(1));
        assert_eq!(LoginTime::at_unix_ms(at.unix_ms()), at);
    }
}
