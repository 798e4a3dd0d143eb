//! The calls by which people come in: login and registration.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Router};
use localization::tr;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use shared::tracker::Password;
use shared::{NewUserName, UserName, account_name::UserNameError};
use zeroize::Zeroizing;

use super::door_seats::DoorSeats;
use crate::engine::door::{DoorAccounts, DoorConsent, DoorRefusal};
use crate::web::address_attempts::{AddressAttempts, AttemptAllowance};
use crate::web::address_limits::GuestPeer;
use crate::web::api::{ApiBody, ApiContext, ApiError, session_answer};
use crate::web::json_answer::json_response;

/// Wrong passwords of one address. An attempt counts until its password turns out to be right, and a class may begin at once.
const WRONG_PASSWORDS: AttemptAllowance = AttemptAllowance { at_once: 20, regained_after: Duration::from_secs(30) };
/// New accounts of one address: a class may make them at one machine.
const NEW_ACCOUNTS: AttemptAllowance = AttemptAllowance { at_once: 40, regained_after: Duration::from_secs(30) };

/// What the calls share.
pub(super) struct DoorEntry {
    accounts: DoorAccounts,
    seats: Arc<DoorSeats>,
    wrong_passwords: Mutex<AddressAttempts>,
    new_accounts: Mutex<AddressAttempts>,
}

/// The body of a login.
#[derive(Deserialize)]
struct LoginBody {
    user: String,
    password: String,
    consent: Option<ConsentWord>,
}

/// The body of a registration.
#[derive(Deserialize)]
struct AccountBody {
    user: String,
    password: String,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum ConsentWord {
    Bind,
    Move,
}

impl DoorEntry {
    pub(super) fn new(accounts: DoorAccounts, seats: Arc<DoorSeats>) -> Self {
        let (wrong_passwords, new_accounts) = (WRONG_PASSWORDS, NEW_ACCOUNTS);
        Self {
            accounts,
            seats,
            wrong_passwords: Mutex::new(AddressAttempts::new(wrong_passwords)),
            new_accounts: Mutex::new(AddressAttempts::new(new_accounts)),
        }
    }
}

/// Returns the routes by which sessions begin.
pub(super) fn entry_routes(entry: Arc<DoorEntry>) -> Router<Arc<ApiContext>> {
    let login_entry = entry.clone();
    let login = move |context, peer, headers, body| begin_session(login_entry, context, peer, headers, body);
    let register = move |peer, body| make_account(entry, peer, body);
    Router::new().route("/api/v1/session", post(login)).route("/api/v1/accounts", post(register))
}

/// Logs in: the tracker checks the password, and the account's seat is opened or woken.
async fn begin_session(
    entry: Arc<DoorEntry>,
    State(context): State<Arc<ApiContext>>,
    Extension(peer): Extension<GuestPeer>,
    headers: HeaderMap,
    ApiBody(body): ApiBody<LoginBody>,
) -> Result<Response, ApiError> {
    let LoginBody { user, password, consent } = body;
    let (user, password) = (user_name(&user)?, secret(password)?);
    let consent = consent.map(|word| match word {
        ConsentWord::Bind => DoorConsent::Bind,
        ConsentWord::Move => DoorConsent::Move,
    });
    // Charged before the answer is known: attempts at the same time would all find the allowance untouched.
    let charged = entry.wrong_passwords.lock().charge(peer.address(), Instant::now());
    charged.map_err(too_many)?;
    let opened = entry.accounts.open(&user, password, consent, peer.ip()).await;
    if !matches!(opened, Err(DoorRefusal::WrongPassword)) {
        entry.wrong_passwords.lock().refund(peer.address());
    }
    entry.seats.sit_down(opened?, |seat| session_answer(&context, seat, &headers)).await
}

/// Makes an account. The browser then logs in as with any other.
async fn make_account(
    entry: Arc<DoorEntry>,
    Extension(peer): Extension<GuestPeer>,
    ApiBody(body): ApiBody<AccountBody>,
) -> Result<Response, ApiError> {
    let AccountBody { user, password } = body;
    let name: NewUserName = user.parse().map_err(|why: UserNameError| ApiError::bad_request(|| why.to_string()))?;
    let password = secret(password)?;
    // Never given back: refusals tell which names are taken.
    let charged = entry.new_accounts.lock().charge(peer.address(), Instant::now());
    charged.map_err(too_many)?;
    let me = entry.accounts.register(name, password, peer.ip()).await?;
    Ok(json_response(StatusCode::CREATED, &json!({ "user": me.user })))
}

fn user_name(text: &str) -> Result<UserName, ApiError> {
    text.parse().map_err(|why: UserNameError| ApiError::bad_request(|| why.to_string()))
}

/// Returns the password; the text is overwritten.
fn secret(text: String) -> Result<Password, ApiError> {
    let text = Zeroizing::new(text);
    Password::new(&text).ok_or_else(|| ApiError::bad_request(|| tr!("a password has 1 to 1024 bytes")))
}

fn too_many(wait: Duration) -> ApiError {
    // Parts of a second are cut off, and 0 would invite the next attempt at once.
    ApiError::too_many(wait.as_secs().max(1))
}
