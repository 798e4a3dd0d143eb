//! `peer offer`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::json;
use shared::account_name::operand;
use shared::names::stand_in::shown;
use shared::peer::Offer;
use shared::{FileName, UserName};

use super::share::{remark, unless_stuck};
use super::{Context, ledger, say};
use crate::engine::chat;
use crate::engine::node::control::{Action, Delivery, NodeClient};
use crate::engine::private_data::PrivateData;
use crate::engine::share::{Freshness, ShareEvent, freshness};
use crate::engine::{Error, Me, blocking, offers, words};
use crate::ui::{ShareBar, files, size};

pub(super) async fn put(
    context: &Context,
    to: &UserName,
    paths: Vec<PathBuf>,
    name: Option<FileName>,
) -> Result<(), Error> {
    let me = context.me()?;
    if *to == me.user {
        return Err(Error::Usage("that is you".to_owned()));
    }
    if let Some(warning) = offers::warning(&me.profile, to)? {
        context.output.warning(&warning);
    }
    let (profile, user, output, cancel) =
        (me.profile.clone(), to.clone(), context.output.clone(), context.cancel.clone());
    let offering = blocking(move || {
        let mut bar = ShareBar::new(&output);
        let sizes = paths.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|metadata| metadata.len());
        bar.show(&ShareEvent::Found { files: paths.len(), to_hash: sizes.sum() })?;
        let mut failure = None;
        let offered = offers::put(&profile, &user, &paths, name.as_ref(), &mut |bytes| {
            failure = bar.show(&ShareEvent::Hashed(bytes)).err().or(failure.take());
            if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.end();
        failure.map_or(offered, |failure| Err(failure.into()))
    });
    let offered = match unless_stuck(context, offering).await {
        Err(Error::Interrupted) => {
            context.output.note("interrupted: nothing was offered; run it again to offer it");
            return Err(Error::Interrupted);
        }
        offered => offered?,
    };
    for (number, offer) in offered.iter().enumerate() {
        let name = offer.name.clone();
        let told = tokio::select! {
            told = say::patiently(context, to, tell(context, &me, to, &name)) => told,
            () = context.cancel.cancelled() => return Err(interrupted(context, &me, to, &offered[number..]).await),
        };
        let delivery = match told {
            Ok(delivery) => delivery,
            Err(error) => {
                withdraw_untold(&me, to, offered[number..].to_vec()).await?;
                return Err(error);
            }
        };
        if context.output.is_json() {
            let fields =
                json!({ "to": to, "name": name, "size": offer.size, "hash": offer.hash, "id": delivery.message.id });
            context.output.object("offer", &fields)?;
        } else {
            let (name, bytes) = (shown(name.as_str()).into_owned(), size(offer.size));
            let until = "keep `peer serve` running until it is fetched";
            context.output.note(&format!("offered {name} ({bytes}) to {to}; {until}"));
        }
        say::tell(context, to, &delivery)?;
    }
    Ok(())
}

/// Says what becomes of offers whose telling was interrupted: the first may be told already, or waits; of the others nobody
/// learns.
async fn interrupted(context: &Context, me: &Me, to: &UserName, offers: &[Offer]) -> Error {
    if let Some((first, rest)) = offers.split_first() {
        if let Err(why) = withdraw_untold(me, to, rest.to_vec()).await {
            context.output.warning(&why.to_string());
        }
        let name = shown(first.name.as_str());
        let word = words(&[to.as_str(), first.name.as_str()]);
        let more = if rest.is_empty() { String::new() } else { format!("; {} not offered", files(rest.len())) };
        context.output.note(&format!(
            "interrupted: {name} is offered, and {to} is told of it as soon as they can be (`peer offer --withdraw {word}` \
             takes it back){more}"
        ));
    }
    Error::Interrupted
}

/// Nobody was told of these, and nobody will be.
async fn withdraw_untold(me: &Me, to: &UserName, offers: Vec<Offer>) -> Result<(), Error> {
    let (profile, to) = (me.profile.clone(), to.clone());
    blocking(move || {
        for offer in &offers {
            profile.withdraw_untold(&to, offer)?;
        }
        Ok(())
    })
    .await
}

async fn tell(context: &Context, me: &Me, to: &UserName, name: &FileName) -> Result<Delivery, Error> {
    match NodeClient::connect(&me.profile).await? {
        Some(mut node) => node.call(Action::Offer { to: to.clone(), name: name.clone(), wait: true }).await,
        None => {
            let message = chat::compose_offer(&me.user, offers::find(me, to, name)?);
            say::visit(context, me, to, message, false).await
        }
    }
}

pub(super) async fn withdraw(context: &Context, to: &UserName, names: &[FileName]) -> Result<(), Error> {
    let me = context.me()?;
    for name in names {
        let name = offers::name_meant(&me.profile, to, name)?;
        offers::withdraw(&me.profile, to, &name)?;
        // Nobody is told of what they can't have.
        for untold in offers::untold(&me.profile, to, &name)? {
            ledger::take_out(&me, to, untold).await?;
        }
        context.output.note(&format!("offer withdrawn: {}", shown(name.as_str())));
    }
    Ok(())
}

pub(super) fn list(context: &Context, to: Option<&UserName>) -> Result<(), Error> {
    let profile = context.existing_profile()?;
    let (all, private) = (profile.offers()?, PrivateData::of(&profile));
    let (mut any, mut gone) = (false, Vec::new());
    for (user, share) in all.iter().filter(|(user, _)| to.is_none_or(|to| to == user)) {
        any = true;
        let (state, is_private) = (freshness(share), private.covers(share));
        let remark = remark(&state, is_private);
        if is_private || state == Freshness::Missing {
            gone.push((user, &share.name));
        }
        if context.output.is_json() {
            let path = share.path.to_string_lossy();
            let fields = json!({
                "to": user, "name": share.name, "size": share.id.size, "hash": share.hash, "path": path,
                "fresh": remark.is_empty(), "there": state != Freshness::Missing, "private": is_private,
            });
            context.output.object("offer", &fields)?;
        } else {
            let name = shown(share.name.as_str());
            let remark = context.output.dim(&remark);
            context.output.data(&format!("{user}  {:>9}  {name}{remark}", size(share.id.size)))?;
        }
    }
    if !any {
        context.output.note("nothing is offered: `peer offer USER FILE` offers a file to one person");
    }
    match gone.as_slice() {
        [] => {}
        [(user, name)] => context.output.note(&format!(
            "1 file is not to be had any more: `peer offer {} --withdraw {}` takes it back",
            operand(user),
            words(&[name.as_str()])
        )),
        gone => context.output.note(&format!(
            "{} are not to be had any more: `peer offer USER --withdraw NAME` takes one back",
            files(gone.len())
        )),
    }
    Ok(())
}
