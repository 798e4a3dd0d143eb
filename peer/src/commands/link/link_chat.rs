//! `peer link chat`: conversations with the guests of links.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use localization::tr;
use serde_json::json;

use super::super::command_help::CommandHelp;
use super::super::context::CommandContext;
use super::super::questions::takes_lines;
use crate::engine::guest_links::{GuestConversation, GuestIdentity, GuestLink, GuestMessage, GuestPost, list_links};
use crate::engine::node::{NodeHandle, NodeNeed};
use crate::engine::{Error, LocalUser, run_blocking};
use crate::profile::Access;
use crate::ui::{CommandOutput, date_and_time, excerpt, guest_post_line, spawn_line_reader};

/// Time between two looks for messages while a conversation is open.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Messages of one look.
const BATCH: usize = 10_000;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer link chat 3
  peer link chat 3.1
  peer link chat 3.1 \"on my way\"",
    notes: "\
A guest is shown by the numbers of its link and of its browser, with the name that it gave itself in quotation marks: \
guest 3.1 “Ana”. Anybody with the link may give any name. Each browser has a conversation of its own, and nobody else \
sees it; all terminals with the link's token have one together.

Without a text the conversation is printed, and counts as read. In a terminal it stays open: messages appear as they \
come, each line is an answer, and Ctrl-D or Ctrl-C ends it. The guest sees answers at once, or when `peer serve` runs \
again. A guest may leave 100 messages before it is answered, and 1,000 in all. Everything is deleted with the link.

With --json: `guest_message` with link, guest, name, seq, ts (milliseconds since 1970), text and answer (true if it is \
yours); of a link with several guests `guest_conversation` with link, guest, name, network, unread and last.",
};

/// Read what guests of a link wrote, and answer them.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(super) struct LinkChatArgs {
    /// The link, or one guest of it.
    #[arg(value_name = "NUMBER[.GUEST]")]
    whom: GuestOperand,
    /// The answer; several words are one.
    #[arg(num_args = 1..)]
    text: Option<Vec<String>>,
}

/// A link, or a guest of one, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GuestOperand {
    link: i64,
    guest: Option<i64>,
}

impl FromStr for GuestOperand {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number > 0);
        let parsed = match text.split_once('.') {
            None => number(text).map(|link| Self { link, guest: None }),
            Some((link, guest)) => {
                number(link).zip(number(guest)).map(|(link, guest)| Self { link, guest: Some(guest) })
            }
        };
        parsed.ok_or_else(|| {
            tr!("{text} is no guest: say 3 for a link, or 3.1 for a guest of it", text = format_args!("{text:?}"))
        })
    }
}

/// Prints a conversation, or answers in it.
pub(super) async fn chat(context: &CommandContext, args: LinkChatArgs) -> Result<(), Error> {
    let me = context.me(Access::Use)?;
    let link = chat_link(&me, args.whom.link)?;
    let conversations = me.profile.guest_conversations(link.number)?;
    let text = args.text.map(|words| words.join(" "));
    let Some(talk) = chosen_conversation(context, &link, &conversations, args.whom.guest, text.is_some())? else {
        return Ok(());
    };
    if let Some(text) = text {
        let post = answer(&me, &talk.who, &text).await?;
        if context.output.is_json() {
            context.output.print_object("guest_message", &json!(post))?;
        } else {
            context.output.note(&tr!("stored for {guest}", guest = talk.who));
        }
        return Ok(());
    }
    let mut open = OpenGuestChat { context, me: &me, who: talk.who.clone(), last: 0 };
    open.print_news().await?;
    if takes_lines(context) { Box::pin(open.run()).await } else { Ok(()) }
}

/// Returns the link of this number, if it takes messages.
fn chat_link(me: &LocalUser, number: i64) -> Result<GuestLink, Error> {
    let found =
        list_links(&me.profile, &me.identity)?.into_iter().map(|(link, _)| link).find(|link| link.number == number);
    let link = found
        .ok_or_else(|| Error::Usage(tr!("there is no link {text}: `peer link list` shows them", text = number)))?;
    if link.has_chat {
        return Ok(link);
    }
    Err(Error::Usage(tr!("link {number} takes no messages: `peer link --chat` makes one that does", number)))
}

/// Returns the conversation that is meant; `None` if there are several, which are printed, or none.
fn chosen_conversation<'a>(
    context: &CommandContext,
    link: &GuestLink,
    conversations: &'a [GuestConversation],
    guest: Option<i64>,
    is_answer: bool,
) -> Result<Option<&'a GuestConversation>, Error> {
    let number = link.number;
    match (guest, conversations) {
        (Some(guest), _) => {
            let found = conversations.iter().find(|talk| talk.who.guest == guest);
            let none = || {
                tr!("there is no guest {link}.{guest}: `peer link chat {link}` shows who wrote", link = number, guest)
            };
            found.ok_or_else(|| Error::Usage(none())).map(Some)
        }
        (None, [only]) => Ok(Some(only)),
        (None, []) if is_answer => Err(Error::Usage(tr!("nobody has written yet: there is nobody to answer"))),
        (None, []) => {
            context.output.note(&tr!("nobody has written at link {number} yet", number));
            Ok(None)
        }
        (None, [first, ..]) if is_answer => {
            let guest = first.who.guest;
            Err(Error::Usage(tr!("which guest? `peer link chat {number}.{guest} TEXT` answers one", number, guest)))
        }
        (None, all) => {
            all.iter().try_for_each(|talk| print_conversation(&context.output, talk))?;
            Ok(None)
        }
    }
}

