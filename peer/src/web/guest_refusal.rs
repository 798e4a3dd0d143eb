//! The answers to requests for links that aren't answered with what they ask for, and the form of all answers.

use axum::http::header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use localization::tr;

use super::guest_pages::PageFrame;
use super::http_text::header_text;
use super::page_texts::PageLanguage;
use crate::engine::Error;
use crate::engine::guest_links::{GuestChatError, GuestFileFault, GuestUploadError};
use crate::util::TranslatedText;

pub(super) const HTML: &str = "text/html; charset=utf-8";

/// The reason why a request isn't answered with what it asks for.
#[derive(Debug)]
pub(super) enum GuestRefusal {
    /// There is no such link, or it isn't this guest's.
    Unauthorised,
    /// Too many wrong codes; the seconds after which another is looked at.
    Wait(u64),
    /// The link has nothing at this address.
    NotFound,
    /// The file can't be given.
    Fault(GuestFileFault),
    /// The request is wrong, for this reason.
    BadRequest(TranslatedText),
    /// The request broke off, or nothing came; the same one may come again.
    BrokeOff(TranslatedText),
    /// Another request goes on with the upload.
    Superseded,
    /// The upload can't be taken.
    Upload(GuestUploadError),
    /// The message can't be taken.
    Chat(GuestChatError),
    /// Messages come faster than they may.
    TooFast,
    /// Too much at once.
    Busy,
    /// An upload must say how long it is.
    LengthRequired,
    /// A fault of this machine, which is logged and not told.
    Failed(Error),
}

/// What the answer to a request depends on, besides its address.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnswerForm {
    pub(super) language: PageLanguage,
    /// True for browsers, false for curl.
    is_html: bool,
}

impl From<Error> for GuestRefusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<GuestFileFault> for GuestRefusal {
    fn from(fault: GuestFileFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<GuestUploadError> for GuestRefusal {
    fn from(error: GuestUploadError) -> Self {
        Self::Upload(error)
    }
}

impl From<GuestChatError> for GuestRefusal {
    fn from(error: GuestChatError) -> Self {
        Self::Chat(error)
    }
}

impl GuestRefusal {
    pub(super) fn bad_request(why: impl Fn() -> String) -> Self {
        Self::BadRequest(TranslatedText::new(why))
    }

    pub(super) fn broke_off(why: impl Fn() -> String) -> Self {
        Self::BrokeOff(TranslatedText::new(why))
    }
}

impl AnswerForm {
    /// Returns true for browsers, false for curl and for scripts of pages.
    pub(super) const fn is_html(self) -> bool {
        self.is_html
    }

    pub(super) fn of(headers: &HeaderMap) -> Self {
        let language = PageLanguage::preferred(header_text(headers, &ACCEPT_LANGUAGE));
        Self { language, is_html: header_text(headers, &ACCEPT).is_some_and(|accept| accept.contains("text/html")) }
    }

    /// Returns an answer in words: a page for browsers, a line for others.
    pub(super) fn words(self, frame: &PageFrame, status: StatusCode, words: &str) -> Response {
        if self.is_html {
            (status, [(CONTENT_TYPE, HTML)], frame.message_page(self.language, words)).into_response()
        } else {
            (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{words}\n")).into_response()
        }
    }

    /// Returns the form that takes a code, with a complaint if one was wrong.
    pub(super) fn enter_form(self, frame: &PageFrame, status: StatusCode, complaint: Option<&str>) -> Response {
        if !self.is_html {
            return self.words(frame, status, complaint.unwrap_or(self.language.enter_wrong()));
        }
        (status, [(CONTENT_TYPE, HTML)], frame.enter_page(self.language, complaint)).into_response()
    }
}

impl GuestRefusal {
    /// Returns the answer.
    pub(super) fn answer(self, frame: &PageFrame, form: AnswerForm) -> Response {
        let language = form.language;
        let words = |status, words: &str| form.words(frame, status, words);
        // A 401 has to name a scheme (RFC 9110, 15.5.2).
        let challenge = [(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
        match self {
            Self::Unauthorised => (challenge, form.enter_form(frame, StatusCode::UNAUTHORIZED, None)).into_response(),
            Self::Wait(seconds) => {
                let retry = [(RETRY_AFTER, HeaderValue::from(seconds))];
                let page = form.enter_form(frame, StatusCode::TOO_MANY_REQUESTS, Some(language.enter_wait()));
                (retry, page).into_response()
            }
            Self::NotFound => words(StatusCode::NOT_FOUND, language.not_found()),
            Self::Fault(GuestFileFault::Gone) => words(StatusCode::GONE, language.file_gone()),
            Self::Fault(GuestFileFault::Changed) => words(StatusCode::GONE, language.file_changed()),
            Self::Fault(GuestFileFault::Unreadable(_)) => {
                words(StatusCode::INTERNAL_SERVER_ERROR, language.file_gone())
            }
            Self::BadRequest(why) => words(StatusCode::BAD_REQUEST, &language.format(|| why.to_string())),
            Self::BrokeOff(why) => words(StatusCode::REQUEST_TIMEOUT, &language.format(|| why.to_string())),
            Self::Superseded => {
                words(StatusCode::CONFLICT, &language.format(|| tr!("another request goes on with this upload")))
            }
            Self::LengthRequired => {
                let why = language.format(|| tr!("say how long the upload is: Content-Length"));
                words(StatusCode::LENGTH_REQUIRED, &why)
            }
            Self::Busy => {
                let retry = [(RETRY_AFTER, HeaderValue::from_static("5"))];
                (retry, words(StatusCode::SERVICE_UNAVAILABLE, language.busy())).into_response()
            }
            Self::Chat(error) => {
                let status = match &error {
                    GuestChatError::Empty | GuestChatError::Name(_) => StatusCode::BAD_REQUEST,
                    GuestChatError::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
                    GuestChatError::Unanswered => StatusCode::CONFLICT,
                    GuestChatError::Full => StatusCode::INSUFFICIENT_STORAGE,
                    GuestChatError::NoChat => return words(StatusCode::NOT_FOUND, language.not_found()),
                    GuestChatError::Failed(_) => return failed(form, frame, &error),
                };
                words(status, &language.format(|| error.to_string()))
            }
            Self::TooFast => {
                let retry = [(RETRY_AFTER, HeaderValue::from_static("2"))];
                (retry, words(StatusCode::TOO_MANY_REQUESTS, language.too_fast())).into_response()
            }
            Self::Upload(error) => {
                let status = match &error {
                    GuestUploadError::Ended => {
                        let why = language.format(|| error.to_string());
                        return (challenge, words(StatusCode::UNAUTHORIZED, &why)).into_response();
                    }
                    GuestUploadError::NoFolder => StatusCode::NOT_FOUND,
                    GuestUploadError::Name(_) => StatusCode::BAD_REQUEST,
                    GuestUploadError::OverQuota(_) | GuestUploadError::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
                    GuestUploadError::WrongOffset(_) | GuestUploadError::Complete(_) => StatusCode::CONFLICT,
                    GuestUploadError::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
                    GuestUploadError::Failed(_) => return failed(form, frame, &error),
                };
                words(status, &language.format(|| error.to_string()))
            }
            Self::Failed(error) => failed(form, frame, &error),
        }
    }
}

/// Logs a fault of this machine; guests learn nothing of its paths.
fn failed(form: AnswerForm, frame: &PageFrame, why: &dyn std::error::Error) -> Response {
    tracing::error!("a guest's request failed: {why}");
    form.words(frame, StatusCode::INTERNAL_SERVER_ERROR, form.language.failed())
}
