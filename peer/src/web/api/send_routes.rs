//! What is sent: a list, and its changes.

use localization::tr;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::api_request::{ApiAnswer, ApiPath, PageSeat, answer};
use crate::engine::own_shares::audience_text;
use crate::engine::sends::end_send;
use crate::engine::{Error, chat, run_blocking};
use crate::profile::{OutgoingSend, Profile, SendState};

/// Lists what is sent, as `peer sends --json` does.
pub(super) async fn list(page: PageSeat) -> ApiAnswer {
    let profile = page.seat.me.profile.clone();
    let sends = run_blocking(move || {
        profile.sends()?.iter().map(|sent| send_object(&profile, sent)).collect::<Result<Vec<_>, Error>>()
    });
    answer(&json!({ "sends": sends.await? }))
}

/// Pauses, resumes or ends a send that waits.
pub(super) async fn change(page: PageSeat, ApiPath((number, change)): ApiPath<(i64, String)>) -> ApiAnswer {
    let profile = page.seat.me.profile.clone();
    let found = run_blocking(move || Ok(profile.send(number)?)).await?;
    let send = found.filter(|send| send.state == SendState::Waiting).ok_or_else(ApiError::not_found)?;
    let (profile, ended) = (page.seat.me.profile.clone(), send.clone());
    let changed = match &*change {
        "pause" => run_blocking(move || Ok(profile.set_send_paused(number, true)?)).await?,
        "resume" => run_blocking(move || Ok(profile.set_send_paused(number, false)?)).await?,
        "end" => {
            let is_ended = run_blocking(move || end_send(&profile, &ended)).await?;
            if let (true, Some(id), Some(to)) = (is_ended, send.id, send.audience.person()) {
                // Told of it already: then there is nothing to drop.
                let dropped = match page.seat.node() {
                    Some(node) => node.cancel(to, id).await,
                    None => chat::cancel_message(&page.seat.me, to, id).await,
                };
                if let Err(error) = dropped {
                    tracing::debug!("the message of the send stays: {error}");
                }
            }
            is_ended
        }
        _ => return Err(ApiError::bad_request(|| tr!("a send is paused, resumed or ended: pause, resume, end"))),
    };
    answer(&json!({ "changed": changed }))
}

fn send_object(profile: &Profile, sent: &OutgoingSend) -> Result<Value, Error> {
    let OutgoingSend { number, audience, send, at, state, is_paused, .. } = sent;
    let mut fields = json!({
        "number": number, "to": audience_text(profile, audience)?, "name": send.name, "kind": send.kind,
        "files": send.files, "size": send.size, "hash": send.hash, "at": at, "state": state,
        "paused": *is_paused && *state == SendState::Waiting,
    });
    if audience.room().is_some() {
        let (done, declined) = profile.room_receipt_counts(*number)?;
        fields["count"] = json!(done);
        fields["declined"] = json!(declined);
    }
    Ok(fields)
}
