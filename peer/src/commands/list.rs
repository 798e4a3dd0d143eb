//! The command `peer list`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::tracker::{HashText, ListPeersRequest, ListedPeer};
use shared::{ContentHash, FileName, UserName};

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::user_resolution::{LookupScope, resolve_arguments};
use super::value_parsers::{count, parse_file_name};
use crate::engine::chat::UnreadCount;
use crate::engine::{Error, LocalUser, peer_lookup, tracker_search};
use crate::profile::Access;
use crate::ui::file_count;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer list
  peer list --sharing film.mkv
  peer list bob",
    notes: "",
};

/// Show who is online.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct ListArgs {
    /// Only this user.
    user: Option<UserName>,
    /// Only who shares a file of this name.
    #[arg(long, value_name = "NAME", value_parser = parse_file_name)]
    sharing: Option<FileName>,
    /// Only who shares a file of this hash.
    #[arg(long, value_name = "HASH", value_parser = parse_hash)]
    hash: Option<HashText>,
    /// At most this many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

pub(super) async fn run(context: &CommandContext, args: ListArgs) -> Result<(), Error> {
    let limit = args.limit.map_or(usize::MAX, count);
    let me = context.me(Access::Look)?;
    let mut user = args.user;
    resolve_arguments(context, &me, LookupScope::Tracker, &mut user).await?;
    // The tracker need not send file lists: only their number is printed.
    let no_files = ListPeersRequest { with_files: Some(false), ..ListPeersRequest::default() };
    let query = ListPeersRequest { user, name: args.sharing, hash: args.hash, ..no_files.clone() };
    let mut tracker = me.connect_tracker().await?;
    let named = query.name.as_ref().map(|name| name.as_str().to_owned());
    let sought = named.or_else(|| query.hash.as_ref().map(|hash| hash.as_str().to_owned()));
    let is_everybody = query == no_files;
    let (only, mut peers) = (query.user.clone(), Vec::new());
    let all = tracker_search::search_users(&mut tracker, query, limit, |peer| {
        peers.push(peer);
        Ok(())
    })
    .await?;
    // The tracker's own list says nothing about absent users: ask why the user is not in it.
    if let (Some(user), []) = (&only, peers.as_slice()) {
        return Err(peer_lookup::absence_error(&mut tracker, user).await);
    }
    if let (Some(sought), 0) = (sought, all) {
        return Err(Error::NobodyShares(sought));
    }
    let unread = me.profile.unread_counts()?;
    let width = peers.iter().map(|peer| peer.user.as_str().len()).max().unwrap_or(0);
    for peer in &peers {
        let unread =
            unread.iter().find(|unread| unread.with.person() == Some(&peer.user)).map_or(0, |unread| unread.count);
        show_peer(context, peer, unread, peer.user == me.user, width)?;
    }
    match all.saturating_sub(peers.len()) {
        0 if all == 0 => context.output.note(&tr!("nobody is online")),
        0 => {}
        more => context.output.note(&tr!("and {more} more", more)),
    }
    // A filtered or cut list doesn't show who is offline.
    if is_everybody && all == peers.len() {
        print_offline_users(context, &me, &peers, &unread)?;
    }
    Ok(())
}

/// Prints users who are offline and have unread messages here or messages waiting for them.
fn print_offline_users(
    context: &CommandContext,
    me: &LocalUser,
    online: &[ListedPeer],
    unread: &[UnreadCount],
) -> Result<(), Error> {
    let mut absent: BTreeMap<UserName, (usize, usize)> = BTreeMap::new();
    for one in unread {
        if let Some(user) = one.with.person() {
            absent.entry(user.clone()).or_default().0 = one.count;
        }
    }
    for one in me.profile.queued_counts()? {
        absent.entry(one.user).or_default().1 = one.count;
    }
    absent.retain(|user, _| online.iter().all(|peer| peer.user != *user));
    for (user, (unread, waiting)) in absent {
        if context.output.is_json() {
            context.output.print_object("absent", &json!({ "user": user, "unread": unread, "waiting": waiting }))?;
            continue;
        }
        let unread = (unread > 0).then(|| tr!("{n} unread (`peer inbox`)" | "{n} unread (`peer inbox`)" % unread));
        let waiting = (waiting > 0).then(|| tr!("{n} queued (`peer outbox`)" | "{n} queued (`peer outbox`)" % waiting));
        let what: Vec<String> = [unread, waiting].into_iter().flatten().collect();
        context.output.note(&tr!("{user} is offline: {what}", user, what = what.join(", ")));
    }
    Ok(())
}

fn show_peer(
    context: &CommandContext,
    peer: &ListedPeer,
    unread: usize,
    is_me: bool,
    width: usize,
) -> Result<(), Error> {
    if context.output.is_json() {
        return Ok(context.output.print_object(
            "peer",
            &json!({
                "user": peer.user,
                "ip": peer.ip,
                "port": peer.port,
                "addresses": peer.addresses,
                "fingerprint": peer.fingerprint,
                "files": peer.total_file_count(),
                "me": is_me,
                "unread": unread,
            }),
        )?);
    }
    let address = peer.port.map_or_else(|| peer.ip.to_string(), |port| SocketAddr::new(peer.ip, port).to_string());
    let files = file_count(peer.total_file_count());
    let remark = match (is_me, peer.fingerprint) {
        (true, _) => format!("  {}", tr!("(you)")),
        (false, None) => format!("  {}", tr!("(not encrypted: an old client)")),
        (false, Some(_)) => String::new(),
    };
    let unread = match unread {
        0 => String::new(),
        unread => format!("  {}", tr!("({n} unread: `peer inbox`)" | "({n} unread: `peer inbox`)" % unread)),
    };
    let line = format!("{:width$}  {address:21}  {files}{remark}{unread}", peer.user);
    Ok(context.output.print_data(line.trim_end())?)
}

/// Parses a hash of any kind: clients of other programs register other hashes than BLAKE3.
fn parse_hash(text: &str) -> Result<HashText, String> {
    let is_hash =
        // Hex digits of digests from MD5 (32) to SHA-512 (128).
        matches!(text.len(), 32 | 40 | 56 | 64 | 96 | 128) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let wrong = || {
        tr!(
            "{text} is not a hash: 64 hex digits, as `peer find` and `--json` print them",
            text = format_args!("{text:?}")
        )
    };
    // The tracker compares text: our own hashes are registered in lower case.
    let text = text.parse::<ContentHash>().map_or_else(|_| text.to_owned(), |hash| hash.to_string());
    HashText::new(&text).filter(|_| is_hash).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes() {
        let ours = "AB".repeat(32);
        assert_eq!(parse_hash(&ours).unwrap().as_str(), ours.to_ascii_lowercase());
        assert!(parse_hash(&"d4".repeat(16)).is_ok(), "what other clients register");
        for wrong in ["", "zzz", "nonsense", "12", &"xy".repeat(32), &"ab".repeat(31)] {
            assert!(parse_hash(wrong).unwrap_err().contains("64 hex digits"), "{wrong:?}");
        }
    }
}
