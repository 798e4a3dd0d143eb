//! Uploads by a form, for browsers without scripts: several files in one request, from their beginnings.

use std::pin::Pin;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Body as HttpBody;
use localization::tr;

use super::address_limits::GuestPeer;
use super::guest_admission::admit;
use super::guest_refusal::{AnswerForm, GuestRefusal, HTML};
use super::http_text::header_text;
use super::link_event::LinkEvent;
use super::multipart_form::{FormEvent, MultipartForm};
use super::one_use_tokens::random_text;
use super::upload_receiver::{READ_PATIENCE, run_sink};
use super::web_context::WebContext;
use crate::engine::guest_links::{AdmittedGuest, GuestUploadError, PlacedUpload, UploadAnnouncement, UploadWriter};

/// Takes the files of a form.
pub(super) async fn upload_form(
    State(context): State<Arc<WebContext>>,
    Extension(peer): Extension<GuestPeer>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let form = AnswerForm::of(&headers);
    let taken = async {
        let guest = admit(&context, peer.address(), &id, &headers).await?;
        let length = header_text(&headers, &CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let length: u64 = length.ok_or(GuestRefusal::LengthRequired)?;
        let parser = header_text(&headers, &CONTENT_TYPE).and_then(MultipartForm::new).ok_or_else(no_form)?;
        let _permit = context.uploads.admit(peer.address()).ok_or(GuestRefusal::Busy)?;
        let mut files = FormFiles { context: &context, peer, guest, length, writer: None, placed: Vec::new() };
        match files.receive(parser, body).await {
            Ok(()) => Ok(files.placed),
            Err(refusal) => {
                files.abandon().await;
                Err(files.with_arrivals(refusal))
            }
        }
    };
    match taken.await {
        Ok(placed) => {
            let page = context.frame.arrival_page(form.language, &placed);
            (StatusCode::CREATED, [(CONTENT_TYPE, HTML)], page).into_response()
        }
        Err(refusal) => GuestRefusal::answer(refusal, &context.frame, form),
    }
}

/// The files of a form, one after the other.
struct FormFiles<'a> {
    context: &'a Arc<WebContext>,
    peer: GuestPeer,
    guest: AdmittedGuest,
    /// The length of the form, which no file of it exceeds.
    length: u64,
    writer: Option<UploadWriter>,
    placed: Vec<PlacedUpload>,
}

impl FormFiles<'_> {
    async fn receive(&mut self, mut parser: MultipartForm, mut body: Body) -> Result<(), GuestRefusal> {
        while !parser.is_complete() {
            let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
            let Ok(Some(Ok(frame))) = tokio::time::timeout(READ_PATIENCE, frame).await else {
                return Err(GuestRefusal::broke_off(|| {
                    tr!("the files didn't come whole: go back, choose them again, and send them")
                }));
            };
            let Ok(bytes) = frame.into_data() else { continue };
            for event in parser.feed(&bytes).map_err(|_| no_form())? {
                self.handle(event).await?;
            }
        }
        Ok(())
    }

    async fn handle(&mut self, event: FormEvent) -> Result<(), GuestRefusal> {
        match event {
            FormEvent::File(name) => {
                // What is left of the form is the most that the file can have.
                let came = self.placed.iter().fold(0_u64, |sum, placed| sum.saturating_add(placed.size));
                let size = self.length.saturating_sub(came);
                // A mark of its own: the same form once more, of this guest or another, has parts of its own.
                let announced = UploadAnnouncement { name, size, key: Some(random_text()), offset: 0 };
                let (links, guest) = (self.context.links.clone(), self.guest.clone());
                self.writer = Some(run_sink(move || links.begin_upload(&guest, &announced)).await?);
            }
            FormEvent::Bytes(bytes) => {
                let Some(mut writer) = self.writer.take() else { return Err(no_form()) };
                let (writer, written) = run_sink(move || {
                    // The writer comes back even with an error, so that its part can be removed.
                    let written = writer.write(&bytes);
                    Ok::<_, GuestUploadError>((writer, written))
                })
                .await?;
                self.writer = Some(writer);
                written?;
            }
            FormEvent::FileEnd => {
                let Some(writer) = self.writer.take() else { return Err(no_form()) };
                let placed = run_sink(move || writer.finish_or_abandon()).await?;
                let PlacedUpload { name, size, hash } = placed.clone();
                let (link, address) = (self.guest.link.number, self.peer.ip());
                (self.context.events)(LinkEvent::Received { link, address, name, size, hash });
                self.placed.push(placed);
            }
        }
        Ok(())
    }

    /// Tells whoever has no script which of the files needn't be sent again.
    fn with_arrivals(&self, refusal: GuestRefusal) -> GuestRefusal {
        let (GuestRefusal::BrokeOff(_), count @ 1..) = (&refusal, self.placed.len()) else { return refusal };
        let last = self.placed.last().map_or_else(String::new, |placed| placed.name.clone());
        GuestRefusal::broke_off(|| {
            tr!(
                "files that arrived: {count}, the last {last}; go back, choose those after it, and send them",
                count,
                last
            )
        })
    }

    /// Gives up the file that didn't come whole; what came before it stays.
    async fn abandon(&mut self) {
        if let Some(writer) = self.writer.take()
            && let Err(why) = run_sink(move || writer.abandon()).await
        {
            tracing::debug!("the part of an upload stays: {why}");
        }
    }
}

fn no_form() -> GuestRefusal {
    GuestRefusal::bad_request(|| tr!("that is no form with files"))
}
