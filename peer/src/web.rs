//! The doors for browsers and curl: HTTP servers of this peer's own. Links are for guests who have nothing installed, over
//! TLS; the page of `peer web` is for the user of this machine, on loopback, and the same page at the door for everybody
//! with an account.
//!
//! ```text
//! LinkHost ── runs beside a node while there are links ──┐
//! `peer link` without a node ────────────────────────────┴► LinkServer: TLS, connections and their bounds
//!                                                             └► link_routes: host, origin, headers
//!                                                                  ├ page_routes: pages, codes, assets
//!                                                                  ├ download_routes: files and archives, by range
//!                                                                  ├ upload_routes: parts that go on
//!                                                                  └ chat_routes: conversations, live
//!
//! `peer web` ─► PageServer on HttpListener: plain, loopback alone; tokens that open the page
//!                 └► api: host, origin, headers, sessions ─► AccountSeat: node, fetches, uploads, events
//! `peer web --accounts` ─► DoorServer on HttpListener ─► api; a seat for each account, see `door`
//! ```
//!
//! Handlers only translate: what a link gives and to whom is decided in [`crate::engine::guest_links`].
//!
//! | address | what |
//! |---|---|
//! | `GET /l/ID/` | the page of a link, or the form that takes its code |
//! | `POST /l/ID/enter` | takes `code`, gives a session and leads to the page |
//! | `GET /l/ID/file/N/NAME` | a file; `Range`, `If-Range`, `ETag` (BLAKE3), `HEAD` |
//! | `GET /l/ID/zip/NAME.zip?f=N&d=FOLDER` | the chosen files as an archive, or all; by range as well |
//! | `GET /l/ID/tar/NAME.tar?f=N&d=FOLDER` | the same for terminals: `tar` unpacks it while it comes |
//! | `GET /l/ID/in/NAME?size=N&key=K` | how far an upload is: `offset`; or `name`, `size`, `hash` if it is complete |
//! | `DELETE /l/ID/in/NAME?size=N&key=K` | gives an unfinished upload up |
//! | `PUT /l/ID/in/NAME` | an upload, from its beginning or on from `Content-Range`; `Upload-Key` marks the file |
//! | `POST /l/ID/in/` | a form with files, from a browser without scripts |
//! | `GET /l/ID/chat?after=N` | the guest's own conversation: `name` and `messages`; as a stream (`text/event-stream`) its events |
//! | `POST /l/ID/chat` | takes a message: a form with `text`, `name` and `id`, or the text alone as `text/plain` |
//! | `GET /assets/VERSION/NAME` | style and scripts of the pages |
//!
//! A link is opened by its token: as `Authorization: Bearer TOKEN`, or by the session cookie that a browser gets for it.
//! The token stands in the address behind `#`, which browsers send to nobody. Links that are unknown, expired, revoked or
//! another browser's answer all the same. A session is also who somebody is in a conversation: nobody sees another's.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | connections | 256, and 64 of one address (of IPv6: one /64) | closed at once |
//! | a TLS handshake | 10 s | closed |
//! | the head of a request, and the wait for the next one | 15 s, 64 KiB, 100 fields | closed |
//! | a response of which nothing is taken | 120 s | closed; the guest goes on by range |
//! | a form | 4 KiB, 15 s | refused |
//! | wrong codes of one address | 10, one forgiven every 30 s | refused for that time, right ones too |
//! | addresses with wrong codes that are remembered | 4,096 | the oldest is forgotten |
//! | bodies | one a connection; two pieces in memory, 256 KiB each, 64 KiB with 16 streams or more | |
//! | uploads at once | 32, and 8 of one address | refused for the moment; the page tries again |
//! | bytes of an upload | as announced, within the link's quota and the disk's room | refused |
//! | an upload of which nothing comes | 60 s | closed; its part is kept |
//! | a mark of an upload | 512 bytes | refused |
//! | a message, with its form | 16 KiB, 64 KiB, 15 s | refused |
//! | messages of one address | 20 at once, one a second | refused for the moment |
//! | addresses whose messages are counted | 4,096 | others wait |
//! | messages that are kept | as in [`crate::profile`]'s `guest_chat_bounds` | refused |
//! | messages of an answer and of a page | the last 200, and 128 KiB | a stream from 0 has all |
//! | messages of a stream in memory | 8 | the others follow |
//! | streams of conversations | 128, 32 of one address | refused; the page asks every 5 s |
//! | streams of one guest | 3 | the oldest ends |
//! | a stream of a revoked or expired link | at once, else 15 s | ended |
//! | rows of a page | 500 | further pages |
//! | bytes a second | `--limit` of `peer serve`, for all guests together | they wait |
//! | a revoked or expired link | 1 s of a running transfer | cut |
//!
//! The page has its API below `/api/v1/`, described at `/api/v1/openapi.json`, its files below `/app/`, and downloads at
//! `/d/TICKET/NAME`. A call needs the cookie of its session and the secret that only the page knows; a download the cookie
//! and its ticket. The bounds of connections, handshakes, heads and responses are those above, for each server.
//!
//! | resource of the page | bound | beyond |
//! |---|---|---|
//! | tokens that open it | 4, 10 minutes, once each | the oldest ends |
//! | wrong tokens | 10, one forgiven every 30 s | wrong ones wait; a right one never does |
//! | sessions, tabs of one | 16 an account, 16; 7 days; at the door 12 h without a call | the one used least ends |
//! | a body, uploads apart | 64 KiB, 15 s | refused |
//! | streams of events | 128 | refused for the moment |
//! | events that a browser has not read | those that its account's seat keeps: 1,024 and 4 MiB | `resync`: it loads all anew |
//! | tickets for downloads | 256, 60 s, once each; to go on for 1 h with the same `ETag` | the oldest ends |
//! | uploads at once, and what they may fill | 32, 8 of one account; see [`crate::engine::dropped_files`] | refused |
//! | drops that are hashed at once, fetches | 8 and 4 an account | refused |
//! | messages, files of an answer | 1,000 and 20,000 | further calls; `more` |

mod account_seat;
mod address_attempts;
mod address_limits;
mod answer_headers;
mod api;
mod app_assets;
mod archive_layout;
mod archive_segment;
mod byte_range;
mod chat_routes;
mod chat_section;
mod chat_stream;
mod chat_stream_slots;
mod chunk_body;
mod door;
mod download_routes;
mod file_listing;
mod file_tickets;
mod form_upload;
mod guest_admission;
#[cfg(test)]
mod guest_link_tests;
mod guest_pages;
mod guest_refusal;
mod hidden_folder;
mod http_server;
mod http_text;
mod json_answer;
mod link_event;
mod link_host_task;
mod link_routes;
mod link_server;
mod message_rates;
mod multipart_form;
mod one_use_tokens;
mod page_assets;
mod page_routes;
mod page_server;
mod page_session;
mod page_texts;
mod piece_body;
mod request_origin;
mod server_certificate;
mod stall_guard;
mod tar_layout;
mod upload_receiver;
mod upload_routes;
mod upload_turns;
mod web_context;
mod zip_layout;

pub use self::account_seat::{AccountSeat, SeatDisk, SeatTask};
pub use self::door::{DoorServer, DoorServerConfig, MAX_AWAKE_SEATS};
pub use self::guest_pages::file_address;
pub use self::hidden_folder::HiddenFolder;
pub use self::link_event::{LinkEvent, LinkEventHandler};
pub use self::link_host_task::run_link_host;
pub use self::link_server::{LinkServer, LinkServerConfig};
pub use self::page_server::{PageServer, PageServerConfig};
pub use self::server_certificate::{open_certificate, shown_fingerprint};
