//! The comparison of two copies of a room: which request comes next, by what the member replied. No sockets: the stream's
//! task sends the requests.
//!
//! ```text
//! Summary ── equal, or settled ───────────────────────────────► end
//!    └─► Records ─► Vector ─► Author … ─► Vector … ───────────► end
//!                              └─► Records (once an author) ─► Author
//! ```

use std::collections::VecDeque;

use rooms::{RunRequest, Signature, VectorEntry};
use shared::peer::{RoomStreamReply, RoomStreamRequest, RoomSummary, RoomVectorEntry};
use shared::room::RoomDigest;
use shared::{Fingerprint, RoomId};

use super::room_registry::{OfferedRuns, RoomRegistry};
use crate::net::StreamError;

/// Bytes of a signature behind each record.
const SIGNATURE_BYTES: u32 = 64;

/// A comparison under way with one member. Each reply leads to the next request, until the member has nothing more.
#[derive(Debug)]
pub(super) struct PullSession {
    room: RoomId,
    member: Fingerprint,
    theirs: Option<RoomDigest>,
    /// True once something came that was not here.
    has_news: bool,
    stage: PullStage,
    /// The authors of the present page who are still to be asked for.
    authors: VecDeque<RunRequest>,
    /// The page behind the present one.
    next_page: NextPage,
}

/// The request without a reply.
#[derive(Debug)]
enum PullStage {
    Summary(RoomSummary),
    /// Followed by the messages of one author, or by the first page of the vector.
    Records(Option<AuthorPull>),
    Vector,
    Author(AuthorPull),
}

/// The page of the vector that comes next.
#[derive(Debug, Clone, Copy)]
enum NextPage {
    After(Option<Fingerprint>),
    None,
}

/// The repeated request for messages of one author.
#[derive(Debug)]
struct AuthorPull {
    request: RunRequest,
    has_asked_records: bool,
}

impl PullSession {
    /// Begins a comparison. Returns it with its first request; `None` if the room is unknown.
    pub(super) fn begin(
        registry: &mut RoomRegistry,
        room: RoomId,
        member: Fingerprint,
    ) -> Option<(Self, RoomStreamRequest)> {
        let mine = registry.summary(room)?;
        registry.outlets().note_comparison(room, &member);
        let session = Self {
            room,
            member,
            theirs: None,
            has_news: false,
            stage: PullStage::Summary(mine),
            authors: VecDeque::new(),
            next_page: NextPage::After(None),
        };
        Some((session, RoomStreamRequest::Summary(mine)))
    }

    /// Takes the reply to the last request, with the raw parts behind it. Returns the next request; `None` at the end.
    ///
    /// # Errors
    /// The member broke the protocol.
    pub(super) fn take_reply(
        &mut self,
        registry: &mut RoomRegistry,
        reply: RoomStreamReply,
        parts: Vec<Vec<u8>>,
    ) -> Result<Option<RoomStreamRequest>, StreamError> {
        // A placeholder: the request that comes next sets the stage.
        let stage = std::mem::replace(&mut self.stage, PullStage::Vector);
        match (stage, reply) {
            (PullStage::Summary(mine), RoomStreamReply::Summary(theirs)) => {
                self.theirs = Some(theirs.digest);
                // Two members may differ for good in what they keep: such copies are settled.
                if theirs.digest == mine.digest || registry.is_settled(self.room, &self.member, theirs.digest) {
                    return Ok(self.finish(registry));
                }
                // With the same records, only messages can differ.
                if theirs.head == mine.head {
                    return Ok(self.ask_next(registry));
                }
                Ok(Some(self.ask_records(registry, None)))
            }
            (PullStage::Records(author), RoomStreamReply::Records { more, .. }) => {
                // A member that says there is more and sends nothing new would be asked without end.
                let has_more = self.take_records(registry, parts) && more;
                Ok(match author {
                    author if has_more => Some(self.ask_records(registry, author)),
                    Some(author) => Some(self.ask_author(author)),
                    None => self.ask_next(registry),
                })
            }
            (PullStage::Vector, RoomStreamReply::Vector { entries, more }) => {
                self.take_page(registry, entries, more);
                Ok(self.ask_next(registry))
            }
            (PullStage::Author(author), RoomStreamReply::Runs { leads_to_cut, .. }) => {
                self.take_runs(registry, author, &parts, leads_to_cut)
            }
            _ => Err(StreamError::Unexpected("a reply to another request was due")),
        }
    }

    /// Ends the comparison before the member had nothing more. Returns true if anything new came; what is left is then
    /// asked for in a further comparison.
    pub(super) fn interrupt(self, registry: &mut RoomRegistry) -> bool {
        if self.has_news {
            registry.outlets().compare_with_all(self.room);
        } else {
            // Whoever has turn after turn must not keep others from what comes behind a gap.
            registry.note_unfinished(self.room, self.member);
        }
        self.has_news
    }

