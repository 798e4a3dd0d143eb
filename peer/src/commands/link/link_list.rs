//! `peer link list` and `peer link revoke`.

use clap::Args;
use localization::tr;
use serde_json::json;

use super::super::command_help::CommandHelp;
use super::super::context::CommandContext;
use super::look_at_links;
use super::printed_link::PrintedLink;
use crate::engine::Error;
use crate::engine::guest_links::{GuestLink, list_links, remove_link};
use crate::profile::Access;
use crate::web::open_certificate;

const LIST_HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer link list
  peer --json link list",
    notes: "",
};
const REVOKE_HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer link revoke 3
  peer link revoke https://192.168.1.7:8444/l/k3w5tq2a/",
    notes: "",
};

/// Show the links that have not ended.
#[derive(Debug, Args)]
#[command(after_help = LIST_HELP.examples)]
pub(super) struct LinkListArgs {}

/// End links at once; running downloads are cut.
#[derive(Debug, Args)]
#[command(after_help = REVOKE_HELP.examples)]
pub(super) struct LinkRevokeArgs {
    /// Their numbers or addresses.
    #[arg(required = true, value_name = "NUMBER|URL")]
    pub(super) links: Vec<String>,
}

/// Prints the links.
pub(super) async fn list(context: &CommandContext) -> Result<(), Error> {
    let me = context.me(Access::Look)?;
    let links = list_links(&me.profile, &me.identity)?;
    if links.is_empty() {
        context.output.note(&tr!("there are no links: `peer link PATH` makes one"));
        return Ok(());
    }
    // A node that can't be asked serves nothing, as far as anybody knows.
    let node_port = look_at_links(&me).await.ok().flatten().and_then(|service| service.port);
    let certificate = open_certificate(me.profile.home())?;
    for (link, token) in links {
        let number = link.number;
        let port = if link.pid.is_some() { None } else { node_port };
        let is_served = link.pid.is_some() || port.is_some();
        let place = match port.or(me.profile.last_link_port()?).filter(|_| link.pid.is_none()) {
            Some(port) => format!("{}:{port}", link.address),
            None => link.address.clone(),
        };
        let (is_once, has_chat, made_at, folder) = (link.is_once, link.has_chat, link.made_at, link.folder.clone());
        let unread: usize = me.profile.guest_conversations(number)?.iter().map(|talk| talk.unread).sum();
        let printed = PrintedLink::of(&me, &certificate, (link, token), &place)?;
        if context.output.is_json() {
            let mut object = printed.json();
            object["number"] = json!(number);
            object["made"] = json!(made_at);
            object["once"] = json!(is_once);
            object["receives"] = json!(folder);
            object["unread"] = has_chat.then_some(unread).into();
            object["served"] = json!(is_served);
            context.output.print_object("link", &object)?;
            continue;
        }
        let state = match is_served {
            true => String::new(),
            false => context.output.dim(&format!("  {}", tr!("(`peer serve` would serve it)"))),
        };
        context.output.print_data(&format!("{number:>3}  {}{state}", printed.description()))?;
        context.output.print_data(&format!("     {}", printed.url()))?;
        if has_chat {
            let chat = match unread {
                0 => tr!("guests can write: `peer link chat {number}`", number),
                unread => tr!(
                    "{n} unread message: `peer link chat {number}`"
                        | "{n} unread messages: `peer link chat {number}`" % unread,
                    number
                ),
            };
            context.output.print_data(&format!("     {chat}"))?;
        }
    }
    Ok(())
}

/// Ends links.
pub(super) async fn revoke(context: &CommandContext, which: &[String]) -> Result<(), Error> {
    let me = context.me(Access::Use)?;
    let all = list_links(&me.profile, &me.identity)?;
    let find = |text: &String| {
        let link = all.iter().map(|(link, _)| link).find(|link| is_named(link, text));
        link.ok_or_else(|| {
            Error::Usage(tr!("there is no link {text}: `peer link list` shows them", text = format_args!("{text:?}")))
        })
    };
    // All or none: a typing error ends nothing.
    let links: Vec<&GuestLink> = which.iter().map(find).collect::<Result<_, _>>()?;
    for link in links {
        remove_link(&me.profile, link)?;
        let number = link.number;
        if context.output.is_json() {
            context.output.print_object("link_revoked", &json!({ "number": number }))?;
        } else {
            context.output.note(&tr!("link {number} has ended", number));
        }
    }
    // The node stops to listen after the last one. What it can't be told, it sees by itself at the next request.
    let _ = look_at_links(&me).await;
    Ok(())
}

fn is_named(link: &GuestLink, text: &str) -> bool {
    let id = text.split_once("/l/").and_then(|(_, rest)| rest.split(['/', '#', '?']).next());
    text.parse() == Ok(link.number) || id == Some(&link.id)
}
