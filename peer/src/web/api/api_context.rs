//! What all requests of a server of pages share.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::api_error::ApiError;
use super::session_mode::SessionMode;
use crate::web::account_seat::AccountSeat;
use crate::web::file_tickets::FileTickets;
use crate::web::hidden_folder::HiddenFolder;
use crate::web::http_text::{cookie_value, header_text};
use crate::web::page_session::{PageSession, PageSessions, SessionLimits};
use crate::web::piece_body::BodyLimits;
use crate::web::upload_turns::UploadTurns;

/// Streams of events at once.
const MAX_STREAMS: usize = 128;
/// The same at a door, where a browser of each account has one.
const MAX_DOOR_STREAMS: usize = 512;
/// Uploads at once, of all accounts.
const MAX_UPLOADS: usize = 32;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The header with the secret of the page.
pub(super) const SECRET_HEADER: axum::http::HeaderName = axum::http::HeaderName::from_static("page-secret");

/// The sessions of a server and the bounds of its requests.
pub(in crate::web) struct ApiContext {
    pub(in crate::web) mode: SessionMode,
    pub(in crate::web) sessions: Mutex<PageSessions<Arc<AccountSeat>>>,
    pub(in crate::web) tickets: FileTickets,
    pub(in crate::web) bodies: BodyLimits,
    pub(in crate::web) uploads: Semaphore,
    pub(in crate::web) upload_turns: UploadTurns,
    pub(in crate::web) streams: Arc<Semaphore>,
    /// True if pages are served over TLS.
    pub(in crate::web) is_encrypted: bool,
    /// The names of this machine, besides its addresses.
    pub(in crate::web) own_names: Vec<String>,
    /// The folder whose place no browser is told.
    pub(in crate::web) hidden: HiddenFolder,
    cookie_name: String,
}

impl ApiContext {
    /// Returns the context of a server on a port.
    pub(in crate::web) fn new(mode: SessionMode, port: u16, is_encrypted: bool, own_names: Vec<String>) -> Self {
        let (idle, streams) = match mode {
            SessionMode::Door => (DAY / 2, MAX_DOOR_STREAMS),
            SessionMode::Local => (DAY * 7, MAX_STREAMS),
        };
        Self {
            mode,
            sessions: Mutex::new(PageSessions::new(SessionLimits { life: DAY * 7, idle, per_account: 16 })),
            tickets: FileTickets::default(),
            bodies: BodyLimits::default(),
            uploads: Semaphore::new(MAX_UPLOADS),
            upload_turns: UploadTurns::default(),
            streams: Arc::new(Semaphore::new(streams)),
            is_encrypted,
            own_names,
            hidden: HiddenFolder::default(),
            // Cookies ignore ports: each server of this machine has its own.
            cookie_name: format!("vizinho_page_{port}"),
        }
    }

    /// Returns the same context, from which nobody hears of this folder.
    pub(in crate::web) fn hiding(self, folder: &Path) -> Self {
        Self { hidden: HiddenFolder::new(folder), ..self }
    }

    /// Returns the scheme of the server's own addresses.
    pub(super) const fn scheme(&self) -> &'static str {
        if self.is_encrypted { "https" } else { "http" }
    }

    /// Returns the value of `Set-Cookie` for a session; an empty one takes the cookie away.
    pub(super) fn cookie(&self, value: &str) -> String {
        let secure = if self.is_encrypted { "; Secure" } else { "" };
        let life = if value.is_empty() { 0 } else { (DAY * 7).as_secs() };
        // Neither a script nor a page of another site can use it.
        format!("{}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={life}{secure}", self.cookie_name)
    }

    /// Returns the session of a request, by its cookie and its secret.
    ///
    /// # Errors
    /// 401.
    pub(super) fn session(&self, headers: &HeaderMap) -> Result<PageSession<Arc<AccountSeat>>, ApiError> {
        let secret = header_text(headers, &SECRET_HEADER).ok_or_else(ApiError::no_session)?;
        let cookie = self.session_cookie(headers).ok_or_else(ApiError::no_session)?;
        self.sessions.lock().find(cookie, secret, Instant::now()).ok_or_else(ApiError::no_session)
    }

    /// Returns the session of a request by its cookie alone.
    ///
    /// # Errors
    /// 401.
    pub(super) fn cookie_session(&self, headers: &HeaderMap) -> Result<PageSession<Arc<AccountSeat>>, ApiError> {
        let cookie = self.session_cookie(headers).ok_or_else(ApiError::no_session)?;
        self.sessions.lock().find_by_cookie(cookie, Instant::now()).ok_or_else(ApiError::no_session)
    }

    pub(super) fn session_cookie<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookie_value(cookies, &self.cookie_name)
    }
}
