//! A fetch that the user of a view stopped, and how to go on with it.

use localization::tr;
use shared::names::name_encoding;
use shared::safe_text::safe_line;

use crate::engine::chat::ConversationName;
use crate::util::shell_words::shell_quote;

/// A fetch that the user stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterruptedFetch {
    /// The user or the room that it fetched from.
    pub from: ConversationName,
    /// The names that were asked for, separated by spaces.
    pub name: String,
    /// Verified bytes on disk.
    pub bytes: u64,
    /// Bytes of all files; 0 if not yet known.
    pub size: u64,
}

impl InterruptedFetch {
    /// Returns the line for a view that stays open.
    pub fn view_notice(&self) -> String {
        let name = name_encoding::display_name(&self.name);
        match self.kept_percent() {
            None => tr!("{name}: stopped, nothing was downloaded yet; /get {name} resumes it", name),
            Some(percent) => tr!("{name}: stopped, {percent} % kept; /get {name} resumes it", name, percent),
        }
    }

    /// Returns the line for a view that has ended.
    pub fn exit_notice(&self) -> String {
        let name = name_encoding::display_name(&self.name);
        let command = resume_command(&self.from, &self.name);
        match self.kept_percent() {
            None => tr!("{name}: nothing was downloaded yet; `{command}` resumes it", name, command),
            Some(percent) => tr!("{name}: {percent} % kept; `{command}` resumes it", name, percent, command),
        }
    }

    fn kept_percent(&self) -> Option<u128> {
        // In 128 bits: the product of a large size overflows 64.
        match u128::from(self.bytes) * 100 / u128::from(self.size.max(1)) {
            0 if self.bytes == 0 => None,
            percent => Some(percent),
        }
    }
}

/// Returns the command line that resumes a fetch.
pub(super) fn resume_command(from: &ConversationName, name: &str) -> String {
    safe_line(&format!("peer fetch {}", shell_quote(&[&from.to_string(), name]))).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_said_and_how_to_go_on() {
        let broken = |name: &str, bytes, size| InterruptedFetch {
            from: "bob".parse().unwrap(),
            name: name.to_owned(),
            bytes,
            size,
        };
        let big = broken("share/big.bin", 12, 100);
        assert_eq!(big.view_notice(), "share/big.bin: stopped, 12 % kept; /get share/big.bin resumes it");
        assert_eq!(big.exit_notice(), "share/big.bin: 12 % kept; `peer fetch bob share/big.bin` resumes it");
        let odd = broken("it's $(mine)", 0, 0).exit_notice();
        assert!(odd.ends_with(r"`peer fetch bob 'it'\''s $(mine)'` resumes it"), "{odd}");
        assert!(odd.contains("nothing was downloaded yet"));
    }
}
