//! Files of others: the search at the tracker, the lists of users and rooms, fetches, and the way from a fetched file
//! into the browser.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::ACCEPT_LANGUAGE;
use axum::http::{HeaderMap, StatusCode};
use localization::tr;
use serde::Deserialize;
use serde_json::json;
use shared::limits::MAX_FIND_WORDS;
use shared::tracker::{FindCriterion, FindRequest, SearchWords};
use shared::{ContentHash, FileName};

use super::api_context::ApiContext;
use super::api_error::ApiError;
use super::api_request::{ApiAnswer, ApiBody, ApiPath, ApiQuery, PageSeat, answer, done, parsed};
use crate::engine::chat::ConversationName;
use crate::engine::listed_files::list_shared_files;
use crate::engine::tracker_search::search_files;
use crate::web::file_tickets::DownloadTicket;
use crate::web::http_text::{header_text, percent_encoded};
use crate::web::json_answer::json_response;
use crate::web::page_texts::PageLanguage;

/// Files of a search, unless told, and at most; files of a list, at most.
const USUAL_FOUND: usize = 200;
const MAX_FOUND: usize = 2000;
const MAX_LISTED: usize = 20_000;
/// Bytes of a name or a pattern that is fetched.
const MAX_NAME_BYTES: usize = 4096;

/// A file, folder or pattern to be fetched.
#[derive(Debug, Deserialize)]
pub(super) struct FetchOrder {
    from: String,
    name: String,
}

/// A fetched file that the browser wants.
#[derive(Debug, Deserialize)]
pub(super) struct TicketRequest {
    fetch: u64,
    file: String,
}

/// Searches the files of everybody who is online.
pub(super) async fn search(page: PageSeat, query: ApiQuery) -> ApiAnswer {
    let words = query.text("search").unwrap_or_default();
    let criterion = match words.trim().parse::<ContentHash>() {
        Ok(hash) => FindCriterion::Hash(hash.into()),
        Err(_) => {
            let none = || {
                tr!(
                    "give 1 to {limit} words of letters and digits, or one hash of 64 hex digits",
                    limit = MAX_FIND_WORDS
                )
            };
            FindCriterion::Words(SearchWords::new(words).ok_or_else(|| ApiError::bad_request(none))?)
        }
    };
    let limit = query.number("limit")?.unwrap_or(USUAL_FOUND).clamp(1, MAX_FOUND);
    let mut files = Vec::new();
    let mut tracker = page.seat.me.connect_tracker().await?;
    let wanted = FindRequest { criterion, limit: None, cursor: None };
    let more = search_files(&mut tracker, wanted, limit, |file| {
        files.push(json!({ "user": file.user, "name": file.name, "size": file.size, "hash": file.hash }));
        Ok(())
    });
    let more = Box::pin(more).await?;
    answer(&json!({ "files": files, "more": more }))
}

/// Lists the files of a user or a room.
pub(super) async fn list(page: PageSeat, ApiPath(of): ApiPath<String>, query: ApiQuery) -> ApiAnswer {
    let of: ConversationName = parsed(&of)?;
    let prefix = query.text("prefix").unwrap_or_default();
    if prefix.len() > MAX_NAME_BYTES {
        return Err(ApiError::bad_request(|| tr!("the name is too long")));
    }
    let listed = Box::pin(list_shared_files(&page.seat.me, &of, prefix)).await?;
    let more = listed.len() > MAX_LISTED;
    let files = listed.iter().take(MAX_LISTED).map(|file| {
        json!({ "name": file.name, "size": file.size, "hash": file.hash, "mtime": file.mtime.saturating_mul(1000) })
    });
    answer(&json!({ "files": files.collect::<Vec<_>>(), "more": more }))
}

/// Lists the fetches, the oldest first.
pub(super) async fn fetches(page: PageSeat, headers: HeaderMap) -> ApiAnswer {
    let language = PageLanguage::preferred(header_text(&headers, &ACCEPT_LANGUAGE));
    answer(&json!({ "fetches": language.format(|| page.seat.fetches.list()) }))
}

/// Starts a fetch.
pub(super) async fn fetch(page: PageSeat, ApiBody(order): ApiBody<FetchOrder>) -> ApiAnswer {
    let from: ConversationName = parsed(&order.from)?;
    let is_wrong = order.name.is_empty() || order.name.len() > MAX_NAME_BYTES;
    // A slash at the end marks a folder; a pattern needs no valid name.
    if is_wrong || order.name.contains(char::is_control) {
        return Err(ApiError::bad_request(|| tr!("the name of a file, a folder or a pattern is missing")));
    }
    let number = page.seat.start_fetch(&from, &order.name).await?;
    Ok(json_response(StatusCode::CREATED, &json!({ "number": number })))
}

/// Stops a fetch; what is here is kept.
pub(super) async fn stop(page: PageSeat, ApiPath(number): ApiPath<u64>) -> ApiAnswer {
    if page.seat.fetches.stop(number) { done() } else { Err(ApiError::not_found()) }
}

/// Gives a path at which the browser gets a fetched file, once.
pub(super) async fn ticket(
    State(context): State<Arc<ApiContext>>,
    page: PageSeat,
    ApiBody(wanted): ApiBody<TicketRequest>,
) -> ApiAnswer {
    let (path, hash) = page.seat.fetches.fetched_file(wanted.fetch, &wanted.file).ok_or_else(ApiError::not_found)?;
    let name = wanted.file.rsplit('/').next().unwrap_or_default();
    let name = name.parse::<FileName>().map_or_else(|_| name.to_owned(), |name| name.display().to_string());
    let ticket = DownloadTicket { session: page.session.mark(), path, hash, name: name.clone() };
    let token = context.tickets.issue(ticket);
    answer(&json!({ "path": format!("/d/{token}/{}", percent_encoded(name.as_bytes())) }))
}
