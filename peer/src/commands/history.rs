//! The command `peer history`: prints messages, deletes them, or sets how long they are kept.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::UserName;
use shared::account_name::{shell_operand, speaker_label};

use super::command_help::CommandHelp;
use super::common_words::message_state_words;
use super::context::CommandContext;
use super::questions::{ask_yes_no, require_answerer};
use super::user_resolution::{require_known_user, resolve_conversation};
use super::value_parsers::count;
use crate::engine::chat::{ConversationName, HistoryQuery, MessageDirection, MessageState, StoredMessage};
use crate::engine::event_json::message_json;
use crate::engine::node::announce_removal;
use crate::engine::{Error, LocalUser, now_ms, run_blocking};
use crate::profile::{Access, ForgetQuery};
use crate::ui::{date_and_time, exact_duration, format_size, message_line, parse_age};

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer history bob --since 2d --limit 20
  peer history --search orcam
  peer history '#lab' --since 2d
  peer history --forget --older 90d",
    notes: "\
--search looks for words that begin so, whatever case and accents: orcam finds Orçamento.

--forget deletes for good, also on the disk. Queued messages stay, and a deleted message that is delivered again \
doesn't come back. --keep 90d has `peer serve` do so once a day, --keep all never.",
};

/// Show old messages, oldest first, or delete them.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct HistoryArgs {
    /// With whom, or of which room ('#lab') [default: everybody].
    #[arg(value_name = "USER|#ROOM")]
    with: Option<ConversationName>,
    /// Only messages not older than this (30m, 12h, 2d, 3w).
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    since: Option<i64>,
    /// At most this many: the last ones.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Only messages with words that begin so, in any case.
    #[arg(long, value_name = "WORDS", num_args = 1..)]
    search: Option<Vec<String>>,
    /// Delete the conversation, or what is of --older, for good.
    #[arg(long, conflicts_with_all = ["since", "limit", "search"])]
    forget: bool,
    /// Delete only messages older than this (12h, 2d, 3w).
    #[arg(long, value_name = "AGE", value_parser = parse_age, requires = "forget")]
    older: Option<i64>,
    /// Delete without a question.
    #[arg(long, requires = "forget")]
    yes: bool,
    /// Delete what is older once a day from now on, or never.
    #[arg(long, value_name = "AGE|all", value_parser = parse_retention,
          conflicts_with_all = ["with", "since", "limit", "search", "forget"])]
    keep: Option<HistoryRetention>,
}

/// The retention time of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HistoryRetention {
    /// No message is deleted for its age.
    Forever,
    /// Milliseconds.
    For(i64),
}

pub(super) async fn run(context: &CommandContext, mut args: HistoryArgs) -> Result<(), Error> {
    if let Some(keep) = args.keep {
        return set_retention(context, keep);
    }
    // Without a user or an age, `--forget` alone would delete the whole history.
    if args.forget && args.with.is_none() && args.older.is_none() {
        return Err(Error::Usage(tr!(
            "say what to forget: `peer history --forget USER`, `peer history --forget --older 30d`, or both"
        )));
    }
    let me = context.me(if args.forget { Access::Use } else { Access::Look })?;
    if let Some(with) = &mut args.with {
        resolve_conversation(context, &me, with).await?;
    }
    if args.forget { forget(context, &me, args).await } else { print_history(context, &me, args).await }
}

async fn print_history(context: &CommandContext, me: &LocalUser, args: HistoryArgs) -> Result<(), Error> {
    let query = HistoryQuery {
        with: args.with.clone(),
        search: args.search.map(|words| words.join(" ")),
        since: args.since.map(|ago| now_ms().saturating_sub(ago)),
        limit: args.limit.map_or(usize::MAX, count),
        ..HistoryQuery::default()
    };
    let found = me.profile.history(&query)?;
    for stored in &found {
        print_message(context, me, stored)?;
    }
    if found.is_empty() {
        require_history_with(context, me, args.with.as_ref().and_then(ConversationName::person)).await?;
        context.output.note(&none_found_note(args.with.as_ref()));
    }
    Ok(())
}

/// Rejects a name that nobody has and with whom no message is kept: more likely a slip than a question.
async fn require_history_with(context: &CommandContext, me: &LocalUser, user: Option<&UserName>) -> Result<(), Error> {
    let Some(user) = user.filter(|user| **user != me.user) else { return Ok(()) };
    // Messages may outlive the account of their sender.
    if !me.profile.history(&HistoryQuery::with(user, 1))?.is_empty() {
        return Ok(());
    }
    context.until_cancelled(require_known_user(me, user)).await
}

pub(super) fn print_message(context: &CommandContext, me: &LocalUser, stored: &StoredMessage) -> Result<(), Error> {
    if context.output.is_json() {
        return Ok(context.output.print_object("message", &message_json(stored, &me.user))?);
    }
    let who = match (&stored.room, stored.direction) {
        (None, MessageDirection::In) => speaker_label(&stored.peer).into_owned(),
        (Some(room), MessageDirection::In) => format!("#{} {}", room.name, speaker_label(&stored.peer)),
        (_, MessageDirection::Out) => tr!("to {name}", name = stored.conversation()),
    };
    let delivery = stored.room.as_ref().and_then(|room| room.delivery).filter(|delivery| !delivery.is_complete());
    let state = match (stored.state, delivery) {
        (MessageState::Stored, Some(delivery)) => format!("  ({}/{})", delivery.count, delivery.of),
        (MessageState::Stored | MessageState::Received, _) => String::new(),
        (state, _) => format!("  ({})", message_state_words(state)),
    };
    let line = format!(
        "{} {}{state}",
        context.output.dim(&date_and_time(stored.at)),
        message_line(&who, &stored.message.text)
    );
    Ok(context.output.print_data(&line)?)
}

