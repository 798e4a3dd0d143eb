//! `peer history --forget` and `--keep`.

use std::io::{self, IsTerminal};

use serde_json::json;
use shared::UserName;
use shared::account_name::operand;

use super::Context;
use super::password::confirm;
use crate::engine::{Error, blocking, now_ms};
use crate::profile::Forget;
use crate::ui::{duration_words, size};

/// What is to be forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForgetWanted {
    /// With whom; with everybody when there is nobody.
    pub with: Option<UserName>,
    /// Only what is older than this, milliseconds.
    pub older_ms: Option<i64>,
    /// It is not asked.
    pub yes: bool,
}

pub(super) async fn run(context: &Context, wanted: &ForgetWanted) -> Result<(), Error> {
    let me = context.me()?;
    let before = wanted.older_ms.map(|age| now_ms().saturating_sub(age));
    let what = Forget { with: wanted.with.clone(), before };
    let count = me.profile.count_forgettable(&what)?;
    let messages = messages(count);
    let with = wanted.with.as_ref().map(|user| format!(" with {user}")).unwrap_or_default();
    if count > 0 && !wanted.yes && !is_sure(context, wanted, &format!("Forget {messages}{with} for good?")).await? {
        context.output.note("nothing was forgotten");
        return Ok(());
    }
    let (profile, forgetting) = (me.profile.clone(), what.clone());
    let forgotten = blocking(move || Ok(profile.forget(&forgetting, now_ms())?)).await?;
    if context.output.is_json() {
        let fields = json!({ "with": wanted.with, "messages": forgotten.messages, "bytes": forgotten.bytes });
        return Ok(context.output.object("forgotten", &fields)?);
    }
    match forgotten.messages {
        0 => context.output.note(&format!("no messages{with} to forget")),
        _ => context
            .output
            .note(&format!("forgot {messages}{with}: {} of the disk are free again", size(forgotten.bytes))),
    }
    Ok(())
}

pub(super) fn keep(context: &Context, kept_ms: Option<i64>) -> Result<(), Error> {
    context.me()?.profile.set_keeps_history(kept_ms)?;
    context.output.note(&match kept_ms {
        None => "history is kept for ever".to_owned(),
        Some(kept) => format!(
            "history is kept for {}: what is older is forgotten once a day while `peer serve` runs, and by \
             `peer history --forget --older AGE` at once",
            duration_words(kept)
        ),
    });
    Ok(())
}

/// Whether somebody at the terminal agrees; where nobody can be asked, `--yes` says so.
async fn is_sure(context: &Context, wanted: &ForgetWanted, question: &str) -> Result<bool, Error> {
    if context.no_input || !io::stdin().is_terminal() {
        let user = wanted.with.as_ref().map(|user| format!(" {}", operand(user))).unwrap_or_default();
        let older = wanted.older_ms.map(|age| format!(" --older {}s", age / 1000)).unwrap_or_default();
        let again = format!("peer history --forget{older} --yes{user}");
        return Err(Error::Usage(format!("nobody can be asked here: `{again}` forgets them for good")));
    }
    confirm(context, question).await
}

fn messages(count: usize) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}
