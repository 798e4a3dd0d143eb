//! `peer list`, `files`.

use std::net::SocketAddr;

use serde_json::json;
use shared::UserName;
use shared::safe_text::safe_line;
use shared::tracker::{ListPeers, Peers, Request};

use super::Context;
use crate::engine::{Error, browse, contacts};
use crate::ui::{files as counted, size};

pub(super) async fn list(context: &Context) -> Result<(), Error> {
    let me = context.me()?;
    let mut tracker = me.connect_tracker().await?;
    let peers = contacts::everybody(&mut tracker, true).await?;
    let width = peers.iter().map(|peer| peer.user.as_str().len()).max().unwrap_or(0);
    for peer in &peers {
        let address = peer.port.map_or_else(|| peer.ip.to_string(), |port| SocketAddr::new(peer.ip, port).to_string());
        if context.output.is_json() {
            context.output.object(
                "peer",
                &json!({
                    "user": peer.user,
                    "ip": peer.ip,
                    "port": peer.port,
                    "addresses": peer.addresses,
                    "fingerprint": peer.fingerprint,
                    "files": peer.files.len(),
                    "me": peer.user == me.user,
                }),
            )?;
            continue;
        }
        let files = counted(peer.files.len());
        let remark = match (peer.user == me.user, peer.fingerprint) {
            (true, _) => "  (you)",
            (false, None) => "  (not encrypted: an old client)",
            (false, Some(_)) => "",
        };
        let line = format!("{:width$}  {address:21}  {files}{remark}", peer.user);
        context.output.data(line.trim_end())?;
    }
    if peers.is_empty() {
        context.output.note("nobody is online");
    }
    Ok(())
}

pub(super) async fn files(context: &Context, user: &UserName, prefix: &str) -> Result<(), Error> {
    let me = context.me()?;
    let mut tracker = me.connect_tracker().await?;
    let files = match contacts::find_through(&me, &mut tracker, user).await {
        Ok(target) => browse::files(&me, &target, prefix)
            .await?
            .into_iter()
            .map(|f| (f.name, f.size, f.hash.to_string()))
            .collect(),
        // A client of another kind: the tracker's catalogue is all there is.
        Err(Error::Unreachable(_)) => {
            let only = ListPeers { user: Some(user.clone()), ..ListPeers::default() };
            let peers: Peers = tracker.call(&Request::ListPeers(only)).await?;
            let files = peers.peers.into_iter().flat_map(|peer| peer.files);
            let matching = files.filter(|file| file.name.as_str().starts_with(prefix));
            matching.map(|file| (file.name, file.size, file.hash.as_str().to_owned())).collect::<Vec<_>>()
        }
        Err(error) => return Err(error),
    };
    for (name, bytes, hash) in &files {
        if context.output.is_json() {
            context.output.object("file", &json!({ "user": user, "name": name, "size": bytes, "hash": hash }))?;
        } else {
            context.output.data(&format!("{:>9}  {}", size(*bytes), safe_line(name.as_str())))?;
        }
    }
    if files.is_empty() {
        context
            .output
            .note(&format!("{user} shares nothing{}", if prefix.is_empty() { "" } else { " under that name" }));
    }
    Ok(())
}
