//! The page of the user of this machine, on loopback, in plain HTTP.
//!
//! A browser gets its session by a token that works once: it stands in a file that only the user can read, whose
//! script-free page leads to the address with the token behind `#`. A new file is written after each use.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::account_seat::AccountSeat;
use super::address_attempts::{AddressAttempts, WRONG_CODES};
use super::address_limits::GuestAddress;
use super::api::{ApiBody, ApiContext, ApiError, SessionMode, api_router, session_answer};
use super::http_server::{HttpListener, PortChoice};
use super::http_text::HtmlText;
use super::one_use_tokens::OneUseTokens;
use crate::engine::{Error, run_blocking};
use crate::sys::replace_private_file;

/// The port that is tried first.
const USUAL_PORT: u16 = 8445;
/// The time within which a token opens the page.
const TOKEN_LIFE: Duration = Duration::from_secs(600);
/// The file that leads to the page, in the profile's folder.
const OPENING_FILE: &str = "web-open.html";

/// What the page of the local user needs.
pub struct PageServerConfig {
    /// The seat of the user.
    pub seat: Arc<AccountSeat>,
    /// The only port that it may have; `None` for any.
    pub port: Option<u16>,
}

/// The server of the local page, which listens.
pub struct PageServer {
    listener: HttpListener,
    opening: Arc<PageOpening>,
    context: Arc<ApiContext>,
}

/// How the page is opened.
struct PageOpening {
    seat: Arc<AccountSeat>,
    port: u16,
    file: PathBuf,
    tokens: Mutex<OneUseTokens<()>>,
    wrong: Mutex<AddressAttempts>,
}

/// The body by which a session begins.
#[derive(Deserialize)]
struct OpeningToken {
    token: String,
}

impl PageServer {
    /// Listens, and writes the file that leads to the page.
    ///
    /// # Errors
    /// The reason why the port can't be had, or the file can't be written.
    pub async fn bind(config: PageServerConfig) -> Result<Self, Error> {
        let profile = config.seat.me.profile.clone();
        let last = run_blocking(move || Ok(profile.last_page_port()?)).await?;
        let ports = config.port.map_or(PortChoice::Usual { last, usual: USUAL_PORT }, PortChoice::Only);
        let listener = HttpListener::bind(Some(Ipv4Addr::LOCALHOST.into()), ports, None)?;
        let (port, profile) = (listener.port(), config.seat.me.profile.clone());
        let file = profile.home().join(OPENING_FILE);
        run_blocking(move || Ok(profile.set_last_page_port(port)?)).await?;
        let context = Arc::new(ApiContext::new(SessionMode::Local, port, false, vec!["localhost".to_owned()]));
        // A page that is opened at this moment, the file that is written anew meanwhile, and some addresses that were given out.
        let tokens = Mutex::new(OneUseTokens::new(TOKEN_LIFE, 4));
        let wrong = Mutex::new(AddressAttempts::new(WRONG_CODES));
        let opening = Arc::new(PageOpening { seat: config.seat, port, file, tokens, wrong });
        opening.write_file().await?;
        Ok(Self { listener, opening, context })
    }

    /// Returns an address that opens the page once. It is a secret.
    pub fn address(&self) -> String {
        self.opening.address()
    }

    /// Returns the file that leads to the page.
    pub fn opening_file(&self) -> &Path {
        &self.opening.file
    }

    /// Returns the port.
    pub const fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Serves until `stop` is cancelled; the file is removed then.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, opening, context } = self;
        let held = opening.clone();
        let begin = move |context: State<Arc<ApiContext>>, headers: HeaderMap, body| {
            begin_session(opening, context, headers, body)
        };
        let own = Router::new().route("/api/v1/session", post(begin));
        listener.serve(api_router(&context, own), stop).await;
        let file = held.file.clone();
        // It leads nowhere any more; a file that stays does no harm.
        let _ = run_blocking(move || Ok(std::fs::remove_file(file)?)).await;
    }
}

impl PageOpening {
    fn address(&self) -> String {
        // Not `localhost`, which may lead to ::1, where nobody listens.
        format!("http://127.0.0.1:{}/#open={}", self.port, self.tokens.lock().issue((), Instant::now()))
    }

    /// Counts a wrong token. A right one is never made to wait: nobody guesses it, and others on this machine could lock
    /// the user out.
    fn refuse_token(&self) -> ApiError {
        let here = GuestAddress::of(Ipv4Addr::LOCALHOST.into());
        match self.wrong.lock().charge(here, Instant::now()) {
            Ok(()) => ApiError::no_session(),
            Err(wait) => ApiError::too_many(wait.as_secs().max(1)),
        }
    }

    async fn write_file(&self) -> Result<(), Error> {
        let page = opening_page(&self.address());
        let file = self.file.clone();
        run_blocking(move || replace_private_file(&file, page.as_bytes()).map_err(Error::disk(&file))).await
    }
}

/// Begins a session with a token. The next one stands in the file before the answer, so that it can be opened again.
async fn begin_session(
    opening: Arc<PageOpening>,
    State(context): State<Arc<ApiContext>>,
    headers: HeaderMap,
    ApiBody(body): ApiBody<OpeningToken>,
) -> Result<Response, ApiError> {
    let redeemed = opening.tokens.lock().redeem(&body.token, Instant::now());
    redeemed.ok_or_else(|| opening.refuse_token())?;
    opening.write_file().await?;
    session_answer(&context, opening.seat.clone(), &headers)
}

/// Returns the page that leads to an address: browsers follow it from a file without a script.
fn opening_page(address: &str) -> String {
    let address = HtmlText(address);
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta http-equiv=\"refresh\" content=\"0; url={address}\">\n<title>Vizinho</title>\n\
         <p><a href=\"{address}\" rel=\"noreferrer\">Vizinho</a></p>\n"
    )
}
