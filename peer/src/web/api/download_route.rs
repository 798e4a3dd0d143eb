//! The download of a fetched file: by a ticket, whole or from where it broke off, always as an attachment.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use localization::tr;

use super::api_context::ApiContext;
use super::api_error::ApiError;
use super::api_request::{ApiAnswer, ApiPath};
use super::session_mode::SessionMode;
use crate::engine::door::mark_taken;
use crate::engine::guest_links::GuestFileFault;
use crate::engine::{Error, run_blocking};
use crate::sys::open_regular;
use crate::web::byte_range::{answer_range, asked_range};
use crate::web::file_tickets::DownloadTicket;
use crate::web::http_text::{attachment, header_text, set_field};
use crate::web::piece_body::{PieceBody, PieceSource};

/// Answers with the file of a ticket.
pub(super) async fn download(
    State(context): State<Arc<ApiContext>>,
    ApiPath((token, _)): ApiPath<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> ApiAnswer {
    let session = context.cookie_session(&headers)?;
    let if_range = header_text(&headers, &IF_RANGE);
    // If-Range means nothing without Range (RFC 9110, 13.1.5).
    let resumed = if_range.filter(|_| headers.contains_key(RANGE));
    let is_look = method == Method::HEAD;
    let (tickets, mark) = (&context.tickets, session.mark());
    // A look, such as that of a download manager, leaves the ticket to the download.
    let ticket = if is_look { tickets.find(&token, &mark) } else { tickets.redeem(&token, &mark, resumed) };
    let ticket = ticket.ok_or_else(ApiError::not_found)?;
    let (path, is_at_door) = (ticket.path.clone(), context.mode == SessionMode::Door);
    let opened = run_blocking(move || {
        let file = open_regular(&path).map_err(Error::disk(&path))?;
        let size = file.metadata().map_err(Error::disk(&path))?.len();
        // It is kept for a while after that.
        if is_at_door
            && !is_look
            && let Err(why) = mark_taken(&path)
        {
            tracing::warn!("a fetched file can't be marked: {why}");
        }
        Ok((file, size))
    });
    let gone = || ApiError::new(StatusCode::GONE, "not_found", || tr!("the file is not there any more"));
    let (file, size) = opened.await.map_err(|_| gone())?;
    let tag = ticket.tag();
    let answer = answer_range(asked_range(&method, &headers), if_range, &tag, size);
    let mut fields = download_fields(&ticket);
    let (status, range) = answer.response_range(size, &mut fields);
    let Some(range) = range else { return Ok((status, fields).into_response()) };
    let length = range.end - range.start;
    if is_look {
        return Ok((status, fields).into_response());
    }
    let source = FetchedFileSource { file, path: ticket.path, range, piece_bytes: context.bodies.piece_bytes() };
    let body = PieceBody::begin(source, length, context.bodies.clone()).await.map_err(|_| gone())?;
    Ok((status, fields, Body::new(body)).into_response())
}

fn download_fields(ticket: &DownloadTicket) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (field, value) in [
        (ETAG, ticket.tag()),
        (CACHE_CONTROL, "private, no-cache".to_owned()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DISPOSITION, attachment(&ticket.name)),
        // Should a browser show it after all, it is nobody's page.
        (CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'".to_owned()),
    ] {
        set_field(&mut fields, field, value);
    }
    fields
}

/// A range of a file that was fetched.
struct FetchedFileSource {
    file: File,
    path: PathBuf,
    range: Range<u64>,
    piece_bytes: u64,
}

impl FetchedFileSource {
    fn read(&mut self) -> Result<Bytes, GuestFileFault> {
        let unreadable = |why: std::io::Error| {
            tracing::debug!("{}: {why}", shared::safe_text::safe_path(&self.path));
            GuestFileFault::Unreadable(why.to_string())
        };
        self.file.seek(SeekFrom::Start(self.range.start)).map_err(unreadable)?;
        let length = (self.range.end - self.range.start).min(self.piece_bytes);
        let mut piece = Vec::new();
        (&self.file).take(length).read_to_end(&mut piece).map_err(unreadable)?;
        if piece.len() as u64 != length {
            return Err(GuestFileFault::Changed);
        }
        self.range.start += length;
        Ok(piece.into())
    }
}

impl PieceSource for FetchedFileSource {
    fn next_piece(&mut self) -> Option<Result<Bytes, GuestFileFault>> {
        (!self.range.is_empty()).then(|| self.read())
    }
}
