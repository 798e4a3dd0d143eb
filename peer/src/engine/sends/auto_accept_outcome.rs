//! What became of a send for which a rule was looked for.

use std::path::PathBuf;

use crate::engine::Error;
use crate::util::TranslatedText;

/// What became of a send for which a rule was looked for.
#[derive(Debug)]
pub enum AutoAcceptOutcome {
    /// There is no rule for the sender.
    NoRule,
    /// The sender's key changed: the rule is gone.
    RuleEnded,
    /// It waits for the user, for this reason.
    Held(TranslatedText),
    /// It is in this folder, and the receipt is queued.
    Done(PathBuf),
    /// It could not be fetched now.
    Failed(Error),
}
