//! Downloads: single files and archives, whole or by range.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    IF_RANGE,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::address_limits::GuestPeer;
use super::archive_layout::{ArchiveFormat, ArchiveLayout};
use super::archive_segment::ArchiveSegment;
use super::byte_range::{answer_range, asked_range, names_tag};
use super::file_listing::chosen_files;
use super::guest_admission::admit;
use super::guest_refusal::{AnswerForm, GuestRefusal};
use super::http_text::{attachment, form_fields, header_text, set_field};
use super::link_event::LinkEvent;
use super::piece_body::{PieceBody, PieceSource};
use super::web_context::WebContext;
use crate::engine::guest_links::{AdmittedGuest, GuestFile, GuestFileFault, GuestFileReader, GuestLink, GuestLinks};
use crate::engine::run_blocking;

/// Time between two looks whether the link of a running download still holds.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What can be downloaded: its tag, size and name.
struct Download {
    tag: String,
    size: u64,
    name: String,
    content_type: &'static str,
}

/// Answers with a file.
pub(super) async fn file(
    State(context): State<Arc<WebContext>>,
    Extension(peer): Extension<GuestPeer>,
    Path((id, number, _)): Path<(String, u32, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let answered = async {
        let guest = admit(&context, peer.address(), &id, &headers).await?;
        let (links, link) = (context.links.clone(), guest.link.clone());
        let file = run_blocking(move || links.file(&link, number)).await?.ok_or(GuestRefusal::NotFound)?;
        let name = file.name.last_component();
        let download = Download {
            tag: format!("\"{}\"", file.hash),
            size: file.size,
            name: shared::names::name_encoding::display_name(name).into_owned(),
            // Not the file's own type: as a page of this origin it could do what guests can.
            content_type: "application/octet-stream",
        };
        let links = context.links.clone();
        let source = |range, piece_bytes| FileSource {
            watch: LinkWatch::new(links, guest.link.clone()),
            file,
            range,
            piece_bytes,
            reader: None,
        };
        answer_download(&context, peer, &guest, download, (&method, &headers), source).await
    };
    answered.await.unwrap_or_else(|refusal: GuestRefusal| refusal.answer(&context.frame, AnswerForm::of(&headers)))
}

/// Answers with an archive of the chosen files, or of all.
pub(super) async fn archive(
    State(context): State<Arc<WebContext>>,
    Extension(format): Extension<ArchiveFormat>,
    Extension(peer): Extension<GuestPeer>,
    Path((id, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let answered = async {
        let guest = admit(&context, peer.address(), &id, &headers).await?;
        let (links, link) = (context.links.clone(), guest.link.clone());
        let laid_out = run_blocking(move || {
            let (files, fields) = (links.files(&link)?, form_fields(&query.unwrap_or_default()));
            let chosen = chosen_files(&files, &fields);
            Ok((format.layout(&chosen)?, format.tag(&chosen)))
        });
        let (layout, tag) = laid_out.await?;
        if layout.file_count() == 0 {
            return Err(GuestRefusal::NotFound);
        }
        let download = Download { tag, size: layout.len(), name, content_type: format.content_type() };
        let links = context.links.clone();
        let source = |range: Range<u64>, piece_bytes| ArchiveSource {
            watch: LinkWatch::new(links, guest.link.clone()),
            layout,
            position: range.start,
            end: range.end,
            piece_bytes,
            reading: None,
            pending: None,
        };
        answer_download(&context, peer, &guest, download, (&method, &headers), source).await
    };
    answered.await.unwrap_or_else(|refusal: GuestRefusal| refusal.answer(&context.frame, AnswerForm::of(&headers)))
}

/// Answers a request for a download with all of it, a part, or only its headers.
async fn answer_download<S: PieceSource + Unpin>(
    context: &Arc<WebContext>,
    peer: GuestPeer,
    guest: &AdmittedGuest,
    download: Download,
    (method, headers): (&Method, &HeaderMap),
    source: impl FnOnce(Range<u64>, u64) -> S,
) -> Result<Response, GuestRefusal> {
    let Download { tag, size, name, content_type } = download;
    let mut fields = HeaderMap::new();
    let mut set = |field, value| set_field(&mut fields, field, value);
    set(ETAG, tag.clone());
    // Browsers may keep it, but have to ask: the link may have ended.
    set(CACHE_CONTROL, "private, no-cache".to_owned());
    if header_text(headers, &IF_NONE_MATCH).is_some_and(|list| names_tag(list, &tag)) {
        return Ok((StatusCode::NOT_MODIFIED, fields).into_response());
    }
    set(ACCEPT_RANGES, "bytes".to_owned());
    let answer = answer_range(asked_range(method, headers), header_text(headers, &IF_RANGE), &tag, size);
    let (status, range) = answer.response_range(size, &mut fields);
    let Some(range) = range else { return Ok((status, fields).into_response()) };
    let length = range.end - range.start;
    let mut set = |field, value| set_field(&mut fields, field, value);
    set(CONTENT_TYPE, content_type.to_owned());
    set(CONTENT_DISPOSITION, attachment(&name));
    // Should a browser show it after all, it is nobody's page.
    set(CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'".to_owned());
    if method == Method::HEAD {
        return Ok((status, fields).into_response());
    }
    // The rest of a download is no news: it was told of at its beginning.
    let begins = range.start == 0;
    let source = source(range, context.bodies.piece_bytes());
    let body = PieceBody::begin(source, length, context.bodies.clone()).await?;
    if begins {
        (context.events)(LinkEvent::Taken { link: guest.link.number, address: peer.ip(), name });
    }
    Ok((status, fields, Body::new(body)).into_response())
}

/// The link of a running download: looked at again now and then, and told what was sent.
struct LinkWatch {
    links: GuestLinks,
    link: GuestLink,
    looked_at: Instant,
}

impl LinkWatch {
    fn new(links: GuestLinks, link: GuestLink) -> Self {
        Self { links, link, looked_at: Instant::now() }
    }

    /// Fails once the link is revoked or has expired.
    fn check(&mut self) -> Result<(), GuestFileFault> {
        // A look asks the database, and pieces come hundreds of times a second.
        if self.looked_at.elapsed() < LOOK_INTERVAL {
            return Ok(());
        }
        self.looked_at = Instant::now();
        match self.links.is_live(&self.link) {
            Ok(true) => Ok(()),
            Ok(false) => Err(GuestFileFault::Gone),
            Err(why) => Err(GuestFileFault::Unreadable(why.to_string())),
        }
    }

    fn record(&self, number: u32, size: u64, range: Range<u64>) -> Result<(), GuestFileFault> {
        let recorded = self.links.record_delivery(&self.link, number, size, range);
        recorded.map_err(|why| GuestFileFault::Unreadable(why.to_string()))
    }
}

/// A range of a file.
struct FileSource {
    watch: LinkWatch,
    file: GuestFile,
    range: Range<u64>,
    piece_bytes: u64,
    reader: Option<GuestFileReader>,
}

impl FileSource {
    fn read(&mut self) -> Result<Option<Bytes>, GuestFileFault> {
        self.watch.check()?;
        let number = self.file.number;
        // Not when the source is made: here the thread may block.
        if self.reader.is_none() {
            let LinkWatch { links, link, .. } = &self.watch;
            self.reader = Some(links.open_file(link, number, self.range.clone(), self.piece_bytes)?);
        }
        let Some(piece) = self.reader.as_mut().and_then(GuestFileReader::next_piece).transpose()? else {
            // An empty file has no piece with which its delivery would be recorded.
            if self.file.size == 0 {
                self.watch.record(number, 0, 0..0)?;
            }
            return Ok(None);
        };
        let end = self.range.start + piece.len() as u64;
        // HTTP says nothing of what arrived, so what is read to be sent counts.
        self.watch.record(number, self.file.size, self.range.start..end)?;
        self.range.start = end;
        Ok(Some(piece))
    }
}

impl PieceSource for FileSource {
    fn next_piece(&mut self) -> Option<Result<Bytes, GuestFileFault>> {
        self.read().transpose()
    }
}

/// A range of an archive. Small files are put together into pieces of the usual size.
struct ArchiveSource {
    watch: LinkWatch,
    layout: ArchiveLayout,
    position: u64,
    end: u64,
    piece_bytes: u64,
    /// The file that is read, and the rest of its range.
    reading: Option<(u32, u64, Range<u64>, GuestFileReader)>,
    /// A large piece that waits until the small ones before it are sent.
    pending: Option<Bytes>,
}

impl ArchiveSource {
    fn read(&mut self) -> Result<Option<Bytes>, GuestFileFault> {
        self.watch.check()?;
        if let Some(piece) = self.pending.take() {
            return Ok(Some(piece));
        }
        let mut gathered = Vec::new();
        while (gathered.len() as u64) < self.piece_bytes {
            let Some(part) = self.next_part()? else { break };
            // A large part goes as it is: gathering would copy it.
            if part.len() as u64 >= self.piece_bytes / 2 {
                if gathered.is_empty() {
                    return Ok(Some(part));
                }
                self.pending = Some(part);
                break;
            }
            gathered.extend_from_slice(&part);
        }
        Ok((!gathered.is_empty()).then(|| gathered.into()))
    }

    /// Returns the next bytes, as they come.
    fn next_part(&mut self) -> Result<Option<Bytes>, GuestFileFault> {
        loop {
            if let Some((number, size, range, reader)) = &mut self.reading {
                if let Some(piece) = reader.next_piece().transpose()? {
                    let end = range.start + piece.len() as u64;
                    self.watch.record(*number, *size, range.start..end)?;
                    range.start = end;
                    return Ok(Some(piece));
                }
                // It ended early: the file is shorter than when it was hashed.
                if !range.is_empty() {
                    return Err(GuestFileFault::Changed);
                }
                self.reading = None;
            }
            if self.position >= self.end {
                if self.end == self.layout.len() {
                    // With the directory, which names them, they are delivered.
                    self.layout.empty_files().into_iter().try_for_each(|number| self.watch.record(number, 0, 0..0))?;
                }
                return Ok(None);
            }
            match self.layout.segment_at(self.position, self.end) {
                ArchiveSegment::Bytes(bytes) => {
                    self.position += bytes.len() as u64;
                    return Ok(Some(bytes.into()));
                }
                ArchiveSegment::Content { number, size, range } => {
                    self.position += range.end - range.start;
                    let LinkWatch { links, link, .. } = &self.watch;
                    let reader = links.open_file(link, number, range.clone(), self.piece_bytes)?;
                    self.reading = Some((number, size, range, reader));
                }
            }
        }
    }
}

impl PieceSource for ArchiveSource {
    fn next_piece(&mut self) -> Option<Result<Bytes, GuestFileFault>> {
        self.read().transpose()
    }
}
