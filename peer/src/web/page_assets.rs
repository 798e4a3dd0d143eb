//! The files of the pages: one style sheet and a small script for each page, built into the program.

use std::sync::LazyLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

/// A file of the pages.
#[derive(Debug)]
pub(super) struct PageAsset {
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
}

pub(super) const STYLE: PageAsset =
    PageAsset { name: "page.css", content_type: "text/css; charset=utf-8", content: include_str!("assets/page.css") };
pub(super) const ENTER_SCRIPT: PageAsset = script("enter.js", include_str!("assets/enter.js"));
pub(super) const DOWNLOAD_SCRIPT: PageAsset = script("download.js", include_str!("assets/download.js"));
pub(super) const UPLOAD_SCRIPT: PageAsset = script("upload.js", include_str!("assets/upload.js"));
pub(super) const CHAT_SCRIPT: PageAsset = script("chat.js", include_str!("assets/chat.js"));

const ALL: [PageAsset; 5] = [STYLE, ENTER_SCRIPT, DOWNLOAD_SCRIPT, UPLOAD_SCRIPT, CHAT_SCRIPT];

/// The mark of this build's files: browsers keep them until it changes.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let all: String = ALL.iter().map(|asset| asset.content).collect();
    blake3::hash(all.as_bytes()).to_hex()[..12].to_owned()
});

const fn script(name: &'static str, content: &'static str) -> PageAsset {
    PageAsset { name, content_type: "text/javascript; charset=utf-8", content }
}

impl PageAsset {
    /// Returns the path under which pages name it.
    pub(super) fn path(&self) -> String {
        format!("/assets/{}/{}", *VERSION, self.name)
    }
}

/// Returns the file of this name; pages of an earlier build name another version, and get the present file.
pub(super) fn asset_response(name: &str) -> Response {
    let Some(asset) = ALL.into_iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    (headers, asset.content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_small_and_name_nobody_else() {
        for asset in ALL {
            assert!(asset.content.len() < 10_000, "{}", asset.name);
            assert!(!asset.content.contains("http:") && !asset.content.contains("https:"), "{}", asset.name);
            assert!(asset.path().ends_with(asset.name));
            assert_eq!(asset_response(asset.name).status(), StatusCode::OK);
        }
        assert_eq!(asset_response("../Cargo.toml").status(), StatusCode::NOT_FOUND);
    }
}
