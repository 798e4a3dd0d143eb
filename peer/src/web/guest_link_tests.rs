//! Requests of guests to the routes of links, without a port: what runs at the same time, and what ends in its middle.

use std::io;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, RANGE, WWW_AUTHENTICATE};
use axum::http::request::Builder;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::{Extension, Router};
use bytes::Bytes;
use certs::Identity;
use hyper::body::{Body as HttpBody, Frame};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::address_limits::GuestPeer;
use super::guest_pages::PageFrame;
use super::link_event::LinkEvent;
use super::link_routes::link_router;
use super::upload_receiver::READ_PATIENCE;
use super::web_context::WebContext;
use crate::engine::guest_links::{GuestLinks, LinkRequest, MadeLink, make_link, remove_link};
use crate::profile::Profile;

/// A link, and the routes that serve it.
struct LinkCase {
    home: tempfile::TempDir,
    profile: Profile,
    made: MadeLink,
    router: Router,
    events: UnboundedReceiver<LinkEvent>,
}

/// A body that comes as it is fed; it ends with its feeder.
struct FedBody(UnboundedReceiver<io::Result<Bytes>>);

impl HttpBody for FedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.get_mut().0.poll_recv(context).map(|next| next.map(|bytes| bytes.map(Frame::data)))
    }
}

/// A response: its status, its fields and its text.
type Answer = (StatusCode, HeaderMap, String);

/// Returns a link that takes files, or one that gives a file of ten bytes.
fn link_case(takes_files: bool) -> LinkCase {
    let home = tempfile::tempdir().unwrap();
    let profile = Profile::open(&home.path().join("profile")).unwrap();
    let identity = Identity::generate().unwrap();
    let given = home.path().join("given");
    io::Write::write_all(&mut std::fs::File::create(&given).unwrap(), b"0123456789").unwrap();
    let request = LinkRequest {
        paths: if takes_files { Vec::new() } else { vec![given] },
        folder: takes_files.then(|| home.path().join("in")),
        max_bytes: 10_000,
        is_once: false,
        has_chat: false,
        lifetime: Duration::from_secs(600),
        pid: None,
    };
    let made = make_link(&profile, &identity, &request, &mut |_| ControlFlow::Continue(())).unwrap();
    let links = GuestLinks::new(profile.clone(), &identity, None);
    let (told, events) = unbounded_channel();
    let tell = Arc::new(move |event| drop(told.send(event)));
    let context = WebContext::new(links, PageFrame { owner: "alice".to_owned() }, Vec::new(), None, tell);
    let router = link_router(Arc::new(context)).layer(Extension(GuestPeer::new(Ipv4Addr::LOCALHOST.into())));
    LinkCase { home, profile, made, router, events }
}

fn fed() -> (UnboundedSender<io::Result<Bytes>>, Body) {
    let (feeder, chunks) = unbounded_channel();
    (feeder, Body::new(FedBody(chunks)))
}

impl LinkCase {
    /// Returns a request of whoever has the token.
    fn request(&self, method: &str, below: &str) -> Builder {
        self.bare_request(method, below).header(AUTHORIZATION, format!("Bearer {}", self.made.token.text()))
    }

    fn bare_request(&self, method: &str, below: &str) -> Builder {
        let address = format!("/l/{}/{below}", self.made.link.id);
        Request::builder().method(method).uri(address).header(HOST, "127.0.0.1:8444")
    }

    fn form(&self) -> Builder {
        let request = self.request("POST", "in/").header(CONTENT_LENGTH, 1000);
        request.header(CONTENT_TYPE, "multipart/form-data; boundary=b")
    }

    /// Returns the head of an upload of nine bytes.
    fn put(&self) -> Builder {
        let request = self.request("PUT", "in/film").header("upload-key", "k").header(CONTENT_LENGTH, 9);
        request.header(CONTENT_RANGE, "bytes 0-8/9")
    }

    async fn answer(&self, request: Builder, body: Body) -> Answer {
        let request = request.body(body).unwrap();
        let (parts, body) = TowerToHyperService::new(self.router.clone()).call(request).await.unwrap().into_parts();
        let text = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
        (parts.status, parts.headers, text)
    }

