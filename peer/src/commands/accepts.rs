//! The command `peer accepts`.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::UserName;
use shared::account_name::shell_operand;
use shared::names::name_encoding::display_name;
use shared::safe_text::safe_path;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::lasting_action::{LastingAction, LastingChange, find_lasting};
use super::waiting_sends::take_waiting;
use crate::engine::chat::describe_send;
use crate::engine::{Error, LocalUser};
use crate::profile::{AcceptRule, Access, IncomingSend, Profile};
use crate::ui::{date_and_time, format_size};

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer accepts
  peer accepts pause bob",
    notes: "\
People are accepted by `peer accept USER`. What somebody sends while they are paused waits, and is fetched when they \
are resumed. After the end it waits for you again, and `peer accept USER --ask` takes it.

With --json: one `accept` for each person, and one `incoming` for each file or folder that waits.",
};

/// Show whose files are taken unasked and what waits, or pause, resume or end that.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct AcceptsArgs {
    #[command(subcommand)]
    action: Option<LastingAction>,
}

pub(super) async fn run(context: &CommandContext, args: AcceptsArgs) -> Result<(), Error> {
    let Some(action) = args.action else { return print_accepts(context) };
    let me = context.me(Access::Use)?;
    let (change, names) = action.into_parts();
    let rules = me.profile.accept_rules()?;
    // All of them before any is changed, so that a slip changes nothing.
    let found: Vec<&AcceptRule> = names.iter().map(|which| find_rule(&rules, which)).collect::<Result<_, Error>>()?;
    for rule in found {
        match change {
            LastingChange::Pause => set_paused(context, &me, &rule.user, true)?,
            LastingChange::Resume => {
                set_paused(context, &me, &rule.user, false)?;
                take_waiting(context, &me, &rule.user, &rule.folder, false).await?;
            }
            LastingChange::End => end_rule(context, &me, &rule.user)?,
        }
    }
    Ok(())
}

fn find_rule<'a>(rules: &'a [AcceptRule], which: &str) -> Result<&'a AcceptRule, Error> {
    let same = |rule: &&AcceptRule| rule.user.as_str().eq_ignore_ascii_case(which);
    match rules.iter().find(same) {
        Some(rule) => Ok(rule),
        None => find_lasting(rules, which, "accepts", |_| None, |rule| rule.user.as_str()),
    }
}

fn set_paused(context: &CommandContext, me: &LocalUser, user: &UserName, paused: bool) -> Result<(), Error> {
    let is_changed = me.profile.set_accept_paused(user, paused)?;
    let who = shell_operand(user);
    context.output.note(&match (paused, is_changed) {
        (true, true) => tr!("what {user} sends waits now; `peer accepts resume {who}` takes it again", user, who),
        (true, false) => tr!("what {user} sends waits already", user),
        (false, true) => tr!("what {user} sends is taken again", user),
        (false, false) => tr!("what {user} sends is taken already", user),
    });
    if context.output.is_json()
        && let Some(rule) = me.profile.accept_rule(user)?
    {
        print_rule(context, &me.profile, &rule)?;
    }
    Ok(())
}

/// Ends the rule for a user.
pub(super) fn end_rule(context: &CommandContext, me: &LocalUser, user: &UserName) -> Result<(), Error> {
    if !me.profile.remove_accept_rule(user)? {
        return Err(Error::Usage(tr!("{user} isn't accepted: `peer accepts` shows who is", user)));
    }
    context.output.note(&tr!("what {user} sends waits for you again", user));
    Ok(())
}

/// Prints the rules, and what waits.
pub(super) fn print_accepts(context: &CommandContext) -> Result<(), Error> {
    let profile = context.existing_profile(Access::Look)?;
    let (rules, waiting) = (profile.accept_rules()?, profile.incoming_sends(None)?);
    for rule in &rules {
        print_rule(context, &profile, rule)?;
    }
    for IncomingSend { from, id, send, at } in &waiting {
        if context.output.is_json() {
            let fields = json!({
                "from": from, "id": id, "name": send.name, "kind": send.kind, "files": send.files,
                "size": send.size, "hash": send.hash, "at": at,
            });
            context.output.print_object("incoming", &fields)?;
            continue;
        }
        let what = display_name(&describe_send(send)).into_owned();
        context.output.print_data(&format!("{}  {}", date_and_time(*at), tr!("{from} sends {what}", from, what)))?;
    }
    match (rules.is_empty(), waiting.first()) {
        (true, None) => context.output.note(&tr!("nobody is accepted, and nothing waits")),
        (_, Some(IncomingSend { from, .. })) => {
            let who = shell_operand(from);
            context
                .output
                .note(&tr!("`peer accept {who} --ask` takes it, `peer accept {who} --decline` declines it", who));
        }
        (false, None) => {}
    }
    Ok(())
}

fn print_rule(context: &CommandContext, profile: &Profile, rule: &AcceptRule) -> Result<(), Error> {
    let AcceptRule { user, fingerprint, folder, max_bytes, since, is_paused } = rule;
    let is_over = profile.known_user(user)?.is_none_or(|known| known.fingerprint != *fingerprint);
    if context.output.is_json() {
        let fields = json!({
            "user": user, "into": folder.to_string_lossy(), "max": max_bytes, "since": since, "key_changed": is_over,
            "paused": is_paused,
        });
        return Ok(context.output.print_object("accept", &fields)?);
    }
    let (folder, max) = (safe_path(folder), format_size(*max_bytes));
    let rule = tr!("{user}  into {folder}  {max} a day", user, folder, max);
    Ok(context.output.print_data(&match (is_over, is_paused) {
        (true, _) => format!("{rule}  {}", tr!("(their key changed: it is over)")),
        (false, true) => format!("{rule}  {}", tr!("(paused)")),
        (false, false) => rule,
    })?)
}
