//! Tickets for files: paths that work once, since a download can't send the secret of the page.
//!
//! A download that broke off goes on at the same path for an hour, in the same session, if it names the content that it
//! has a part of.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shared::ContentHash;

use super::one_use_tokens::OneUseTokens;

const TICKET_LIFE: Duration = Duration::from_secs(60);
const RESUMPTION_LIFE: Duration = Duration::from_secs(3600);
/// Tickets that are open, and those whose download may go on.
const MAX_TICKETS: usize = 256;

/// A file that a session may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DownloadTicket {
    /// The mark of the session.
    pub(super) session: blake3::Hash,
    /// The file.
    pub(super) path: PathBuf,
    /// Its content.
    pub(super) hash: ContentHash,
    /// The name under which the browser saves it.
    pub(super) name: String,
}

/// The tickets of a server.
#[derive(Debug)]
pub(super) struct FileTickets(Mutex<TicketTable>);

#[derive(Debug)]
struct TicketTable {
    open: OneUseTokens<DownloadTicket>,
    /// By the hash of the token.
    begun: VecDeque<(blake3::Hash, Instant, DownloadTicket)>,
}

impl Default for FileTickets {
    fn default() -> Self {
        let open = OneUseTokens::new(TICKET_LIFE, MAX_TICKETS);
        Self(Mutex::new(TicketTable { open, begun: VecDeque::new() }))
    }
}

impl FileTickets {
    /// Makes a ticket.
    pub(super) fn issue(&self, ticket: DownloadTicket) -> String {
        self.0.lock().open.issue(ticket, Instant::now())
    }

    /// Takes a ticket, of this session alone. With `resumed`, the entity tag that the browser knows, it may have been
    /// taken before.
    pub(super) fn redeem(&self, token: &str, session: &blake3::Hash, resumed: Option<&str>) -> Option<DownloadTicket> {
        self.0.lock().redeem(token, session, resumed, Instant::now())
    }

    /// Returns a ticket of this session, which stays as it is.
    pub(super) fn find(&self, token: &str, session: &blake3::Hash) -> Option<DownloadTicket> {
        self.0.lock().find(token, session, Instant::now())
    }
}

impl TicketTable {
    fn find(&mut self, token: &str, session: &blake3::Hash, now: Instant) -> Option<DownloadTicket> {
        let key = blake3::hash(token.as_bytes());
        self.forget_old(now);
        let begun = self.begun.iter().find(|(begun, ..)| *begun == key).map(|(.., ticket)| ticket);
        self.open.find(token, now).or(begun).filter(|ticket| ticket.session == *session).cloned()
    }

    fn forget_old(&mut self, now: Instant) {
        self.begun.retain(|(_, since, _)| now.saturating_duration_since(*since) < RESUMPTION_LIFE);
    }

    fn redeem(
        &mut self,
        token: &str,
        session: &blake3::Hash,
        resumed: Option<&str>,
        now: Instant,
    ) -> Option<DownloadTicket> {
        self.forget_old(now);
        let key = blake3::hash(token.as_bytes());
        if let Some(ticket) = self.open.redeem(token, now) {
            if ticket.session != *session {
                return None;
            }
            if self.begun.len() >= MAX_TICKETS {
                self.begun.pop_front();
            }
            self.begun.push_back((key, now, ticket.clone()));
            return Some(ticket);
        }
        let (.., ticket) = self.begun.iter().find(|(begun, ..)| *begun == key)?;
        let is_same = resumed.is_some_and(|tag| tag == ticket.tag());
        (is_same && ticket.session == *session).then(|| ticket.clone())
    }
}

impl DownloadTicket {
    /// Returns the entity tag of the content.
    pub(super) fn tag(&self) -> String {
        format!("\"{}\"", self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_one_sessions_and_works_once() {
        let mut table = FileTickets::default().0.into_inner();
        let (mine, other, now) = (blake3::hash(b"mine"), blake3::hash(b"other"), Instant::now());
        let hash = ContentHash::of(b"content");
        let ticket = DownloadTicket { session: mine, path: "x".into(), hash, name: "x".to_owned() };
        let issue = |table: &mut TicketTable| table.open.issue(ticket.clone(), now);
        let stolen = issue(&mut table);
        assert_eq!(table.redeem(&stolen, &other, None, now), None);
        assert_eq!(table.redeem(&stolen, &mine, None, now), None, "it is used up");
        let old = issue(&mut table);
        assert_eq!(table.redeem(&old, &mine, None, now + TICKET_LIFE), None);
        let taken = issue(&mut table);
        for _ in 0..2 {
            assert_eq!(table.find(&taken, &mine, now).as_ref(), Some(&ticket), "a look takes nothing");
        }
        assert_eq!((table.find(&taken, &other, now), table.find("", &mine, now)), (None, None));
        assert!(table.redeem(&taken, &mine, None, now).is_some());
        assert!(table.find(&taken, &mine, now + TICKET_LIFE * 2).is_some(), "it may go on");
        let tag = ticket.tag();
        for (session, resumed, later) in [
            (&mine, None, now),
            (&mine, Some("\"other\""), now),
            (&other, Some(&*tag), now),
            (&mine, Some(&*tag), now + RESUMPTION_LIFE),
        ] {
            let mut table = TicketTable { open: OneUseTokens::new(TICKET_LIFE, 1), begun: table.begun.clone() };
            assert_eq!(table.redeem(&taken, session, resumed, later), None);
        }
        assert!(table.redeem(&taken, &mine, Some(&tag), now + TICKET_LIFE * 2).is_some(), "a part goes on");
        assert_eq!(table.find(&taken, &mine, now + RESUMPTION_LIFE), None);
    }
}
