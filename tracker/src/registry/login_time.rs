//! The wall-clock time of a login.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The time of a login, for the store and as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginTime {
    unix_ms: i64,
    text: Box<str>,
}

impl LoginTime {
    /// Converts a system time.
    pub fn at(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::at_unix_ms(i64::try_from(since.as_millis()).unwrap_or_default())
    }

    /// Converts milliseconds since 1970.
    pub fn at_unix_ms(unix_ms: i64) -> Self {
        // A stored number may be beyond every date, which must not keep the presence from being restored.
        let time = Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        // As the exercise's tracker writes it: local time without an offset, which its clients can't parse.
        let text = time.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S").to_string();
        Self { unix_ms, text: text.into() }
    }

    /// Returns the milliseconds since 1970.
    pub const fn unix_ms(&self) -> i64 {
        self.unix_ms
    }

    /// Returns the time as ISO 8601 text, local, to the second.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the system time.
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
