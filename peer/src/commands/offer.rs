//! The command `peer offer`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::account_name::shell_operand;
use shared::names::name_encoding::display_name;
use shared::peer::FileOffer;
use shared::{FileName, UserName};

use super::command_help::CommandHelp;
use super::common_words::freshness_remark;
use super::context::CommandContext;
use super::file_hashing::with_stop_timeout;
use super::message_delivery;
use super::user_resolution::{LookupScope, require_known_user, resolve_arguments};
use super::value_parsers::parse_file_name;
use crate::engine::chat::DeliveryReport;
use crate::engine::node::{NodeHandle, NodeNeed};
use crate::engine::private_data::PrivateData;
use crate::engine::share::{ShareEvent, ShareFreshness, freshness};
use crate::engine::{Error, LocalUser, file_offers, run_blocking};
use crate::profile::{Access, Audience};
use crate::ui::{ShareBar, format_size};
use crate::util::shell_words::shell_quote;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer offer bob plan.pdf
  peer offer
  peer offer bob --withdraw plan.pdf",
    notes: "\
Nobody else sees or gets the file. The person is told in a message, and fetches it with `peer fetch YOU NAME` \
while `peer serve` runs. --withdraw also drops that message if it is still queued.",
};

/// Offer files to one person alone; without files show what is offered.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct OfferArgs {
    /// To whom.
    user: Option<UserName>,
    /// Files; names with --withdraw.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Offer it under another name.
    #[arg(long = "as", value_name = "NAME", value_parser = parse_file_name, conflicts_with = "withdraw")]
    name: Option<FileName>,
    /// Withdraw what is offered under these names.
    #[arg(long, requires = "files")]
    withdraw: bool,
}

pub(super) async fn run(context: &CommandContext, args: OfferArgs) -> Result<(), Error> {
    match args {
        OfferArgs { user: Some(to), files, withdraw: true, .. } => {
            context.until_cancelled(withdraw(context, to, &files)).await
        }
        OfferArgs { user: Some(to), files, name, .. } if !files.is_empty() => {
            // Boxed because of its size.
            Box::pin(offer_files(context, to, files, name)).await
        }
        OfferArgs { user, .. } => context.until_cancelled(list(context, user)).await,
    }
}

