//! Who makes a request, and whether it may use its link.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE};

use super::address_limits::GuestAddress;
use super::guest_refusal::GuestRefusal;
use super::http_text::{cookie_value, header_text};
use super::web_context::WebContext;
use crate::engine::guest_links::{AdmittedGuest, GuestCredential};
use crate::engine::run_blocking;

/// The cookie of a session. Its path is the link's, so that each link has its own.
pub(super) const SESSION_COOKIE: &str = "vizinho_guest";

/// Returns the guest behind a request for a link.
///
/// # Errors
/// [`GuestRefusal::Unauthorised`] or [`GuestRefusal::Wait`].
pub(super) async fn admit(
    context: &Arc<WebContext>,
    address: GuestAddress,
    id: &str,
    headers: &HeaderMap,
) -> Result<AdmittedGuest, GuestRefusal> {
    let bearer = header_text(headers, &AUTHORIZATION).and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let session = cookie_value(cookies, SESSION_COOKIE).map(str::to_owned);
    let (links, id) = (context.links.clone(), id.to_owned());
    match (bearer, session) {
        (Some(token), _) => {
            let look = run_blocking(move || links.admit(&id, GuestCredential::Token(&token)));
            context.try_code(address, look).await
        }
        // A session can't be guessed, and an old one is no guess: whoever has one is never made to wait.
        (None, Some(session)) => {
            let admitted = run_blocking(move || links.admit(&id, GuestCredential::Session(&session)));
            admitted.await?.ok_or(GuestRefusal::Unauthorised)
        }
        (None, None) => Err(GuestRefusal::Unauthorised),
    }
}