    /// Takes records. Returns true if any were new.
    fn take_records(&mut self, registry: &mut RoomRegistry, parts: Vec<Vec<u8>>) -> bool {
        let records: Vec<(Vec<u8>, Signature)> = parts.into_iter().filter_map(split_signature).collect();
        let is_new = registry.take_member_records(self.room, &records).unwrap_or_else(|error| {
            // Perhaps its tracker has another key by now. Messages may be in order all the same.
            tracing::info!("{}: records of a room: {error}", self.member);
            false
        });
        self.has_news |= is_new;
        is_new
    }

    fn take_page(&mut self, registry: &mut RoomRegistry, entries: Vec<RoomVectorEntry>, more: bool) {
        let page: Vec<VectorEntry> = entries.into_iter().map(from_wire).collect();
        let last = page.last().map(|entry| entry.author);
        let goes_on = match self.next_page {
            // Pages ascend by author: a member that repeats one would be asked without end.
            NextPage::After(after) => more && last > after,
            NextPage::None => false,
        };
        self.next_page = if goes_on { NextPage::After(last) } else { NextPage::None };
        self.authors = registry.requests(self.room, self.member, &page).into();
    }

    fn take_runs(
        &mut self,
        registry: &mut RoomRegistry,
        author: AuthorPull,
        runs: &[Vec<u8>],
        leads_to_cut: bool,
    ) -> Result<Option<RoomStreamRequest>, StreamError> {
        // Only a reply without runs says that there is nothing more.
        if runs.is_empty() {
            return Ok(self.ask_next(registry));
        }
        let AuthorPull { request, has_asked_records } = author;
        match registry.take_pulled_runs(self.room, &request, self.member, runs, leads_to_cut) {
            Ok(OfferedRuns::Taken { taken, next }) => {
                self.has_news |= taken.stored > 0;
                // Once an author: records that don't help would be asked for again and again.
                if taken.needs_records && !has_asked_records {
                    let author = AuthorPull { request: next, has_asked_records: true };
                    return Ok(Some(self.ask_records(registry, Some(author))));
                }
                // Nothing was taken, so the same request would bring the same messages.
                if taken.stored == 0 {
                    return Ok(self.ask_next(registry));
                }
                Ok(Some(self.ask_author(AuthorPull { request: next, has_asked_records })))
            }
            Ok(OfferedRuns::Invalid(why)) => {
                tracing::info!("{}: messages of a room: {why}", self.member);
                Err(StreamError::Unexpected("messages that nobody signed"))
            }
            Ok(OfferedRuns::RoomGone) => Ok(None),
            Err(error) => {
                // A fault on this side, not the member's: the stream stays.
                tracing::error!("messages of a room could not be stored: {error}");
                Ok(self.ask_next(registry))
            }
        }
    }

    fn ask_records(&mut self, registry: &RoomRegistry, then: Option<AuthorPull>) -> RoomStreamRequest {
        self.stage = PullStage::Records(then);
        RoomStreamRequest::Records { after: registry.locator(self.room) }
    }

    fn ask_author(&mut self, author: AuthorPull) -> RoomStreamRequest {
        let RunRequest { author: key, locator, above, missing_cuts } = author.request.clone();
        self.stage = PullStage::Author(author);
        RoomStreamRequest::Want { author: key, locator, above, missing_cuts }
    }

    /// Asks for the next author of the page, or else for the next page.
    fn ask_next(&mut self, registry: &mut RoomRegistry) -> Option<RoomStreamRequest> {
        if let Some(request) = self.authors.pop_front() {
            return Some(self.ask_author(AuthorPull { request, has_asked_records: false }));
        }
        let NextPage::After(after) = self.next_page else { return self.finish(registry) };
        self.stage = PullStage::Vector;
        Some(RoomStreamRequest::Vector { after })
    }

    fn finish(&self, registry: &mut RoomRegistry) -> Option<RoomStreamRequest> {
        if let Some(theirs) = self.theirs {
            registry.note_compared(self.room, self.member, theirs, self.has_news);
        }
        None
    }
}

/// Returns the lengths of the raw parts behind a reply.
pub(super) fn part_lengths(reply: &RoomStreamReply) -> Vec<u32> {
    match reply {
        RoomStreamReply::Records { lengths, .. } => lengths.iter().map(|length| length + SIGNATURE_BYTES).collect(),
        RoomStreamReply::Runs { lengths, .. } => lengths.clone(),
        _ => Vec::new(),
    }
}

/// Parts a record from its signature.
fn split_signature(mut record: Vec<u8>) -> Option<(Vec<u8>, Signature)> {
    let signature = *record.last_chunk::<64>()?;
    record.truncate(record.len() - signature.len());
    Some((record, signature))
}

fn from_wire(entry: RoomVectorEntry) -> VectorEntry {
    VectorEntry { author: entry.author, newest: entry.newest, digest: *entry.digest.as_bytes() }
}