/// Hashes the files, and tells the person of each offer in a message.
async fn offer_files(
    context: &CommandContext,
    mut to: UserName,
    paths: Vec<PathBuf>,
    name: Option<FileName>,
) -> Result<(), Error> {
    let me = context.me(Access::Use)?;
    resolve_arguments(context, &me, LookupScope::Tracker, [&mut to]).await?;
    let to = &to;
    if *to == me.user {
        return Err(Error::Usage(tr!("you can't offer files to yourself")));
    }
    if let Some(warning) = file_offers::blocked_warning(&me.profile, to)? {
        context.output.warning(&warning);
    }
    let (profile, user, output, cancel) =
        (me.profile.clone(), to.clone(), context.output.clone(), context.cancel.clone());
    let audience = Audience::Person(user.clone());
    let offering = run_blocking(move || {
        let mut bar = ShareBar::new(&output);
        // Unreadable files count as empty here: hashing reports their errors.
        let sizes = paths.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|metadata| metadata.len());
        bar.handle_event(&ShareEvent::Found { files: paths.len(), to_hash: sizes.sum() })?;
        // The callback can't return an I/O error: keep it until hashing has ended.
        let mut failure = None;
        let offered = file_offers::add_offers(&profile, &user.into(), &audience, &paths, name.as_ref(), &mut |bytes| {
            failure = bar.handle_event(&ShareEvent::Hashed(bytes)).err().or(failure.take());
            if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.end();
        failure.map_or(offered, |failure| Err(failure.into()))
    });
    let offered = match with_stop_timeout(context, offering).await {
        Err(Error::Interrupted) => {
            context.output.note(&tr!("interrupted: nothing was offered; run it again"));
            return Err(Error::Interrupted);
        }
        offered => offered?,
    };
    for (number, offer) in offered.iter().enumerate() {
        let name = offer.name.clone();
        let told = tokio::select! {
            told = message_delivery::with_wait_notice(context, to, announce_offer(&me, to, &name)) => told,
            () = context.cancel.cancelled() => return Err(report_interruption(context, &me, to, &offered[number..]).await),
        };
        let delivery = match told {
            Ok(delivery) => delivery,
            // Without an announcement the recipient would never learn of the rest.
            Err(error) => {
                withdraw_unannounced(&me, to, offered[number..].to_vec()).await?;
                return Err(error);
            }
        };
        if context.output.is_json() {
            let fields =
                json!({ "to": to, "name": name, "size": offer.size, "hash": offer.hash, "id": delivery.message.id });
            context.output.print_object("offer", &fields)?;
        } else {
            let (name, bytes) = (display_name(name.as_str()).into_owned(), format_size(offer.size));
            context.output.note(&tr!(
                "offered {name} ({bytes}) to {to}; keep `peer serve` running until it is fetched",
                name,
                bytes,
                to
            ));
        }
        message_delivery::print_delivery(context, to, &delivery)?;
    }
    Ok(())
}

/// Reports an interruption while offers were being announced. The first one may be announced already, or its message
/// waits; the others are withdrawn.
async fn report_interruption(context: &CommandContext, me: &LocalUser, to: &UserName, offers: &[FileOffer]) -> Error {
    if let Some((first, rest)) = offers.split_first() {
        if let Err(why) = withdraw_unannounced(me, to, rest.to_vec()).await {
            context.output.warning(&why.to_string());
        }
        let name = display_name(first.name.as_str());
        let word = shell_quote(&[to.as_str(), first.name.as_str()]);
        let offered = tr!(
            "interrupted: {name} is offered, and {to} is told of it as soon as they can be (`peer offer --withdraw {word}` \
             withdraws it)",
            name,
            to,
            word
        );
        context.output.note(&match rest.len() {
            0 => offered,
            more => format!("{offered}; {}", tr!("1 file not offered" | "{n} files not offered" % more)),
        });
    }
    Error::Interrupted
}

/// Withdraws offers that were never announced.
async fn withdraw_unannounced(me: &LocalUser, to: &UserName, offers: Vec<FileOffer>) -> Result<(), Error> {
    let (profile, to) = (me.profile.clone(), to.clone());
    run_blocking(move || {
        for offer in &offers {
            profile.withdraw_undelivered_offer(&to, offer)?;
        }
        Ok(())
    })
    .await
}

async fn announce_offer(me: &LocalUser, to: &UserName, name: &FileName) -> Result<DeliveryReport, Error> {
    NodeHandle::perform_act(me, NodeNeed::Links, async |node| node.deliver_offer(to, name).await).await
}

async fn withdraw(context: &CommandContext, mut to: UserName, files: &[PathBuf]) -> Result<(), Error> {
    // All of them before any is withdrawn, so that a slip changes nothing.
    let names: Vec<FileName> = files.iter().map(|file| parse_offered_name(file)).collect::<Result<_, _>>()?;
    let me = context.me(Access::Use)?;
    resolve_arguments(context, &me, LookupScope::Local, [&mut to]).await?;
    for name in &names {
        let name = file_offers::resolve_offer_name(&me.profile, &to, name)?;
        file_offers::withdraw(&me.profile, &to, &name)?;
        // A queued announcement would point to a file that the recipient can't fetch any more.
        for untold in file_offers::undelivered_messages(&me.profile, &to, &name)? {
            message_delivery::cancel_message(&me, &to, untold).await?;
        }
        context.output.note(&tr!("offer withdrawn: {name}", name = display_name(name.as_str())));
    }
    Ok(())
}

async fn list(context: &CommandContext, mut to: Option<UserName>) -> Result<(), Error> {
    let profile = context.existing_profile(Access::Look)?;
    // Without an account no other name is known.
    let me = context.me(Access::Look).ok();
    if let Some(me) = &me {
        resolve_arguments(context, me, LookupScope::Local, &mut to).await?;
    }
    let (all, private) = (file_offers::all_offers(&profile)?, PrivateData::of(&profile));
    let (mut any, mut gone) = (false, Vec::new());
    for (user, share) in all.iter().filter(|(user, _)| to.as_ref().is_none_or(|to| to == user)) {
        any = true;
        let (state, is_private) = (freshness(share), private.is_private_share(share));
        let remark = freshness_remark(&state, is_private);
        if is_private || state == ShareFreshness::Missing {
            gone.push((user, &share.name));
        }
        if context.output.is_json() {
            let path = share.path.to_string_lossy();
            let fields = json!({
                "to": user, "name": share.name, "size": share.version.size, "hash": share.hash, "path": path,
                "fresh": remark.is_empty(), "there": state != ShareFreshness::Missing, "private": is_private,
            });
            context.output.print_object("offer", &fields)?;
        } else {
            let name = display_name(share.name.as_str());
            let remark = context.output.dim(&remark);
            context.output.print_data(&format!("{user}  {:>9}  {name}{remark}", format_size(share.version.size)))?;
        }
    }
    if !any {
        if let (Some(me), Some(to)) = (&me, &to) {
            require_known_user(me, to).await?;
        }
        context.output.note(&tr!("nothing is offered: `peer offer USER FILE` offers a file to one person"));
    }
    match gone.as_slice() {
        [] => {}
        [(user, name)] => context.output.note(&tr!(
            "1 offered file is gone: `peer offer {user} --withdraw {name}` withdraws the offer",
            user = shell_operand(user),
            name = shell_quote(&[name.as_str()])
        )),
        gone => context.output.note(&tr!(
            "{count} files that you offered are gone: `peer offer USER --withdraw NAME` withdraws one",
            count = gone.len()
        )),
    }
    Ok(())
}

/// Parses the name of an offer.
fn parse_offered_name(text: &Path) -> Result<FileName, Error> {
    let name = FileName::from_raw(text.as_os_str().as_encoded_bytes());
    let text = text.to_string_lossy();
    text.parse().or(name).map_err(|why| Error::Usage(format!("{text}: {why}")))
}
