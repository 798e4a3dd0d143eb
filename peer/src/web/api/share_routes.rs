//! The user's own shares.

use serde_json::json;

use super::api_request::{ApiAnswer, ApiPath, ApiQuery, PageSeat, answer, done, parsed};
use crate::engine::chat::ConversationName;
use crate::engine::node::announce_shares;
use crate::engine::own_shares::{list_own_shares, remove_own_share};
use crate::engine::run_blocking;

/// Shares of an answer.
const MAX_LISTED: usize = 20_000;

/// Lists what the user shares, with whom.
pub(super) async fn list(page: PageSeat) -> ApiAnswer {
    let profile = page.seat.me.profile.clone();
    let (shares, more) = run_blocking(move || list_own_shares(&profile, MAX_LISTED)).await?;
    answer(&json!({ "shares": shares, "more": more }))
}

/// Stops sharing a file or a folder with everybody, or with the `audience` that the query names.
pub(super) async fn remove(page: PageSeat, ApiPath(name): ApiPath<String>, query: ApiQuery) -> ApiAnswer {
    let audience =
        query.text("audience").filter(|text| !text.is_empty()).map(parsed::<ConversationName>).transpose()?;
    let (profile, dropped) = (page.seat.me.profile.clone(), page.seat.drops.clone());
    let removed = run_blocking(move || {
        let paths = remove_own_share(&profile, audience.as_ref(), &name)?;
        paths.iter().for_each(|path| dropped.remove(path));
        Ok(())
    });
    removed.await?;
    announce_shares(&page.seat.me.profile).await?;
    done()
}