fn print_conversation(output: &CommandOutput, talk: &GuestConversation) -> Result<(), Error> {
    let GuestConversation { who, network, unread, last, .. } = talk;
    if output.is_json() {
        let fields = json!({
            "link": who.link, "guest": who.guest, "name": who.name, "network": network, "unread": unread, "last": last,
        });
        return Ok(output.print_object("guest_conversation", &fields)?);
    }
    let count = match unread {
        0 => String::new(),
        unread => format!("  {}", output.bold(&tr!("{n} unread" | "{n} unread" % *unread))),
    };
    let (time, text) = (output.dim(&date_and_time(last.at)), excerpt(&last.text.safe_line()));
    Ok(output.print_data(&format!("{time} {who} ({network}){count}  {text}"))?)
}

/// Answers a guest by the node that serves its link, or by the profile.
async fn answer(me: &LocalUser, who: &GuestIdentity, text: &str) -> Result<GuestPost, Error> {
    let conversation = (who.link, who.guest);
    NodeHandle::perform_act(me, NodeNeed::Store, async |node| node.answer_guest(conversation, text).await).await
}

/// A conversation that is open in this process.
struct OpenGuestChat<'a> {
    context: &'a CommandContext,
    me: &'a LocalUser,
    who: GuestIdentity,
    /// The place of the last message that was printed.
    last: i64,
}

impl OpenGuestChat<'_> {
    /// Prints the messages that came since the last time, and marks them as read.
    async fn print_news(&mut self) -> Result<(), Error> {
        let (profile, after, conversation) = (self.me.profile.clone(), self.last, (self.who.link, self.who.guest));
        let read = move || Ok(profile.guest_messages(conversation, after, BATCH)?);
        let messages = run_blocking(read).await?;
        for message in &messages {
            self.last = message.seq;
            self.print(message)?;
        }
        if !messages.is_empty() {
            let (profile, last) = (self.me.profile.clone(), self.last);
            run_blocking(move || Ok(profile.mark_guest_read(conversation, last)?)).await?;
        }
        Ok(())
    }

    fn print(&self, message: &GuestMessage) -> Result<(), Error> {
        let post = GuestPost { who: self.who.clone(), message: message.clone(), is_first: false, is_answered: true };
        let output = &self.context.output;
        if output.is_json() {
            let who = &post.who;
            let mut fields = json!(message);
            (fields["link"], fields["guest"], fields["name"]) = (json!(who.link), json!(who.guest), json!(who.name));
            return Ok(output.print_object("guest_message", &fields)?);
        }
        let time = output.dim(&date_and_time(message.at));
        Ok(output.print_data(&format!("{time} {}", guest_post_line(&post)))?)
    }

    /// Shows messages as they come, and answers with each line, until the input or the link ends.
    async fn run(mut self) -> Result<(), Error> {
        let mut lines = spawn_line_reader()?;
        loop {
            tokio::select! {
                () = self.context.cancel.cancelled() => return Err(Error::Interrupted),
                line = lines.recv() => match line {
                    None => return Ok(()),
                    Some(line) => self.answer_line(&line?.text).await?,
                },
                () = tokio::time::sleep(LOOK_INTERVAL) => {
                    self.print_news().await?;
                    // Another process may have ended the link.
                    if chat_link(self.me, self.who.link).is_err() {
                        self.context.output.note(&tr!("the link has ended"));
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn answer_line(&mut self, line: &str) -> Result<(), Error> {
        if line.trim().is_empty() {
            return Ok(());
        }
        // Before the answer, so that what came meanwhile stands above it.
        self.print_news().await?;
        match answer(self.me, &self.who, line).await {
            // The terminal has it already.
            Ok(post) => self.last = self.last.max(post.message.seq),
            Err(why @ Error::Usage(_)) => self.context.output.warning(&why.to_string()),
            Err(why) => return Err(why),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_their_guests() {
        assert_eq!("3".parse(), Ok(GuestOperand { link: 3, guest: None }));
        assert_eq!("3.12".parse(), Ok(GuestOperand { link: 3, guest: Some(12) }));
        for wrong in ["", "x", "3.", ".1", "3.x", "0", "3.0", "-3", "3.1.2", "3 1"] {
            assert!(wrong.parse::<GuestOperand>().is_err(), "{wrong:?}");
        }
    }
}
