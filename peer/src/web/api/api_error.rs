//! The errors of the API: a status, a code for programs, a message for people.

use axum::http::header::{ACCEPT_LANGUAGE, CONTENT_LENGTH, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use localization::tr;
use serde_json::{Value, json};

use super::session_mode::SessionMode;
use crate::engine::{Error, ErrorKind};
use crate::util::TranslatedText;
use crate::web::hidden_folder::HiddenFolder;
use crate::web::http_text::header_text;
use crate::web::json_answer::json_response;
use crate::web::page_texts::PageLanguage;

/// An error of a request.
#[derive(Debug, Clone)]
pub(in crate::web) struct ApiError(Box<ApiErrorParts>);

#[derive(Debug, Clone)]
struct ApiErrorParts {
    status: StatusCode,
    code: &'static str,
    message: TranslatedText,
    /// Seconds after which another attempt makes sense.
    retry_after: Option<u64>,
    /// A further field of the answer.
    detail: Option<(&'static str, Value)>,
}

impl ApiError {
    /// Returns an error of this status and code.
    pub(in crate::web) fn new(status: StatusCode, code: &'static str, message: impl Fn() -> String) -> Self {
        let message = TranslatedText::new(message);
        Self(Box::new(ApiErrorParts { status, code, message, retry_after: None, detail: None }))
    }

    /// Returns the error of a request that can't be understood.
    pub(in crate::web) fn bad_request(message: impl Fn() -> String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorKind::Usage.as_str(), message)
    }

    /// Returns the error of a request that broke off, or of which nothing comes; the same one may come again.
    pub(in crate::web) fn broke_off(message: impl Fn() -> String) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, ErrorKind::Interrupted.as_str(), message)
    }

    /// Returns the error of a request without a session.
    pub(in crate::web) fn no_session() -> Self {
        let words = || tr!("this page has no session: open it again");
        Self::new(StatusCode::UNAUTHORIZED, "no_session", words)
    }

    /// Returns the error of a request for something that isn't there.
    pub(in crate::web) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", || tr!("there is nothing at this address"))
    }

    /// Returns the error of a request that needs a node while there is none.
    pub(in crate::web) fn no_node() -> Self {
        let words = || tr!("this window is reconnecting: try again in a moment");
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Network.as_str(), words);
        error.retry_after(1)
    }

    /// Returns the error of a request that is one too many.
    pub(in crate::web) fn too_many(seconds: u64) -> Self {
        let words = move || tr!("too many requests: try again in {seconds} s", seconds);
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", words).retry_after(seconds)
    }

    /// Adds after how many seconds another attempt makes sense.
    pub(in crate::web) fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Adds a field to the answer, beside the error.
    pub(in crate::web) fn with(mut self, key: &'static str, value: Value) -> Self {
        self.0.detail = Some((key, value));
        self
    }

    /// Puts the message into the browser's language, where the response is an error.
    pub(super) fn finish(
        response: Response,
        request: &HeaderMap,
        mode: SessionMode,
        hidden: &HiddenFolder,
    ) -> Response {
        let Some(Self(error)) = response.extensions().get::<Self>() else { return response };
        let language = PageLanguage::preferred(header_text(request, &ACCEPT_LANGUAGE));
        let mut message = language.format(|| error.message.to_string());
        hidden.strip(&mut message);
        let mut body = json!({ "error": { "code": error.code, "message": message } });
        // So that the page knows whether to ask for a password.
        if error.status == StatusCode::UNAUTHORIZED {
            body["mode"] = mode.as_str().into();
        }
        if let Some((key, value)) = &error.detail {
            body[*key] = value.clone();
        }
        let mut finished = json_response(error.status, &body);
        finished.headers_mut().extend(response.headers().clone());
        // That of the answer without a body.
        finished.headers_mut().remove(CONTENT_LENGTH);
        if let Some(seconds) = error.retry_after {
            finished.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        finished
    }
}

/// A response without a body: [`ApiError::finish`] knows the language of the browser.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        if kind == ErrorKind::Other {
            tracing::error!("a page's request failed: {error}");
        }
        let error_of = Self::new(status_of(kind), kind.as_str(), || error.to_string());
        if error_of.0.status == StatusCode::SERVICE_UNAVAILABLE { error_of.retry_after(1) } else { error_of }
    }
}

const fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Usage => StatusCode::BAD_REQUEST,
        ErrorKind::Unavailable | ErrorKind::NotShared => StatusCode::NOT_FOUND,
        ErrorKind::Refused
        | ErrorKind::Integrity
        | ErrorKind::Exists
        | ErrorKind::IdentityChanged
        | ErrorKind::Partial => StatusCode::CONFLICT,
        ErrorKind::NotLoggedIn | ErrorKind::Network | ErrorKind::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Disk => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Other => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
