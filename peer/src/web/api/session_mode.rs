//! The kinds of servers of pages.

/// Who sits at the pages of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::web) enum SessionMode {
    /// The user of this machine, over loopback.
    Local,
    /// Everybody with an account.
    Door,
}

impl SessionMode {
    /// Returns its name, by which the page knows what to show to somebody without a session.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Door => "door",
        }
    }
}
