//! The files of the page, built into the program.

use super::http_text::header_text;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

/// Names the files of the page: each with its name in the address, and its content.
macro_rules! app_files {
    ($($name:literal)*) => { &[$(($name, include_bytes!(concat!("app/", $name)))),*] };
}

/// The files. A test compares the list with the folder, and with what `index.html` loads in advance.
#[rustfmt::skip]
const FILES: &[(&str, &[u8])] = app_files![
    "actions.js" "api_client.js" "app.css" "attention.js" "composer.js" "conversation_details.js"
    "conversation_view.js" "dialogs.js" "drop_zone.js" "elements.js" "event_reducer.js" "event_stream.js"
    "file_names.js" "file_tree.js" "files_view.js" "format.js" "icon.svg" "index.html" "keyboard.js"
    "login_view.js" "main.js" "message_list.js" "message_rows.js" "message_text.js" "name_parts.js"
    "notifier.js" "page_session.js" "people_dialogs.js" "preferences.js" "quick_switcher.js" "rate_meter.js"
    "reducer.js" "router.js" "settings_view.js" "shares_view.js" "shell.js" "sidebar.js"
    "state.js" "state_changes.js" "store.js" "texts.js" "texts_en.js" "texts_pt.js"
    "timeline.js" "toasts.js" "transfers_view.js" "upload_queue.js" "virtual_list.js"
];

/// Returns a file of the page. Browsers ask each time whether it is still the same, so that an update shows at once.
pub(super) fn app_file(name: &str, request: &HeaderMap) -> Option<Response> {
    let (name, content) = *FILES.iter().find(|(file, _)| *file == name)?;
    let tag = format!("\"{}\"", &blake3::hash(content).to_hex()[..16]);
    let is_same = header_text(request, &IF_NONE_MATCH) == Some(&*tag);
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type(name))),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (ETAG, HeaderValue::try_from(tag).ok()?),
    ];
    if is_same {
        return Some((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    Some((headers, content).into_response())
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" | "webmanifest" => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use shared::limits::MAX_CHAT_TEXT_BYTES;

    #[test]
    fn the_page_knows_how_long_a_message_may_be() {
        let composer = include_str!("app/composer.js").replace('_', "");
        assert!(composer.contains(&format!("const LONGESTTEXT = {MAX_CHAT_TEXT_BYTES};")));
    }
}
