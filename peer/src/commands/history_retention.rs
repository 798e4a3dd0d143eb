//! The commands `peer history --forget` and `--keep`.

use std::io::{self, IsTerminal};

use serde_json::json;
use shared::UserName;
use shared::account_name::shell_operand;

use super::CommandContext;
use super::password_prompt::ask_yes_no;
use crate::engine::{Error, now_ms, run_blocking};
use crate::profile::ForgetQuery;
use crate::ui::{exact_duration, format_size};

/// Selection of the messages to delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForgetOptions {
    /// The other user; `None` for all conversations.
    pub with: Option<UserName>,
    /// Only messages older than this, in milliseconds; `None` for all.
    pub older_ms: Option<i64>,
    /// True if the user is not asked (`--yes`).
    pub is_confirmed: bool,
}

pub(super) async fn forget(context: &CommandContext, options: &ForgetOptions) -> Result<(), Error> {
    let me = context.me()?;
    let before = options.older_ms.map(|age| now_ms().saturating_sub(age));
    let what = ForgetQuery { with: options.with.clone(), before };
    let count = me.profile.count_forgettable(&what)?;
    let messages = message_count(count);
    let with = options.with.as_ref().map(|user| format!(" with {user}")).unwrap_or_default();
    // Nothing to delete needs no question, so that a script's repeated run succeeds without `--yes`.
    if count > 0
        && !options.is_confirmed
        && !confirm_forgetting(context, options, &format!("Forget {messages}{with} for good?")).await?
    {
        context.output.note("nothing was forgotten");
        return Ok(());
    }
    let (profile, forgetting) = (me.profile.clone(), what.clone());
    // Deletion overwrites and compacts the file, which takes time.
    let forgotten = run_blocking(move || Ok(profile.forget(&forgetting, now_ms())?)).await?;
    if context.output.is_json() {
        let fields = json!({ "with": options.with, "messages": forgotten.messages, "bytes": forgotten.bytes });
        return Ok(context.output.print_object("forgotten", &fields)?);
    }
    match forgotten.messages {
        0 => context.output.note(&format!("no messages{with} to forget")),
        _ => context
            .output
            .note(&format!("forgot {messages}{with}: {} of the disk are free again", format_size(forgotten.bytes))),
    }
    Ok(())
}

pub(super) fn set_retention(context: &CommandContext, kept_ms: Option<i64>) -> Result<(), Error> {
    context.me()?.profile.set_history_retention_ms(kept_ms)?;
    context.output.note(&match kept_ms {
        None => "history is kept for ever".to_owned(),
        Some(kept) => format!(
            "history is kept for {}: what is older is forgotten once a day while `peer serve` runs, and by \
             `peer history --forget --older AGE` at once",
            exact_duration(kept)
        ),
    });
    Ok(())
}

/// Returns whether the user at the terminal agrees; without a terminal, rejects with the command that has `--yes`.
async fn confirm_forgetting(context: &CommandContext, options: &ForgetOptions, question: &str) -> Result<bool, Error> {
    if context.no_input || !io::stdin().is_terminal() {
        let user = options.with.as_ref().map(|user| format!(" {}", shell_operand(user))).unwrap_or_default();
        let older = options.older_ms.map(|age| format!(" --older {}s", age / 1000)).unwrap_or_default();
        let again = format!("peer history --forget{older} --yes{user}");
        return Err(Error::Usage(format!("nobody can be asked here: `{again}` forgets them for good")));
    }
    ask_yes_no(context, question).await
}

fn message_count(count: usize) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}