    /// Waits for an upload that has begun.
    async fn has_begun(&self) {
        while self.profile.guest_uploads(self.made.link.number).unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    /// Returns the files of the folder, each with its text.
    fn files(&self) -> Vec<(String, String)> {
        let entries = std::fs::read_dir(self.home.path().join("in")).unwrap().map(Result::unwrap);
        let text = |path| std::fs::read_to_string(path).unwrap();
        let mut files: Vec<_> =
            entries.map(|entry| (entry.file_name().into_string().unwrap(), text(entry.path()))).collect();
        files.sort();
        files
    }
}

fn form_file(name: &str, text: &str) -> io::Result<Bytes> {
    let head = format!("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
    Ok(format!("{head}{text}").into())
}

fn text(text: &'static str) -> io::Result<Bytes> {
    Ok(Bytes::from_static(text.as_bytes()))
}

fn named(name: &str, text: &str) -> (String, String) {
    (name.to_owned(), text.to_owned())
}

#[tokio::test]
async fn a_form_takes_no_file_after_its_link_has_ended() {
    let mut case = link_case(true);
    let (mut events, (feeder, body)) = (std::mem::replace(&mut case.events, unbounded_channel().1), fed());
    let script = async {
        feeder.send(form_file("one", "abc\r\n")).unwrap();
        feeder.send(form_file("two", "a")).unwrap();
        assert!(matches!(events.recv().await, Some(LinkEvent::Received { .. })));
        // The second file has begun, or begins now.
        remove_link(&case.profile, &case.made.link).unwrap();
        feeder.send(text("bc\r\n")).unwrap();
        feeder.send(form_file("three", "abc\r\n--b--")).unwrap();
        drop(feeder);
    };
    let ((status, fields, said), ()) = tokio::join!(case.answer(case.form(), body), script);
    assert_eq!((status, said.trim()), (StatusCode::UNAUTHORIZED, "the link has ended"));
    assert!(fields.contains_key(WWW_AUTHENTICATE));
    assert_eq!(case.files(), [named("one", "abc")]);
    assert_eq!(case.profile.guest_uploads(case.made.link.number).unwrap(), []);
}

#[tokio::test]
async fn the_same_form_twice_at_once_spoils_neither() {
    let case = link_case(true);
    let (feeder, body) = fed();
    let script = async {
        feeder.send(form_file("x", "first")).unwrap();
        case.has_begun().await;
        let whole = Body::from([form_file("x", "other").unwrap(), text("\r\n--b--").unwrap()].concat());
        assert_eq!(case.answer(case.form(), whole).await.0, StatusCode::CREATED);
        feeder.send(text("\r\n--b--")).unwrap();
        drop(feeder);
    };
    let (answer, ()) = tokio::join!(case.answer(case.form(), body), script);
    assert_eq!(answer.0, StatusCode::CREATED);
    assert_eq!(case.files(), [named("x", "other"), named("x (1)", "first")]);
}

#[tokio::test]
async fn a_form_that_breaks_off_frees_its_room_and_says_what_arrived() {
    let case = link_case(true);
    for (whole, said) in [("", "the files didn't come whole"), ("one", "files that arrived: 1, the last one;")] {
        let (feeder, body) = fed();
        if !whole.is_empty() {
            feeder.send(form_file(whole, "abc\r\n")).unwrap();
        }
        feeder.send(form_file("two", "a")).unwrap();
        feeder.send(Err(io::ErrorKind::ConnectionReset.into())).unwrap();
        let (status, _, text) = case.answer(case.form(), body).await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
        assert!(text.starts_with(said), "{text}");
    }
    assert_eq!(case.files(), [named("one", "abc")]);
    assert_eq!(case.profile.guest_uploads(case.made.link.number).unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stalls_or_breaks_off_may_be_tried_again() {
    let case = link_case(true);
    let (feeder, body) = fed();
    let begun = tokio::time::Instant::now();
    assert_eq!(case.answer(case.put(), body).await.0, StatusCode::REQUEST_TIMEOUT);
    assert!(begun.elapsed() >= READ_PATIENCE);
    drop(feeder);
    let (feeder, body) = fed();
    feeder.send(Err(io::ErrorKind::ConnectionReset.into())).unwrap();
    assert_eq!(case.answer(case.put(), body).await.0, StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn another_request_or_a_cancellation_ends_the_one_that_runs() {
    let case = link_case(true);
    let rest = || async { case.answer(case.put(), Body::from("fromfirst")).await.0 };
    let cancel = || async { case.answer(case.request("DELETE", "in/film?size=9&key=k"), Body::empty()).await.0 };
    for is_cancelled in [true, false] {
        let (feeder, body) = fed();
        let script = async {
            feeder.send(text("abc")).unwrap();
            case.has_begun().await;
            if is_cancelled { cancel().await } else { rest().await }
        };
        let (ended, status) = tokio::join!(case.answer(case.put(), body), script);
        assert_eq!(ended.0, StatusCode::CONFLICT, "{}", ended.2);
        if is_cancelled {
            assert_eq!((status, case.files()), (StatusCode::NO_CONTENT, vec![]));
            assert_eq!(case.profile.guest_uploads(case.made.link.number).unwrap(), []);
        } else {
            assert_eq!((status, case.files()), (StatusCode::CREATED, vec![named("film", "fromfirst")]));
        }
    }
    assert_eq!(cancel().await, StatusCode::NO_CONTENT);
    assert_eq!(case.files(), [named("film", "fromfirst")], "it is complete");
}

#[tokio::test]
async fn many_codes_at_once_are_no_more_than_allowed() {
    let case = Arc::new(link_case(false));
    let ask = |code: String| {
        let mut answers = JoinSet::new();
        for _ in 0..64 {
            let (case, code) = (case.clone(), code.clone());
            answers.spawn(async move {
                let request = case.bare_request("GET", "").header(AUTHORIZATION, format!("Bearer {code}"));
                case.answer(request, Body::empty()).await.0
            });
        }
        answers.join_all()
    };
    let count = |answers: &[StatusCode], status| answers.iter().filter(|answer| **answer == status).count();
    let right = ask(case.made.token.text()).await;
    assert_eq!(count(&right, StatusCode::OK), 64, "{right:?}");
    let wrong = ask("a".repeat(26)).await;
    assert_eq!((count(&wrong, StatusCode::UNAUTHORIZED), count(&wrong, StatusCode::TOO_MANY_REQUESTS)), (10, 54));
    let right = ask(case.made.token.text()).await;
    assert_eq!(count(&right, StatusCode::TOO_MANY_REQUESTS), 64, "a right guess tells nothing either");
}

#[tokio::test]
async fn a_look_has_no_range() {
    let case = link_case(false);
    for (method, status, length) in [("GET", StatusCode::PARTIAL_CONTENT, "3"), ("HEAD", StatusCode::OK, "10")] {
        let request = case.request(method, "file/0/given").header(RANGE, "bytes=0-2");
        let (got, fields, _) = case.answer(request, Body::empty()).await;
        assert_eq!((got, fields[CONTENT_LENGTH].to_str().unwrap()), (status, length), "{method}");
    }
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let (gives, takes) = (link_case(false), link_case(true));
    let no_folder = gives.request("PUT", "in/x").header(CONTENT_LENGTH, 1);
    let foreign = takes.request("PUT", "in/x").header("origin", "https://evil.example");
    let no_form = takes.request("POST", "in/").header(CONTENT_LENGTH, 1);
    let wrong_range = takes.request("PUT", "in/x").header(CONTENT_LENGTH, 1).header(CONTENT_RANGE, "x");
    for (case, request, status, words) in [
        (&gives, no_folder, 404, "this link takes no files"),
        (&takes, foreign, 403, "a page of another site may not do that"),
        (&takes, takes.request("POST", "in/"), 411, "say how long the upload is"),
        (&takes, no_form, 400, "that is no form with files"),
        (&takes, wrong_range, 400, "Content-Range and Content-Length don't agree"),
        (&takes, takes.request("GET", "in/x"), 400, "say the size"),
    ] {
        let (got, _, said) = case.answer(request, Body::empty()).await;
        assert_eq!(got.as_u16(), status, "{said}");
        assert!(said.starts_with(words), "{said}");
    }
}
