//! The commands `peer list`, `find` and `files`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::json;
use shared::names::name_encoding::display_name;
use shared::tracker::{
    FindCriterion, FindRequest, FoundFile, ListPeersRequest, ListedPeer, TrackerRequest, UserFilesReply,
};
use shared::{UntrustedText, UserName};

use super::CommandContext;
use crate::engine::chat::UnreadCount;
use crate::engine::{Error, LocalUser, peer_lookup, remote_files, tracker_search};
use crate::ui::{file_count as counted, format_size};

pub(super) async fn list(context: &CommandContext, query: ListPeersRequest, limit: usize) -> Result<(), Error> {
    let me = context.me()?;
    let mut tracker = me.connect_tracker().await?;
    let named = query.name.as_ref().map(|name| name.as_str().to_owned());
    let sought = named.or_else(|| query.hash.as_ref().map(|hash| hash.as_str().to_owned()));
    let is_everybody = query == ListPeersRequest { with_files: query.with_files, ..ListPeersRequest::default() };
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
        let unread = unread.iter().find(|unread| unread.user == peer.user).map_or(0, |unread| unread.count);
        show_peer(context, peer, unread, peer.user == me.user, width)?;
    }
    match all.saturating_sub(peers.len()) {
        0 if all == 0 => context.output.note("nobody is online"),
        0 => {}
        more => context.output.note(&format!("and {more} more")),
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
        absent.entry(one.user.clone()).or_default().0 = one.count;
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
        let unread = (unread > 0).then(|| format!("{unread} unread (`peer inbox`)"));
        let waiting = (waiting > 0).then(|| format!("{waiting} queued (`peer outbox`)"));
        let what: Vec<String> = [unread, waiting].into_iter().flatten().collect();
        context.output.note(&format!("{user} is offline: {}", what.join(", ")));
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
    let files = counted(peer.total_file_count());
    let remark = match (is_me, peer.fingerprint) {
        (true, _) => "  (you)",
        (false, None) => "  (not encrypted: an old client)",
        (false, Some(_)) => "",
    };
    let unread = if unread == 0 { String::new() } else { format!("  ({unread} unread: `peer inbox`)") };
    let line = format!("{:width$}  {address:21}  {files}{remark}{unread}", peer.user);
    Ok(context.output.print_data(line.trim_end())?)
}

pub(super) async fn find(context: &CommandContext, query: FindCriterion, limit: usize) -> Result<(), Error> {
    let me = context.me()?;
    let mut tracker = me.connect_tracker().await?;
    let what = match &query {
        FindCriterion::Words(words) => words.to_string(),
        FindCriterion::Hash(hash) => hash.as_str().to_owned(),
    };
    let mut found = 0_usize;
    let more = tracker_search::search_files(
        &mut tracker,
        FindRequest { criterion: query, limit: None, cursor: None },
        limit,
        |file| {
            found += 1;
            let FoundFile { user, name, size: bytes, hash } = file;
            if context.output.is_json() {
                let fields = json!({ "user": user, "name": name, "size": bytes, "hash": hash, "me": user == me.user });
                return Ok(context.output.print_object("file", &fields)?);
            }
            Ok(context.output.print_data(&format!(
                "{:>9}  {user}  {}",
                format_size(bytes),
                display_name(name.as_str())
            ))?)
        },
    )
    .await?;
    if found == 0 {
        return Err(Error::NobodyShares(what));
    }
    if more {
        context.output.note("there are more: --limit N shows up to N");
    }
    Ok(())
}

/// Warns of the first few entries that can't be file names, and counts the others: their number is up to the owner.
fn warn_of_invalid_names(context: &CommandContext, names: &[UntrustedText]) {
    const NAMED: usize = 8;
    for name in names.iter().take(NAMED) {
        context.output.warning(&format!("left out: \"{name}\" can't be a file"));
    }
    if let Some(more @ 1..) = names.len().checked_sub(NAMED) {
        context.output.warning(&format!("left out: {more} more that can't be files"));
    }
}

pub(super) async fn files(context: &CommandContext, user: &UserName, prefix: &str) -> Result<(), Error> {
    let me = context.me()?;
    // The profile pins no key for its own user, so the lookup would fail with a misleading error.
    if *user == me.user {
        return Err(Error::Usage("these are your own files: `peer shares` lists them".to_owned()));
    }
    let files = match peer_lookup::find_target(&me, user).await {
        Ok(target) => {
            let entries = remote_files::list_remote_files(&me, &target, prefix).await?;
            let (listed, mut files, mut unfit) = (entries.len(), Vec::with_capacity(entries.len()), Vec::new());
            for entry in entries {
                match entry {
                    Ok(file) => files.push((file.name, file.size, file.hash.to_string())),
                    Err(name) => unfit.push(name),
                }
            }
            warn_of_invalid_names(context, &unfit);
            if files.is_empty() && listed > 0 {
                return Err(Error::Integrity(format!("{user} shares nothing that can be a file")));
            }
            files
        }
        // The user's client accepts no links: the tracker's catalogue is all there is.
        Err(Error::Unreachable(_)) => {
            let only = ListPeersRequest { user: Some(user.clone()), ..ListPeersRequest::default() };
            let listed: UserFilesReply = me.connect_tracker().await?.call(&TrackerRequest::ListPeers(only)).await?;
            let files = listed.into_files().into_iter();
            let matching = files.filter(|file| file.name.as_str().starts_with(prefix));
            matching.map(|file| (file.name, file.size, file.hash.as_str().to_owned())).collect::<Vec<_>>()
        }
        Err(error) => return Err(error),
    };
    for (name, bytes, hash) in &files {
        if context.output.is_json() {
            context.output.print_object("file", &json!({ "user": user, "name": name, "size": bytes, "hash": hash }))?;
        } else {
            context.output.print_data(&format!("{:>9}  {}", format_size(*bytes), display_name(name.as_str())))?;
        }
    }
    match files.as_slice() {
        [] if !prefix.is_empty() => return Err(Error::NotShared { user: user.clone(), name: prefix.to_owned() }),
        [] => context.output.note(&format!("{user} shares nothing")),
        _ => {}
    }
    Ok(())
}