/// Deletes the selected messages for good, after a question.
async fn forget(context: &CommandContext, me: &LocalUser, args: HistoryArgs) -> Result<(), Error> {
    let HistoryArgs { with, older, yes, .. } = args;
    let before = older.map(|age| now_ms().saturating_sub(age));
    let what = ForgetQuery { with: with.clone(), before };
    let count = me.profile.count_forgettable(&what)?;
    if count == 0 {
        require_history_with(context, me, with.as_ref().and_then(ConversationName::person)).await?;
    }
    // Nothing to delete needs no question, so that a script's repeated run succeeds without `--yes`.
    if count > 0
        && !yes
        && !confirm_forgetting(context, with.as_ref(), older, &forget_question(count, with.as_ref())).await?
    {
        context.output.note(&tr!("nothing was forgotten"));
        return Ok(());
    }
    let (profile, forgetting) = (me.profile.clone(), what.clone());
    // Deletion overwrites and compacts the file, which takes time.
    let forgotten = run_blocking(move || Ok(profile.forget(&forgetting, now_ms())?)).await?;
    // A running node has rooms in its memory; other conversations are read from the disk.
    if forgotten.messages > 0
        && with.as_ref().is_none_or(|with| with.room().is_some())
        && let Err(why) = announce_removal(&me.profile).await
    {
        context.output.warning(&tr!("`peer serve` learns of this when it starts again: {why}", why));
    }
    if context.output.is_json() {
        let fields = json!({ "with": with, "messages": forgotten.messages, "bytes": forgotten.bytes });
        return Ok(context.output.print_object("forgotten", &fields)?);
    }
    context.output.note(&match forgotten.messages {
        0 => nothing_to_forget_note(with.as_ref()),
        count => forgotten_note(count, with.as_ref(), &format_size(forgotten.bytes)),
    });
    Ok(())
}

/// Returns whether the user at the terminal agrees; where nobody can be asked, rejects with the command that has `--yes`.
async fn confirm_forgetting(
    context: &CommandContext,
    with: Option<&ConversationName>,
    older_ms: Option<i64>,
    question: &str,
) -> Result<bool, Error> {
    require_answerer(context, || {
        let user = match with {
            Some(ConversationName::Person(user)) => format!(" {}", shell_operand(user)),
            // A shell takes a bare # for a comment.
            Some(ConversationName::Room(room)) => format!(" '#{room}'"),
            None => String::new(),
        };
        // In seconds, which express every age exactly.
        let older = older_ms.map(|age| format!(" --older {}s", age / 1000)).unwrap_or_default();
        let again = format!("peer history --forget{older} --yes{user}");
        tr!("nobody can be asked here: `{again}` forgets them for good", again)
    })?;
    ask_yes_no(context, question).await
}

fn none_found_note(with: Option<&ConversationName>) -> String {
    match with {
        None => tr!("no messages found"),
        Some(ConversationName::Person(user)) => tr!("no messages with {user} found", user),
        Some(ConversationName::Room(room)) => tr!("no messages in #{room} found", room),
    }
}

fn forget_question(count: usize, with: Option<&ConversationName>) -> String {
    match with {
        None => tr!("Forget 1 message for good?" | "Forget {n} messages for good?" % count),
        Some(ConversationName::Person(user)) => {
            tr!("Forget 1 message with {user} for good?" | "Forget {n} messages with {user} for good?" % count, user)
        }
        Some(ConversationName::Room(room)) => {
            tr!("Forget 1 message in #{room} for good?" | "Forget {n} messages in #{room} for good?" % count, room)
        }
    }
}

fn nothing_to_forget_note(with: Option<&ConversationName>) -> String {
    match with {
        None => tr!("no messages to forget"),
        Some(ConversationName::Person(user)) => tr!("no messages with {user} to forget", user),
        Some(ConversationName::Room(room)) => tr!("no messages in #{room} to forget", room),
    }
}

fn forgotten_note(count: usize, with: Option<&ConversationName>, size: &str) -> String {
    match with {
        None => tr!(
            "forgot 1 message: {size} of the disk are free again"
                | "forgot {n} messages: {size} of the disk are free again" % count,
            size
        ),
        Some(ConversationName::Person(user)) => tr!(
            "forgot 1 message with {user}: {size} of the disk are free again"
                | "forgot {n} messages with {user}: {size} of the disk are free again" % count,
            user,
            size
        ),
        Some(ConversationName::Room(room)) => tr!(
            "forgot 1 message in #{room}: {size} of the disk are free again"
                | "forgot {n} messages in #{room}: {size} of the disk are free again" % count,
            room,
            size
        ),
    }
}

fn set_retention(context: &CommandContext, keep: HistoryRetention) -> Result<(), Error> {
    let kept_ms = match keep {
        HistoryRetention::Forever => None,
        HistoryRetention::For(kept) => Some(kept),
    };
    context.me(Access::Use)?.profile.set_history_retention_ms(kept_ms)?;
    context.output.note(&match kept_ms {
        None => tr!("history is kept for ever"),
        Some(kept) => tr!(
            "history is kept for {time}: what is older is forgotten once a day while `peer serve` runs, and by \
             `peer history --forget --older AGE` at once",
            time = exact_duration(kept)
        ),
    });
    Ok(())
}

/// Parses an age, or `all`.
fn parse_retention(text: &str) -> Result<HistoryRetention, String> {
    match text {
        "all" => Ok(HistoryRetention::Forever),
        text => match parse_age(text)? {
            0 => Err(tr!("history that is kept for no time is forgotten: peer history --forget --older 0s")),
            kept => Ok(HistoryRetention::For(kept)),
        },
    }
}
