//! Fetching the sends of one user that wait.

use std::path::Path;

use localization::tr;
use shared::UserName;
use shared::account_name::shell_operand;
use shared::names::name_encoding::display_name;
use shared::safe_text::safe_path;

use super::context::CommandContext;
use crate::engine::chat::describe_send;
use crate::engine::fetch::FetchEvent;
use crate::engine::receipt_delivery::deliver_receipts;
use crate::engine::send_intake::{accept_by_rule, take_send};
use crate::engine::sends::AutoAcceptOutcome;
use crate::engine::{Error, ErrorKind, LocalUser};
use crate::profile::IncomingSend;
use crate::ui::FetchBars;

/// Fetches what waits: by the rule, or with `ask` because the user wants it now.
pub(super) async fn take_waiting(
    context: &CommandContext,
    me: &LocalUser,
    user: &UserName,
    folder: &Path,
    ask: bool,
) -> Result<(), Error> {
    let waiting = me.profile.incoming_sends(Some(user))?;
    if ask && waiting.is_empty() {
        context.output.note(&tr!("nothing of {user} waits", user));
    }
    let (mut failure, mut is_any) = (None, false);
    for send in &waiting {
        let mut bars = FetchBars::new(&context.output, true);
        let mut report = |event: FetchEvent<'_>| bars.handle_event(&event);
        let taken = if ask {
            let ended = take_send(me, send, folder, &mut report, &context.cancel).await;
            bars.end(&ended.summary, ended.error.as_ref())?;
            ended.error.map_or(Ok(()), Err)
        } else {
            let outcome = accept_by_rule(me, send, &mut report, &context.cancel).await;
            bars.clear();
            outcome_of_rule(context, send, outcome)
        };
        is_any |= taken.is_ok();
        match taken {
            Ok(()) => {}
            Err(Error::Interrupted) => {
                failure = Some(Error::Interrupted);
                break;
            }
            Err(error) => {
                // The last one is the command's own error.
                if let Some(earlier) = failure.replace(error) {
                    context.output.warning(&earlier.to_string());
                }
            }
        }
    }
    if is_any {
        deliver_receipts(me, vec![user.clone()]).await;
    }
    match failure {
        // The rule stands, and `peer serve` goes on when the sender is back.
        Some(error) if !ask && matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Network) => {
            context.output.note(&tr!("{error}: what waits comes when they are back", error));
            Ok(())
        }
        failure => failure.map_or(Ok(()), Err),
    }
}

fn outcome_of_rule(context: &CommandContext, send: &IncomingSend, outcome: AutoAcceptOutcome) -> Result<(), Error> {
    let what = display_name(&describe_send(&send.send)).into_owned();
    match outcome {
        AutoAcceptOutcome::Done(folder) => {
            context.output.note(&tr!("{what} is in {folder}", what, folder = safe_path(folder)));
            Ok(())
        }
        AutoAcceptOutcome::Failed(error) => Err(error),
        AutoAcceptOutcome::Held(why) => {
            let who = shell_operand(&send.from);
            context.output.note(&tr!(
                "{what} waits: {why} (`peer accept {who} --ask` takes it all the same)",
                what,
                why,
                who
            ));
            Ok(())
        }
        AutoAcceptOutcome::NoRule | AutoAcceptOutcome::RuleEnded => {
            let message = tr!("the key of {user} changed meanwhile: nothing was taken", user = send.from);
            Err(Error::Relayed { kind: ErrorKind::IdentityChanged, message })
        }
    }
}
