//! The way to tell the user of a process something from below, where there is no output at hand.

use std::sync::OnceLock;

/// Tells the user something in one line. One of a kind serves the whole process, which has one user: SQLite's busy handler
/// takes no context, and `TZ` belongs to the process.
pub struct UserNotifier(OnceLock<ShowLine>);

type ShowLine = Box<dyn Fn(&str) + Send + Sync>;

impl UserNotifier {
    /// Creates a notifier that tells nobody.
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Sets what shows a line. Only the first call counts.
    pub fn set(&self, show: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(show));
    }

    /// Tells the user; without anything that shows it, the log.
    pub fn tell(&self, words: &str) {
        match self.0.get() {
            Some(show) => show(words),
            None => tracing::info!("{words}"),
        }
    }
}

impl Default for UserNotifier {
    fn default() -> Self {
        Self::new()
    }
}
